//! Artillery 1's text, label for label as in early 1.6 (`RPS sent`, `Request latency`), so that scripts that grep it
//! keep working. Two things differ in content: latency lines come from answered requests only (`n/a` when there are
//! none), and rates are total over elapsed time.

use std::fmt::Write as _;

use jiff::Zoned;

use super::loaded::{Loaded, Slice};
use super::units::{javascript_number, sum_of};

pub(super) fn phase_started(index: usize, name: &str, duration_s: f64, at: &Zoned) -> String {
    let name = if name.is_empty() { String::new() } else { format!(" ({name})") };
    format!("Started phase {index}{name}, duration: {}s @ {}\n", javascript_number(duration_s, 3), stamp(at))
}

pub(super) fn window(slice: &Slice, at: &Zoned) -> String {
    let mut text = format!(
        "Report @ {}\nElapsed time: {} seconds\n",
        stamp(at),
        (slice.start_s + slice.length_s).round() as u64
    );
    let rps = slice.requests_started as f64 / slice.length_s.max(f64::MIN_POSITIVE);
    block(&mut text, slice, rps, None);
    text.push('\n');
    text
}

pub(super) fn summary(loaded: &Loaded, at: &Zoned) -> String {
    let mut text = format!("All virtual users finished\nSummary report @ {}\n", stamp(at));
    let (.., rps, _) = super::story::rates(loaded);
    block(&mut text, &loaded.total, rps, Some(loaded));
    text
}

fn block(text: &mut String, slice: &Slice, rps: f64, summary: Option<&Loaded>) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "  Scenarios launched:  {}", slice.launched());
    let _ = writeln!(text, "  Scenarios completed: {}", slice.completed());
    if slice.skipped() > 0 {
        let _ = writeln!(text, "  Scenarios skipped:   {}", slice.skipped());
    }
    let _ = writeln!(text, "  Requests completed:  {}", slice.requests_completed);
    let _ = writeln!(text, "  RPS sent: {}", javascript_number(rps, 2));
    let _ = writeln!(text, "  Request latency:");
    let latency = slice.answered.as_ref();
    let lines = [
        ("min", latency.map(|s| s.min)),
        ("max", latency.map(|s| s.max)),
        ("median", latency.map(|s| s.median)),
        ("p95", latency.map(|s| s.p95)),
        ("p99", latency.map(|s| s.p99)),
    ];
    for (label, value) in lines {
        let value = value.map_or_else(|| "n/a".to_owned(), |v| javascript_number(v, 1));
        let _ = writeln!(text, "    {label}: {value}");
    }
    if let Some(loaded) = summary {
        let all = sum_of(loaded.scenario_counts.values().copied());
        let _ = writeln!(text, "  Scenario counts:");
        for (name, n) in &loaded.scenario_counts {
            let share = if all == 0 { 0.0 } else { *n as f64 / all as f64 * 100.0 };
            let _ = writeln!(text, "    {name}: {n} ({}%)", javascript_number(share, 3));
        }
    }
    if !slice.codes.is_empty() {
        let _ = writeln!(text, "  Codes:");
        for (code, n) in &slice.codes {
            let _ = writeln!(text, "    {code}: {n}");
        }
    }
    let mut errors = slice.errors().peekable();
    if errors.peek().is_some() {
        let _ = writeln!(text, "  Errors:");
        for (name, n) in errors {
            let _ = writeln!(text, "    {name}: {n}");
        }
    }
}

fn stamp(at: &Zoned) -> String {
    at.strftime("%H:%M:%S(%z) %Y-%m-%d").to_string()
}
