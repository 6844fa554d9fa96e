//! What the threads measure: a recorder for each, without locks, handed over once a second to one collector.
//!
//! Counters and histograms have numbers, not names, while the run goes on. Only the collector knows the names.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer as _, V2DeflateSerializer};
use rustc_hash::FxHashMap;
use socketio_client::Stage;

use crate::delivery::{Presence, Stand};
use crate::outcome::{ErrorGroup, Nanos, Window, names};

pub(crate) use late::LateTimes;

mod late;

/// A counter known before the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Count {
    UsersCreated,
    UsersCompleted,
    UsersFailed,
    UsersSkipped,
    HttpRequests,
    HttpResponses,
    DownloadedBytes,
    Emits,
    ExpectOk,
    ExpectFailed,
    Upgrades,
    UpgradesFailed,
    ConfirmedEmits,
    UnconfirmedEmits,
}

/// The names of [`Count`]; `None` is for the run's metadata and no counter of the report.
const COUNT_NAMES: [Option<&str>; 14] = [
    Some("vusers.created"),
    Some("vusers.completed"),
    Some("vusers.failed"),
    Some("vusers.skipped"),
    Some("http.requests"),
    Some("http.responses"),
    Some("http.downloaded_bytes"),
    Some("socketio.emit"),
    Some("plugins.expect.ok"),
    Some("plugins.expect.failed"),
    Some("socketio.upgrades"),
    Some("socketio.upgrades_failed"),
    None,
    None,
];

/// Counters that are shown even when nothing counted.
const ALWAYS: [Count; 3] = [Count::UsersCreated, Count::UsersCompleted, Count::UsersFailed];

/// A histogram known before the run; those of endpoints follow after the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Time {
    HttpResponse,
    Http2xx,
    Http3xx,
    Http4xx,
    Http5xx,
    HttpTotal,
    SocketResponse,
    ResponseFromDue,
    StartLateness,
    SessionLength,
    /// In the order of `socketio_client::Stage::ALL`.
    ConnectStages,
    ConnectTotal = Time::ConnectStages as usize + names::CONNECT_STAGES.len(),
    Upgrade,
    ListenerConnect,
    Delivery,
    DeliveryFromDue,
    DeliveryFirst,
    DeliveryMedian,
    DeliveryLast,
}

const FIXED_TIMES: usize = Time::DeliveryLast as usize + 1;

fn fixed_time_names() -> Vec<String> {
    let mut all: Vec<String> = [
        names::HTTP_RESPONSE_TIME,
        "http.response_time.2xx",
        "http.response_time.3xx",
        "http.response_time.4xx",
        "http.response_time.5xx",
        "http.total",
        names::SOCKETIO_RESPONSE_TIME,
        names::RESPONSE_FROM_DUE,
        names::START_LATENESS,
        names::SESSION_LENGTH,
    ]
    .map(String::from)
    .to_vec();
    all.extend(names::CONNECT_STAGES.map(String::from));
    all.extend(
        [
            names::CONNECT_TOTAL,
            names::UPGRADE_TIME,
            names::LISTENER_CONNECT,
            names::DELIVERY,
            names::DELIVERY_FROM_DUE,
            names::DELIVERY_FIRST,
            names::DELIVERY_MEDIAN,
            names::DELIVERY_LAST,
        ]
        .map(String::from),
    );
    debug_assert_eq!(all.len(), FIXED_TIMES);
    all
}

/// A counter made for this run, from [`Names::counter`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CounterId(usize);

/// A histogram made for this run, from [`Names::time`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimeId(usize);

/// A place in the script where something can fail, from [`Names::step`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct StepId(pub(crate) u32);

/// The words behind the numbers; complete before the first thread starts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names {
    steps: Vec<(String, String)>,
    counters: Vec<String>,
    times: Vec<String>,
    scenarios: Vec<String>,
}

impl Names {
    /// A step of the script: `emit save_msg (line 14)`, and whom it addresses.
    pub(crate) fn step(&mut self, label: String, endpoint: String) -> StepId {
        self.steps.push((label, endpoint));
        StepId(u32::try_from(self.steps.len() - 1).unwrap_or(u32::MAX))
    }

    /// A counter of the report beside those of [`Count`]; the same name is the same counter.
    pub(crate) fn counter(&mut self, name: &str) -> CounterId {
        CounterId(number_of(&mut self.counters, name))
    }

    /// A histogram of the report beside those of [`Time`]; the same name is the same histogram.
    pub(crate) fn time(&mut self, name: &str) -> TimeId {
        TimeId(FIXED_TIMES + number_of(&mut self.times, name))
    }

    /// The response times of one HTTP endpoint, under Artillery's name for them.
    pub(crate) fn endpoint(&mut self, name: &str) -> TimeId {
        self.time(&format!("plugins.metrics-by-endpoint.response_time.{name}"))
    }

    pub(crate) fn scenario(&mut self, name: String) -> usize {
        self.scenarios.push(name);
        self.scenarios.len() - 1
    }

    pub(crate) fn step_label(&self, step: StepId) -> &str {
        &self.steps[step.0 as usize].0
    }
}

/// Where a name stands in the list, at whose end it is put when it is new.
fn number_of(known: &mut Vec<String>, name: &str) -> usize {
    known.iter().position(|one| one == name).unwrap_or_else(|| {
        known.push(name.to_owned());
        known.len() - 1
    })
}

/// One delivered message as its hearer saw it: which, who, and how long after it was sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heard {
    pub(crate) message: u32,
    pub(crate) listener: u32,
    /// Or [`Heard::CAUGHT_UP`] or [`Heard::FORGOTTEN`].
    pub(crate) after_us: u32,
}

impl Heard {
    /// In place of a time: the hearer had been away, and got it when it came back.
    pub(crate) const CAUGHT_UP: u32 = u32::MAX;
    /// In place of a time: so long after it was judged that nobody knows any more when it was sent, or whether it had
    /// been heard before.
    pub(crate) const FORGOTTEN: u32 = u32::MAX - 1;

    /// How long after it was sent, where that is known and it was delivered at once.
    pub(crate) fn took(&self) -> Option<u32> {
        (self.after_us < Self::FORGOTTEN).then_some(self.after_us)
    }
}

/// How often an `expect` held, and what was seen once where it did not.
#[derive(Debug, Clone, Default)]
pub(crate) struct Expected {
    pub(crate) held: u64,
    pub(crate) failed: u64,
    pub(crate) seen: String,
}

/// Above this many causes at one step the rest is counted together.
const MOST_CAUSES_PER_STEP: usize = 200;
const MOST_SAMPLE_BYTES: usize = 1024;

#[derive(Debug, Clone)]
struct ErrorRow {
    cause: String,
    code: String,
    sample: String,
    count: u64,
    first: Nanos,
    last: Nanos,
}

/// What one thread measured since it last handed over.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    counts: [u64; COUNT_NAMES.len()],
    /// By [`CounterId`].
    named: Vec<u64>,
    codes: Vec<(u16, u64)>,
    scenarios: Vec<u64>,
    /// Made when first used: most runs touch few of them.
    times: Vec<Option<Box<Histogram<u32>>>>,
    errors: FxHashMap<StepId, Vec<ErrorRow>>,
    /// A handful of names at most in a sane run; the busiest moves to the front.
    server_events: Vec<(Box<str>, u64)>,
    more_server_events: FxHashMap<Box<str>, u64>,
    pub(crate) heard: Vec<Heard>,
    /// Heard after the message had been judged.
    pub(crate) late: Vec<Heard>,
    /// Copies of what a listener had heard already: message and listener.
    pub(crate) again: Vec<(u32, u32)>,
    /// Listeners that heard a message after a later one of the same sender.
    pub(crate) out_of_order: Vec<u32>,
    /// Acks of stamped messages: which, and how many microseconds after it was sent.
    pub(crate) acked: Vec<(u32, u32)>,
    /// Listeners that the script took away, and that are back.
    pub(crate) presences: Vec<(u32, Presence)>,
    /// Where listeners went, by their numbers; twice for each step: when it was asked for, and when it was confirmed.
    pub(crate) stands: Vec<(u32, Stand)>,
    expectations: FxHashMap<StepId, Expected>,
    /// Users and sockets alive at hand-over.
    pub(crate) users: u64,
    pub(crate) connections: u64,
}

impl Recorder {
    pub(crate) fn count(&mut self, what: Count) {
        self.counts[what as usize] += 1;
    }

    pub(crate) fn count_by(&mut self, what: Count, by: u64) {
        self.counts[what as usize] += by;
    }

    pub(crate) fn add(&mut self, what: CounterId, by: u64) {
        if self.named.len() <= what.0 {
            self.named.resize(what.0 + 1, 0);
        }
        self.named[what.0] += by;
    }

    pub(crate) fn scenario(&mut self, scenario: usize) {
        if self.scenarios.len() <= scenario {
            self.scenarios.resize(scenario + 1, 0);
        }
        self.scenarios[scenario] += 1;
    }

    pub(crate) fn http_code(&mut self, code: u16) {
        match self.codes.iter_mut().find(|(known, _)| *known == code) {
            Some((_, count)) => *count += 1,
            None => self.codes.push((code, 1)),
        }
    }

    pub(crate) fn time(&mut self, what: Time, took: Duration) {
        self.record(what as usize, took);
    }

    /// A stage of a connect.
    pub(crate) fn stage(&mut self, stage: Stage, took: Duration) {
        // `Stage::ALL` is in the order of the variants.
        self.record(Time::ConnectStages as usize + stage as usize, took);
    }

    pub(crate) fn time_of(&mut self, what: TimeId, took: Duration) {
        self.record(what.0, took);
    }

    fn record(&mut self, index: usize, took: Duration) {
        if self.times.len() <= index {
            self.times.resize_with(index + 1, || None);
        }
        let histogram = self.times[index].get_or_insert_with(|| Box::new(new_histogram()));
        histogram.record(micros(took)).expect("it grows");
    }

    /// `cause` and `code` must not hold what differs from user to user; `sample` is asked for once per cause.
    pub(crate) fn error(
        &mut self,
        at: Nanos,
        step: StepId,
        cause: &str,
        code: &str,
        sample: impl FnOnce() -> String,
    ) {
        let rows = self.errors.entry(step).or_default();
        if let Some(row) = rows.iter_mut().find(|row| row.cause == cause) {
            row.count += 1;
            row.last = at;
            return;
        }
        let cause = if rows.len() < MOST_CAUSES_PER_STEP { cause } else { "other causes" };
        if let Some(row) = rows.iter_mut().find(|row| row.cause == cause) {
            row.count += 1;
            row.last = at;
            return;
        }
        let mut sample = sample();
        cut(&mut sample, MOST_SAMPLE_BYTES);
        rows.push(ErrorRow {
            cause: cause.to_owned(),
            code: code.to_owned(),
            sample,
            count: 1,
            first: at,
            last: at,
        });
    }

    /// An `expect` was looked at; `Err` holds what was seen instead.
    pub(crate) fn expectation(&mut self, id: StepId, verdict: Result<(), String>) {
        let expected = self.expectations.entry(id).or_default();
        match verdict {
            Ok(()) => expected.held += 1,
            Err(seen) => {
                expected.failed += 1;
                if expected.seen.is_empty() {
                    expected.seen = seen;
                }
            }
        }
    }

    /// Counts an event of the server by its name.
    pub(crate) fn server_event(&mut self, name: &str) {
        if let Some((_, count)) = self.server_events.iter_mut().find(|(known, _)| **known == *name) {
            *count += 1;
        } else if self.server_events.len() < 8 {
            self.server_events.push((name.into(), 1));
        } else if let Some(count) = self.more_server_events.get_mut(name) {
            *count += 1;
        } else if self.more_server_events.len() < 10_000 {
            self.more_server_events.insert(name.into(), 1);
        } else {
            *self.more_server_events.entry("(more names)".into()).or_default() += 1;
        }
    }

    /// Takes over what of the time before the first phase belongs to the run: errors, how listeners connected, what was
    /// made for this run by name, and what was heard already of the messages of a thread that was quicker to begin.
    pub(crate) fn begin_with(&mut self, mut before: Self) {
        for index in [Time::ListenerConnect as usize].into_iter().chain(FIXED_TIMES..before.times.len()) {
            if let Some(times) = before.times.get_mut(index).and_then(Option::take) {
                if self.times.len() <= index {
                    self.times.resize_with(index + 1, || None);
                }
                self.times[index] = Some(times);
            }
        }
        self.named = before.named;
        self.errors = before.errors;
        self.heard = before.heard;
        self.stands = before.stands;
        self.late = before.late;
        self.again = before.again;
        self.out_of_order = before.out_of_order;
        self.acked = before.acked;
        self.presences = before.presences;
    }

    /// Ready for the next second, keeping what it has allocated.
    pub(crate) fn clear(&mut self) {
        self.counts = Default::default();
        self.named.clear();
        self.codes.clear();
        self.scenarios.clear();
        for histogram in self.times.iter_mut().flatten() {
            histogram.reset();
        }
        self.errors.clear();
        for (_, count) in &mut self.server_events {
            *count = 0;
        }
        self.more_server_events.clear();
        self.heard.clear();
        self.late.clear();
        self.again.clear();
        self.out_of_order.clear();
        self.acked.clear();
        self.presences.clear();
        self.stands.clear();
        self.expectations.clear();
        self.users = 0;
        self.connections = 0;
    }
}

/// Grows with what it meets; 3 significant digits.
fn new_histogram() -> Histogram<u32> {
    Histogram::new(3).expect("3 digits are allowed")
}

fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX).min(24 * 3600 * 1_000_000)
}

/// Cuts at a character's edge.
pub(crate) fn cut(text: &mut String, most: usize) {
    if text.len() > most {
        let end = (0..=most).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
}

/// The one reader: adds what the threads hand over to seconds and totals.
#[derive(Debug)]
pub(crate) struct Collector {
    names: Names,
    time_names: Vec<String>,
    workers: usize,
    /// The oldest seconds of a long run, so many in one.
    folded: Vec<Folded>,
    fold_by: Option<usize>,
    /// Number of the first of `seconds`.
    first: usize,
    seconds: VecDeque<Second>,
    /// Seconds every thread has handed over, in order, the folded ones among them.
    complete: usize,
    /// Window length of the final, partial second.
    total: Totals,
    errors: BTreeMap<(StepId, String), ErrorGroup>,
    pub(crate) server_events: BTreeMap<String, u64>,
    pub(crate) scenario_counts: BTreeMap<String, u64>,
    pub(crate) confirmed: u64,
    pub(crate) unconfirmed: u64,
    /// By the label of the expectation.
    pub(crate) expectations: BTreeMap<String, Expected>,
}

#[derive(Debug)]
struct Second {
    window: Window,
    handed_over: usize,
}

/// A window put away: its histograms are a twentieth as large deflated, and nobody looks at them before the run is over.
#[derive(Debug)]
struct Folded {
    window: Window,
    histograms: Vec<(String, Box<[u8]>)>,
}

impl Folded {
    fn of(mut window: Window) -> Self {
        let mut serializer = V2DeflateSerializer::new();
        let histograms = std::mem::take(&mut window.histograms).into_iter().map(|(name, histogram)| {
            let mut bytes = Vec::new();
            serializer.serialize(&histogram, &mut bytes).expect("a Vec takes everything");
            (name, bytes.into_boxed_slice())
        });
        Self { histograms: histograms.collect(), window }
    }

    fn unfold(mut self) -> Window {
        let mut deserializer = Deserializer::new();
        self.window.histograms = self
            .histograms
            .into_iter()
            .map(|(name, bytes)| (name, deserializer.deserialize(&mut &*bytes).expect("as it was put away")))
            .collect();
        self.window
    }
}

#[derive(Debug)]
struct Totals {
    counters: BTreeMap<String, u64>,
    histograms: Vec<Option<Histogram<u64>>>,
    most_users: u64,
    most_connections: u64,
}

impl Collector {
    pub(crate) fn new(names: Names, workers: usize) -> Self {
        let mut time_names = fixed_time_names();
        time_names.extend(names.times.iter().cloned());
        let counters = ALWAYS
            .iter()
            .filter_map(|&count| COUNT_NAMES[count as usize])
            .map(|name| (name.into(), 0))
            .collect();
        let scenario_counts = names.scenarios.iter().map(|name| (name.clone(), 0)).collect();
        Self {
            total: Totals {
                counters,
                histograms: vec![None; time_names.len()],
                most_users: 0,
                most_connections: 0,
            },
            names,
            time_names,
            workers,
            folded: Vec::new(),
            fold_by: None,
            first: 0,
            seconds: VecDeque::new(),
            complete: 0,
            errors: BTreeMap::new(),
            server_events: BTreeMap::new(),
            scenario_counts,
            confirmed: 0,
            unconfirmed: 0,
            expectations: BTreeMap::new(),
        }
    }

    /// Adds what one thread measured in the given second of the run; answers how many seconds are now whole.
    pub(crate) fn add(&mut self, second: usize, recorder: &Recorder) -> usize {
        self.second(second).handed_over += 1;
        self.merge(second, recorder, true);
        while let Some(second) = self.seconds.get(self.complete - self.first)
            && second.handed_over >= self.workers
        {
            let window = &second.window;
            self.total.most_users = self.total.most_users.max(window.concurrent_users);
            self.total.most_connections = self.total.most_connections.max(window.connections);
            self.complete += 1;
        }
        self.complete
    }

    /// Errors of the time before the first phase: listeners that could not stand, a `before` that failed.
    pub(crate) fn add_errors(&mut self, recorder: &Recorder) {
        self.merge_errors(None, recorder);
    }

    /// Of a long run only the last seconds are kept apart: older ones are folded, so many into one.
    pub(crate) fn fold_by(&mut self, seconds: usize) {
        self.fold_by = Some(seconds);
    }

    /// Folds what is older than second `before`; nobody may ask for it any more.
    pub(crate) fn fold(&mut self, before: usize) {
        let Some(by) = self.fold_by else { return };
        while self.first + by <= before.min(self.complete) {
            let window = merge_windows(self.seconds.iter().take(by).map(|second| &second.window));
            self.folded.extend(window.map(Folded::of));
            self.seconds.drain(..by);
            self.first += by;
        }
    }

    /// A second that is not folded.
    fn second(&mut self, number: usize) -> &mut Second {
        let index = number.saturating_sub(self.first);
        while self.seconds.len() <= index {
            let window = Window {
                start_s: (self.first + self.seconds.len()) as f64,
                length_s: 1.0,
                counters: BTreeMap::new(),
                histograms: BTreeMap::new(),
                concurrent_users: 0,
                connections: 0,
            };
            self.seconds.push_back(Second { window, handed_over: 0 });
        }
        &mut self.seconds[index]
    }

    fn merge(&mut self, second: usize, recorder: &Recorder, gauges: bool) {
        let window = &mut self.seconds[second - self.first].window;
        let total = &mut self.total;
        let mut add = |name: &str, by: u64| {
            if by > 0 {
                for counters in [&mut window.counters, &mut total.counters] {
                    match counters.get_mut(name) {
                        Some(count) => *count += by,
                        None => drop(counters.insert(name.to_owned(), by)),
                    }
                }
            }
        };
        for (name, &by) in COUNT_NAMES.iter().zip(&recorder.counts) {
            if let Some(name) = name {
                add(name, by);
            }
        }
        for (name, &by) in self.names.counters.iter().zip(&recorder.named) {
            add(name, by);
        }
        for &(code, by) in &recorder.codes {
            add(&format!("http.codes.{code}"), by);
        }
        for (index, &by) in recorder.scenarios.iter().enumerate() {
            let name = &self.names.scenarios[index];
            add(&format!("vusers.created_by_name.{name}"), by);
            *self.scenario_counts.entry(name.clone()).or_default() += by;
        }
        for (index, histogram) in recorder.times.iter().enumerate() {
            if let Some(histogram) = histogram.as_ref().filter(|histogram| !histogram.is_empty()) {
                let total = total.histograms[index].get_or_insert_with(new_total);
                let name = &self.time_names[index];
                if !window.histograms.contains_key(name) {
                    window.histograms.insert(name.clone(), new_second());
                }
                let second = window.histograms.get_mut(name).expect("just put there");
                for step in histogram.iter_recorded() {
                    let (value, count) = (step.value_iterated_to(), step.count_since_last_iteration());
                    total.record_n(value, count).expect("it grows");
                    second.record_n(value, count).expect("it grows");
                }
            }
        }
        if gauges {
            window.concurrent_users += recorder.users;
            window.connections += recorder.connections;
        }
        for (name, by) in &recorder.server_events {
            if *by > 0 {
                *self.server_events.entry(name.to_string()).or_default() += by;
            }
        }
        for (name, by) in &recorder.more_server_events {
            *self.server_events.entry(name.to_string()).or_default() += by;
        }
        self.confirmed += recorder.counts[Count::ConfirmedEmits as usize];
        self.unconfirmed += recorder.counts[Count::UnconfirmedEmits as usize];
        for (&id, seen) in &recorder.expectations {
            let all = self.expectations.entry(self.names.step_label(id).to_owned()).or_default();
            all.held += seen.held;
            all.failed += seen.failed;
            if all.seen.is_empty() {
                all.seen.clone_from(&seen.seen);
            }
        }
        self.merge_errors(Some(second), recorder);
    }

    fn merge_errors(&mut self, second: Option<usize>, recorder: &Recorder) {
        for (&step, rows) in &recorder.errors {
            for row in rows {
                let name = format!("errors.{}", row.code);
                *self.total.counters.entry(name.clone()).or_default() += row.count;
                if let Some(second) = second {
                    let window = &mut self.seconds[second - self.first].window;
                    *window.counters.entry(name).or_default() += row.count;
                }
                let (first_s, last_s) = (row.first as f64 / 1e9, row.last as f64 / 1e9);
                let group = self.errors.entry((step, row.cause.clone())).or_insert_with(|| {
                    let (label, endpoint) = &self.names.steps[step.0 as usize];
                    ErrorGroup {
                        step: label.clone(),
                        endpoint: endpoint.clone(),
                        cause: row.cause.clone(),
                        code: row.code.clone(),
                        count: 0,
                        sample: row.sample.clone(),
                        first_s,
                        last_s,
                    }
                });
                group.count += row.count;
                if first_s < group.first_s {
                    group.first_s = first_s;
                    group.sample.clone_from(&row.sample);
                }
                group.last_s = group.last_s.max(last_s);
            }
        }
    }

    /// The seconds every thread has handed over, from the given one on, which is not folded.
    pub(crate) fn whole_from(&self, second: usize) -> impl Iterator<Item = &Window> {
        let from = second.saturating_sub(self.first);
        self.seconds.iter().take(self.complete - self.first).skip(from).map(|second| &second.window)
    }

    /// Everything so far.
    pub(crate) fn total(&self, length_s: f64) -> Window {
        let named = self.time_names.iter().zip(&self.total.histograms);
        Window {
            start_s: 0.0,
            length_s,
            counters: self.total.counters.clone(),
            histograms: named
                .filter_map(|(name, histogram)| Some((name.clone(), histogram.clone()?)))
                .collect(),
            concurrent_users: self.total.most_users,
            connections: self.total.most_connections,
        }
    }

    /// The most frequent errors so far.
    pub(crate) fn top_errors(&self, most: usize) -> Vec<ErrorGroup> {
        let mut errors: Vec<&ErrorGroup> = self.errors.values().collect();
        errors.sort_by_key(|error| std::cmp::Reverse(error.count));
        errors.into_iter().take(most).cloned().collect()
    }

    /// The run is over: its seconds (the last cut to `length_s`) and errors, most frequent first.
    pub(crate) fn finish(&mut self, length_s: f64) -> (Vec<Window>, Vec<ErrorGroup>) {
        let mut seconds: Vec<Window> =
            std::mem::take(&mut self.folded).into_iter().map(Folded::unfold).collect();
        seconds.extend(std::mem::take(&mut self.seconds).into_iter().map(|second| second.window));
        (self.first, self.complete) = (0, 0);
        if let Some(last) = seconds.last_mut() {
            last.length_s = (length_s - last.start_s).clamp(0.001, 1.0);
        }
        let mut errors: Vec<ErrorGroup> = std::mem::take(&mut self.errors).into_values().collect();
        errors.sort_by(|a, b| {
            b.count.cmp(&a.count).then_with(|| a.step.cmp(&b.step)).then_with(|| a.cause.cmp(&b.cause))
        });
        (seconds, errors)
    }
}

/// Several windows as one: the reporting window of 10 s from its seconds.
pub(crate) fn merge_windows<'a>(windows: impl IntoIterator<Item = &'a Window>) -> Option<Window> {
    let mut windows = windows.into_iter();
    let mut merged = windows.next()?.clone();
    for window in windows {
        merged.length_s += window.length_s;
        for (name, by) in &window.counters {
            *merged.counters.entry(name.clone()).or_default() += by;
        }
        for (name, histogram) in &window.histograms {
            merged
                .histograms
                .entry(name.clone())
                .and_modify(|sum| sum.add(histogram).expect("both grow"))
                .or_insert_with(|| histogram.clone());
        }
        merged.concurrent_users = window.concurrent_users;
        merged.connections = window.connections;
    }
    Some(merged)
}

fn new_total() -> Histogram<u64> {
    Histogram::new(3).expect("3 digits are allowed")
}

/// Seconds are many: 2 digits (1 %) take a tenth of the memory.
fn new_second() -> Histogram<u64> {
    Histogram::new(2).expect("2 digits are allowed")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> (Names, StepId, TimeId) {
        let mut names = Names::default();
        names.scenario("0".into());
        let step = names.step("emit save_msg (line 3)".into(), "save_msg in /".into());
        let endpoint = names.endpoint("GET /");
        (names, step, endpoint)
    }

    #[test]
    fn stages_are_filed_under_their_names() {
        for stage in Stage::ALL {
            let name = names::CONNECT_STAGES[stage as usize];
            assert_eq!(name, format!("socketio.connect.{stage}"));
            assert_eq!(fixed_time_names()[Time::ConnectStages as usize + stage as usize], name);
        }
    }

    #[test]
    fn threads_add_up_and_a_second_is_whole_when_all_have_handed_it_over() {
        let (names, step, endpoint) = names();
        let mut collector = Collector::new(names, 2);
        let mut a = Recorder::default();
        a.count(Count::UsersCreated);
        a.scenario(0);
        a.http_code(200);
        a.time(Time::HttpResponse, Duration::from_micros(1_500));
        a.time_of(endpoint, Duration::from_micros(1_500));
        a.error(2_000_000, step, "exception 400: lng", "exception 400: lng", || "{}".into());
        a.server_event("exception");
        a.users = 3;
        let mut b = Recorder::default();
        b.count_by(Count::UsersCreated, 2);
        b.error(1_000_000, step, "exception 400: lng", "exception 400: lng", || "earlier".into());
        b.users = 4;
        assert_eq!(collector.add(0, &a), 0);
        assert_eq!(collector.add(0, &b), 1);
        a.clear();
        assert_eq!(collector.add(1, &a), 1);

        let total = collector.total(1.5);
        assert_eq!(total.counters["vusers.created"], 3);
        assert_eq!(total.counters["vusers.failed"], 0);
        assert_eq!(total.counters["http.codes.200"], 1);
        assert_eq!(total.counters["errors.exception 400: lng"], 2);
        assert_eq!(total.histograms[names::HTTP_RESPONSE_TIME].max(), 1_500);
        assert_eq!(total.histograms["plugins.metrics-by-endpoint.response_time.GET /"].len(), 1);
        assert_eq!(total.concurrent_users, 7);
        assert_eq!(collector.server_events["exception"], 1);

        let (seconds, errors) = collector.finish(1.5);
        assert_eq!(seconds.len(), 2);
        assert!((seconds[1].length_s - 0.5).abs() < 1e-9);
        assert_eq!(errors.len(), 1);
        assert_eq!((errors[0].count, errors[0].sample.as_str()), (2, "earlier"));
        assert!((errors[0].first_s - 0.001).abs() < 1e-9 && (errors[0].last_s - 0.002).abs() < 1e-9);
    }

    #[test]
    fn counters_and_times_made_for_a_run_are_told_under_their_names() {
        let (mut names, _, endpoint) = names();
        let lost = names.counter("drumfire.lost");
        let back = names.counter("drumfire.back");
        let wait = names.time("drumfire.wait");
        assert_eq!((names.counter("drumfire.lost"), names.time("drumfire.wait")), (lost, wait));
        assert_ne!(wait, endpoint);
        let mut before = Recorder::default();
        before.add(lost, 1);
        before.time_of(wait, Duration::from_micros(7));
        before.count(Count::HttpRequests);
        let mut recorder = Recorder::default();
        recorder.begin_with(before);
        recorder.add(lost, 4);
        recorder.time_of(wait, Duration::from_micros(9));
        let mut collector = Collector::new(names, 1);
        collector.add(0, &recorder);
        recorder.clear();
        recorder.add(back, 2);
        collector.add(1, &recorder);
        let total = collector.total(2.0);
        assert_eq!((total.counters["drumfire.lost"], total.counters["drumfire.back"]), (5, 2));
        assert!(!total.counters.contains_key("http.requests"));
        assert_eq!(total.histograms["drumfire.wait"].len(), 2);
        let (seconds, _) = collector.finish(2.0);
        assert!(!seconds[1].counters.contains_key("drumfire.lost"));
        assert_eq!(seconds[1].counters["drumfire.back"], 2);
    }

    #[test]
    fn old_seconds_are_folded_and_nothing_of_them_is_lost() {
        let (names, ..) = names();
        let mut collector = Collector::new(names, 1);
        collector.fold_by(10);
        for second in 0..95 {
            let mut recorder = Recorder::default();
            recorder.count(Count::UsersCreated);
            recorder.time(Time::HttpResponse, Duration::from_millis(second as u64 + 1));
            collector.add(second, &recorder);
            assert_eq!(collector.whole_from(second).count(), 1);
            collector.fold(second.saturating_sub(5));
            assert!(collector.seconds.len() < 20);
        }
        assert_eq!(collector.whole_from(90).count(), 5);
        let (seconds, _) = collector.finish(95.0);
        let lengths: Vec<f64> = seconds.iter().map(|window| window.length_s).collect();
        assert_eq!(lengths, [&[10.0; 8][..], &[1.0; 15][..]].concat());
        assert_eq!(seconds.iter().map(|window| window.counters["vusers.created"]).sum::<u64>(), 95);
        let times: u64 =
            seconds.iter().map(|window| window.histograms[names::HTTP_RESPONSE_TIME].len()).sum();
        assert_eq!(times, 95);
        assert_eq!((seconds[1].start_s, seconds[8].start_s), (10.0, 80.0));
    }

    #[test]
    fn a_flood_of_different_causes_is_bounded() {
        let (names, step, _) = names();
        let mut recorder = Recorder::default();
        for i in 0..5_000 {
            recorder.error(i, step, &format!("cause {i}"), "code", String::new);
        }
        let mut collector = Collector::new(names, 1);
        collector.add(0, &recorder);
        let (_, errors) = collector.finish(1.0);
        assert_eq!(errors.iter().map(|group| group.count).sum::<u64>(), 5_000);
        assert_eq!(errors.len(), MOST_CAUSES_PER_STEP + 1);
        assert_eq!(errors[0].cause, "other causes");
    }

    #[test]
    fn every_name_of_the_server_is_counted() {
        let mut recorder = Recorder::default();
        for i in 0..20 {
            for _ in 0..=i {
                recorder.server_event(&format!("event{i}"));
            }
        }
        let (names, ..) = names();
        let mut collector = Collector::new(names, 1);
        collector.add(0, &recorder);
        assert_eq!(collector.server_events.len(), 20);
        assert_eq!(collector.server_events["event19"], 20);
    }

    #[test]
    fn samples_are_cut_at_a_character() {
        let mut text = "확".repeat(500);
        cut(&mut text, 1024);
        assert!(text.len() <= 1024 + '…'.len_utf8());
    }
}
