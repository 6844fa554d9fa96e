//! Several Engine.IO packets in one HTTP polling body.
//!
//! ```text
//! revision 4        = packet { 0x1e packet }          ; packet as text, see `packet`
//! revision 3, text  = { length ':' packet }           ; length in UTF-16 code units, decimal
//! revision 3, bytes = { marker { digit } 0xff packet } ; marker 0: text packet, 1: binary packet
//!                                                     ; digit is the byte 0..=9; length in bytes
//! ```
//!
//! The byte form of revision 3 travels as `application/octet-stream` between peers that both can send and
//! receive binary ("XHR2"). An empty text form of revision 3 is `0:`.

use std::borrow::Cow;

use super::Revision;
use super::packet::{self, Data, Packet};
use crate::{Error, ErrorKind, decimal};

/// What one payload may hold; more is an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Packets in one payload.
    pub packets: usize,
    /// Bytes of the whole payload as it travels.
    pub bytes: usize,
}

impl Default for Limits {
    /// 1,024 packets in 1,000,000 bytes (the reference server's `maxHttpBufferSize`).
    fn default() -> Self {
        Limits { packets: 1_024, bytes: 1_000_000 }
    }
}

const SEPARATOR: u8 = 0x1e;
const END_OF_LENGTH: u8 = 0xff;
/// Enough for any length a body can have; keeps a body of digits from being read as one number.
const MAX_LENGTH_DIGITS: usize = 10;

/// A body as the text that [`decode_text`] takes.
pub fn as_text(body: &[u8]) -> Result<&str, Error> {
    std::str::from_utf8(body).map_err(|error| Error::new(ErrorKind::Utf8, error.valid_up_to()))
}

/// Decodes a text body of either revision. All packets are checked before the first is handed out.
pub fn decode_text<'a>(revision: Revision, body: &'a str, limits: &Limits) -> Result<Vec<Packet<'a>>, Error> {
    let mut cursor = Cursor::default();
    std::iter::from_fn(|| cursor.next_text(revision, body, limits).transpose()).collect()
}

/// Decodes the byte form of revision 3. All packets are checked before the first is handed out.
pub fn decode_bytes<'a>(body: &'a [u8], limits: &Limits) -> Result<Vec<Packet<'a>>, Error> {
    let mut cursor = Cursor::default();
    std::iter::from_fn(|| cursor.next_bytes(body, limits).transpose()).collect()
}

/// A place in a body, for those who take its packets one by one and may pause between two. After an error
/// the body is of no further use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cursor {
    at: usize,
    count: usize,
}

impl Cursor {
    /// The next packet of a text body; `None` behind the last.
    pub fn next_text<'a>(
        &mut self,
        revision: Revision,
        body: &'a str,
        limits: &Limits,
    ) -> Result<Option<Packet<'a>>, Error> {
        check_size(body.len(), limits)?;
        match revision {
            Revision::V4 => self.next_separated(body, limits),
            Revision::V3 => self.next_prefixed(body, limits),
        }
    }

    /// The next packet of a body in the byte form of revision 3; `None` behind the last.
    pub fn next_bytes<'a>(&mut self, body: &'a [u8], limits: &Limits) -> Result<Option<Packet<'a>>, Error> {
        check_size(body.len(), limits)?;
        if !self.begins_another(body.len(), limits)? {
            return Ok(None);
        }
        let mut at = self.at;
        let is_text = match body[at] {
            0 => true,
            1 => false,
            _ => return Err(Error::new(ErrorKind::PayloadMarker, at)),
        };
        at += 1;
        let (len, digits) = read_raw_length(&body[at..]).map_err(|error| error.shifted(at))?;
        at += digits + 1;
        let bytes = body[at..].get(..len).ok_or(Error::new(ErrorKind::Truncated, body.len()))?;
        let packet = if is_text {
            let text = std::str::from_utf8(bytes)
                .map_err(|error| Error::new(ErrorKind::Utf8, at + error.valid_up_to()))?;
            packet::decode(Revision::V3, text)
        } else {
            packet::decode_binary(Revision::V3, bytes)
                .map(|(kind, data)| Packet { kind, data: Data::Binary(Cow::Borrowed(data)) })
        };
        self.at = at + len;
        packet.map(Some).map_err(|error| error.shifted(at))
    }

    /// How many bytes of a body of `len` are left; `None` behind the last packet.
    pub fn left(&self, revision: Revision, len: usize) -> Option<usize> {
        let done = self.at > len || (self.at == len && revision == Revision::V3);
        if done { None } else { Some(len - self.at) }
    }

    fn next_separated<'a>(&mut self, body: &'a str, limits: &Limits) -> Result<Option<Packet<'a>>, Error> {
        // Behind the last packet stands no separator, so the place behind it is one beyond the body's end.
        if self.at > body.len() {
            return Ok(None);
        }
        let at = self.at;
        check_count(self.count, at, limits)?;
        self.count += 1;
        let rest = &body[at..];
        let text = rest.split(char::from(SEPARATOR)).next().unwrap_or(rest);
        self.at = at + text.len() + 1;
        packet::decode(Revision::V4, text).map(Some).map_err(|error| error.shifted(at))
    }

    fn next_prefixed<'a>(&mut self, body: &'a str, limits: &Limits) -> Result<Option<Packet<'a>>, Error> {
        while self.begins_another(body.len(), limits)? {
            let mut at = self.at;
            let (units, digits) = decimal::read(&body.as_bytes()[at..], MAX_LENGTH_DIGITS)
                .ok_or(Error::new(ErrorKind::PayloadLength, at))?;
            at += digits;
            if body.as_bytes().get(at) != Some(&b':') {
                return Err(Error::new(ErrorKind::PayloadLength, at));
            }
            at += 1;
            let len =
                bytes_of_utf16(&body[at..], units).ok_or(Error::new(ErrorKind::Truncated, body.len()))?;
            self.at = at + len;
            // `0:` is how an empty payload is written: a length, and no packet.
            if len > 0 {
                let text = &body[at..at + len];
                return packet::decode(Revision::V3, text).map(Some).map_err(|error| error.shifted(at));
            }
        }
        Ok(None)
    }

    /// Whether a length stands at the cursor; in revision 3 a body that is nothing at all is an error.
    fn begins_another(&mut self, len: usize, limits: &Limits) -> Result<bool, Error> {
        if len == 0 {
            return Err(Error::new(ErrorKind::Empty, 0));
        }
        if self.at == len {
            return Ok(false);
        }
        check_count(self.count, self.at, limits)?;
        self.count += 1;
        Ok(true)
    }
}

/// Appends the text form of `packets`; binary data goes as base64.
pub fn encode_text(revision: Revision, packets: &[Packet<'_>], out: &mut Vec<u8>) {
    if packets.is_empty() && revision == Revision::V3 {
        out.extend_from_slice(b"0:");
        return;
    }
    let start = out.len();
    for packet in packets {
        if revision == Revision::V4 && out.len() > start {
            out.push(SEPARATOR);
        }
        append(revision, packet, out);
    }
}

/// Appends the byte form of revision 3.
pub fn encode_bytes(packets: &[Packet<'_>], out: &mut Vec<u8>) {
    for Packet { kind, data } in packets {
        let (is_binary, len) = match data {
            Data::Text(text) => (false, text.len()),
            Data::Binary(bytes) => (true, bytes.len()),
        };
        begin_raw(is_binary, 1 + len, out);
        match data {
            Data::Text(text) => packet::encode_text(*kind, text, out),
            Data::Binary(bytes) => packet::encode_binary(Revision::V3, *kind, bytes, out),
        }
    }
}

/// Appends one ready text packet (such as the payload of a shared frame) to the text form begun in `body`,
/// which holds nothing else.
pub fn append_text_packet(revision: Revision, packet: &str, body: &mut Vec<u8>) {
    match revision {
        Revision::V4 if body.is_empty() => {}
        Revision::V4 => body.push(SEPARATOR),
        Revision::V3 => write_length(utf16_len(packet), body),
    }
    body.extend_from_slice(packet.as_bytes());
}

/// Appends one ready packet, its type in front (such as the payload of a shared frame), to the byte form of
/// revision 3 begun in `body`.
pub fn append_raw_packet(is_binary: bool, packet: &[u8], body: &mut Vec<u8>) {
    begin_raw(is_binary, packet.len(), body);
    body.extend_from_slice(packet);
}

fn begin_raw(is_binary: bool, len: usize, out: &mut Vec<u8>) {
    out.push(is_binary.into());
    decimal::write(len as u64, 0, out);
    out.push(END_OF_LENGTH);
}

fn append(revision: Revision, Packet { kind, data }: &Packet<'_>, out: &mut Vec<u8>) {
    if revision == Revision::V3 {
        let len = match data {
            Data::Text(text) => 1 + utf16_len(text),
            Data::Binary(bytes) => 2 + packet::base64_len(bytes.len()),
        };
        write_length(len, out);
    }
    match data {
        Data::Text(text) => packet::encode_text(*kind, text, out),
        Data::Binary(bytes) => packet::encode_base64(revision, *kind, bytes, out),
    }
}

/// The length of the byte form and how many digits it has; the digits end at 0xff.
fn read_raw_length(bytes: &[u8]) -> Result<(usize, usize), Error> {
    let mut len = 0usize;
    for (at, &byte) in bytes.iter().enumerate() {
        match byte {
            0..=9 if at < MAX_LENGTH_DIGITS => len = len.saturating_mul(10).saturating_add(byte.into()),
            END_OF_LENGTH if at > 0 => return Ok((len, at)),
            _ => return Err(Error::new(ErrorKind::PayloadLength, at)),
        }
    }
    Err(Error::new(ErrorKind::Truncated, bytes.len()))
}

fn write_length(units: usize, out: &mut Vec<u8>) {
    decimal::write(units as u64, b'0', out);
    out.push(b':');
}

fn utf16_len(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { text.chars().map(char::len_utf16).sum() }
}

/// How many bytes of `text` are `units` UTF-16 code units; `None` when it is shorter or the cut would split
/// a surrogate pair.
fn bytes_of_utf16(text: &str, units: u64) -> Option<usize> {
    // A code unit takes at least one byte of UTF-8, so a longer claim cannot be met.
    let units = usize::try_from(units).ok().filter(|&units| units <= text.len())?;
    if text.as_bytes()[..units].is_ascii() {
        return Some(units);
    }
    let mut left = units;
    for (at, char) in text.char_indices() {
        if left == 0 {
            return Some(at);
        }
        left = left.checked_sub(char.len_utf16())?;
    }
    (left == 0).then_some(text.len())
}

fn check_size(len: usize, limits: &Limits) -> Result<(), Error> {
    if len > limits.bytes {
        return Err(Error::new(ErrorKind::TooLarge(limits.bytes), limits.bytes));
    }
    Ok(())
}

fn check_count(count: usize, at: usize, limits: &Limits) -> Result<(), Error> {
    if count == limits.packets {
        return Err(Error::new(ErrorKind::TooManyPackets(limits.packets), at));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Revision::{V3, V4};
    use super::packet::PacketType::{self, *};
    use super::*;
    use proptest::prelude::*;

    fn text(kind: PacketType, data: &str) -> Packet<'_> {
        Packet { kind, data: Data::Text(data) }
    }

    fn binary(kind: PacketType, data: &[u8]) -> Packet<'_> {
        Packet { kind, data: Data::Binary(data.into()) }
    }

    fn place<T>(result: Result<T, Error>) -> Result<T, (ErrorKind, usize)> {
        result.map_err(|error| (error.kind(), error.at()))
    }

    #[test]
    fn text_bodies_both_ways() {
        fn check(revision: Revision, body: &str, packets: &[Packet<'_>]) {
            assert_eq!(
                decode_text(revision, body, &Limits::default()),
                Ok(packets.to_vec()),
                "{revision:?} {body:?}"
            );
            let mut out = Vec::new();
            encode_text(revision, packets, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), body, "{revision:?} {packets:?}");
        }
        check(V4, "4hello\x1e2\x1e4world", &[text(Message, "hello"), text(Ping, ""), text(Message, "world")]);
        check(V4, "4hello\x1ebAQIDBA==", &[text(Message, "hello"), binary(Message, &[1, 2, 3, 4])]);
        check(V3, "6:4hello2:4€", &[text(Message, "hello"), text(Message, "€")]);
        check(V3, "2:4€10:b4AQIDBA==", &[text(Message, "€"), binary(Message, &[1, 2, 3, 4])]);
        // Two UTF-16 code units, four bytes.
        check(V3, "3:4😀1:1", &[text(Message, "😀"), text(Close, "")]);
        check(V3, "4:41:21:2", &[text(Message, "1:2"), text(Ping, "")]);
        check(V3, "0:", &[]);
    }

    #[test]
    fn byte_bodies_both_ways() {
        fn check(body: &[u8], packets: &[Packet<'_>]) {
            assert_eq!(decode_bytes(body, &Limits::default()), Ok(packets.to_vec()), "{body:?}");
            let mut out = Vec::new();
            encode_bytes(packets, &mut out);
            assert_eq!(out, body, "{packets:?}");
        }
        check(
            b"\x00\x04\xff4\xe2\x82\xac\x01\x05\xff\x04\x01\x02\x03\x04",
            &[text(Message, "€"), binary(Message, &[1, 2, 3, 4])],
        );
        check(b"\x00\x01\x01\xff40123456789", &[text(Message, "0123456789")]);
    }

    #[test]
    fn a_cursor_pauses_between_packets() {
        let limits = Limits::default();
        for (revision, body, left) in [
            (V4, "4a\u{1e}4bc", [Some(6), Some(3), None, None]),
            (V4, "4a\u{1e}", [Some(3), Some(0), None, None]),
            (V3, "2:4a3:4bc", [Some(9), Some(5), None, None]),
            (V3, "2:4a0:", [Some(6), Some(2), None, None]),
        ] {
            let mut cursor = Cursor::default();
            for left in left {
                assert_eq!(cursor.left(revision, body.len()), left, "{body:?}");
                let next = cursor.next_text(revision, body, &limits);
                if left.is_none() {
                    assert_eq!(next, Ok(None), "{body:?}");
                }
            }
        }
    }

    #[test]
    fn bad_text_bodies() {
        fn check(revision: Revision, body: &str, expected: (ErrorKind, usize)) {
            let limits = Limits { packets: 3, bytes: 40 };
            assert_eq!(place(decode_text(revision, body, &limits)), Err(expected), "{revision:?} {body:?}");
        }
        check(V4, "", (ErrorKind::Empty, 0));
        check(V4, "4a\x1e", (ErrorKind::Empty, 3));
        check(V4, "\x1e4a", (ErrorKind::Empty, 0));
        check(V4, "4a\x1e9", (ErrorKind::UnknownType, 3));
        check(V4, "4€\x1eb*", (ErrorKind::Base64, 6));
        check(V4, "2\x1e2\x1e2\x1e2", (ErrorKind::TooManyPackets(3), 6));
        check(V4, &"4".repeat(41), (ErrorKind::TooLarge(40), 40));
        check(V3, "", (ErrorKind::Empty, 0));
        check(V3, "6:4hell", (ErrorKind::Truncated, 7));
        check(V3, "6:4hello:", (ErrorKind::PayloadLength, 8));
        check(V3, ":4", (ErrorKind::PayloadLength, 0));
        check(V3, "1", (ErrorKind::PayloadLength, 1));
        check(V3, "-1:4", (ErrorKind::PayloadLength, 0));
        check(V3, "+1:4", (ErrorKind::PayloadLength, 0));
        check(V3, "0x1:4", (ErrorKind::PayloadLength, 1));
        check(V3, "99999999999:4", (ErrorKind::PayloadLength, 0));
        check(V3, "9999999999:4", (ErrorKind::Truncated, 12));
        // The cut would fall into a surrogate pair.
        check(V3, "2:4😀", (ErrorKind::Truncated, 7));
        check(V3, "2:4a1:7", (ErrorKind::UnknownType, 6));
        check(V3, "0:0:0:0:", (ErrorKind::TooManyPackets(3), 6));
        check(V3, "1:21:21:21:2", (ErrorKind::TooManyPackets(3), 9));
    }

    #[test]
    fn bad_byte_bodies() {
        fn check(body: &[u8], expected: (ErrorKind, usize)) {
            let limits = Limits { packets: 2, bytes: 40 };
            assert_eq!(place(decode_bytes(body, &limits)), Err(expected), "{body:?}");
        }
        check(b"", (ErrorKind::Empty, 0));
        check(b"\x02\x01\xff4", (ErrorKind::PayloadMarker, 0));
        check(b"\x00\xff", (ErrorKind::PayloadLength, 1));
        check(b"\x00\x0a\xff", (ErrorKind::PayloadLength, 1));
        check(b"\x001\xff4", (ErrorKind::PayloadLength, 1));
        check(b"\x00\x01", (ErrorKind::Truncated, 2));
        check(b"\x00\x02\xff4", (ErrorKind::Truncated, 4));
        check(b"\x00\x09\x09\x09\x09\x09\x09\x09\x09\x09\x09\xff4", (ErrorKind::Truncated, 13));
        check(b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\xff4", (ErrorKind::PayloadLength, 11));
        check(b"\x00\x00\xff", (ErrorKind::Empty, 3));
        check(b"\x01\x00\xff", (ErrorKind::Empty, 3));
        check(b"\x01\x01\xff\x07", (ErrorKind::UnknownType, 3));
        check(b"\x00\x03\xff4a\xff", (ErrorKind::Utf8, 5));
        check(b"\x00\x01\xff2\x00\x01\xff2\x00\x01\xff2", (ErrorKind::TooManyPackets(2), 8));
        check(&[0; 41], (ErrorKind::TooLarge(40), 40));
    }

    #[test]
    fn ready_packets_make_a_body() {
        fn check(revision: Revision, expected: &str) {
            let mut body = Vec::new();
            append_text_packet(revision, "42[\"é\"]", &mut body);
            append_text_packet(revision, "2", &mut body);
            assert_eq!(String::from_utf8(body).unwrap(), expected);
        }
        check(V4, "42[\"é\"]\x1e2");
        check(V3, "7:42[\"é\"]1:2");
    }

    fn packets() -> impl Strategy<Value = Vec<(u8, Result<String, Vec<u8>>)>> {
        // No separator: revision 4 has no way to carry it, JSON never holds it raw.
        let text = "[^\x1e]{0,12}".prop_map(Ok);
        let binary = prop::collection::vec(any::<u8>(), 0..12).prop_map(Err);
        prop::collection::vec((0u8..7, prop_oneof![text, binary]), 1..6)
    }

    proptest! {
        #[test]
        fn packets_come_back(owned in packets()) {
            let limits = Limits::default();
            let packets: Vec<_> = owned.iter().map(|(number, data)| {
                let kind = PacketType::from_number(*number).unwrap();
                match data {
                    Ok(data) => text(kind, data),
                    Err(data) => binary(kind, data),
                }
            }).collect();
            let mut out = Vec::new();
            encode_text(V3, &packets, &mut out);
            let body = String::from_utf8(out).unwrap();
            prop_assert_eq!(decode_text(V3, &body, &limits), Ok(packets.clone()));

            let mut out = Vec::new();
            encode_bytes(&packets, &mut out);
            prop_assert_eq!(decode_bytes(&out, &limits), Ok(packets.clone()));

            let mut messages = packets;
            for packet in &mut messages {
                if matches!(packet.data, Data::Binary(_)) {
                    packet.kind = Message;
                }
            }
            let mut out = Vec::new();
            encode_text(V4, &messages, &mut out);
            let body = String::from_utf8(out).unwrap();
            prop_assert_eq!(decode_text(V4, &body, &limits), Ok(messages));
        }

        #[test]
        fn utf16_cuts_agree_with_the_standard_library(text in "(a|é|€|😀){0,9}", units in 0u64..20) {
            let expected = {
                let all: Vec<u16> = text.encode_utf16().collect();
                all.get(..units as usize).and_then(|cut| String::from_utf16(cut).ok()).map(|cut| cut.len())
            };
            prop_assert_eq!(bytes_of_utf16(&text, units), expected);
        }
    }
}
