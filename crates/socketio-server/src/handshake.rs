//! The HTTP request that opened a session: its query and header fields, as the application may ask for them.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;

/// The HTTP request that opened a session, kept in one piece of memory.
pub struct Handshake {
    peer: SocketAddr,
    query_len: u16,
    /// The query, then for each header field: length of the name (1 byte), name, length of the value
    /// (2 bytes, big-endian), value.
    head: Box<[u8]>,
}

impl Handshake {
    /// Public so that it can be fuzzed; a server makes its own.
    #[doc(hidden)]
    pub fn new(peer: SocketAddr, parts: &http::request::Parts) -> Self {
        let query = parts.uri.query().unwrap_or("");
        let query = &query[..query.floor_char_boundary(usize::from(u16::MAX))];
        let size: usize =
            parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 3).sum();
        let mut head = Vec::with_capacity(query.len() + size);
        head.extend_from_slice(query.as_bytes());
        for (name, value) in &parts.headers {
            // Longer ones do not pass the limits of the HTTP reader, or are of no use to anybody.
            let (Ok(name_len), Ok(value_len)) =
                (u8::try_from(name.as_str().len()), u16::try_from(value.len()))
            else {
                continue;
            };
            head.push(name_len);
            head.extend_from_slice(name.as_str().as_bytes());
            head.extend_from_slice(&value_len.to_be_bytes());
            head.extend_from_slice(value.as_bytes());
        }
        Self { peer, query_len: query.len() as u16, head: head.into() }
    }

    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The raw query, percent-encoded: `EIO=4&transport=websocket&token=x`.
    pub fn query(&self) -> &str {
        std::str::from_utf8(&self.head[..self.query_len.into()]).unwrap_or("")
    }

    /// The first value of this name in the query, decoded; `None` also when it is not UTF-8.
    pub fn query_value(&self, name: &str) -> Option<Cow<'_, str>> {
        query_value(self.query(), name)
    }

    /// The first header field of this name (any case), if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers()
            .find(|(field, _)| field.eq_ignore_ascii_case(name))
            .and_then(|(_, value)| std::str::from_utf8(value).ok())
    }

    /// All header fields in their order, names in lower case.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let mut rest = &self.head[self.query_len.into()..];
        std::iter::from_fn(move || {
            let (&name_len, after) = rest.split_first()?;
            let (name, after) = after.split_at_checked(name_len.into())?;
            let (value_len, after) = after.split_first_chunk::<2>()?;
            let (value, after) = after.split_at_checked(u16::from_be_bytes(*value_len).into())?;
            rest = after;
            Some((std::str::from_utf8(name).unwrap_or(""), value))
        })
    }
}

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither query nor headers: tokens stand in them.
        f.debug_struct("Handshake").field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// The first value of `name` in a query string, percent-decoded, `+` read as a space.
pub(crate) fn query_value<'q>(query: &'q str, name: &str) -> Option<Cow<'q, str>> {
    let raw = query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then_some(value)
    })?;
    if !raw.contains(['%', '+']) {
        return Some(Cow::Borrowed(raw));
    }
    let bytes = raw.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = |index: usize| bytes.get(index).and_then(|byte| char::from(*byte).to_digit(16));
        match (bytes[at], hex(at + 1), hex(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high << 4 | low) as u8);
                at += 3;
                continue;
            }
            (b'+', ..) => decoded.push(b' '),
            (byte, ..) => decoded.push(byte),
        }
        at += 1;
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_values_are_decoded() {
        let rows: &[(&str, &str, Option<&str>)] = &[
            ("EIO=4&transport=websocket", "transport", Some("websocket")),
            ("EIO=4&transport=websocket", "EIO", Some("4")),
            ("EIO=4", "sid", None),
            ("sid", "sid", Some("")),
            ("a=%ED%95%9C+b", "a", Some("한 b")),
            ("a=%zz%2", "a", Some("%zz%2")),
            ("a=%ff", "a", None),
            ("a=1&a=2", "a", Some("1")),
        ];
        for (query, name, expected) in rows {
            assert_eq!(query_value(query, name).as_deref(), *expected, "{name} in {query}");
        }
    }

    #[test]
    fn a_handshake_gives_back_what_the_request_said() {
        let (parts, ()) = http::Request::get("/socket.io/?EIO=4&token=a%20b")
            .header("Host", "example.org")
            .header("X-Empty", "")
            .body(())
            .unwrap()
            .into_parts();
        let handshake = Handshake::new(([127, 0, 0, 1], 5).into(), &parts);
        assert_eq!(handshake.query(), "EIO=4&token=a%20b");
        assert_eq!(handshake.query_value("token").as_deref(), Some("a b"));
        assert_eq!(handshake.header("host"), Some("example.org"));
        assert_eq!(handshake.header("x-empty"), Some(""));
        assert_eq!(handshake.header("cookie"), None);
        assert_eq!(handshake.headers().count(), 2);
    }
}
