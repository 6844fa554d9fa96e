//! HTTP/1.1 as a client writes it by hand.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::transcript::{Pen, shown};

/// Longer than anything a passing case waits for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A request that has been sent.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) stream: TcpStream,
    pub(crate) pen: Pen,
    received: Vec<u8>,
    /// See [`Response::expect_refusal`].
    exact: bool,
}

#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    exact: bool,
}

impl Exchange {
    /// Connects and sends these bytes.
    pub(crate) fn start(address: SocketAddr, pen: Pen, exact: bool, request: &[u8]) -> Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut exchange = Self { stream, pen, received: Vec::new(), exact };
        exchange.send(request)?;
        Ok(exchange)
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.pen.sent(shown(bytes));
        self.stream.write_all(bytes).context("the server no longer reads")
    }

    /// Reads the whole answer; what follows a 101 stays for [`Exchange::into_parts`].
    pub(crate) fn response(&mut self) -> Result<Response> {
        let head_end = loop {
            if let Some(at) = find(&self.received, b"\r\n\r\n") {
                break at + 4;
            }
            ensure!(self.read_more()?, "the connection ended without an answer");
        };
        let head = String::from_utf8(self.received.drain(..head_end).collect())?;
        let mut response = Response::parse_head(&head, self.exact)?;
        let chunked = response.header("transfer-encoding").is_some_and(|value| value == "chunked");
        let length = response.header("content-length").map(str::parse::<usize>).transpose()?;
        response.body = match (response.status, chunked, length) {
            (100..200 | 204 | 304, ..) => Vec::new(),
            (_, true, _) => self.chunks()?,
            (_, false, Some(length)) => self.take(length)?,
            (_, false, None) => {
                while self.read_more()? {}
                std::mem::take(&mut self.received)
            }
        };
        let content_type = response.header("content-type").unwrap_or("-");
        self.pen.got(format!("{} {content_type} {}", response.status, shown(&response.body)));
        Ok(response)
    }

    /// Whether nothing at all comes within `time`.
    pub(crate) fn is_silent_for(&mut self, time: Duration) -> Result<bool> {
        let until = Instant::now() + time;
        while self.received.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            self.stream.set_read_timeout(Some(left))?;
            match self.stream.peek(&mut [0]) {
                Ok(_) => {
                    self.stream.set_read_timeout(Some(PATIENCE))?;
                    return Ok(false);
                }
                Err(error) if is_timeout(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.stream.set_read_timeout(Some(PATIENCE))?;
        Ok(self.received.is_empty())
    }

    /// Goes away without waiting for the answer.
    pub(crate) fn cancel(self) -> Result<()> {
        self.pen.sent("(the client goes away)");
        Ok(self.stream.shutdown(Shutdown::Both)?)
    }

    pub(crate) fn into_parts(self) -> (TcpStream, Pen, Vec<u8>) {
        (self.stream, self.pen, self.received)
    }

    fn take(&mut self, length: usize) -> Result<Vec<u8>> {
        while self.received.len() < length {
            ensure!(self.read_more()?, "the body ended early");
        }
        Ok(self.received.drain(..length).collect())
    }

    fn chunks(&mut self) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line_end = loop {
                if let Some(at) = find(&self.received, b"\r\n") {
                    break at;
                }
                ensure!(self.read_more()?, "the body ended early");
            };
            let line: Vec<u8> = self.take(line_end + 2)?;
            let size = std::str::from_utf8(&line)?.trim().split(';').next().unwrap_or("");
            let size = usize::from_str_radix(size, 16).context("a chunk's size")?;
            body.extend(self.take(size)?);
            self.take(2)?;
            if size == 0 {
                return Ok(body);
            }
        }
    }

    fn read_more(&mut self) -> Result<bool> {
        let mut chunk = [0; 64 << 10];
        match self.stream.read(&mut chunk) {
            Ok(0) => Ok(false),
            Ok(length) => {
                self.received.extend_from_slice(&chunk[..length]);
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(false),
            Err(error) if is_timeout(&error) => bail!("no answer within {PATIENCE:?}"),
            Err(error) => Err(error.into()),
        }
    }
}

impl Response {
    fn parse_head(head: &str, exact: bool) -> Result<Self> {
        let mut lines = head.split("\r\n");
        let status_line = lines.next().unwrap_or("");
        let status = status_line.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5));
        let status = status.with_context(|| format!("status line {status_line:?}"))?.parse()?;
        let headers = lines.filter_map(|line| line.split_once(':'));
        let headers =
            headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
        Ok(Self { status, headers, body: Vec::new(), exact })
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> Result<&str> {
        Ok(std::str::from_utf8(&self.body)?)
    }

    pub(crate) fn expect_status(&self, status: u16) -> Result<()> {
        ensure!(self.status == status, "expected status {status}, got {} {}", self.status, shown(&self.body));
        Ok(())
    }

    pub(crate) fn expect_body(&self, body: impl AsRef<[u8]>) -> Result<()> {
        let body = body.as_ref();
        ensure!(self.body == body, "expected body {}, got {}", shown(body), shown(&self.body));
        Ok(())
    }

    /// A refusal with the reference server's code and text. No specification fixes these, so other servers are
    /// held to the status alone.
    pub(crate) fn expect_refusal(&self, code: u8, message: &str) -> Result<()> {
        self.expect_status(400)?;
        if !self.exact {
            return Ok(());
        }
        let body: serde_json::Value = serde_json::from_slice(&self.body)
            .with_context(|| format!("the refusal is not JSON: {}", shown(&self.body)))?;
        let expected = serde_json::json!({ "code": code, "message": message });
        ensure!(body == expected, "expected {expected}, got {body}");
        Ok(())
    }
}

pub(crate) fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

pub(crate) fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
