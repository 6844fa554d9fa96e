//! docs/journal.md holds the whole journal: every statement has an answer and a test that exists, and no
//! command, term or number of the journal is left out.
//!
//! `cargo xtask tidy` looks at the same rows before a commit; this is the list of what must stand in them.

use e2e::root;

/// What the journal types, as it types it.
const COMMANDS: [&str; 2] = ["artillery run -o 결과.json 시나리오.yml", "artillery report"];
const TERMS: [&str; 7] =
    ["TPS", "Latency At Intervals", "Concurrent users", "RPS", "QPS", "HTTP codes", "Error Codes"];
/// Numbers of the script, of the run and of its result.
const NUMBERS: [&str; 12] =
    ["9000", "8957", "43", "252.03", "300", "30", "0.1", "22.7", "0.3", "0.8", "500", "9013"];
/// Words of the script that must each have found its answer.
const KEYS: [&str; 10] = [
    "target",
    "transports",
    "duration",
    "arrivalRate",
    "get",
    "emit",
    "messageData",
    "contents",
    "radius",
    "think",
];

struct Row {
    line: usize,
    journal: String,
    answer: String,
    test: String,
}

fn rows() -> Vec<Row> {
    let text = std::fs::read_to_string(root().join("docs/journal.md")).unwrap();
    let mut rows = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| line.starts_with('|')) {
        let cells: Vec<&str> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
        let [journal, answer, test] = cells[..] else { panic!("line {}: not three cells", number + 1) };
        if journal != "journal" && !journal.starts_with("---") {
            let [journal, answer, test] = [journal, answer, test].map(str::to_owned);
            rows.push(Row { line: number + 1, journal, answer, test });
        }
    }
    rows
}

/// Whether `word` stands in `text`, and not as a part of a longer word or number.
fn says(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let mut after = text[at + word.len()..].chars();
        let (next, following) = (after.next(), after.next());
        let decimal = |point: Option<char>, digit: Option<char>| {
            matches!(point, Some('.' | ',')) && digit.is_some_and(|c| c.is_ascii_digit())
        };
        let before_that = text[..at].chars().rev().nth(1);
        !before.is_some_and(char::is_alphanumeric)
            && !next.is_some_and(char::is_alphanumeric)
            && !decimal(before, before_that)
            && !decimal(next, following)
    })
}

/// A function under `#[test]` or `#[tokio::test]`, or an `it("...")` of the JavaScript suites.
fn is_test(path: &str, name: &str) -> bool {
    let Ok(source) = std::fs::read_to_string(root().join(path)) else { return false };
    if path.ends_with(".mjs") {
        return source.contains(&format!("it(\"{name}\", "));
    }
    let mut marked = false;
    for line in source.lines().map(str::trim) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            marked = true;
        } else if !line.starts_with("#[") && !line.starts_with("///") {
            let is_it = line.trim_start_matches("async ").starts_with(&format!("fn {name}("));
            if marked && is_it {
                return true;
            }
            marked = false;
        }
    }
    false
}

#[test]
fn every_row_has_a_statement_an_answer_and_a_test_that_exists() {
    let rows = rows();
    assert!(rows.len() > 40, "{} rows", rows.len());
    let mut without = 0;
    for Row { line, journal, answer, test } in &rows {
        assert!(!journal.is_empty() && !answer.is_empty(), "line {line}");
        if test.starts_with("none: ") {
            without += 1;
            continue;
        }
        let named: Vec<&str> = test.split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty(), "line {line} names no test: {test}");
        for span in named {
            let (path, name) = span.split_once("::").unwrap_or_else(|| panic!("line {line}: {span}"));
            assert!(is_test(path, name), "line {line}: no test {name} in {path}");
        }
    }
    assert!(without <= 2, "only feelings and intentions have no test, not {without} rows");
}

#[test]
fn every_command_term_and_number_of_the_journal_stands_in_a_row() {
    let rows = rows();
    for word in COMMANDS.iter().chain(&TERMS).chain(&NUMBERS).chain(&KEYS) {
        assert!(rows.iter().any(|row| says(&row.journal, word)), "no row is about `{word}`");
    }
}

#[test]
fn a_number_is_not_found_inside_another() {
    assert!(
        says("0: 9000 (100%)", "9000") && says("min 0.1, max 22.7", "0.1") && says("\"radius\": 30.", "30")
    );
    for (text, word) in [("300", "30"), ("252.03", "252"), ("0.30", "0.3"), ("1,300", "300")] {
        assert!(!says(text, word), "{word} in {text}");
    }
}

#[test]
fn a_helper_is_no_test() {
    assert!(is_test("e2e/tests/documents.rs", "a_helper_is_no_test"));
    assert!(!is_test("e2e/tests/documents.rs", "is_test"));
    assert!(!is_test("e2e/tests/documents.rs", "a_helper_is_no"));
    assert!(!is_test("e2e/tests/nowhere.rs", "a_helper_is_no_test"));
}
