//! A row for each second, for spreadsheets and scripts. Every file has the same columns, so that runs can be laid one
//! under the other; what was not measured is empty, never zero.

use super::loaded::{Loaded, Slice, Summary};
use crate::outcome::{ProcessSample, counters, names};

/// Columns of a distribution: its name in front of each, and which histogram it is.
const TIMES: [(&str, &str); 9] = [
    ("response_from_due", names::RESPONSE_FROM_DUE),
    ("http_response", names::HTTP_RESPONSE_TIME),
    ("socketio_response", names::SOCKETIO_RESPONSE_TIME),
    ("connect", names::CONNECT_TOTAL),
    ("start_lateness", names::START_LATENESS),
    ("delivery", names::DELIVERY),
    ("delivery_first", names::DELIVERY_FIRST),
    ("delivery_median", names::DELIVERY_MEDIAN),
    ("delivery_last", names::DELIVERY_LAST),
];

/// A column's ending, and what it holds of a distribution.
type Statistic = (&'static str, fn(&Summary) -> f64);

const STATISTICS: [Statistic; 3] = [("p50_ms", |s| s.median), ("p99_ms", |s| s.p99), ("max_ms", |s| s.max)];

const DELIVERIES: [(&str, &str); 6] = [
    ("deliveries_expected", counters::EXPECTED),
    ("deliveries_heard", counters::HEARD),
    ("deliveries_missing", counters::MISSING),
    ("deliveries_late", counters::LATE),
    ("deliveries_twice", counters::DUPLICATES),
    ("deliveries_uncalled", counters::UNEXPECTED),
];

const FIRST: [(&str, &str); 11] = [
    ("start_s", "seconds since the first phase began"),
    (
        "length_s",
        "length of the row: 1; more in the older part of a run over ten minutes, and in Artillery's files",
    ),
    ("users_started", "users that began"),
    ("users_completed", "users that walked their scenario to its end"),
    ("users_failed", "users that gave up"),
    ("users_skipped", "users that were due and did not begin, because `maxVusers` were alive"),
    ("users_alive", "users alive at the row's end"),
    ("connections", "open sockets of users and listeners at the row's end"),
    ("requests", "requests and messages sent"),
    ("requests_completed", "HTTP answers, and messages sent"),
    ("errors", "errors of all kinds"),
];

const MACHINE: [(&str, &str); 4] = [
    ("cores", "CPU of all threads, 1 = one core, mean over the row"),
    ("busiest_thread", "CPU of the busiest thread, 1 = one core"),
    ("memory_bytes", "resident memory at the row's end"),
    ("open_files", "open descriptors at the row's end"),
];

/// Every column's name and meaning, in order.
pub fn columns() -> Vec<(String, String)> {
    let mut columns: Vec<(String, String)> = FIRST.map(|(name, means)| (name.into(), means.into())).into();
    for (name, histogram) in TIMES {
        columns.extend(
            STATISTICS.map(|(statistic, _)| (format!("{name}_{statistic}"), format!("of `{histogram}`"))),
        );
    }
    columns.extend(DELIVERIES.map(|(name, counter)| {
        (name.to_owned(), format!("`{counter}`, under the second the message was sent in"))
    }));
    for side in ["target", "tester"] {
        columns.extend(MACHINE.map(|(what, means)| (format!("{side}_{what}"), means.to_owned())));
    }
    columns
}

pub(super) fn render(loaded: &Loaded) -> String {
    let mut rows = ::csv::Writer::from_writer(Vec::new());
    // A Vec takes everything.
    let _ = rows.write_record(columns().iter().map(|(name, _)| name));
    for slice in &loaded.slices {
        let _ = rows.write_record(row(loaded, slice));
    }
    rows.into_inner().ok().and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default()
}

fn row(loaded: &Loaded, slice: &Slice) -> Vec<String> {
    let or_empty = |value: Option<u64>| value.map_or_else(String::new, |n| n.to_string());
    let mut row = vec![
        decimal(slice.start_s),
        decimal(slice.length_s),
        slice.launched().to_string(),
        slice.completed().to_string(),
        slice.failed().to_string(),
        slice.skipped().to_string(),
        or_empty(slice.concurrent_users),
        or_empty(slice.connections),
        slice.requests_started.to_string(),
        slice.requests_completed.to_string(),
        slice.error_count().to_string(),
    ];
    for (_, histogram) in TIMES {
        let summary = slice.summary(histogram);
        row.extend(STATISTICS.map(|(_, of)| summary.map_or_else(String::new, |s| decimal(of(s)))));
    }
    // Absent in files of builds that did not count them second by second.
    row.extend(DELIVERIES.map(|(_, counter)| or_empty(slice.counters.get(counter).copied())));
    let run = loaded.run.as_ref();
    let target = run.and_then(|run| run.target.as_ref()).map_or(&[][..], |target| &target.samples);
    machine(&mut row, target, slice);
    machine(&mut row, run.map_or(&[][..], |run| &run.tester), slice);
    row
}

/// Mean CPU over the samples taken in this row, the busiest thread of any, memory and files of the last.
fn machine(row: &mut Vec<String>, samples: &[ProcessSample], slice: &Slice) {
    // A second's sample is taken when it ends, a moment more or less.
    let inside = |sample: &&ProcessSample| {
        (slice.start_s..slice.start_s + slice.length_s).contains(&(sample.at_s - 0.5))
    };
    let samples: Vec<_> = samples.iter().filter(inside).collect();
    let Some(last) = samples.last() else {
        row.extend(std::iter::repeat_n(String::new(), 4));
        return;
    };
    let cores: f64 = samples.iter().flat_map(|s| &s.threads).map(|(_, cpu)| cpu).sum();
    let busiest = samples.iter().flat_map(|s| &s.threads).map(|(_, cpu)| *cpu).fold(0.0, f64::max);
    row.extend([
        decimal(cores / samples.len() as f64),
        decimal(busiest),
        last.rss_bytes.to_string(),
        last.open_files.to_string(),
    ]);
}

/// At most three decimals, none that say nothing.
fn decimal(value: f64) -> String {
    if !value.is_finite() {
        return String::new();
    }
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals() {
        for (value, expected) in
            [(0.0, "0"), (1.0, "1"), (0.25, "0.25"), (1_200.0, "1200"), (0.0004, "0"), (f64::NAN, "")]
        {
            assert_eq!(decimal(value), expected);
        }
    }
}
