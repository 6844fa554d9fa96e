//! The little HTTP/1.1 this client speaks: requests in one write, the upgrade to a WebSocket.

use std::io;
use std::time::Duration;

use socketio_wire::websocket::upgrade;
use tokio::time::timeout;

use crate::error::{Cause, Closed};
use crate::net::Stream;
use crate::response::{self, Response};

/// Most bytes of an unwanted answer's body that are kept as a sample, and the longest wait for them.
pub(crate) const SAMPLE: usize = 512;
const SAMPLE_WAIT: Duration = Duration::from_millis(500);

/// What every request has.
pub(crate) struct Head<'a> {
    pub(crate) authority: &'a str,
    /// Path and query, encoded.
    pub(crate) target: &'a str,
    pub(crate) headers: &'a [(String, String)],
}

impl Head<'_> {
    /// Appends the request line and the caller's headers. `reserved` names headers that are ours to set;
    /// the caller's are left out.
    pub(crate) fn encode(&self, method: &str, reserved: &[&str], out: &mut Vec<u8>) -> Result<(), Cause> {
        if !self.target.starts_with('/') || self.target.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
            return Err(Cause::Options(format!("{:?} is not a request target", self.target)));
        }
        put(out, &[method, " ", self.target, " HTTP/1.1\r\n"]);
        if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            put(out, &["Host: ", self.authority, "\r\n"]);
        }
        for (name, value) in self.headers {
            if name.is_empty() || !name.bytes().all(is_token) {
                return Err(Cause::Options(format!("{name:?} is not a header name")));
            }
            if value.bytes().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
                return Err(Cause::Options(format!(
                    "the header {name} has a line break or NUL in its value"
                )));
            }
            if !reserved.iter().any(|reserved| name.eq_ignore_ascii_case(reserved)) {
                put(out, &[name, ": ", value, "\r\n"]);
            }
        }
        Ok(())
    }
}

fn put(out: &mut Vec<u8>, parts: &[&str]) {
    for part in parts {
        out.extend_from_slice(part.as_bytes());
    }
}

/// RFC 9110 section 5.6.2.
pub(crate) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// A successful upgrade.
pub(crate) struct Switched {
    pub(crate) subprotocol: Option<String>,
    /// What came behind the answer already.
    pub(crate) rest: Vec<u8>,
}

/// Asks for the upgrade and checks the answer.
pub(crate) async fn upgrade(
    stream: &mut Stream,
    head: &Head<'_>,
    subprotocols: &[String],
) -> Result<Switched, Cause> {
    let key = upgrade::client_key(fastrand::u128(..).to_ne_bytes());
    let mut request = Vec::with_capacity(512);
    let reserved = [
        "upgrade",
        "connection",
        "sec-websocket-key",
        "sec-websocket-version",
        "sec-websocket-protocol",
        "sec-websocket-extensions",
    ];
    head.encode("GET", &reserved, &mut request)?;
    put(&mut request, &["Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"]);
    put(&mut request, &["Sec-WebSocket-Key: ", &key, "\r\n"]);
    if !subprotocols.is_empty() {
        if let Some(bad) = subprotocols.iter().find(|name| name.is_empty() || !name.bytes().all(is_token)) {
            return Err(Cause::Options(format!("{bad:?} is not a subprotocol name")));
        }
        put(&mut request, &["Sec-WebSocket-Protocol: ", &subprotocols.join(", "), "\r\n"]);
    }
    put(&mut request, &["\r\n"]);
    write_all(stream, &request).await?;

    let mut answer = request;
    answer.clear();
    let (status, len) = read_head(stream, &mut answer).await?;
    if status.code != 101 {
        let mut reader = response::Reader::new(SAMPLE);
        return Err(match reader.feed(&answer) {
            Ok(Some(whole)) => self::status(&whole.head, &whole.body),
            Ok(None) => unwanted(stream, reader).await,
            Err(_) => self::status(&status, reader.body()),
        });
    }
    answer.drain(..len);
    if !status.has("upgrade", "websocket") || !status.has("connection", "upgrade") {
        return Err(Cause::Protocol("101 without `Upgrade: websocket` and `Connection: Upgrade`".into()));
    }
    if !status.fields("sec-websocket-accept").any(|value| value == upgrade::accept_key(&key)) {
        return Err(Cause::Protocol("101 with a Sec-WebSocket-Accept that does not answer the key".into()));
    }
    if let Some(extensions) = status.fields("sec-websocket-extensions").next() {
        return Err(Cause::Protocol(format!("101 with extensions nobody asked for: {extensions}")));
    }
    let subprotocol = status.fields("sec-websocket-protocol").next().map(str::to_owned);
    if let Some(picked) = &subprotocol
        && !subprotocols.contains(picked)
    {
        return Err(Cause::Protocol(format!("101 with the subprotocol {picked:?}, which was not offered")));
    }
    Ok(Switched { subprotocol, rest: answer })
}

/// One request whose connection is then done with.
pub(crate) async fn exchange(
    stream: &mut Stream,
    method: &str,
    head: &Head<'_>,
    body: &[u8],
    max_body: usize,
) -> Result<Response, Cause> {
    let mut request = Vec::with_capacity(512);
    head.encode(method, &["connection", "content-length", "transfer-encoding"], &mut request)?;
    put(&mut request, &["Connection: close\r\n"]);
    if !body.is_empty() {
        put_body(&mut request, TEXT, body);
    } else {
        put(&mut request, &["\r\n"]);
    }
    write_all(stream, &request).await?;
    let mut reader = response::Reader::new(max_body);
    let mut bytes = request;
    loop {
        bytes.clear();
        let end = read_some(stream, &mut bytes).await? == 0;
        let answer = if end { reader.end() } else { reader.feed(&bytes).map_err(Cause::Protocol)? };
        match answer {
            Some(answer) => return Ok(answer),
            None if end => return Err(no_answer().into()),
            None => {}
        }
    }
}

/// How a text payload calls itself, as the official clients write it.
pub(crate) const TEXT: &str = "text/plain;charset=UTF-8";

/// The rest of a request that has a body.
pub(crate) fn put_body(request: &mut Vec<u8>, kind: &str, body: &[u8]) {
    put(request, &["Content-Type: ", kind, "\r\nContent-Length: ", &body.len().to_string(), "\r\n\r\n"]);
    request.extend_from_slice(body);
}

/// The connection ended where an answer was due.
pub(crate) fn no_answer() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "connection closed before an answer")
}

/// Reads until the head is complete; what came behind it stays in `answer` too.
async fn read_head(stream: &mut Stream, answer: &mut Vec<u8>) -> Result<(response::Head, usize), Cause> {
    loop {
        if read_some(stream, answer).await? == 0 {
            return Err(no_answer().into());
        }
        if let Some(read) = response::parse_head(answer).map_err(Cause::Protocol)? {
            return Ok(read);
        }
    }
}

/// Turns an answer that nobody wanted, of which `reader` has taken the start, into a cause with a sample of
/// its body.
pub(crate) async fn unwanted(stream: &mut Stream, mut reader: response::Reader) -> Cause {
    reader.limit(SAMPLE);
    // The status is what matters: a body that fails, dawdles or goes on is cut off.
    let rest = timeout(SAMPLE_WAIT, async {
        let mut bytes = Vec::new();
        while reader.body().len() < SAMPLE {
            bytes.clear();
            match read_some(stream, &mut bytes).await {
                Ok(0) | Err(_) => return reader.end(),
                Ok(_) => {}
            }
            match reader.feed(&bytes) {
                Ok(None) => {}
                Ok(answer) => return answer,
                Err(_) => return None,
            }
        }
        None
    });
    match rest.await {
        Ok(Some(answer)) => status(&answer.head, &answer.body),
        _ => match reader.head() {
            Some(head) => status(head, reader.body()),
            None => no_answer().into(),
        },
    }
}

/// An answer that nobody wanted, as a cause.
pub(crate) fn status(head: &response::Head, body: &[u8]) -> Cause {
    let body = String::from_utf8_lossy(&body[..body.len().min(SAMPLE)]).into_owned();
    Cause::Status { code: head.code, reason: head.reason.clone(), body }
}

/// The HTTP answer at the front of bytes that should have been frames, if that is what they are.
pub(crate) fn misplaced_answer(bytes: &[u8]) -> Option<Closed> {
    let (head, len) = response::parse_head(bytes).ok()??;
    let mut body = Vec::new();
    // As much as has come; an end that is missing changes nothing.
    let _ = head.framing().and_then(|mut framing| framing.take(&bytes[len..], &mut body, SAMPLE));
    let body = String::from_utf8_lossy(&body).into_owned();
    Some(Closed::Http { code: head.code, reason: head.reason, body })
}

async fn read_some(stream: &mut Stream, answer: &mut Vec<u8>) -> io::Result<usize> {
    answer.reserve(1024);
    std::future::poll_fn(|cx| stream.poll_read_more(cx, answer)).await
}

async fn write_all(stream: &mut Stream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = std::future::poll_fn(|cx| stream.poll_write(cx, bytes)).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = &bytes[written..];
    }
    std::future::poll_fn(|cx| stream.poll_flush(cx)).await
}
