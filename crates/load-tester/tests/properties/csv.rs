//! The first byte chooses how a file is read, the rest is the file.

use load_tester::script::payload::{CsvOptions, PayloadError, parse_bytes};
use serde_json::Value;

pub(crate) fn check(input: &[u8]) {
    let Some((&setting, file)) = input.split_first() else { return };
    let options = CsvOptions {
        delimiter: [b',', b';', b'\t', b'|'][usize::from(setting & 3)],
        skip_header: setting & 4 != 0,
        cast: setting & 8 != 0,
        skip_empty_lines: setting & 16 != 0,
        columns: usize::from(setting >> 5),
    };
    let lines = file.iter().filter(|&&byte| matches!(byte, b'\n' | b'\r')).count() as u64 + 1;
    match parse_bytes(file, &options) {
        Ok(rows) => {
            assert!(!rows.is_empty() && rows.len() as u64 <= lines);
            for cell in rows.iter().flatten() {
                assert!(matches!(cell, Value::String(_)) || options.cast, "{cell}");
                // A typed cell is written as it was read, or near enough to be the same number.
                if let Value::Number(number) = cell {
                    assert!(number.as_f64().is_some_and(f64::is_finite), "{number}");
                }
            }
            assert!(rows.iter().all(|row| row.len() >= options.columns));
        }
        Err(PayloadError::Malformed { line, why }) => assert!(line <= lines && !why.is_empty()),
        Err(PayloadError::TooFewColumns { line, found, wanted }) => {
            assert!((1..=lines).contains(&line) && found < wanted && wanted == options.columns);
        }
        Err(PayloadError::Empty) => {}
        Err(other) => panic!("{other}: nothing was opened"),
    }
}
