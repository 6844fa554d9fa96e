//! The little HTTP/1.1 a WebSocket client needs: one request in one write, one answer within limits.

use std::io;
use std::time::Duration;

use socketio_wire::websocket::upgrade;
use tokio::time::timeout;

use crate::error::{Cause, Closed};
use crate::net::Stream;

/// Most bytes of an answer's head, and most headers in it.
const MAX_HEAD: usize = 16 * 1024;
const MAX_HEADERS: usize = 100;
/// Most bytes of an unwanted answer's body that are kept as a sample, and the longest wait for them.
const SAMPLE: usize = 512;
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
    let status = read_head(stream, &mut answer).await?;
    if status.code != 101 {
        return Err(unwanted(stream, status, answer).await);
    }
    let has = |name, token: &str| {
        status.fields(name).any(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(token)))
    };
    if !has("upgrade", "websocket") || !has("connection", "upgrade") {
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
    answer.drain(..status.len);
    Ok(Switched { subprotocol, rest: answer })
}

/// An answer whose body was read to its end or to a limit.
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) reason: String,
    pub(crate) body: Vec<u8>,
}

/// One request whose connection is then done with.
pub(crate) async fn exchange(
    stream: &mut Stream,
    method: &str,
    head: &Head<'_>,
    body: &[u8],
    max_body: usize,
) -> Result<Answer, Cause> {
    let mut request = Vec::with_capacity(512);
    head.encode(method, &["connection", "content-length", "transfer-encoding"], &mut request)?;
    put(&mut request, &["Connection: close\r\n"]);
    if !body.is_empty() {
        put(&mut request, &["Content-Type: text/plain;charset=UTF-8\r\nContent-Length: "]);
        put(&mut request, &[&body.len().to_string(), "\r\n"]);
    }
    put(&mut request, &["\r\n"]);
    request.extend_from_slice(body);
    write_all(stream, &request).await?;
    let mut answer = Vec::new();
    let status = read_head(stream, &mut answer).await?;
    read_body(stream, &status, &mut answer, max_body).await?;
    let body = status.body(&answer, max_body);
    Ok(Answer { code: status.code, reason: status.reason, body })
}

/// The head of an answer.
struct Status {
    code: u16,
    reason: String,
    headers: Vec<(String, String)>,
    /// Its length in bytes.
    len: usize,
}

impl Status {
    fn of(response: &httparse::Response<'_, '_>, len: usize) -> Self {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        Self {
            code: response.code.unwrap_or_default(),
            reason: response.reason.unwrap_or_default().to_owned(),
            headers: response.headers.iter().map(|h| (h.name.to_owned(), text(h.value))).collect(),
            len,
        }
    }

    fn fields<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let named = move |(field, value): &'a (String, String)| {
            field.eq_ignore_ascii_case(name).then_some(value.as_str())
        };
        self.headers.iter().filter_map(named)
    }

    fn is_chunked(&self) -> bool {
        self.fields("transfer-encoding").any(|value| value.to_ascii_lowercase().contains("chunked"))
    }

    fn content_length(&self) -> Option<usize> {
        self.fields("content-length").next()?.trim().parse().ok()
    }

    /// What of the body is in `answer`, its chunks joined.
    fn body(&self, answer: &[u8], max: usize) -> Vec<u8> {
        let mut body = if self.is_chunked() {
            joined_chunks(&answer[self.len..]).0
        } else {
            answer[self.len..].to_vec()
        };
        body.truncate(self.content_length().unwrap_or(max).min(max));
        body
    }
}

/// Reads until the head is complete; what came behind it stays in `answer` too.
async fn read_head(stream: &mut Stream, answer: &mut Vec<u8>) -> Result<Status, Cause> {
    loop {
        if read_some(stream, answer).await? == 0 {
            let text = "connection closed before an answer";
            return Err(Cause::Io(io::Error::new(io::ErrorKind::UnexpectedEof, text)));
        }
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        match response.parse(answer) {
            Ok(httparse::Status::Complete(len)) => return Ok(Status::of(&response, len)),
            Ok(httparse::Status::Partial) if answer.len() < MAX_HEAD => {}
            Ok(httparse::Status::Partial) => {
                return Err(Cause::Protocol(format!("an answer's head of more than {MAX_HEAD} bytes")));
            }
            Err(error) => {
                let start = answer[..answer.len().min(40)].escape_ascii();
                return Err(Cause::Protocol(format!("not an HTTP answer ({error}): \"{start}\"")));
            }
        }
    }
}

/// Reads on until the body is complete, the connection ends or `max` bytes are there.
async fn read_body(
    stream: &mut Stream,
    status: &Status,
    answer: &mut Vec<u8>,
    max: usize,
) -> Result<(), Cause> {
    loop {
        let have = answer.len() - status.len;
        let complete = if status.is_chunked() {
            joined_chunks(&answer[status.len..]).1
        } else {
            status.content_length().is_some_and(|length| have >= length)
        };
        if complete || have >= max || read_some(stream, answer).await? == 0 {
            return Ok(());
        }
    }
}

/// Turns an answer that is no 101 into a cause with a sample of its body.
async fn unwanted(stream: &mut Stream, status: Status, mut answer: Vec<u8>) -> Cause {
    // The status is what matters: a body that fails or dawdles is cut off.
    let _ = timeout(SAMPLE_WAIT, read_body(stream, &status, &mut answer, SAMPLE)).await;
    let body = String::from_utf8_lossy(&status.body(&answer, SAMPLE)).into_owned();
    Cause::Status { code: status.code, reason: status.reason, body }
}

/// The HTTP answer at the front of bytes that should have been frames, if that is what they are.
pub(crate) fn misplaced_answer(bytes: &[u8]) -> Option<Closed> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let Ok(httparse::Status::Complete(len)) = response.parse(bytes) else { return None };
    let status = Status::of(&response, len);
    let body = String::from_utf8_lossy(&status.body(bytes, SAMPLE)).into_owned();
    Some(Closed::Http { code: status.code, reason: status.reason, body })
}

/// The data of whole and begun chunks, and whether the last chunk was among them.
fn joined_chunks(mut bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut joined = Vec::new();
    while let Ok(httparse::Status::Complete((start, len))) = httparse::parse_chunk_size(bytes) {
        if len == 0 {
            return (joined, true);
        }
        let rest = &bytes[start..];
        let len = usize::try_from(len).unwrap_or(usize::MAX).min(rest.len());
        joined.extend_from_slice(&rest[..len]);
        bytes = rest[len..].strip_prefix(b"\r\n").unwrap_or(&[]);
    }
    (joined, false)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_joined_as_far_as_they_came() {
        let rows: [(&[u8], &str, bool); 7] = [
            (b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n", "abcde", true),
            (b"3\r\nabc\r\n5\r\nde", "abcde", false),
            (b"3\r\nabc", "abc", false),
            (b"3\r\nabc\r\n", "abc", false),
            (b"3", "", false),
            (b"", "", false),
            (b"ffffffffffffffff\r\nx", "x", false),
        ];
        for (bytes, joined, complete) in rows {
            assert_eq!(joined_chunks(bytes), (joined.into(), complete), "{}", bytes.escape_ascii());
        }
    }
}
