//! The input is an event: its name, a line feed, its arguments as a JSON array.

use chat_server::event::{
    ClientEvent, MAX_AVATAR_BYTES, MAX_CONTENTS_BYTES, MAX_CURSOR_BYTES, MESSAGE_DATA_FIELDS,
    SAVE_MSG_FIELDS, STORE_FIELDS, SaveMsg, Store,
};
use chat_server::refusal::{Refusal, RefusalKind};
use chat_server::token::{MAX_NICKNAME_CHARS, MAX_TOKEN_BYTES};
use geo_index::Position;
use serde_json::value::RawValue;

pub(crate) fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Some((name, args)) = text.split_once('\n') else { return };
    let Ok(args) = serde_json::from_str::<Vec<&RawValue>>(args) else { return };
    let parsed = ClientEvent::parse(name, &args);
    match &parsed {
        Ok(ClientEvent::Store(store) | ClientEvent::Update { store, .. }) => check_store(store),
        Ok(ClientEvent::SaveMsg(save)) => check_save_msg(save),
        Ok(ClientEvent::NotBuilt(known)) => assert_eq!(*known, name),
        Ok(ClientEvent::Unknown(unknown)) => {
            assert!(name.starts_with(unknown) && unknown.chars().count() <= 64);
            assert!(!ClientEvent::names().any(|known| known == name));
        }
        Err(refusal) => check_refusal(refusal),
    }
    check_objects_as_strings(name, &args, &parsed);
}

fn check_position(position: Position) {
    assert!((-180.0..=180.0).contains(&position.lng()) && (-90.0..=90.0).contains(&position.lat()));
}

fn check_radius(radius_m: f64) {
    assert!(radius_m.is_finite() && radius_m >= 0.0);
}

fn check_length(text: Option<&String>, max_bytes: usize) {
    assert!(text.is_none_or(|text| text.len() <= max_bytes));
}

fn check_store(store: &Store) {
    check_position(store.position);
    check_radius(store.radius_m);
    check_length(store.token.as_ref(), MAX_TOKEN_BYTES);
    check_length(store.avatar.as_ref(), MAX_AVATAR_BYTES);
    check_length(store.since.as_ref(), MAX_CURSOR_BYTES);
    assert!(store.nickname.as_ref().is_none_or(|name| name.chars().count() <= MAX_NICKNAME_CHARS));
}

fn check_save_msg(save: &SaveMsg) {
    check_position(save.position);
    if let Some(radius_m) = save.radius_m {
        check_radius(radius_m);
    }
    check_length(save.token.as_ref(), MAX_TOKEN_BYTES);
    assert!((1..=MAX_CONTENTS_BYTES).contains(&save.contents.len()));
}

/// Names fields there are, and stays short whatever came in: it goes back over the wire.
fn check_refusal(refusal: &Refusal) {
    assert_eq!(refusal.kind, RefusalKind::Validation);
    assert!(!refusal.message.is_empty() && refusal.message.len() < 2048, "{}", refusal.message);
    for path in refusal.errors.keys() {
        let (fields, name) = match path.strip_prefix("messageData.") {
            Some(inner) => (MESSAGE_DATA_FIELDS, inner),
            None if SAVE_MSG_FIELDS.contains(&path.as_str()) => (SAVE_MSG_FIELDS, path.as_str()),
            None => (STORE_FIELDS, path.split('.').next().unwrap_or_default()),
        };
        assert!(fields.contains(&name) || path == "0", "{path}");
    }
}

/// An object may come as a JSON string that holds it, and then means the same.
fn check_objects_as_strings(name: &str, args: &[&RawValue], parsed: &Result<ClientEvent, Refusal>) {
    let wrapped: Vec<Box<RawValue>> = args
        .iter()
        .map(|arg| {
            let text = arg.get();
            let text =
                if text.starts_with('{') { serde_json::to_string(text).unwrap() } else { text.to_owned() };
            RawValue::from_string(text).unwrap()
        })
        .collect();
    let wrapped: Vec<&RawValue> = wrapped.iter().map(AsRef::as_ref).collect();
    assert_eq!(ClientEvent::parse(name, &wrapped), *parsed);
}
