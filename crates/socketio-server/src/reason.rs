//! Why a session ended, and which rule was broken.

use std::fmt;

use socketio_wire::websocket::close::CloseCode;
use socketio_wire::websocket::frame::FrameError;

/// Why a socket or its session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The client sent DISCONNECT for this namespace.
    ClientDisconnect,
    /// The application called [`Socket::disconnect`].
    ServerDisconnect,
    /// The client closed the session: an Engine.IO close packet (no code), or a WebSocket close with or
    /// without a code.
    ClientClose(Option<CloseCode>),
    /// The connection ended without a close.
    TransportClose,
    /// The operating system reported an error on the connection.
    TransportError(std::io::ErrorKind),
    /// No heartbeat in time.
    PingTimeout,
    /// No namespace was connected in time.
    ConnectTimeout,
    /// The client broke a rule of the protocol.
    Violation(Violation),
    /// The client reads too slowly: its outbox held too many bytes. Closed with 4008.
    OutboxBytes,
    /// The client reads too slowly: its outbox held a frame for too long. Closed with 4008.
    OutboxAge,
    /// The application called [`Socket::close`].
    ServerClose(CloseCode),
    /// The worker drained.
    Drain(CloseCode),
    /// A message the client had begun was not complete in time. Closed with 1008.
    InputTimeout,
    /// Unfinished messages held too much of the worker's memory, this client's most. Closed with 1013.
    InputBytes,
    /// Too many sessions had joined no namespace, this one for the longest time. Closed with 1013.
    TooManyNewcomers,
}

impl Reason {
    /// Names of the reasons, as metric labels.
    pub const KINDS: [&'static str; 15] = [
        "client_disconnect",
        "server_disconnect",
        "client_close",
        "transport_close",
        "transport_error",
        "ping_timeout",
        "connect_timeout",
        "violation",
        "outbox_bytes",
        "outbox_age",
        "server_close",
        "drain",
        "input_timeout",
        "input_bytes",
        "too_many_newcomers",
    ];

    /// This reason's name, one of [`Reason::KINDS`].
    pub fn kind(&self) -> &'static str {
        Self::KINDS[self.index()]
    }

    pub(crate) fn index(&self) -> usize {
        match self {
            Reason::ClientDisconnect => 0,
            Reason::ServerDisconnect => 1,
            Reason::ClientClose(_) => 2,
            Reason::TransportClose => 3,
            Reason::TransportError(_) => 4,
            Reason::PingTimeout => 5,
            Reason::ConnectTimeout => 6,
            Reason::Violation(_) => 7,
            Reason::OutboxBytes => 8,
            Reason::OutboxAge => 9,
            Reason::ServerClose(_) => 10,
            Reason::Drain(_) => 11,
            Reason::InputTimeout => 12,
            Reason::InputBytes => 13,
            Reason::TooManyNewcomers => 14,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Violation(violation) => write!(f, "violation: {violation}"),
            Reason::TransportError(kind) => write!(f, "transport_error: {kind}"),
            Reason::ClientClose(Some(code)) | Reason::ServerClose(code) | Reason::Drain(code) => {
                write!(f, "{} ({code})", self.kind())
            }
            other => f.write_str(other.kind()),
        }
    }
}

/// Which rule a client broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// WebSocket: closed with the error's own code, 1002, 1007 or 1009.
    Frame(FrameError),
    /// An Engine.IO packet that cannot be decoded.
    EngineIo(socketio_wire::Error),
    /// A Socket.IO packet that cannot be decoded, or attachments that do not fit it.
    SocketIo(socketio_wire::Error),
    /// A ping from a revision 4 client, or a pong from a revision 3 one.
    HeartbeatDirection,
    /// A packet for a namespace that is not connected.
    NotConnected,
    /// A CONNECT for a namespace that is connected, or for one too many.
    Connect,
    /// A packet only servers send.
    Direction,
    /// Two polls, or two posts, of one session at the same time.
    Overlap,
    /// A POST larger than the limit.
    TooLarge,
    /// One refused CONNECT too many.
    RefusedConnects,
}

impl Violation {
    pub(crate) fn close_code(&self) -> CloseCode {
        match self {
            Violation::Frame(error) => error.close_code(),
            Violation::TooLarge => CloseCode::TOO_LARGE,
            _ => CloseCode::POLICY,
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Violation::Frame(error) => error.fmt(f),
            Violation::EngineIo(error) | Violation::SocketIo(error) => error.fmt(f),
            Violation::HeartbeatDirection => f.write_str("heartbeat in the wrong direction"),
            Violation::NotConnected => f.write_str("packet for a namespace that is not connected"),
            Violation::Connect => f.write_str("namespace connected twice, or one too many"),
            Violation::Direction => f.write_str("packet that only servers send"),
            Violation::Overlap => f.write_str("two polls or two posts at the same time"),
            Violation::TooLarge => f.write_str("body larger than the limit"),
            Violation::RefusedConnects => f.write_str("too many refused namespaces"),
        }
    }
}

/// Why HTTP ended a connection or refused a request before anything of ours was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpFault {
    /// The head of a request did not come in time: 408, or nothing where nothing had come.
    HeadTimeout,
    /// A head with too many bytes or fields: 431; a target that is too long: 414.
    HeadTooLarge,
    /// Not HTTP, or ambiguous: 400.
    Malformed,
    /// HTTP/2 without being asked to: 505.
    Http2,
    /// The body of a request did not come in time, or answering it took too long: 408.
    BodyTimeout,
    /// The body of a POST is larger than the limit: 413.
    BodyTooLarge,
    /// The bodies of all requests under way hold too much memory, and this one is not small: 503.
    BodiesFull,
    /// An address has too many polling sessions: 429.
    TooManySessions,
    /// The client did not take its answer, or left the connection idle.
    Idle,
    /// Too many connections waited; this one longest.
    TooManyWaiting,
}

impl HttpFault {
    /// Names of the faults, as metric labels.
    pub const KINDS: [&'static str; 10] = [
        "head_timeout",
        "head_too_large",
        "malformed",
        "http2",
        "body_timeout",
        "body_too_large",
        "bodies_full",
        "too_many_sessions",
        "idle",
        "too_many_waiting",
    ];
}
