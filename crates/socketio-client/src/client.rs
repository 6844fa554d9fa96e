//! One Socket.IO connection.

use std::convert::Infallible;
use std::ops::ControlFlow;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use socketio_wire::engineio::Revision;

use crate::{Closed, ConnectError, Options, Stages};

/// A connect that succeeded.
#[derive(Debug)]
pub struct Connected {
    /// The connection, its first namespace connected.
    pub client: Client,
    /// How long each stage took.
    pub stages: Stages,
    /// The session id of the Engine.IO handshake.
    pub sid: String,
    /// Raw JSON that came with the reply to CONNECT (Engine.IO 4: `{"sid":...}`), else empty.
    pub namespace_data: String,
}

/// Connects to the server and to the namespace of `options`.
pub async fn connect(_options: &Options) -> Result<Connected, ConnectError> {
    unreachable!("under way")
}

/// One packet for the application, lent from the read buffer for the length of a visit.
#[derive(Clone, Copy, Debug)]
pub struct Incoming<'a> {
    /// What it is.
    pub kind: Kind,
    /// Its namespace; `/` when it names none.
    pub namespace: &'a str,
    /// Of an event: the id the server wants acknowledged. Of an ack: the id of our emit.
    pub ack: Option<u64>,
    /// Raw JSON, not validated: of an event `["name",...]`, of an ack `[...]`; may be empty for the others.
    pub data: &'a str,
    /// Binary attachments, by the number of their placeholder in `data`.
    pub attachments: &'a [Bytes],
    /// When the bytes were read from the socket.
    pub received: Instant,
}

impl<'a> Incoming<'a> {
    /// The event's name, straight from the bytes; `None` for another kind of packet, and for a name
    /// that is no string or has an escape in it (see `socketio_wire::socketio::packet::event_args`).
    pub fn event_name(&self) -> Option<&'a str> {
        unreachable!("under way")
    }
    /// A copy to keep.
    pub fn to_message(&self) -> Message {
        unreachable!("under way")
    }
}

/// What an [`Incoming`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A server's event.
    Event,
    /// The answer to an emit of ours.
    Ack,
    /// A namespace is connected.
    Connect,
    /// A namespace was refused.
    ConnectError,
    /// The server disconnected a namespace. The connection itself may live on.
    Disconnect,
}

/// A packet for the application that owns its bytes; fields as in [`Incoming`].
#[derive(Clone, Debug)]
pub struct Message {
    pub kind: Kind,
    pub namespace: String,
    pub ack: Option<u64>,
    pub data: String,
    pub attachments: Vec<Bytes>,
    pub received: Instant,
}

/// One Socket.IO connection. Dropping it drops the TCP connection without a word; see [`Client::close`].
///
/// Waiting methods are safe to cancel: put them in `select!` or under a timeout at will.
#[derive(Debug)]
pub struct Client {}

/// Appends the text of an EVENT packet (Engine.IO type included, fit for [`Client::send_raw`]).
/// `args` is the JSON of the arguments, comma-separated without brackets; may be empty.
pub fn encode_event(_namespace: &str, _ack: Option<u64>, _event: &str, _args: &str, _out: &mut Vec<u8>) {
    unreachable!("under way")
}

impl Client {
    /// Waits once for the connection to be readable, then hands every whole packet already there to
    /// `visit`, until it breaks (the rest stays for the next call). Answers how many were visited, at least 1.
    pub async fn for_each_ready(
        &mut self,
        _visit: impl FnMut(Incoming<'_>) -> ControlFlow<()>,
    ) -> Result<usize, Closed> {
        unreachable!("under way")
    }

    /// The polled form of [`Client::for_each_ready`].
    pub fn poll_for_each_ready(
        &mut self,
        _cx: &mut Context<'_>,
        _visit: impl FnMut(Incoming<'_>) -> ControlFlow<()>,
    ) -> Poll<Result<usize, Closed>> {
        unreachable!("under way")
    }

    /// Visits packets as they come until `visit` breaks with a value or the connection ends.
    pub async fn visit<B>(
        &mut self,
        _visit: impl FnMut(Incoming<'_>) -> ControlFlow<B>,
    ) -> Result<B, Closed> {
        unreachable!("under way")
    }

    /// Visits packets (and keeps the heartbeat) until `until` is done or the connection ends: what a pause is made of.
    pub async fn visit_while<T>(
        &mut self,
        _until: impl Future<Output = T>,
        _visit: impl FnMut(Incoming<'_>),
    ) -> Result<T, Closed> {
        unreachable!("under way")
    }

    /// The next packet, copied. For where comfort matters more than speed.
    pub async fn next(&mut self) -> Result<Message, Closed> {
        unreachable!("under way")
    }

    /// Sends an event. `args` as for [`encode_event`].
    pub async fn emit(&mut self, _namespace: &str, _event: &str, _args: &str) -> Result<(), Closed> {
        unreachable!("under way")
    }

    /// Sends an event that asks for an ack; answers the id that the ack will carry.
    pub async fn emit_with_ack(
        &mut self,
        _namespace: &str,
        _event: &str,
        _args: &str,
    ) -> Result<u64, Closed> {
        unreachable!("under way")
    }

    /// Sends an event whose `data` (the whole JSON array, name first) is ready.
    pub async fn emit_json(
        &mut self,
        _namespace: &str,
        _ack: Option<u64>,
        _data: &str,
    ) -> Result<(), Closed> {
        unreachable!("under way")
    }

    /// As [`Client::emit_json`], with binary attachments whose placeholders
    /// `{"_placeholder":true,"num":n}` stand in `data`.
    pub async fn emit_binary(
        &mut self,
        _namespace: &str,
        _ack: Option<u64>,
        _data: &str,
        _attachments: &[Bytes],
    ) -> Result<(), Closed> {
        unreachable!("under way")
    }

    /// Answers an event that asked for an ack.
    pub async fn send_ack(&mut self, _namespace: &str, _id: u64, _args: &str) -> Result<(), Closed> {
        unreachable!("under way")
    }

    /// An ack id nobody used on this connection.
    pub fn next_ack_id(&mut self) -> u64 {
        unreachable!("under way")
    }

    /// Sends one ready Engine.IO text packet (such as `42["hi"]`) as one frame in one write.
    pub async fn send_raw(&mut self, _packet: &[u8]) -> Result<(), Closed> {
        unreachable!("under way")
    }

    /// Connects a further namespace and waits for the reply: its raw JSON. `auth` is raw JSON for Engine.IO 4;
    /// for Engine.IO 3 the text of a query. Packets of other namespaces go to `others` meanwhile.
    pub async fn connect_namespace(
        &mut self,
        _namespace: &str,
        _auth: Option<&str>,
        _others: impl FnMut(Incoming<'_>),
    ) -> Result<String, ConnectError> {
        unreachable!("under way")
    }

    /// Leaves one namespace (a DISCONNECT packet); the connection stays.
    pub async fn disconnect_namespace(&mut self, _namespace: &str) -> Result<(), Closed> {
        unreachable!("under way")
    }

    /// Closes as the official clients do: DISCONNECT for each namespace and a WebSocket close frame (one write),
    /// then waits for the server's close, at most `timeouts.close`. What still arrives goes to `visit`.
    pub async fn close_visiting(self, _visit: impl FnMut(Incoming<'_>)) -> Closed {
        unreachable!("under way")
    }

    /// [`Client::close_visiting`] that drops what still arrives.
    pub async fn close(self) -> Closed {
        unreachable!("under way")
    }

    /// Ends the connection with a TCP reset, as a client does that loses power or is killed.
    pub fn abort(self) {
        unreachable!("under way")
    }

    /// The revision spoken.
    pub fn revision(&self) -> Revision {
        unreachable!("under way")
    }

    /// Bytes held for this client beside the kernel's: read but incomplete, and written but not taken.
    pub fn buffered_bytes(&self) -> usize {
        unreachable!("under way")
    }
}

/// Never made: [`Client::visit`] with this type runs until the connection ends.
#[allow(dead_code)]
type Forever = Infallible;
