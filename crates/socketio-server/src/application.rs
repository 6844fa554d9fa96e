//! What an application implements, and what it is told.

use std::rc::Rc;

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::handshake::Handshake;
use crate::reason::Reason;
use crate::socket::Socket;

/// The chat, or whatever stands on the sockets. Called on the worker's thread, from the worker's own tasks and
/// never from inside a method of [`Socket`], so a handler may hold its own `RefCell`s while it pushes or closes.
///
/// A panic in a handler is not swallowed: the process prints it and aborts.
pub trait Application: Sized + 'static {
    /// Kept per [`Socket`], reachable as [`Socket::data`].
    type Data: Default + 'static;

    /// A client asks for a namespace. `Ok` connects it: the CONNECT answer leaves before anything pushed here.
    /// `Err` is sent as CONNECT_ERROR; nothing pushed here leaves, and no `disconnect` follows.
    ///
    /// With Engine.IO 3, `/` is asked for by the server itself right after the handshake.
    fn connect(&self, socket: &Rc<Socket<Self>>, request: &ConnectRequest<'_>) -> Result<(), ConnectError>;

    /// An EVENT or BINARY_EVENT, its attachments complete.
    fn event(&self, socket: &Rc<Socket<Self>>, event: Event<'_>);

    /// The client's answer to [`Socket::emit_with_ack`].
    fn acknowledged(&self, socket: &Rc<Socket<Self>>, id: u64, answer: Payload<'_>) {
        let _ = (socket, id, answer);
    }

    /// A bare Engine.IO message, in [`Mode::EngineIo`](crate::Mode::EngineIo) only.
    fn message(&self, socket: &Rc<Socket<Self>>, message: Message<'_>) {
        let _ = (socket, message);
    }

    /// Called once for each socket whose `connect` was `Ok`. Pushing to it has no effect any more.
    fn disconnect(&self, socket: &Rc<Socket<Self>>, reason: &Reason);
}

/// A client's wish to connect to a namespace.
#[derive(Debug)]
pub struct ConnectRequest<'a> {
    /// `/` or `/name`; `""` in [`Mode::EngineIo`](crate::Mode::EngineIo).
    pub namespace: &'a str,
    /// Payload of the CONNECT packet, raw JSON (an object); `""` when there was none. Always `""` with
    /// Engine.IO 3, whose clients put theirs into a query.
    pub auth: &'a str,
    /// Query part of an Engine.IO 3 namespace (`token=1` of `/chat?token=1`), still percent-encoded; else `""`.
    pub namespace_query: &'a str,
    /// The HTTP request that opened the session.
    pub handshake: &'a Handshake,
}

/// Why a namespace was refused; sent as CONNECT_ERROR (`{"message":..., "data":...}`; with Engine.IO 3 the
/// data, or else the message as a JSON string).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectError {
    pub message: String,
    /// Raw JSON, sent as `data`.
    pub data: Option<String>,
}

impl ConnectError {
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), data: None }
    }

    /// What official servers answer for a namespace they do not have.
    pub fn unknown_namespace() -> Self {
        Self::new("Invalid namespace")
    }

    /// `data`: raw JSON.
    #[must_use]
    pub fn with_data(mut self, data: impl Into<String>) -> Self {
        self.data = Some(data.into());
        self
    }
}

/// Names the event a client wants answered; give it to [`Socket::ack`] once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AckId(pub u64);

/// One event of a client.
#[derive(Debug)]
pub struct Event<'a> {
    /// First element of the array.
    pub name: &'a str,
    pub payload: Payload<'a>,
    /// Set when the client waits for an answer.
    pub ack: Option<AckId>,
}

/// Arguments of an event or an ack.
#[derive(Debug, Clone, Copy)]
pub struct Payload<'a> {
    /// Each argument as the client wrote it. An attachment stands as `{"_placeholder":true,"num":n}`, `n` an
    /// index into `attachments`, checked to be in range.
    pub args: &'a [&'a RawValue],
    pub attachments: &'a [Bytes],
}

/// One bare Engine.IO message.
#[derive(Debug, Clone, Copy)]
pub enum Message<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
}
