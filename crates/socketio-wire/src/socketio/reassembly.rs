//! Putting a BINARY_EVENT or BINARY_ACK together with the binary messages that follow it.
//!
//! ```text
//! text    51-["upload",{"_placeholder":true,"num":0}]
//! binary  the attachment with number 0
//! ```
//!
//! Nothing else may come between the text and its last attachment. The JSON is kept as it came: a
//! placeholder, at any depth, stands for `attachments[num]`.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::packet::{Packet, PacketType};
use crate::error::json_place;
use crate::{Error, ErrorKind};

/// What one packet with its attachments may hold; more is an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Attachments of one packet.
    pub attachments: u32,
    /// Bytes of text and attachments together.
    pub bytes: usize,
}

impl Default for Limits {
    /// 10 attachments, as the reference implementation; 1,000,000 bytes.
    fn default() -> Self {
        Limits { attachments: 10, bytes: 1_000_000 }
    }
}

/// Holds a packet until its attachments have arrived. One for each connection; an idle one owns no memory.
/// After an error the connection is to be closed.
#[derive(Debug)]
pub struct Reassembler {
    limits: Limits,
    waiting: Option<Box<Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    message: Message,
    due: u32,
    bytes: usize,
}

/// A packet with all its attachments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// [`PacketType::BinaryEvent`] or [`PacketType::BinaryAck`].
    pub kind: PacketType,
    pub namespace: String,
    pub ack: Option<u64>,
    /// Checked JSON, an array, whose placeholders all have their attachment.
    pub data: String,
    pub attachments: Vec<Bytes>,
}

impl Message {
    /// The packet as it came, without its attachments.
    pub fn packet(&self) -> Packet<'_> {
        Packet {
            attachments: self.attachments.len() as u32,
            ack: self.ack,
            ..Packet::new(self.kind, &self.namespace, &self.data)
        }
    }

    /// The attachment `value` stands for, when it is a placeholder itself (not one that contains some).
    pub fn attachment(&self, value: &RawValue) -> Option<&Bytes> {
        placeholder(value).and_then(|num| self.attachments.get(num as usize))
    }
}

/// What became of a text packet.
#[derive(Debug, PartialEq, Eq)]
pub enum Text<'a> {
    /// It has no attachments.
    Complete(Packet<'a>),
    /// It is kept until its attachments have come through [`Reassembler::take_binary`].
    Waiting,
}

impl Reassembler {
    /// One that waits for nothing.
    pub fn new(limits: Limits) -> Self {
        Reassembler { limits, waiting: None }
    }

    /// Whether an attachment is due.
    pub fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Bytes of the packet that waits for its attachments, and of those that have come.
    pub fn held(&self) -> usize {
        self.waiting.as_ref().map_or(0, |waiting| waiting.bytes)
    }

    /// Forgets the packet that waits.
    pub fn clear(&mut self) {
        self.waiting = None;
    }

    /// Takes each decoded packet of a connection, binary or not.
    pub fn take_text<'a>(&mut self, packet: Packet<'a>) -> Result<Text<'a>, Error> {
        if self.is_waiting() {
            return Err(Error::new(ErrorKind::ExpectedAttachment, 0));
        }
        if !packet.kind.is_binary() {
            return Ok(Text::Complete(packet));
        }
        if packet.attachments > self.limits.attachments {
            return Err(Error::new(ErrorKind::TooManyAttachments(self.limits.attachments), 1));
        }
        self.check_bytes(packet.data.len())?;
        check_placeholders(packet.data, packet.attachments)?;
        if packet.attachments == 0 {
            return Ok(Text::Complete(packet));
        }
        let message = Message {
            kind: packet.kind,
            namespace: packet.namespace.to_owned(),
            ack: packet.ack,
            data: packet.data.to_owned(),
            attachments: Vec::with_capacity(packet.attachments as usize),
        };
        let waiting = Waiting { message, due: packet.attachments, bytes: packet.data.len() };
        self.waiting = Some(Box::new(waiting));
        Ok(Text::Waiting)
    }

    /// Takes a binary message; gives the packet back when it was the last one due.
    pub fn take_binary(&mut self, attachment: Bytes) -> Result<Option<Message>, Error> {
        let Some(mut waiting) = self.waiting.take() else {
            return Err(Error::new(ErrorKind::UnexpectedAttachment, 0));
        };
        waiting.bytes = waiting.bytes.saturating_add(attachment.len());
        self.check_bytes(waiting.bytes)?;
        waiting.message.attachments.push(attachment);
        if waiting.message.attachments.len() == waiting.due as usize {
            return Ok(Some(waiting.message));
        }
        self.waiting = Some(waiting);
        Ok(None)
    }

    fn check_bytes(&self, bytes: usize) -> Result<(), Error> {
        if bytes > self.limits.bytes {
            return Err(Error::new(ErrorKind::TooLarge(self.limits.bytes), 0));
        }
        Ok(())
    }
}

/// Appends the placeholder of attachment `num`.
pub fn write_placeholder(num: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"_placeholder":true,"num":"#);
    crate::decimal::write(num.into(), b'0', out);
    out.push(b'}');
}

/// The number of the attachment that `value` stands for, when it is a placeholder itself.
pub fn placeholder(value: &RawValue) -> Option<u32> {
    let Ok(Node::Placeholder(num)) = walk(value.get(), u32::MAX) else { return None };
    Some(num)
}

/// Checks that `data` is JSON and that each placeholder in it names one of `attachments`.
fn check_placeholders(data: &str, attachments: u32) -> Result<(), Error> {
    walk(data, attachments).map(|_| ())
}

fn walk(json: &str, attachments: u32) -> Result<Node, Error> {
    let mut missing = false;
    let mut deserializer = serde_json::Deserializer::from_str(json);
    Walk { attachments, missing: &mut missing }
        .deserialize(&mut deserializer)
        .and_then(|node| deserializer.end().map(|()| node))
        .map_err(|error| {
            let kind = if missing { ErrorKind::Placeholder } else { ErrorKind::Json };
            Error::new(kind, json_place(json, &error))
        })
}

/// What a JSON value is, as far as placeholders are concerned.
enum Node {
    True,
    Number(u32),
    Placeholder(u32),
    Other,
}

/// Walks a JSON value without building it. serde_json bounds the depth.
struct Walk<'m> {
    attachments: u32,
    missing: &'m mut bool,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = Node;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(if value { Node::True } else { Node::Other })
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(u32::try_from(value).map_or(Node::Other, Node::Number))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Node, E> {
        Ok(Node::Other)
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        // 1.0 and 1 are the same number to a JavaScript peer.
        let whole = value.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&value);
        Ok(if whole { Node::Number(value as u32) } else { Node::Other })
    }

    fn visit_str<E>(self, _: &str) -> Result<Node, E> {
        Ok(Node::Other)
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Other)
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<Node, S::Error> {
        while seq
            .next_element_seed(Walk { attachments: self.attachments, missing: &mut *self.missing })?
            .is_some()
        {}
        Ok(Node::Other)
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Node, M::Error> {
        let mut marked = false;
        let mut num = None;
        // The last of several equal keys counts, as in JavaScript.
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            let walk = Walk { attachments: self.attachments, missing: &mut *self.missing };
            match &*key {
                "_placeholder" => marked = matches!(map.next_value_seed(walk)?, Node::True),
                "num" => {
                    num = match map.next_value_seed(walk)? {
                        Node::Number(num) => Some(num),
                        _ => None,
                    }
                }
                _ => {
                    map.next_value_seed(walk)?;
                }
            }
        }
        if !marked {
            return Ok(Node::Other);
        }
        match num {
            Some(num) if num < self.attachments => Ok(Node::Placeholder(num)),
            _ => {
                *self.missing = true;
                Err(serde::de::Error::custom("no such attachment"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::packet::{decode, event_args};
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits { attachments: 3, bytes: 200 };

    fn take_text<'a>(reassembler: &mut Reassembler, text: &'a str) -> Result<Text<'a>, ErrorKind> {
        reassembler.take_text(decode(text).unwrap()).map_err(|error| error.kind())
    }

    #[test]
    fn a_binary_event() {
        let mut reassembler = Reassembler::new(LIMITS);
        let text = r#"52-/up,7["put",{"_placeholder":true,"num":1},{"at":[{"num":0,"_placeholder":true}]}]"#;
        assert_eq!(take_text(&mut reassembler, text), Ok(Text::Waiting));
        assert!(reassembler.is_waiting());
        assert_eq!(reassembler.take_binary(Bytes::from_static(b"zero")), Ok(None));
        let message = reassembler.take_binary(Bytes::from_static(b"one")).unwrap().unwrap();
        assert!(!reassembler.is_waiting());
        assert_eq!(message.packet(), decode(text).unwrap());

        let event = event_args(&message.data).unwrap();
        assert_eq!(event.name, "put");
        assert_eq!(message.attachment(event.args[0]).unwrap(), "one");
        assert_eq!(message.attachment(event.args[1]), None);
    }

    #[test]
    fn packets_without_attachments_pass() {
        for text in [r#"2["a"]"#, "31[]", "0", r#"50-["a"]"#, "60-1[]"] {
            let mut reassembler = Reassembler::new(LIMITS);
            let packet = decode(text).unwrap();
            assert_eq!(take_text(&mut reassembler, text), Ok(Text::Complete(packet)));
            assert!(!reassembler.is_waiting());
        }
    }

    #[test]
    fn out_of_turn() {
        let mut reassembler = Reassembler::new(LIMITS);
        let error = reassembler.take_binary(Bytes::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedAttachment);
        take_text(&mut reassembler, "51-[0]").unwrap();
        assert_eq!(take_text(&mut reassembler, r#"2["a"]"#), Err(ErrorKind::ExpectedAttachment));
        assert_eq!(take_text(&mut reassembler, "51-[0]"), Err(ErrorKind::ExpectedAttachment));
    }

    #[test]
    fn bad_texts() {
        fn check(text: &str, expected: ErrorKind) {
            assert_eq!(take_text(&mut Reassembler::new(LIMITS), text), Err(expected), "{text:.80}");
        }
        check("54-[0]", ErrorKind::TooManyAttachments(3));
        check(r#"50-["a",{"_placeholder":true,"num":0}]"#, ErrorKind::Placeholder);
        check(r#"51-["a",{"_placeholder":true,"num":1}]"#, ErrorKind::Placeholder);
        check(r#"51-["a",{"_placeholder":true,"num":-1}]"#, ErrorKind::Placeholder);
        check(r#"51-["a",{"_placeholder":true,"num":0.5}]"#, ErrorKind::Placeholder);
        check(r#"51-["a",{"_placeholder":true,"num":"0"}]"#, ErrorKind::Placeholder);
        check(r#"51-["a",{"_placeholder":true,"num":4294967296}]"#, ErrorKind::Placeholder);
        check(r#"51-["a",{"_placeholder":true}]"#, ErrorKind::Placeholder);
        check(r#"51-["a",{"\u005fplaceholder":true,"num":9}]"#, ErrorKind::Placeholder);
        check(r#"51-["a",[[{"b":{"_placeholder":true,"num":9}}]]]"#, ErrorKind::Placeholder);
        check(r#"51-["a""#, ErrorKind::Json);
        check("51-[0]]", ErrorKind::Json);
        check(&format!("51-{}{}", "[".repeat(80), "]".repeat(120)), ErrorKind::Json);
        check(&format!("51-[{}]", " ".repeat(199)), ErrorKind::TooLarge(200));
    }

    #[test]
    fn deep_nesting_is_refused_and_not_followed() {
        let text = format!("51-{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let mut reassembler = Reassembler::new(Limits { attachments: 1, bytes: usize::MAX });
        assert_eq!(take_text(&mut reassembler, &text), Err(ErrorKind::Json));
    }

    #[test]
    fn not_placeholders() {
        for text in [
            r#"51-["a",{"_placeholder":false,"num":9}]"#,
            r#"51-["a",{"_placeholder":1,"num":9}]"#,
            r#"51-["a",{"num":9}]"#,
            // The last of equal keys counts.
            r#"51-["a",{"_placeholder":true,"_placeholder":null,"num":9}]"#,
            r#"51-["a",{"_placeholder":true,"num":9,"num":0.0}]"#,
        ] {
            assert_eq!(take_text(&mut Reassembler::new(LIMITS), text), Ok(Text::Waiting), "{text}");
        }
    }

    #[test]
    fn bytes_are_counted_together() {
        let mut reassembler = Reassembler::new(LIMITS);
        take_text(&mut reassembler, "53-[0]").unwrap();
        assert_eq!(reassembler.take_binary(Bytes::from(vec![0; 197])), Ok(None));
        assert_eq!(reassembler.take_binary(Bytes::new()), Ok(None));
        let error = reassembler.take_binary(Bytes::from_static(&[0])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge(200));
    }

    #[test]
    fn placeholders_written_are_placeholders_read() {
        for num in [0, 9, 10, 999] {
            let mut out = Vec::new();
            write_placeholder(num, &mut out);
            let value: &RawValue = serde_json::from_slice(&out).unwrap();
            assert_eq!(placeholder(value), Some(num));
        }
    }

    proptest! {
        #[test]
        fn attachments_come_back(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9), 1..9)) {
            let mut data = b"[\"a\"".to_vec();
            for num in 0..parts.len() as u32 {
                data.push(b',');
                write_placeholder(num, &mut data);
            }
            data.push(b']');
            let data = String::from_utf8(data).unwrap();
            let packet = Packet {
                attachments: parts.len() as u32,
                ..Packet::new(PacketType::BinaryEvent, "/", &data)
            };
            let mut reassembler = Reassembler::new(Limits::default());
            prop_assert_eq!(reassembler.take_text(packet), Ok(Text::Waiting));
            let mut message = None;
            for part in &parts {
                prop_assert!(message.is_none());
                message = reassembler.take_binary(Bytes::copy_from_slice(part)).unwrap();
            }
            let message = message.unwrap();
            let event = event_args(&message.data).unwrap();
            for (arg, part) in event.args.iter().zip(&parts) {
                prop_assert_eq!(message.attachment(arg).unwrap(), part);
            }
        }
    }
}
