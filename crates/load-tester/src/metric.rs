//! The names of figures: what `ensure`, `compare` and `limit` may ask of a run, and what it answers.
//!
//! One resolver for all of them. Names are Artillery 2's and ours; docs/metrics.md is written from the tables below.

use std::fmt::Write as _;

use hdrhistogram::Histogram;

use crate::ensure::quote;
use crate::outcome::{Delivery, ProcessSample, Window, names};
use crate::report::units::{figure, latency, rate, thousands};
use crate::report::{Loaded, Origin, Summary};
use crate::script::compat::suggestion;

/// What a figure is measured in; every time is in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Milliseconds,
    PerSecond,
    Percent,
    Count,
    Megabytes,
    Cores,
}

impl Unit {
    /// Whether a number of this kind may be written in a unit.
    pub(crate) fn is_written(self, unit: &str) -> bool {
        match self {
            Self::Milliseconds => matches!(unit, "us" | "µs" | "ms" | "s" | "min"),
            Self::PerSecond => unit == "/s",
            Self::Percent => unit == "%",
            Self::Megabytes => matches!(unit, "MB" | "GB"),
            Self::Count | Self::Cores => false,
        }
    }

    pub(crate) fn in_words(self) -> &'static str {
        match self {
            Self::Milliseconds => "in milliseconds",
            Self::PerSecond => "a rate a second",
            Self::Percent => "in per cent",
            Self::Count => "a count",
            Self::Megabytes => "in megabytes",
            Self::Cores => "in cores",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    Less,
    More,
    /// Neither: how much was asked, not how well it went.
    Neither,
}

/// A statistic of a distribution.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Statistic {
    Min,
    Max,
    Mean,
    Deviation,
    Count,
    /// 0 to 1.
    Quantile(f64),
}

impl Statistic {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "min" => Self::Min,
            "max" => Self::Max,
            "mean" => Self::Mean,
            "stddev" => Self::Deviation,
            "count" => Self::Count,
            "median" | "p50" => Self::Quantile(0.5),
            "p75" => Self::Quantile(0.75),
            "p90" => Self::Quantile(0.9),
            "p95" => Self::Quantile(0.95),
            "p99" => Self::Quantile(0.99),
            "p999" | "p99.9" => Self::Quantile(0.999),
            "p9999" | "p99.99" => Self::Quantile(0.9999),
            _ => return None,
        })
    }
}

const STATISTICS: [&str; 15] = [
    "min", "mean", "median", "p50", "p75", "p90", "p95", "p99", "p999", "p99.9", "p9999", "p99.99", "max",
    "stddev", "count",
];

/// A sum over counts, or something that is added up like one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sum {
    Counters(&'static [&'static str]),
    /// Users that were at work: those that came, and those that had come before the stretch of time that is looked at.
    Users,
    /// All `errors.` counters.
    Errors,
    /// HTTP answers, whatever their status.
    HttpAnswers,
    /// Those with 5xx.
    ServerErrors,
    /// (listener, message) pairs that were heard of those expected.
    Fulfilled,
    Expected,
    /// Seconds in which load was asked for.
    Seconds,
    /// Milliseconds of processor time of the target.
    TargetCpu,
    /// The same of the tester.
    TesterCpu,
    /// Seconds in which the process was watched.
    TargetWatched,
    TesterWatched,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Source {
    Statistic {
        histogram: String,
        statistic: Statistic,
    },
    /// All engines' answers in one distribution: v1's `latency`.
    Answers(Statistic),
    Counter(String),
    Errors,
    Ratio {
        of: Sum,
        over: Sum,
        times: f64,
    },
    TargetMemory,
    TesterMemory,
}

/// A figure of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// As written.
    pub name: String,
    pub unit: Unit,
    pub better: Better,
    pub(crate) source: Source,
}

/// What figures are taken from. `None` always means that nothing was measured or counted, never zero.
pub(crate) trait Figures {
    fn counter(&self, name: &str) -> Option<u64>;
    /// The sum of all `errors.` counters.
    fn errors(&self) -> u64;
    /// HTTP answers with this status or a higher one.
    fn http_answers(&self, lowest: u16) -> u64;
    /// In milliseconds; a count for [`Statistic::Count`].
    fn statistic(&self, histogram: &str, statistic: Statistic) -> Option<f64>;
    fn answers(&self, statistic: Statistic) -> Option<f64>;
    /// What rates are divided by.
    fn seconds(&self) -> f64;
    /// Users that had come before, and were still at work.
    fn users_before(&self) -> u64 {
        0
    }
    fn delivery(&self) -> Option<&Delivery>;
    fn target(&self) -> &[ProcessSample];
    fn tester(&self) -> &[ProcessSample];
}

/// Histograms by their short names.
const HISTOGRAMS: &[(&str, &str, &str)] = &[
    ("delivery", names::DELIVERY, "a message heard by one listener, from sending it"),
    ("delivery.from_due", names::DELIVERY_FROM_DUE, "the same, from the instant its sender was due"),
    ("delivery.first", names::DELIVERY_FIRST, "each message at its first listener"),
    ("delivery.median", names::DELIVERY_MEDIAN, "each message at its middle listener"),
    ("delivery.last", names::DELIVERY_LAST, "each message at its last listener"),
    ("delivery.ack", names::DELIVERY_ACK, "the acknowledgement of a stamped message"),
    (
        "response_from_due",
        names::RESPONSE_FROM_DUE,
        "a user's first answer, from the instant the user was due",
    ),
    ("start_lateness", names::START_LATENESS, "the tester's own: started minus due"),
    (
        "http.response_time",
        names::HTTP_RESPONSE_TIME,
        "first byte of an HTTP answer, from sending the request",
    ),
    ("http.response_time.2xx", "http.response_time.2xx", "the same, by the class of the status"),
    ("http.response_time.3xx", "http.response_time.3xx", ""),
    ("http.response_time.4xx", "http.response_time.4xx", ""),
    ("http.response_time.5xx", "http.response_time.5xx", ""),
    ("http.total", "http.total", "the whole HTTP answer"),
    (
        "socketio.response_time",
        names::SOCKETIO_RESPONSE_TIME,
        "ack or response of an emit; never an unanswered emit",
    ),
    (
        "websocket.response_time",
        "websocket.response_time",
        "the answer a `send`, or the `wait` behind it, names; never an unanswered send",
    ),
    ("connect", names::CONNECT_TOTAL, "a user's whole Socket.IO connect"),
    ("connect.dns", names::CONNECT_STAGES[0], "its stages"),
    ("connect.tcp", names::CONNECT_STAGES[1], ""),
    ("connect.tls", names::CONNECT_STAGES[2], ""),
    ("connect.polling", names::CONNECT_STAGES[3], ""),
    ("connect.upgrade", names::CONNECT_STAGES[4], ""),
    ("connect.handshake", names::CONNECT_STAGES[5], ""),
    ("connect.probe", names::CONNECT_STAGES[6], ""),
    ("connect.namespace", names::CONNECT_STAGES[7], ""),
    ("websocket.connect.total", "websocket.connect.total", "a user's whole plain WebSocket connect"),
    ("websocket.connect.dns", "websocket.connect.dns", "its stages"),
    ("websocket.connect.tcp", "websocket.connect.tcp", ""),
    ("websocket.connect.tls", "websocket.connect.tls", ""),
    ("websocket.connect.upgrade", "websocket.connect.upgrade", ""),
    ("upgrade_time", names::UPGRADE_TIME, "from polling to WebSocket"),
    ("listener_connect", names::LISTENER_CONNECT, "a listener's whole connect"),
    ("reconnect", names::RECONNECT, "from the loss of a connection until its owner is back"),
    ("send_wait", names::SEND_WAIT, "how long a message was held back that the socket did not take at once"),
    ("loop_lag", names::LOOP_LAG, "how late the tester's threads came to ticks of their own"),
    ("session_length", names::SESSION_LENGTH, "a whole scenario, completed users only"),
];

/// Counters that exist whether or not anything was counted.
const COUNTERS: &[(&str, Better, &str)] = &[
    ("vusers.created", Better::Neither, "users that started"),
    ("vusers.completed", Better::More, ""),
    ("vusers.failed", Better::Less, ""),
    ("vusers.skipped", Better::Less, "arrivals dropped because too many users were alive"),
    ("http.requests", Better::Neither, ""),
    ("http.responses", Better::More, ""),
    ("http.downloaded_bytes", Better::Neither, ""),
    ("socketio.emit", Better::Neither, ""),
    ("socketio.upgrades", Better::Neither, ""),
    ("socketio.upgrades_failed", Better::Less, ""),
    ("websocket.messages_sent", Better::Neither, ""),
    ("websocket.messages_received", Better::Neither, ""),
    (
        "drumfire.users.replacements",
        Better::Neither,
        "users of closed phases that came when another had ended",
    ),
    ("drumfire.users.unfinished", Better::Less, "users cut off when the run was ended"),
    ("plugins.expect.ok", Better::More, ""),
    ("plugins.expect.failed", Better::Less, ""),
    (
        "drumfire.connections.lost",
        Better::Less,
        "connections that ended without our doing, or were cut by the script",
    ),
    ("drumfire.connections.back", Better::More, "those of them whose owner is back"),
    (
        "drumfire.heartbeats.late",
        Better::Less,
        "pings later than the server's own interval and timeout allow",
    ),
];

/// Counts of deliveries: `delivery.X`, in full `drumfire.delivery.X`. Nothing without `config.delivery`.
const DELIVERIES: &[(&str, Better, &str)] = &[
    ("messages", Better::Neither, "stamped messages that were sent"),
    ("expected", Better::Neither, "(listener, message) pairs that should have been; needs `expect`"),
    ("heard", Better::More, "pairs that were"),
    ("missing", Better::Less, "pairs that were not; needs `expect`"),
    ("duplicates", Better::Less, "heard twice"),
    ("late", Better::Less, "heard after the deadline"),
    ("unexpected", Better::Less, "heard by a listener that should not have"),
    ("out_of_order", Better::Less, "of one sender"),
    ("undecided", Better::Neither, "the listener was moving meanwhile"),
    ("not_sent", Better::Less, "messages that could not be sent"),
];

const REQUESTS: Sum = Sum::Counters(&["http.requests", "socketio.emit", "websocket.messages_sent"]);
const HEARD: Sum = Sum::Counters(&["drumfire.delivery.heard"]);

/// Figures made of others.
#[rustfmt::skip]
const RATIOS: &[(&str, Unit, Better, Sum, Sum, f64, &str)] = &[
    ("rate.users", Unit::PerSecond, Better::More, Sum::Counters(&["vusers.created"]), Sum::Seconds, 1.0, "users started a second"),
    ("rate.requests", Unit::PerSecond, Better::More, REQUESTS, Sum::Seconds, 1.0, "requests and messages sent a second"),
    ("rate.deliveries", Unit::PerSecond, Better::More, HEARD, Sum::Seconds, 1.0, "messages heard a second, all listeners together"),
    ("http.request_rate", Unit::PerSecond, Better::More, Sum::Counters(&["http.requests"]), Sum::Seconds, 1.0, "Artillery's name"),
    ("socketio.emit_rate", Unit::PerSecond, Better::More, Sum::Counters(&["socketio.emit"]), Sum::Seconds, 1.0, "Artillery's name"),
    ("websocket.send_rate", Unit::PerSecond, Better::More, Sum::Counters(&["websocket.messages_sent"]), Sum::Seconds, 1.0, "Artillery's name"),
    ("completed.share", Unit::Percent, Better::More, Sum::Counters(&["vusers.completed"]), Sum::Users, 100.0, "users that came to the end of their scenario"),
    ("errors.share", Unit::Percent, Better::Less, Sum::Errors, Sum::Users, 100.0, "errors for each hundred users"),
    ("http.5xx.share", Unit::Percent, Better::Less, Sum::ServerErrors, Sum::HttpAnswers, 100.0, "HTTP answers with a status of 500 or above, which are no errors to Artillery"),
    ("delivery.completeness", Unit::Percent, Better::More, Sum::Fulfilled, Sum::Expected, 100.0, "pairs heard of those expected; needs `expect`"),
    ("target.cpu", Unit::Cores, Better::Less, Sum::TargetCpu, Sum::TargetWatched, 0.001, "mean processor use, 1 is one core; only of a target on this machine"),
    ("target.cpu_per_request", Unit::Milliseconds, Better::Less, Sum::TargetCpu, REQUESTS, 1.0, "processor time for each request or message"),
    ("target.cpu_per_delivery", Unit::Milliseconds, Better::Less, Sum::TargetCpu, HEARD, 1.0, "processor time for each message heard by one listener"),
    ("tester.cpu", Unit::Cores, Better::Less, Sum::TesterCpu, Sum::TesterWatched, 0.001, "the tester's own"),
];

/// Single figures with a name of their own.
const OTHERS: &[(&str, Unit, Source, &str)] = &[
    ("errors", Unit::Count, Source::Errors, "all errors, whatever their name; `errors.NAME` is one kind"),
    ("target.memory", Unit::Megabytes, Source::TargetMemory, "most that was resident"),
    ("tester.memory", Unit::Megabytes, Source::TesterMemory, "the tester's own"),
];

/// A name nobody measures under.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no such metric: {name}{}", .near.as_ref().map_or_else(String::new, |near| format!(" (did you mean {near}?)")))]
pub struct Unknown {
    pub name: String,
    pub near: Option<String>,
}

impl Metric {
    /// # Errors
    /// When nothing is ever measured under this name, with the nearest that is.
    pub fn named(name: &str) -> Result<Self, Unknown> {
        Self::known(name).ok_or_else(|| Unknown { name: quote(name), near: nearest(name) })
    }

    fn known(name: &str) -> Option<Self> {
        let metric = |unit, better, source| Some(Self { name: name.to_owned(), unit, better, source });
        if let Some((_, unit, better, of, over, times, _)) = RATIOS.iter().find(|row| row.0 == name) {
            return metric(*unit, *better, Source::Ratio { of: *of, over: *over, times: *times });
        }
        if let Some((_, unit, source, _)) = OTHERS.iter().find(|row| row.0 == name) {
            return metric(*unit, Better::Less, source.clone());
        }
        if let Some((_, better, _)) = COUNTERS.iter().find(|row| row.0 == name) {
            return metric(Unit::Count, *better, Source::Counter(name.to_owned()));
        }
        let delivery = name.strip_prefix("drumfire.").unwrap_or(name).strip_prefix("delivery.");
        if let Some((key, better, _)) = DELIVERIES.iter().find(|row| Some(row.0) == delivery) {
            return metric(Unit::Count, *better, Source::Counter(format!("drumfire.delivery.{key}")));
        }
        let code = name.strip_prefix("http.codes.");
        if code.is_some_and(|code| code.len() == 3 && code.bytes().all(|b| b.is_ascii_digit()))
            || name.strip_prefix("vusers.created_by_name.").is_some_and(|rest| !rest.is_empty())
        {
            return metric(Unit::Count, Better::Neither, Source::Counter(name.to_owned()));
        }
        if name.strip_prefix("errors.").is_some_and(|rest| !rest.is_empty()) {
            return metric(Unit::Count, Better::Less, Source::Counter(name.to_owned()));
        }
        let timed = |statistic| match statistic {
            Statistic::Count => (Unit::Count, Better::Neither),
            _ => (Unit::Milliseconds, Better::Less),
        };
        if let Some(statistic) = Statistic::named(name) {
            let (unit, better) = timed(statistic);
            return metric(unit, better, Source::Answers(statistic));
        }
        let (prefix, statistic) = split(name)?;
        let histogram = histogram(prefix)?;
        let (unit, better) = timed(statistic);
        metric(unit, better, Source::Statistic { histogram, statistic })
    }

    /// The figure, in this metric's unit; `None` when it was not measured.
    pub(crate) fn of(&self, figures: &dyn Figures) -> Option<f64> {
        let memory = |samples: &[ProcessSample]| {
            samples.iter().map(|sample| sample.rss_bytes).max().map(|bytes| bytes as f64 / 1e6)
        };
        match &self.source {
            Source::Statistic { histogram, statistic } => figures.statistic(histogram, *statistic),
            Source::Answers(statistic) => figures.answers(*statistic),
            Source::Counter(name) => counted(figures, name),
            Source::Errors => Some(figures.errors() as f64),
            Source::Ratio { of, over, times } => {
                let over = over.of(figures)?;
                let of = of.of(figures)?;
                (over > 0.0).then_some(of / over * times)
            }
            Source::TargetMemory => memory(figures.target()),
            Source::TesterMemory => memory(figures.tester()),
        }
    }

    /// With its unit, e.g. `4.12 ms`, `300.0/s`, `99.98 %`.
    pub fn text(&self, value: f64) -> String {
        match self.unit {
            Unit::Milliseconds if value.abs() < 0.1 && value != 0.0 => {
                format!("{} µs", figure(value * 1000.0))
            }
            Unit::Milliseconds => latency(value),
            Unit::PerSecond => format!("{}/s", rate(value)),
            Unit::Percent => format!("{} %", share(value)),
            Unit::Count => thousands(value.max(0.0).round() as u64),
            Unit::Megabytes => format!("{} MB", figure(value)),
            Unit::Cores => format!("{} CPU", figure(value)),
        }
    }
}

/// Per cent, with more digits the nearer to 100, where the nines are what matters.
fn share(value: f64) -> String {
    let left = (100.0 - value).abs();
    if left < 1e-9 {
        "100".to_owned()
    } else if left < 0.001 {
        format!("{value:.5}")
    } else if left < 1.0 {
        format!("{value:.3}")
    } else {
        figure(value)
    }
}

/// Histogram and statistic of a name; `p99.9` itself holds a dot.
fn split(name: &str) -> Option<(&str, Statistic)> {
    for long in [".p99.9", ".p99.99"] {
        if let Some(prefix) = name.strip_suffix(long) {
            return Some((prefix, Statistic::named(&long[1..])?));
        }
    }
    let (prefix, statistic) = name.rsplit_once('.')?;
    Some((prefix, Statistic::named(statistic)?))
}

fn histogram(prefix: &str) -> Option<String> {
    if let Some((_, full, _)) = HISTOGRAMS.iter().find(|(short, full, _)| *short == prefix || *full == prefix)
    {
        return Some((*full).to_owned());
    }
    let own = prefix.strip_prefix("drumfire.").unwrap_or(prefix);
    if own.strip_prefix("wait.").is_some_and(|event| !event.is_empty()) {
        return Some(format!("drumfire.{own}"));
    }
    let class = own.strip_prefix("delivery.class.");
    if let Some(class) = class.filter(|class| !class.is_empty()) {
        return Some(format!("{}{class}", names::DELIVERY_CLASS));
    }
    let endpoint = prefix.strip_prefix("plugins.metrics-by-endpoint.response_time.");
    endpoint.is_some_and(|endpoint| !endpoint.is_empty()).then(|| prefix.to_owned())
}

/// Is this the counter of a status that is not below `lowest`?
pub(crate) fn answered(counter: &str, lowest: u16) -> bool {
    let code = counter.strip_prefix("http.codes.").and_then(|code| code.parse::<u16>().ok());
    code.is_some_and(|code| code >= lowest)
}

/// Zero for what can be counted and never was; of deliveries nothing without an account of them.
fn counted(figures: &dyn Figures, name: &str) -> Option<f64> {
    if name.starts_with("drumfire.delivery.") {
        let count = crate::delivery::figures(figures.delivery()?).get(name).copied()?;
        let needs_expectation = name.ends_with(".missing") && figures.delivery()?.expected.is_none();
        return (!needs_expectation).then_some(count as f64);
    }
    Some(figures.counter(name).unwrap_or(0) as f64)
}

impl Sum {
    pub(crate) fn of(self, figures: &dyn Figures) -> Option<f64> {
        Some(match self {
            Self::Counters(names) => {
                let mut sum = 0.0;
                for name in names {
                    sum += counted(figures, name)?;
                }
                sum
            }
            Self::Users => counted(figures, "vusers.created")? + figures.users_before() as f64,
            Self::Errors => figures.errors() as f64,
            Self::HttpAnswers => figures.http_answers(100) as f64,
            Self::ServerErrors => figures.http_answers(500) as f64,
            Self::Fulfilled => {
                let delivery = figures.delivery()?;
                let expected = delivery.expected?;
                expected.saturating_sub(delivery.missing) as f64
            }
            Self::Expected => figures.delivery()?.expected? as f64,
            Self::Seconds => figures.seconds(),
            Self::TargetCpu => cpu_ms(figures.target())?.0,
            Self::TesterCpu => cpu_ms(figures.tester())?.0,
            Self::TargetWatched => cpu_ms(figures.target())?.1,
            Self::TesterWatched => cpu_ms(figures.tester())?.1,
        })
    }
}

/// Processor time in milliseconds, and over how many seconds. Each sample speaks of the time since the one before.
pub(crate) fn cpu_ms(samples: &[ProcessSample]) -> Option<(f64, f64)> {
    let mut before = None;
    let (mut used, mut watched) = (0.0, 0.0);
    for sample in samples {
        let length = sample.at_s - before.unwrap_or_else(|| (sample.at_s - 1.0).max(0.0));
        before = Some(sample.at_s);
        if length > 0.0 {
            used += sample.threads.iter().map(|(_, cores)| cores).sum::<f64>() * length * 1000.0;
            watched += length;
        }
    }
    (watched > 0.0).then_some((used, watched))
}

/// Every name that can be listed, shortest form.
fn listed() -> Vec<String> {
    let mut all: Vec<String> = RATIOS.iter().map(|row| row.0.to_owned()).collect();
    all.extend(OTHERS.iter().map(|row| row.0.to_owned()));
    all.extend(COUNTERS.iter().map(|row| row.0.to_owned()));
    all.extend(DELIVERIES.iter().map(|row| format!("delivery.{}", row.0)));
    all
}

fn nearest(name: &str) -> Option<String> {
    // Longer than all of them by far: comparing would take its time for nothing.
    if name.len() > 200 {
        return None;
    }
    let all = listed();
    if let Some(near) = suggestion(name, all.iter().map(String::as_str)) {
        return Some(near.to_owned());
    }
    // A typo in the histogram, or in the statistic.
    let (prefix, statistic) = name.rsplit_once('.')?;
    let histograms = || HISTOGRAMS.iter().flat_map(|(short, full, _)| [*short, *full]);
    match (histograms().any(|known| known == prefix), STATISTICS.contains(&statistic)) {
        (true, false) => {
            let near = suggestion(statistic, STATISTICS).unwrap_or("p99");
            Some(format!("{prefix}.{near}"))
        }
        (false, true) => suggestion(prefix, histograms()).map(|near| format!("{near}.{statistic}")),
        (false, false) => {
            let near = suggestion(prefix, histograms())?;
            Some(format!("{near}.{}", suggestion(statistic, STATISTICS)?))
        }
        (true, true) => None,
    }
}

// ------------------------------------------------------------------------------------------------- where figures stand

/// A run that has just ended, or a stretch of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Totals<'a> {
    pub(crate) total: &'a Window,
    /// Users at work when it began: none, unless it is a stretch.
    pub(crate) users_before: u64,
    pub(crate) delivery: Option<&'a Delivery>,
    pub(crate) target: &'a [ProcessSample],
    pub(crate) tester: &'a [ProcessSample],
}

impl Figures for Totals<'_> {
    fn counter(&self, name: &str) -> Option<u64> {
        self.total.counters.get(name).copied()
    }

    fn errors(&self) -> u64 {
        self.total
            .counters
            .iter()
            .filter(|(name, _)| name.starts_with("errors."))
            .fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }

    fn http_answers(&self, lowest: u16) -> u64 {
        let count = |(name, count): (&String, &u64)| answered(name, lowest).then_some(*count);
        self.total.counters.iter().filter_map(count).sum()
    }

    fn statistic(&self, histogram: &str, statistic: Statistic) -> Option<f64> {
        statistic_ms(self.total.histograms.get(histogram)?, statistic)
    }

    fn answers(&self, statistic: Statistic) -> Option<f64> {
        let mut all: Option<Histogram<u64>> = None;
        for name in [names::HTTP_RESPONSE_TIME, names::SOCKETIO_RESPONSE_TIME] {
            if let Some(histogram) = self.total.histograms.get(name) {
                match &mut all {
                    Some(all) => all.add(histogram).expect("both grow"),
                    None => all = Some(histogram.clone()),
                }
            }
        }
        statistic_ms(&all?, statistic)
    }

    fn seconds(&self) -> f64 {
        self.total.length_s.max(1.0)
    }

    fn users_before(&self) -> u64 {
        self.users_before
    }

    fn delivery(&self) -> Option<&Delivery> {
        self.delivery
    }

    fn target(&self) -> &[ProcessSample] {
        self.target
    }

    fn tester(&self) -> &[ProcessSample] {
        self.tester
    }
}

/// A result file, whichever program wrote it.
impl Figures for Loaded {
    fn counter(&self, name: &str) -> Option<u64> {
        let counted = self.total.counters.get(name).copied();
        // Artillery 1 counts all engines' requests together.
        let all = (self.origin == Origin::ArtilleryV1 && name == "http.requests")
            .then_some(self.total.requests_started);
        counted.or(all)
    }

    fn errors(&self) -> u64 {
        self.total.error_count()
    }

    fn http_answers(&self, lowest: u16) -> u64 {
        let codes = self.total.codes.iter();
        // Artillery 1 has messages of the socket engines among them, as `0`.
        codes.filter(|(code, _)| code.parse().is_ok_and(|code: u16| code >= lowest)).map(|(_, n)| n).sum()
    }

    fn statistic(&self, histogram: &str, statistic: Statistic) -> Option<f64> {
        if let Some(run) = &self.run {
            return statistic_ms(run.histograms.get(histogram)?, statistic);
        }
        of_summary(self.total.summary(histogram)?, statistic)
    }

    fn answers(&self, statistic: Statistic) -> Option<f64> {
        of_summary(self.total.answered.as_ref()?, statistic)
    }

    fn seconds(&self) -> f64 {
        self.elapsed_s()
    }

    fn delivery(&self) -> Option<&Delivery> {
        self.run.as_ref()?.delivery.as_ref()
    }

    fn target(&self) -> &[ProcessSample] {
        self.run.as_ref().and_then(|run| run.target.as_ref()).map_or(&[], |target| &target.samples)
    }

    fn tester(&self) -> &[ProcessSample] {
        self.run.as_ref().map_or(&[], |run| &run.tester)
    }
}

/// A statistic of a histogram in milliseconds (`count` is a count). A bucket's upper edge may lie above the highest value
/// recorded; a percentile never does.
pub(crate) fn statistic_ms(histogram: &Histogram<u64>, statistic: Statistic) -> Option<f64> {
    if histogram.is_empty() {
        return None;
    }
    let max = histogram.max() as f64 / 1000.0;
    Some(match statistic {
        Statistic::Min => histogram.min() as f64 / 1000.0,
        Statistic::Max => max,
        Statistic::Mean => histogram.mean() / 1000.0,
        Statistic::Deviation => histogram.stdev() / 1000.0,
        Statistic::Count => histogram.len() as f64,
        Statistic::Quantile(quantile) => (histogram.value_at_quantile(quantile) as f64 / 1000.0).min(max),
    })
}

fn of_summary(summary: &Summary, statistic: Statistic) -> Option<f64> {
    match statistic {
        Statistic::Min => Some(summary.min),
        Statistic::Max => Some(summary.max),
        Statistic::Mean => summary.mean,
        Statistic::Deviation => None,
        Statistic::Count => summary.count.map(|count| count as f64),
        Statistic::Quantile(quantile) => {
            [
                (0.5, Some(summary.median)),
                (0.75, summary.p75),
                (0.9, summary.p90),
                (0.95, Some(summary.p95)),
                (0.99, Some(summary.p99)),
                (0.999, summary.p999),
            ]
            .into_iter()
            .find(|(known, _)| (known - quantile).abs() < 1e-9)?
            .1
        }
    }
}

// ------------------------------------------------------------------------------------------------------------ document

/// docs/metrics.md.
pub fn document() -> String {
    let mut text = String::from(
        "# Names of figures\n\n\
         <!-- Written from crates/load-tester/src/metric.rs by the test `the_list_of_metrics_is_current`: \
         UPDATE_DOCS=1 cargo test -p load-tester metric -->\n\n\
         What `ensure`, `drumfire compare` and `drumfire limit --until` may ask for. Times are in milliseconds; an \
         expression also takes `250us`, `100ms`, `2s`, `1min`, `99.9%`, `300/s`, `64MB`.\n\n\
         A figure that was not measured is unknown, not zero: a limit on it fails and says so.\n\n\
         ## Figures\n\n| name | unit | better | what it is |\n| --- | --- | --- | --- |\n",
    );
    let better = |better| match better {
        Better::Less => "less",
        Better::More => "more",
        Better::Neither => "",
    };
    for (name, unit, direction, .., what) in RATIOS {
        let _ = writeln!(text, "| `{name}` | {} | {} | {what} |", unit.name(), better(*direction));
    }
    for (name, unit, _, what) in OTHERS {
        let _ = writeln!(text, "| `{name}` | {} | less | {what} |", unit.name());
    }
    for (name, direction, what) in DELIVERIES {
        let _ = writeln!(text, "| `delivery.{name}` | count | {} | {what} |", better(*direction));
    }
    for (name, direction, what) in COUNTERS {
        let _ = writeln!(text, "| `{name}` | count | {} | {what} |", better(*direction));
    }
    text.push_str(
        "| `http.codes.NNN` | count | | answers with this status |\n\
         | `errors.NAME` | count | less | one kind of error, e.g. `errors.ECONNREFUSED` |\n\
         | `vusers.created_by_name.NAME` | count | | users of one scenario |\n\n\
         ## Distributions\n\n\
         `NAME.STATISTIC`, in milliseconds. Statistics: ",
    );
    let statistics: Vec<String> = STATISTICS.iter().map(|name| format!("`{name}`")).collect();
    text.push_str(&statistics.join(", "));
    text.push_str(".\n\n| name | in full | what it is |\n| --- | --- | --- |\n");
    for (short, full, what) in HISTOGRAMS {
        let full = if short == full { String::new() } else { format!("`{full}`") };
        let _ = writeln!(text, "| `{short}` | {full} | {what} |");
    }
    text.push_str(
        "| `delivery.class.NAME` | `drumfire.delivery.class.NAME` | `delivery` of one group of listeners |\n\
         | `wait.EVENT` | `drumfire.wait.EVENT` | how long a `wait` for it lasted; of plain WebSockets `wait.frame` |\n\
         | `plugins.metrics-by-endpoint.response_time.NAME` | | one endpoint, e.g. `'...response_time.GET /'.p99` in quotes |\n\
         | a statistic alone, e.g. `p99` | | all answers together: Artillery 1's `latency` |\n",
    );
    text
}

impl Unit {
    /// What is written behind a plain number of it.
    pub(crate) fn after_figure(self) -> &'static str {
        match self {
            Self::Milliseconds => " ms",
            Self::PerSecond => "/s",
            Self::Percent => " %",
            Self::Count => "",
            Self::Megabytes => " MB",
            Self::Cores => " CPU",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Milliseconds => "ms",
            Self::PerSecond => "/s",
            Self::Percent => "%",
            Self::Count => "count",
            Self::Megabytes => "MB",
            Self::Cores => "cores (CPU)",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_name_is_known_and_short_and_full_names_are_one() {
        for name in listed() {
            assert!(Metric::named(&name).is_ok(), "{name}");
        }
        for (short, full, _) in HISTOGRAMS {
            for statistic in STATISTICS {
                let source = |prefix: &str| Metric::named(&format!("{prefix}.{statistic}")).unwrap().source;
                assert_eq!(source(short), source(full), "{short}.{statistic}");
            }
        }
        let same =
            |a: &str, b: &str| assert_eq!(Metric::named(a).unwrap().source, Metric::named(b).unwrap().source);
        same("delivery.p99.9", "drumfire.delivery.p999");
        same("delivery.missing", "drumfire.delivery.missing");
        same("delivery.median", "drumfire.delivery.p50");
        same("delivery.class.near.p99", "drumfire.delivery.class.near.p99");
        same("wait.new_msg.p99", "drumfire.wait.new_msg.p99");
    }

    #[test]
    fn a_typo_is_answered_with_the_name_that_was_meant() {
        for (typo, meant) in [
            ("delivery.p98", Some("delivery.p90")),
            ("delivrey.p99", Some("delivery.p99")),
            ("delivery.completenes", Some("delivery.completeness")),
            ("http.respons_time.p99", Some("http.response_time.p99")),
            ("respnse_from_due.p95", Some("response_from_due.p95")),
            ("delivery.mising", Some("delivery.missing")),
            ("rate.user", Some("rate.users")),
            ("nothing of the kind", None),
        ] {
            let unknown = Metric::named(typo).unwrap_err();
            assert_eq!(unknown.near.as_deref(), meant, "{typo}");
        }
    }

    #[test]
    fn figures_are_printed_with_their_unit() {
        let text = |name: &str, value: f64| Metric::named(name).unwrap().text(value);
        assert_eq!(text("delivery.p99", 4.123), "4.12 ms");
        assert_eq!(text("delivery.p99", 5500.0), "5.50 s");
        assert_eq!(text("target.cpu_per_delivery", 0.0123), "12.3 µs");
        assert_eq!(text("rate.users", 300.04), "300.0/s");
        assert_eq!(text("delivery.completeness", 99.98), "99.980 %");
        assert_eq!(text("delivery.completeness", 100.0), "100 %");
        assert_eq!(text("errors.share", 0.0), "0 %");
        assert_eq!(text("errors", 1234.0), "1,234");
    }

    #[test]
    fn processor_time_is_use_times_the_time_since_the_sample_before() {
        let sample = |at_s, used| ProcessSample {
            at_s,
            threads: vec![("a".into(), used), ("b".into(), 0.5)],
            rss_bytes: 5_000_000,
            open_files: 0,
        };
        assert_eq!(cpu_ms(&[sample(1.0, 0.5), sample(3.0, 1.0)]), Some((1000.0 + 3000.0, 3.0)));
        assert_eq!(cpu_ms(&[]), None);
    }

    #[test]
    fn the_list_of_metrics_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, document()).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            written == document(),
            "docs/metrics.md is out of date: UPDATE_DOCS=1 cargo test -p load-tester metric"
        );
    }
}
