//! A scenario's steps made ready to be walked many times: numbers for names, packets encoded, expressions compiled.

pub(crate) mod socket;

use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;
use socketio_client::Endpoint;

use crate::capture::{JsonPath, Rules, regexp};
use crate::ensure::Expression;
use crate::metrics::{Names, StepId, TimeId};
use crate::script::model::{
    Action, Config, ConnectStep, DataCheck, DeliveryConfig, EmitStep, Engine, Expectation, HttpStep, Jitter,
    LoopTimes, PathsSee, Step, Think,
};
use crate::script::template::Template;
use socket::{Connects, Kept, SendAction, SocketAction};

/// What all flows of a run are made ready with.
#[derive(Debug)]
pub(crate) struct Maker<'a> {
    pub(crate) names: &'a mut Names,
    pub(crate) target: &'a str,
    pub(crate) jitter: Option<Jitter>,
    /// Set for flows whose emits are stamped.
    pub(crate) delivery: Option<&'a DeliveryConfig>,
    /// Emits that wait for nothing ask for an ack.
    pub(crate) ack_all: bool,
    /// Put before each label, e.g. `listener: `.
    pub(crate) who: &'a str,
    pub(crate) config: &'a Config,
    /// The `connect` step read last in this flow.
    pub(crate) last_connect: ConnectStep,
}

#[derive(Debug)]
pub(crate) struct Flow {
    pub(crate) engine: Engine,
    pub(crate) connects: Connects,
    /// Where a connect without a step of its own is filed.
    pub(crate) connect: StepId,
    pub(crate) kept: Kept,
    pub(crate) steps: Vec<FlowStep>,
    /// No step from this one on makes an HTTP request.
    pub(crate) http_ends: usize,
}

#[derive(Debug)]
pub(crate) struct FlowStep {
    pub(crate) id: StepId,
    pub(crate) action: FlowAction,
}

#[derive(Debug)]
pub(crate) enum FlowAction {
    Http(Box<HttpAction>),
    Emit(Box<EmitAction>),
    /// Apart from the others because it is as frequent as an emit.
    Send(Box<SendAction>),
    Socket(Box<SocketAction>),
    Think {
        pause: Think,
        jitter: Option<Jitter>,
    },
    Log(Template),
    Loop(Box<LoopAction>),
}

#[derive(Debug)]
pub(crate) struct LoopAction {
    pub(crate) times: LoopTimes,
    pub(crate) value_name: std::sync::Arc<str>,
    pub(crate) steps: Vec<FlowStep>,
}

#[derive(Debug)]
pub(crate) struct HttpAction {
    pub(crate) spec: HttpStep,
    pub(crate) endpoint: TimeId,
    /// Server and path when neither differs from user to user.
    pub(crate) fixed: Option<FixedTarget>,
    pub(crate) method: http::Method,
    pub(crate) rules: Rules,
    pub(crate) expectations: Vec<ExpectationRule>,
    /// The body is kept, not only counted.
    pub(crate) need_body: bool,
    pub(crate) condition: Option<Expression>,
}

#[derive(Debug)]
pub(crate) struct FixedTarget {
    pub(crate) url: url::Url,
    pub(crate) path: http::uri::PathAndQuery,
}

#[derive(Debug)]
pub(crate) struct ExpectationRule {
    pub(crate) what: ExpectationKind,
    /// Number among all expectations of the run, for the checks.
    pub(crate) id: StepId,
}

#[derive(Debug)]
pub(crate) enum ExpectationKind {
    Plain(Expectation),
    HasProperty(JsonPath),
    Matches(regex::Regex),
}

#[derive(Debug)]
pub(crate) struct EmitAction {
    pub(crate) packet: Packet,
    /// `None`: it differs from user to user.
    pub(crate) namespace: Option<Box<str>>,
    pub(crate) spec: EmitStep,
    pub(crate) acknowledge: Option<Answered>,
    pub(crate) response: Option<Answered>,
    /// A mark goes into the first argument.
    pub(crate) stamped: bool,
}

/// What is expected of an ack or a response.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) data: Option<DataCheck>,
    pub(crate) rules: Rules,
    pub(crate) paths_see: PathsSee,
}

#[derive(Debug)]
pub(crate) enum Packet {
    /// The JSON array, and where in it the mark is put; the place it speaks of.
    Ready { data: Vec<u8>, mark_at: Option<usize>, place: Option<(f64, f64)> },
    /// Rendered for each user.
    Late,
}

impl Maker<'_> {
    pub(crate) fn flow(&mut self, engine: Engine, steps: &[Step]) -> anyhow::Result<Flow> {
        let endpoint = match engine {
            Engine::SocketIo => format!("{} in /", self.target),
            Engine::WebSocket | Engine::Http => self.target.to_owned(),
        };
        let connect = self.names.step(format!("{}connect", self.who), endpoint);
        let connects = socket::connects(engine, steps, self.config);
        self.last_connect = ConnectStep::default();
        let mut steps = self.steps(steps)?;
        let kept = self.kept(&mut steps);
        let asks = |step: &FlowStep| {
            any_step(std::slice::from_ref(step), &|action| matches!(action, FlowAction::Http(_)))
        };
        let http_ends = steps.iter().rposition(asks).map_or(0, |last| last + 1);
        Ok(Flow { engine, connects, connect, kept, steps, http_ends })
    }

    fn steps(&mut self, steps: &[Step]) -> anyhow::Result<Vec<FlowStep>> {
        steps.iter().map(|step| self.step(step)).collect()
    }

    fn step(&mut self, step: &Step) -> anyhow::Result<FlowStep> {
        let line = if step.line > 0 { format!(" (line {})", step.line) } else { String::new() };
        if let Some((label, endpoint, action)) = self.socket_step(&step.action, &line)? {
            let id = self.names.step(format!("{}{label}{line}", self.who), endpoint);
            return Ok(FlowStep { id, action });
        }
        let (label, endpoint, action) = match &step.action {
            Action::Http(http) => {
                let written = written(&http.url);
                let full = if written.starts_with('/') {
                    format!("{}{written}", self.target)
                } else {
                    written.clone()
                };
                let action = self.http(http).with_context(|| format!("{} {written}{line}", http.method))?;
                (format!("{} {written}", http.method), full, FlowAction::Http(Box::new(action)))
            }
            Action::Emit(emit) => {
                let event = written(&emit.event);
                let endpoint = format!("{event} in {}", written(&emit.namespace));
                let action = self.emit(emit).with_context(|| format!("emit {event}{line}"))?;
                (format!("emit {event}"), endpoint, FlowAction::Emit(Box::new(action)))
            }
            Action::Think { pause, jitter } => (
                "think".into(),
                String::new(),
                FlowAction::Think { pause: pause.clone(), jitter: jitter.or(self.jitter) },
            ),
            Action::Log(text) => ("log".into(), String::new(), FlowAction::Log(text.clone())),
            Action::Loop(inner) => {
                let steps = self.steps(&inner.steps)?;
                let action = LoopAction {
                    times: inner.times.clone(),
                    value_name: inner.value_name.as_str().into(),
                    steps,
                };
                ("loop".into(), String::new(), FlowAction::Loop(Box::new(action)))
            }
            other => unreachable!("made ready above: {other:?}"),
        };
        let id = self.names.step(format!("{}{label}{line}", self.who), endpoint);
        Ok(FlowStep { id, action })
    }

    fn http(&mut self, spec: &HttpStep) -> anyhow::Result<HttpAction> {
        let method = http::Method::from_bytes(spec.method.as_bytes())
            .with_context(|| format!("method {:?}", spec.method))?;
        let rules = Rules::new(&spec.captures, &spec.matches).map_err(anyhow::Error::msg)?;
        let fixed = match spec.url.as_constant() {
            Some(Value::String(text)) if spec.query.is_empty() => Some(fixed_target(self.target, text)?),
            _ => None,
        };
        let mut expectations = Vec::new();
        for expectation in &spec.expect {
            let what = match expectation {
                Expectation::HasProperty(path) => ExpectationKind::HasProperty(
                    JsonPath::parse(path).map_err(|why| anyhow::anyhow!("hasProperty {path}: {why}"))?,
                ),
                Expectation::MatchesRegexp(pattern) => ExpectationKind::Matches(
                    regexp(pattern, "").with_context(|| format!("matchesRegexp {pattern}"))?,
                ),
                other => ExpectationKind::Plain(other.clone()),
            };
            let id = self.names.step(format!("{}: {}", spec.name, describe(expectation)), String::new());
            expectations.push(ExpectationRule { what, id });
        }
        let body = |rule: &ExpectationRule| {
            matches!(rule.what, ExpectationKind::HasProperty(_) | ExpectationKind::Matches(_))
        };
        let need_body = rules.need_body() || expectations.iter().any(body);
        // Artillery's rule: an expression it cannot read counts as true.
        let condition = match &spec.if_true {
            None => None,
            Some(template) => match template.as_constant() {
                Some(Value::String(text)) => Expression::parse(text).ok(),
                _ => None,
            },
        };
        let endpoint = self.names.endpoint(&spec.name);
        Ok(HttpAction {
            spec: spec.clone(),
            endpoint,
            fixed,
            method,
            rules,
            expectations,
            need_body,
            condition,
        })
    }

    fn emit(&mut self, spec: &EmitStep) -> anyhow::Result<EmitAction> {
        let namespace = match spec.namespace.as_constant() {
            Some(Value::String(text)) if text.is_empty() => Some("/".into()),
            Some(Value::String(text)) if text.starts_with('/') => Some(text.as_str().into()),
            Some(Value::String(text)) => Some(format!("/{text}").into()),
            Some(_) => bail!("`namespace` must be text"),
            None => None,
        };
        let response = match &spec.response {
            None => None,
            Some(wait) => Some(Answered {
                data: wait.data.clone(),
                rules: Rules::new(&wait.captures, &wait.matches).map_err(anyhow::Error::msg)?,
                paths_see: wait.paths_see,
            }),
        };
        let mut acknowledge = match &spec.acknowledge {
            None => None,
            Some(wait) => Some(Answered {
                data: wait.data.clone(),
                rules: Rules::new(&wait.captures, &wait.matches).map_err(anyhow::Error::msg)?,
                paths_see: PathsSee::ArgumentArray,
            }),
        };
        if self.ack_all && acknowledge.is_none() && response.is_none() {
            acknowledge =
                Some(Answered { data: None, rules: Rules::default(), paths_see: PathsSee::ArgumentArray });
        }
        let packet = self.packet(spec);
        Ok(EmitAction {
            packet,
            namespace,
            spec: spec.clone(),
            acknowledge,
            response,
            stamped: self.delivery.is_some(),
        })
    }

    fn packet(&self, spec: &EmitStep) -> Packet {
        let Some(event) = spec.event.as_constant() else { return Packet::Late };
        let Some(mut args) =
            spec.args.iter().map(|arg| arg.as_constant().cloned()).collect::<Option<Vec<Value>>>()
        else {
            return Packet::Late;
        };
        let mut all = vec![event.clone()];
        all.append(&mut args);
        self.ready(Value::Array(all), Some(1))
    }

    /// Encodes what is the same for all users and leaves a hole for the mark. The message is the whole, or one element.
    fn ready(&self, mut whole: Value, element: Option<usize>) -> Packet {
        const HOLE: &str = "\u{1}drumfire-mark-7d1f0a52\u{1}";
        let message = match element {
            Some(element) => whole.get_mut(element),
            None => Some(&mut whole),
        };
        let mut place = None;
        if let (Some(delivery), Some(message)) = (self.delivery, message) {
            place = place_of(delivery, message);
            if let Some(Value::String(text)) = at_path_mut(message, &delivery.stamp) {
                text.push_str(HOLE);
            }
        }
        let mut data = match &whole {
            // A frame of plain text.
            Value::String(text) => text.clone(),
            whole => whole.to_string(),
        };
        let hole = Value::from(HOLE).to_string();
        let hole = &hole[1..hole.len() - 1];
        let mark_at = data.find(hole);
        if let Some(at) = mark_at {
            data.replace_range(at..at + hole.len(), "");
        }
        Packet::Ready { data: data.into_bytes(), mark_at, place }
    }
}

/// The member at a path of names (or indices, in lists).
pub(crate) fn at_path_mut<'v>(mut value: &'v mut Value, path: &[String]) -> Option<&'v mut Value> {
    for name in path {
        value = match value {
            Value::Object(map) => map.get_mut(name)?,
            Value::Array(items) => items.get_mut(name.parse::<usize>().ok()?)?,
            _ => return None,
        };
    }
    Some(value)
}

pub(crate) fn at_path<'v>(mut value: &'v Value, path: &[String]) -> Option<&'v Value> {
    for name in path {
        value = match value {
            Value::Object(map) => map.get(name)?,
            Value::Array(items) => items.get(name.parse::<usize>().ok()?)?,
            _ => return None,
        };
    }
    Some(value)
}

/// Where the message in an emit's first argument is said.
pub(crate) fn place_of(delivery: &DeliveryConfig, first: &Value) -> Option<(f64, f64)> {
    let number = |path: &[String]| match at_path(first, path)? {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    Some((number(&delivery.place.0)?, number(&delivery.place.1)?))
}

/// A template as it stands in the script, more or less.
fn written(template: &Template) -> String {
    match template.as_constant() {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => {
            let references: Vec<String> =
                template.references().iter().map(|one| format!("{{{{ {} }}}}", one.path)).collect();
            if references.is_empty() { "(template)".into() } else { references.join(" ") }
        }
    }
}

fn describe(expectation: &Expectation) -> String {
    match expectation {
        Expectation::StatusCode(codes) => format!("statusCode {codes:?}"),
        Expectation::NotStatusCode(codes) => format!("notStatusCode {codes:?}"),
        Expectation::ContentType(kind) => format!("contentType {kind}"),
        Expectation::HasHeader(name) => format!("hasHeader {name}"),
        Expectation::HeaderEquals(name, value) => format!("headerEquals {name} {}", written(value)),
        Expectation::HasProperty(path) => format!("hasProperty {path}"),
        Expectation::Equals(values) => {
            format!("equals {}", values.iter().map(written).collect::<Vec<_>>().join(", "))
        }
        Expectation::MatchesRegexp(pattern) => format!("matchesRegexp {pattern}"),
    }
}

/// The target goes before a URL that begins with `/`, and before no other.
pub(crate) fn full_url(target: &str, text: &str) -> anyhow::Result<url::Url> {
    let mut full = if text.starts_with('/') { format!("{target}{text}") } else { text.to_owned() };
    // The target may be written for the connection; requests go to the same server.
    if full.starts_with("ws://") || full.starts_with("wss://") {
        full.replace_range(..2, "http");
    }
    let url = url::Url::parse(&full).with_context(|| format!("Invalid URL - {full}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        bail!("Invalid URL - {full}");
    }
    Ok(url)
}

pub(crate) fn path_of(url: &url::Url) -> anyhow::Result<http::uri::PathAndQuery> {
    let text = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    text.parse().with_context(|| format!("Invalid URL - {url}"))
}

fn fixed_target(target: &str, text: &str) -> anyhow::Result<FixedTarget> {
    let url = full_url(target, text)?;
    Ok(FixedTarget { path: path_of(&url)?, url })
}

/// The shortest time a user of this flow lives by its own will: all its pauses.
pub(crate) fn shortest_life(steps: &[FlowStep]) -> Duration {
    let mut life = Duration::ZERO;
    for step in steps {
        life = life.saturating_add(match &step.action {
            FlowAction::Think { pause: Think::Fixed(pause), .. } => *pause,
            FlowAction::Socket(socket) => match **socket {
                SocketAction::Read { time, .. } => time,
                SocketAction::Reconnect { after, .. } => after,
                _ => Duration::ZERO,
            },
            FlowAction::Loop(inner) => {
                let once = shortest_life(&inner.steps);
                match &inner.times {
                    LoopTimes::Count { from, to: Some(to) } => {
                        once.saturating_mul(u32::try_from(to.saturating_sub(*from)).unwrap_or(0))
                    }
                    LoopTimes::Count { to: None, .. } => Duration::MAX,
                    LoopTimes::Over(values) => {
                        once.saturating_mul(u32::try_from(values.len()).unwrap_or(u32::MAX))
                    }
                    LoopTimes::Late(_) | LoopTimes::OverVariable(_) => once,
                }
            }
            _ => Duration::ZERO,
        });
    }
    life
}

/// Does any step, at any depth, answer yes?
pub(crate) fn any_step(steps: &[FlowStep], yes: &impl Fn(&FlowAction) -> bool) -> bool {
    steps.iter().any(|step| {
        yes(&step.action)
            || match &step.action {
                FlowAction::Loop(inner) => any_step(&inner.steps, yes),
                _ => false,
            }
    })
}

/// The server of the script's target as the client library wants it.
pub(crate) fn endpoint(target: &str) -> anyhow::Result<Endpoint> {
    Ok(socketio_client::Options::new(target)?.endpoint)
}
