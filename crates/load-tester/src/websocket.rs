//! The plain WebSocket side of a user: connecting, sending frames, and what is their answer.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use base64::Engine as _;
use serde_json::Value;
use socketio_client::websocket::{Connection, Request};
use socketio_client::{ConnectError, Stage, Timeouts};

use crate::delivery::{Sending, Status};
use crate::flow::Packet;
use crate::flow::socket::SendAction;
use crate::link::Link;
use crate::metrics::{CounterId, Names, StepId, Time, TimeId};
use crate::script::model::{Config, ConnectStep};
use crate::script::template::{Template, text_of};
use crate::script::vars::Vars;
use crate::virtual_user::{Actor, Failed, OpenSocket, Person, Shared, lose, lost_sample, told};

/// The stages a plain WebSocket's connect has.
const STAGES: [Stage; 4] = [Stage::Dns, Stage::Tcp, Stage::Tls, Stage::Upgrade];

/// How every user of the ws engine connects, and where its figures go.
#[derive(Debug)]
pub(crate) struct WebSocketTemplate {
    base: Request,
    target: String,
    headers: Vec<(String, Template)>,
    pub(crate) sent: CounterId,
    pub(crate) received: CounterId,
    /// `websocket.response_time`
    pub(crate) response: TimeId,
    stages: [TimeId; STAGES.len()],
    total: TimeId,
}

impl WebSocketTemplate {
    pub(crate) fn new(
        config: &Config,
        addresses: &[SocketAddr],
        tls: Option<Arc<rustls::ClientConfig>>,
        names: &mut Names,
    ) -> anyhow::Result<Self> {
        let mut base = Request::new(&config.target)?;
        base.subprotocols.clone_from(&config.ws.subprotocols);
        base.addresses = addresses.to_vec();
        base.tls = tls;
        base.timeouts = Timeouts {
            connect: config.timeout,
            stage: config.timeout,
            send: config.timeout,
            ..Timeouts::default()
        };
        Ok(Self {
            base,
            target: config.target.clone(),
            headers: config.ws.headers.clone(),
            sent: names.counter("websocket.messages_sent"),
            received: names.counter("websocket.messages_received"),
            response: names.time("websocket.response_time"),
            stages: STAGES.map(|stage| names.time(&format!("websocket.connect.{}", stage.name()))),
            total: names.time("websocket.connect.total"),
        })
    }

    /// One user's handshake.
    fn request(
        &self,
        shared: &Shared,
        over: &ConnectStep,
        vars: &Vars,
        rng: &mut fastrand::Rng,
    ) -> Result<Request, String> {
        let mut request = match &over.target {
            None => self.base.clone(),
            Some(target) => {
                let text = target.render_text(vars, rng);
                let url =
                    if text.starts_with('/') { format!("{}{text}", self.target) } else { text.into_owned() };
                let mut request = Request::new(&url).map_err(|error| error.to_string())?;
                request.timeouts = self.base.timeouts;
                request.subprotocols.clone_from(&self.base.subprotocols);
                if request.endpoint == self.base.endpoint {
                    request.addresses.clone_from(&self.base.addresses);
                }
                if request.endpoint.is_secure() {
                    request.tls = shared.tls().cloned();
                }
                request
            }
        };
        if let Some(subprotocols) = &over.subprotocols {
            request.subprotocols.clone_from(subprotocols);
        }
        for (name, value) in over.headers.as_ref().unwrap_or(&self.headers) {
            let value = value.render_text(vars, rng).into_owned();
            // As the ws library reads it, which Artillery's users count on.
            if name.eq_ignore_ascii_case("sec-websocket-protocol") {
                request.subprotocols.extend(value.split(',').map(|one| one.trim().to_owned()));
            } else {
                request.headers.push((name.clone(), value));
            }
        }
        Ok(request)
    }
}

/// Where a handshake goes, as cookies see it.
fn cookie_url(request: &Request) -> Option<url::Url> {
    let scheme = if request.endpoint.is_secure() { "https" } else { "http" };
    url::Url::parse(&format!("{scheme}://{}{}", request.endpoint, request.target)).ok()
}

impl Actor {
    pub(crate) async fn connect_websocket(&mut self, step: StepId, over: &ConnectStep) -> Result<(), Failed> {
        let shared = Arc::clone(&self.person.worker.shared);
        let Person { worker, vars, rng, web, measured, .. } = &mut self.person;
        let mut request = match shared.ws.request(&shared, over, vars, rng) {
            Ok(request) => request,
            Err(why) => {
                worker.error(step, "Invalid URL", "Invalid URL", || why);
                return Err(Failed);
            }
        };
        let sources = &shared.sources;
        // Which of its addresses a source can reach is known of the target alone. A name that cannot be resolved fails below,
        // with its stage.
        if request.addresses.is_empty()
            && !sources.is_empty()
            && let Ok(found) = socketio_client::resolve(&request.endpoint).await
        {
            request.addresses = found;
            request.addresses.retain(|address| sources.count(address.is_ipv6()) > 0);
            if request.addresses.is_empty() {
                let cause = "connect: no source address of the server's family";
                worker.error(step, cause, "EADDRNOTAVAIL", || format!("{} from {sources}", request.endpoint));
                return Err(Failed);
            }
        }
        let to_v6 = request.addresses.first().is_some_and(std::net::SocketAddr::is_ipv6);
        request.local_addr = worker.source(to_v6);
        if let Some(url) = cookie_url(&request) {
            web.add_cookies(&url, &mut request.headers);
        }
        let connected = Connection::connect(&request).await;
        let upgraded = match connected {
            Ok(upgraded) => upgraded,
            Err(error) => {
                worker.error(step, &error.to_string(), &code_of(&error), || told(&error));
                return Err(Failed);
            }
        };
        let stages = upgraded.stages;
        {
            let mut recorder = worker.recorder.borrow_mut();
            if *measured {
                for (stage, time) in STAGES.iter().zip(shared.ws.stages) {
                    let took = stages.get(*stage);
                    // A stage that was not needed is no sample.
                    if !took.is_zero() {
                        recorder.time_of(time, took);
                    }
                }
                recorder.time_of(shared.ws.total, stages.total());
            } else {
                recorder.time(Time::ListenerConnect, stages.total());
            }
        }
        worker.trace(|tracer| tracer.connected(&request.endpoint.to_string(), &stages));
        let open = OpenSocket::new(worker, Link::WebSocket(upgraded.connection), step, *measured);
        self.socket = Some(Box::new(open));
        Ok(())
    }

    /// One frame, and the wait for its answer if it has one.
    pub(crate) async fn send(&mut self, action: &SendAction, step: StepId) -> Result<(), Failed> {
        self.person.last_emit = step;
        if self.socket.is_none() {
            return self.not_connected(step);
        }
        let sent = Instant::now();
        let mut payload = Vec::new();
        let message = match self.person.write_payload(action, sent, &mut payload) {
            Ok(message) => message,
            Err(why) => {
                self.person.worker.error(step, why, why, || String::from_utf8_lossy(&payload).into_owned());
                return Err(Failed);
            }
        };
        self.person.unconfirmed = message;
        let worker = Rc::clone(&self.person.worker);
        let shared = &worker.shared;
        self.person.record(|recorder| recorder.add(shared.ws.sent, 1));
        worker.trace(|tracer| tracer.sent(&payload));
        let from = self.person.inbox.as_ref().map_or(0, |inbox| inbox.borrow().next_number());
        let connection = self.socket.as_mut().and_then(|open| open.link.websocket());
        let Some(connection) = connection else { return self.not_connected(step) };
        let sending = Sending::new(&shared.messages, message);
        let written = match (action.spec.binary, std::str::from_utf8(&payload)) {
            (false, Ok(text)) => connection.send_text(text).await,
            _ => connection.send_binary(&payload).await,
        };
        sending.over();
        drop(payload);
        if let Err(closed) = written {
            if let Some(message) = message {
                shared.messages.set_status(message, Status::NotSent);
            }
            let cause = format!("send: {closed}");
            worker.error(step, &cause, "disconnect", || lost_sample(&cause, &closed));
            lose(&mut self.socket);
            return Err(Failed);
        }
        match &action.answer {
            None => {
                self.person.sent = Some(sent);
                Ok(())
            }
            Some(wait) => {
                let inbox = Rc::clone(self.person.inbox.get_or_insert_default());
                let topic = inbox.borrow_mut().want_frames(step);
                // Boxed: most frames have no answer and need no room for this.
                Box::pin(self.await_letters(wait, step, topic, "frame", from, Some(sent))).await
            }
        }
    }
}

/// Artillery's name for it is what Node and its ws library say.
fn code_of(error: &ConnectError) -> String {
    match (error.status(), error.cause()) {
        (Some(status), _) => format!("Unexpected server response: {status}"),
        (None, socketio_client::Cause::Io(error)) => socketio_client::io_text(error),
        (None, socketio_client::Cause::Timeout(_)) => "ETIMEDOUT".to_owned(),
        (None, _) => error.cause_text(),
    }
}

impl Person {
    /// Appends a frame's payload, marked if it is to be; answers the message's number.
    fn write_payload(
        &mut self,
        action: &SendAction,
        sent: Instant,
        out: &mut Vec<u8>,
    ) -> Result<Option<u32>, &'static str> {
        if let Some(Packet::Ready { data, mark_at, place }) = &action.packet {
            return Ok(self.write_ready(data, *mark_at, *place, action.stamped, sent, out));
        }
        let mut value = action.spec.payload.render(&self.vars, &mut self.rng);
        if action.spec.binary {
            out.extend_from_slice(text_of(&value).as_bytes());
            let decoded = base64::engine::general_purpose::STANDARD.decode(&*out).map_err(|_| "no base64")?;
            *out = decoded;
            return Ok(None);
        }
        let message = if action.stamped { self.mark(&mut value, sent) } else { None };
        match &value {
            Value::String(text) => out.extend_from_slice(text.as_bytes()),
            value => serde_json::to_writer(out, value).expect("a Vec takes everything"),
        }
        Ok(message)
    }
}

/// A frame as captures see it: JSON if it is, else text.
pub(crate) fn payload_value(data: &str) -> Value {
    serde_json::from_str(data).unwrap_or_else(|_| Value::String(data.to_owned()))
}
