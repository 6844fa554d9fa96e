//! Whom to connect to and how.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use socketio_wire::engineio::Revision;
use url::{Host, Url};

/// More than servers send in one message, less than hurts when one lies about its length.
pub(crate) const DEFAULT_MAX_PAYLOAD: usize = 16 << 20;

/// Everything one connect needs. Cheap to clone beside a handshake; made once, used for many.
#[derive(Clone, Debug)]
pub struct Options {
    /// The server.
    pub endpoint: Endpoint,
    /// The HTTP path of the engine; `/socket.io/` unless told.
    pub path: String,
    /// Which Engine.IO protocol to speak; 4 unless told. See [`crate::detect_revision`].
    pub revision: Revision,
    /// How bytes travel.
    pub transport: Transport,
    /// Pairs for the query of the request (and, Engine.IO 3, of a namespace CONNECT), not yet encoded.
    pub query: Vec<(String, String)>,
    /// Headers for every request beside those it needs.
    pub headers: Vec<(String, String)>,
    /// Raw JSON of an object sent with CONNECT. Engine.IO 3 has no such thing and ignores it.
    pub auth: Option<String>,
    /// The namespace to connect first; `/` unless told.
    pub namespace: String,
    /// How long to wait for what.
    pub timeouts: Timeouts,
    /// The local address to connect from; the port is left to the kernel until it knows both ends.
    pub local_addr: Option<IpAddr>,
    /// Addresses to use instead of asking DNS; tried in order.
    pub addresses: Vec<SocketAddr>,
    /// The largest message accepted, in bytes, and the most for all attachments of one packet.
    pub max_payload: usize,
    /// For `https` and `wss`; see [`crate::tls`].
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// Counts, for all connections made with these options, the server's pings (Engine.IO 3: its answers to ours) that
    /// came later than its own `pingInterval` and `pingTimeout` allow while other packets kept the connection alive.
    pub late_heartbeats: Option<Arc<AtomicU64>>,
}

/// How bytes travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Transport {
    /// WebSocket from the start.
    #[default]
    WebSocket,
    /// HTTP long polling to the end.
    Polling,
    /// As the official clients do unless told otherwise: opens by polling, and changes to WebSocket when the
    /// server offers it and a probe gets through, else stays with polling.
    PollingThenWebSocket,
}

/// Deadlines; each bounds one wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// A whole connect, all stages together.
    pub connect: Duration,
    /// Any one stage of it.
    pub stage: Duration,
    /// One send that the socket would not take at once; while polling, one post and its answer.
    pub send: Duration,
    /// The server's part of a close.
    pub close: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(20),
            stage: Duration::from_secs(10),
            send: Duration::from_secs(10),
            close: Duration::from_secs(1),
        }
    }
}

/// Scheme, host and port of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub(crate) secure: bool,
    pub(crate) host: Host<String>,
    pub(crate) port: u16,
    /// Host and, unless it is the scheme's own, port: the `Host` header.
    pub(crate) authority: String,
}

impl Endpoint {
    /// True for `https` and `wss`.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// The host without brackets.
    pub fn host(&self) -> String {
        match &self.host {
            Host::Domain(name) => name.clone(),
            Host::Ipv4(ip) => ip.to_string(),
            Host::Ipv6(ip) => ip.to_string(),
        }
    }

    /// The port, the scheme's own where the URL names none.
    pub fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn of(url: &Url, text: &str) -> Result<Self, InvalidUrl> {
        let secure = match url.scheme() {
            "http" | "ws" => false,
            "https" | "wss" => true,
            other => {
                return Err(InvalidUrl::new(text, format!("scheme {other:?} is not http, https, ws or wss")));
            }
        };
        let host = match url.host() {
            Some(host) => host.to_owned(),
            None => return Err(InvalidUrl::new(text, "it has no host".into())),
        };
        let default = if secure { 443 } else { 80 };
        let port = url.port().unwrap_or(default);
        let authority = if port == default { host.to_string() } else { format!("{host}:{port}") };
        Ok(Self { secure, host, port, authority })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl Options {
    /// Defaults for a URL read as the official clients read it: its path, unless `/`, is the
    /// namespace, its query goes with the request, and `user:password@` becomes an `Authorization` header.
    ///
    /// # Errors
    /// When it is no URL, its scheme is none of `http`, `https`, `ws` and `wss`, or it has no host.
    pub fn new(url: &str) -> Result<Self, InvalidUrl> {
        let parsed = parse(url)?;
        let endpoint = Endpoint::of(&parsed, url)?;
        let query = parsed.query_pairs().map(|(key, value)| (key.into_owned(), value.into_owned())).collect();
        let namespace = if parsed.path().is_empty() { "/" } else { parsed.path() };
        Ok(Self {
            endpoint,
            path: "/socket.io/".into(),
            revision: Revision::V4,
            transport: Transport::WebSocket,
            query,
            headers: authorization(&parsed).into_iter().collect(),
            auth: None,
            namespace: namespace.into(),
            timeouts: Timeouts::default(),
            local_addr: None,
            addresses: Vec::new(),
            max_payload: DEFAULT_MAX_PAYLOAD,
            tls: None,
            late_heartbeats: None,
        })
    }
}

impl Options {
    /// Path and query of a handshake request.
    pub(crate) fn target(&self, transport: &str, revision: Revision) -> String {
        let path = self.path.trim_matches('/');
        let mut target = String::with_capacity(96);
        // As the official clients do, one slash at each end whatever was given.
        for part in ["/", path, if path.is_empty() { "" } else { "/" }] {
            target.push_str(part);
        }
        for part in ["?EIO=", revision.as_query(), "&transport=", transport] {
            target.push_str(part);
        }
        if !self.query.is_empty() {
            target.push('&');
            target.push_str(&self.encoded_query());
        }
        target
    }

    /// The caller's part of the query, without `?`.
    pub(crate) fn encoded_query(&self) -> String {
        if self.query.is_empty() {
            return String::new();
        }
        url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&self.query).finish()
    }
}

/// The header for the user and password of a URL, if it has any.
pub(crate) fn authorization(url: &Url) -> Option<(String, String)> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    // The form decoder, kept from what only forms do.
    let decoded = |text: &str| {
        let text = text.replace('+', "%2B").replace('&', "%26").replace('=', "%3D");
        url::form_urlencoded::parse(text.as_bytes()).map(|(key, _)| key.into_owned()).collect::<String>()
    };
    let pair = format!("{}:{}", decoded(url.username()), decoded(url.password().unwrap_or_default()));
    Some(("Authorization".into(), format!("Basic {}", BASE64_STANDARD.encode(pair))))
}

pub(crate) fn parse(url: &str) -> Result<Url, InvalidUrl> {
    Url::parse(url).map_err(|error| InvalidUrl::new(url, error.to_string()))
}

/// A URL that names no server we can reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidUrl {
    url: String,
    why: String,
}

impl InvalidUrl {
    fn new(url: &str, why: String) -> Self {
        Self { url: url.into(), why }
    }
}

impl fmt::Display for InvalidUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a usable URL: {}", self.url, self.why)
    }
}

impl std::error::Error for InvalidUrl {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_read_as_the_official_clients_read_it() {
        let rows = [
            ("http://127.0.0.1:9013", "127.0.0.1:9013", "/", "/socket.io/?EIO=4&transport=websocket"),
            ("ws://Example.org", "example.org", "/", "/socket.io/?EIO=4&transport=websocket"),
            ("https://[::1]/chat", "[::1]", "/chat", "/socket.io/?EIO=4&transport=websocket"),
            ("wss://h:80/a/b?x=1&y=a b", "h:80", "/a/b", "/socket.io/?EIO=4&transport=websocket&x=1&y=a+b"),
        ];
        for (url, authority, namespace, target) in rows {
            let options = Options::new(url).unwrap();
            assert_eq!(options.endpoint.authority, authority, "{url}");
            assert_eq!(options.namespace, namespace, "{url}");
            assert_eq!(options.target("websocket", options.revision), target, "{url}");
        }
        assert_eq!(Options::new("wss://h").unwrap().endpoint.port(), 443);
        assert_eq!(Options::new("http://[::1]:81").unwrap().endpoint.host(), "::1");
    }

    #[test]
    fn a_path_has_a_slash_at_each_end() {
        for (path, start) in [("", "/?"), ("/", "/?"), ("ws", "/ws/?"), ("/a/b", "/a/b/?"), ("/a/", "/a/?")] {
            let options = Options { path: path.into(), ..Options::new("http://h").unwrap() };
            let target = options.target("polling", Revision::V3);
            assert_eq!(target, format!("{start}EIO=3&transport=polling"), "{path:?}");
        }
    }

    #[test]
    fn credentials_become_a_header() {
        let header = |url| Options::new(url).unwrap().headers.pop().map(|(_, value)| value);
        assert_eq!(header("http://h"), None);
        // "us+er:p&=:한"
        assert_eq!(header("http://us+er:p&=%3A%ED%95%9C@h").as_deref(), Some("Basic dXMrZXI6cCY9Ou2VnA=="));
    }
}
