//! One Engine.IO packet.
//!
//! ```text
//! text   = type data                  ; type is '0'..='6', data any UTF-8
//!        | 'b' [ type ] base64        ; binary where only text can travel; the type only in revision 3,
//!                                     ; in revision 4 it is always a message
//! binary = type data                  ; revision 3: type is the byte 0..=6
//!        | data                       ; revision 4: always a message
//! ```

use std::borrow::Cow;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::Revision;
use crate::{Error, ErrorKind};

/// What a packet is for; the order is the protocol's numbering.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PacketType {
    /// The server's handshake, first packet of a session.
    Open,
    /// Ends the session or, while polling, this transport.
    Close,
    /// Asks for a pong with the same data: a heartbeat, or `probe` on a transport to be upgraded to.
    Ping,
    Pong,
    /// Carries a Socket.IO packet.
    Message,
    /// The client has changed to the probed transport.
    Upgrade,
    /// Ends a waiting poll during an upgrade.
    Noop,
}

impl PacketType {
    /// From the protocol's number.
    pub fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => PacketType::Open,
            1 => PacketType::Close,
            2 => PacketType::Ping,
            3 => PacketType::Pong,
            4 => PacketType::Message,
            5 => PacketType::Upgrade,
            6 => PacketType::Noop,
            _ => return None,
        })
    }

    /// The protocol's number, 0 to 6.
    pub fn number(self) -> u8 {
        self as u8
    }

    fn from_digit(digit: u8) -> Option<Self> {
        Self::from_number(digit.wrapping_sub(b'0'))
    }

    fn digit(self) -> u8 {
        b'0' + self.number()
    }
}

/// A packet whose data is text or binary: what polling carries, and what a WebSocket text may hold when its
/// sender cannot send binary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet<'a> {
    pub kind: PacketType,
    pub data: Data<'a>,
}

/// The data of a [`Packet`]. Binary is owned when it travelled as base64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data<'a> {
    Text(&'a str),
    Binary(Cow<'a, [u8]>),
}

/// Decodes a WebSocket text message (or one polling packet) whose data is text. A base64 packet is
/// [`ErrorKind::UnexpectedBase64`]; use [`decode`] where one may come.
pub fn decode_text(text: &str) -> Result<(PacketType, &str), Error> {
    let Some(&first) = text.as_bytes().first() else {
        return Err(Error::new(ErrorKind::Empty, 0));
    };
    match PacketType::from_digit(first) {
        Some(kind) => Ok((kind, &text[1..])),
        None if first == b'b' => Err(Error::new(ErrorKind::UnexpectedBase64, 0)),
        None => Err(Error::new(ErrorKind::UnknownType, 0)),
    }
}

/// Decodes a WebSocket text message or one polling packet, text or base64.
pub fn decode(revision: Revision, text: &str) -> Result<Packet<'_>, Error> {
    if let Some(rest) = text.strip_prefix('b') {
        return decode_base64(revision, rest).map_err(|error| error.shifted(1));
    }
    let (kind, data) = decode_text(text)?;
    Ok(Packet { kind, data: Data::Text(data) })
}

/// Decodes a WebSocket binary message.
pub fn decode_binary(revision: Revision, bytes: &[u8]) -> Result<(PacketType, &[u8]), Error> {
    match revision {
        Revision::V4 => Ok((PacketType::Message, bytes)),
        Revision::V3 => {
            let (&first, data) = bytes.split_first().ok_or(Error::new(ErrorKind::Empty, 0))?;
            let kind = PacketType::from_number(first).ok_or(Error::new(ErrorKind::UnknownType, 0))?;
            Ok((kind, data))
        }
    }
}

/// Appends a text packet.
pub fn encode_text(kind: PacketType, data: &str, out: &mut Vec<u8>) {
    out.reserve(1 + data.len());
    out.push(kind.digit());
    out.extend_from_slice(data.as_bytes());
}

/// Appends a binary packet as one WebSocket binary message carries it. Revision 4 has no room for a type:
/// only [`PacketType::Message`] may carry binary there.
pub fn encode_binary(revision: Revision, kind: PacketType, data: &[u8], out: &mut Vec<u8>) {
    out.reserve(1 + data.len());
    match revision {
        Revision::V3 => out.push(kind.number()),
        Revision::V4 => {
            debug_assert_eq!(kind, PacketType::Message, "revision 4 sends only messages as binary");
        }
    }
    out.extend_from_slice(data);
}

/// Appends a binary packet as text, `b...`. As for [`encode_binary`], revision 4 knows only messages.
pub fn encode_base64(revision: Revision, kind: PacketType, data: &[u8], out: &mut Vec<u8>) {
    out.push(b'b');
    match revision {
        Revision::V3 => out.push(kind.digit()),
        Revision::V4 => {
            debug_assert_eq!(kind, PacketType::Message, "revision 4 sends only messages as binary");
        }
    }
    let start = out.len();
    out.resize(start + base64_len(data.len()), 0);
    let written = BASE64.encode_slice(data, &mut out[start..]).expect("sized for the padded encoding");
    debug_assert_eq!(start + written, out.len());
}

/// Bytes of padded base64 for `len` bytes.
pub(super) fn base64_len(len: usize) -> usize {
    len.div_ceil(3) * 4
}

fn decode_base64(revision: Revision, rest: &str) -> Result<Packet<'static>, Error> {
    let (kind, digits) = match revision {
        Revision::V4 => (PacketType::Message, rest),
        Revision::V3 => decode_text(rest)?,
    };
    let start = rest.len() - digits.len();
    // The Java client breaks base64 into lines, as mail does, and ends even one line with a break.
    let digits = if digits.contains(LINE_BREAK) {
        Cow::Owned(digits.replace(LINE_BREAK, ""))
    } else {
        Cow::Borrowed(digits)
    };
    let data = BASE64.decode(digits.as_bytes()).map_err(|_| Error::new(ErrorKind::Base64, start))?;
    Ok(Packet { kind, data: Data::Binary(Cow::Owned(data)) })
}

const LINE_BREAK: [char; 2] = ['\r', '\n'];

/// Padded when written; some clients leave the padding away.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[cfg(test)]
mod tests {
    use super::Revision::{V3, V4};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_packets() {
        fn check(text: &str, expected: Result<(PacketType, &str), ErrorKind>) {
            assert_eq!(decode_text(text).map_err(|error| error.kind()), expected, "{text:?}");
        }
        check("0{}", Ok((PacketType::Open, "{}")));
        check("1", Ok((PacketType::Close, "")));
        check("2probe", Ok((PacketType::Ping, "probe")));
        check("3probe", Ok((PacketType::Pong, "probe")));
        check("4hello €", Ok((PacketType::Message, "hello €")));
        check("5", Ok((PacketType::Upgrade, "")));
        check("6", Ok((PacketType::Noop, "")));
        check("", Err(ErrorKind::Empty));
        check("7", Err(ErrorKind::UnknownType));
        check("/", Err(ErrorKind::UnknownType));
        check(":", Err(ErrorKind::UnknownType));
        check("\u{0}", Err(ErrorKind::UnknownType));
        check("€", Err(ErrorKind::UnknownType));
        check("bAQID", Err(ErrorKind::UnexpectedBase64));
    }

    #[test]
    fn base64_packets() {
        fn check(revision: Revision, text: &str, expected: Result<(PacketType, &[u8]), (ErrorKind, usize)>) {
            let expected = expected.map(|(kind, data)| Packet { kind, data: Data::Binary(data.into()) });
            assert_eq!(
                decode(revision, text).map_err(|error| (error.kind(), error.at())),
                expected,
                "{revision:?} {text:?}"
            );
        }
        check(V4, "bAQIDBA==", Ok((PacketType::Message, &[1, 2, 3, 4])));
        check(V4, "bAQIDBA", Ok((PacketType::Message, &[1, 2, 3, 4])));
        check(V4, "bAQID\r\nBA==\n", Ok((PacketType::Message, &[1, 2, 3, 4])));
        check(V3, "b4AQID\nBA==\n", Ok((PacketType::Message, &[1, 2, 3, 4])));
        check(V4, "b\n", Ok((PacketType::Message, &[])));
        check(V4, "b", Ok((PacketType::Message, &[])));
        check(V3, "b4AQIDBA==", Ok((PacketType::Message, &[1, 2, 3, 4])));
        check(V3, "b2", Ok((PacketType::Ping, &[])));
        check(V3, "b", Err((ErrorKind::Empty, 1)));
        check(V3, "b7AQ==", Err((ErrorKind::UnknownType, 1)));
        check(V3, "bb4AQ==", Err((ErrorKind::UnexpectedBase64, 1)));
        check(V4, "b!", Err((ErrorKind::Base64, 1)));
        check(V4, "bA", Err((ErrorKind::Base64, 1)));
        check(V3, "b4€", Err((ErrorKind::Base64, 2)));
    }

    #[test]
    fn binary_packets() {
        fn check(revision: Revision, bytes: &[u8], expected: Result<(PacketType, &[u8]), ErrorKind>) {
            assert_eq!(
                decode_binary(revision, bytes).map_err(|error| error.kind()),
                expected,
                "{revision:?} {bytes:?}"
            );
        }
        check(V4, &[1, 2, 3], Ok((PacketType::Message, &[1, 2, 3])));
        check(V4, &[], Ok((PacketType::Message, &[])));
        check(V3, &[4, 2, 3], Ok((PacketType::Message, &[2, 3])));
        check(V3, &[0], Ok((PacketType::Open, &[])));
        check(V3, &[], Err(ErrorKind::Empty));
        check(V3, &[7, 1], Err(ErrorKind::UnknownType));
        // The type is a number, not its digit.
        check(V3, b"4a", Err(ErrorKind::UnknownType));
    }

    proptest! {
        #[test]
        fn text_comes_back(number in 0u8..7, data in ".*") {
            let kind = PacketType::from_number(number).unwrap();
            let mut out = Vec::new();
            encode_text(kind, &data, &mut out);
            let text = std::str::from_utf8(&out).unwrap();
            prop_assert_eq!(decode_text(text), Ok((kind, &*data)));
        }

        #[test]
        fn binary_comes_back(number in 0u8..7, data: Vec<u8>) {
            let kind = PacketType::from_number(number).unwrap();
            for (revision, kind) in [(V3, kind), (V4, PacketType::Message)] {
                let mut out = Vec::new();
                encode_binary(revision, kind, &data, &mut out);
                prop_assert_eq!(decode_binary(revision, &out), Ok((kind, &*data)));

                out.clear();
                encode_base64(revision, kind, &data, &mut out);
                let text = std::str::from_utf8(&out).unwrap();
                let expected = Packet { kind, data: Data::Binary(Cow::Borrowed(&data)) };
                prop_assert_eq!(decode(revision, text), Ok(expected));
            }
        }
    }
}
