//! Whom to connect to and how.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

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
    /// Headers for the request beside those a WebSocket upgrade needs.
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
}

/// How bytes travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Transport {
    /// WebSocket from the start.
    #[default]
    WebSocket,
}

/// Deadlines; each bounds one wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// A whole connect, all stages together.
    pub connect: Duration,
    /// Any one stage of it.
    pub stage: Duration,
    /// One send that the socket would not take at once.
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
    /// namespace and its query goes with the request. `http`, `https`, `ws` and `wss` are known.
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
            headers: Vec::new(),
            auth: None,
            namespace: namespace.into(),
            timeouts: Timeouts::default(),
            local_addr: None,
            addresses: Vec::new(),
            max_payload: DEFAULT_MAX_PAYLOAD,
            tls: None,
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
