//! Artillery 2's text: every metric sorted by name, padded with dots to one column, under ruled headers.
//! Rates are whole numbers a second, times milliseconds; rates are total over elapsed time.

use std::fmt::Write as _;

use jiff::Zoned;

use super::loaded::{Loaded, Slice, Summary};
use super::units::javascript_number;

/// The column in which values begin.
const VALUE_COLUMN: usize = 81;

pub(super) fn phase(verb: &str, index: usize, name: &str, duration_s: f64, at: &Zoned) -> String {
    let name = if name.is_empty() { "unnamed" } else { name };
    format!(
        "Phase {verb}: {name} (index: {index}, duration: {}s) {}\n\n",
        javascript_number(duration_s, 3),
        stamp(at)
    )
}

pub(super) fn window(slice: &Slice, at: &Zoned) -> String {
    let head = format!("Metrics for period to: {}", stamp(at));
    let rule = "-".repeat(head.len());
    let mut text = format!("{rule}\n{head} (width: {}s)\n{rule}\n\n", javascript_number(slice.length_s, 3));
    metrics(&mut text, slice);
    text.push_str("\n\n");
    text
}

pub(super) fn summary(loaded: &Loaded, at: &Zoned) -> String {
    let head = format!("Summary report @ {}", stamp(at));
    let rule = "-".repeat(head.len());
    let mut text = format!(
        "All VUs finished. Total time: {}\n\n{rule}\n{head}\n{rule}\n\n",
        total_time(loaded.duration_s.round() as u64)
    );
    metrics(&mut text, &loaded.total);
    text
}

enum Metric<'a> {
    Counter(u64),
    Rate(f64),
    Times(&'a Summary),
}

fn metrics(text: &mut String, slice: &Slice) {
    let mut all: Vec<(&str, Metric<'_>)> = Vec::new();
    all.extend(slice.counters.iter().map(|(name, n)| (name.as_str(), Metric::Counter(*n))));
    all.extend(slice.rates.iter().map(|(name, r)| (name.as_str(), Metric::Rate(*r))));
    all.extend(slice.summaries.iter().map(|(name, s)| (name.as_str(), Metric::Times(s))));
    all.sort_by_key(|(name, _)| *name);
    for (name, metric) in all {
        match metric {
            // Artillery keeps the figures of single endpoints for its result file.
            _ if name.starts_with("plugins.metrics-by-endpoint.") => {}
            Metric::Counter(n) => line(text, name, &n.to_string()),
            Metric::Rate(r) => line(text, name, &format!("{}/sec", r.round())),
            Metric::Times(s) => {
                let _ = writeln!(text, "{name}:");
                let rows = [
                    ("  min", Some(s.min)),
                    ("  max", Some(s.max)),
                    ("  mean", s.mean),
                    ("  median", Some(s.median)),
                    ("  p95", Some(s.p95)),
                    ("  p99", Some(s.p99)),
                ];
                for (label, value) in rows {
                    if let Some(value) = value {
                        line(text, label, &javascript_number(value, 1));
                    }
                }
            }
        }
    }
}

fn line(text: &mut String, name: &str, value: &str) {
    let used = name.chars().count() + 3;
    let dots = ".".repeat(VALUE_COLUMN.saturating_sub(used).max(1));
    let _ = writeln!(text, "{name}: {dots} {value}");
}

fn total_time(seconds: u64) -> String {
    let unit = |n: u64, name: &str| format!("{n} {name}{}", if n == 1 { "" } else { "s" });
    let parts = [(seconds / 3600, "hour"), (seconds % 3600 / 60, "minute"), (seconds % 60, "second")];
    let text: Vec<_> = parts.into_iter().filter(|(n, _)| *n > 0).map(|(n, name)| unit(n, name)).collect();
    if text.is_empty() { "0 seconds".to_owned() } else { text.join(", ") }
}

fn stamp(at: &Zoned) -> String {
    at.strftime("%H:%M:%S(%z)").to_string()
}
