//! What a client makes of a server's messages, without a connection.
//!
//! Public so that it can be fuzzed; nobody else is meant to call it.

use std::ops::ControlFlow;
use std::time::Instant;

use socketio_wire::engineio::{Revision, packet as engine};

use crate::client::Incoming;
use crate::error::Closed;
use crate::heartbeat::Heartbeat;
use crate::session::Session;
use crate::websocket::{Message, Stop};

/// The receiving side of a session.
#[derive(Debug)]
pub struct Conversation(Session);

impl Conversation {
    /// `max_payload` is the most bytes a packet with its attachments may have.
    pub fn new(revision: Revision, max_payload: usize) -> Self {
        let heartbeat = Heartbeat::new(revision, 25_000, 20_000, Instant::now());
        Self(Session::new(revision, heartbeat, max_payload))
    }

    /// Takes one WebSocket message; answers go to `replies` as masked frames.
    ///
    /// # Errors
    /// How the message ends the session.
    pub fn message(
        &mut self,
        message: Message<'_>,
        replies: &mut Vec<u8>,
        mut visit: impl FnMut(Incoming<'_>) -> ControlFlow<()>,
    ) -> Result<(), Closed> {
        outcome(self.0.receive(message, Instant::now(), replies, &mut visit))
    }

    /// Takes one packet of a poll's answer; answers go to `replies` as packets.
    ///
    /// # Errors
    /// As [`Conversation::message`].
    pub fn polled(
        &mut self,
        packet: engine::Packet<'_>,
        replies: &mut Vec<Vec<u8>>,
        mut visit: impl FnMut(Incoming<'_>) -> ControlFlow<()>,
    ) -> Result<(), Closed> {
        let pong = |pong: &[u8]| replies.push(pong.to_vec());
        outcome(self.0.receive_polled(packet, Instant::now(), pong, &mut visit))
    }

    /// The connected ones, in the order in which they were.
    pub fn namespaces(&self) -> impl Iterator<Item = &str> {
        self.0.namespaces()
    }
}

fn outcome(flow: ControlFlow<Stop>) -> Result<(), Closed> {
    match flow {
        ControlFlow::Continue(()) | ControlFlow::Break(Stop::Visitor) => Ok(()),
        ControlFlow::Break(Stop::Close(closed)) => Err(closed),
    }
}
