//! Steps of users that have a connection, made ready: when it is made, what is kept in their inbox, frames encoded.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use serde_json::Value;

use super::{FlowAction, FlowStep, Maker, Packet, any_step, written};
use crate::capture::Rules;
use crate::inbox::Inbox;
use crate::metrics::{StepId, TimeId};
use crate::script::model::{
    Action, Capture, Config, ConnectStep, Engine, Leaving, ListenStep, SendStep, Step, WaitStep,
};
use crate::script::template::Template;

/// When a user of a flow gets its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Connects {
    AtStart,
    /// Before the first step that needs it: the handshake uses what an earlier step captures.
    BeforeFirstUse,
    /// The flow has a `connect` of its own.
    ByStep,
    /// The http engine.
    Never,
}

#[derive(Debug)]
pub(crate) enum SocketAction {
    Connect(ConnectStep),
    Disconnect(Leaving),
    /// As the nearest `connect` before it.
    Reconnect {
        over: ConnectStep,
        after: Duration,
    },
    Listen(ListenStep),
    Wait(WaitAction),
    Read {
        bytes_per_second: Option<NonZeroU32>,
        time: Duration,
    },
    /// No later step waits for these: (namespace, event), both empty for frames.
    Forget(Vec<(Box<str>, Box<str>)>),
}

#[derive(Debug)]
pub(crate) struct WaitAction {
    pub(crate) spec: WaitStep,
    pub(crate) rules: Rules,
    /// `drumfire.wait.<event>`; `None` for the answer to a `send`, whose time is a response time.
    pub(crate) time: Option<TimeId>,
}

#[derive(Debug)]
pub(crate) struct SendAction {
    /// A frame's payload; `None`: rendered for each user.
    pub(crate) packet: Option<Packet>,
    pub(crate) spec: SendStep,
    /// A mark goes into the payload.
    pub(crate) stamped: bool,
    pub(crate) answer: Option<WaitAction>,
}

/// What of a flow's messages is kept for its waits.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// The flow waits for something, so its users have an inbox.
    pub(crate) inbox: bool,
    /// Kept from the connect on, because the flow waits for it without a `listen`: (namespace, event, who waits).
    pub(crate) from_the_start: Vec<(Box<str>, Box<str>, StepId)>,
}

impl Kept {
    pub(crate) fn new_inbox(&self) -> Inbox {
        let mut inbox = Inbox::default();
        for (namespace, event, step) in &self.from_the_start {
            inbox.want(namespace, event, *step);
        }
        inbox
    }
}

/// What a flow's connection is made with unless a step says otherwise: the roots of the variables in it.
fn handshake(config: &Config, engine: Engine) -> BTreeSet<String> {
    let socketio = &config.socketio;
    let templates: Vec<&Template> = match engine {
        Engine::Http => Vec::new(),
        Engine::SocketIo => {
            let pairs = socketio.query.iter().chain(&socketio.extra_headers);
            pairs.map(|(_, template)| template).chain(&socketio.auth).collect()
        }
        Engine::WebSocket => config.ws.headers.iter().map(|(_, template)| template).collect(),
    };
    templates.iter().flat_map(|template| template.references()).map(|reference| reference.root).collect()
}

/// When users of this flow connect.
pub(crate) fn connects(engine: Engine, steps: &[Step], config: &Config) -> Connects {
    if engine == Engine::Http {
        return Connects::Never;
    }
    if has_connect(steps) {
        return Connects::ByStep;
    }
    let mut captured = BTreeSet::new();
    if captured_before_use(steps, &mut captured) && !captured.is_disjoint(&handshake(config, engine)) {
        return Connects::BeforeFirstUse;
    }
    Connects::AtStart
}

fn has_connect(steps: &[Step]) -> bool {
    steps.iter().any(|step| match &step.action {
        Action::Connect(_) => true,
        Action::Loop(inner) => has_connect(&inner.steps),
        _ => false,
    })
}

/// Gathers what is captured before the first step that needs a connection; false when no step does.
fn captured_before_use(steps: &[Step], captured: &mut BTreeSet<String>) -> bool {
    steps.iter().any(|step| match &step.action {
        Action::Http(http) => {
            captured.extend(http.captures.iter().map(|Capture { save_as, .. }| save_as.clone()));
            false
        }
        Action::Loop(inner) => captured_before_use(&inner.steps, captured),
        Action::Think { .. } | Action::Log(_) => false,
        _ => true,
    })
}

impl FlowAction {
    /// Does it do nothing without a connection?
    pub(crate) fn needs_socket(&self) -> bool {
        match self {
            Self::Emit(_) | Self::Send(_) => true,
            Self::Socket(action) => !matches!(**action, SocketAction::Forget(_)),
            Self::Http(_) | Self::Think { .. } | Self::Log(_) | Self::Loop(_) => false,
        }
    }
}

impl Maker<'_> {
    /// Label, endpoint and action of a step that is about the connection; `None` for others.
    pub(super) fn socket_step(
        &mut self,
        action: &Action,
        line: &str,
    ) -> anyhow::Result<Option<(String, String, FlowAction)>> {
        let target = self.target.to_owned();
        let made = match action {
            Action::Connect(step) => {
                self.last_connect = (**step).clone();
                let endpoint = match &step.target {
                    Some(url) => written(url),
                    None => target,
                };
                ("connect".to_owned(), endpoint, SocketAction::Connect((**step).clone()))
            }
            Action::Disconnect(leaving) => {
                let label = match leaving {
                    Leaving::Close => "disconnect",
                    Leaving::Drop => "disconnect (drop)",
                    Leaving::Silent => "disconnect (silent)",
                };
                (label.to_owned(), target, SocketAction::Disconnect(*leaving))
            }
            Action::Reconnect { after } => {
                let over = self.last_connect.clone();
                ("reconnect".to_owned(), target, SocketAction::Reconnect { over, after: *after })
            }
            Action::Listen(step) => {
                let events = step.events.iter().map(written).collect::<Vec<_>>().join(", ");
                let endpoint = format!("{events} in {}", written(&step.namespace));
                (format!("listen {events}"), endpoint, SocketAction::Listen((**step).clone()))
            }
            Action::Wait(step) => {
                let (label, endpoint) = match &step.event {
                    Some(event) => {
                        let event = written(event);
                        (format!("wait {event}"), format!("{event} in {}", written(&step.namespace)))
                    }
                    None => ("wait".to_owned(), target),
                };
                let action = self.wait(step).with_context(|| format!("{label}{line}"))?;
                (label, endpoint, SocketAction::Wait(action))
            }
            Action::Read { bytes_per_second, time } => {
                let label = match bytes_per_second {
                    Some(rate) => format!("read {rate} bytes/s"),
                    None => "read nothing".to_owned(),
                };
                let action = SocketAction::Read { bytes_per_second: *bytes_per_second, time: *time };
                (label, target, action)
            }
            Action::Send(step) => {
                let action = self.send(step).with_context(|| format!("send{line}"))?;
                return Ok(Some(("send".to_owned(), target, FlowAction::Send(Box::new(action)))));
            }
            _ => return Ok(None),
        };
        let (label, endpoint, action) = made;
        Ok(Some((label, endpoint, FlowAction::Socket(Box::new(action)))))
    }

    fn wait(&mut self, spec: &WaitStep) -> anyhow::Result<WaitAction> {
        let rules = Rules::new(&spec.captures, &spec.matches).map_err(anyhow::Error::msg)?;
        let name = spec.event.as_ref().map_or_else(|| "frame".to_owned(), written);
        let time = Some(self.names.time(&format!("drumfire.wait.{name}")));
        Ok(WaitAction { spec: spec.clone(), rules, time })
    }

    fn send(&mut self, spec: &SendStep) -> anyhow::Result<SendAction> {
        let answer = match &spec.answer {
            None => None,
            Some((captures, matches)) => {
                let spec = WaitStep {
                    event: None,
                    namespace: Template::constant("".into()),
                    timeout: None,
                    count: 1,
                    captures: captures.clone(),
                    matches: matches.clone(),
                    collect: None,
                };
                let rules = Rules::new(captures, matches).map_err(anyhow::Error::msg)?;
                Some(WaitAction { spec, rules, time: None })
            }
        };
        let packet = match spec.payload.as_constant() {
            None => None,
            Some(Value::String(text)) if spec.binary => {
                let data = base64::engine::general_purpose::STANDARD.decode(text).context("base64")?;
                Some(Packet::Ready { data, mark_at: None, place: None })
            }
            Some(value) => Some(self.ready(value.clone(), None)),
        };
        let stamped = self.delivery.is_some() && !spec.binary;
        Ok(SendAction { packet, spec: spec.clone(), stamped, answer })
    }

    /// What has to be kept for a flow's waits; puts a step behind the last wait for each thing that forgets it.
    pub(super) fn kept(&self, steps: &mut Vec<FlowStep>) -> Kept {
        let mut listened = BTreeSet::new();
        let mut waited: Vec<(Box<str>, Box<str>, StepId)> = Vec::new();
        gather(steps, &mut listened, &mut waited);
        let inbox = any_step(steps, &|action| topic(action).is_some());
        // A wait whose event's name is filled in late may be for any.
        if !any_step(steps, &|action| topic(action) == Some(LATE)) {
            keep_only(steps, &waited);
        }
        for (namespace, event, _) in &waited {
            let waits = |action: &FlowAction| {
                topic(action).is_some_and(|topic| *topic.0 == **namespace && *topic.1 == **event)
            };
            // In a loop that waits, everything is kept until the loop is over.
            let last = steps.iter().rposition(|step| any_step(std::slice::from_ref(step), &waits));
            let Some(at) = last.map(|last| last + 1) else { continue };
            let id = steps[at - 1].id;
            let forgets = Box::new(SocketAction::Forget(vec![(namespace.clone(), event.clone())]));
            steps.insert(at, FlowStep { id, action: FlowAction::Socket(forgets) });
        }
        waited.retain(|(namespace, event, _)| !listened.contains(&(namespace.clone(), event.clone())));
        Kept { inbox, from_the_start: waited }
    }
}

/// Stands for an event whose name differs from user to user. No event is called so.
const LATE: (&str, &str) = ("\u{1}", "\u{1}");

/// The (namespace, event) a step waits for, both empty for frames; `None` when it waits for nothing.
fn topic(action: &FlowAction) -> Option<(&str, &str)> {
    match action {
        FlowAction::Send(send) => send.answer.as_ref().map(|_| ("", "")),
        FlowAction::Socket(socket) => match &**socket {
            SocketAction::Wait(wait) => match &wait.spec.event {
                None => Some(("", "")),
                Some(event) => {
                    let event = event.as_constant().and_then(Value::as_str);
                    let namespace = wait.spec.namespace.as_constant().and_then(Value::as_str);
                    Some(event.zip(namespace).map_or(LATE, |(event, namespace)| (namespace, event)))
                }
            },
            _ => None,
        },
        _ => None,
    }
}

/// What is listened for and never waited for is counted by name, as all events are, and kept for nobody.
fn keep_only(steps: &mut [FlowStep], waited: &[(Box<str>, Box<str>, StepId)]) {
    for step in steps {
        match &mut step.action {
            FlowAction::Loop(inner) => keep_only(&mut inner.steps, waited),
            FlowAction::Socket(socket) => {
                let SocketAction::Listen(listen) = &mut **socket else { continue };
                let namespace = listen.namespace.as_constant().and_then(Value::as_str);
                let Some(namespace) = namespace.map(str::to_owned) else { continue };
                listen.events.retain(|event| {
                    let event = event.as_constant().and_then(Value::as_str);
                    event.is_none_or(|event| {
                        waited.iter().any(|(one, other, _)| **one == *namespace && **other == *event)
                    })
                });
            }
            _ => {}
        }
    }
}

type Names = BTreeSet<(Box<str>, Box<str>)>;

fn gather(steps: &[FlowStep], listened: &mut Names, waited: &mut Vec<(Box<str>, Box<str>, StepId)>) {
    for step in steps {
        match &step.action {
            FlowAction::Loop(inner) => gather(&inner.steps, listened, waited),
            FlowAction::Socket(socket) if let SocketAction::Listen(listen) = &**socket => {
                let namespace = listen.namespace.as_constant().and_then(Value::as_str);
                for event in &listen.events {
                    let event = event.as_constant().and_then(Value::as_str);
                    listened.extend(namespace.zip(event).map(|(one, other)| (one.into(), other.into())));
                }
            }
            action => {
                if let Some((namespace, event)) = topic(action).filter(|topic| *topic != LATE)
                    && !waited.iter().any(|(one, other, _)| **one == *namespace && **other == *event)
                {
                    waited.push((namespace.into(), event.into(), step.id));
                }
            }
        }
    }
}
