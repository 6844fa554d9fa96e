//! Markdown for a job's summary or a comment: the verdict, the figures one asks for first, checks, deliveries, errors.

use std::fmt::Write as _;

use super::loaded::{Loaded, Run, Summary};
use super::plain::one_line;
use super::story;
use super::units::{count, instant, milliseconds, percent, rate, sum_of, thousands};
use super::verdict::{self, Verdict};
use crate::outcome::{CheckKind, names};

/// Kinds of errors shown; the rest is counted.
const ROWS: usize = 10;

pub(super) fn render(loaded: &Loaded) -> String {
    let mut text = String::new();
    let out = &mut text;
    let verdict = Verdict::of(loaded);
    // Without checks nothing fails, and the figures may be worth nothing all the same.
    let distrusted =
        loaded.run.as_ref().is_some_and(|run| !run.validity.valid) && verdict != Verdict::Invalid;
    let distrust = if distrusted { ", invalid run" } else { "" };
    let _ = writeln!(out, "## drumfire: {}: {}{distrust}\n", cell(loaded.short_name(), 80), verdict.word());
    for (at, sentence) in verdict::sentences(loaded).iter().enumerate() {
        let sentence = cell(sentence, 500);
        let _ = if at == 0 { writeln!(out, "**{sentence}**\n") } else { writeln!(out, "- {sentence}") };
    }
    if let Some(banner) = story::unconfirmed(loaded) {
        let _ = writeln!(out, "- {}", cell(&banner, 500));
    }
    if let Some(note) = story::foreign_note(loaded) {
        let _ = writeln!(out, "- {}", cell(note, 500));
    }
    tiles(out, loaded);
    times(out, loaded);
    if let Some(run) = &loaded.run {
        checks(out, run, verdict);
        delivery(out, run);
    }
    errors(out, loaded);
    if let Some(run) = &loaded.run {
        let meta = &run.meta;
        let _ = writeln!(
            out,
            "\n<sub>{}. Target {}, run {}, seed {}, drumfire {}.</sub>",
            cell(&story::validity(run), 500),
            cell(&meta.target, 120),
            cell(&meta.run_id, 40),
            meta.seed,
            cell(&meta.tool_version, 20)
        );
    }
    text
}

fn tiles(out: &mut String, loaded: &Loaded) {
    let total = &loaded.total;
    let (asked, started, requests, completed) = story::rates(loaded);
    let mut tiles = vec![
        ("users started", format!("{} ({}/s)", thousands(total.launched()), rate(started))),
        ("completed", format!("{} ({}/s)", thousands(total.completed()), rate(completed))),
        ("failed", thousands(total.failed())),
        ("requests", format!("{} ({}/s)", thousands(total.requests_started), rate(requests))),
        ("errors", thousands(total.error_count())),
    ];
    if let (Some(planned), Some(asked)) = (loaded.planned(), asked) {
        tiles.insert(0, ("users asked for", format!("{} ({}/s)", thousands(planned), rate(asked))));
    }
    if total.skipped() > 0 {
        tiles.push(("skipped", thousands(total.skipped())));
    }
    if let Some(peak) = loaded.peak_users() {
        tiles.push(("users at once", thousands(peak)));
    }
    let _ = writeln!(out, "\n| {} |", tiles.iter().map(|(label, _)| *label).collect::<Vec<_>>().join(" | "));
    let _ = writeln!(out, "|{}", " ---: |".repeat(tiles.len()));
    let _ = writeln!(
        out,
        "| {} |",
        tiles.iter().map(|(_, value)| value.as_str()).collect::<Vec<_>>().join(" | ")
    );
}

fn times(out: &mut String, loaded: &Loaded) {
    let shown = [
        ("response from due", names::RESPONSE_FROM_DUE),
        ("HTTP response", names::HTTP_RESPONSE_TIME),
        ("Socket.IO response", names::SOCKETIO_RESPONSE_TIME),
        ("connect", names::CONNECT_TOTAL),
        ("delivery", names::DELIVERY),
        ("delivery, last listener", names::DELIVERY_LAST),
        ("start lateness", names::START_LATENESS),
    ];
    let rows: Vec<(&str, &Summary)> =
        shown.iter().filter_map(|(label, name)| Some((*label, loaded.total.summary(name)?))).collect();
    if rows.is_empty() {
        let Some(answered) = &loaded.total.answered else {
            let _ = writeln!(out, "\nNo request was answered, so there is no latency.");
            return;
        };
        return table_of_times(out, &[("latency", answered)]);
    }
    table_of_times(out, &rows);
}

fn table_of_times(out: &mut String, rows: &[(&str, &Summary)]) {
    let _ = writeln!(
        out,
        "\n| time | count | p50 | p95 | p99 | max |\n| --- | ---: | ---: | ---: | ---: | ---: |"
    );
    for (label, s) in rows {
        let counted = s.count.map_or_else(|| "-".to_owned(), thousands);
        let _ = writeln!(
            out,
            "| {label} | {counted} | {} | {} | {} | {} |",
            milliseconds(s.median),
            milliseconds(s.p95),
            milliseconds(s.p99),
            milliseconds(s.max)
        );
    }
}

fn checks(out: &mut String, run: &Run, verdict: Verdict) {
    if run.checks.is_empty() {
        return;
    }
    let _ = writeln!(out, "\n### Checks\n");
    if verdict == Verdict::Invalid {
        let _ = writeln!(out, "The figures below are not to be believed: see the last line.\n");
    }
    let _ = writeln!(out, "| | check | observed |\n| --- | --- | --- |");
    for check in &run.checks {
        let kind = match check.kind {
            CheckKind::Ensure => "ensure",
            CheckKind::Expect => "expect",
        };
        let word = match (check.passed, check.strict) {
            (true, _) => "ok",
            (false, true) => "**failed**",
            (false, false) => "failed, not strict",
        };
        let _ = writeln!(
            out,
            "| {word} | {kind} {} | {} |",
            code(&check.expression, 200),
            cell(&check.observed, 200)
        );
    }
}

fn delivery(out: &mut String, run: &Run) {
    let Some(d) = &run.delivery else { return };
    let _ = writeln!(out, "\n### Delivery of {}\n", code(&d.event, 60));
    match d.expected {
        Some(expected) => {
            let complete = percent(expected.saturating_sub(d.missing), expected);
            let _ = writeln!(
                out,
                "| messages | expected | complete | missing | twice | late | uncalled for | out of order |\n\
                 | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n\
                 | {} | {} | {complete} | {} | {} | {} | {} | {} |",
                thousands(d.messages),
                thousands(expected),
                thousands(d.missing),
                thousands(d.duplicates),
                thousands(d.late),
                thousands(d.unexpected),
                thousands(d.out_of_order)
            );
        }
        None => {
            let _ = writeln!(
                out,
                "{} heard of {}; nothing was expected, so nothing is said of completeness.",
                count(d.heard, "delivery", "deliveries"),
                count(d.messages, "message", "messages")
            );
        }
    }
    if d.classes.len() > 1 {
        let _ = writeln!(
            out,
            "\n| class | listeners | expected | heard | missing |\n| --- | ---: | ---: | ---: | ---: |"
        );
        for class in &d.classes {
            let expected = class.expected.map_or_else(|| "-".to_owned(), thousands);
            let _ = writeln!(
                out,
                "| {} | {} | {expected} | {} | {} |",
                cell(&class.name, 60),
                thousands(class.listeners),
                thousands(class.heard),
                thousands(class.missing)
            );
        }
    }
    if d.listeners_short > 0 {
        let _ = writeln!(out, "\n{} missed something.", count(d.listeners_short, "listener", "listeners"));
    }
}

fn errors(out: &mut String, loaded: &Loaded) {
    if loaded.total.error_count() == 0 && loaded.run.as_ref().is_none_or(|run| run.errors.is_empty()) {
        return;
    }
    let _ = writeln!(out, "\n### Errors\n");
    let groups = loaded.run.as_ref().map_or(&[][..], |run| &run.errors);
    if groups.is_empty() {
        let _ = writeln!(out, "| count | error |\n| ---: | --- |");
        let mut errors: Vec<_> = loaded.total.errors().collect();
        errors.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        for (name, n) in errors.iter().take(ROWS) {
            let _ = writeln!(out, "| {} | {} |", thousands(*n), cell(name, 200));
        }
        return;
    }
    let _ = writeln!(
        out,
        "| count | cause | where | from | to | first sample |\n| ---: | --- | --- | ---: | ---: | --- |"
    );
    for group in groups.iter().take(ROWS) {
        let _ = writeln!(
            out,
            "| {} | {} | {}, {} | {} | {} | {} |",
            thousands(group.count),
            cell(&group.cause, 120),
            cell(&group.step, 80),
            cell(&group.endpoint, 80),
            instant(group.first_s),
            instant(group.last_s),
            code(&group.sample, 160)
        );
    }
    if groups.len() > ROWS {
        let rest = sum_of(groups[ROWS..].iter().map(|g| g.count));
        let _ = writeln!(out, "\nand {} of {} more kinds", thousands(rest), groups.len() - ROWS);
    }
}

/// Text that means nothing to Markdown or HTML and stays in its cell.
fn cell(text: &str, most: usize) -> String {
    let mut safe = String::new();
    for c in one_line(text, most).chars() {
        match c {
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            '|' | '*' | '_' | '`' | '[' | ']' | '\\' | '#' | '~' | '@' => {
                safe.push('\\');
                safe.push(c);
            }
            c => safe.push(c),
        }
    }
    safe
}

/// As it was written, in a code span; empty stays empty.
fn code(text: &str, most: usize) -> String {
    let line = one_line(text, most);
    if line.is_empty() {
        return line;
    }
    // Inside a table a bar ends the cell even in a code span, unless it is escaped.
    format!("`` {} ``", line.replace("``", "` `").replace('|', "\\|"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_stays_text() {
        assert_eq!(cell("<img src=x>|a_b*\n@team #1", 100), "&lt;img src=x&gt;\\|a\\_b\\* \\@team \\#1");
        assert_eq!(code("a|b`` `c`", 100), "`` a\\|b` ` `c` ``");
        assert_eq!(code("", 100), "");
    }
}
