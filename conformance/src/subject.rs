//! The server under test, as one case sees it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::http::{Exchange, Response};
use crate::payload;
use crate::rule::{Protocol, Revision};
use crate::server::{self, Pace};
use crate::transcript::Transcript;
use crate::websocket::WebSocket;

/// The proof that belongs to the nonce of RFC 6455 section 1.3, which [`upgrade_headers`] send.
pub(crate) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Which server a case speaks to.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// Ours, started in this process.
    Ours,
    /// Another one, already running; its times are what its open packet says.
    Other(SocketAddr),
}

#[derive(Debug)]
pub struct Subject {
    target: Target,
    pub(crate) protocol: Protocol,
    pub(crate) revision: Revision,
    pace: Pace,
    pub(crate) transcript: Transcript,
}

impl Subject {
    pub(crate) fn new(target: Target, protocol: Protocol, revision: Revision) -> Self {
        Self { target, protocol, revision, pace: Pace::Calm, transcript: Transcript::default() }
    }

    /// The same with heartbeats one can wait for.
    pub(crate) fn brisk(&self) -> Self {
        Self {
            target: self.target,
            protocol: self.protocol,
            revision: self.revision,
            pace: Pace::Brisk,
            transcript: self.transcript.clone(),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        match self.target {
            Target::Ours => server::address(self.protocol, self.pace),
            Target::Other(address) => address,
        }
    }

    /// Whether the answers that no specification fixes are to be ours.
    pub(crate) fn is_ours(&self) -> bool {
        matches!(self.target, Target::Ours)
    }

    pub(crate) fn path(&self) -> &'static str {
        match self.protocol {
            Protocol::Engine => "/engine.io/",
            Protocol::Socket => "/socket.io/",
        }
    }

    /// `EIO=4&transport=polling`
    pub(crate) fn query(&self, transport: &str) -> String {
        format!("EIO={}&transport={transport}", self.revision.number())
    }

    // ---- HTTP ----

    /// Sends these bytes on a connection of their own.
    pub(crate) fn start(&self, request: impl AsRef<[u8]>) -> Result<Exchange> {
        Exchange::start(self.address(), self.transcript.connection(), self.is_ours(), request.as_ref())
    }

    /// Sends a request to the path of the protocol. `headers` are whole lines.
    pub(crate) fn start_request(
        &self,
        method: &str,
        query: &str,
        headers: &[&str],
        body: &[u8],
    ) -> Result<Exchange> {
        self.start(request(method, &format!("{}?{query}", self.path()), headers, body))
    }

    pub(crate) fn request(
        &self,
        method: &str,
        query: &str,
        headers: &[&str],
        body: &[u8],
    ) -> Result<Response> {
        self.start_request(method, query, headers, body)?.response()
    }

    pub(crate) fn get(&self, query: &str) -> Result<Response> {
        self.request("GET", query, &[], b"")
    }

    // ---- polling ----

    /// A polling session, its open packet read.
    pub(crate) fn polling(&self) -> Result<Polling<'_>> {
        self.polling_with("")
    }

    /// As [`Subject::polling`]; `more` is appended to each query (`&b64=1`).
    pub(crate) fn polling_with<'a>(&'a self, more: &'a str) -> Result<Polling<'a>> {
        let response = self.get(&format!("{}{more}", self.query("polling")))?;
        response.expect_status(200)?;
        let mut packets = VecDeque::from(body_packets(self.revision, &response)?);
        let open = open_packet(&packets.pop_front().context("a packet")?)?;
        let sid = open["sid"].as_str().context("a sid")?.to_owned();
        Ok(Polling { subject: self, more, sid, open, waiting: RefCell::new(packets) })
    }

    // ---- WebSocket ----

    /// An upgrade request of this query, as clients send it.
    pub(crate) fn upgrade(&self, query: &str) -> Result<(Exchange, Response)> {
        self.upgrade_with(query, &upgrade_headers())
    }

    pub(crate) fn upgrade_with(&self, query: &str, headers: &[&str]) -> Result<(Exchange, Response)> {
        let mut exchange = self.start(head("GET", &format!("{}?{query}", self.path()), headers))?;
        let response = exchange.response()?;
        Ok((exchange, response))
    }

    /// A WebSocket of this query, nothing read behind the 101.
    pub(crate) fn bare_websocket(&self, query: &str) -> Result<WebSocket> {
        let (exchange, response) = self.upgrade(query)?;
        response.expect_status(101)?;
        Ok(WebSocket::client(exchange, self.revision, self.is_ours()))
    }

    /// A session over WebSocket alone, and what its open packet says.
    pub(crate) fn opened(&self) -> Result<(WebSocket, Value)> {
        self.opened_with(&self.query("websocket"))
    }

    pub(crate) fn opened_with(&self, query: &str) -> Result<(WebSocket, Value)> {
        let mut socket = self.bare_websocket(query)?;
        let open = open_packet(&socket.text()?)?;
        Ok((socket, open))
    }

    /// A session over WebSocket alone, in the default namespace when Socket.IO is spoken.
    pub(crate) fn websocket(&self) -> Result<WebSocket> {
        let (mut socket, _) = self.opened()?;
        if self.protocol == Protocol::Socket {
            self.enter_default(&mut socket)?;
        }
        Ok(socket)
    }

    /// CONNECT and what the echo application says first.
    pub(crate) fn enter_default(&self, socket: &mut WebSocket) -> Result<()> {
        match self.revision {
            Revision::V3 => socket.expect("40")?,
            Revision::V4 => {
                socket.send("40")?;
                let answer = socket.text()?;
                ensure!(answer.starts_with("40{"), "expected a CONNECT, got {answer:?}");
            }
        }
        socket.expect(r#"42["auth",{}]"#)
    }

    /// One message there and back.
    pub(crate) fn expect_alive(&self, socket: &mut WebSocket) -> Result<()> {
        match self.protocol {
            Protocol::Engine => {
                socket.send("4alive?")?;
                socket.expect("4alive?")
            }
            Protocol::Socket => {
                socket.send(r#"42["message","alive?"]"#)?;
                socket.expect(r#"42["message-back","alive?"]"#)
            }
        }
    }
}

/// A session over polling.
#[derive(Debug)]
pub(crate) struct Polling<'a> {
    subject: &'a Subject,
    more: &'a str,
    pub(crate) sid: String,
    pub(crate) open: Value,
    /// Received and not yet looked at.
    waiting: RefCell<VecDeque<String>>,
}

impl Polling<'_> {
    pub(crate) fn query(&self) -> String {
        format!("{}{}&sid={}", self.subject.query("polling"), self.more, self.sid)
    }

    pub(crate) fn start_get(&self) -> Result<Exchange> {
        self.subject.start_request("GET", &self.query(), &[], b"")
    }

    pub(crate) fn get(&self) -> Result<Response> {
        self.start_get()?.response()
    }

    pub(crate) fn start_post(&self, body: impl AsRef<[u8]>) -> Result<Exchange> {
        let headers = ["Content-Type: text/plain;charset=UTF-8"];
        self.subject.start_request("POST", &self.query(), &headers, body.as_ref())
    }

    pub(crate) fn post(&self, body: impl AsRef<[u8]>) -> Result<Response> {
        self.start_post(body)?.response()
    }

    /// Sends packets, which must be taken.
    pub(crate) fn send(&self, packets: &[&str]) -> Result<()> {
        let response = self.post(payload::join(self.subject.revision, packets))?;
        response.expect_status(200)?;
        response.expect_body("ok")
    }

    /// The next packet, heartbeats answered in passing.
    pub(crate) fn next(&self) -> Result<String> {
        loop {
            if let Some(packet) = self.waiting.borrow_mut().pop_front() {
                if self.subject.revision == Revision::V4 && packet == "2" {
                    self.send(&["3"])?;
                    continue;
                }
                return Ok(packet);
            }
            let response = self.get()?;
            response.expect_status(200)?;
            self.waiting.borrow_mut().extend(body_packets(self.subject.revision, &response)?);
        }
    }

    pub(crate) fn expect(&self, packet: &str) -> Result<()> {
        let got = self.next()?;
        ensure!(got == packet, "expected packet {packet:?}, got {got:?}");
        Ok(())
    }

    /// The session is over: nobody knows its sid.
    pub(crate) fn expect_gone(&self) -> Result<()> {
        self.get()?.expect_refusal(1, "Session ID unknown")
    }

    /// The WebSocket that is to take over, probed and not yet upgraded to.
    pub(crate) fn probed(&self) -> Result<WebSocket> {
        let query = format!("{}&sid={}", self.subject.query("websocket"), self.sid);
        let mut socket = self.subject.bare_websocket(&query)?;
        socket.send("2probe")?;
        socket.expect("3probe")?;
        Ok(socket)
    }

    /// The whole upgrade, as clients do it: a poll that is ended by a noop, if one waits, then `5`.
    pub(crate) fn upgraded(&self) -> Result<WebSocket> {
        let mut socket = self.probed()?;
        socket.send("5")?;
        self.subject.expect_alive(&mut socket)?;
        Ok(socket)
    }
}

/// The packets of a text answer.
pub(crate) fn body_packets(revision: Revision, response: &Response) -> Result<Vec<String>> {
    payload::split(revision, response.text()?)
}

/// What an open packet says.
pub(crate) fn open_packet(packet: &str) -> Result<Value> {
    let Some(json) = packet.strip_prefix('0') else { bail!("expected an open packet, got {packet:?}") };
    serde_json::from_str(json).with_context(|| format!("handshake data {json:?}"))
}

/// Milliseconds in an open packet.
pub(crate) fn milliseconds(open: &Value, name: &str) -> Result<Duration> {
    let value = open[name].as_u64().with_context(|| format!("{name} in {open}"))?;
    Ok(Duration::from_millis(value))
}

pub(crate) fn upgrade_headers() -> [&'static str; 4] {
    [
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ]
}

/// A whole request on a connection that ends with it.
pub(crate) fn request(method: &str, target: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
    let length = format!("Content-Length: {}", body.len());
    let mut lines = vec!["Connection: close"];
    lines.extend(headers);
    if method != "GET" {
        lines.push(&length);
    }
    let mut request = head(method, target, &lines);
    request.extend_from_slice(body);
    request
}

pub(crate) fn head(method: &str, target: &str, headers: &[&str]) -> Vec<u8> {
    let mut head = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n");
    for line in headers {
        head.push_str(line);
        head.push_str("\r\n");
    }
    head.push_str("\r\n");
    head.into_bytes()
}
