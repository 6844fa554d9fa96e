//! WebSocket frames by hand, either end.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use crate::http::{Exchange, PATIENCE, is_timeout};
use crate::rule::Revision;
use crate::transcript::{Pen, shown};

/// Any mask does; servers must not care.
const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];

/// The first byte of whole messages and control frames.
pub(crate) const TEXT: u8 = 0x81;
pub(crate) const BINARY: u8 = 0x82;
pub(crate) const CLOSE: u8 = 0x88;
pub(crate) const PING: u8 = 0x89;
pub(crate) const PONG: u8 = 0x8a;
/// Without FIN: the beginning or the middle of a message.
pub(crate) const TEXT_PART: u8 = 0x01;
pub(crate) const BINARY_PART: u8 = 0x02;
pub(crate) const PART: u8 = 0x00;
pub(crate) const LAST_PART: u8 = 0x80;

#[derive(Debug)]
pub(crate) struct WebSocket {
    stream: TcpStream,
    pen: Pen,
    received: Vec<u8>,
    /// This end is the client: it masks, the other must not.
    is_client: bool,
    /// Answer `2` with `3` in passing; off where heartbeats are what is looked at.
    pub(crate) answers_pings: bool,
    /// The close codes that no specification fixes are looked at too.
    pub(crate) exact: bool,
}

/// One frame as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) first: u8,
    /// Key of a masked frame; `payload` is unmasked already.
    pub(crate) mask: Option<[u8; 4]>,
    /// Bytes of the length as it was written: 1, 3 or 9.
    pub(crate) length_len: usize,
    pub(crate) payload: Vec<u8>,
}

/// What came, or how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Got {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
    End,
}

impl WebSocket {
    /// The client's end, the 101 read.
    pub(crate) fn client(exchange: Exchange, revision: Revision, exact: bool) -> Self {
        let (stream, pen, received) = exchange.into_parts();
        Self { stream, pen, received, is_client: true, answers_pings: revision == Revision::V4, exact }
    }

    /// The server's end, the 101 written.
    pub(crate) fn server(stream: TcpStream, pen: Pen) -> Self {
        Self { stream, pen, received: Vec::new(), is_client: false, answers_pings: false, exact: true }
    }

    pub(crate) fn send(&mut self, text: &str) -> Result<()> {
        self.frame(TEXT, text.as_bytes())
    }

    pub(crate) fn send_binary(&mut self, data: &[u8]) -> Result<()> {
        self.frame(BINARY, data)
    }

    pub(crate) fn frame(&mut self, first: u8, payload: &[u8]) -> Result<()> {
        let frame = frame(first, self.is_client, payload);
        self.pen.sent(format!("frame {first:#04x} {}", shown(payload)));
        self.write(&frame)
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) -> Result<()> {
        self.pen.sent(format!("bytes {}", bytes.escape_ascii()));
        self.write(bytes)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match self.stream.write_all(bytes) {
            // The other side has closed; what it said last is still to be read.
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                Ok(())
            }
            other => Ok(other?),
        }
    }

    /// The next frame of any kind; `None` at the end of the connection.
    pub(crate) fn next_frame(&mut self) -> Result<Option<Frame>> {
        loop {
            if let Some((frame, length)) = parse(&self.received) {
                self.received.drain(..length);
                self.pen.got(format!("frame {:#04x} {}", frame.first, shown(&frame.payload)));
                ensure!(frame.mask.is_some() != self.is_client, "only a client masks its frames: {frame:?}");
                return Ok(Some(frame));
            }
            if !self.read_more(PATIENCE)? {
                ensure!(self.received.is_empty(), "the connection ended inside a frame");
                self.pen.got("(end)");
                return Ok(None);
            }
        }
    }

    /// The next whole message or control frame.
    pub(crate) fn next(&mut self) -> Result<Got> {
        loop {
            if let Some(got) = self.next_of_any_kind()? {
                return Ok(got);
            }
        }
    }

    /// As [`WebSocket::next`]; `None` for a heartbeat that was answered.
    fn next_of_any_kind(&mut self) -> Result<Option<Got>> {
        let Some(frame) = self.next_frame()? else { return Ok(Some(Got::End)) };
        let payload = frame.payload;
        let got = match frame.first {
            TEXT => Got::Text(String::from_utf8(payload)?),
            BINARY => Got::Binary(payload),
            PING => Got::Ping(payload),
            PONG => Got::Pong(payload),
            CLOSE if payload.is_empty() => Got::Close(None, String::new()),
            CLOSE => {
                ensure!(payload.len() >= 2, "half a close code");
                let code = u16::from_be_bytes([payload[0], payload[1]]);
                Got::Close(Some(code), String::from_utf8(payload[2..].to_vec())?)
            }
            other => bail!("a frame that begins with {other:#04x}"),
        };
        if self.answers_pings && got == Got::Text("2".to_owned()) {
            self.send("3")?;
            return Ok(None);
        }
        Ok(Some(got))
    }

    pub(crate) fn text(&mut self) -> Result<String> {
        match self.next()? {
            Got::Text(text) => Ok(text),
            other => bail!("expected text, got {other:?}"),
        }
    }

    pub(crate) fn expect(&mut self, expected: &str) -> Result<()> {
        let got = self.next()?;
        ensure!(got == Got::Text(expected.to_owned()), "expected {expected:?}, got {got:?}");
        Ok(())
    }

    pub(crate) fn expect_binary(&mut self, expected: &[u8]) -> Result<()> {
        let got = self.next()?;
        ensure!(got == Got::Binary(expected.to_vec()), "expected binary {expected:?}, got {got:?}");
        Ok(())
    }

    /// A close frame with this code, then the end of the connection.
    pub(crate) fn expect_close(&mut self, code: u16) -> Result<()> {
        let got = self.until_close()?;
        ensure!(
            matches!(got, Got::Close(Some(found), _) if found == code),
            "expected close {code}, got {got:?}"
        );
        self.answer_close()
    }

    /// The end of the session for a rule of Engine.IO or Socket.IO that was broken: these say only that it
    /// closes, ours says 1008.
    pub(crate) fn expect_expelled(&mut self) -> Result<()> {
        if self.exact {
            return self.expect_close(1008);
        }
        self.expect_over()
    }

    /// The end, however it is said.
    pub(crate) fn expect_over(&mut self) -> Result<()> {
        match self.until_close()? {
            Got::End => Ok(()),
            _ => self.answer_close(),
        }
    }

    /// The client's part of a closing handshake the server began, or the answer to its own, which changes nothing.
    fn answer_close(&mut self) -> Result<()> {
        self.frame(CLOSE, b"")?;
        self.expect_end()
    }

    pub(crate) fn expect_end(&mut self) -> Result<()> {
        let got = self.next()?;
        ensure!(got == Got::End, "expected the end of the connection, got {got:?}");
        Ok(())
    }

    /// What was queued before a close does not matter to it.
    fn until_close(&mut self) -> Result<Got> {
        let until = Instant::now() + PATIENCE;
        // Heartbeats that are answered would go on for ever.
        while Instant::now() < until {
            if let Some(end @ (Got::Close(..) | Got::End)) = self.next_of_any_kind()? {
                return Ok(end);
            }
        }
        bail!("no close within {PATIENCE:?}")
    }

    /// Whether nothing comes within `time`, heartbeats aside.
    pub(crate) fn is_silent_for(&mut self, time: Duration) -> Result<bool> {
        let until = Instant::now() + time;
        loop {
            while let Some((frame, length)) = parse(&self.received) {
                if !(self.answers_pings && frame.first == TEXT && frame.payload == b"2") {
                    return Ok(false);
                }
                self.received.drain(..length);
                self.send("3")?;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(true);
            }
            match self.read_more(left) {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                Err(_) => return Ok(self.received.is_empty()),
            }
        }
    }

    /// Closes one direction, as a client that has said all it has to say.
    pub(crate) fn shut(&self) -> Result<()> {
        Ok(self.stream.shutdown(std::net::Shutdown::Write)?)
    }

    fn read_more(&mut self, limit: Duration) -> Result<bool> {
        self.stream.set_read_timeout(Some(limit))?;
        let mut chunk = [0; 64 << 10];
        match self.stream.read(&mut chunk) {
            Ok(0) => Ok(false),
            Ok(length) => {
                self.received.extend_from_slice(&chunk[..length]);
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(false),
            Err(error) if is_timeout(&error) => bail!("nothing came within {limit:?}"),
            Err(error) => Err(error.into()),
        }
    }
}

/// A frame with this first byte, its length in the shortest form.
pub(crate) fn frame(first: u8, masked: bool, payload: &[u8]) -> Vec<u8> {
    let bit = if masked { 0x80 } else { 0 };
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..126 => frame.push(bit | length as u8),
        length @ 126..=0xffff => {
            frame.push(bit | 126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            frame.push(bit | 127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    if masked {
        frame.extend_from_slice(&MASK);
        frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key));
    } else {
        frame.extend_from_slice(payload);
    }
    frame
}

/// A client's frame.
pub(crate) fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    frame(first, true, payload)
}

/// The frame at the front and its length, once it is whole.
fn parse(bytes: &[u8]) -> Option<(Frame, usize)> {
    let [first, second, rest @ ..] = bytes else { return None };
    let (length, length_len) = match second & 0x7f {
        126 => (u16::from_be_bytes(*rest.first_chunk()?).into(), 3),
        127 => (u64::from_be_bytes(*rest.first_chunk()?), 9),
        short => (short.into(), 1),
    };
    let mut at = 1 + length_len;
    let mask = (second & 0x80 != 0).then(|| bytes.get(at..)?.first_chunk::<4>().copied());
    let mask = match mask {
        Some(None) => return None,
        Some(Some(key)) => {
            at += 4;
            Some(key)
        }
        None => None,
    };
    let end = at.checked_add(usize::try_from(length).ok()?)?;
    let mut payload = bytes.get(at..end)?.to_vec();
    if let Some(key) = mask {
        payload.iter_mut().zip(key.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
    }
    Some((Frame { first: *first, mask, length_len, payload }, end))
}
