//! A WebSocket client that speaks bytes, and says exactly what came back.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Longer than anything a passing test waits for.
pub const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, PartialEq, Eq, Clone)]
pub enum Got {
    Text(String),
    Binary(Vec<u8>),
    Close(Option<u16>),
    Pong(Vec<u8>),
    Eof,
    Reset,
}

/// The client's end, byte for byte.
pub struct Client<S = TcpStream> {
    pub stream: S,
    /// Read and not yet taken.
    buffer: VecDeque<u8>,
    ended: Option<Got>,
}

impl Client {
    pub fn upgrade(stream: TcpStream, query: &str) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(stream, query)
    }
}

impl<S: Read + Write> Client<S> {
    /// The upgrade on any stream.
    pub fn over(mut stream: S, query: &str) -> Self {
        write!(
            stream,
            "GET /socket.io/?{query} HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive, Upgrade\r\n\
             Upgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        .unwrap();
        let mut client = Self::of(stream);
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(client.byte().expect("an answer to the upgrade"));
        }
        let head = String::from_utf8(head).unwrap();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        // The key and its answer stand in RFC 6455 section 1.3.
        assert!(
            head.to_lowercase().contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"),
            "{head}"
        );
        client
    }

    /// The other end of a WebSocket whose handshake is done.
    pub fn of(stream: S) -> Self {
        Self { stream, buffer: VecDeque::new(), ended: None }
    }

    /// A masked text frame.
    pub fn send(&mut self, text: &str) {
        self.frame(0x81, text.as_bytes());
    }

    pub fn send_binary(&mut self, data: &[u8]) {
        self.frame(0x82, data);
    }

    /// A masked frame with this first byte.
    pub fn frame(&mut self, first: u8, payload: &[u8]) {
        self.raw(&masked(first, payload));
    }

    pub fn raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Gives up the memory of the client's own buffer, for tests that count.
    pub fn forget_buffer(&mut self) {
        assert!(self.buffer.is_empty());
        self.buffer = VecDeque::new();
    }

    fn byte(&mut self) -> Option<u8> {
        let mut chunk = [0; 16 << 10];
        while self.buffer.is_empty() && self.ended.is_none() {
            match self.stream.read(&mut chunk) {
                Ok(0) => self.ended = Some(Got::Eof),
                Ok(length) => self.buffer.extend(&chunk[..length]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => self.ended = Some(Got::Reset),
                Err(error) => panic!("nothing arrived: {error}"),
            }
        }
        self.buffer.pop_front()
    }

    /// The next whole frame, or how the connection ended. A frame cut short is a failure.
    #[track_caller]
    pub fn next(&mut self) -> Got {
        let Some(first) = self.byte() else { return self.ended.clone().unwrap() };
        let mut bytes = |count: usize| -> Vec<u8> {
            (0..count).map(|_| self.byte().expect("the rest of a frame")).collect()
        };
        let length = match bytes(1)[0] {
            126 => u16::from_be_bytes(bytes(2).try_into().unwrap()).into(),
            127 => u64::from_be_bytes(bytes(8).try_into().unwrap()) as usize,
            length => usize::from(length),
        };
        assert!(length < 1 << 24, "a masked or absurd length");
        let payload = bytes(length);
        match first {
            0x81 => Got::Text(String::from_utf8(payload).unwrap()),
            0x82 => Got::Binary(payload),
            0x88 => Got::Close(payload.first_chunk().map(|code| u16::from_be_bytes(*code))),
            0x8a => Got::Pong(payload),
            other => panic!("frame that begins with {other:#x}"),
        }
    }

    /// The next text frame.
    #[track_caller]
    pub fn text(&mut self) -> String {
        match self.next() {
            Got::Text(text) => text,
            other => panic!("expected text, got {other:?}"),
        }
    }

    #[track_caller]
    pub fn expect(&mut self, expected: &str) {
        assert_eq!(self.text(), expected);
    }

    /// A close frame with `code`, then the end of the connection.
    #[track_caller]
    pub fn expect_close(&mut self, code: u16) {
        assert_eq!(self.next(), Got::Close(Some(code)));
        assert_eq!(self.next(), Got::Eof);
    }
}

/// A client's frame with this first byte.
pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x12, 0x34, 0x56, 0x78];
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..126 => frame.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}
