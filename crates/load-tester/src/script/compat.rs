//! What of Artillery is understood: one list, from which unknown keys are recognised, refusals and notices take
//! their words, and docs/artillery-compat.md is written.

use std::fmt::Write as _;

/// Where a key stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    Document,
    Config,
    Phase,
    Payload,
    Defaults,
    DefaultsThink,
    Http,
    Tls,
    Ws,
    SocketIo,
    Engines,
    Plugins,
    Ensure,
    Condition,
    Listener,
    ListenerPlace,
    Moving,
    Returning,
    Slow,
    Storm,
    Delivery,
    DeliveryPlace,
    Monitor,
    Scenario,
    Before,
    Step,
    Request,
    Auth,
    Expect,
    Emit,
    Response,
    Acknowledge,
    Listen,
    Wait,
    Connect,
    WsConnect,
    Disconnect,
    Reconnect,
    Read,
    Send,
    Capture,
    Match,
    Template,
    Command,
    Flag,
    Metric,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// Means what it means in Artillery.
    Yes,
    /// With the difference the ruling names.
    Partly,
    /// Ours; Artillery does not know it.
    Ours,
    /// Accepted with a warning; changes nothing in the load.
    Ignored,
    /// An error: leaving it out would change what the script means.
    Refused,
}

/// One row: `test` names the function that shows it.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    pub section: Section,
    pub key: &'static str,
    pub support: Support,
    pub ruling: &'static str,
    pub test: &'static str,
}

use Section as S;
use Support::{Ignored, Ours, Partly, Refused, Yes};

const fn row(
    section: Section,
    key: &'static str,
    support: Support,
    ruling: &'static str,
    test: &'static str,
) -> Entry {
    Entry { section, key, support, ruling, test }
}

const IGNORED: &str = "ignored_keys_warn";
const REFUSED: &str = "refused_keys_say_what_to_do";
const HOOK: &str = "hooks are JavaScript, which drumfire does not run: say what it does with `capture`, `variables` or CSV rows";
const NO_RECONNECT: &str = "a user connects once and does not come back";

#[rustfmt::skip]
pub const TABLE: &[Entry] = &[
    row(S::Document, "config", Yes, "", "journal_script_byte_for_byte"),
    row(S::Document, "scenarios", Yes, "", "journal_script_byte_for_byte"),
    row(S::Document, "before", Yes, "in every engine; its captures go to every user, not over CSV rows and `config.variables`", "before_and_after"),
    row(S::Document, "after", Yes, "", "before_and_after"),

    row(S::Config, "target", Yes, "must name http, https, ws or wss; a trailing slash is dropped", "targets"),
    row(S::Config, "phases", Yes, "absent: one user, as in v2", "phases"),
    row(S::Config, "environments", Yes, "merged index by index over `config`; a name that is not there is an error", "environments"),
    row(S::Config, "variables", Yes, "a list means one element per user", "variables_and_precedence"),
    row(S::Config, "payload", Yes, "", "payload_keys"),
    row(S::Config, "processor", Ignored, "drumfire runs no JavaScript; a step that calls a function of it is refused", IGNORED),
    row(S::Config, "defaults", Yes, "`http.defaults` goes first", "http_defaults"),
    row(S::Config, "timeout", Yes, "10 s when absent (1.6: 120 s); wins over `http.timeout`", "timeouts"),
    row(S::Config, "http", Yes, "", "http_defaults"),
    row(S::Config, "tls", Yes, "", "tls_keys"),
    row(S::Config, "ws", Yes, "how users of the ws engine connect", "a_ws_user_connects_as_the_script_says"),
    row(S::Config, "socketio", Yes, "", "socketio_config"),
    row(S::Config, "mode", Yes, "a phase's own `mode` wins; seeded", "phases"),
    row(S::Config, "ensure", Yes, "judged whether or not the plugin is listed", "ensure_keys"),
    row(S::Config, "apdex", Ignored, "no Apdex is computed", IGNORED),
    row(S::Config, "plugins", Partly, "`ensure`, `expect` and `metrics-by-endpoint` are built in; others are named and ignored", "plugins"),
    row(S::Config, "pluginsScope", Ignored, "there are no plugin packages", IGNORED),
    row(S::Config, "engines", Partly, "options of `socketio-v3` and `socketio` are read like `config.socketio`", "engines"),
    row(S::Config, "engine", Yes, "the default of scenarios without one", "engines"),
    row(S::Config, "statsInterval", Yes, "10 s when absent; v2 ignores it", "timeouts"),
    row(S::Config, "includeFiles", Ignored, "nothing is packaged", IGNORED),
    row(S::Config, "bundling", Ignored, "nothing is packaged", IGNORED),
    row(S::Config, "maxDuration", Ours, "the same as `--max-duration`, which wins", "max_duration_and_sources"),
    row(S::Config, "sources", Ours, "addresses and blocks like `127.0.0.0/8`: each connection comes from the next; the same as `--sources`, which wins", "max_duration_and_sources"),
    row(S::Config, "listeners", Ours, "connections that stand and listen before the first phase", "listeners_and_delivery"),
    row(S::Config, "delivery", Ours, "how what they hear is recognised and judged", "listeners_and_delivery"),
    row(S::Config, "monitor", Ours, "Prometheus endpoints read while the load runs", "monitored_endpoints"),

    row(S::Phase, "duration", Yes, "fractions mean seconds; units ms, s, m, h, d", "phases"),
    row(S::Phase, "arrivalRate", Yes, "rates below 1 work; evenly spaced, the first after one interval", "phases"),
    row(S::Phase, "rampTo", Yes, "the exact integral of the ramp, no whole-second steps", "ramps_follow_their_integral"),
    row(S::Phase, "arrivalCount", Yes, "", "phases"),
    row(S::Phase, "pause", Yes, "", "phases"),
    row(S::Phase, "maxVusers", Yes, "for the run, not per worker; arrivals above it are skipped and counted", "phases"),
    row(S::Phase, "concurrency", Ours, "closed: so many users at once, who ends is replaced; with `rampTo` along a line; not beside `arrivalRate`, `arrivalCount`, `maxVusers`", "closed_phases"),
    row(S::Phase, "name", Yes, "", "phases"),
    row(S::Phase, "mode", Yes, "`uniform` or `poisson`, seeded", "phases"),

    row(S::Payload, "path", Yes, "relative to the script", "payload_keys"),
    row(S::Payload, "fields", Yes, "a row with fewer columns is an error with its line", "payload_keys"),
    row(S::Payload, "order", Yes, "`sequence` goes over all workers, by arrival", "payload_keys"),
    row(S::Payload, "skipHeader", Yes, "only `true`", "payload_keys"),
    row(S::Payload, "delimiter", Partly, "one character", "payload_keys"),
    row(S::Payload, "cast", Yes, "numbers with leading zeros or beyond 2^53 stay text", "csv_cells"),
    row(S::Payload, "skipEmptyLines", Yes, "", "csv_rows"),
    row(S::Payload, "loadAll", Yes, "", "payload_keys"),
    row(S::Payload, "name", Yes, "", "payload_keys"),
    row(S::Payload, "options", Refused, "raw parser options are not read: use `delimiter`, `skipHeader`, `cast` and `skipEmptyLines`", REFUSED),

    row(S::Defaults, "headers", Yes, "", "http_defaults"),
    row(S::Defaults, "cookie", Yes, "", "http_defaults"),
    row(S::Defaults, "think", Yes, "", "think_and_jitter"),
    row(S::Defaults, "strictCapture", Yes, "", "http_defaults"),
    row(S::DefaultsThink, "jitter", Yes, "", "think_and_jitter"),

    row(S::Http, "timeout", Yes, "", "timeouts"),
    row(S::Http, "pool", Yes, "", "http_defaults"),
    row(S::Http, "maxSockets", Ignored, "Artillery reads it nowhere either", IGNORED),
    row(S::Http, "extendedMetrics", Ignored, "stages are always measured", IGNORED),
    row(S::Http, "cookieJarOptions", Ignored, "the cookie jar has no options", IGNORED),
    row(S::Http, "distributedTracing", Ignored, "no `traceparent` header is added", IGNORED),
    row(S::Http, "defaults", Yes, "", "http_defaults"),

    row(S::Tls, "rejectUnauthorized", Yes, "", "tls_keys"),
    row(S::Tls, "ca", Refused, "certificates come from the system; `rejectUnauthorized: false` accepts any", REFUSED),
    row(S::Tls, "cert", Refused, "client certificates are not supported", REFUSED),
    row(S::Tls, "key", Refused, "client certificates are not supported", REFUSED),
    row(S::Tls, "pfx", Refused, "client certificates are not supported", REFUSED),
    row(S::Tls, "passphrase", Refused, "client certificates are not supported", REFUSED),
    row(S::Tls, "servername", Refused, "the name comes from the target", REFUSED),

    row(S::Ws, "headers", Yes, "filled for each user when it connects, not once at load", "a_ws_user_connects_as_the_script_says"),
    row(S::Ws, "subprotocols", Yes, "", "a_ws_user_connects_as_the_script_says"),
    row(S::Ws, "timeout", Yes, "", "timeouts"),
    row(S::Ws, "proxy", Refused, "proxies are not supported", REFUSED),
    row(S::Ws, "perMessageDeflate", Ignored, "messages are not compressed", IGNORED),
    row(S::Ws, "maxPayload", Ignored, "the limit is drumfire's", IGNORED),
    row(S::Ws, "rejectUnauthorized", Yes, "", "tls_keys"),

    row(S::SocketIo, "transports", Yes, "the first one opens; absent: `[polling, websocket]`, which polls and changes to WebSocket when the server offers it", "polling_and_the_change_to_websocket_are_counted"),
    row(S::SocketIo, "path", Yes, "", "socketio_config"),
    row(S::SocketIo, "query", Yes, "filled for each user when it connects, not once at load", "socketio_config"),
    row(S::SocketIo, "extraHeaders", Yes, "filled for each user when it connects", "socketio_config"),
    row(S::SocketIo, "auth", Yes, "filled for each user when it connects", "socketio_config"),
    row(S::SocketIo, "protocol", Ours, "Engine.IO revision, 3 or 4; absent: asked of the target once", "socketio_config"),
    row(S::SocketIo, "timeout", Ignored, "connecting takes at most `config.timeout`", IGNORED),
    row(S::SocketIo, "rejectUnauthorized", Yes, "", "tls_keys"),
    row(S::SocketIo, "parser", Refused, "only the default parser is spoken", REFUSED),
    row(S::SocketIo, "transportOptions", Refused, "put headers in `extraHeaders` and the query in `query`", REFUSED),
    row(S::SocketIo, "forceNew", Ignored, "every user has a connection of its own", IGNORED),
    row(S::SocketIo, "multiplex", Ignored, "namespaces of one user share its connection", IGNORED),
    row(S::SocketIo, "upgrade", Yes, "`false`: polling stays polling", "socketio_config"),
    row(S::SocketIo, "rememberUpgrade", Ignored, "every user begins with the first transport", IGNORED),
    row(S::SocketIo, "tryAllTransports", Ignored, "only the first transport opens", IGNORED),
    row(S::SocketIo, "perMessageDeflate", Ignored, "messages are not compressed", IGNORED),
    row(S::SocketIo, "withCredentials", Ignored, "it means something in browsers only", IGNORED),
    row(S::SocketIo, "autoConnect", Ignored, "users connect when they start", IGNORED),
    row(S::SocketIo, "reconnection", Ignored, NO_RECONNECT, IGNORED),
    row(S::SocketIo, "reconnectionAttempts", Ignored, NO_RECONNECT, IGNORED),
    row(S::SocketIo, "reconnectionDelay", Ignored, NO_RECONNECT, IGNORED),
    row(S::SocketIo, "reconnectionDelayMax", Ignored, NO_RECONNECT, IGNORED),
    row(S::SocketIo, "randomizationFactor", Ignored, NO_RECONNECT, IGNORED),

    row(S::Engines, "socketio-v3", Yes, "an alias of `socketio`", "engines"),
    row(S::Engines, "socketio", Yes, "", "engines"),
    row(S::Engines, "http", Ignored, "it has no options here", IGNORED),
    row(S::Engines, "ws", Ignored, "it has no options here", IGNORED),

    row(S::Plugins, "ensure", Yes, "built in", "plugins"),
    row(S::Plugins, "expect", Yes, "built in, exit code 21", "plugins"),
    row(S::Plugins, "metrics-by-endpoint", Yes, "errors and figures are kept by step and endpoint anyway", "plugins"),
    row(S::Plugins, "apdex", Ignored, "no Apdex is computed", IGNORED),
    row(S::Plugins, "publish-metrics", Ignored, "figures go to the console, the JSON file and the report", IGNORED),
    row(S::Plugins, "fake-data", Ignored, "a template that calls one of its functions is refused", IGNORED),
    row(S::Plugins, "slack", Ignored, "nobody is notified", IGNORED),
    row(S::Plugins, "memory-inspector", Ignored, "a target on this machine is watched anyway", IGNORED),

    row(S::Ensure, "min", Yes, "", "ensure_keys"),
    row(S::Ensure, "max", Yes, "", "ensure_keys"),
    row(S::Ensure, "median", Yes, "", "ensure_keys"),
    row(S::Ensure, "p50", Yes, "", "ensure_keys"),
    row(S::Ensure, "p95", Yes, "", "ensure_keys"),
    row(S::Ensure, "p99", Yes, "", "ensure_keys"),
    row(S::Ensure, "maxErrorRate", Yes, "whom a signal or `--max-duration` cut off is not counted", "ensure_keys"),
    row(S::Ensure, "thresholds", Yes, "an unknown metric is an error", "ensure_keys"),
    row(S::Ensure, "conditions", Yes, "", "ensure_keys"),
    row(S::Condition, "expression", Yes, "", "ensure_keys"),
    row(S::Condition, "strict", Yes, "", "ensure_keys"),

    row(S::Listener, "name", Ours, "the class of its listeners in reports, its number from 1 when absent; no two the same", "listeners_and_delivery"),
    row(S::Listener, "count", Ours, "", "listeners_and_delivery"),
    row(S::Listener, "engine", Ours, "`socketio` when absent, or `ws`: there every text frame with a mark in it is heard", "deliveries_over_a_plain_websocket"),
    row(S::Listener, "place", Ours, "sets `lng`, `lat`, `radius` for each listener; seeded", "listeners_and_delivery"),
    row(S::Listener, "payload", Ours, "rows given in order", "listeners_and_delivery"),
    row(S::Listener, "flow", Ours, "", "listeners_and_delivery"),
    row(S::Listener, "moving", Ours, "", "listeners_and_delivery"),
    row(S::Listener, "returning", Ours, "they leave, by turns politely and without a word, and come back by the group's `flow`", "listeners_that_come_and_go_catch_up"),
    row(S::Listener, "slow", Ours, "they read slowly or not at all once they stand; nothing is expected of them", "slow_listeners_and_storms"),
    row(S::Listener, "storm", Ours, "a loss of many connections at once; a list for several", "slow_listeners_and_storms"),
    row(S::Listener, "reconnect", Ours, "`false`: who loses its connection without our doing stays away; else it comes back as the official clients do", "slow_listeners_and_storms"),
    row(S::ListenerPlace, "around", Ours, "`[lng, lat]`", "listeners_and_delivery"),
    row(S::ListenerPlace, "within", Ours, "metres", "listeners_and_delivery"),
    row(S::ListenerPlace, "radius", Ours, "metres, or `[from, to]`", "listeners_and_delivery"),
    row(S::Moving, "every", Ours, "", "listeners_and_delivery"),
    row(S::Moving, "step", Ours, "metres at most each time; 50 when absent", "listeners_and_delivery"),
    row(S::Moving, "flow", Ours, "", "listeners_and_delivery"),
    row(S::Returning, "every", Ours, "how long they stay each time, give or take a quarter; absent with a `cursor`: they do not leave by themselves", "listeners_and_delivery"),
    row(S::Returning, "away", Ours, "1 s when absent", "listeners_and_delivery"),
    row(S::Returning, "cursor", Ours, "path in what they heard last, an event or an ack, of what comes back as `{{ since }}`; `result.cursor` when absent", "listeners_and_delivery"),
    row(S::Slow, "bytesPerSecond", Ours, "they read no faster", "slow_listeners_and_storms"),
    row(S::Slow, "stopReading", Ours, "`true`: they read nothing", "slow_listeners_and_storms"),
    row(S::Storm, "at", Ours, "from the first phase's start", "slow_listeners_and_storms"),
    row(S::Storm, "share", Ours, "of the group, 0 to 1; all when absent", "slow_listeners_and_storms"),
    row(S::Storm, "how", Ours, "`close` as clients leave, `drop` without a word (when absent), `silent`: nothing is read or answered any more", "slow_listeners_and_storms"),
    row(S::Storm, "over", Ours, "evenly within so long; at one instant when absent", "slow_listeners_and_storms"),
    row(S::Storm, "back", Ours, "`backoff` as the official clients do (when absent), `at-once`, `never`", "slow_listeners_and_storms"),
    row(S::Delivery, "event", Ours, "", "listeners_and_delivery"),
    row(S::Delivery, "stamp", Ours, "path in what is sent; a mark is appended there", "listeners_and_delivery"),
    row(S::Delivery, "read", Ours, "path in what is heard", "listeners_and_delivery"),
    row(S::Delivery, "expect", Ours, "`circle`, `all`, `none` or a number", "listeners_and_delivery"),
    row(S::Delivery, "place", Ours, "`{lng, lat}`: paths in what is sent", "listeners_and_delivery"),
    row(S::Delivery, "deadline", Ours, "who hears a message later than this missed it, and is late; 10 s when absent", "listeners_and_delivery"),
    row(S::DeliveryPlace, "lng", Ours, "", "listeners_and_delivery"),
    row(S::DeliveryPlace, "lat", Ours, "", "listeners_and_delivery"),
    row(S::Monitor, "url", Ours, "http or https", "monitored_endpoints"),
    row(S::Monitor, "name", Ours, "in reports; the URL when absent", "monitored_endpoints"),
    row(S::Monitor, "series", Ours, "names of metrics, `*` for anything; histograms `*_stage_<name>_seconds` are read unnamed", "monitored_endpoints"),
    row(S::Monitor, "every", Ours, "1 s when absent, and at least", "monitored_endpoints"),

    row(S::Scenario, "name", Yes, "absent: its index", "scenarios"),
    row(S::Scenario, "weight", Yes, "integer part; 0 never", "scenarios"),
    row(S::Scenario, "engine", Yes, "`http`, `socketio`, `socketio-v3`, `ws`", "engines"),
    row(S::Scenario, "flow", Yes, "nested lists are flattened", "scenarios"),
    row(S::Scenario, "socketio", Partly, "one block for the run: scenarios may not differ", "scenario_socketio"),
    row(S::Scenario, "beforeScenario", Refused, HOOK, REFUSED),
    row(S::Scenario, "afterScenario", Refused, HOOK, REFUSED),
    row(S::Scenario, "beforeRequest", Refused, HOOK, REFUSED),
    row(S::Scenario, "afterResponse", Refused, HOOK, REFUSED),
    row(S::Scenario, "onError", Refused, HOOK, REFUSED),
    row(S::Before, "name", Yes, "", "before_and_after"),
    row(S::Before, "engine", Yes, "", "before_and_after"),
    row(S::Before, "flow", Yes, "", "before_and_after"),

    row(S::Step, "get", Yes, "", "requests"),
    row(S::Step, "post", Yes, "", "requests"),
    row(S::Step, "put", Yes, "", "requests"),
    row(S::Step, "patch", Yes, "", "requests"),
    row(S::Step, "delete", Yes, "", "requests"),
    row(S::Step, "head", Yes, "", "requests"),
    row(S::Step, "options", Yes, "", "requests"),
    row(S::Step, "emit", Yes, "all four spellings", "emit_spellings"),
    row(S::Step, "namespace", Yes, "beside `emit` or inside it", "emit_spellings"),
    row(S::Step, "response", Yes, "beside `emit` paths see the argument list, inside it the first argument", "emit_spellings"),
    row(S::Step, "acknowledge", Yes, "waits at most `timeout`; together with `response` both are waited for", "emit_spellings"),
    row(S::Step, "send", Yes, "text as it is, anything else as JSON; with `payload` also binary and its answer", "a_ws_user_sends_waits_and_captures"),
    row(S::Step, "think", Yes, "fractions mean seconds, in v2 they were milliseconds", "think_and_jitter"),
    row(S::Step, "jitter", Yes, "milliseconds or `N%`", "think_and_jitter"),
    row(S::Step, "log", Yes, "", "scenarios"),
    row(S::Step, "loop", Yes, "", "loops"),
    row(S::Step, "count", Yes, "number, template, `a-b`; absent or -1: for ever", "loops"),
    row(S::Step, "over", Yes, "", "loops"),
    row(S::Step, "loopValue", Yes, "", "loops"),
    row(S::Step, "loopElement", Yes, "", "loops"),
    row(S::Step, "whileTrue", Refused, HOOK, REFUSED),
    row(S::Step, "function", Refused, HOOK, REFUSED),
    row(S::Step, "parallel", Refused, "requests of a user go one after another: write them so, or give them scenarios of their own", REFUSED),
    row(S::Step, "limit", Refused, "it belongs to `parallel`", REFUSED),
    row(S::Step, "connect", Partly, "ws: anywhere in the flow, not only first; `function` is refused. Ours for socketio: connects there and not at the start, its templates filled then", "an_http_login_comes_before_the_connection"),
    row(S::Step, "wait", Partly, "ws: takes what came since the connect first, so nothing between steps is lost; what does not fit its `match` and `capture` is left for another step. Ours for socketio", "a_ws_user_sends_waits_and_captures"),
    row(S::Step, "listen", Ours, "from here on such events are kept for `wait`", "a_wait_takes_what_came_before_it_first"),
    row(S::Step, "disconnect", Ours, "`true` says goodbye; `drop` ends TCP without a word; `silent` stays open and answers nothing", "three_ways_to_leave_and_to_come_back"),
    row(S::Step, "reconnect", Ours, "connects anew, templates of the handshake filled again", "three_ways_to_leave_and_to_come_back"),
    row(S::Step, "read", Ours, "reads slowly, or not at all, for a while", "a_user_that_does_not_read_fills_the_servers_outbox"),
    row(S::Step, "capture", Refused, "put it inside the step it captures from: in the request, in `response`, in `acknowledge`, in `wait` or in `send`", REFUSED),
    row(S::Step, "match", Refused, "put it inside the step it looks at: in the request, in `response`, in `acknowledge`, in `wait` or in `send`", REFUSED),

    row(S::Request, "url", Yes, "prefixed with the target when it begins with `/`", "requests"),
    row(S::Request, "uri", Yes, "", "requests"),
    row(S::Request, "name", Yes, "", "requests"),
    row(S::Request, "headers", Yes, "", "requests"),
    row(S::Request, "cookie", Yes, "", "requests"),
    row(S::Request, "qs", Yes, "", "requests"),
    row(S::Request, "json", Yes, "goes before `body`", "requests"),
    row(S::Request, "body", Yes, "", "requests"),
    row(S::Request, "form", Yes, "", "requests"),
    row(S::Request, "formData", Refused, "multipart bodies are not supported: use `form`, `json` or `body`", REFUSED),
    row(S::Request, "setContentLengthHeader", Ignored, "the length is always sent", IGNORED),
    row(S::Request, "auth", Yes, "basic", "requests"),
    row(S::Request, "followRedirect", Yes, "a 304 and a 3xx without Location end the step", "requests"),
    row(S::Request, "gzip", Ignored, "bodies are asked for and read as they are", IGNORED),
    row(S::Request, "http2", Refused, "HTTP/1.1 only", REFUSED),
    row(S::Request, "capture", Yes, "", "captures_and_matches"),
    row(S::Request, "match", Yes, "", "captures_and_matches"),
    row(S::Request, "expect", Yes, "", "expectations"),
    row(S::Request, "beforeRequest", Refused, HOOK, REFUSED),
    row(S::Request, "afterResponse", Refused, HOOK, REFUSED),
    row(S::Request, "ifTrue", Partly, "the name of a variable; expressions and functions are refused", "if_true"),
    row(S::Request, "probability", Yes, "0 to 100", "requests"),
    row(S::Auth, "user", Yes, "", "requests"),
    row(S::Auth, "pass", Yes, "", "requests"),

    row(S::Expect, "statusCode", Yes, "", "expectations"),
    row(S::Expect, "notStatusCode", Yes, "", "expectations"),
    row(S::Expect, "contentType", Yes, "", "expectations"),
    row(S::Expect, "hasProperty", Yes, "", "expectations"),
    row(S::Expect, "equals", Yes, "", "expectations"),
    row(S::Expect, "hasHeader", Yes, "", "expectations"),
    row(S::Expect, "headerEquals", Yes, "", "expectations"),
    row(S::Expect, "matchesRegexp", Yes, "", "expectations"),
    row(S::Expect, "notHasProperty", Refused, "not supported yet: use `match` on what must be there", REFUSED),
    row(S::Expect, "cdnHit", Refused, "not supported: use `headerEquals` on the cache's header", REFUSED),
    row(S::Expect, "jmespath", Refused, "not supported: use `match` with a JSON path", REFUSED),

    row(S::Emit, "channel", Yes, "", "emit_spellings"),
    row(S::Emit, "data", Yes, "", "emit_spellings"),
    row(S::Emit, "namespace", Yes, "v1 spelling, honoured everywhere", "emit_spellings"),
    row(S::Emit, "response", Yes, "v1 spelling, honoured everywhere", "emit_spellings"),
    row(S::Emit, "acknowledge", Yes, "v1 spelling, honoured everywhere", "emit_spellings"),
    row(S::Response, "channel", Yes, "", "emit_spellings"),
    row(S::Response, "on", Yes, "", "emit_spellings"),
    row(S::Response, "data", Partly, "deep equality with the first argument; a list beside `emit`: with all arguments. v2's substring search is not done", "emit_spellings"),
    row(S::Response, "args", Yes, "deep equality with all arguments", "emit_spellings"),
    row(S::Response, "match", Yes, "", "emit_spellings"),
    row(S::Response, "capture", Yes, "without `data` the first message wins; v2 sat out the timeout", "emit_spellings"),
    row(S::Response, "concat", Refused, "messages are judged one by one: use `data`, `args` or `match`", REFUSED),
    row(S::Acknowledge, "data", Yes, "", "emit_spellings"),
    row(S::Acknowledge, "args", Yes, "", "emit_spellings"),
    row(S::Acknowledge, "match", Yes, "", "emit_spellings"),
    row(S::Acknowledge, "capture", Yes, "paths see the argument list", "emit_spellings"),

    row(S::Listen, "for", Ours, "one event or a list", "socket_steps"),
    row(S::Listen, "namespace", Ours, "", "socket_steps"),
    row(S::Wait, "for", Ours, "an event's name; not for ws, whose frames have none", "socket_steps"),
    row(S::Wait, "namespace", Ours, "", "socket_steps"),
    row(S::Wait, "timeout", Ours, "absent: `config.timeout`; too late fails the user", "a_wait_that_comes_to_nothing_says_how_far_it_got"),
    row(S::Wait, "count", Ours, "so many messages; 1 when absent", "a_wait_takes_what_came_before_it_first"),
    row(S::Wait, "match", Partly, "what does not fit is left for another step, where Artillery fails", "a_wait_takes_what_came_before_it_first"),
    row(S::Wait, "capture", Partly, "from the last message that fits; paths see an event's first argument", "a_wait_takes_what_came_before_it_first"),
    row(S::Wait, "collect", Ours, "a variable that gets the list of what came", "a_wait_takes_what_came_before_it_first"),
    row(S::Connect, "auth", Ours, "in place of `config.socketio`'s", "an_http_login_comes_before_the_connection"),
    row(S::Connect, "query", Ours, "in place of `config.socketio`'s", "socket_steps"),
    row(S::Connect, "extraHeaders", Ours, "in place of `config.socketio`'s", "socket_steps"),
    row(S::WsConnect, "target", Yes, "an address, or a path on the target; filled for each user", "a_ws_user_connects_as_the_script_says"),
    row(S::WsConnect, "headers", Yes, "in place of `config.ws`'s", "a_ws_user_connects_as_the_script_says"),
    row(S::WsConnect, "subprotocols", Yes, "in place of `config.ws`'s", "a_ws_user_connects_as_the_script_says"),
    row(S::WsConnect, "proxy", Refused, "proxies are not supported", REFUSED),
    row(S::WsConnect, "function", Refused, HOOK, REFUSED),
    row(S::Disconnect, "how", Ours, "`close`, `drop` or `silent`", "three_ways_to_leave_and_to_come_back"),
    row(S::Reconnect, "after", Ours, "how long it stays away first", "three_ways_to_leave_and_to_come_back"),
    row(S::Read, "bytesPerSecond", Ours, "", "a_user_that_does_not_read_fills_the_servers_outbox"),
    row(S::Read, "stop", Ours, "`true`: nothing is read and no heartbeat answered", "a_user_that_does_not_read_fills_the_servers_outbox"),
    row(S::Read, "for", Ours, "", "a_user_that_does_not_read_fills_the_servers_outbox"),
    row(S::Send, "payload", Yes, "what is sent, when there are options beside it", "a_ws_user_sends_waits_and_captures"),
    row(S::Send, "capture", Yes, "from the next message that fits; its time is `websocket.response_time`", "a_ws_user_sends_waits_and_captures"),
    row(S::Send, "match", Partly, "the next message that fits is the answer, where Artillery takes the very next", "a_ws_user_sends_waits_and_captures"),
    row(S::Send, "encoding", Ours, "`base64`: a binary frame", "a_ws_user_sends_waits_and_captures"),

    row(S::Capture, "json", Yes, "of several results one at random, seeded", "captures_and_matches"),
    row(S::Capture, "regexp", Partly, "Rust's syntax: no look-around, no back-references", "captures_and_matches"),
    row(S::Capture, "flags", Yes, "`i`, `m`, `s`, `u`, `g`", "captures_and_matches"),
    row(S::Capture, "group", Yes, "", "captures_and_matches"),
    row(S::Capture, "header", Yes, "", "captures_and_matches"),
    row(S::Capture, "as", Yes, "", "captures_and_matches"),
    row(S::Capture, "strict", Yes, "", "captures_and_matches"),
    row(S::Capture, "selector", Refused, "HTML is not parsed: use `regexp`", REFUSED),
    row(S::Capture, "attr", Refused, "it belongs to `selector`: use `regexp`", REFUSED),
    row(S::Capture, "index", Refused, "it belongs to `selector`: use `regexp`", REFUSED),
    row(S::Capture, "xpath", Refused, "XML is not parsed: use `regexp`", REFUSED),
    row(S::Capture, "transform", Refused, "it is JavaScript, which drumfire does not run", REFUSED),
    row(S::Capture, "multiple", Refused, "one result is kept", REFUSED),
    row(S::Match, "json", Yes, "", "captures_and_matches"),
    row(S::Match, "regexp", Partly, "Rust's syntax: no look-around, no back-references", "captures_and_matches"),
    row(S::Match, "flags", Yes, "", "captures_and_matches"),
    row(S::Match, "group", Yes, "", "captures_and_matches"),
    row(S::Match, "header", Yes, "", "captures_and_matches"),
    row(S::Match, "value", Yes, "strict equality", "captures_and_matches"),
    row(S::Match, "strict", Yes, "", "captures_and_matches"),
    row(S::Match, "selector", Refused, "HTML is not parsed: use `regexp`", REFUSED),
    row(S::Match, "xpath", Refused, "XML is not parsed: use `regexp`", REFUSED),

    row(S::Template, "{{ name }}", Yes, "alone it keeps its type; unknown: warned with its place, then dropped, `null` or `undefined`", "holes"),
    row(S::Template, "{{ a.b[0] }}", Yes, "", "holes"),
    row(S::Template, "{{ $randomNumber(a, b) }}", Yes, "negative numbers too; seeded", "random_functions"),
    row(S::Template, "{{ $randomString(n) }}", Yes, "seeded", "random_functions"),
    row(S::Template, "{{ $uuid }}", Yes, "one per user", "variables_and_precedence"),
    row(S::Template, "{{ $environment }}", Yes, "", "environments"),
    row(S::Template, "{{ $processEnvironment.X }}", Yes, "also `$env.X`, and what `--dotenv` adds", "dotenv_and_environment_variables"),
    row(S::Template, "{{ $loopCount }}", Yes, "`$loopElement` too", "loops"),
    row(S::Template, "{{ $testId }}", Refused, "a run's id is not known to templates", "unknown_template_functions_are_refused"),
    row(S::Template, "{{ $fakeData() }}", Refused, "functions of plugins: use CSV rows or `$randomString`", "unknown_template_functions_are_refused"),

    row(S::Command, "run", Yes, "exit codes 0; 1 script error or failed `ensure`; 3 figures not to be believed where something is claimed of them; 21 failed `expect`; 129, 130, 143 signals, results written all the same", "precedence"),
    row(S::Command, "report", Yes, "results of 1.6, 1.7, 2 and ours; the page needs nothing from elsewhere", "run_and_report_as_the_journal_types_them"),
    row(S::Command, "check", Ours, "what would run, what is ignored; exit code 1 on errors", "check_prints_what_will_run_and_exits_1_on_errors"),
    row(S::Command, "debug", Ours, "one user, no phases, everything it does printed; exit code 1 when it failed", "debug_prints_everything_one_user_does"),
    row(S::Command, "compare", Ours, "two results or groups of repeated runs; exit codes 0 no worse, 1 worse, 3 nothing can be claimed", "a_faster_run_is_better"),
    row(S::Command, "limit", Ours, "the most a target holds; exit codes 0 found, 1 nothing held, 3 the tester was the limit", "the_limit_of_a_server_is_found_and_confirmed"),
    row(S::Command, "quick", Partly, "flags of its own; prints the script it stands for with `--print-script`", "flags_become_the_script_a_person_would_write"),
    row(S::Command, "init", Ours, "a script to begin with", "every_script_runs_as_it_stands"),
    row(S::Command, "completions", Ours, "for bash, zsh, fish and powershell", "completions_are_printed"),
    row(S::Command, "convert", Refused, "scripts may be YAML or JSON as they are", "not_yet_and_never_exit_1"),
    row(S::Command, "dino", Refused, "no dinosaur", "not_yet_and_never_exit_1"),
    row(S::Command, "run-fargate", Refused, "no cloud launchers", "not_yet_and_never_exit_1"),
    row(S::Command, "run-lambda", Refused, "no cloud launchers", "not_yet_and_never_exit_1"),
    row(S::Command, "run-aci", Refused, "no cloud launchers", "not_yet_and_never_exit_1"),

    row(S::Flag, "--target", Yes, "`-t`", "flags"),
    row(S::Flag, "--config", Yes, "`-c`; merged over the script", "several_files_merge"),
    row(S::Flag, "--environment", Yes, "`-e`", "environments"),
    row(S::Flag, "--payload", Yes, "`-p`", "payload_from_the_command_line"),
    row(S::Flag, "--variables", Yes, "`-v`", "variables_and_precedence"),
    row(S::Flag, "--overrides", Yes, "lists are replaced", "overrides_replace_lists"),
    row(S::Flag, "--dotenv", Yes, "also `--env-file`", "dotenv_and_environment_variables"),
    row(S::Flag, "--insecure", Yes, "`-k`", "tls_keys"),
    row(S::Flag, "--solo", Yes, "`-s`", "phases"),
    row(S::Flag, "--scenario-name", Yes, "a name or a regular expression that fits one", "scenario_name"),
    row(S::Flag, "--output", Yes, "`-o`; file or directory", "flags"),
    row(S::Flag, "--quiet", Yes, "`-q`", "flags"),
    row(S::Flag, "--name", Ignored, "Artillery Cloud's; taken with a notice", "flags"),
    row(S::Flag, "--tags", Ignored, "Artillery Cloud's; taken with a notice", "flags"),
    row(S::Flag, "--note", Ignored, "Artillery Cloud's; taken with a notice", "flags"),
    row(S::Flag, "--record", Ignored, "Artillery Cloud's; taken with a notice", "flags"),
    row(S::Flag, "--key", Ignored, "Artillery Cloud's; taken with a notice", "flags"),
    row(S::Flag, "--strict", Ours, "warnings are errors", "unknown_keys_warn_with_line_and_suggestion"),
    row(S::Flag, "--seed", Ours, "repeats a run's random choices", "poisson_is_seeded"),
    row(S::Flag, "--format", Ours, "of `run`: `plain`, `v1`, `v2`; of `report`: `html`, `junit`, `csv`, `markdown`, `hdr`, `text`", "flags"),
    row(S::Flag, "--ack", Ours, "every emit that waits for nothing asks for an acknowledgement", "flags"),
    row(S::Flag, "--require-valid", Ours, "exit code 3 when the figures are not to be believed", "precedence"),
    row(S::Flag, "--workers", Ours, "threads; one schedule for all of them", "workers_share_one_schedule"),
    row(S::Flag, "--pairs", Ours, "who heard what, as CSV", "flags"),
    row(S::Flag, "--live", Ours, "the report while the run goes on, `/metrics` for Prometheus and `/result.json`; `--live=ADDRESS`, default 127.0.0.1:9014", "flags"),
    row(S::Flag, "--max-duration", Ours, "after so long nobody arrives any more; users get the grace to end and are then cut off, neither completed nor failed", "the_longest_duration_ends_arrivals_and_cuts_off_who_stays"),
    row(S::Flag, "--grace", Ours, "the script's `timeout` when absent: who waits for an answer has it by then; after Ctrl-C at most 1 s", "the_longest_duration_ends_arrivals_and_cuts_off_who_stays"),
    row(S::Flag, "--sources", Ours, "each connection from the next of these addresses, for more sockets than one address has ports", "connections_come_from_the_source_addresses_in_turn"),
    row(S::Flag, "--users", Ours, "of `debug`: so many users at once", "debug_prints_everything_one_user_does"),
    row(S::Flag, "--windows", Ours, "each reporting window as a line of JSON when it ends: what `intermediate` of the result has, and `drumfire.delivery` so far", "windows_are_written_as_they_end"),
    row(S::Flag, "--fail-if", Ours, "`compare`: what makes it fail, in place of the key figures", "what_is_allowed_is_worse_and_passes"),
    row(S::Flag, "--allow", Ours, "`compare`: how much worse a key figure may get", "what_is_allowed_is_worse_and_passes"),
    row(S::Flag, "--force", Ours, "`compare`: a verdict though script, phases or listeners differ", "runs_of_different_load_are_not_judged_unless_forced"),
    row(S::Flag, "--all", Ours, "`compare`: every figure", "equal_runs_are_the_same"),
    row(S::Flag, "--until", Ours, "`limit`: what has to hold", "errors_count_unless_they_are_spoken_of"),
    row(S::Flag, "--what", Ours, "`limit`: arrivals a second, or users at once", "phases_are_replaced_and_other_overrides_stay"),
    row(S::Flag, "--from", Ours, "`limit`: where to begin", "bounds_are_kept_and_nothing_may_hold_at_all"),
    row(S::Flag, "--to", Ours, "`limit`: nothing higher is tried", "bounds_are_kept_and_nothing_may_hold_at_all"),
    row(S::Flag, "--step-duration", Ours, "`limit`: seconds a step lasts", "the_limit_of_a_server_is_found_and_confirmed"),
    row(S::Flag, "--precision", Ours, "`limit`: how close to the edge", "the_limit_is_found_within_the_precision_wherever_it_lies"),
    row(S::Flag, "--keep", Ours, "`limit`: the whole result of each step", "the_limit_of_a_server_is_found_and_confirmed"),
    row(S::Flag, "--emit", Ours, "`quick`: event each user emits", "flags_become_the_script_a_person_would_write"),
    row(S::Flag, "--data", Ours, "`quick`: its data", "flags_become_the_script_a_person_would_write"),
    row(S::Flag, "--response", Ours, "`quick`: event the emit waits for", "flags_become_the_script_a_person_would_write"),
    row(S::Flag, "--listen", Ours, "`quick`: event that listeners hear", "flags_become_the_script_a_person_would_write"),
    row(S::Flag, "--listeners", Ours, "`quick`: how many", "flags_become_the_script_a_person_would_write"),
    row(S::Flag, "--join", Ours, "`quick`: what each listener emits first", "flags_become_the_script_a_person_would_write"),
    row(S::Flag, "--join-data", Ours, "`quick`: its data", "flags_become_the_script_a_person_would_write"),
    row(S::Flag, "--stamp", Ours, "`quick`: `delivery.stamp`", "flags_become_the_script_a_person_would_write"),
    row(S::Flag, "--read", Ours, "`quick`: `delivery.read`", "flags_become_the_script_a_person_would_write"),
    row(S::Flag, "--expect", Ours, "`quick`: `delivery.expect`", "flags_become_the_script_a_person_would_write"),
    row(S::Flag, "--namespace", Ours, "`quick`: of the emits", "flags_become_the_script_a_person_would_write"),
    row(S::Flag, "--auth", Ours, "`quick`: the handshake's", "flags_become_the_script_a_person_would_write"),
    row(S::Flag, "--polling", Ours, "`quick`: in place of WebSocket", "flags_become_the_script_a_person_would_write"),
    row(S::Flag, "--stay", Ours, "`quick`: seconds a user stays connected", "flags_become_the_script_a_person_would_write"),
    row(S::Flag, "--get", Ours, "`quick`: a path requested; also `--http`", "flags_become_the_script_a_person_would_write"),
    row(S::Flag, "--post", Ours, "`quick`: a path posted to", "flags_become_the_script_a_person_would_write"),
    row(S::Flag, "--json", Ours, "`quick`: the body", "flags_become_the_script_a_person_would_write"),
    row(S::Flag, "--send", Ours, "`quick`: a plain WebSocket message", "plain_websockets_speak_and_hear"),
    row(S::Flag, "--reply", Ours, "`quick`: the next frame is its answer", "plain_websockets_speak_and_hear"),
    row(S::Flag, "--rate", Ours, "`quick`: users a second", "flags_become_the_script_a_person_would_write"),
    row(S::Flag, "--duration", Ours, "`quick`: seconds; Artillery's `-d`", "flags_become_the_script_a_person_would_write"),
    row(S::Flag, "--header", Ours, "`quick`: of requests and handshakes", "flags_become_the_script_a_person_would_write"),
    row(S::Flag, "--print-script", Ours, "`quick`: prints the script and runs nothing", "flags_become_the_script_a_person_would_write"),
    row(S::Flag, "--kind", Ours, "`init`: http, socketio, ws or chat", "every_script_runs_as_it_stands"),
    row(S::Flag, "--no-tui", Ours, "also `--plain`: lines in place of the screen", "flags"),
    row(S::Flag, "--junit", Ours, "JUnit XML", "every_form_is_written_even_after_ctrl_c"),
    row(S::Flag, "--csv", Ours, "a row for each second", "every_form_is_written_even_after_ctrl_c"),
    row(S::Flag, "--markdown", Ours, "`-`: GitHub's job summary", "markdown_goes_to_the_job_summary"),
    row(S::Flag, "--hdr", Ours, "HdrHistogram's interval log", "every_form_is_written_even_after_ctrl_c"),

    row(S::Metric, "vusers.created", Yes, "v1: Scenarios launched", "exceptions_name_their_field_and_the_user_goes_on"),
    row(S::Metric, "vusers.created_by_name.<name>", Yes, "v1: Scenario counts", "v1_summary"),
    row(S::Metric, "vusers.completed", Yes, "v1: Scenarios completed", "exceptions_name_their_field_and_the_user_goes_on"),
    row(S::Metric, "vusers.failed", Yes, "", "three_ways_to_fail_are_three_rows_with_their_stage_and_count"),
    row(S::Metric, "vusers.skipped", Yes, "also in the summary, and a reason to call a run invalid", "arrivals_above_max_vusers_are_skipped_and_make_the_run_invalid"),
    row(S::Metric, "vusers.session_length", Yes, "completed users only", "v2_summary"),
    row(S::Metric, "http.requests", Yes, "", "three_ways_to_fail_are_three_rows_with_their_stage_and_count"),
    row(S::Metric, "http.responses", Yes, "", "v2_summary"),
    row(S::Metric, "http.codes.<n>", Yes, "", "redirects_cookies_and_answers_without_a_location"),
    row(S::Metric, "http.response_time", Partly, "first byte, as in v2; v1 counted connecting in", "redirects_cookies_and_answers_without_a_location"),
    row(S::Metric, "http.total", Yes, "always measured", "v2_summary"),
    row(S::Metric, "socketio.emit", Yes, "", "deliveries_are_counted_missing_twice_and_out_of_order"),
    row(S::Metric, "socketio.response_time", Partly, "only of acks and responses, once each; Artillery times the local call of unanswered emits, and records responses twice", "with_ack_every_emit_is_confirmed_and_a_refusal_in_the_ack_is_an_error"),
    row(S::Metric, "socketio.connect.<stage>", Ours, "dns, tcp, tls, polling, upgrade, handshake, probe, namespace, and total", "polling_and_the_change_to_websocket_are_counted"),
    row(S::Metric, "socketio.upgrades", Ours, "users who changed from polling to WebSocket; `socketio.upgrade_time` from the open packet to the change", "polling_and_the_change_to_websocket_are_counted"),
    row(S::Metric, "socketio.upgrades_failed", Ours, "those who tried and stayed with polling; an error with its stage as well, though the user goes on", "errors_over_polling_name_step_endpoint_and_cause"),
    row(S::Metric, "websocket.messages_sent", Yes, "", "a_ws_user_sends_waits_and_captures"),
    row(S::Metric, "websocket.messages_received", Yes, "every frame, waited for or not", "a_ws_user_sends_waits_and_captures"),
    row(S::Metric, "websocket.send_rate", Partly, "the aggregate is total over time, not the mean of windows", "a_ws_user_sends_waits_and_captures"),
    row(S::Metric, "websocket.response_time", Ours, "of a `send` with its own `capture` or `match`, and of a `wait` with a `match` right behind a `send`; a `send` that neither follows has none", "a_ws_user_sends_waits_and_captures"),
    row(S::Metric, "websocket.connect.<stage>", Ours, "dns, tcp, tls, upgrade, and total", "a_ws_user_connects_as_the_script_says"),
    row(S::Metric, "drumfire.wait.<event>", Ours, "how long a `wait` for the event lasted, 0 when it had come already; no response time, for nobody asked. Of ws: `drumfire.wait.frame`", "a_wait_takes_what_came_before_it_first"),
    row(S::Metric, "drumfire.connections.lost", Ours, "connections that ended without our doing, or that the script cut off with `drop` or `silent`", "three_ways_to_leave_and_to_come_back"),
    row(S::Metric, "drumfire.connections.back", Ours, "those whose owner connected again", "three_ways_to_leave_and_to_come_back"),
    row(S::Metric, "errors.<code>", Partly, "each failure once, with step, endpoint, cause and sample in the result", "three_ways_to_fail_are_three_rows_with_their_stage_and_count"),
    row(S::Metric, "http.request_rate", Partly, "the aggregate is total over time, not the mean of windows", "v2_summary"),
    row(S::Metric, "socketio.emit_rate", Partly, "the aggregate is total over time, not the mean of windows", "v2_summary"),
    row(S::Metric, "drumfire.start_lateness", Ours, "start minus due", "a_histogram_is_looked_at_before_it_is_believed"),
    row(S::Metric, "drumfire.delivery", Ours, "heard minus sent", "deliveries_are_counted_missing_twice_and_out_of_order"),
    row(S::Metric, "drumfire.delivery_ack", Ours, "ack of a stamped message minus sent", "a_loss_of_one_in_a_hundred_is_shown_by_class_and_by_listener_and_over_time"),
    row(S::Metric, "drumfire.delivery.class.*", Ours, "`drumfire.delivery` of one group of listeners", "a_loss_of_one_in_a_hundred_is_shown_by_class_and_by_listener_and_over_time"),
    row(S::Metric, "drumfire.delivery.expected, .heard, .missing, .late, .duplicates, .unexpected", Ours, "under the second the message was sent in", "a_loss_of_one_in_a_hundred_is_shown_by_class_and_by_listener_and_over_time"),
    row(S::Metric, "drumfire.connections.lost, .back", Ours, "of listeners: without our doing or by a storm; in their place again", "storms_take_their_share_and_the_recovery_can_be_drawn"),
    row(S::Metric, "drumfire.reconnect", Ours, "from the one to the other", "storms_take_their_share_and_the_recovery_can_be_drawn"),
    row(S::Metric, "drumfire.heartbeats.late", Ours, "", "pings_that_come_too_late_are_counted_while_messages_keep_the_connection_alive"),
];

/// The keys a section knows.
pub fn keys(section: Section) -> impl Iterator<Item = &'static Entry> {
    TABLE.iter().filter(move |entry| entry.section == section)
}

pub fn find(section: Section, key: &str) -> Option<&'static Entry> {
    keys(section).find(|entry| entry.key == key)
}

/// docs/artillery-compat.md.
pub fn document() -> String {
    let mut text = String::from(
        "# Artillery scripts in drumfire\n\n\
         <!-- Written from crates/load-tester/src/script/compat.rs by the test `compat_document_is_current`: \
         UPDATE_DOCS=1 cargo test -p load-tester compat -->\n\n\
         What drumfire makes of each key, step and flag of Artillery 1.6, 1.7 and 2, and the test that shows it.\n\n\
         - **yes**: as in Artillery. **partly**: with the difference named. **ours**: Artillery does not know it.\n\
         - **ignored**: taken with a warning; the load is the same.\n\
         - **refused**: an error with its place and what to do, because leaving it out would change what the script means.\n\
         - A key that is in no table warns with its line and the nearest known key; `--strict` refuses it.\n",
    );
    let mut last = None;
    for entry in TABLE {
        if last != Some(entry.section) {
            let _ = write!(
                text,
                "\n## {}\n\n| key | here | ruling | test |\n| --- | --- | --- | --- |\n",
                entry.section.title()
            );
            last = Some(entry.section);
        }
        let support = match entry.support {
            Yes => "yes",
            Partly => "partly",
            Ours => "ours",
            Ignored => "ignored",
            Refused => "refused",
        };
        let _ = writeln!(text, "| `{}` | {support} | {} | `{}` |", entry.key, entry.ruling, entry.test);
    }
    text
}

impl Section {
    fn title(self) -> &'static str {
        match self {
            S::Document => "The script",
            S::Config => "`config`",
            S::Phase => "`config.phases[]`",
            S::Payload => "`config.payload`",
            S::Defaults => "`config.defaults`, `config.http.defaults`",
            S::DefaultsThink => "`config.defaults.think`",
            S::Http => "`config.http`",
            S::Tls => "`config.tls`",
            S::Ws => "`config.ws`",
            S::SocketIo => "`config.socketio`",
            S::Engines => "`config.engines`",
            S::Plugins => "`config.plugins`",
            S::Ensure => "`config.ensure`",
            S::Condition => "`config.ensure.conditions[]`",
            S::Listener => "`config.listeners[]`",
            S::ListenerPlace => "`config.listeners[].place`",
            S::Moving => "`config.listeners[].moving`",
            S::Returning => "`config.listeners[].returning`",
            S::Slow => "`config.listeners[].slow`",
            S::Storm => "`config.listeners[].storm`",
            S::Delivery => "`config.delivery`",
            S::DeliveryPlace => "`config.delivery.place`",
            S::Monitor => "`config.monitor[]`",
            S::Scenario => "`scenarios[]`",
            S::Before => "`before`, `after`",
            S::Step => "Steps",
            S::Request => "`get`, `post`, `put`, `patch`, `delete`, `head`, `options`",
            S::Auth => "`auth` of a request",
            S::Expect => "`expect`",
            S::Emit => "Inside `emit`",
            S::Response => "`response`",
            S::Acknowledge => "`acknowledge`",
            S::Listen => "`listen`",
            S::Wait => "`wait`",
            S::Connect => "`connect` of socketio",
            S::WsConnect => "`connect` of ws",
            S::Disconnect => "`disconnect`",
            S::Reconnect => "`reconnect`",
            S::Read => "`read`",
            S::Send => "`send` with options",
            S::Capture => "`capture`",
            S::Match => "`match`",
            S::Template => "Templates",
            S::Command => "Commands",
            S::Flag => "Flags",
            S::Metric => "Metrics",
        }
    }
}

/// The known word nearest to what was written, if any is near enough to be meant.
pub fn suggestion<'w>(written: &str, known: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    let written_low = written.to_lowercase();
    let most = match written.chars().count() {
        0..=2 => 1,
        3..=5 => 2,
        _ => 3,
    };
    known
        .into_iter()
        .filter(|word| *word != written)
        .map(|word| (distance(&written_low, &word.to_lowercase()), word))
        .filter(|(distance, word)| *distance <= most && *distance < word.chars().count())
        .min()
        .map(|(_, word)| word)
}

/// Edit distance in which swapping two neighbours counts once (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let changed = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + changed);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}
