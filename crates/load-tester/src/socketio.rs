//! The Socket.IO side of a user: connecting, emitting, acknowledgements and responses.

use std::io::Write as _;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use serde_json::Value;
use socketio_client::{Incoming, Kind, Options, Revision, Timeouts, Transport};

use crate::capture::Answer;
use crate::delivery::{Sending, Status};
use crate::flow::{Answered, EmitAction, Packet, at_path_mut, place_of};
use crate::link::{Came, Link};
use crate::metrics::{Count, StepId, Time};
use crate::script::model::{self, Config, ConnectStep, DataCheck, PathsSee, SocketIoConfig};
use crate::script::template::{Template, text_of};
use crate::virtual_user::{Actor, Failed, OpenSocket, Person, lose, lost_sample, told};

/// An emit whose socket took longer than this was held back: a system call and its packet take some microseconds.
const HELD_BACK: Duration = Duration::from_millis(1);

/// How every user of a run connects.
#[derive(Debug)]
pub(crate) struct SocketTemplate {
    base: Options,
    query: Vec<(String, Template)>,
    headers: Vec<(String, Template)>,
    auth: Option<Template>,
    /// What everybody uses, when nothing differs from user to user.
    ready: Option<Options>,
    /// Where the handshake goes, as cookies see it.
    url: Option<url::Url>,
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
        let scheme = if base.endpoint.is_secure() { "https" } else { "http" };
        let mut template = Self {
            url: url::Url::parse(&format!("{scheme}://{}{}", base.endpoint, base.path)).ok(),
            base,
            query: socketio.query.clone(),
            headers: socketio.extra_headers.clone(),
            auth: socketio.auth.clone(),
            ready: None,
        };
        if texts().chain(&socketio.auth).all(Template::is_constant) {
            let vars = crate::script::vars::Vars::empty();
            let rng = &mut fastrand::Rng::with_seed(0);
            template.ready = Some(template.render(&ConnectStep::default(), &vars, rng));
        }
        Ok(template)
    }

    /// One user's handshake; `over` goes before what the config says.
    fn render(
        &self,
        over: &ConnectStep,
        vars: &crate::script::vars::Vars,
        rng: &mut fastrand::Rng,
    ) -> Options {
        let mut options = self.base.clone();
        let mut text = |template: &Template| template.render_text(vars, rng).into_owned();
        let query = over.query.as_ref().unwrap_or(&self.query);
        options.query.extend(query.iter().map(|(name, value)| (name.clone(), text(value))));
        let headers = over.headers.as_ref().unwrap_or(&self.headers);
        options.headers.extend(headers.iter().map(|(name, value)| (name.clone(), text(value))));
        if let Some(auth) = over.auth.as_ref().or(self.auth.as_ref()) {
            let mut json = Vec::new();
            auth.write_json(vars, rng, &mut json);
            options.auth = String::from_utf8(json).ok();
        }
        options
    }

    /// Counts late heartbeats of all connections.
    pub(crate) fn count_late_heartbeats(&mut self, late: &Arc<AtomicU64>) {
        for options in std::iter::once(&mut self.base).chain(&mut self.ready) {
            options.late_heartbeats = Some(Arc::clone(late));
        }
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
    pub(crate) async fn connect_socketio(&mut self, step: StepId, over: &ConnectStep) -> Result<(), Failed> {
        let Person { worker, vars, rng, web, slow, .. } = &mut self.person;
        let shared = Arc::clone(&worker.shared);
        let to_v6 = shared.addresses.first().is_some_and(std::net::SocketAddr::is_ipv6);
        let source = worker.source(to_v6);
        let template = &shared.socket;
        let cookies = template.url.as_ref().is_some_and(|url| web.has_cookies(url));
        let own_words = over.query.is_some() || over.headers.is_some() || over.auth.is_some();
        let connected = match &template.ready {
            Some(ready) if !cookies && !own_words && !*slow && source.is_none() => {
                // A `connect` before this one may have had words of its own.
                self.auth = None;
                socketio_client::connect(ready).await
            }
            _ => {
                let mut options = template.render(over, vars, rng);
                options.local_addr = source;
                if let Some(url) = &template.url {
                    web.add_cookies(url, &mut options.headers);
                }
                if *slow {
                    options.late_heartbeats = None;
                }
                self.auth = options.auth.clone().map(String::into_boxed_str);
                socketio_client::connect(&options).await
            }
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
                worker.trace(|tracer| tracer.connected(&template.base.endpoint.to_string(), &stages));
                let mut open = OpenSocket::new(worker, Link::SocketIo(connected.client), step, *measured);
                open.tell_upgrade();
                self.socket = Some(Box::new(open));
                if !connected.early.is_empty() {
                    let hearing = self.person.hearing();
                    connected.early.iter().for_each(|message| hearing.packet(&message.as_incoming()));
                }
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
        let Some(open) = &mut self.socket else { return self.not_connected(step) };
        let Some(client) = open.link.socketio() else { return self.not_connected(step) };
        if !client.is_connected(namespace) {
            // Nobody would hear it, and the server is not to blame for that.
            let cause = format!("not connected to {namespace}: the server took it away");
            self.person.worker.error(step, &cause, "not connected", || cause.clone());
            return Err(Failed);
        }
        let ack = action.acknowledge.is_some().then(|| client.next_ack_id());
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
        self.person.worker.trace(|tracer| tracer.sent(&packet));
        // A packet of a user that never emits again need not be kept by the future below.
        let sending = Sending::new(&self.person.worker.shared.messages, message);
        let written = client.send_raw(&packet).await;
        sending.over();
        // A post of a user that polls is answered by the server: that wait is none of the socket's.
        if client.transport() == Transport::WebSocket {
            let held_back = sent.elapsed();
            if held_back > HELD_BACK {
                let name = self.person.worker.shared.send_wait;
                self.person.record(|recorder| recorder.time_of(name, held_back));
            }
        }
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

    pub(crate) async fn join_namespace(&mut self, namespace: &str, step: StepId) -> Result<(), Failed> {
        if self.namespaces.iter().any(|known| **known == *namespace) {
            return Ok(());
        }
        let hearing = self.person.hearing();
        let auth = self.auth.clone().or_else(|| {
            let ready = self.person.worker.shared.socket.ready.as_ref();
            ready.and_then(|ready| ready.auth.clone()).map(String::into_boxed_str)
        });
        let client = self.socket.as_mut().and_then(|open| open.link.socketio());
        let Some(client) = client else { return self.not_connected(step) };
        match client.connect_namespace(namespace, auth.as_deref(), |incoming| hearing.packet(&incoming)).await
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
        let visit = open.link.visit(|came| {
            hearing.came(&came);
            let Came::Packet(incoming) = came else { return ControlFlow::Continue(()) };
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

/// `exception 400: messageData.lng` from `{status, errors: {field: ...}}`; else the message, else the text.
pub(crate) fn complaint_cause(name: &str, payload: &Value) -> String {
    let mut cause = name.to_owned();
    match payload {
        Value::Object(map) => {
            if let Some(status) = map.get("status").filter(|status| status.is_number() || status.is_string())
            {
                cause = format!("{cause} {}", text_of(status));
            }
            let fields = map.get("errors").and_then(Value::as_object).filter(|fields| !fields.is_empty());
            if let Some(fields) = fields {
                let names: Vec<&str> = fields.keys().take(8).map(String::as_str).collect();
                cause = format!("{cause}: {}", names.join(", "));
            } else if let Some(message) = map.get("message").or_else(|| map.get("code")) {
                cause = format!("{cause}: {}", stable(&text_of(message)));
            }
        }
        Value::Null => {}
        other => cause = format!("{cause}: {}", stable(&text_of(other))),
    }
    cause
}

/// Numbers differ from user to user; without them the same fault reads the same.
pub(crate) fn stable(text: &str) -> String {
    let mut out = String::new();
    let mut in_number = false;
    for c in text.chars().take(200) {
        if c.is_ascii_digit() {
            if !in_number {
                out.push('N');
            }
            in_number = true;
        } else {
            in_number = false;
            out.push(c);
        }
    }
    out
}

impl Person {
    /// Appends the event's JSON array, marked if it is to be; answers the message's number.
    fn write_arguments(&mut self, action: &EmitAction, sent: Instant, out: &mut Vec<u8>) -> Option<u32> {
        match &action.packet {
            Packet::Ready { data, mark_at, place } => {
                self.write_ready(data, *mark_at, *place, action.stamped, sent, out)
            }
            Packet::Late => {
                let event = action.spec.event.render_text(&self.vars, &mut self.rng).into_owned();
                out.push(b'[');
                serde_json::to_writer(&mut *out, &event).expect("a Vec takes everything");
                let mut message = None;
                for (number, arg) in action.spec.args.iter().enumerate() {
                    out.push(b',');
                    if number == 0 && action.stamped && self.measured && self.worker.shared.marks.is_some() {
                        let mut value = arg.render(&self.vars, &mut self.rng);
                        message = self.mark(&mut value, sent);
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

    /// Appends what is the same for all users, with this message's mark if it is to have one.
    pub(crate) fn write_ready(
        &mut self,
        data: &[u8],
        mark_at: Option<usize>,
        place: Option<(f64, f64)>,
        stamped: bool,
        sent: Instant,
        out: &mut Vec<u8>,
    ) -> Option<u32> {
        let shared = Arc::clone(&self.worker.shared);
        let marked = mark_at.filter(|_| self.measured && stamped);
        if let (Some(at), Some(marks)) = (marked, &shared.marks)
            && let Some(message) = self.announce(sent, place)
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

    /// Puts a mark where the script says; answers the message's number.
    pub(crate) fn mark(&mut self, value: &mut Value, sent: Instant) -> Option<u32> {
        let shared = Arc::clone(&self.worker.shared);
        let (delivery, marks) =
            shared.delivery.as_ref().zip(shared.marks.as_ref()).filter(|_| self.measured)?;
        let place = place_of(delivery, value);
        let Value::String(text) = at_path_mut(value, &delivery.stamp)? else { return None };
        let message = self.announce(sent, place)?;
        let mut marked = std::mem::take(text).into_bytes();
        marks.write(message, &mut marked);
        *text = String::from_utf8(marked).expect("a mark is ASCII");
        Some(message)
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
