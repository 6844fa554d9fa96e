//! Whatever comes in, it is read or refused.

use proptest::prelude::*;

use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,200}") {
        let _ = read(&text);
    }

    /// Scripts with something wrong in them somewhere.
    #[test]
    fn damaged_scripts_are_read_or_refused(at in 0..JOURNAL_HEARD.len(), cut in 0..40_usize, put in "[-:{}\\[\\]\"'&*!|>%@`\t\n #0-9a-z]{0,6}") {
        let mut text = JOURNAL_HEARD.as_bytes().to_vec();
        let end = (at + cut).min(text.len());
        text.splice(at..end, put.bytes());
        if let Err(error) = read(&String::from_utf8_lossy(&text)) {
            prop_assert!(!error.problems.is_empty());
            prop_assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn any_bytes_are_rows_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300), columns in 0..4_usize) {
        let options = payload::CsvOptions { columns, ..payload::CsvOptions::default() };
        if let Ok(rows) = payload::parse_bytes(&bytes, &options) {
            prop_assert!(rows.iter().all(|row| row.len() >= columns));
        }
    }

    /// JSON written by a template without holes is the value itself.
    #[test]
    fn values_without_holes_stay(text in "[^{}]{0,20}", number in any::<i64>()) {
        let value = json!({"a": [text, number, null, true], "b": {"c": text}});
        let template = Template::new(&value).unwrap();
        prop_assert!(template.is_constant());
        let mut out = Vec::new();
        template.write_json(&Vars::empty(), &mut fastrand::Rng::with_seed(1), &mut out);
        prop_assert_eq!(serde_json::from_slice::<Value>(&out).unwrap(), value);
    }
}
