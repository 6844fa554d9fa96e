//! The first byte of the input chooses revision and limit and whether the visitor breaks off; the rest is what a server
//! says, one message a line: binary where the line begins with a zero byte, else text.

use std::ops::ControlFlow;

use socketio_client::conversation::Conversation;
use socketio_client::websocket::Message;
use socketio_client::{Closed, Incoming, Kind, Revision};
use socketio_wire::engineio::packet as engine;
use socketio_wire::socketio::packet::{self, PacketType};
use socketio_wire::websocket::frame::{self, Reader, Role};

pub(crate) fn check(input: &[u8]) {
    let Some((&setting, conversation)) = input.split_first() else { return };
    let revision = if setting & 1 == 0 { Revision::V4 } else { Revision::V3 };
    let breaks = setting & 2 != 0;
    let max_payload = 100 + usize::from(setting >> 2) * 10;
    let mut websocket = Conversation::new(revision, max_payload);
    let mut polling = Conversation::new(revision, max_payload);
    let mut expected = Expected::default();

    for line in conversation.split(|&byte| byte == b'\n') {
        let message = match line.strip_prefix(b"\0") {
            Some(bytes) => Message::Binary(bytes),
            None => match std::str::from_utf8(line) {
                Ok(text) => Message::Text(text),
                Err(_) => return,
            },
        };
        let (mut visited, mut replies) = (Vec::new(), Vec::new());
        let outcome = websocket.message(message, &mut replies, |incoming| {
            visited.push(Seen::of(&incoming));
            if breaks { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert!(visited.len() <= 1, "one message, {} packets", visited.len());
        check_replies(&replies, message);
        let over = outcome.is_err();
        check_outcome(outcome, message, &visited);
        if !over {
            expected.take(revision, message, visited.first(), max_payload);
            assert!(websocket.namespaces().eq(expected.namespaces.iter().map(String::as_str)));
        }

        let mut polled = Vec::new();
        let ended = take_polled(&mut polling, revision, message, &mut polled);
        // A poll carries binary as text, which a WebSocket must not.
        if !matches!(message, Message::Text(text) if text.starts_with('b')) {
            assert_eq!((ended, polled), (over, visited), "polled and by WebSocket: {message:?}");
            assert!(polling.namespaces().eq(websocket.namespaces()));
        }
        if over || ended {
            return;
        }
    }
}

/// A copy of an [`Incoming`], without its time.
#[derive(Debug, PartialEq)]
struct Seen {
    kind: Kind,
    namespace: String,
    ack: Option<u64>,
    data: String,
    attachments: Vec<Vec<u8>>,
}

impl Seen {
    fn of(incoming: &Incoming<'_>) -> Self {
        // The quick look at the name sees what the thorough one does, or nothing.
        if let Some(name) = incoming.event_name()
            && let Ok(event) = packet::event_args(incoming.data)
        {
            assert_eq!(name, event.name);
        }
        Self {
            kind: incoming.kind,
            namespace: incoming.namespace.to_owned(),
            ack: incoming.ack,
            data: incoming.data.to_owned(),
            attachments: incoming.attachments.iter().map(|bytes| bytes.to_vec()).collect(),
        }
    }
}

/// What is to be seen, by a second book-keeping.
#[derive(Default)]
struct Expected {
    namespaces: Vec<String>,
    /// The text that waits, how many attachments it has, and those that have come.
    waiting: Option<(String, usize, Vec<Vec<u8>>)>,
}

impl Expected {
    fn take(&mut self, revision: Revision, message: Message<'_>, seen: Option<&Seen>, max_payload: usize) {
        let text = match message {
            Message::Text(text) => text.strip_prefix('4'),
            Message::Binary(bytes) => {
                let (_, due, attachments) = self.waiting.as_mut().expect("an attachment was due");
                attachments.push(bytes[usize::from(revision == Revision::V3)..].to_vec());
                if attachments.len() < *due {
                    return assert_eq!(seen, None, "before its last attachment");
                }
                let (text, _, attachments) = self.waiting.take().expect("just seen");
                let size = attachments.iter().map(Vec::len).sum::<usize>();
                let seen = seen.expect("the last attachment has come");
                assert!(seen.data.len() + size <= max_payload);
                return check_seen(seen, &text, attachments);
            }
            Message::Pong(_) => unreachable!(),
        };
        let Some(text) = text else { return assert_eq!(seen, None) };
        assert!(self.waiting.is_none(), "a text while an attachment was due");
        let packet = packet::decode(text).expect("the session goes on");
        if packet.attachments > 0 {
            self.waiting = Some((text.to_owned(), packet.attachments as usize, Vec::new()));
            return assert_eq!(seen, None, "before its attachments");
        }
        let seen = seen.expect("a whole packet");
        match seen.kind {
            Kind::Connect if !self.namespaces.contains(&seen.namespace) => {
                self.namespaces.push(seen.namespace.clone());
            }
            Kind::Disconnect => self.namespaces.retain(|known| *known != seen.namespace),
            _ => {}
        }
        check_seen(seen, text, Vec::new());
    }
}

fn check_seen(seen: &Seen, text: &str, attachments: Vec<Vec<u8>>) {
    let packet = packet::decode(text).expect("was understood");
    let kind = match packet.kind {
        PacketType::Connect => Kind::Connect,
        PacketType::Disconnect => Kind::Disconnect,
        PacketType::Event | PacketType::BinaryEvent => Kind::Event,
        PacketType::Ack | PacketType::BinaryAck => Kind::Ack,
        PacketType::ConnectError => Kind::ConnectError,
    };
    let (namespace, data) = (packet.namespace.to_owned(), packet.data.to_owned());
    assert_eq!(*seen, Seen { kind, namespace, ack: packet.ack, data, attachments });
}

/// A ping is answered with its own text, in one masked frame; nothing else is answered.
fn check_replies(replies: &[u8], message: Message<'_>) {
    let Message::Text(text) = message else { return assert_eq!(replies, b"") };
    let Some(data) = text.strip_prefix('2') else { return assert_eq!(replies, b"") };
    let mut frame = replies.to_vec();
    let (used, reply) =
        Reader::new(Role::Server, 1 + data.len()).read(&mut frame).expect("a frame").expect("whole");
    let frame::Incoming::Text(pong) = reply else { panic!("{reply:?}") };
    assert_eq!(pong.strip_prefix('3'), Some(data));
    assert_eq!(used, replies.len());
}

fn check_outcome(outcome: Result<(), Closed>, message: Message<'_>, visited: &[Seen]) {
    match outcome {
        Ok(()) => assert!(!matches!(message, Message::Text(text) if text.starts_with('1'))),
        Err(Closed::Engine) => assert!(matches!(message, Message::Text(text) if text.starts_with('1'))),
        // It stands in reports: long enough to show what came, and no longer.
        Err(Closed::Protocol(text)) => {
            assert!(text.len() < 1_500, "{text}");
            assert!(visited.is_empty(), "refused and visited");
        }
        Err(other) => panic!("{other:?} of {message:?}"),
    }
}

/// Whether it was the last.
fn take_polled(
    polling: &mut Conversation,
    revision: Revision,
    message: Message<'_>,
    visited: &mut Vec<Seen>,
) -> bool {
    let packet = match message {
        Message::Text(text) => engine::decode(revision, text),
        Message::Binary(bytes) => engine::decode_binary(revision, bytes)
            .map(|(kind, data)| engine::Packet { kind, data: engine::Data::Binary(data.into()) }),
        Message::Pong(_) => unreachable!(),
    };
    let Ok(packet) = packet else { return true };
    let mut replies = Vec::new();
    let outcome = polling.polled(packet, &mut replies, |incoming| {
        visited.push(Seen::of(&incoming));
        ControlFlow::Continue(())
    });
    let pong = matches!(message, Message::Text(text) if text.starts_with('2'));
    assert_eq!(replies.len(), usize::from(pong));
    outcome.is_err()
}
