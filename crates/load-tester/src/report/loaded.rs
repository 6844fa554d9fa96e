//! What a report may say, whichever tool measured it: the outcome of a run of ours, or a result file of
//! ours or of Artillery, brought to one shape. All formats are written from this.

use std::borrow::Cow;
use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::units::sum_of;
use crate::outcome::{
    Check, Delivery, ErrorGroup, Meta, Monitored, Outcome, PhaseInfo, ProcessSample, StageUse, TargetUse,
    Validity, Window, names,
};

/// Charts hold at most this many points; longer runs are drawn in coarser steps.
const MOST_SLICES: usize = 600;

/// The rate under which Artillery 1 files carry their own requests a second.
pub(crate) const RPS: &str = "rps";

/// Before the name of an endpoint, Artillery's name for its response times.
pub(crate) const ENDPOINTS: &str = "plugins.metrics-by-endpoint.response_time.";

/// Which program wrote the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    Drumfire,
    /// Artillery 1.x.
    ArtilleryV1,
    /// Artillery 2.x, and its early builds whose names carry `core.` and `engine.`.
    ArtilleryV2,
}

/// One run's result.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub origin: Origin,
    /// File name or script name, for headings.
    pub name: String,
    /// Wall clock at the start, epoch milliseconds.
    pub started_at_ms: Option<u64>,
    pub duration_s: f64,
    pub phases: Vec<PhaseInfo>,
    pub total: Slice,
    /// In order. Ours: one second each (more in a long run); Artillery's: its windows of about 10 s.
    pub slices: Vec<Slice>,
    pub scenario_counts: BTreeMap<String, u64>,
    /// What only drumfire measures.
    pub run: Option<Run>,
    /// The file as read, to be carried inside the HTML report.
    pub json: Option<String>,
}

/// The part of a result that Artillery's files do not have.
#[derive(Debug, Clone)]
pub struct Run {
    pub meta: Meta,
    /// The whole run's histograms, in microseconds; they can be merged with another run's.
    pub histograms: BTreeMap<String, Histogram<u64>>,
    pub errors: Vec<ErrorGroup>,
    pub server_events: BTreeMap<String, u64>,
    pub delivery: Option<Delivery>,
    pub target: Option<TargetUse>,
    pub stages: Vec<StageUse>,
    pub monitored: Vec<Monitored>,
    pub tester: Vec<ProcessSample>,
    pub validity: Validity,
    pub checks: Vec<Check>,
    /// Name of the signal that ended the run.
    pub interrupted: Option<String>,
    /// `--max-duration` ended it after so many seconds.
    pub ended_after_s: Option<f64>,
}

/// A stretch of time in figures.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Slice {
    /// Seconds since the run's start.
    pub start_s: f64,
    pub length_s: f64,
    /// Artillery 2's names.
    pub counters: BTreeMap<String, u64>,
    /// Events a second, Artillery 2's names.
    pub rates: BTreeMap<String, f64>,
    /// Artillery 2's names, and ours.
    pub summaries: BTreeMap<String, Summary>,
    /// All answered requests together. Ours never holds an emit nobody answered; Artillery's does.
    pub answered: Option<Summary>,
    /// HTTP status codes, and `0` for messages sent by the socket engines.
    pub codes: BTreeMap<String, u64>,
    pub requests_started: u64,
    pub requests_completed: u64,
    pub concurrent_users: Option<u64>,
    pub connections: Option<u64>,
    /// How often each time was met, for heat maps: counts of the buckets of [`spread`], by the name of the histogram
    /// (all answers together under [`ANSWERED`]). Only where the histograms themselves are known.
    pub spreads: BTreeMap<&'static str, Vec<u32>>,
}

/// The name of [`Slice::answered`] among [`Slice::spreads`].
pub const ANSWERED: &str = "answered";

/// Times cut into buckets of the same width on a logarithmic scale.
pub mod spread {
    /// In milliseconds; shorter times are in the first bucket, longer ones than 1,000 s in the last.
    pub const LOWEST_MS: f64 = 0.01;
    pub const PER_DECADE: usize = 6;
    pub const BUCKETS: usize = 8 * PER_DECADE;

    /// Number of the bucket that holds a time.
    pub fn bucket(ms: f64) -> usize {
        ((ms / LOWEST_MS).max(1.0).log10() * PER_DECADE as f64 + 1e-9).floor().min(BUCKETS as f64 - 1.0)
            as usize
    }

    /// Lower edge of a bucket, in milliseconds.
    pub fn edge(bucket: usize) -> f64 {
        LOWEST_MS * 10f64.powf(bucket as f64 / PER_DECADE as f64)
    }
}

/// A distribution in milliseconds. What a file does not say is `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Summary {
    pub count: Option<u64>,
    pub min: f64,
    pub max: f64,
    pub mean: Option<f64>,
    pub median: f64,
    pub p75: Option<f64>,
    pub p90: Option<f64>,
    pub p95: f64,
    pub p99: f64,
    pub p999: Option<f64>,
}

impl Summary {
    /// `None` when nothing was recorded. The histogram is in microseconds.
    pub fn of(histogram: &Histogram<u64>) -> Option<Self> {
        if histogram.is_empty() {
            return None;
        }
        let max = histogram.max() as f64 / 1000.0;
        // A bucket's upper edge may lie above the highest value recorded; a percentile never does.
        let mut at = [0.0; 6];
        let quantiles = histogram.value_at_quantiles([0.5, 0.75, 0.9, 0.95, 0.99, 0.999]);
        for (at, value) in at.iter_mut().zip(quantiles) {
            *at = (value as f64 / 1000.0).min(max);
        }
        let [median, p75, p90, p95, p99, p999] = at;
        Some(Self {
            count: Some(histogram.len()),
            min: histogram.min() as f64 / 1000.0,
            max,
            mean: Some(histogram.mean() / 1000.0),
            median,
            p75: Some(p75),
            p90: Some(p90),
            p95,
            p99,
            p999: Some(p999),
        })
    }
}

impl Slice {
    pub fn counter(&self, name: &str) -> u64 {
        self.counters.get(name).copied().unwrap_or(0)
    }

    pub fn summary(&self, name: &str) -> Option<&Summary> {
        self.summaries.get(name)
    }

    pub fn launched(&self) -> u64 {
        self.counter("vusers.created")
    }

    pub fn completed(&self) -> u64 {
        self.counter("vusers.completed")
    }

    pub fn failed(&self) -> u64 {
        self.counter("vusers.failed")
    }

    /// Arrivals that were dropped because too many users were alive.
    pub fn skipped(&self) -> u64 {
        self.counter("vusers.skipped")
    }

    /// `errors.<name>` counters without the prefix.
    pub fn errors(&self) -> impl Iterator<Item = (&str, u64)> {
        self.counters
            .iter()
            .filter_map(|(name, n)| Some((name.strip_prefix("errors.")?, *n)))
            .filter(|(_, n)| *n > 0)
    }

    /// HTTP answers with 500 or above, which are no errors to Artillery.
    pub fn server_errors(&self) -> u64 {
        sum_of(self.codes.iter().filter(|(code, _)| code.starts_with('5')).map(|(_, n)| *n))
    }

    pub fn error_count(&self) -> u64 {
        sum_of(self.errors().map(|(_, n)| n))
    }

    /// A window of ours. `elapsed_s` is what rates are divided by; `messages` the messages that were sent
    /// and, where an answer was asked for, answered.
    pub fn of(window: &Window, elapsed_s: f64, messages: u64) -> Self {
        let counter = |name: &str| window.counters.get(name).copied().unwrap_or(0);
        let mut codes: BTreeMap<String, u64> = window
            .counters
            .iter()
            .filter_map(|(name, n)| Some((name.strip_prefix("http.codes.")?.to_owned(), *n)))
            .filter(|(_, n)| *n > 0)
            .collect();
        if messages > 0 {
            codes.insert("0".to_owned(), messages);
        }
        let rates = [
            ("http.request_rate", "http.requests"),
            ("socketio.emit_rate", "socketio.emit"),
            ("websocket.send_rate", "websocket.messages_sent"),
        ]
        .into_iter()
        .filter(|(_, counted)| counter(counted) > 0 && elapsed_s > 0.0)
        .map(|(rate, counted)| (rate.to_owned(), counter(counted) as f64 / elapsed_s))
        .collect();
        let all_answers = answered(&window.histograms);
        let spreads = [names::RESPONSE_FROM_DUE, names::DELIVERY]
            .into_iter()
            .filter_map(|name| Some((name, window.histograms.get(name).filter(|h| !h.is_empty())?)))
            .chain(all_answers.as_deref().map(|h| (ANSWERED, h)))
            .map(|(name, histogram)| (name, spread_of(histogram)))
            .collect();
        Self {
            start_s: window.start_s,
            length_s: window.length_s,
            rates,
            summaries: window
                .histograms
                .iter()
                .filter_map(|(name, h)| Some((name.clone(), Summary::of(h)?)))
                .collect(),
            answered: all_answers.as_deref().and_then(Summary::of),
            spreads,
            codes,
            requests_started: counter("http.requests")
                + counter("socketio.emit")
                + counter("websocket.messages_sent"),
            requests_completed: counter("http.responses") + messages,
            concurrent_users: Some(window.concurrent_users),
            connections: Some(window.connections),
            counters: window.counters.clone(),
        }
    }

    /// A window of ours whose emits are not told apart: those sent count as messages.
    pub fn of_window(window: &Window) -> Self {
        let counter = |name: &str| window.counters.get(name).copied().unwrap_or(0);
        Self::of(window, window.length_s, counter("socketio.emit") + counter("websocket.messages_sent"))
    }
}

/// Answers of all engines in one distribution.
pub(crate) fn answered(histograms: &BTreeMap<String, Histogram<u64>>) -> Option<Cow<'_, Histogram<u64>>> {
    let mut parts = [names::HTTP_RESPONSE_TIME, names::SOCKETIO_RESPONSE_TIME, "websocket.response_time"]
        .into_iter()
        .filter_map(|name| histograms.get(name))
        .filter(|h| !h.is_empty());
    let mut all = Cow::Borrowed(parts.next()?);
    for part in parts {
        let all = all.to_mut();
        all.auto(true);
        // Cannot fail: the histogram grows as needed.
        let _ = all.add(part);
    }
    Some(all)
}

fn spread_of(histogram: &Histogram<u64>) -> Vec<u32> {
    let mut counts = Vec::new();
    for step in histogram.iter_recorded() {
        let bucket = spread::bucket(step.value_iterated_to() as f64 / 1000.0);
        if counts.len() <= bucket {
            counts.resize(bucket + 1, 0_u32);
        }
        let met = u32::try_from(step.count_since_last_iteration()).unwrap_or(u32::MAX);
        counts[bucket] = counts[bucket].saturating_add(met);
    }
    counts
}

/// Several windows, in order, as one.
pub(crate) fn merge(windows: &[Window]) -> Option<Window> {
    let (first, rest) = windows.split_first()?;
    let mut all = first.clone();
    for histogram in all.histograms.values_mut() {
        histogram.auto(true);
    }
    for window in rest {
        for (name, n) in &window.counters {
            *all.counters.entry(name.clone()).or_default() += n;
        }
        for (name, histogram) in &window.histograms {
            if let Some(sum) = all.histograms.get_mut(name) {
                let _ = sum.add(histogram);
            } else {
                let mut sum = histogram.clone();
                sum.auto(true);
                all.histograms.insert(name.clone(), sum);
            }
        }
        all.length_s = window.start_s + window.length_s - all.start_s;
        all.concurrent_users = window.concurrent_users;
        all.connections = window.connections;
    }
    Some(all)
}

/// How many seconds go into one point of a chart.
pub(crate) fn seconds_per_slice(seconds: usize) -> usize {
    seconds.div_ceil(MOST_SLICES).max(1)
}

/// What rates over a whole run are divided by: the time in which the phases let users arrive, unless requests went on
/// after it or ended before it.
pub(crate) fn elapsed_s(phases: &[PhaseInfo], active: Option<Active>, duration_s: f64) -> f64 {
    let Some(Active { first_s, last_s, step_s }) = active else { return duration_s };
    let asked: f64 = phases.iter().filter(|p| !p.is_quiet()).map(|p| p.duration_s).sum();
    let inside = |p: &&PhaseInfo| p.is_quiet() && p.start_s >= first_s && p.start_s + p.duration_s <= last_s;
    let pauses: f64 = phases.iter().filter(inside).map(|p| p.duration_s).sum();
    let span = (last_s - first_s - pauses).max(1.0);
    // The last request may have been sent anywhere in its step of time, so a span that much longer says nothing.
    if asked >= 1.0 && span >= asked && span <= asked + step_s + 1e-6 { asked } else { span }
}

/// Where in a run requests were sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Active {
    first_s: f64,
    /// End of the last step of time in which any was.
    last_s: f64,
    /// Length of that step.
    step_s: f64,
}

/// From the first step of time in which a request was sent to the end of the last one.
pub(crate) fn active<'a>(
    steps: impl Iterator<Item = (f64, f64, &'a BTreeMap<String, u64>)>,
) -> Option<Active> {
    let mut span: Option<Active> = None;
    for (start_s, length_s, counters) in steps {
        let sent = ["http.requests", "socketio.emit", "websocket.messages_sent", "vusers.created"]
            .iter()
            .any(|name| counters.get(*name).is_some_and(|n| *n > 0));
        if sent {
            let first_s = span.map_or(start_s, |s| s.first_s);
            span = Some(Active { first_s, last_s: start_s + length_s, step_s: length_s });
        }
    }
    span
}

impl Run {
    fn of(outcome: &Outcome) -> Self {
        Self {
            meta: outcome.meta.clone(),
            histograms: outcome.total.histograms.clone(),
            errors: outcome.errors.clone(),
            server_events: outcome.server_events.clone(),
            delivery: outcome.delivery.clone(),
            target: outcome.target.clone(),
            stages: outcome.stages.clone(),
            monitored: outcome.monitored.clone(),
            tester: outcome.tester.clone(),
            validity: outcome.validity.clone(),
            checks: outcome.checks.clone(),
            interrupted: outcome.interrupted.map(str::to_owned),
            ended_after_s: outcome.ended_after_s,
        }
    }
}

impl Loaded {
    /// A run that has just ended, as its result file would read.
    pub fn of(outcome: &Outcome) -> Self {
        let step = seconds_per_slice(outcome.seconds.len());
        let slices = outcome.seconds.chunks(step).filter_map(merge).map(|w| Slice::of_window(&w)).collect();
        let span = active(outcome.seconds.iter().map(|w| (w.start_s, w.length_s, &w.counters)));
        Self::from_parts(Run::of(outcome), &outcome.total, slices, span, outcome.scenario_counts.clone())
    }

    /// A run that goes on; `slices` are its seconds, which `outcome` lacks.
    pub(crate) fn so_far(outcome: &Outcome, slices: Vec<Slice>) -> Self {
        let span = active(slices.iter().map(|s| (s.start_s, s.length_s, &s.counters)));
        Self::from_parts(Run::of(outcome), &outcome.total, slices, span, outcome.scenario_counts.clone())
    }

    pub(crate) fn from_parts(
        run: Run,
        total: &Window,
        slices: Vec<Slice>,
        active: Option<Active>,
        scenario_counts: BTreeMap<String, u64>,
    ) -> Self {
        let meta = &run.meta;
        let elapsed = elapsed_s(&meta.phases, active, meta.duration_s);
        let sent = total.counters.get("websocket.messages_sent").copied().unwrap_or(0);
        Self {
            origin: Origin::Drumfire,
            name: meta.script.clone(),
            started_at_ms: Some(meta.started_at_ms),
            duration_s: meta.duration_s,
            phases: meta.phases.clone(),
            total: Slice::of(total, elapsed, meta.confirmed_emits + meta.unconfirmed_emits + sent),
            slices,
            scenario_counts,
            run: Some(run),
            json: None,
        }
    }

    /// What rates over the whole run are divided by.
    pub fn elapsed_s(&self) -> f64 {
        elapsed_s(
            &self.phases,
            active(self.slices.iter().map(|s| (s.start_s, s.length_s, &s.counters))),
            self.duration_s,
        )
    }

    /// Users the phases asked for; `None` when the file does not say, and with a closed phase, of which nobody knows.
    pub fn planned(&self) -> Option<u64> {
        let known = !self.phases.is_empty() && !self.has_closed_phase();
        known.then(|| sum_of(self.phases.iter().map(|p| p.planned)))
    }

    /// Whether users of some phase came only when others had ended.
    pub fn has_closed_phase(&self) -> bool {
        self.phases.iter().any(PhaseInfo::is_closed)
    }

    /// Users a second the phases asked for, over the phases in which anyone was to arrive.
    pub fn asked_rate(&self) -> Option<f64> {
        if self.has_closed_phase() {
            return None;
        }
        let loaded = self.phases.iter().filter(|p| p.planned > 0);
        let (users, seconds) =
            loaded.fold((0, 0.0), |(users, seconds), p| (users + p.planned, seconds + p.duration_s));
        (seconds > 0.0).then(|| users as f64 / seconds)
    }

    pub fn peak_users(&self) -> Option<u64> {
        self.slices
            .iter()
            .filter_map(|s| s.concurrent_users)
            .max()
            .max(self.total.concurrent_users.filter(|_| self.run.is_some()))
    }

    /// When nothing more was measured; after it the run only waited.
    pub fn end_s(&self) -> f64 {
        let busy = |s: &&Slice| {
            !s.summaries.is_empty()
                || s.counters.values().any(|n| *n > 0)
                || s.concurrent_users.is_some_and(|n| n > 0)
        };
        let measured = self.slices.iter().rfind(busy).map_or(0.0, |s| s.start_s + s.length_s);
        // Phases that a signal or --max-duration kept from running would be empty room.
        let cut =
            self.run.as_ref().is_some_and(|run| run.interrupted.is_some() || run.ended_after_s.is_some());
        let phases = self.phases.iter().filter(|_| !cut);
        let planned = phases.map(|p| p.start_s + p.duration_s).fold(0.0, f64::max);
        measured.max(planned).max(self.duration_s)
    }

    /// The file's last component, for headings and file names.
    pub fn short_name(&self) -> &str {
        self.name.rsplit(['/', '\\']).next().unwrap_or(&self.name)
    }
}
