//! docs/journal.md is walked: every test it names must exist.

use std::fs;

use anyhow::{Context, Result};

use crate::tree;

const DOCUMENT: &str = "docs/journal.md";
/// In place of a test: what is said is a feeling, or nothing a program could do.
const NO_TEST: &str = "none";
/// In place of a test: the part is still being built. Counted and shown, so that it does not stay.
const NOT_YET: &str = "not yet";

/// Complains of rows whose test is missing; answers how many rows there are.
pub(crate) fn walk(complaints: &mut Vec<String>) -> Result<String> {
    let text =
        fs::read_to_string(tree::root().join(DOCUMENT)).with_context(|| format!("cannot read {DOCUMENT}"))?;
    let (mut rows, mut waiting) = (0, 0);
    for (number, row) in rows_of(&text) {
        rows += 1;
        if row.test.starts_with(NO_TEST) {
            continue;
        }
        if row.test.starts_with(NOT_YET) {
            waiting += 1;
            continue;
        }
        let mut named = tests_of(row.test).peekable();
        if named.peek().is_none() {
            complaints.push(format!(
                "{DOCUMENT}:{number}: no test: name one as `path::function`, or say `{NO_TEST}: why`"
            ));
        }
        for (path, function) in named {
            let found =
                fs::read_to_string(tree::root().join(path)).is_ok_and(|source| defines(&source, function));
            if !found {
                complaints.push(format!(
                    "{DOCUMENT}:{number}: {path} has no test `{function}`: follow it where it moved"
                ));
            }
        }
    }
    if rows == 0 {
        complaints.push(format!("{DOCUMENT}: no table rows: keep the columns journal | answer | test"));
    }
    Ok(match waiting {
        0 => format!("{rows} statements of the journal answered"),
        _ => format!("{rows} statements of the journal, {waiting} still without their test"),
    })
}

struct Row<'a> {
    test: &'a str,
}

/// Table rows of three columns, without heads and rules.
fn rows_of(text: &str) -> impl Iterator<Item = (usize, Row<'_>)> {
    let mut lines = text.lines().enumerate().peekable();
    std::iter::from_fn(move || {
        while let Some((index, line)) = lines.next() {
            let is_head = lines.peek().is_some_and(|(_, next)| next.starts_with("| ---"));
            if !line.starts_with("| ") || line.starts_with("| ---") || is_head {
                continue;
            }
            let cells: Vec<_> = line.trim().trim_matches('|').split(" | ").map(str::trim).collect();
            if let [_, _, test] = cells[..] {
                return Some((index + 1, Row { test }));
            }
        }
        None
    })
}

/// `path::function` code spans.
fn tests_of(cell: &str) -> impl Iterator<Item = (&str, &str)> {
    cell.split('`').skip(1).step_by(2).filter_map(|span| span.split_once("::"))
}

/// A Rust test function is known by its head, anything else by its quoted name.
fn defines(source: &str, function: &str) -> bool {
    let name = function.rsplit("::").next().unwrap_or(function);
    source.contains(&format!("fn {name}(")) || source.contains(&format!("\"{name}\""))
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
        let text = "| journal | answer | test |\n| --- | --- | --- |\n| a | b | `x/y.rs::holds`, `z.rs::too` |\n| c | d | none: a feeling |\n";
        let rows: Vec<_> = rows_of(text).collect();
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0].0, 3);
        assert_eq!(tests_of(rows[0].1.test).collect::<Vec<_>>(), [("x/y.rs", "holds"), ("z.rs", "too")]);
    }

    #[test]
    fn a_test_is_found_by_its_head() {
        assert!(defines("#[test]\nfn holds() {}", "holds"));
        assert!(!defines("fn holds_not() {}", "holds"));
    }
}
