//! Frames, and the messages they make up: RFC 6455 section 5.
//!
//! ```text
//! frame = FIN(1) RSV(3) opcode(4)  MASK(1) length(7)  [ length16 | length64 ]  [ mask(32) ]  payload
//! ```
//!
//! Length 126 means that 16 bits follow, 127 that 64 do, big-endian, the highest bit 0. A longer form than
//! necessary is accepted, as other implementations do. RSV bits belong to extensions; we negotiate none.

use std::borrow::Cow;

use bytes::Bytes;

use super::close::CloseCode;

/// What a frame is, RFC 6455 section 5.2; the reserved opcodes are errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0x0 => Opcode::Continuation,
            0x1 => Opcode::Text,
            0x2 => Opcode::Binary,
            0x8 => Opcode::Close,
            0x9 => Opcode::Ping,
            0xa => Opcode::Pong,
            _ => return None,
        })
    }

    fn bits(self) -> u8 {
        match self {
            Opcode::Continuation => 0x0,
            Opcode::Text => 0x1,
            Opcode::Binary => 0x2,
            Opcode::Close => 0x8,
            Opcode::Ping => 0x9,
            Opcode::Pong => 0xa,
        }
    }

    /// Close, ping and pong: short, never fragmented, allowed between the fragments of a message.
    pub fn is_control(self) -> bool {
        matches!(self, Opcode::Close | Opcode::Ping | Opcode::Pong)
    }
}

/// What stands before a frame's payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The last frame of its message.
    pub fin: bool,
    /// The three reserved bits, RSV1 the highest.
    pub rsv: u8,
    pub opcode: Opcode,
    pub mask: Option<[u8; 4]>,
    /// Bytes of payload.
    pub len: u64,
}

/// Longest payload of a control frame, in bytes.
pub const MAX_CONTROL_LEN: usize = 125;
/// Longest reason of a close frame, in bytes: its code takes two.
pub const MAX_REASON_LEN: usize = MAX_CONTROL_LEN - 2;
/// Longest header, in bytes.
pub const MAX_HEADER_LEN: usize = 14;

/// What a peer did that ends the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    #[error("reserved opcode {0:#x}")]
    ReservedOpcode(u8),
    #[error("reserved bits {0:#05b} set, but no extension was negotiated")]
    ReservedBits(u8),
    #[error("payload length with its highest bit set")]
    InvalidLength,
    #[error("frame of a client without a mask")]
    NotMasked,
    #[error("frame of a server with a mask")]
    Masked,
    #[error("fragmented control frame")]
    FragmentedControl,
    #[error("control frame with {0} bytes of payload, at most 125 are allowed")]
    ControlTooLong(u64),
    #[error("continuation frame without a message to continue")]
    UnexpectedContinuation,
    #[error("new message before the last fragment of the one before")]
    ExpectedContinuation,
    #[error("close frame with half a close code")]
    HalfCloseCode,
    #[error("close code {0} must not be sent")]
    InvalidCloseCode(CloseCode),
    #[error("text is not UTF-8")]
    Utf8,
    #[error("message of more than {max} bytes")]
    TooLarge { max: usize },
}

impl FrameError {
    /// The code with which to close the connection.
    pub fn close_code(&self) -> CloseCode {
        match self {
            FrameError::Utf8 => CloseCode::INVALID_PAYLOAD,
            FrameError::TooLarge { .. } => CloseCode::TOO_LARGE,
            _ => CloseCode::PROTOCOL_ERROR,
        }
    }
}

/// Decodes the header at the front of `buf` and gives its length; `Ok(None)` when more bytes are needed.
/// The rules that need more than the header's own bits are [`Reader`]'s.
pub fn decode_header(buf: &[u8]) -> Result<Option<(Header, usize)>, FrameError> {
    let &[first, second, ref rest @ ..] = buf else { return Ok(None) };
    let opcode = Opcode::from_bits(first & 0x0f).ok_or(FrameError::ReservedOpcode(first & 0x0f))?;
    let (len, rest) = match second & 0x7f {
        126 => {
            let Some((len, rest)) = rest.split_first_chunk() else { return Ok(None) };
            (u64::from(u16::from_be_bytes(*len)), rest)
        }
        127 => {
            let Some((len, rest)) = rest.split_first_chunk() else { return Ok(None) };
            (u64::from_be_bytes(*len), rest)
        }
        len => (u64::from(len), rest),
    };
    if len >> 63 != 0 {
        return Err(FrameError::InvalidLength);
    }
    let (mask, rest) = if second & 0x80 == 0 {
        (None, rest)
    } else {
        let Some((mask, rest)) = rest.split_first_chunk() else { return Ok(None) };
        (Some(*mask), rest)
    };
    let header = Header { fin: first & 0x80 != 0, rsv: first >> 4 & 0x7, opcode, mask, len };
    Ok(Some((header, buf.len() - rest.len())))
}

/// Appends a header.
pub fn encode_header(fin: bool, opcode: Opcode, mask: Option<[u8; 4]>, len: u64, out: &mut Vec<u8>) {
    let mut header = [0u8; MAX_HEADER_LEN];
    header[0] = u8::from(fin) << 7 | opcode.bits();
    let mut end = match len {
        0..126 => {
            header[1] = len as u8;
            2
        }
        126..=0xffff => {
            header[1] = 126;
            header[2..4].copy_from_slice(&(len as u16).to_be_bytes());
            4
        }
        _ => {
            header[1] = 127;
            header[2..10].copy_from_slice(&len.to_be_bytes());
            10
        }
    };
    if let Some(mask) = mask {
        header[1] |= 0x80;
        header[end..end + 4].copy_from_slice(&mask);
        end += 4;
    }
    out.extend_from_slice(&header[..end]);
}

/// Bytes of the header of an unmasked frame with `len` bytes of payload.
pub fn header_len(len: usize) -> usize {
    match len {
        0..126 => 2,
        126..=0xffff => 4,
        _ => 10,
    }
}

/// XORs `data` with the mask, the first byte with byte `offset % 4` of it. Masking twice gives back what
/// was there.
pub fn apply_mask(mask: [u8; 4], data: &mut [u8], offset: usize) {
    let mut mask = mask;
    mask.rotate_left(offset % 4);
    let [a, b, c, d] = mask;
    let word = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, tail) = data.as_chunks_mut::<8>();
    for bytes in words {
        *bytes = (u64::from_ne_bytes(*bytes) ^ word).to_ne_bytes();
    }
    for (byte, key) in tail.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
}

/// Which end reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Reads a client's frames, which are masked.
    Server,
    /// Reads a server's frames, which are not.
    Client,
}

/// What a [`Reader`] found. A message that came in one frame is borrowed from the buffer; one put together
/// from fragments is owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming<'b> {
    Text(Cow<'b, str>),
    Binary(Cow<'b, [u8]>),
    Ping(&'b [u8]),
    Pong(&'b [u8]),
    /// The peer's close code, if it gave one, and reason. Nothing after it is to be read.
    Close(Option<CloseCode>, &'b str),
    /// A fragment has been put aside; the message is not complete.
    Partial,
}

/// Reads messages of one connection from a buffer the caller fills. Holds memory of its own only between
/// the fragments of a message. After an error, close with [`FrameError::close_code`] and read no further.
#[derive(Debug)]
pub struct Reader {
    max_message: usize,
    role: Role,
    /// The opcode of the message whose fragments are in `fragments`.
    fragmented: Option<Opcode>,
    fragments: Vec<u8>,
    /// How much of `fragments` is known to be UTF-8; up to 3 bytes of an unfinished character may follow.
    valid: usize,
}

impl Reader {
    /// `max_message` is in bytes of payload, all fragments of a message together.
    pub fn new(role: Role, max_message: usize) -> Self {
        Reader { max_message, role, fragmented: None, fragments: Vec::new(), valid: 0 }
    }

    /// Reads the frame at the front of `buf`, unmasking it in place, and says how many bytes it took.
    /// `Ok(None)`: it is not complete; nothing was changed, call again with more behind what is there.
    /// What the header alone forbids is an error as soon as the header has arrived.
    pub fn read<'b>(&mut self, buf: &'b mut [u8]) -> Result<Option<(usize, Incoming<'b>)>, FrameError> {
        let Some((header, start)) = decode_header(buf)? else { return Ok(None) };
        let len = self.check(&header)?;
        let end = start + len;
        let Some(payload) = buf.get_mut(start..end) else { return Ok(None) };
        if let Some(mask) = header.mask {
            apply_mask(mask, payload, 0);
        }
        let payload: &'b [u8] = payload;
        let incoming = match header.opcode {
            Opcode::Ping => Incoming::Ping(payload),
            Opcode::Pong => Incoming::Pong(payload),
            Opcode::Close => decode_close(payload)?,
            Opcode::Text if header.fin => Incoming::Text(Cow::Borrowed(
                simdutf8::basic::from_utf8(payload).map_err(|_| FrameError::Utf8)?,
            )),
            Opcode::Binary if header.fin => Incoming::Binary(Cow::Borrowed(payload)),
            opcode => self.take_fragment(opcode, header.fin, payload)?,
        };
        Ok(Some((end, incoming)))
    }

    /// How many bytes the frame at the front of `buf` takes in all, so that a buffer can grow to it at once.
    /// `None` while its header is not complete, and when [`Reader::read`] would refuse it.
    pub fn wanted(&self, buf: &[u8]) -> Option<usize> {
        let (header, start) = decode_header(buf).ok()??;
        Some(start + self.check(&header).ok()?)
    }

    /// Whether the fragments of an unfinished message are held.
    pub fn is_mid_message(&self) -> bool {
        self.fragmented.is_some()
    }

    /// Bytes of memory that the fragments of an unfinished message take.
    pub fn held(&self) -> usize {
        self.fragments.capacity()
    }

    /// The rules a header must keep here and now; gives the payload's length.
    fn check(&self, header: &Header) -> Result<usize, FrameError> {
        if header.rsv != 0 {
            return Err(FrameError::ReservedBits(header.rsv));
        }
        match (self.role, header.mask) {
            (Role::Server, None) => return Err(FrameError::NotMasked),
            (Role::Client, Some(_)) => return Err(FrameError::Masked),
            _ => {}
        }
        if header.opcode.is_control() {
            if !header.fin {
                return Err(FrameError::FragmentedControl);
            }
            if header.len > MAX_CONTROL_LEN as u64 {
                return Err(FrameError::ControlTooLong(header.len));
            }
            return Ok(header.len as usize);
        }
        match (header.opcode, self.fragmented) {
            (Opcode::Continuation, None) => return Err(FrameError::UnexpectedContinuation),
            (Opcode::Text | Opcode::Binary, Some(_)) => return Err(FrameError::ExpectedContinuation),
            _ => {}
        }
        let room = self.max_message - self.fragments.len();
        match usize::try_from(header.len) {
            Ok(len) if len <= room => Ok(len),
            _ => Err(FrameError::TooLarge { max: self.max_message }),
        }
    }

    fn take_fragment<'b>(
        &mut self,
        opcode: Opcode,
        fin: bool,
        payload: &[u8],
    ) -> Result<Incoming<'b>, FrameError> {
        let kind = *self.fragmented.get_or_insert(opcode);
        self.fragments.extend_from_slice(payload);
        if kind == Opcode::Text {
            // Checked as it comes, so that bad text ends the connection at its first bad fragment.
            match simdutf8::compat::from_utf8(&self.fragments[self.valid..]) {
                Ok(text) => self.valid += text.len(),
                Err(error) if error.error_len().is_none() && !fin => self.valid += error.valid_up_to(),
                Err(_) => return Err(FrameError::Utf8),
            }
        }
        if !fin {
            return Ok(Incoming::Partial);
        }
        self.fragmented = None;
        self.valid = 0;
        let message = std::mem::take(&mut self.fragments);
        Ok(match kind {
            Opcode::Text => {
                Incoming::Text(Cow::Owned(String::from_utf8(message).map_err(|_| FrameError::Utf8)?))
            }
            _ => Incoming::Binary(Cow::Owned(message)),
        })
    }
}

fn decode_close(payload: &[u8]) -> Result<Incoming<'_>, FrameError> {
    match payload {
        [] => Ok(Incoming::Close(None, "")),
        [_] => Err(FrameError::HalfCloseCode),
        &[high, low, ref reason @ ..] => {
            let code = CloseCode(u16::from_be_bytes([high, low]));
            if !code.is_valid() {
                return Err(FrameError::InvalidCloseCode(code));
            }
            let reason = simdutf8::basic::from_utf8(reason).map_err(|_| FrameError::Utf8)?;
            Ok(Incoming::Close(Some(code), reason))
        }
    }
}

/// A complete unmasked text frame, as a server sends it.
pub fn text_frame(payload: &[u8]) -> Bytes {
    frame(Opcode::Text, &[payload])
}

/// A complete unmasked binary frame, as a server sends it.
pub fn binary_frame(payload: &[u8]) -> Bytes {
    frame(Opcode::Binary, &[payload])
}

/// A complete unmasked frame whose payload is `parts` one after the other, written once.
pub fn frame(opcode: Opcode, parts: &[&[u8]]) -> Bytes {
    let len = parts.iter().map(|part| part.len()).sum();
    debug_assert!(!opcode.is_control() || len <= MAX_CONTROL_LEN, "control frames hold at most 125 bytes");
    let mut out = Vec::with_capacity(header_len(len) + len);
    encode_header(true, opcode, None, len as u64, &mut out);
    for part in parts {
        out.extend_from_slice(part);
    }
    Bytes::from(out)
}

/// Appends a complete masked frame, as a client sends it.
pub fn encode_masked(opcode: Opcode, mask: [u8; 4], payload: &[u8], out: &mut Vec<u8>) {
    debug_assert!(
        !opcode.is_control() || payload.len() <= MAX_CONTROL_LEN,
        "control frames hold at most 125 bytes"
    );
    out.reserve(MAX_HEADER_LEN + payload.len());
    encode_header(true, opcode, Some(mask), payload.len() as u64, out);
    let start = out.len();
    out.extend_from_slice(payload);
    apply_mask(mask, &mut out[start..], 0);
}

/// Appends the payload of a close frame; a reason of more than 123 bytes is cut at a character.
pub fn encode_close_payload(code: CloseCode, reason: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(&code.0.to_be_bytes());
    out.extend_from_slice(&reason.as_bytes()[..reason.floor_char_boundary(MAX_REASON_LEN)]);
}

/// A complete unmasked close frame, as a server sends it.
pub fn close_frame(code: CloseCode, reason: &str) -> Bytes {
    let mut payload = Vec::with_capacity(MAX_CONTROL_LEN);
    encode_close_payload(code, reason, &mut payload);
    frame(Opcode::Close, &[&payload])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

    /// A frame as `role` reads it: masked for a server, not for a client.
    fn encode(role: Role, fin: bool, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
        let mask = (role == Role::Server).then_some(MASK);
        let mut out = Vec::new();
        encode_header(fin, opcode, mask, payload.len() as u64, &mut out);
        let start = out.len();
        out.extend_from_slice(payload);
        apply_mask(mask.unwrap_or_default(), &mut out[start..], 0);
        out
    }

    fn owned(incoming: Incoming<'_>) -> Incoming<'static> {
        match incoming {
            Incoming::Text(text) => Incoming::Text(Cow::Owned(text.into_owned())),
            Incoming::Binary(bytes) => Incoming::Binary(Cow::Owned(bytes.into_owned())),
            Incoming::Ping(bytes) => Incoming::Ping(bytes.to_vec().leak()),
            Incoming::Pong(bytes) => Incoming::Pong(bytes.to_vec().leak()),
            Incoming::Close(code, reason) => Incoming::Close(code, reason.to_owned().leak()),
            Incoming::Partial => Incoming::Partial,
        }
    }

    /// All that `bytes` hold, until they end or break a rule.
    fn read_all(role: Role, max: usize, bytes: &[u8]) -> (Vec<Incoming<'static>>, Result<usize, FrameError>) {
        let mut reader = Reader::new(role, max);
        let mut bytes = bytes.to_vec();
        let mut rest = &mut bytes[..];
        let mut found = Vec::new();
        loop {
            match reader.read(rest) {
                Ok(Some((used, incoming))) => {
                    found.push(owned(incoming));
                    rest = &mut rest[used..];
                }
                Ok(None) => return (found, Ok(rest.len())),
                Err(error) => return (found, Err(error)),
            }
        }
    }

    #[test]
    fn headers_both_ways() {
        fn check(bytes: &[u8], header: Header) {
            assert_eq!(decode_header(bytes), Ok(Some((header, bytes.len()))), "{bytes:x?}");
            for end in 0..bytes.len() {
                assert_eq!(decode_header(&bytes[..end]), Ok(None), "{:x?}", &bytes[..end]);
            }
            let mut out = Vec::new();
            encode_header(header.fin, header.opcode, header.mask, header.len, &mut out);
            assert_eq!(out, bytes);
            if header.mask.is_none() {
                assert_eq!(header_len(header.len as usize), bytes.len());
            }
        }
        let header = Header { fin: true, rsv: 0, opcode: Opcode::Text, mask: None, len: 0 };
        check(&[0x81, 0], header);
        check(&[0x01, 125], Header { fin: false, len: 125, ..header });
        check(&[0x81, 126, 0, 126], Header { len: 126, ..header });
        check(&[0x81, 126, 0xff, 0xff], Header { len: 65_535, ..header });
        check(&[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0], Header { len: 65_536, ..header });
        check(&[0x81, 127, 0x7f, 255, 255, 255, 255, 255, 255, 255], Header { len: u64::MAX >> 1, ..header });
        check(&[0x81, 0x85, 1, 2, 3, 4], Header { mask: Some([1, 2, 3, 4]), len: 5, ..header });
        check(
            &[0x82, 0xfe, 1, 0, 1, 2, 3, 4],
            Header { opcode: Opcode::Binary, mask: Some([1, 2, 3, 4]), len: 256, ..header },
        );
        check(&[0x00, 1], Header { fin: false, opcode: Opcode::Continuation, len: 1, ..header });
        check(&[0x88, 2], Header { opcode: Opcode::Close, len: 2, ..header });
        check(&[0x89, 2], Header { opcode: Opcode::Ping, len: 2, ..header });
        check(&[0x8a, 2], Header { opcode: Opcode::Pong, len: 2, ..header });
    }

    #[test]
    fn other_headers() {
        for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
            assert_eq!(decode_header(&[0x80 | opcode, 0]), Err(FrameError::ReservedOpcode(opcode)));
        }
        let (header, _) = decode_header(&[0xd1, 0]).unwrap().unwrap();
        assert_eq!(header.rsv, 0b101);
        assert_eq!(decode_header(&[0x81, 127, 0x80, 0, 0, 0, 0, 0, 0, 0]), Err(FrameError::InvalidLength));
        // Longer than necessary.
        let (header, len) = decode_header(&[0x81, 126, 0, 5]).unwrap().unwrap();
        assert_eq!((header.len, len), (5, 4));
    }

    #[test]
    fn frames_of_the_specification() {
        fn check(role: Role, bytes: &[u8], expected: &[Incoming<'_>]) {
            let (found, end) = read_all(role, 70_000, bytes);
            assert_eq!((&*found, end), (expected, Ok(0)));
        }
        // RFC 6455 section 5.7.
        let hello = Incoming::Text("Hello".into());
        check(Role::Client, &[0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f], std::slice::from_ref(&hello));
        let masked = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        check(Role::Server, &masked, std::slice::from_ref(&hello));
        let fragments = [0x01, 0x03, 0x48, 0x65, 0x6c, 0x80, 0x02, 0x6c, 0x6f];
        check(Role::Client, &fragments, &[Incoming::Partial, hello]);
        check(Role::Client, &[0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f], &[Incoming::Ping(b"Hello")]);
        let pong = [0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        check(Role::Server, &pong, &[Incoming::Pong(b"Hello")]);
        for len in [256, 65_536] {
            let payload = vec![7; len];
            let frame = binary_frame(&payload);
            assert_eq!(frame[..2], [0x82, if len == 256 { 0x7e } else { 0x7f }]);
            check(Role::Client, &frame, &[Incoming::Binary(payload.into())]);
        }
    }

    #[test]
    fn an_unfragmented_message_lies_in_the_buffer() {
        let mut reader = Reader::new(Role::Server, 100);
        for opcode in [Opcode::Text, Opcode::Binary] {
            let mut buf = encode(Role::Server, true, opcode, b"where it came");
            let range = buf.as_ptr_range();
            let (_, incoming) = reader.read(&mut buf).unwrap().unwrap();
            let place = match incoming {
                Incoming::Text(Cow::Borrowed(text)) => text.as_ptr(),
                Incoming::Binary(Cow::Borrowed(bytes)) => bytes.as_ptr(),
                other => panic!("{other:?}"),
            };
            assert!(range.contains(&place));
        }
        assert_eq!(reader.fragments.capacity(), 0);
    }

    #[test]
    fn fragments() {
        fn check(frames: &[(bool, Opcode, &[u8])], expected: &[Incoming<'_>]) {
            for role in [Role::Server, Role::Client] {
                let bytes: Vec<u8> = frames
                    .iter()
                    .flat_map(|&(fin, opcode, payload)| encode(role, fin, opcode, payload))
                    .collect();
                let (found, end) = read_all(role, 10, &bytes);
                assert_eq!((&*found, end), (expected, Ok(0)), "{frames:?}");
            }
        }
        use Incoming::{Binary, Partial, Ping, Text};
        check(
            &[
                (false, Opcode::Binary, b"01234"),
                (false, Opcode::Continuation, b""),
                (true, Opcode::Continuation, b"56789"),
                (true, Opcode::Binary, b"a"),
            ],
            &[Partial, Partial, Binary(b"0123456789".into()), Binary(b"a".into())],
        );
        // Control frames come in between; a character is cut in two.
        check(
            &[
                (false, Opcode::Text, b"a\xe2"),
                (true, Opcode::Ping, b"now"),
                (false, Opcode::Continuation, b"\x82"),
                (true, Opcode::Continuation, b"\xac."),
                (true, Opcode::Text, b"b"),
            ],
            &[Partial, Ping(b"now"), Partial, Text("a€.".into()), Text("b".into())],
        );
        check(&[(false, Opcode::Text, b""), (true, Opcode::Continuation, b"")], &[Partial, Text("".into())]);
        // Nothing of the first message is left in the second.
        check(
            &[
                (false, Opcode::Text, b"longer"),
                (true, Opcode::Continuation, b""),
                (false, Opcode::Text, b"b"),
                (true, Opcode::Continuation, b"c"),
            ],
            &[Partial, Text("longer".into()), Partial, Text("bc".into())],
        );
    }

    #[test]
    fn broken_rules() {
        fn check(role: Role, bytes: &[u8], expected: FrameError, code: CloseCode) {
            let (_, end) = read_all(role, 200, bytes);
            assert_eq!(end, Err(expected), "{bytes:x?}");
            assert_eq!(expected.close_code(), code);
        }
        use FrameError::*;
        let protocol = CloseCode::PROTOCOL_ERROR;
        let invalid = CloseCode::INVALID_PAYLOAD;
        check(Role::Server, &[0x81, 0x01], NotMasked, protocol);
        check(Role::Client, &[0x81, 0x81, 1, 2, 3, 4], Masked, protocol);
        check(Role::Client, &[0xc1, 0x00], ReservedBits(0b100), protocol);
        check(Role::Client, &[0xa1, 0x00], ReservedBits(0b010), protocol);
        check(Role::Client, &[0x91, 0x00], ReservedBits(0b001), protocol);
        check(Role::Client, &[0x83, 0x00], ReservedOpcode(3), protocol);
        check(Role::Client, &[0x09, 0x00], FragmentedControl, protocol);
        check(Role::Client, &[0x89, 126, 0, 126], ControlTooLong(126), protocol);
        check(Role::Client, &[0x80, 0x00], UnexpectedContinuation, protocol);
        check(Role::Client, &[0x01, 0x00, 0x81, 0x00], ExpectedContinuation, protocol);
        check(Role::Client, &[0x01, 0x00, 0x80, 0x00, 0x80, 0x00], UnexpectedContinuation, protocol);
        check(Role::Client, &[0x81, 126, 0, 201], TooLarge { max: 200 }, CloseCode::TOO_LARGE);
        check(
            Role::Client,
            &[0x81, 127, 0, 0, 0, 1, 0, 0, 0, 0],
            TooLarge { max: 200 },
            CloseCode::TOO_LARGE,
        );
        check(Role::Client, &[0x81, 127, 0x80, 0, 0, 0, 0, 0, 0, 0], InvalidLength, protocol);
        let mut fragments = encode(Role::Client, false, Opcode::Binary, &[0; 150]);
        fragments.extend([0x80, 51]);
        check(Role::Client, &fragments, TooLarge { max: 200 }, CloseCode::TOO_LARGE);
        check(Role::Client, &[0x81, 0x01, 0xff], Utf8, invalid);
        check(Role::Client, &[0x81, 0x02, 0xe2, 0x82], Utf8, invalid);
        check(Role::Client, &[0x81, 0x03, 0xed, 0xa0, 0x80], Utf8, invalid);
        // Seen at the bad fragment, not at the end of the message.
        check(Role::Client, &[0x01, 0x01, 0xe2, 0x00, 0x01, 0x28], Utf8, invalid);
        check(Role::Client, &[0x01, 0x02, b'a', 0xe2, 0x80, 0x00], Utf8, invalid);
        check(Role::Client, &[0x88, 0x01, 0x03], HalfCloseCode, protocol);
        check(Role::Client, &[0x88, 0x02, 0x03, 0xed], InvalidCloseCode(CloseCode(1005)), protocol);
        check(Role::Client, &[0x88, 0x03, 0x03, 0xe8, 0xff], Utf8, invalid);
    }

    #[test]
    fn close_frames() {
        fn check(frame: &[u8], code: Option<CloseCode>, reason: &str) {
            let (found, _) = read_all(Role::Client, 0, frame);
            assert_eq!(found, [Incoming::Close(code, reason)]);
        }
        check(&frame(Opcode::Close, &[]), None, "");
        check(&close_frame(CloseCode::SERVICE_RESTART, ""), Some(CloseCode(1012)), "");
        check(&close_frame(CloseCode::SLOW_CONSUMER, "too slow"), Some(CloseCode(4008)), "too slow");
        // 41 times three bytes are 123 exactly; with an `a` in front the cut would fall into the last €.
        check(&close_frame(CloseCode::NORMAL, &"€".repeat(50)), Some(CloseCode(1000)), &"€".repeat(41));
        let long = format!("a{}", "€".repeat(50));
        check(&close_frame(CloseCode::NORMAL, &long), Some(CloseCode(1000)), &format!("a{}", "€".repeat(40)));
    }

    #[test]
    fn what_an_incomplete_frame_wants() {
        let reader = Reader::new(Role::Client, 1_000);
        assert_eq!(reader.wanted(&[]), None);
        assert_eq!(reader.wanted(&[0x81]), None);
        assert_eq!(reader.wanted(&[0x81, 5, b'a']), Some(7));
        assert_eq!(reader.wanted(&[0x81, 126, 3, 0xe8]), Some(1_004));
        assert_eq!(reader.wanted(&[0x81, 126, 3, 0xe9]), None);
        assert_eq!(reader.wanted(&[0x81, 0x85, 1, 2, 3, 4]), None);
    }

    #[test]
    fn a_message_of_the_greatest_size() {
        let payload = vec![b'x'; 300];
        let frame = text_frame(&payload);
        assert_eq!(read_all(Role::Client, 300, &frame).0.len(), 1);
        assert_eq!(read_all(Role::Client, 299, &frame).1, Err(FrameError::TooLarge { max: 299 }));
    }

    fn opcodes() -> impl Strategy<Value = Opcode> {
        prop::sample::select(vec![Opcode::Text, Opcode::Binary, Opcode::Ping, Opcode::Pong])
    }

    proptest! {
        #[test]
        fn masking_goes_byte_by_byte(mask: [u8; 4], data: Vec<u8>, offset in 0usize..9, start in 0usize..9) {
            let start = start.min(data.len());
            let mut masked = data.clone();
            apply_mask(mask, &mut masked[start..], offset);
            let expected: Vec<u8> = data.iter().enumerate().map(|(at, byte)| match at.checked_sub(start) {
                Some(at) => byte ^ mask[(at + offset) % 4],
                None => *byte,
            }).collect();
            prop_assert_eq!(&masked, &expected);
            apply_mask(mask, &mut masked[start..], offset);
            prop_assert_eq!(masked, data);
        }

        #[test]
        fn frames_come_back(
            frames in prop::collection::vec((opcodes(), "(a|é|€|😀){0,70}"), 1..5),
            mask: [u8; 4],
            cut in 0usize..40,
        ) {
            let frames: Vec<_> = frames.into_iter().map(|(opcode, mut text)| {
                if opcode.is_control() {
                    text.truncate(text.floor_char_boundary(MAX_CONTROL_LEN));
                }
                (opcode, text)
            }).collect();
            let expected: Vec<_> = frames.iter().map(|(opcode, text)| match opcode {
                Opcode::Text => Incoming::Text(text.into()),
                Opcode::Binary => Incoming::Binary(text.as_bytes().into()),
                Opcode::Ping => Incoming::Ping(text.as_bytes()),
                _ => Incoming::Pong(text.as_bytes()),
            }).collect();

            let (mut masked, mut plain) = (Vec::new(), Vec::new());
            for (opcode, text) in &frames {
                encode_masked(*opcode, mask, text.as_bytes(), &mut masked);
                plain.extend_from_slice(&frame(*opcode, &[&text.as_bytes()[..0], text.as_bytes()]));
            }
            for (role, bytes) in [(Role::Server, masked), (Role::Client, plain)] {
                let (found, end) = read_all(role, 280, &bytes);
                prop_assert_eq!((&found, end), (&expected, Ok(0)));
                // Cut short: what is whole comes, the rest waits.
                let cut = bytes.len().saturating_sub(cut);
                let (found, end) = read_all(role, 280, &bytes[..cut]);
                prop_assert_eq!(&found[..], &expected[..found.len()]);
                prop_assert!(end.is_ok());
            }
        }

        #[test]
        fn fragments_come_together(text in "(a|é|€|😀){0,40}", cuts in prop::collection::vec(0usize..200, 0..6)) {
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.sort_unstable();
            let mut bytes = Vec::new();
            let mut from = 0;
            let mut opcode = Opcode::Text;
            for &to in &cuts {
                bytes.extend(encode(Role::Server, false, opcode, &text.as_bytes()[from..to]));
                (from, opcode) = (to, Opcode::Continuation);
            }
            bytes.extend(encode(Role::Server, true, opcode, &text.as_bytes()[from..]));
            let (found, end) = read_all(Role::Server, 200, &bytes);
            prop_assert_eq!(end, Ok(0));
            prop_assert_eq!(found.last().unwrap(), &Incoming::Text(text.into()));
            prop_assert_eq!(found.len(), cuts.len() + 1);
        }
    }
}
