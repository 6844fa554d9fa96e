//! The input is what a client gives as `since`.

use chat_server::delivery::Cursor;

pub(crate) fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Some(cursor) = Cursor::parse(text) else { return };
    assert!(text.starts_with(&cursor.epoch) && !cursor.epoch.contains('.'));
    // Written again it means the same, and is no longer.
    let again = cursor.to_string();
    assert_eq!(Cursor::parse(&again), Some(cursor));
    assert!(again.len() <= text.len(), "{text} became {again}");
}
