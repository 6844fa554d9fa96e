//! Artillery's result files: 1.x, 2.x, and the early 2.0 builds whose names begin with `core.` or `engine.`.
//!
//! Fields and units as observed in files written by 1.7.9 and 2.0.21; what differs in other versions stands at the place.

use std::collections::BTreeMap;
use std::fmt;

use hdrhistogram::Histogram;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::Value;

use super::loaded::{Loaded, Origin, RPS, Slice, Summary};
use crate::outcome::PhaseInfo;

/// The reporting window both use unless told otherwise.
const WINDOW_S: f64 = 10.0;

/// A window or the aggregate of any Artillery; unknown keys are passed over.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PeriodIn {
    // Artillery 2
    counters: Option<BTreeMap<String, f64>>,
    rates: Option<BTreeMap<String, Option<f64>>>,
    summaries: Option<BTreeMap<String, SummaryIn>>,
    histograms: Option<BTreeMap<String, SummaryIn>>,
    /// Text or number.
    period: Option<Value>,
    first_metric_at: Option<f64>,
    last_metric_at: Option<f64>,
    first_counter_at: Option<f64>,
    last_counter_at: Option<f64>,
    // Artillery 1
    timestamp: Option<String>,
    scenarios_created: Option<f64>,
    scenarios_completed: Option<f64>,
    scenarios_avoided: Option<f64>,
    requests_completed: Option<f64>,
    latency: Option<SummaryIn>,
    rps: Option<Rps>,
    scenario_duration: Option<SummaryIn>,
    scenario_counts: Option<BTreeMap<String, f64>>,
    errors: Option<BTreeMap<String, f64>>,
    codes: Option<BTreeMap<String, f64>>,
    custom_stats: Option<BTreeMap<String, SummaryIn>>,
    latencies: Option<Latencies>,
    concurrency: Option<f64>,
    phases: Option<Vec<PhaseIn>>,
}

impl PeriodIn {
    pub(super) fn is_v1(&self) -> bool {
        self.scenarios_created.is_some()
    }

    pub(super) fn is_v2(&self) -> bool {
        self.counters.is_some() || self.summaries.is_some()
    }
}

#[derive(Deserialize)]
struct Rps {
    count: Option<f64>,
    mean: Option<f64>,
}

/// Milliseconds; null where nothing was recorded.
#[derive(Deserialize)]
struct SummaryIn {
    min: Option<f64>,
    max: Option<f64>,
    count: Option<f64>,
    mean: Option<f64>,
    median: Option<f64>,
    p50: Option<f64>,
    p75: Option<f64>,
    p90: Option<f64>,
    p95: Option<f64>,
    p99: Option<f64>,
    p999: Option<f64>,
}

impl SummaryIn {
    fn summary(&self) -> Option<Summary> {
        Some(Summary {
            count: self.count.map(counted),
            min: self.min?,
            max: self.max?,
            mean: self.mean,
            median: self.median.or(self.p50)?,
            p75: self.p75,
            p90: self.p90,
            p95: self.p95?,
            p99: self.p99?,
            p999: self.p999,
        })
    }
}

/// Scripts give these as numbers or text (`"{{ rate }}"` filled in, `2m`).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PhaseIn {
    name: Option<String>,
    duration: Option<Value>,
    pause: Option<Value>,
    arrival_rate: Option<Value>,
    arrival_count: Option<Value>,
    ramp_to: Option<Value>,
}

/// Every sample of a window, in nanoseconds; until 1.6.0-26 each was a row of epoch ms, user, ns, code. They go
/// straight into a histogram.
struct Latencies(Histogram<u64>);

impl<'de> Deserialize<'de> for Latencies {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Samples;
        impl<'de> Visitor<'de> for Samples {
            type Value = Latencies;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of latencies in nanoseconds")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut samples: A) -> Result<Latencies, A::Error> {
                let mut histogram = Histogram::new(3).map_err(serde::de::Error::custom)?;
                while let Some(sample) = samples.next_element::<Option<Sample>>()? {
                    let nanoseconds = match sample {
                        Some(Sample::Nanoseconds(ns) | Sample::Row(_, _, Some(ns), _)) => ns,
                        Some(Sample::Row(..)) | None => continue,
                    };
                    // An hour is more than any request of Artillery's could take.
                    let microseconds = (nanoseconds / 1000.0).clamp(0.0, 3.6e9) as u64;
                    // Not `saturating_record`: it would clamp to the size the histogram happens to have.
                    histogram.record(microseconds).map_err(serde::de::Error::custom)?;
                }
                Ok(Latencies(histogram))
            }
        }
        deserializer.deserialize_seq(Samples)
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Sample {
    Nanoseconds(f64),
    Row(IgnoredAny, IgnoredAny, Option<f64>, IgnoredAny),
}

pub(super) fn v1(aggregate: &PeriodIn, windows: &[PeriodIn], name: &str) -> Loaded {
    let instant = |w: &PeriodIn| -> Option<i64> {
        w.timestamp.as_ref()?.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond)
    };
    // A window is stamped with its end; the first one's length is not told, so the usual one is taken.
    let mut ends: Vec<Option<i64>> = windows.iter().map(instant).collect();
    let window_ms = match ends[..] {
        [Some(first), Some(second), _, ..] => (second - first).max(1),
        _ => (WINDOW_S * 1000.0) as i64,
    };
    let started = ends.first().copied().flatten().map(|end| end - window_ms);
    if ends.is_empty() {
        ends.push(instant(aggregate));
    }
    let mut before = 0.0;
    let slices: Vec<Slice> = windows
        .iter()
        .zip(&ends)
        .map(|(window, end)| {
            let end_s = match (end, started) {
                (Some(end), Some(started)) => ((end - started) as f64 / 1000.0).max(before),
                _ => before + WINDOW_S,
            };
            let slice = slice_v1(window, before, end_s - before);
            before = end_s;
            slice
        })
        .collect();
    let phases = phases_v1(aggregate.phases.as_deref().unwrap_or_default());
    let mut total = slice_v1(aggregate, 0.0, before);
    let mut samples: Option<Histogram<u64>> = None;
    for Latencies(window) in windows.iter().filter_map(|w| w.latencies.as_ref()).filter(|l| !l.0.is_empty()) {
        match &mut samples {
            Some(all) => {
                let _ = all.add(window);
            }
            None => samples = Some(window.clone()),
        }
    }
    if let Some(sampled) = samples.as_ref().and_then(Summary::of) {
        fill_gaps(&mut total, &sampled);
    }
    Loaded {
        origin: Origin::ArtilleryV1,
        name: name.to_owned(),
        started_at_ms: started.and_then(|ms| u64::try_from(ms).ok()),
        duration_s: before,
        phases,
        total,
        slices,
        scenario_counts: counts(aggregate.scenario_counts.as_ref()),
        run: None,
        json: None,
    }
}

fn slice_v1(window: &PeriodIn, start_s: f64, length_s: f64) -> Slice {
    let number = |n: Option<f64>| n.map_or(0, counted);
    let mut counters = counts(window.counters.as_ref());
    let (created, completed) = (number(window.scenarios_created), number(window.scenarios_completed));
    counters.insert("vusers.created".to_owned(), created);
    counters.insert("vusers.completed".to_owned(), completed);
    if window.scenarios_avoided.is_some_and(|n| n > 0.0) {
        counters.insert("vusers.skipped".to_owned(), number(window.scenarios_avoided));
    }
    let codes = counts(window.codes.as_ref());
    for (code, n) in codes.iter().filter(|(code, _)| code.as_str() != "0") {
        counters.insert(format!("http.codes.{code}"), *n);
    }
    for (name, n) in counts(window.errors.as_ref()) {
        counters.insert(format!("errors.{name}"), n);
    }
    let mut summaries = BTreeMap::new();
    for (name, summary) in window.custom_stats.iter().flatten() {
        summaries.extend(summary.summary().map(|s| (name.clone(), s)));
    }
    if let Some(length) = window.scenario_duration.as_ref().and_then(SummaryIn::summary) {
        summaries.insert("vusers.session_length".to_owned(), length);
    }
    let mean = window.rps.as_ref().and_then(|r| r.mean);
    let answered = window.latency.as_ref().and_then(SummaryIn::summary);
    if let Some(latency) = answered {
        summaries.insert("latency".to_owned(), latency);
    }
    let mut slice = Slice {
        start_s,
        length_s,
        counters,
        summaries,
        answered,
        codes,
        rates: mean.map(|mean| (RPS.to_owned(), mean)).into_iter().collect(),
        requests_started: number(window.rps.as_ref().and_then(|r| r.count)),
        requests_completed: number(window.requests_completed),
        concurrent_users: window.concurrency.map(counted),
        ..Slice::default()
    };
    if let Some(sampled) = window.latencies.as_ref().and_then(|l| Summary::of(&l.0)) {
        fill_gaps(&mut slice, &sampled);
    }
    slice
}

/// Artillery 1 says neither mean nor p99.9; its samples do.
fn fill_gaps(slice: &mut Slice, sampled: &Summary) {
    if let Some(latency) = &mut slice.answered {
        latency.count = sampled.count;
        latency.mean = sampled.mean;
        latency.p999 = sampled.p999.map(|p999| p999.min(latency.max));
        slice.summaries.insert("latency".to_owned(), *latency);
    }
}

fn phases_v1(phases: &[PhaseIn]) -> Vec<PhaseInfo> {
    let number = |v: &Option<Value>| -> Option<f64> {
        let value = v.as_ref()?;
        value
            .as_f64()
            .or_else(|| value.as_str()?.trim().parse().ok())
            .filter(|n: &f64| n.is_finite() && *n >= 0.0)
    };
    let mut start_s = 0.0;
    let mut known = Vec::new();
    for (index, phase) in phases.iter().enumerate() {
        let pause = number(&phase.pause);
        let Some(duration_s) = pause.or(number(&phase.duration)) else {
            // A length this cannot read leaves everything after it without a place.
            return Vec::new();
        };
        let (load, planned) = match (
            pause,
            number(&phase.arrival_count),
            number(&phase.arrival_rate),
            number(&phase.ramp_to),
        ) {
            (Some(_), ..) => ("pause".to_owned(), 0.0),
            (_, Some(count), ..) => (format!("{count} users"), count),
            (_, _, rate, Some(to)) => {
                let from = rate.unwrap_or(0.0);
                (format!("{from} -> {to}/s"), (from + to) / 2.0 * duration_s)
            }
            (_, _, Some(rate), _) => (format!("{rate}/s"), rate * duration_s),
            _ => return Vec::new(),
        };
        known.push(PhaseInfo {
            name: phase.name.clone().unwrap_or_else(|| format!("phase {}", index + 1)),
            start_s,
            duration_s,
            load,
            planned: counted(planned.round()),
        });
        start_s += duration_s;
    }
    known
}

pub(super) fn v2(aggregate: &PeriodIn, windows: &[PeriodIn], name: &str) -> Loaded {
    let period = |w: &PeriodIn| -> Option<f64> {
        let value = w.period.as_ref()?;
        value.as_f64().or_else(|| value.as_str()?.parse().ok()).filter(|ms: &f64| ms.is_finite())
    };
    let first = |w: &PeriodIn| w.first_metric_at.or(w.first_counter_at);
    let last = |w: &PeriodIn| w.last_metric_at.or(w.last_counter_at);
    let started = first(aggregate)
        .or_else(|| windows.first().and_then(|w| first(w).or_else(|| period(w))))
        .unwrap_or(0.0);
    let mut before = 0.0_f64;
    let slices: Vec<Slice> = windows
        .iter()
        .map(|window| {
            // Windows stand on the clock's tens of seconds; the first and last are filled only in part.
            let from = period(window).map_or(before, |ms| (ms - started) / 1000.0).max(before);
            let to = match (period(window), last(window)) {
                (Some(ms), Some(last)) => {
                    ((ms - started) / 1000.0 + WINDOW_S).min(((last - started) / 1000.0).max(from + 1.0))
                }
                (Some(ms), None) => (ms - started) / 1000.0 + WINDOW_S,
                _ => from + WINDOW_S,
            }
            .max(from);
            before = to;
            slice_v2(window, from, to - from)
        })
        .collect();
    let duration_s = last(aggregate).map_or(before, |ms| (ms - started) / 1000.0).max(0.0);
    let total = slice_v2(aggregate, 0.0, duration_s);
    let scenario_counts = total
        .counters
        .iter()
        .filter_map(|(name, n)| Some((name.strip_prefix("vusers.created_by_name.")?.to_owned(), *n)))
        .collect();
    Loaded {
        origin: Origin::ArtilleryV2,
        name: name.to_owned(),
        started_at_ms: (started > 0.0).then_some(started as u64),
        duration_s,
        phases: Vec::new(),
        total,
        slices,
        scenario_counts,
        run: None,
        json: None,
    }
}

fn slice_v2(window: &PeriodIn, start_s: f64, length_s: f64) -> Slice {
    let counters: BTreeMap<String, u64> =
        counts(window.counters.as_ref()).into_iter().map(|(name, n)| (today(&name), n)).collect();
    let counter = |name: &str| counters.get(name).copied().unwrap_or(0);
    let mut summaries = BTreeMap::new();
    for (name, summary) in window.summaries.as_ref().or(window.histograms.as_ref()).into_iter().flatten() {
        summaries.extend(summary.summary().map(|s| (today(name), s)));
    }
    let mut codes: BTreeMap<String, u64> = counters
        .iter()
        .filter_map(|(name, n)| Some((name.strip_prefix("http.codes.")?.to_owned(), *n)))
        .collect();
    let messages = counter("socketio.emit") + counter("websocket.messages_sent");
    if messages > 0 {
        codes.insert("0".to_owned(), messages);
    }
    // Two summaries cannot be added up; the engine that asked more often speaks for both.
    let answered = ["http.response_time", "socketio.response_time"]
        .iter()
        .filter_map(|name| summaries.get(*name))
        .max_by_key(|s| s.count)
        .copied();
    Slice {
        start_s,
        length_s,
        rates: window.rates.iter().flatten().filter_map(|(name, r)| Some((today(name), (*r)?))).collect(),
        answered,
        codes,
        requests_started: counter("http.requests") + messages,
        requests_completed: counter("http.responses") + messages,
        summaries,
        counters,
        ..Slice::default()
    }
}

/// A metric's name in early 2.0 builds as it is called since.
fn today(name: &str) -> String {
    let name = name.strip_prefix("core.").or_else(|| name.strip_prefix("engine.")).unwrap_or(name);
    match name.strip_prefix("vusers.created.") {
        Some("total") => "vusers.created".to_owned(),
        Some(rest) => match rest.strip_prefix("by_name.") {
            Some(scenario) => format!("vusers.created_by_name.{scenario}"),
            None => name.to_owned(),
        },
        None => name.to_owned(),
    }
}

/// A number of a foreign file as a count: no more than floating point holds exactly, so that a few of them may be
/// added without a look.
fn counted(n: f64) -> u64 {
    n.clamp(0.0, 9_007_199_254_740_992.0) as u64
}

fn counts(map: Option<&BTreeMap<String, f64>>) -> BTreeMap<String, u64> {
    map.into_iter().flatten().map(|(name, n)| (name.clone(), counted(*n))).collect()
}
