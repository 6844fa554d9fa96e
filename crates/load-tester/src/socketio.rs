//! The Socket.IO side of a user: connecting, emitting, acknowledgements and responses.

use std::io::Write as _;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use serde_json::Value;
use socketio_client::{Incoming, Kind, Options, Revision, Timeouts, Transport};

use crate::capture::Answer;
use crate::delivery::Status;
use crate::flow::{Answered, EmitAction, Packet, at_path_mut, place_of};
use crate::metrics::{Count, StepId, Time};
use crate::script::model::{self, Config, DataCheck, PathsSee, SocketIoConfig};
use crate::script::template::Template;
use crate::virtual_user::{Actor, Failed, OpenSocket, Person, complaint_cause, lose, lost_sample, told};

/// How every user of a run connects.
#[derive(Debug)]
pub(crate) struct SocketTemplate {
    base: Options,
    query: Vec<(String, Template)>,
    headers: Vec<(String, Template)>,
    auth: Option<Template>,
    /// Nothing differs from user to user, so `base` is what everybody uses.
    same_for_all: bool,
}

impl SocketTemplate {
    pub(crate) fn new(
        config: &Config,
        revision: Revision,
        addresses: &[SocketAddr],
        tls: Option<Arc<rustls::ClientConfig>>,
    ) -> anyhow::Result<Self> {
        let mut base = Options::new(&config.target)?;
        base.namespace = "/".into();
        base.path.clone_from(&config.socketio.path);
        base.revision = revision;
        base.transport = transport_of(&config.socketio);
        base.addresses = addresses.to_vec();
        base.tls = tls;
        base.timeouts = Timeouts {
            connect: config.timeout,
            stage: config.timeout,
            send: config.timeout,
            ..Timeouts::default()
        };
        let socketio = &config.socketio;
        let texts = || socketio.query.iter().chain(&socketio.extra_headers).map(|(_, template)| template);
        let mut template = Self {
            same_for_all: texts().chain(&socketio.auth).all(Template::is_constant),
            base,
            query: socketio.query.clone(),
            headers: socketio.extra_headers.clone(),
            auth: socketio.auth.clone(),
        };
        if template.same_for_all {
            let vars = crate::script::vars::Vars::empty();
            template.base = template.render(&vars, &mut fastrand::Rng::with_seed(0));
            // It is in there now.
            template.query.clear();
            template.headers.clear();
            template.auth = None;
        }
        Ok(template)
    }

    fn render(&self, vars: &crate::script::vars::Vars, rng: &mut fastrand::Rng) -> Options {
        let mut options = self.base.clone();
        let mut text = |template: &Template| template.render_text(vars, rng).into_owned();
        options.query.extend(self.query.iter().map(|(name, value)| (name.clone(), text(value))));
        options.headers.extend(self.headers.iter().map(|(name, value)| (name.clone(), text(value))));
        if let Some(auth) = &self.auth {
            let mut json = Vec::new();
            auth.write_json(vars, rng, &mut json);
            options.auth = String::from_utf8(json).ok();
        }
        options
    }

    /// Counts late heartbeats of all connections.
    pub(crate) fn count_late_heartbeats(&mut self, late: &Arc<AtomicU64>) {
        self.base.late_heartbeats = Some(Arc::clone(late));
    }

    pub(crate) fn base(&self) -> &Options {
        &self.base
    }
}

/// As the official client reads `transports` and `upgrade`.
fn transport_of(socketio: &SocketIoConfig) -> Transport {
    let offered = socketio.transports.contains(&model::Transport::WebSocket);
    match socketio.transports.first() {
        Some(model::Transport::WebSocket) => Transport::WebSocket,
        _ if offered && socketio.upgrade => Transport::PollingThenWebSocket,
        _ => Transport::Polling,
    }
}

impl Actor {
    /// Connects the default namespace.
    pub(crate) async fn connect(&mut self, step: StepId) -> Result<(), Failed> {
        let Person { worker, vars, rng, slow, .. } = &mut self.person;
        let shared = Arc::clone(&worker.shared);
        let connected = if shared.socket.same_for_all && !*slow {
            socketio_client::connect(&shared.socket.base).await
        } else {
            let mut options = shared.socket.render(vars, rng);
            if *slow {
                options.late_heartbeats = None;
            }
            socketio_client::connect(&options).await
        };
        match connected {
            Ok(connected) => {
                let stages = connected.stages;
                if self.person.measured {
                    let mut recorder = self.person.worker.recorder.borrow_mut();
                    for stage in socketio_client::Stage::ALL {
                        let took = stages.get(stage);
                        // A stage that was not needed is no sample.
                        if !took.is_zero() {
                            recorder.stage(stage, took);
                        }
                    }
                    recorder.time(Time::ConnectTotal, stages.total());
                } else {
                    self.person.worker.recorder.borrow_mut().time(Time::ListenerConnect, stages.total());
                }
                let Person { worker, measured, .. } = &self.person;
                let mut open = OpenSocket::new(worker, connected.client, step, *measured);
                open.tell_upgrade();
                self.socket = Some(Box::new(open));
                Ok(())
            }
            Err(error) => {
                // Artillery's name for it, and what it leaves out.
                let name = match shared.socket.base.transport {
                    Transport::WebSocket => "websocket error",
                    _ => "xhr poll error",
                };
                let code = format!("{name} ({error})");
                self.person.worker.error(step, &error.to_string(), &code, || told(&error));
                Err(Failed)
            }
        }
    }

    /// One emit, and the wait for what it asked for.
    pub(crate) async fn emit(&mut self, action: &EmitAction, step: StepId) -> Result<(), Failed> {
        let late_namespace;
        let namespace: &str = match &action.namespace {
            Some(namespace) => namespace,
            None => {
                let Person { vars, rng, .. } = &mut self.person;
                late_namespace = action.spec.namespace.render_text(vars, rng).into_owned();
                if late_namespace.is_empty() { "/" } else { &late_namespace }
            }
        };
        if namespace != "/" {
            Box::pin(self.join_namespace(namespace, step)).await?;
        }
        self.person.last_emit = step;
        let Some(open) = &mut self.socket else {
            self.person.worker.error(step, "not connected", "not connected", String::new);
            return Err(Failed);
        };
        let ack = action.acknowledge.is_some().then(|| open.client.next_ack_id());
        let confirmed = ack.is_some() || action.response.is_some();
        let mut packet = Vec::with_capacity(64);
        packet.extend_from_slice(b"42");
        if namespace != "/" {
            packet.extend_from_slice(namespace.as_bytes());
            packet.push(b',');
        }
        if let Some(ack) = ack {
            write!(packet, "{ack}").expect("a Vec takes everything");
        }
        let sent = Instant::now();
        let message = self.person.write_arguments(action, sent, &mut packet);
        self.person.unconfirmed = if ack.is_none() { message } else { None };
        self.person.record(|recorder| {
            recorder.count(Count::Emits);
            recorder.count(if confirmed { Count::ConfirmedEmits } else { Count::UnconfirmedEmits });
        });
        // A packet of a user that never emits again need not be kept by the future below.
        let written = open.client.send_raw(&packet).await;
        drop(packet);
        if let Err(closed) = written {
            if let Some(message) = message {
                self.person.worker.shared.messages.set_status(message, Status::NotSent);
            }
            let cause = format!("send: {closed}");
            self.person.worker.error(step, &cause, "disconnect", || lost_sample(&cause, &closed));
            lose(&mut self.socket);
            return Err(Failed);
        }
        if let Some(message) = message {
            open.gave(message);
        }
        if confirmed {
            return Box::pin(self.await_answers(action, step, namespace, ack, message, sent)).await;
        }
        Ok(())
    }

    async fn join_namespace(&mut self, namespace: &str, step: StepId) -> Result<(), Failed> {
        if self.namespaces.iter().any(|known| **known == *namespace) {
            return Ok(());
        }
        let hearing = self.person.hearing();
        let Some(open) = &mut self.socket else {
            self.person.worker.error(step, "not connected", "not connected", String::new);
            return Err(Failed);
        };
        let auth = self.person.worker.shared.socket.base.auth.clone();
        match open
            .client
            .connect_namespace(namespace, auth.as_deref(), |incoming| hearing.packet(&incoming))
            .await
        {
            Ok(_) => {
                self.namespaces.push(namespace.into());
                Ok(())
            }
            Err(error) => {
                let cause = format!("connect {namespace}: {error}");
                self.person
                    .worker
                    .error(step, &cause, &cause, || error.sample().unwrap_or_default().to_owned());
                Err(Failed)
            }
        }
    }

    /// Waits for the ack and the response, whichever were asked for; one latency sample for the exchange.
    async fn await_answers(
        &mut self,
        action: &EmitAction,
        step: StepId,
        namespace: &str,
        ack: Option<u64>,
        message: Option<u32>,
        sent: Instant,
    ) -> Result<(), Failed> {
        let timeout = self.person.worker.shared.script.config.timeout;
        let mut wait = Wait {
            ack: ack.zip(action.acknowledge.as_ref()),
            response: None,
            namespace,
            last: sent,
            acked: None,
        };
        let event = action.spec.response.as_ref().map(|wait| {
            let Person { vars, rng, .. } = &mut self.person;
            wait.event.render_text(vars, rng).into_owned()
        });
        wait.response = event.as_deref().zip(action.response.as_ref());
        let hearing = self.person.hearing();
        let Actor { socket, person, .. } = self;
        let Some(open) = socket else { return Err(Failed) };
        let Person { worker, vars, rng, .. } = person;
        let visit = open.client.visit(|incoming| {
            hearing.packet(&incoming);
            match wait.packet(&incoming, vars, rng) {
                Ok(true) => ControlFlow::Break(Ok(())),
                Ok(false) => ControlFlow::Continue(()),
                Err((cause, sample)) => ControlFlow::Break(Err((cause, sample))),
            }
        });
        let answer = tokio::time::timeout(timeout, visit).await;
        open.tell_upgrade();
        let received = wait.last;
        let refused = matches!(answer, Ok(Ok(Err((Fault::Refused(_), _)))));
        if let (Some(message), Some(acked), false) = (message, wait.acked, refused) {
            let after = acked.saturating_duration_since(sent).as_micros();
            let after_us = u32::try_from(after).unwrap_or(u32::MAX);
            worker.recorder.borrow_mut().acked.push((message, after_us));
        }
        match answer {
            Ok(Ok(Ok(()))) => {
                person.record(|recorder| {
                    recorder.time(Time::SocketResponse, received.saturating_duration_since(sent));
                });
                person.got_answer(received);
                Ok(())
            }
            Ok(Ok(Err((Fault::Refused(cause), sample)))) => {
                // The answer came, and it is no: an error with its sample, but the user goes on as it would in Artillery.
                person.worker.error(step, &cause, &cause, || sample);
                if let Some(message) = message {
                    person.worker.shared.messages.set_status(message, Status::Refused);
                }
                person.record(|recorder| {
                    recorder.time(Time::SocketResponse, received.saturating_duration_since(sent));
                });
                person.got_answer(received);
                Ok(())
            }
            Ok(Ok(Err((Fault::Wrong(code), sample)))) => {
                worker.error(step, code, code, || sample);
                Err(Failed)
            }
            Ok(Err(closed)) => {
                let waited = wait.waited_for();
                let cause = format!("disconnected while waiting for {waited}: {closed}");
                worker.error(step, &cause, "disconnect", || lost_sample(&cause, &closed));
                lose(socket);
                Err(Failed)
            }
            Err(_) => {
                let cause = format!("no {} within {} s", wait.waited_for(), timeout.as_secs_f64());
                worker.error(step, &cause, "response timeout", || cause.clone());
                Err(Failed)
            }
        }
    }
}

/// What an emit still waits for.
struct Wait<'a> {
    ack: Option<(u64, &'a Answered)>,
    response: Option<(&'a str, &'a Answered)>,
    namespace: &'a str,
    /// When the last answer's bytes were read.
    last: Instant,
    /// When those of the ack were.
    acked: Option<Instant>,
}

/// Why an answer will not do.
enum Fault {
    /// The server's own words say that it refused.
    Refused(String),
    /// It is not what the script expects; Artillery's name for it.
    Wrong(&'static str),
}

impl Wait<'_> {
    fn waited_for(&self) -> &'static str {
        match (&self.ack, &self.response) {
            (Some(_), Some(_)) => "ack nor response",
            (Some(_), None) => "ack",
            _ => "response",
        }
    }

    /// True when nothing is waited for any more.
    fn packet(
        &mut self,
        incoming: &Incoming<'_>,
        vars: &mut crate::script::vars::Vars,
        rng: &mut fastrand::Rng,
    ) -> Result<bool, (Fault, String)> {
        if incoming.namespace != self.namespace {
            return Ok(false);
        }
        match incoming.kind {
            Kind::Ack => {
                let Some((id, expected)) = self.ack else { return Ok(false) };
                if incoming.ack != Some(id) {
                    return Ok(false);
                }
                self.last = incoming.received;
                self.acked = Some(incoming.received);
                self.ack = None;
                if let Some(cause) = refusal(incoming.data) {
                    // Only for scripts that do not judge the answer themselves.
                    if expected.data.is_none() && expected.rules.is_empty() {
                        return Err((Fault::Refused(cause), incoming.data.to_owned()));
                    }
                }
                if expected.data.is_some() || !expected.rules.is_empty() {
                    let arguments = arguments(incoming.data, 0);
                    judge(expected, &arguments, incoming.data, vars, rng)?;
                }
            }
            Kind::Event => {
                let Some((event, expected)) = self.response else { return Ok(false) };
                if incoming.event_name() != Some(event) {
                    return Ok(false);
                }
                if expected.data.is_some() || !expected.rules.is_empty() {
                    let arguments = arguments(incoming.data, 1);
                    match judge(expected, &arguments, incoming.data, vars, rng) {
                        Ok(()) => {}
                        // v2 spelling: keeps listening until something fits or time is up.
                        Err((Fault::Wrong("data is not valid"), _))
                            if matches!(expected.data, Some(DataCheck::AllArguments(_))) =>
                        {
                            return Ok(false);
                        }
                        Err(fault) => return Err(fault),
                    }
                }
                self.last = incoming.received;
                self.response = None;
            }
            _ => {}
        }
        Ok(self.ack.is_none() && self.response.is_none())
    }
}

/// The arguments of an event or ack, without the first `skip` elements.
fn arguments(data: &str, skip: usize) -> Vec<Value> {
    let mut all: Vec<Value> = serde_json::from_str(data).unwrap_or_default();
    all.drain(..skip.min(all.len()));
    all
}

fn judge(
    expected: &Answered,
    arguments: &[Value],
    text: &str,
    vars: &mut crate::script::vars::Vars,
    rng: &mut fastrand::Rng,
) -> Result<(), (Fault, String)> {
    let fits = match &expected.data {
        None => true,
        Some(DataCheck::FirstArgument(template)) => arguments.first() == Some(&template.render(vars, rng)),
        Some(DataCheck::AllArguments(template)) => match template.render(vars, rng) {
            Value::Array(all) => all == arguments,
            Value::String(part) => match arguments.last() {
                Some(Value::String(last)) => last.contains(&part),
                Some(last) => last.to_string().contains(&part),
                None => false,
            },
            other => arguments.last() == Some(&other),
        },
    };
    if !fits {
        return Err((Fault::Wrong("data is not valid"), text.to_owned()));
    }
    if !expected.rules.is_empty() {
        let json = match expected.paths_see {
            PathsSee::FirstArgument => arguments.first().cloned().unwrap_or(Value::Null),
            PathsSee::ArgumentArray => Value::Array(arguments.to_vec()),
        };
        let answer_text = match &json {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let answer = Answer { json: Some(&json), text: &answer_text, headers: None };
        if let Err(why) = expected.rules.apply(&answer, vars, rng) {
            return Err((Fault::Wrong("Failed capture or match"), format!("{why}; answer: {text}")));
        }
    }
    Ok(())
}

/// `ack 400: messageData.lng` when the ack's first argument says so in its `status`.
fn refusal(data: &str) -> Option<String> {
    // Most acks are short and good; only what may be a refusal is parsed.
    if !data.contains("\"status\"") {
        return None;
    }
    let arguments: Vec<Value> = serde_json::from_str(data).ok()?;
    let first = arguments.first()?;
    (400.0..600.0).contains(&first.get("status")?.as_f64()?).then(|| complaint_cause("ack", first))
}

impl Person {
    /// Appends the event's JSON array, marked if it is to be; answers the message's number.
    fn write_arguments(&mut self, action: &EmitAction, sent: Instant, out: &mut Vec<u8>) -> Option<u32> {
        let shared = Arc::clone(&self.worker.shared);
        match &action.packet {
            Packet::Ready { data, mark_at, place } => {
                let marked = mark_at.filter(|_| self.measured && action.stamped);
                if let (Some(at), Some(marks)) = (marked, &shared.marks)
                    && let Some(message) = self.announce(sent, *place)
                {
                    out.reserve(data.len() + 32);
                    out.extend_from_slice(&data[..at]);
                    marks.write(message, out);
                    out.extend_from_slice(&data[at..]);
                    return Some(message);
                }
                out.extend_from_slice(data);
                None
            }
            Packet::Late => {
                let event = action.spec.event.render_text(&self.vars, &mut self.rng).into_owned();
                out.push(b'[');
                serde_json::to_writer(&mut *out, &event).expect("a Vec takes everything");
                let mut message = None;
                for (number, arg) in action.spec.args.iter().enumerate() {
                    out.push(b',');
                    if number == 0
                        && self.measured
                        && action.stamped
                        && let (Some(delivery), Some(marks)) = (&shared.delivery, &shared.marks)
                    {
                        let mut value = arg.render(&self.vars, &mut self.rng);
                        let place = place_of(delivery, &value);
                        if let Some(Value::String(text)) = at_path_mut(&mut value, &delivery.stamp) {
                            message = self.announce(sent, place);
                            if let Some(message) = message {
                                let mut marked = std::mem::take(text).into_bytes();
                                marks.write(message, &mut marked);
                                *text = String::from_utf8(marked).expect("a mark is ASCII");
                            }
                        }
                        serde_json::to_writer(&mut *out, &value).expect("a Vec takes everything");
                    } else {
                        arg.write_json(&self.vars, &mut self.rng, out);
                    }
                }
                out.push(b']');
                message
            }
        }
    }

    /// Enters a message that is about to be sent.
    fn announce(&mut self, sent: Instant, place: Option<(f64, f64)>) -> Option<u32> {
        let shared = &self.worker.shared;
        // Only the first emit has a due instant of its own; later ones are due when they are sent.
        let due = if self.last_message.is_none() { self.due } else { sent };
        let message = shared.messages.add(shared.nanos(due), shared.nanos(sent), place, self.last_message);
        self.last_message = message.or(self.last_message);
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ack_that_says_no_is_a_refusal() {
        let rows = [
            (r#"[{"status":201,"result":{"idx":1}}]"#, None),
            (
                r#"[{"status":400,"errors":{"messageData.lng":{"message":"x"}}}]"#,
                Some("ack 400: messageData.lng"),
            ),
            (r#"[{"status":"ok"}]"#, None),
            (r#"[]"#, None),
            (r#"["status"]"#, None),
            ("", None),
        ];
        for (data, expected) in rows {
            assert_eq!(refusal(data).as_deref(), expected, "{data}");
        }
    }
}
