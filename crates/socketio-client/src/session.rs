//! What a connection knows of its Engine.IO session and its namespaces: each WebSocket message becomes
//! packets for the application or an answer to the server.

use std::ops::ControlFlow;
use std::time::Instant;

use bytes::Bytes;
use socketio_wire::engineio::{Revision, packet as engine};
use socketio_wire::socketio::packet::{self, MAX_ATTACHMENTS, Packet, PacketType};
use socketio_wire::socketio::reassembly::{Limits, Reassembler, Text};
use socketio_wire::websocket::frame::Opcode;

use crate::client::{Incoming, Kind};
use crate::error::Closed;
use crate::heartbeat::Heartbeat;
use crate::websocket::{Message, Stop, encode_masked};

/// A server connects namespaces unasked; it is not to fill memory with them.
const MAX_NAMESPACES: usize = 1_000;

#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) revision: Revision,
    pub(crate) heartbeat: Heartbeat,
    reassembler: Reassembler,
    /// Connected namespaces, in the order of their CONNECT. Nearly always one.
    namespaces: Vec<Box<str>>,
    next_ack: u64,
}

impl Session {
    pub(crate) fn new(revision: Revision, heartbeat: Heartbeat, max_payload: usize) -> Self {
        let limits = Limits { attachments: MAX_ATTACHMENTS, bytes: max_payload };
        let reassembler = Reassembler::new(limits);
        Self { revision, heartbeat, reassembler, namespaces: Vec::new(), next_ack: 0 }
    }

    pub(crate) fn namespaces(&self) -> impl Iterator<Item = &str> {
        self.namespaces.iter().map(|namespace| &**namespace)
    }

    pub(crate) fn next_ack_id(&mut self) -> u64 {
        let id = self.next_ack;
        self.next_ack += 1;
        id
    }

    pub(crate) fn forget_namespace(&mut self, namespace: &str) {
        self.namespaces.retain(|known| **known != *namespace);
    }

    /// Takes one WebSocket message. Answers go to `replies` as frames, packets for the application to `visit`.
    pub(crate) fn receive<F>(
        &mut self,
        message: Message<'_>,
        at: Instant,
        replies: &mut Vec<u8>,
        visit: &mut F,
    ) -> ControlFlow<Stop>
    where
        F: FnMut(Incoming<'_>) -> ControlFlow<()>,
    {
        match message {
            Message::Text(text) => match engine::decode_text(text) {
                Ok((kind, data)) => {
                    let pong = |pong: &[u8]| encode_masked(Opcode::Text, pong, replies);
                    self.receive_text(kind, data, at, pong, visit)
                }
                Err(error) => protocol("Engine.IO packet", &error, text),
            },
            Message::Binary(bytes) => {
                let attachment = engine::decode_binary(self.revision, bytes)
                    .map(|(_, attachment)| Bytes::copy_from_slice(attachment));
                match attachment {
                    Ok(attachment) => self.receive_binary(attachment, at, visit),
                    Err(error) => not_binary(&error),
                }
            }
            Message::Pong(_) => ControlFlow::Continue(()),
        }
    }

    /// Takes one packet of a poll's answer; `pong` is given the packet that answers a ping.
    pub(crate) fn receive_polled<F>(
        &mut self,
        packet: engine::Packet<'_>,
        at: Instant,
        pong: impl FnOnce(&[u8]),
        visit: &mut F,
    ) -> ControlFlow<Stop>
    where
        F: FnMut(Incoming<'_>) -> ControlFlow<()>,
    {
        match packet.data {
            engine::Data::Text(data) => self.receive_text(packet.kind, data, at, pong, visit),
            engine::Data::Binary(data) => self.receive_binary(Bytes::from(data.into_owned()), at, visit),
        }
    }

    fn receive_text<F>(
        &mut self,
        kind: engine::PacketType,
        data: &str,
        at: Instant,
        pong: impl FnOnce(&[u8]),
        visit: &mut F,
    ) -> ControlFlow<Stop>
    where
        F: FnMut(Incoming<'_>) -> ControlFlow<()>,
    {
        match kind {
            engine::PacketType::Message => self.receive_packet(data, at, visit),
            engine::PacketType::Ping => {
                self.heartbeat.ping(at);
                let mut answer = Vec::with_capacity(1 + data.len());
                engine::encode_text(engine::PacketType::Pong, data, &mut answer);
                pong(&answer);
                ControlFlow::Continue(())
            }
            engine::PacketType::Pong => {
                self.heartbeat.pong(at);
                ControlFlow::Continue(())
            }
            engine::PacketType::Close => ControlFlow::Break(Stop::Close(Closed::Engine)),
            // Nothing to do here; the official clients pass over them as well.
            engine::PacketType::Open | engine::PacketType::Upgrade | engine::PacketType::Noop => {
                ControlFlow::Continue(())
            }
        }
    }

    fn receive_packet<F>(&mut self, text: &str, at: Instant, visit: &mut F) -> ControlFlow<Stop>
    where
        F: FnMut(Incoming<'_>) -> ControlFlow<()>,
    {
        let packet = match packet::decode(text) {
            Ok(packet) => packet,
            Err(error) => return protocol("Socket.IO packet", &error, text),
        };
        let kind = match packet.kind {
            PacketType::Event => Kind::Event,
            PacketType::Ack => Kind::Ack,
            PacketType::Connect => {
                if !self.namespaces.iter().any(|known| **known == *packet.namespace) {
                    if self.namespaces.len() == MAX_NAMESPACES {
                        let text = format!("more than {MAX_NAMESPACES} namespaces connected");
                        return ControlFlow::Break(Stop::Close(Closed::Protocol(text)));
                    }
                    self.namespaces.push(packet.namespace.into());
                }
                Kind::Connect
            }
            PacketType::ConnectError => Kind::ConnectError,
            PacketType::Disconnect => {
                self.forget_namespace(packet.namespace);
                Kind::Disconnect
            }
            PacketType::BinaryEvent => Kind::Event,
            PacketType::BinaryAck => Kind::Ack,
        };
        if packet.kind.is_binary() || self.reassembler.is_waiting() {
            match self.reassembler.take_text(packet) {
                Ok(Text::Complete(_)) => {}
                Ok(Text::Waiting) => return ControlFlow::Continue(()),
                Err(error) => return protocol("Socket.IO packet", &error, text),
            }
        }
        lend(kind, &packet, &[], at, visit)
    }

    fn receive_binary<F>(&mut self, attachment: Bytes, at: Instant, visit: &mut F) -> ControlFlow<Stop>
    where
        F: FnMut(Incoming<'_>) -> ControlFlow<()>,
    {
        match self.reassembler.take_binary(attachment) {
            Ok(None) => ControlFlow::Continue(()),
            Ok(Some(message)) => {
                let kind = if message.kind == PacketType::BinaryAck { Kind::Ack } else { Kind::Event };
                lend(kind, &message.packet(), &message.attachments, at, visit)
            }
            Err(error) => not_binary(&error),
        }
    }
}

fn lend<F>(
    kind: Kind,
    packet: &Packet<'_>,
    attachments: &[Bytes],
    received: Instant,
    visit: &mut F,
) -> ControlFlow<Stop>
where
    F: FnMut(Incoming<'_>) -> ControlFlow<()>,
{
    let incoming = Incoming {
        kind,
        namespace: packet.namespace,
        ack: packet.ack,
        data: packet.data,
        attachments,
        received,
    };
    visit(incoming).map_break(|()| Stop::Visitor)
}

fn protocol(what: &str, error: &socketio_wire::Error, text: &str) -> ControlFlow<Stop> {
    let sample = sample(text);
    ControlFlow::Break(Stop::Close(Closed::Protocol(format!("{what}: {error} in {sample:?}"))))
}

fn not_binary(error: &socketio_wire::Error) -> ControlFlow<Stop> {
    ControlFlow::Break(Stop::Close(Closed::Protocol(format!("binary message: {error}"))))
}

/// The start of a text that somebody will read in a report.
pub(crate) fn sample(text: &str) -> &str {
    &text[..text.floor_char_boundary(100)]
}
