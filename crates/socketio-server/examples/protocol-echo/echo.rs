//! The application, and the settings the official protocol test suites expect. `conformance` includes this file.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use serde_json::value::RawValue;
use socketio_server::{
    Application, Config, ConnectError, ConnectRequest, Cors, Event, Message, Mode, Payload, Reason, Socket,
};

/// Says back what it hears.
#[derive(Debug)]
pub(crate) struct Echo;

/// Which protocol is spoken at which path.
pub(crate) fn config(mode: Mode) -> Config {
    let path = match mode {
        Mode::EngineIo => "/engine.io/",
        Mode::SocketIo => "/socket.io/",
    };
    Config {
        path: path.to_owned(),
        mode,
        ping_interval: Duration::from_millis(300),
        ping_timeout: Duration::from_millis(200),
        max_payload: 1_000_000,
        connect_timeout: Duration::from_secs(1),
        open_delay: Duration::from_millis(10),
        cors: Cors::Any,
        ..Config::default()
    }
}

impl Application for Echo {
    /// The questions it has asked and got no answer to.
    type Data = RefCell<Vec<u64>>;

    fn connect(&self, socket: &Rc<Socket<Self>>, request: &ConnectRequest<'_>) -> Result<(), ConnectError> {
        match request.namespace {
            // Bare Engine.IO.
            "" => {}
            "/" | "/custom" => socket.emit("auth", if request.auth.is_empty() { "{}" } else { request.auth }),
            _ => return Err(ConnectError::unknown_namespace()),
        }
        Ok(())
    }

    fn event(&self, socket: &Rc<Socket<Self>>, event: Event<'_>) {
        let args = joined(event.payload);
        match (event.name, event.ack) {
            ("message", _) if event.payload.attachments.is_empty() => socket.emit("message-back", &args),
            ("message", _) => socket.emit_binary("message-back", &args, event.payload.attachments),
            ("message-with-ack", Some(id)) if event.payload.attachments.is_empty() => socket.ack(id, &args),
            ("message-with-ack", Some(id)) => socket.ack_binary(id, &args, event.payload.attachments),
            // The server's own questions and goodbyes, which the official suites leave out.
            ("ask-me", _) => {
                let id = socket.emit_with_ack("question", &args);
                socket.data().borrow_mut().push(id);
            }
            ("turn-me-out", _) => socket.disconnect(),
            (name, _) => tracing::debug!(name, "event without an answer"),
        }
    }

    fn acknowledged(&self, socket: &Rc<Socket<Self>>, id: u64, answer: Payload<'_>) {
        let asked = socket.data().borrow().iter().position(|asked| *asked == id);
        let Some(asked) = asked else { return };
        socket.data().borrow_mut().swap_remove(asked);
        let args = joined(answer);
        if answer.attachments.is_empty() {
            socket.emit("answer-back", &args);
        } else {
            socket.emit_binary("answer-back", &args, answer.attachments);
        }
    }

    fn message(&self, socket: &Rc<Socket<Self>>, message: Message<'_>) {
        socket.send(message);
    }

    fn disconnect(&self, socket: &Rc<Socket<Self>>, reason: &Reason) {
        tracing::debug!(?socket, %reason, "disconnected");
    }
}

fn joined(payload: Payload<'_>) -> String {
    let args: Vec<&str> = payload.args.iter().copied().map(RawValue::get).collect();
    args.join(",")
}
