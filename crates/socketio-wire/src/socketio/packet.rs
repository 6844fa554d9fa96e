//! One Socket.IO packet, the data of an Engine.IO message.
//!
//! ```text
//! packet      = type [ attachments '-' ] [ namespace [ '?' query ] ( ',' | end ) ] [ ack-id ] [ data ]
//! type        = '0'..='6'
//! attachments = digits            ; BINARY_EVENT and BINARY_ACK only, and always there
//! namespace   = '/' { any but ',' and '?' }     ; left away: "/"
//! query       = { any but ',' }                 ; revision 4 of the protocol
//! ack-id      = digits            ; below 2^53; EVENT and BINARY_EVENT may have one, the ACKs must
//! data        = JSON              ; CONNECT: object or nothing; DISCONNECT: nothing; CONNECT_ERROR: any;
//!                                 ; the others: array
//! ```
//!
//! Type 4 is `ERROR` in revision 4 (Socket.IO 2.x), where its data is any JSON value; revision 5 calls it
//! `CONNECT_ERROR` and sends an object.

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer as _;
use serde::de::{self, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::error::json_place;
use crate::{Error, ErrorKind, decimal};

/// What a packet is for; the order is the protocol's numbering.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PacketType {
    /// Asks for a namespace, or grants it.
    Connect,
    /// Leaves a namespace, or turns the peer out of it.
    Disconnect,
    Event,
    /// Answers an event that had an ack id.
    Ack,
    /// Refuses a namespace; `ERROR` in revision 4.
    ConnectError,
    /// An event whose binary parts follow.
    BinaryEvent,
    /// An acknowledgement whose binary parts follow.
    BinaryAck,
}

impl PacketType {
    /// From the protocol's number.
    pub fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => PacketType::Connect,
            1 => PacketType::Disconnect,
            2 => PacketType::Event,
            3 => PacketType::Ack,
            4 => PacketType::ConnectError,
            5 => PacketType::BinaryEvent,
            6 => PacketType::BinaryAck,
            _ => return None,
        })
    }

    /// The protocol's number, 0 to 6.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// Whether attachments follow.
    pub fn is_binary(self) -> bool {
        matches!(self, PacketType::BinaryEvent | PacketType::BinaryAck)
    }

    fn is_ack(self) -> bool {
        matches!(self, PacketType::Ack | PacketType::BinaryAck)
    }
}

/// A packet, borrowed from the text it came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    pub kind: PacketType,
    /// Binary messages that follow; 0 unless the type is binary.
    pub attachments: u32,
    /// Begins with `/`, holds neither `,` nor `?`.
    pub namespace: &'a str,
    /// What stood behind the namespace's `?`, "" when nothing; only revision 4 clients send one.
    pub query: &'a str,
    /// Asks for (EVENT) or gives (ACK) an acknowledgement; below 2^53.
    pub ack: Option<u64>,
    /// Raw JSON, "" when none. Only its first byte has been looked at.
    pub data: &'a str,
}

impl<'a> Packet<'a> {
    /// A packet without attachments, query and ack id.
    pub fn new(kind: PacketType, namespace: &'a str, data: &'a str) -> Self {
        Packet { kind, attachments: 0, namespace, query: "", ack: None, data }
    }
}

/// The namespace of a packet that names none.
pub const DEFAULT_NAMESPACE: &str = "/";
/// Highest ack id: a JavaScript peer counts in doubles, which are exact up to here.
pub const MAX_ACK_ID: u64 = (1 << 53) - 1;
/// Most attachments [`decode`] lets through; `reassembly` has a lower limit of its own.
pub const MAX_ATTACHMENTS: u32 = 1_000;
/// Longest namespace, and longest query of one, in bytes.
pub const MAX_NAMESPACE_LEN: usize = 8 * 1024;
/// Most arguments of one event.
pub const MAX_ARGUMENTS: usize = 1_000;
/// Event names that an application cannot send, because both ends use them for themselves.
pub const RESERVED_EVENTS: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

/// Decodes the data of an Engine.IO message, without allocating. The JSON is not parsed, only its first
/// byte must fit the type; [`event_args`] checks the rest.
pub fn decode(text: &str) -> Result<Packet<'_>, Error> {
    let bytes = text.as_bytes();
    let &first = bytes.first().ok_or(Error::new(ErrorKind::Empty, 0))?;
    let kind =
        PacketType::from_number(first.wrapping_sub(b'0')).ok_or(Error::new(ErrorKind::UnknownType, 0))?;
    let mut at = 1;

    let mut attachments = 0;
    if kind.is_binary() {
        let (count, digits) =
            decimal::read(&bytes[at..], 9).ok_or(Error::new(ErrorKind::AttachmentCount, at))?;
        if bytes.get(at + digits) != Some(&b'-') {
            return Err(Error::new(ErrorKind::AttachmentCount, at + digits));
        }
        attachments = u32::try_from(count)
            .ok()
            .filter(|&count| count <= MAX_ATTACHMENTS)
            .ok_or(Error::new(ErrorKind::TooManyAttachments(MAX_ATTACHMENTS), at))?;
        at += digits + 1;
    }

    let (mut namespace, mut query) = (DEFAULT_NAMESPACE, "");
    if bytes.get(at) == Some(&b'/') {
        let rest = &text[at..];
        let name = rest.split_once(',').map_or(rest, |(name, _)| name);
        let end = at + name.len();
        (namespace, query) = name.split_once('?').unwrap_or((name, ""));
        if namespace.len() > MAX_NAMESPACE_LEN || query.len() > MAX_NAMESPACE_LEN {
            return Err(Error::new(ErrorKind::NamespaceTooLong(MAX_NAMESPACE_LEN), at));
        }
        at = text.len().min(end + 1);
    }

    let mut ack = None;
    if bytes.get(at).is_some_and(u8::is_ascii_digit) {
        if !matches!(kind, PacketType::Event | PacketType::BinaryEvent) && !kind.is_ack() {
            return Err(Error::new(ErrorKind::UnexpectedAckId, at));
        }
        let (id, digits) = decimal::read(&bytes[at..], 16)
            .filter(|&(id, _)| id <= MAX_ACK_ID)
            .ok_or(Error::new(ErrorKind::AckId, at))?;
        ack = Some(id);
        at += digits;
    } else if kind.is_ack() {
        return Err(Error::new(ErrorKind::MissingAckId, at));
    }

    let data = &text[at..];
    check_data(kind, data.as_bytes().first().copied(), ack.is_some()).map_err(|kind| Error::new(kind, at))?;
    Ok(Packet { kind, attachments, namespace, query, ack, data })
}

fn check_data(kind: PacketType, first: Option<u8>, has_ack: bool) -> Result<(), ErrorKind> {
    match (kind, first) {
        (PacketType::Connect, None | Some(b'{')) => Ok(()),
        (PacketType::Connect, _) => Err(ErrorKind::ExpectedObject),
        (PacketType::Disconnect, None) => Ok(()),
        (PacketType::Disconnect, _) => Err(ErrorKind::UnexpectedData),
        // Any JSON value; a number without a sign cannot be told from an ack id.
        (PacketType::ConnectError, None | Some(b'{' | b'[' | b'"' | b't' | b'f' | b'n' | b'-')) => Ok(()),
        (PacketType::ConnectError, _) => Err(ErrorKind::Json),
        (_, Some(b'[')) => Ok(()),
        // Letters where an id may stand are most likely meant as one; say so.
        (_, Some(b'a'..=b'z' | b'A'..=b'Z' | b'-' | b'+' | b'.')) if !has_ack => Err(ErrorKind::AckId),
        _ => Err(ErrorKind::ExpectedArray),
    }
}

/// Appends a packet. Its fields must satisfy what [`Packet`] says of them.
pub fn encode(packet: &Packet<'_>, out: &mut Vec<u8>) {
    out.reserve(packet.data.len() + packet.namespace.len() + packet.query.len() + 24);
    out.push(b'0' + packet.kind.number());
    if packet.kind.is_binary() {
        decimal::write(packet.attachments.into(), b'0', out);
        out.push(b'-');
    }
    write_namespace(packet.namespace, packet.query, out);
    if let Some(id) = packet.ack {
        decimal::write(id, b'0', out);
    }
    out.extend_from_slice(packet.data.as_bytes());
}

/// Appends an EVENT. `args` is the JSON of the arguments separated by commas, "" when there are none.
pub fn encode_event(namespace: &str, ack: Option<u64>, name: &str, args: &str, out: &mut Vec<u8>) {
    out.reserve(namespace.len() + name.len() + args.len() + 32);
    out.push(b'0' + PacketType::Event.number());
    write_namespace(namespace, "", out);
    if let Some(id) = ack {
        decimal::write(id, b'0', out);
    }
    out.push(b'[');
    serde_json::to_writer(&mut *out, name).expect("a string into memory");
    if !args.is_empty() {
        out.push(b',');
        out.extend_from_slice(args.as_bytes());
    }
    out.push(b']');
}

/// Appends an ACK. `args` as in [`encode_event`].
pub fn encode_ack(namespace: &str, id: u64, args: &str, out: &mut Vec<u8>) {
    out.reserve(namespace.len() + args.len() + 32);
    out.push(b'0' + PacketType::Ack.number());
    write_namespace(namespace, "", out);
    decimal::write(id, b'0', out);
    out.push(b'[');
    out.extend_from_slice(args.as_bytes());
    out.push(b']');
}

fn write_namespace(namespace: &str, query: &str, out: &mut Vec<u8>) {
    debug_assert!(namespace.starts_with('/') && !namespace.contains([',', '?']), "namespace {namespace:?}");
    debug_assert!(!query.contains(','), "query {query:?}");
    if namespace == DEFAULT_NAMESPACE && query.is_empty() {
        return;
    }
    out.extend_from_slice(namespace.as_bytes());
    if !query.is_empty() {
        out.push(b'?');
        out.extend_from_slice(query.as_bytes());
    }
    out.push(b',');
}

/// The data of an EVENT or BINARY_EVENT, taken apart.
#[derive(Debug, Clone)]
pub struct EventArgs<'a> {
    /// Borrowed unless it holds escapes. A number, which the protocol allows, is given as it was written.
    pub name: Cow<'a, str>,
    /// The rest of the array, each a checked JSON value.
    pub args: Vec<&'a RawValue>,
}

/// Takes the data of an event apart and checks all of it: a JSON array whose first element is a name.
pub fn event_args(data: &str) -> Result<EventArgs<'_>, Error> {
    let mut items = elements(data, 1 + MAX_ARGUMENTS)?.into_iter();
    let raw_name = items.next().ok_or(Error::new(ErrorKind::EventName, 0))?;
    let name = event_name(raw_name.get())?;
    Ok(EventArgs { name, args: items.collect() })
}

/// Takes the data of an ACK or BINARY_ACK apart and checks all of it.
pub fn ack_args(data: &str) -> Result<Vec<&RawValue>, Error> {
    elements(data, MAX_ARGUMENTS)
}

fn event_name(raw: &str) -> Result<Cow<'_, str>, Error> {
    let name = match raw.as_bytes() {
        [b'"', inner @ .., b'"'] if !inner.contains(&b'\\') => Cow::Borrowed(&raw[1..raw.len() - 1]),
        [b'"', ..] => Cow::Owned(serde_json::from_str(raw).map_err(|_| Error::new(ErrorKind::Json, 1))?),
        [b'-' | b'0'..=b'9', ..] => Cow::Borrowed(raw),
        _ => return Err(Error::new(ErrorKind::EventName, 1)),
    };
    if RESERVED_EVENTS.contains(&&*name) {
        return Err(Error::new(ErrorKind::ReservedEvent, 1));
    }
    Ok(name)
}

fn elements(data: &str, most: usize) -> Result<Vec<&RawValue>, Error> {
    let mut over = false;
    let mut json = serde_json::Deserializer::from_str(data);
    json.deserialize_seq(Elements { most, over: &mut over })
        .and_then(|items| json.end().map(|()| items))
        .map_err(|error| {
            let kind = if over {
                ErrorKind::TooManyArguments(MAX_ARGUMENTS)
            } else if error.is_data() {
                ErrorKind::ExpectedArray
            } else {
                ErrorKind::Json
            };
            Error::new(kind, json_place(data, &error))
        })
}

struct Elements<'o> {
    most: usize,
    over: &'o mut bool,
}

impl<'de> Visitor<'de> for Elements<'_> {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON array")
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<Self::Value, S::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            if items.len() == self.most {
                *self.over = true;
                return Err(de::Error::custom("too many"));
            }
            items.push(item);
        }
        Ok(items)
    }
}

#[cfg(test)]
mod tests {
    use super::PacketType::*;
    use super::*;
    use proptest::prelude::*;

    fn packet<'a>(kind: PacketType, namespace: &'a str, ack: Option<u64>, data: &'a str) -> Packet<'a> {
        Packet { ack, ..Packet::new(kind, namespace, data) }
    }

    #[test]
    fn packets_both_ways() {
        fn check(text: &str, packet: Packet<'_>) {
            assert_eq!(decode(text), Ok(packet), "{text:?}");
            let mut out = Vec::new();
            encode(&packet, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
        check("0", packet(Connect, "/", None, ""));
        check(r#"0{"token":"123"}"#, packet(Connect, "/", None, r#"{"token":"123"}"#));
        check("0/admin,", packet(Connect, "/admin", None, ""));
        check(r#"0/admin,{"sid":"a,b"}"#, packet(Connect, "/admin", None, r#"{"sid":"a,b"}"#));
        let query = "token=1234&uid=a/b?c";
        check("0/admin?token=1234&uid=a/b?c,", Packet { query, ..Packet::new(Connect, "/admin", "") });
        check("0/?a=1,", Packet { query: "a=1", ..Packet::new(Connect, "/", "") });
        check("1", packet(Disconnect, "/", None, ""));
        check("1/admin,", packet(Disconnect, "/admin", None, ""));
        check(r#"2["foo"]"#, packet(Event, "/", None, r#"["foo"]"#));
        check(r#"2/admin,["bar"]"#, packet(Event, "/admin", None, r#"["bar"]"#));
        check(r#"212["foo"]"#, packet(Event, "/", Some(12), r#"["foo"]"#));
        check(r#"2/a/b,0["foo"]"#, packet(Event, "/a/b", Some(0), r#"["foo"]"#));
        check("3/admin,13[]", packet(Ack, "/admin", Some(13), "[]"));
        check("39007199254740991[]", packet(Ack, "/", Some(MAX_ACK_ID), "[]"));
        check(r#"4{"message":"no"}"#, packet(ConnectError, "/", None, r#"{"message":"no"}"#));
        check(r#"4/admin,"no""#, packet(ConnectError, "/admin", None, r#""no""#));
        check("4/admin,[-1]", packet(ConnectError, "/admin", None, "[-1]"));
        check("4null", packet(ConnectError, "/", None, "null"));
        check("4", packet(ConnectError, "/", None, ""));
        let attachments = 1;
        check(
            r#"51-["baz",{"_placeholder":true,"num":0}]"#,
            Packet {
                attachments,
                ..packet(BinaryEvent, "/", None, r#"["baz",{"_placeholder":true,"num":0}]"#)
            },
        );
        check("61-/a,15[0]", Packet { attachments, ..packet(BinaryAck, "/a", Some(15), "[0]") });
        check("51000-[0]", Packet { attachments: 1_000, ..packet(BinaryEvent, "/", None, "[0]") });
        check("50-[0]", packet(BinaryEvent, "/", None, "[0]"));
    }

    #[test]
    fn other_spellings() {
        fn check(text: &str, expected: Packet<'_>) {
            assert_eq!(decode(text), Ok(expected), "{text:?}");
        }
        check("0/admin", packet(Connect, "/admin", None, ""));
        check("0/,", packet(Connect, "/", None, ""));
        check("1/admin?", packet(Disconnect, "/admin", None, ""));
        check("2007[0]", packet(Event, "/", Some(7), "[0]"));
    }

    #[test]
    fn bad_packets() {
        fn check(text: &str, expected: (ErrorKind, usize)) {
            assert_eq!(
                decode(text).map_err(|error| (error.kind(), error.at())),
                Err(expected),
                "{text:.80?}"
            );
        }
        check("", (ErrorKind::Empty, 0));
        check("7", (ErrorKind::UnknownType, 0));
        check("abc", (ErrorKind::UnknownType, 0));
        check("€", (ErrorKind::UnknownType, 0));
        check("2", (ErrorKind::ExpectedArray, 1));
        check("2{}", (ErrorKind::ExpectedArray, 1));
        check(r#"2"a""#, (ErrorKind::ExpectedArray, 1));
        check(r#"2abc["a"]"#, (ErrorKind::AckId, 1));
        check(r#"2-1["a"]"#, (ErrorKind::AckId, 1));
        check(r#"2+1["a"]"#, (ErrorKind::AckId, 1));
        check(r#"21.5["a"]"#, (ErrorKind::ExpectedArray, 2));
        check("29007199254740992[0]", (ErrorKind::AckId, 1));
        check("200000000000000007[0]", (ErrorKind::AckId, 1));
        check(r#"2/a["a"]"#, (ErrorKind::ExpectedArray, 8));
        check("3[]", (ErrorKind::MissingAckId, 1));
        check("3", (ErrorKind::MissingAckId, 1));
        check("3/a,[]", (ErrorKind::MissingAckId, 4));
        check("31", (ErrorKind::ExpectedArray, 2));
        check("01", (ErrorKind::UnexpectedAckId, 1));
        check("11", (ErrorKind::UnexpectedAckId, 1));
        check("41[]", (ErrorKind::UnexpectedAckId, 1));
        // Found by fuzzing: a second slash taken as data would be encoded as a namespace.
        check("4/,/a,b", (ErrorKind::Json, 3));
        check("4x", (ErrorKind::Json, 1));
        check("0[]", (ErrorKind::ExpectedObject, 1));
        check("0/a,null", (ErrorKind::ExpectedObject, 4));
        check("1{}", (ErrorKind::UnexpectedData, 1));
        check("5[0]", (ErrorKind::AttachmentCount, 1));
        check("5-[0]", (ErrorKind::AttachmentCount, 1));
        check("51[0]", (ErrorKind::AttachmentCount, 2));
        check("51.5-[0]", (ErrorKind::AttachmentCount, 2));
        check("5-1-[0]", (ErrorKind::AttachmentCount, 1));
        check("51001-[0]", (ErrorKind::TooManyAttachments(1_000), 1));
        check("5999999999-[0]", (ErrorKind::TooManyAttachments(1_000), 1));
        check("59999999999-[0]", (ErrorKind::AttachmentCount, 1));
        check("61-[0]", (ErrorKind::MissingAckId, 3));
        let long = "a".repeat(MAX_NAMESPACE_LEN);
        check(&format!("0/{long},"), (ErrorKind::NamespaceTooLong(MAX_NAMESPACE_LEN), 1));
        check(&format!("0/a?{long}a,"), (ErrorKind::NamespaceTooLong(MAX_NAMESPACE_LEN), 1));
    }

    #[test]
    fn events_taken_apart() {
        fn check(data: &str, name: &str, args: &[&str]) {
            let event = event_args(data).unwrap();
            assert_eq!(event.name, name, "{data}");
            assert_eq!(event.args.iter().map(|arg| arg.get()).collect::<Vec<_>>(), args, "{data}");
        }
        check(r#"["a"]"#, "a", &[]);
        check(r#"["a",1,{"b":[2]},"c",null]"#, "a", &["1", r#"{"b":[2]}"#, r#""c""#, "null"]);
        check(r#" [ "a" , 1 ] "#, "a", &["1"]);
        check(r#"["say \"é\" \u20ac"]"#, "say \"é\" €", &[]);
        check("[12,0]", "12", &["0"]);
        check(r#"[""]"#, "", &[]);
        // Depth is no matter: arguments are skipped over, not built.
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        check(&format!(r#"["a",{deep}]"#), "a", &[&deep]);
    }

    #[test]
    fn bad_events() {
        fn check(data: &str, expected: (ErrorKind, usize)) {
            let error = event_args(data).unwrap_err();
            assert_eq!((error.kind(), error.at()), expected, "{data:.80}");
        }
        check("[]", (ErrorKind::EventName, 0));
        check("[null]", (ErrorKind::EventName, 1));
        check("[true]", (ErrorKind::EventName, 1));
        check(r#"[["a"]]"#, (ErrorKind::EventName, 1));
        check(r#"{"a":1}"#, (ErrorKind::ExpectedArray, 0));
        check(r#""a""#, (ErrorKind::ExpectedArray, 2));
        check("", (ErrorKind::Json, 0));
        check(r#"["a""#, (ErrorKind::Json, 3));
        check(r#"["a",]"#, (ErrorKind::Json, 5));
        check(r#"["a",}"#, (ErrorKind::Json, 5));
        check("[\"a\",\n}", (ErrorKind::Json, 6));
        check(r#"["a"]x"#, (ErrorKind::Json, 5));
        check(r#"["\ud800"]"#, (ErrorKind::Json, 1));
        for name in RESERVED_EVENTS {
            check(&format!("[\"{name}\"]"), (ErrorKind::ReservedEvent, 1));
        }
        check(r#"["\u0063onnect"]"#, (ErrorKind::ReservedEvent, 1));
        let most = format!("[\"a\"{}]", ",0".repeat(MAX_ARGUMENTS));
        assert_eq!(event_args(&most).unwrap().args.len(), MAX_ARGUMENTS);
        let over = format!("[\"a\"{}]", ",0".repeat(MAX_ARGUMENTS + 1));
        assert_eq!(event_args(&over).unwrap_err().kind(), ErrorKind::TooManyArguments(MAX_ARGUMENTS));
    }

    #[test]
    fn acks_taken_apart() {
        let args = ack_args(r#"[1,"a"]"#).unwrap();
        assert_eq!(args.iter().map(|arg| arg.get()).collect::<Vec<_>>(), ["1", r#""a""#]);
        assert!(ack_args("[]").unwrap().is_empty());
        assert_eq!(ack_args("[1").unwrap_err().kind(), ErrorKind::Json);
    }

    #[test]
    fn events_and_acks_encoded() {
        fn check(encode: impl Fn(&mut Vec<u8>), expected: &str) {
            let mut out = Vec::new();
            encode(&mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
        check(|out| encode_event("/", None, "new_msg", r#"{"a":1}"#, out), r#"2["new_msg",{"a":1}]"#);
        check(|out| encode_event("/chat", Some(7), "a\"b", "", out), r#"2/chat,7["a\"b"]"#);
        check(|out| encode_ack("/", 0, "", out), "30[]");
        check(|out| encode_ack("/chat", 12, r#""ok",1"#, out), r#"3/chat,12["ok",1]"#);
    }

    fn any_packet() -> impl Strategy<Value = (u8, u32, String, String, Option<u64>, String)> {
        let namespace = "(/[^,?]{0,9}){1,3}";
        (0u8..7, 0..=MAX_ATTACHMENTS, namespace, "[^,]{0,9}", prop::option::of(0..=MAX_ACK_ID), ".{0,9}")
    }

    proptest! {
        #[test]
        fn packets_come_back((number, attachments, namespace, query, ack, rest) in any_packet()) {
            let kind = PacketType::from_number(number).unwrap();
            let (ack, data) = match kind {
                Connect => (None, format!("{{{rest}")),
                Disconnect => (None, String::new()),
                ConnectError => (None, format!("\"{rest}")),
                Event | BinaryEvent => (ack, format!("[{rest}")),
                Ack | BinaryAck => (Some(ack.unwrap_or(0)), format!("[{rest}")),
            };
            let packet = Packet {
                kind,
                attachments: if kind.is_binary() { attachments } else { 0 },
                namespace: &namespace,
                query: &query,
                ack,
                data: &data,
            };
            let mut out = Vec::new();
            encode(&packet, &mut out);
            prop_assert_eq!(decode(std::str::from_utf8(&out).unwrap()), Ok(packet));
        }

        #[test]
        fn event_names_come_back(name in ".*") {
            prop_assume!(!RESERVED_EVENTS.contains(&&*name));
            let mut out = Vec::new();
            encode_event("/", None, &name, "1,[2]", &mut out);
            let text = String::from_utf8(out).unwrap();
            let event = event_args(decode(&text).unwrap().data).unwrap();
            prop_assert_eq!(event.name, name);
            prop_assert_eq!(event.args.len(), 2);
        }
    }
}
