//! docs/journal.md is walked: every row says what answers it, and every test it names exists.

use std::fs;

use anyhow::{Context, Result};

use crate::tree;

const DOCUMENT: &str = "docs/journal.md";
/// In place of a test, with the reason: what is said is a feeling, or nothing a program could do.
const NO_TEST: &str = "none: ";

/// Complains of rows without an answer or a test that exists; answers how many rows there are.
pub(crate) fn walk(complaints: &mut Vec<String>) -> Result<String> {
    let text =
        fs::read_to_string(tree::root().join(DOCUMENT)).with_context(|| format!("cannot read {DOCUMENT}"))?;
    let mut rows = 0;
    for (number, row) in rows_of(&text) {
        rows += 1;
        check(&row, |path| fs::read_to_string(tree::root().join(path)).ok(), &mut |complaint| {
            complaints.push(format!("{DOCUMENT}:{number}: {complaint}"));
        });
    }
    if rows == 0 {
        complaints.push(format!("{DOCUMENT}: no table rows: keep the columns journal | answer | test"));
    }
    Ok(format!("{rows} statements of the journal answered"))
}

#[derive(Debug, PartialEq, Eq)]
struct Row<'a> {
    statement: &'a str,
    answer: &'a str,
    test: &'a str,
}

fn check(row: &Row<'_>, read: impl Fn(&str) -> Option<String>, complain: &mut impl FnMut(String)) {
    if row.statement.is_empty() || row.answer.is_empty() {
        complain("an empty cell, or not three: say what the journal says and what answers it".to_owned());
    }
    if row.test.strip_prefix(NO_TEST).is_some_and(|why| !why.is_empty()) {
        return;
    }
    let mut named = tests_of(row.test).peekable();
    if named.peek().is_none() {
        complain(format!(
            "`{}` is no test: name one as `path::function`, or say `{NO_TEST}why` where none can be",
            row.test
        ));
    }
    for (path, function) in named {
        match read(path) {
            Some(source) if defines(path, &source, function) => {}
            _ => complain(format!("{path} has no test `{function}`: follow it where it moved")),
        }
    }
}

/// Table rows without heads and rules; one that has not three cells is an empty one.
fn rows_of(text: &str) -> impl Iterator<Item = (usize, Row<'_>)> {
    let mut lines = text.lines().enumerate().peekable();
    std::iter::from_fn(move || {
        while let Some((index, line)) = lines.next() {
            let is_head = lines.peek().is_some_and(|(_, next)| next.starts_with("| ---"));
            if !line.starts_with("| ") || line.starts_with("| ---") || is_head {
                continue;
            }
            let cells: Vec<_> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
            let row = match cells[..] {
                [statement, answer, test] => Row { statement, answer, test },
                _ => Row { statement: "", answer: "", test: "" },
            };
            return Some((index + 1, row));
        }
        None
    })
}

/// `path::function` code spans.
fn tests_of(cell: &str) -> impl Iterator<Item = (&str, &str)> {
    cell.split('`').skip(1).step_by(2).filter_map(|span| span.split_once("::"))
}

/// A Rust test is a function with the attribute, a JavaScript one is known by its quoted name.
fn defines(path: &str, source: &str, function: &str) -> bool {
    if !path.ends_with(".rs") {
        return source.contains(&format!("it(\"{function}\""))
            || source.contains(&format!("it(`{function}`"));
    }
    let head = format!("fn {function}(");
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    lines.iter().enumerate().any(|(at, line)| {
        let is_head = line.strip_prefix("async ").unwrap_or(line).starts_with(&head);
        let above =
            lines[..at].iter().rev().take_while(|line| line.starts_with("#[") || line.starts_with("///"));
        is_head
            && above.into_iter().any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journals_table_is_walked() {
        let mut complaints = Vec::new();
        walk(&mut complaints).expect("the document");
        assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    }

    #[test]
    fn rows_and_tests_are_read() {
        let text = "| journal | answer | test |\n| --- | --- | --- |\n| a | b | `x/y.rs::holds`, `z.rs::too` |\n|  | d | none: a feeling |\n| e | f |\n";
        let rows: Vec<_> = rows_of(text).collect();
        assert_eq!(rows.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [3, 4, 5]);
        assert_eq!(rows[1].1, Row { statement: "", answer: "d", test: "none: a feeling" });
        assert_eq!(rows[2].1.answer, "", "two cells are no row");
        assert_eq!(tests_of(rows[0].1.test).collect::<Vec<_>>(), [("x/y.rs", "holds"), ("z.rs", "too")]);
    }

    #[test]
    fn what_is_not_there_is_complained_of() {
        let rows = [
            ("`a.rs::holds`", 0),
            ("`a.rs::holds`, `a.rs::waits`", 0),
            ("none: a feeling", 0),
            ("`a.rs::helps`", 1),
            ("`b.rs::holds`, `a.rs::hold`", 2),
            ("not yet: e2e", 1),
            ("none: ", 1),
            ("none", 1),
            ("", 1),
        ];
        let source = "#[test]\nfn holds() {}\nfn helps() {}\n#[tokio::test(start_paused = true)]\n/// Long.\nasync fn waits() {}\n";
        for (test, expected) in rows {
            let mut found = Vec::new();
            let read = |path: &str| (path == "a.rs").then(|| source.to_owned());
            check(&Row { statement: "a", answer: "b", test }, read, &mut |complaint| found.push(complaint));
            assert_eq!(found.len(), expected, "{test}: {found:?}");
        }
        let mut found = 0;
        check(&Row { statement: "a", answer: "", test: "none: x" }, |_| None, &mut |_| found += 1);
        assert_eq!(found, 1);
    }

    #[test]
    fn a_javascript_test_is_known_by_its_name() {
        assert!(defines("a.mjs", "it(\"holds, always\", async () => {", "holds, always"));
        assert!(!defines("a.mjs", "// \"holds\"", "holds"));
    }
}
