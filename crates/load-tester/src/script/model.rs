//! What a script means once it has been read and checked whole.
//!
//! `script::load` makes a [`Script`] from YAML or JSON; nothing here is still text to be parsed, except
//! [`Template`]s, whose holes are filled for each virtual user.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::template::Template;
use crate::sources::Sources;

/// A checked script: what to load, how much, and what each virtual user does.
#[derive(Debug, Clone)]
pub struct Script {
    /// The file it came from, for messages and for the result's metadata.
    pub path: PathBuf,
    /// SHA-256 of the script's bytes (files in load order), lower-case hex.
    pub sha256: String,
    pub config: Config,
    /// In file order; never empty.
    pub scenarios: Vec<Scenario>,
    /// Run once before the first phase, on one user; its captures are copied into every user.
    pub before: Option<Scenario>,
    /// Run once after the last user.
    pub after: Option<Scenario>,
    /// What was read but means nothing here, with its place.
    pub warnings: Vec<Warning>,
    /// Variables every user has: `target`, `$environment`, `$processEnvironment`, `$env`, `$dirname`, `$scenarioFile`.
    pub built_ins: Vec<(String, Value)>,
}

impl Script {
    /// The files that were read for it: its own and those with rows.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let listeners = self.config.listeners.iter().flat_map(|group| &group.payloads);
        let rows = self.config.payloads.iter().chain(listeners).map(|payload| payload.path.as_path());
        std::iter::once(self.path.as_path()).chain(rows)
    }
}

/// Something the reader should know: `path:line:column: message`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    pub path: PathBuf,
    /// 1-based; 0 when the place is not known.
    pub line: usize,
    pub column: usize,
    pub message: String,
}

impl Script {
    /// Is there an HTTP request in any scenario users walk?
    pub fn makes_requests(&self) -> bool {
        fn any(steps: &[Step]) -> bool {
            steps.iter().any(|step| match &step.action {
                Action::Http(_) => true,
                Action::Loop(inner) => any(&inner.steps),
                _ => false,
            })
        }
        self.scenarios.iter().any(|scenario| scenario.weight > 0 && any(&scenario.flow))
    }
}

#[derive(Debug, Clone)]
pub struct Config {
    /// Base URL, no trailing slash, e.g. `http://localhost:9013`.
    pub target: String,
    /// The name given with `-e`, if any.
    pub environment: Option<String>,
    pub phases: Vec<Phase>,
    /// Name -> values; an array of several means one picked at random for each user.
    pub variables: Vec<(String, Vec<Value>)>,
    pub payloads: Vec<Payload>,
    /// How long an answer may take (requests, acks, responses, connecting). Artillery 1.7's and 2's default: 10 s.
    pub timeout: Duration,
    pub http: HttpConfig,
    /// False with `-k` or `tls.rejectUnauthorized: false`.
    pub tls_verify: bool,
    pub socketio: SocketIoConfig,
    pub ws: WsConfig,
    pub think_jitter: Option<Jitter>,
    pub listeners: Vec<ListenerGroup>,
    pub delivery: Option<DeliveryConfig>,
    pub monitor: Vec<MonitorConfig>,
    pub ensure: Option<Ensure>,
    /// Seed for every random choice (arrivals, rows, weights, places); given or made at load.
    pub seed: u64,
    /// Reporting window; Artillery's is 10 s.
    pub stats_interval: Duration,
    /// After so long nobody arrives any more, whatever the phases say.
    pub max_duration: Option<Duration>,
    /// Where connections come from, in turn; empty: the system chooses.
    pub sources: Sources,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Phase {
    pub name: Option<String>,
    pub kind: PhaseKind,
    /// Arrivals above this many live users are skipped and counted.
    pub max_vusers: Option<u64>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum PhaseKind {
    /// Nothing arrives.
    Pause { duration: Duration },
    /// `count` users spread evenly over `duration`.
    Count { duration: Duration, count: u64 },
    /// `rate` users a second (may be below 1).
    Rate { duration: Duration, rate: f64, poisson: bool },
    /// From `from` to `to` users a second; the exact integral of the ramp arrives.
    Ramp { duration: Duration, from: f64, to: f64, poisson: bool },
    /// Closed: so many users at once, from `from` to `to` along a line; who ends is replaced.
    Closed { duration: Duration, from: u64, to: u64 },
}

/// A Prometheus endpoint to be read while the load runs.
#[derive(Debug, Clone, PartialEq)]
pub struct MonitorConfig {
    /// http or https; may hold a name and a password.
    pub url: String,
    pub name: Option<String>,
    /// Names of metrics, `*` for anything in them; with labels where the pattern has a `{`. Stages
    /// (`*_stage_<name>_seconds`) are read without being named.
    pub series: Vec<String>,
    /// At least a second.
    pub every: Duration,
}

#[derive(Debug, Clone, Default)]
pub struct HttpConfig {
    pub headers: Vec<(String, Template)>,
    pub cookies: Vec<(String, Template)>,
    /// `Some(n)`: n sockets shared by all users of a worker; `None`: one keep-alive connection per user.
    pub pool: Option<usize>,
    pub strict_capture: bool,
}

#[derive(Debug, Clone)]
pub struct SocketIoConfig {
    /// The first one opens. WebSocket behind polling is changed to, if `upgrade` says so and the server offers it.
    pub transports: Vec<Transport>,
    pub upgrade: bool,
    /// Default `/socket.io/`.
    pub path: String,
    /// Late templates: rendered when the user connects.
    pub query: Vec<(String, Template)>,
    pub extra_headers: Vec<(String, Template)>,
    pub auth: Option<Template>,
    /// `None`: detected once per target before the first phase.
    pub revision: Option<EngineRevision>,
}

/// `config.ws`: how users of the ws engine connect, unless their `connect` step says otherwise.
#[derive(Debug, Clone, Default)]
pub struct WsConfig {
    /// Late templates: rendered when the user connects.
    pub headers: Vec<(String, Template)>,
    pub subprotocols: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Polling,
    WebSocket,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineRevision {
    V3,
    V4,
}

/// Rows of a CSV file, one row per virtual user.
#[derive(Debug, Clone)]
pub struct Payload {
    pub path: PathBuf,
    pub fields: Vec<String>,
    pub order: RowOrder,
    pub rows: Arc<Vec<Vec<Value>>>,
    /// `loadAll` with `name`: the whole file under one variable instead of a row per user.
    pub load_all_as: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowOrder {
    /// With replacement.
    Random,
    /// In order over all workers, wrapping.
    Sequence,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Jitter {
    Absolute(Duration),
    Percent(f64),
}

#[derive(Debug, Clone)]
pub struct Scenario {
    /// Its `name`, else its index in the file.
    pub name: String,
    /// 0 = never chosen.
    pub weight: u32,
    pub engine: Engine,
    pub flow: Vec<Step>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Http,
    SocketIo,
    WebSocket,
}

impl Engine {
    /// As scripts call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::SocketIo => "socketio",
            Self::WebSocket => "ws",
        }
    }
}

/// One step of a flow, with the line it stands on for error reports.
#[derive(Debug, Clone)]
pub struct Step {
    pub line: usize,
    pub action: Action,
}

#[derive(Debug, Clone)]
pub enum Action {
    Http(Box<HttpStep>),
    Emit(Box<EmitStep>),
    /// WebSocket engine: one frame.
    Send(Box<SendStep>),
    /// Connects now, not at the start.
    Connect(Box<ConnectStep>),
    Disconnect(Leaving),
    /// Connects again as the nearest `connect` before it says, or as `config` says.
    Reconnect {
        after: Duration,
    },
    /// Socket.IO: from here on such events are kept for `wait`.
    Listen(Box<ListenStep>),
    Wait(Box<WaitStep>),
    /// Reads slowly for a while.
    Read {
        /// `None`: not at all.
        bytes_per_second: Option<NonZeroU32>,
        time: Duration,
    },
    Think {
        pause: Think,
        jitter: Option<Jitter>,
    },
    Log(Template),
    Loop(Box<LoopStep>),
}

#[derive(Debug, Clone)]
pub struct SendStep {
    /// Text goes as it is, anything else as JSON.
    pub payload: Template,
    /// The text is base64 of a binary frame.
    pub binary: bool,
    /// `capture` or `match` of its own: what comes next that fits is its answer.
    pub answer: Option<(Vec<Capture>, Vec<Match>)>,
}

/// In place of what `config.socketio` or `config.ws` says; what is `None` stays as it is there.
#[derive(Debug, Clone, Default)]
pub struct ConnectStep {
    /// Of a plain WebSocket: an address, or a path on the target.
    pub target: Option<Template>,
    pub query: Option<Vec<(String, Template)>>,
    pub headers: Option<Vec<(String, Template)>>,
    pub auth: Option<Template>,
    pub subprotocols: Option<Vec<String>>,
}

/// How a connection ends from this side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaving {
    /// Says goodbye, as the official clients do.
    Close,
    /// The TCP connection ends without a word.
    Drop,
    /// The connection stays open, and nothing is read or answered any more.
    Silent,
}

#[derive(Debug, Clone)]
pub struct ListenStep {
    pub events: Vec<Template>,
    /// `/` unless given.
    pub namespace: Template,
}

#[derive(Debug, Clone)]
pub struct WaitStep {
    /// `None`: any frame of a plain WebSocket.
    pub event: Option<Template>,
    /// `/` unless given.
    pub namespace: Template,
    /// `None`: `config.timeout`.
    pub timeout: Option<Duration>,
    /// At least 1.
    pub count: u64,
    /// A message that does not fit is left for another step.
    pub captures: Vec<Capture>,
    pub matches: Vec<Match>,
    /// The variable that gets the list of what came.
    pub collect: Option<String>,
}

#[derive(Debug, Clone)]
pub enum Think {
    Fixed(Duration),
    /// Rendered for each user, then read like a duration.
    Late(Template),
}

#[derive(Debug, Clone)]
pub struct LoopStep {
    pub steps: Vec<Step>,
    pub times: LoopTimes,
    /// Name of the variable holding the counter or element; default `$loopCount` / `$loopElement`.
    pub value_name: String,
}

#[derive(Debug, Clone)]
pub enum LoopTimes {
    /// `from..to`; `None` = for ever.
    Count {
        from: i64,
        to: Option<i64>,
    },
    Late(Template),
    Over(Vec<Value>),
    /// A variable holding an array.
    OverVariable(String),
}

#[derive(Debug, Clone)]
pub struct HttpStep {
    /// Upper case: `GET`, `POST`, ...
    pub method: String,
    pub url: Template,
    /// For per-endpoint figures; default `METHOD url` as written.
    pub name: String,
    pub headers: Vec<(String, Template)>,
    pub cookies: Vec<(String, Template)>,
    pub query: Vec<(String, Template)>,
    pub body: HttpBody,
    pub auth: Option<(Template, Template)>,
    pub follow_redirects: bool,
    pub captures: Vec<Capture>,
    pub matches: Vec<Match>,
    pub if_true: Option<Template>,
    /// 0 to 100.
    pub probability: Option<Template>,
    pub expect: Vec<Expectation>,
}

#[derive(Debug, Clone)]
pub enum HttpBody {
    Empty,
    /// Sent as `application/json`.
    Json(Template),
    Text(Template),
    /// `application/x-www-form-urlencoded`.
    Form(Vec<(String, Template)>),
}

/// `expect:` of an HTTP step (exit code 21 when one fails).
#[derive(Debug, Clone)]
pub enum Expectation {
    StatusCode(Vec<u16>),
    NotStatusCode(Vec<u16>),
    ContentType(String),
    HasHeader(String),
    HeaderEquals(String, Template),
    HasProperty(String),
    Equals(Vec<Template>),
    MatchesRegexp(String),
}

/// Socket.IO `emit`, all four spellings in one shape.
#[derive(Debug, Clone)]
pub struct EmitStep {
    /// Event name.
    pub event: Template,
    pub args: Vec<Template>,
    /// `/` unless given.
    pub namespace: Template,
    /// Wait for an event named so.
    pub response: Option<ResponseWait>,
    /// Ask for an ack and wait for it.
    pub acknowledge: Option<AckWait>,
}

#[derive(Debug, Clone)]
pub struct ResponseWait {
    pub event: Template,
    /// `None`: the first message of that name wins.
    pub data: Option<DataCheck>,
    pub captures: Vec<Capture>,
    pub matches: Vec<Match>,
    /// JSON paths see the first argument (nested, v1 spelling) or the argument array (sibling, v2 spelling).
    pub paths_see: PathsSee,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathsSee {
    FirstArgument,
    ArgumentArray,
}

#[derive(Debug, Clone)]
pub struct AckWait {
    pub data: Option<DataCheck>,
    pub captures: Vec<Capture>,
    pub matches: Vec<Match>,
}

/// What the answer's data must be.
#[derive(Debug, Clone)]
pub enum DataCheck {
    /// v1: deep equality with the first argument.
    FirstArgument(Template),
    /// v2 `args`: deep equality with all arguments.
    AllArguments(Template),
}

#[derive(Debug, Clone)]
pub struct Capture {
    pub source: CaptureSource,
    pub save_as: String,
    /// An empty result fails the user.
    pub strict: bool,
}

#[derive(Debug, Clone)]
pub enum CaptureSource {
    /// JSONPath (Goessner style, as jsonpath-plus reads it).
    Json(String),
    Regexp {
        pattern: String,
        flags: String,
        group: Option<String>,
    },
    /// Lower-case header name (HTTP only).
    Header(String),
}

#[derive(Debug, Clone)]
pub struct Match {
    pub source: CaptureSource,
    pub value: Template,
    pub strict: bool,
}

/// Connections that stand and listen before the first phase (a key of our own).
#[derive(Debug, Clone)]
pub struct ListenerGroup {
    pub name: Option<String>,
    pub count: usize,
    /// Socket.IO unless given; never HTTP.
    pub engine: Engine,
    /// Sets `lng`, `lat`, `radius` for each listener, seeded.
    pub place: Option<Place>,
    /// Rows given to the listeners in order (same keys as `config.payload`).
    pub payloads: Vec<Payload>,
    pub flow: Vec<Step>,
    /// Listeners of this group that walk while the load runs (a key of our own): they send `step` each `every`.
    pub moving: Option<Moving>,
    /// Listeners of this group that leave and come back while the load runs (a key of our own).
    pub returning: Option<Returning>,
    /// They read slowly or not at all once they stand: nothing is expected of them (a key of our own).
    pub slow: Option<Slow>,
    /// Losses of many connections at once (a key of our own).
    pub storms: Vec<Storm>,
    /// Whether a listener comes back that lost its connection without our doing.
    pub reconnect: bool,
}

impl ListenerGroup {
    /// The class of its listeners in reports; `index` is the group's, from 0.
    pub fn class(&self, index: usize) -> String {
        self.name.clone().unwrap_or_else(|| (index + 1).to_string())
    }

    /// Connections of the group that may be open at once: each listener's, and those that storms leave hanging.
    pub fn most_connections(&self) -> u64 {
        let silent = self.storms.iter().filter(|storm| storm.how == Cut::Silent);
        self.count as u64 + silent.map(|storm| storm.hit(self.count) as u64).sum::<u64>()
    }
}

/// How slow listeners read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slow {
    BytesPerSecond(NonZeroU32),
    StopReading,
}

/// At `at` from the first phase's start a share of the group loses its connections, evenly within `over`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Storm {
    pub at: Duration,
    /// 0 to 1.
    pub share: f64,
    pub how: Cut,
    pub over: Duration,
    pub back: Back,
}

impl Storm {
    /// How many of so many listeners it hits.
    pub fn hit(&self, count: usize) -> usize {
        ((count as f64 * self.share).round() as usize).min(count)
    }
}

/// How a connection is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// As clients leave.
    Close,
    /// The TCP connection ends without a word.
    Drop,
    /// Nothing is read or answered any more, and nothing ends: as where the network is gone.
    Silent,
}

/// How those come back that lost their connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Back {
    /// As the official clients do: 1 s to 5 s, give or take half.
    Backoff,
    /// At once; further attempts as for `Backoff`.
    AtOnce,
    Never,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Returning {
    /// About so long they stay each time. `None`: they do not leave by themselves, but come back with the cursor.
    pub every: Option<Duration>,
    pub away: Duration,
    /// Path in the first argument of what they hear, events and acks, of what they give back as `{{ since }}`.
    pub cursor: Vec<String>,
}

#[derive(Debug, Clone)]
pub struct Moving {
    pub every: Duration,
    /// Steps repeated with fresh `lng`, `lat` (same radius), a random walk of at most `step_m` metres each time.
    pub flow: Vec<Step>,
    pub step_m: f64,
}

/// Uniform over the disc of `within_m` metres around the middle; radius uniform between the two.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place {
    pub lng: f64,
    pub lat: f64,
    pub within_m: f64,
    pub radius_m: (f64, f64),
}

/// How deliveries are recognised and judged (a key of our own).
#[derive(Debug, Clone)]
pub struct DeliveryConfig {
    /// Event a listener hears, e.g. `new_msg`.
    pub event: String,
    /// Path in an emit's first argument where a mark is appended, e.g. `messageData.contents`.
    pub stamp: Vec<String>,
    /// Path in the heard event's first argument where the mark is read, e.g. `result.contents`.
    pub read: Vec<String>,
    pub expect: Option<DeliveryExpectation>,
    /// Where the message's place stands in the emit's first argument; default `messageData.lng`, `messageData.lat`.
    pub place: (Vec<String>, Vec<String>),
    /// A message is judged so long after it was sent: who hears it later missed it, and is late. After the last user has
    /// ended deliveries are waited for as long at most. Default 10 s.
    pub deadline: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryExpectation {
    /// Brute-force geodesic over the listeners' places.
    Circle,
    All,
    Nobody,
    Number(u64),
}

/// Limits judged after the run (exit code 1).
#[derive(Debug, Clone, Default)]
pub struct Ensure {
    /// v1 keys and v2 `thresholds`: metric (e.g. `http.response_time.p95`, `p95`) -> highest allowed value.
    pub thresholds: BTreeMap<String, f64>,
    /// v2 `conditions`: (expression, strict).
    pub conditions: Vec<(String, bool)>,
    pub max_error_rate: Option<f64>,
}
