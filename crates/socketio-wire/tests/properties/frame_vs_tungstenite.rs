//! The first byte of the input chooses who reads and in what portions; the rest is what the peer sends.
//!
//! The header decoder and the reader must agree with tungstenite's on every frame: same messages, same
//! bytes, same class of error. Where the two differ on purpose is written at each place.

use std::io::{self, Cursor, Read, Write};

use socketio_wire::websocket::close::CloseCode;
use socketio_wire::websocket::frame::{self, FrameError, Incoming, Opcode, Reader, Role};
use tungstenite::error::ProtocolError;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use tungstenite::protocol::{self, WebSocket, WebSocketConfig};
use tungstenite::{Error, Message};

/// Small, so that inputs of ordinary length exceed it.
const MAX_MESSAGE: usize = 300;

pub(crate) fn check(input: &[u8]) {
    let Some((&setting, bytes)) = input.split_first() else { return };
    let role = if setting & 1 == 0 { Role::Server } else { Role::Client };
    check_header(bytes);
    let whole = read_in_portions(role, bytes, bytes.len());
    if setting >> 1 > 0 {
        assert_eq!(read_in_portions(role, bytes, (setting >> 1).into()), whole, "in portions and at once");
    }
    compare(role, bytes, &whole);
}

fn check_header(bytes: &[u8]) {
    let theirs = FrameHeader::parse(&mut Cursor::new(bytes));
    match frame::decode_header(bytes) {
        Ok(Some((ours, len))) => {
            let (theirs, their_len) = theirs.unwrap().unwrap();
            assert_eq!(ours.fin, theirs.is_final);
            let rsv = u8::from(theirs.rsv1) << 2 | u8::from(theirs.rsv2) << 1 | u8::from(theirs.rsv3);
            assert_eq!(ours.rsv, rsv);
            assert_eq!(ours.mask, theirs.mask);
            assert_eq!(ours.len, their_len);
            let opcode = match theirs.opcode {
                OpCode::Data(Data::Continue) => Opcode::Continuation,
                OpCode::Data(Data::Text) => Opcode::Text,
                OpCode::Data(Data::Binary) => Opcode::Binary,
                OpCode::Control(Control::Close) => Opcode::Close,
                OpCode::Control(Control::Ping) => Opcode::Ping,
                OpCode::Control(Control::Pong) => Opcode::Pong,
                other => panic!("reserved opcode {other:?} accepted"),
            };
            assert_eq!(ours.opcode, opcode);

            let mut out = Vec::new();
            frame::encode_header(ours.fin, ours.opcode, ours.mask, ours.len, &mut out);
            // Ours is the shortest form; the peer's may be longer.
            assert!(out.len() <= len);
            let again = frame::Header { rsv: 0, ..ours };
            assert_eq!(frame::decode_header(&out), Ok(Some((again, out.len()))));
        }
        Ok(None) => assert!(matches!(theirs, Ok(None)), "{theirs:?}"),
        // tungstenite leaves the highest bit of a length to its size limit.
        Err(FrameError::InvalidLength) => assert!(bytes[2] & 0x80 != 0),
        Err(FrameError::ReservedOpcode(opcode)) => match theirs {
            Err(Error::Protocol(ProtocolError::InvalidOpcode(theirs))) => assert_eq!(opcode, theirs),
            // It waits for the whole header first.
            Ok(None) => assert!(bytes.len() < frame::MAX_HEADER_LEN),
            other => panic!("{other:?}"),
        },
        Err(error) => panic!("{error} is not the header's business"),
    }
}

/// [`Incoming`] that outlives its buffer.
#[derive(Debug, PartialEq)]
enum Heard {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<CloseCode>, String),
}

#[derive(Debug, PartialEq)]
struct Outcome {
    messages: Vec<Heard>,
    /// `Ok` when the bytes ended before a frame did, or after a close frame.
    end: Result<(), FrameError>,
}

/// Reads as a connection does: whatever has arrived, then a portion more.
fn read_in_portions(role: Role, bytes: &[u8], portion: usize) -> Outcome {
    let mut reader = Reader::new(role, MAX_MESSAGE);
    let mut buffer = Vec::new();
    let mut messages = Vec::new();
    let mut arriving = bytes.chunks(portion.max(1));
    loop {
        let before = buffer.clone();
        let wanted = reader.wanted(&buffer);
        match reader.read(&mut buffer) {
            Ok(Some((used, incoming))) => {
                assert_eq!(wanted, Some(used));
                let closed = matches!(incoming, Incoming::Close(..));
                messages.extend(heard(incoming));
                if closed {
                    return Outcome { messages, end: Ok(()) };
                }
                buffer.drain(..used);
            }
            Ok(None) => {
                assert_eq!(buffer, before, "an incomplete frame is left as it is");
                assert!(wanted.is_none_or(|wanted| wanted > buffer.len()));
                assert!(wanted.is_none_or(|wanted| wanted <= frame::MAX_HEADER_LEN + MAX_MESSAGE));
                match arriving.next() {
                    Some(bytes) => buffer.extend_from_slice(bytes),
                    None => return Outcome { messages, end: Ok(()) },
                }
            }
            Err(error) => return Outcome { messages, end: Err(error) },
        }
    }
}

fn heard(incoming: Incoming<'_>) -> Option<Heard> {
    Some(match incoming {
        Incoming::Text(text) => Heard::Text(text.into_owned()),
        Incoming::Binary(bytes) => Heard::Binary(bytes.into_owned()),
        Incoming::Ping(bytes) => Heard::Ping(bytes.to_vec()),
        Incoming::Pong(bytes) => Heard::Pong(bytes.to_vec()),
        Incoming::Close(code, reason) => Heard::Close(code, reason.to_owned()),
        Incoming::Partial => return None,
    })
}

fn compare(role: Role, bytes: &[u8], ours: &Outcome) {
    let role = match role {
        Role::Server => protocol::Role::Server,
        Role::Client => protocol::Role::Client,
    };
    let config = WebSocketConfig::default()
        .read_buffer_size(1_024)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    let mut theirs = WebSocket::from_raw_socket(Peer(bytes), role, Some(config));
    for message in &ours.messages {
        let their_message = match theirs.read() {
            Ok(message) => message,
            Err(error) => panic!("ours: {message:?}, theirs: {error}"),
        };
        match (message, their_message) {
            (Heard::Text(ours), Message::Text(theirs)) => assert_eq!(ours, theirs.as_str()),
            (Heard::Binary(ours), Message::Binary(theirs)) => assert_eq!(ours, &theirs),
            (Heard::Ping(ours), Message::Ping(theirs)) => assert_eq!(ours, &theirs),
            (Heard::Pong(ours), Message::Pong(theirs)) => assert_eq!(ours, &theirs),
            (Heard::Close(None, reason), Message::Close(None)) => assert_eq!(reason, ""),
            // Assigned by IANA after RFC 6455; tungstenite does not know it.
            (Heard::Close(Some(CloseCode(1014)), _), Message::Close(Some(theirs))) => {
                assert_eq!(u16::from(theirs.code), 1002);
            }
            (Heard::Close(Some(code), reason), Message::Close(Some(theirs))) => {
                assert_eq!(code.0, u16::from(theirs.code));
                assert_eq!(reason, theirs.reason.as_str());
            }
            (ours, theirs) => panic!("ours: {ours:?}, theirs: {theirs:?}"),
        }
    }
    if matches!(ours.messages.last(), Some(Heard::Close(..))) {
        return;
    }
    check_end(ours.end, &theirs.read());
}

/// Both stop at the same place and for the same reason, but for the order in which they look: we refuse what
/// the header forbids as soon as it is there; tungstenite looks at the size, waits for the payload, then looks
/// at the rest.
fn check_end(ours: Result<(), FrameError>, theirs: &Result<Message, Error>) {
    use ProtocolError as Theirs;
    let at_end = matches!(theirs, Err(Error::Protocol(Theirs::ResetWithoutClosingHandshake)));
    let Err(ours) = ours else {
        assert!(at_end, "ours: more is needed, theirs: {theirs:?}");
        return;
    };
    let too_large = matches!(theirs, Err(Error::Capacity(_)));
    let not_utf8 = matches!(theirs, Err(Error::Utf8(_)));
    let rule = match theirs {
        Err(Error::Protocol(rule)) => Some(rule),
        _ => None,
    };
    let same = match ours {
        FrameError::Utf8 => not_utf8,
        FrameError::HalfCloseCode => matches!(rule, Some(Theirs::InvalidCloseSequence)),
        // tungstenite hands the message out with another code; a bad reason it sees first.
        FrameError::InvalidCloseCode(_) => match theirs {
            Ok(Message::Close(Some(close))) => u16::from(close.code) == 1002,
            _ => not_utf8,
        },
        FrameError::TooLarge { .. } | FrameError::InvalidLength => too_large || at_end,
        FrameError::ReservedOpcode(_) => matches!(rule, Some(Theirs::InvalidOpcode(_))) || at_end,
        header_rule => {
            let same = match header_rule {
                FrameError::ReservedBits(_) => {
                    matches!(rule, Some(Theirs::NonZeroReservedBits | Theirs::UnmaskedFrameFromClient))
                }
                FrameError::NotMasked => matches!(rule, Some(Theirs::UnmaskedFrameFromClient)),
                FrameError::Masked => matches!(rule, Some(Theirs::MaskedFrameFromServer)),
                FrameError::FragmentedControl => matches!(rule, Some(Theirs::FragmentedControlFrame)),
                FrameError::ControlTooLong(_) => matches!(rule, Some(Theirs::ControlFrameTooBig)),
                FrameError::UnexpectedContinuation => matches!(rule, Some(Theirs::UnexpectedContinueFrame)),
                FrameError::ExpectedContinuation => matches!(rule, Some(Theirs::ExpectedFragment(_))),
                _ => false,
            };
            same || too_large || at_end
        }
    };
    assert!(same, "ours: {ours}, theirs: {theirs:?}");
}

/// Gives its bytes, then the end; takes what is written and forgets it.
struct Peer<'a>(&'a [u8]);

impl Read for Peer<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

impl Write for Peer<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
