//! What a run measured, before any output format: the engine fills it, `report/` and `exit` read it.
//!
//! Field names of the types that derive `Serialize` are the field names of the result file's `drumfire` block:
//! renaming one changes the file format.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::script::model::Phase;

/// Nanoseconds of a monotonic clock since the run's start; wall clock is `started_at_ms` plus this.
pub type Nanos = u64;

/// A whole run.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub meta: Meta,
    /// One per second of the run, in order, no gaps (10 s windows are merged from them). In a run of more than ten minutes
    /// all but the last ones are longer: 2 s, 5 s, 10 s or a multiple of that, never across the edge of a 10 s window.
    pub seconds: Vec<Window>,
    /// The sum of all seconds.
    pub total: Window,
    /// Grouped by (step, endpoint, cause), most frequent first.
    pub errors: Vec<ErrorGroup>,
    /// Every event the server sent, by name, listened for or not.
    pub server_events: BTreeMap<String, u64>,
    pub scenario_counts: BTreeMap<String, u64>,
    /// Only with `config.delivery`.
    pub delivery: Option<Delivery>,
    pub target: Option<TargetUse>,
    /// What the target says of its own time, stage by stage in the order a message passes them.
    pub stages: Vec<StageUse>,
    /// Series chosen with `config.monitor`.
    pub monitored: Vec<Monitored>,
    /// The tester's own threads, one sample a second.
    pub tester: Vec<ProcessSample>,
    pub validity: Validity,
    pub checks: Vec<Check>,
    /// Ctrl-C, SIGTERM: what arrived after it did not run.
    pub interrupted: Option<&'static str>,
    /// `--max-duration` ended it after so many seconds: what was due later did not run, and who did not end within the
    /// grace was cut off.
    pub ended_after_s: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Meta {
    /// Random, e.g. `t3f9a...`.
    pub run_id: String,
    pub tool_version: String,
    pub script: String,
    pub script_sha256: String,
    pub target: String,
    pub command_line: String,
    pub seed: u64,
    pub host: String,
    pub workers: usize,
    /// Engine.IO revision spoken (3 or 4), when a socketio scenario ran.
    pub engine_revision: Option<u8>,
    /// Wall clock at the first phase's start, epoch milliseconds.
    pub started_at_ms: u64,
    pub duration_s: f64,
    pub phases: Vec<PhaseInfo>,
    pub listeners: usize,
    /// Emits that asked for neither ack nor response: nothing confirmed them.
    pub unconfirmed_emits: u64,
    pub confirmed_emits: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhaseInfo {
    pub name: String,
    pub start_s: f64,
    pub duration_s: f64,
    /// As text: `300/s`, `10 -> 100/s`, `20 users`, `100 users at once`, `100 -> 500 users at once`, `pause`.
    pub load: String,
    /// Users due in it; 0 in a closed phase ([`PhaseInfo::is_closed`]), where nobody knows.
    pub planned: u64,
}

impl PhaseInfo {
    /// `start`: since the run's start.
    pub(crate) fn of(phase: &Phase, start: Duration, planned: u64) -> Self {
        Self {
            name: phase.name.clone().unwrap_or_default(),
            start_s: start.as_secs_f64(),
            duration_s: phase.duration().as_secs_f64(),
            load: phase.load(),
            planned,
        }
    }

    /// A phase of so many users at once, who ends being replaced: how many will come is known of none.
    pub fn is_closed(&self) -> bool {
        self.load.ends_with(" at once")
    }

    /// Nobody was to come in it.
    pub fn is_quiet(&self) -> bool {
        self.planned == 0 && !self.is_closed()
    }
}

/// Counters and histograms of a stretch of time. Histograms are in microseconds, with 3 significant digits in the
/// total and 2 in a second (there are many of them).
#[derive(Debug, Clone)]
pub struct Window {
    /// Seconds since the run's start.
    pub start_s: f64,
    pub length_s: f64,
    /// Artillery v2 names: `vusers.created`, `http.requests`, `http.codes.200`, `socketio.emit`, `errors.<text>`, ...
    pub counters: BTreeMap<String, u64>,
    /// Artillery v2 names plus ours (see [`names`]).
    pub histograms: BTreeMap<String, Histogram<u64>>,
    /// Users alive at the window's end; in the total, the highest.
    pub concurrent_users: u64,
    /// Open listener and user sockets at the window's end.
    pub connections: u64,
}

/// Histogram names; all in microseconds.
pub mod names {
    /// First byte of the answer to a request, from sending it (service time).
    pub const HTTP_RESPONSE_TIME: &str = "http.response_time";
    /// Ack or response of an emit, from sending it (service time). Never an unanswered emit.
    pub const SOCKETIO_RESPONSE_TIME: &str = "socketio.response_time";
    /// The first answered step of a user, from the instant the user was due (response time). A user that replaces another
    /// in a closed phase is due when that one ended: of it this is service time, and a stall hides what it kept away.
    pub const RESPONSE_FROM_DUE: &str = "drumfire.response_from_due";
    /// Start minus due.
    pub const START_LATENESS: &str = "drumfire.start_lateness";
    /// How late each worker thread came to a tick of its own, fifty times a second: whatever it does, sends and reads
    /// included, may have been as late. It grows with the thread's work, and when others take its core.
    pub const LOOP_LAG: &str = "drumfire.loop_lag";
    /// Emits over WebSocket that the socket did not take within a millisecond, because the server reads too slowly:
    /// how long they were held back. No answer is in it.
    pub const SEND_WAIT: &str = "drumfire.send_wait";
    pub const SESSION_LENGTH: &str = "vusers.session_length";
    /// Connect stages of a Socket.IO connection.
    pub const CONNECT_STAGES: [&str; 8] = [
        "socketio.connect.dns",
        "socketio.connect.tcp",
        "socketio.connect.tls",
        "socketio.connect.polling",
        "socketio.connect.upgrade",
        "socketio.connect.handshake",
        "socketio.connect.probe",
        "socketio.connect.namespace",
    ];
    pub const CONNECT_TOTAL: &str = "socketio.connect.total";
    /// From the `open` packet of a polling handshake to the change to WebSocket. The connect does not wait for it.
    pub const UPGRADE_TIME: &str = "socketio.upgrade_time";
    /// The whole connect of a listener, kept apart from the users'.
    pub const LISTENER_CONNECT: &str = "drumfire.listener_connect";
    /// Heard minus sent, every (listener, message) pair, also what came after the deadline. The series of deliveries are
    /// filed under the second in which the message was sent.
    pub const DELIVERY: &str = "drumfire.delivery";
    /// Heard minus due.
    pub const DELIVERY_FROM_DUE: &str = "drumfire.delivery_from_due";
    /// Of each message: the first, the median and the last of those who heard it before the deadline.
    pub const DELIVERY_FIRST: &str = "drumfire.delivery_first";
    pub const DELIVERY_MEDIAN: &str = "drumfire.delivery_median";
    pub const DELIVERY_LAST: &str = "drumfire.delivery_last";
    /// The ack of a stamped message, from sending it.
    pub const DELIVERY_ACK: &str = "drumfire.delivery_ack";
    /// Before the name of a class of listeners: what [`DELIVERY`] is for all of them.
    pub const DELIVERY_CLASS: &str = "drumfire.delivery.class.";
    /// From the loss of a connection to the end of the flow that brings its owner back.
    pub const RECONNECT: &str = "drumfire.reconnect";
}

/// Names of counters that are not Artillery's. Those of deliveries are filed under the second the message was sent in.
pub mod counters {
    /// Users that were cut off when the run was ended: neither completed nor failed.
    pub const USERS_UNFINISHED: &str = "drumfire.users.unfinished";
    /// Users of closed phases that came in the place of one that ended; no plan knew when.
    pub const USERS_REPLACED: &str = "drumfire.users.replacements";
    pub const EXPECTED: &str = "drumfire.delivery.expected";
    pub const HEARD: &str = "drumfire.delivery.heard";
    pub const MISSING: &str = "drumfire.delivery.missing";
    pub const LATE: &str = "drumfire.delivery.late";
    pub const DUPLICATES: &str = "drumfire.delivery.duplicates";
    pub const UNEXPECTED: &str = "drumfire.delivery.unexpected";
    /// Listeners' connections that ended without our doing, or were cut off by a storm of the script.
    pub const CONNECTIONS_LOST: &str = "drumfire.connections.lost";
    /// Those of them whose owner is back in its place.
    pub const CONNECTIONS_BACK: &str = "drumfire.connections.back";
    /// Pings of the server (Engine.IO 3: its answers to ours) that came later than its own interval and timeout allow.
    pub const HEARTBEATS_LATE: &str = "drumfire.heartbeats.late";
}

/// One kind of failure: where, what, how often, when, and what it looked like once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ErrorGroup {
    /// `connect`, `emit save_msg`, `GET /`, `listener 17`, ... with the script's line when known.
    pub step: String,
    /// URL or event and namespace.
    pub endpoint: String,
    /// Stable words without numbers that differ per user: `websocket upgrade refused: HTTP 503`.
    pub cause: String,
    /// Artillery's name for it (`ECONNREFUSED`, `response timeout`, ...): the `errors.<code>` counter.
    pub code: String,
    pub count: u64,
    /// First payload or system message seen, at most 1 kB.
    pub sample: String,
    /// Seconds since the run's start.
    pub first_s: f64,
    pub last_s: f64,
}

/// What was heard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    pub event: String,
    /// `circle`, `all`, `none`, `N`; `None`: nothing was expected, so nothing is called complete.
    pub expectation: Option<String>,
    pub messages: u64,
    /// (listener, message) pairs that should have been, with an expectation.
    pub expected: Option<u64>,
    /// Distinct pairs heard before the message was judged. With an expectation of pairs (not a number) this is
    /// `expected - missing + unexpected`, and the undecided pairs that were heard.
    pub heard: u64,
    pub missing: u64,
    /// Copies of what the listener had heard already, also over a connection before.
    pub duplicates: u64,
    /// Heard after the deadline, when the message had been judged: so it is among the missing (or the undecided) too, and
    /// its time is in `drumfire.delivery`. A copy that comes so late that nobody remembers the first is counted here.
    #[serde(default)]
    pub late: u64,
    /// Heard by a listener that should not have.
    pub unexpected: u64,
    pub out_of_order: u64,
    /// Pairs on neither side: while the message was under way the listener was moving, or was away by the script's will
    /// (a storm, or leaving without having come back), or the run was ended before the deadline.
    pub undecided: u64,
    /// Messages whose sending failed, so nobody was expected to hear them.
    pub not_sent: u64,
    /// Up to 20 rows of what went missing or came uncalled, in words.
    pub samples: Vec<String>,
    /// One for each group of listeners, in the script's order.
    #[serde(default)]
    pub classes: Vec<ClassDelivery>,
    /// Listeners that missed at least one message they should have heard.
    #[serde(default)]
    pub listeners_short: u64,
    /// Up to 20 of them, those that missed most first.
    #[serde(default)]
    pub worst: Vec<ListenerDelivery>,
}

/// What one group of listeners heard. Its times are the histogram `drumfire.delivery.class.NAME`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassDelivery {
    /// The group's `name`, else its number from 1.
    pub name: String,
    pub listeners: u64,
    /// `None` without an expectation, with one that names no listener (a number), and for listeners that are slow on
    /// purpose: those are in no other figure than those of their class.
    pub expected: Option<u64>,
    pub heard: u64,
    pub missing: u64,
    pub duplicates: u64,
    pub late: u64,
    pub unexpected: u64,
    pub out_of_order: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ListenerDelivery {
    /// Number over all groups, from 0.
    pub listener: u32,
    pub class: String,
    pub expected: u64,
    pub missing: u64,
}

/// One stage of the target's work, as its own Prometheus histogram tells it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageUse {
    /// The metric without prefix and unit, e.g. `commit` of `dna_stage_commit_seconds`.
    pub name: String,
    /// The metric's help text.
    pub help: String,
    /// What happened since the sample before.
    pub points: Vec<StagePoint>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StagePoint {
    /// Seconds since the run's start.
    pub at_s: f64,
    pub count: u64,
    pub sum_s: f64,
    /// Upper edge of the bucket that holds it, or the highest edge there is; `None` when nothing happened.
    pub p99_s: Option<f64>,
}

/// A series of somebody's Prometheus endpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Monitored {
    /// Metric and labels as exposed, e.g. `http_requests_total{code="200"}`.
    pub name: String,
    /// The endpoint's name in the script, else its URL.
    pub source: String,
    pub kind: MonitoredKind,
    /// (seconds since the run's start, value); a counter's values are per second since the sample before, a mean's those of
    /// what was added to its distribution since then.
    pub points: Vec<(f64, f64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MonitoredKind {
    Gauge,
    Counter,
    /// Of a histogram or summary.
    Mean,
}

/// The processes behind the target's port.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TargetUse {
    /// Of the oldest that listens; after a restart, of the new one.
    pub pid: u32,
    pub command: String,
    /// All processes together; of open files, the process that has most.
    pub samples: Vec<ProcessSample>,
    /// Most at once: those that listen and the workers they began.
    #[serde(default)]
    pub processes: u32,
    /// Of the machine; 0 when the file does not say.
    #[serde(default)]
    pub cores: u32,
    #[serde(default)]
    pub open_files_limit: Option<u64>,
    /// Restarts and the like, in order.
    #[serde(default)]
    pub changes: Vec<TargetChange>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TargetChange {
    /// Seconds since the run's start; seen at most a second late.
    pub at_s: f64,
    pub kind: TargetChangeKind,
    pub pid: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TargetChangeKind {
    /// None of the processes is there any more.
    Gone,
    /// A process listens where none did.
    Found,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProcessSample {
    /// Seconds since the run's start.
    pub at_s: f64,
    /// CPU of each thread since the sample before, 1.0 = one core; name as in `/proc/PID/task/TID/comm`.
    pub threads: Vec<(String, f64)>,
    pub rss_bytes: u64,
    pub open_files: u64,
}

/// May the numbers be believed?
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Validity {
    pub valid: bool,
    /// Each threshold: what, limit, measured, held.
    pub rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    pub what: String,
    pub limit: String,
    pub measured: String,
    pub held: bool,
}

impl Validity {
    /// The thresholds that did not hold.
    pub fn broken(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter().filter(|rule| !rule.held)
    }
}

impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} (limit {})", self.what, self.measured, self.limit)
    }
}

/// An `ensure` limit or an `expect`ation, judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    pub kind: CheckKind,
    pub expression: String,
    pub observed: String,
    pub passed: bool,
    pub strict: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckKind {
    Ensure,
    Expect,
}
