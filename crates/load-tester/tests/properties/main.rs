//! What holds for whatever a user of drumfire gives it to read: one file for each reader, each with one `check(input)`
//! that panics where it does not hold. The fuzz targets at the root of the repository call the same checks; here they
//! run over random input and over every committed seed, what fuzzing once found among them.

mod condition;
mod csv;
mod prometheus_text;
mod result_json;
mod script;
mod sources;
mod template;

use std::fs;
use std::path::Path;

use proptest::prelude::*;

/// Checks each seed of a fuzz target.
fn check_seeds(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(target);
    let mut count = 0;
    for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        check(&fs::read(path).unwrap());
        count += 1;
    }
    assert!(count >= 5, "only {count} seeds in {}", folder.display());
}

#[test]
fn seeds_hold() {
    check_seeds("script", script::check);
    check_seeds("csv", csv::check);
    check_seeds("template", template::check);
    check_seeds("result_json", result_json::check);
    check_seeds("prometheus_text", prometheus_text::check);
    check_seeds("condition", condition::check);
    check_seeds("sources", sources::check);
}

/// What users have: every one is read or refused as it is.
#[test]
fn real_files_hold() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for file in fs::read_dir(root.join("scenarios")).unwrap() {
        script::check(&fs::read(file.unwrap().path()).unwrap());
    }
    for file in fs::read_dir(root.join("crates/load-tester/tests/fixtures")).unwrap() {
        result_json::check(&fs::read(file.unwrap().path()).unwrap());
    }
}

const JOURNAL_HEARD: &str = include_str!("../../../../scenarios/journal-heard.yml");
const SOAK: &str = include_str!("../../../../scenarios/soak.yml");

/// A file with something wrong in it somewhere.
fn damaged(text: &'static str, put: &'static str) -> impl Strategy<Value = Vec<u8>> {
    (0..text.len(), 0..40_usize, put).prop_map(move |(at, cut, put)| {
        let mut bytes = text.as_bytes().to_vec();
        let end = (at + cut).min(bytes.len());
        bytes.splice(at..end, put.bytes());
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_text_is_a_script_or_refused(text in "\\PC{0,200}") {
        script::check(text.as_bytes());
    }

    #[test]
    fn damaged_scripts_hold(
        text in prop_oneof![
            damaged(JOURNAL_HEARD, "[-:{}\\[\\]\"'&*!|>%@`\t\n #0-9a-z]{0,6}"),
            damaged(SOAK, "[-:{}\\[\\]\"'&*!|>%@`\t\n #0-9a-z]{0,6}"),
        ],
    ) {
        script::check(&text);
    }

    #[test]
    fn any_rows_hold(setting: u8, file in "([a-z0-9.+-]{0,6}[,;\t|\"]?){0,12}(\r?\n([a-z0-9.]{0,3}[,;\"]?){0,5}){0,6}") {
        csv::check(&[&[setting], file.as_bytes()].concat());
    }

    #[test]
    fn any_bytes_are_rows_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        csv::check(&bytes);
    }

    #[test]
    fn templates_hold(text in "([a-z ]{0,4}\\{\\{\\{? ?(n|text|flag|none|who|user(\\.|\\['?)?(id|tags|0|length)?('?\\])?|a\\.b|\\$loopCount|\\$randomNumber\\(-?[0-9],[0-9]\\)|\\$randomString\\([0-9]?\\)) ?\\}?\\}?\\}?){0,4}") {
        template::check(text.as_bytes());
        template::check(format!("{{\"k{}\": [{}]}}", text.replace(['"', '\\'], ""), serde_json::to_string(&text).unwrap()).as_bytes());
    }

    #[test]
    fn any_json_is_a_result_or_refused(text in "\\{(\"(aggregate|intermediate|drumfire|counters|config)\":(\\{|\\[)?(\\}|\\]|[0-9]|null)?,?){0,5}\\}?") {
        result_json::check(text.as_bytes());
    }

    #[test]
    fn any_line_is_a_sample_or_refused(
        text in "((# ?(TYPE|HELP|EOF)? ?)?[a-z_:0-9]{0,4}(\\{([a-z]{0,2}=?\"?[a-z\\\\n\"]{0,3}\"?,?){0,3}\\}?)?[ \t]{0,2}(-?[0-9.]{1,3}(e[0-9])?|NaN|\\+Inf)?( [0-9]{1,3})?( # \\{\\} 1)?\r?\n){0,5}",
    ) {
        prometheus_text::check(text.as_bytes());
    }

    #[test]
    fn any_condition_is_read_or_refused(
        text in "( ?(errors|delivery\\.p99|http\\.requests|'a\\.b c'|[0-9]{1,3}(\\.[0-9])?|\\(|\\)|\\?|:|not|and|or|[-+*/%^<>=!&|]{1,2}|ms|%|pp|µs)){0,12}",
    ) {
        condition::check(text.as_bytes());
    }

    #[test]
    fn any_addresses_are_read_or_refused(
        text in "(([0-9]{1,3}\\.){3}[0-9]{1,3}(/[0-9]{1,2})?|[0-9a-f]{0,4}::[0-9a-f]{0,4}(/[0-9]{1,3})?|[a-z0-9./: ]{0,8})(, ?(127\\.0\\.0\\.[0-9](/[23][0-9])?|fd00::/[0-9]{1,3})){0,3}",
    ) {
        sources::check(text.as_bytes());
    }

    #[test]
    fn samples_of_any_names_and_values_mean_the_same_when_read_again(
        name in "[a-z_:][a-z0-9_:]{0,5}|\\PC{1,6}",
        label in "[a-z]{1,3}",
        value in "\\PC{0,8}",
        number: f64,
    ) {
        let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let text = format!("{{\"{}\",{label}=\"{}\"}} {number:?}\n", quoted(&name), quoted(&value));
        let all = load_tester::prometheus::parse(&text).unwrap();
        prop_assert_eq!(&all.samples[0].name, &name);
        prop_assert_eq!(all.samples[0].label(&label), Some(&*value));
        prometheus_text::check(text.as_bytes());
    }
}
