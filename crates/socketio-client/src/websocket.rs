//! Plain WebSocket, without Engine.IO.

use std::net::{IpAddr, SocketAddr};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use crate::{Closed, ConnectError, Endpoint, InvalidUrl, Stages, Timeouts};

/// What to ask for.
#[derive(Clone, Debug)]
pub struct Request {
    /// The server.
    pub endpoint: Endpoint,
    /// Path and query, encoded, beginning with `/`.
    pub target: String,
    /// Headers beside those an upgrade needs.
    pub headers: Vec<(String, String)>,
    /// Offered in this order; the server picks at most one.
    pub subprotocols: Vec<String>,
    /// How long to wait for what.
    pub timeouts: Timeouts,
    /// The local address to connect from.
    pub local_addr: Option<IpAddr>,
    /// Addresses to use instead of asking DNS.
    pub addresses: Vec<SocketAddr>,
    /// The largest message accepted, in bytes.
    pub max_message: usize,
    /// For `wss` and `https`.
    pub tls: Option<Arc<rustls::ClientConfig>>,
}

impl Request {
    /// Defaults for a `ws`, `wss`, `http` or `https` URL.
    pub fn new(_url: &str) -> Result<Self, InvalidUrl> {
        unreachable!("under way")
    }
}

/// An upgrade that succeeded.
#[derive(Debug)]
pub struct Upgraded {
    /// The connection.
    pub connection: Connection,
    /// How long each stage took.
    pub stages: Stages,
    /// The subprotocol the server picked.
    pub subprotocol: Option<String>,
}

/// A message, lent from the read buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// Valid UTF-8.
    Text(&'a str),
    /// Any bytes.
    Binary(&'a [u8]),
    /// The answer to a ping of ours. (A server's pings are answered inside.)
    Pong(&'a [u8]),
}

/// A message that owns its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnedMessage {
    /// See [`Message::Text`].
    Text(String),
    /// See [`Message::Binary`].
    Binary(Vec<u8>),
    /// See [`Message::Pong`].
    Pong(Vec<u8>),
}

/// One WebSocket connection. Waiting methods are safe to cancel.
#[derive(Debug)]
pub struct Connection {}

impl Connection {
    /// Connects and upgrades.
    pub async fn connect(_request: &Request) -> Result<Upgraded, ConnectError> {
        unreachable!("under way")
    }
    /// Waits once for bytes, then hands every whole message already there to `visit` until it breaks.
    /// Answers how many were visited, at least 1.
    pub async fn for_each_ready(
        &mut self,
        _visit: impl FnMut(Message<'_>, Instant) -> ControlFlow<()>,
    ) -> Result<usize, Closed> {
        unreachable!("under way")
    }
    /// The polled form of [`Connection::for_each_ready`].
    pub fn poll_for_each_ready(
        &mut self,
        _cx: &mut Context<'_>,
        _visit: impl FnMut(Message<'_>, Instant) -> ControlFlow<()>,
    ) -> Poll<Result<usize, Closed>> {
        unreachable!("under way")
    }
    /// The next message, copied.
    pub async fn next(&mut self) -> Result<OwnedMessage, Closed> {
        unreachable!("under way")
    }
    /// Sends a text message: one frame, one write.
    pub async fn send_text(&mut self, _text: &str) -> Result<(), Closed> {
        unreachable!("under way")
    }
    /// Sends a binary message: one frame, one write.
    pub async fn send_binary(&mut self, _bytes: &[u8]) -> Result<(), Closed> {
        unreachable!("under way")
    }
    /// Sends a ping; its answer comes as [`Message::Pong`]. At most 125 bytes are sent.
    pub async fn send_ping(&mut self, _payload: &[u8]) -> Result<(), Closed> {
        unreachable!("under way")
    }
    /// Sends a close frame (empty for `None`) and waits for the server's, at most `timeouts.close`; answers how it ended.
    pub async fn close(self, _code: Option<u16>, _reason: &str) -> Closed {
        unreachable!("under way")
    }
    /// Ends the connection with a TCP reset.
    pub fn abort(self) {
        unreachable!("under way")
    }
}
