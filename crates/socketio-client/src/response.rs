//! The answer to an HTTP/1.1 request, from bytes as they come and within limits.
//!
//! Public so that it can be fuzzed; nobody else is meant to call it.

/// Most bytes of a head, and most headers in it.
pub const MAX_HEAD: usize = 16 * 1024;
const MAX_HEADERS: usize = 100;
/// Longest line that begins a chunk, or ends the last one, its CRLF included.
const MAX_CHUNK_LINE: usize = 1024;

/// Status line and headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The status code.
    pub code: u16,
    /// The reason phrase, as sent; may be empty.
    pub reason: String,
    /// Names as sent; invalid UTF-8 in values is replaced.
    pub headers: Vec<(String, String)>,
    /// HTTP/1.0, which closes unless told otherwise.
    old: bool,
}

impl Head {
    /// The values of a header, in the order in which they came.
    pub fn fields<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let named = move |(field, value): &'a (String, String)| {
            field.eq_ignore_ascii_case(name).then_some(value.as_str())
        };
        self.headers.iter().filter_map(named)
    }

    /// Whether `token` is among the comma-separated ones of a header.
    pub fn has(&self, name: &str, token: &str) -> bool {
        let is = |part: &str| part.trim().eq_ignore_ascii_case(token);
        self.fields(name).any(|value| value.split(',').any(is))
    }

    /// How the body ends (RFC 9112 section 6.3).
    ///
    /// # Errors
    /// When the head contradicts itself, so that two readers could see two different ends.
    pub fn framing(&self) -> Result<Framing, String> {
        if matches!(self.code, 100..200 | 204 | 304) {
            return Ok(Framing::Length(0));
        }
        let mut codings = self.fields("transfer-encoding").peekable();
        if codings.peek().is_some() {
            if let Some(other) = codings.find(|coding| !coding.trim().eq_ignore_ascii_case("chunked")) {
                return Err(format!("an answer with the transfer encoding {other:?}"));
            }
            // Whoever stands in between may believe the other one.
            return match self.fields("content-length").next() {
                Some(_) => Err("an answer with a transfer encoding and a content length".to_owned()),
                None => Ok(Framing::Chunked(Chunk::Size)),
            };
        }
        let mut length = None;
        for field in self.fields("content-length").flat_map(|value| value.split(',')) {
            let field = field.trim();
            let digits = !field.is_empty() && field.bytes().all(|byte| byte.is_ascii_digit());
            match field.parse::<u64>() {
                Ok(number) if digits && length.is_none_or(|known| known == number) => length = Some(number),
                _ => return Err(format!("an answer with the content length {field:?}")),
            }
        }
        Ok(length.map_or(Framing::UntilClose, Framing::Length))
    }

    /// Whether the server means to take another request on this connection.
    fn keeps_alive(&self) -> bool {
        !self.has("connection", "close") && (!self.old || self.has("connection", "keep-alive"))
    }
}

/// How a body ends, and how far it has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// So many more bytes.
    Length(u64),
    /// In chunks, the last of them empty.
    Chunked(Chunk),
    /// With the connection.
    UntilClose,
}

/// What comes next in a chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// A line with a length.
    Size,
    /// So many more bytes of data.
    Data(u64),
    /// The line break after the data.
    End,
    /// Lines after the last chunk, up to an empty one.
    Trailer,
}

/// Reads a head from the front of `bytes`; `None` when it is not all there. Answers its length too.
///
/// # Errors
/// When it is no HTTP answer, or longer than [`MAX_HEAD`].
pub fn parse_head(bytes: &[u8]) -> Result<Option<(Head, usize)>, String> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    match response.parse(bytes) {
        Ok(httparse::Status::Complete(len)) if len <= MAX_HEAD => {
            let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
            let head = Head {
                code: response.code.unwrap_or_default(),
                reason: response.reason.unwrap_or_default().to_owned(),
                headers: response.headers.iter().map(|h| (h.name.to_owned(), text(h.value))).collect(),
                old: response.version == Some(0),
            };
            Ok(Some((head, len)))
        }
        Ok(httparse::Status::Partial) if bytes.len() < MAX_HEAD => Ok(None),
        Ok(_) => Err(format!("an answer's head of more than {MAX_HEAD} bytes")),
        Err(error) => {
            let start = bytes[..bytes.len().min(40)].escape_ascii();
            Err(format!("not an HTTP answer ({error}): \"{start}\""))
        }
    }
}

impl Framing {
    /// Whether nothing more belongs to the body.
    pub fn is_done(self) -> bool {
        self == Framing::Length(0)
    }

    /// Moves what belongs to the body from the front of `bytes` to `body`, which takes `max` bytes. Answers how
    /// many bytes of `bytes` were used; those left are the start of something that needs more, or follow the body.
    ///
    /// # Errors
    /// When the chunks are broken or the body exceeds `max`; `body` then holds its start.
    pub fn take(&mut self, bytes: &[u8], body: &mut Vec<u8>, max: usize) -> Result<usize, String> {
        let mut used = 0;
        loop {
            let rest = &bytes[used..];
            used += match self {
                Framing::Length(left) => {
                    let taken = take_data(left, rest, body, max)?;
                    return Ok(used + taken);
                }
                Framing::UntilClose => {
                    let mut left = rest.len() as u64;
                    return Ok(used + take_data(&mut left, rest, body, max)?);
                }
                Framing::Chunked(Chunk::Data(left)) => {
                    let taken = take_data(left, rest, body, max)?;
                    if *left > 0 {
                        return Ok(used + taken);
                    }
                    *self = Framing::Chunked(Chunk::End);
                    taken
                }
                Framing::Chunked(Chunk::Size) => match httparse::parse_chunk_size(rest) {
                    // The limit holds as well where the whole line came at once.
                    Ok(httparse::Status::Complete((line, len))) if line <= MAX_CHUNK_LINE => {
                        *self = Framing::Chunked(if len == 0 { Chunk::Trailer } else { Chunk::Data(len) });
                        line
                    }
                    Ok(httparse::Status::Partial) if rest.len() < MAX_CHUNK_LINE => return Ok(used),
                    _ => return Err("a chunk without a proper length".into()),
                },
                Framing::Chunked(Chunk::End) => match rest {
                    [b'\r', b'\n', ..] => {
                        *self = Framing::Chunked(Chunk::Size);
                        2
                    }
                    [] | [b'\r'] => return Ok(used),
                    _ => return Err("a chunk longer than its length".into()),
                },
                Framing::Chunked(Chunk::Trailer) => match line_len(rest) {
                    Some(line) => {
                        if line == 2 {
                            *self = Framing::Length(0);
                            return Ok(used + line);
                        }
                        line
                    }
                    None if rest.len() < MAX_CHUNK_LINE => return Ok(used),
                    None => return Err("a trailer without end".into()),
                },
            };
        }
    }
}

/// The length of the line at the front, its CRLF included.
fn line_len(bytes: &[u8]) -> Option<usize> {
    bytes.windows(2).take(MAX_CHUNK_LINE - 1).position(|pair| pair == b"\r\n").map(|at| at + 2)
}

fn take_data(left: &mut u64, bytes: &[u8], body: &mut Vec<u8>, max: usize) -> Result<usize, String> {
    let len = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
    let room = max.saturating_sub(body.len());
    body.extend_from_slice(&bytes[..len.min(room)]);
    if len > room {
        return Err(too_large(max));
    }
    *left -= len as u64;
    Ok(len)
}

fn too_large(max: usize) -> String {
    format!("an answer's body of more than {max} bytes")
}

/// A whole answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Status and headers.
    pub head: Head,
    /// Without its chunks' lengths.
    pub body: Vec<u8>,
    /// The connection takes another request.
    pub keep_alive: bool,
}

/// Takes an answer as it comes, piece by piece.
#[derive(Debug)]
pub struct Reader {
    max_body: usize,
    /// Came, and means nothing without what follows.
    held: Vec<u8>,
    head: Option<Box<(Head, Framing)>>,
    body: Vec<u8>,
}

impl Reader {
    /// `max_body` is the most bytes a body may have.
    pub fn new(max_body: usize) -> Self {
        Self { max_body, held: Vec::new(), head: None, body: Vec::new() }
    }

    /// Whether nothing has come yet.
    pub fn is_fresh(&self) -> bool {
        self.head.is_none() && self.held.is_empty()
    }

    /// Bytes held.
    pub fn buffered(&self) -> usize {
        self.held.len() + self.body.len()
    }

    /// The head, once it is complete.
    pub fn head(&self) -> Option<&Head> {
        self.head.as_deref().map(|(head, _)| head)
    }

    /// Takes `bytes`; answers the response when they complete it.
    ///
    /// # Errors
    /// When this is no HTTP answer, or exceeds its limits.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Option<Response>, String> {
        let mut joined = std::mem::take(&mut self.held);
        let mut bytes = if joined.is_empty() {
            bytes
        } else {
            joined.extend_from_slice(bytes);
            &joined[..]
        };
        while self.head.is_none() {
            let Some((head, len)) = parse_head(bytes)? else {
                self.held = bytes.to_vec();
                return Ok(None);
            };
            bytes = &bytes[len..];
            // An answer before the answer (100 Continue, 103 Early Hints). 101 ends HTTP.
            if !matches!(head.code, 100 | 102..200) {
                let framing = head.framing()?;
                // Nobody need wait for what will not be taken; of an error the start is wanted all the same.
                if matches!(framing, Framing::Length(len) if len > self.max_body as u64) && head.code == 200 {
                    return Err(too_large(self.max_body));
                }
                self.head = Some(Box::new((head, framing)));
            }
        }
        let (_, framing) = self.head.as_deref_mut().expect("the loop above ends with it");
        let used = framing.take(bytes, &mut self.body, self.max_body)?;
        if !framing.is_done() {
            self.held = bytes[used..].to_vec();
            return Ok(None);
        }
        // What follows an answer nobody asked for belongs to no request of ours.
        let keep_alive = used == bytes.len();
        Ok(self.finish(keep_alive))
    }

    /// The connection has ended: `None` when the answer has not.
    pub fn end(&mut self) -> Option<Response> {
        let until_close = matches!(self.head.as_deref(), Some((_, Framing::UntilClose)));
        if until_close { self.finish(false) } else { None }
    }

    /// From now on the body may have at most `max` bytes, of which some have come.
    pub fn limit(&mut self, max: usize) {
        self.max_body = max;
    }

    /// What has come of the body.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    fn finish(&mut self, keep_alive: bool) -> Option<Response> {
        let (head, _) = *self.head.take()?;
        let keep_alive = keep_alive && head.keeps_alive();
        Some(Response { head, body: std::mem::take(&mut self.body), keep_alive })
    }
}

/// Reads one whole answer from `bytes`, after which the connection ends: what the fuzz target calls.
///
/// # Errors
/// As [`Reader::feed`].
pub fn parse(bytes: &[u8], max_body: usize) -> Result<Option<Response>, String> {
    let mut reader = Reader::new(max_body);
    Ok(reader.feed(bytes)?.or_else(|| reader.end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 20;

    /// The same whole, byte by byte and cut in two anywhere.
    fn read(bytes: &str) -> Result<Option<(u16, String, bool)>, String> {
        let seen = |outcome: Result<Option<Response>, String>| {
            outcome.map(|response| {
                response.map(|r| (r.head.code, String::from_utf8_lossy(&r.body).into_owned(), r.keep_alive))
            })
        };
        let whole = seen(parse(bytes.as_bytes(), LIMIT));
        for cut in 0..bytes.len() {
            let mut reader = Reader::new(LIMIT);
            let (front, back) = bytes.as_bytes().split_at(cut);
            let outcome = reader.feed(front).and_then(|first| match first {
                // Only what follows an answer is cut off, and a connection with more on it is not kept.
                Some(done) => Ok(Some(Response { keep_alive: done.keep_alive && back.is_empty(), ..done })),
                None => reader.feed(back),
            });
            let outcome = outcome.map(|response| response.or_else(|| reader.end()));
            assert_eq!(seen(outcome), whole, "{bytes:?} cut at {cut}");
        }
        whole
    }

    #[test]
    fn answers_end_where_they_say() {
        let ok = |code, body: &str, keep| Ok(Some((code, body.to_owned(), keep)));
        let rows = [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", ok(200, "hello", true)),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello", ok(200, "hello", true)),
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhello", ok(200, "he", false)),
            ("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello", Ok(None)),
            ("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", ok(200, "ok", false)),
            ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", ok(200, "ok", false)),
            ("HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nok", ok(200, "ok", true)),
            ("HTTP/1.1 502 Bad\r\n\r\nuntil the end", ok(502, "until the end", false)),
            ("HTTP/1.1 204 \r\n\r\n", ok(204, "", true)),
            ("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", ok(304, "", true)),
            (
                "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
                ok(200, "x", true),
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n",
                ok(200, "abcde", true),
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n1\r\na\r\n0\r\nTrailer: x\r\n\r\n",
                ok(200, "a", true),
            ),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", Ok(None)),
            ("HTTP/1.1 200 OK\r\n", Ok(None)),
            ("", Ok(None)),
        ];
        for (bytes, expected) in rows {
            assert_eq!(read(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn answers_that_lie_are_refused() {
        let rows = [
            ("HTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\n", "an answer's body of more than 20 bytes"),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
                "an answer with the content length \"99999999999999999999\"",
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
                "an answer with the content length \"2\"",
            ),
            ("HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\nx", "an answer with the content length \"+1\""),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
                "an answer with the transfer encoding \"gzip, chunked\"",
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n1\r\na\r\n0\r\n\r\n",
                "an answer with a transfer encoding and a content length",
            ),
            ("HTTP/1.1 200 OK\r\n\r\nmore than twenty bytes", "an answer's body of more than 20 bytes"),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n0123456789abcdefghijk",
                "an answer's body of more than 20 bytes",
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n0123456789abcdef\r\n5\r\nghijk",
                "an answer's body of more than 20 bytes",
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc",
                "a chunk longer than its length",
            ),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", "a chunk without a proper length"),
        ];
        for (bytes, expected) in rows {
            assert_eq!(parse(bytes.as_bytes(), LIMIT), Err(expected.to_owned()), "{bytes:?}");
        }
        let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(MAX_HEAD));
        assert_eq!(
            parse(long.as_bytes(), LIMIT),
            Err("an answer's head of more than 16384 bytes".to_owned())
        );
        assert!(parse(b"SSH-2.0\r\n", LIMIT).unwrap_err().starts_with("not an HTTP answer"));
    }
}
