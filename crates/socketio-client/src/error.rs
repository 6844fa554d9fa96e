//! What can go wrong, and where: a connect fails in one [`Stage`] for one [`Cause`]; an established
//! connection ends for one reason, [`Closed`].

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

/// The steps of a connect, in the order in which they are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Turning the host name into addresses.
    Dns,
    /// The TCP handshake.
    Tcp,
    /// The TLS handshake.
    Tls,
    /// The first HTTP poll, which the Engine.IO `open` packet answers.
    Polling,
    /// The HTTP request that becomes a WebSocket.
    Upgrade,
    /// Waiting for the Engine.IO `open` packet on a WebSocket.
    Handshake,
    /// Asking a WebSocket, beside the polls, whether it carries (`2probe` and its answer).
    Probe,
    /// The Socket.IO CONNECT and its reply.
    Namespace,
}

impl Stage {
    /// All stages, in order.
    pub const ALL: [Stage; 8] = [
        Stage::Dns,
        Stage::Tcp,
        Stage::Tls,
        Stage::Polling,
        Stage::Upgrade,
        Stage::Handshake,
        Stage::Probe,
        Stage::Namespace,
    ];

    /// The lower-case name used in messages and reports.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Dns => "dns",
            Stage::Tcp => "tcp",
            Stage::Tls => "tls",
            Stage::Polling => "polling",
            Stage::Upgrade => "upgrade",
            Stage::Handshake => "handshake",
            Stage::Probe => "probe",
            Stage::Namespace => "namespace",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How long each stage of a connect took; zero for a stage that was not needed or not reached.
/// In a failed connect the stage that failed holds the time until it failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stages {
    /// See [`Stage::Dns`].
    pub dns: Duration,
    /// See [`Stage::Tcp`]; all addresses that were tried.
    pub tcp: Duration,
    /// See [`Stage::Tls`].
    pub tls: Duration,
    /// See [`Stage::Polling`].
    pub polling: Duration,
    /// See [`Stage::Upgrade`].
    pub upgrade: Duration,
    /// See [`Stage::Handshake`].
    pub handshake: Duration,
    /// See [`Stage::Probe`].
    pub probe: Duration,
    /// See [`Stage::Namespace`].
    pub namespace: Duration,
}

impl Stages {
    /// The time of one stage.
    pub fn get(&self, stage: Stage) -> Duration {
        match stage {
            Stage::Dns => self.dns,
            Stage::Tcp => self.tcp,
            Stage::Tls => self.tls,
            Stage::Polling => self.polling,
            Stage::Upgrade => self.upgrade,
            Stage::Handshake => self.handshake,
            Stage::Probe => self.probe,
            Stage::Namespace => self.namespace,
        }
    }

    /// All stages together.
    pub fn total(&self) -> Duration {
        Stage::ALL.iter().map(|&stage| self.get(stage)).sum()
    }

    pub(crate) fn set(&mut self, stage: Stage, took: Duration) {
        *match stage {
            Stage::Dns => &mut self.dns,
            Stage::Tcp => &mut self.tcp,
            Stage::Tls => &mut self.tls,
            Stage::Polling => &mut self.polling,
            Stage::Upgrade => &mut self.upgrade,
            Stage::Handshake => &mut self.handshake,
            Stage::Probe => &mut self.probe,
            Stage::Namespace => &mut self.namespace,
        } = took;
    }
}

/// A connect that did not succeed.
///
/// `Display` gives one line, `upgrade: 503 Service Unavailable`; [`ConnectError::cause_text`] is the
/// part that is fit for grouping.
#[derive(Debug)]
pub struct ConnectError(Box<Failure>);

#[derive(Debug)]
struct Failure {
    stage: Stage,
    cause: Cause,
    stages: Stages,
    endpoint: String,
}

/// Why a connect failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum Cause {
    /// The operating system said so (refused, reset, unreachable, name not found).
    Io(io::Error),
    /// The stage did not end in the time it was given.
    Timeout(Duration),
    /// The peer ended the connection in the middle of the stage.
    Closed(Closed),
    /// An HTTP answer other than `101 Switching Protocols`, or than 200 while polling; `body` is its first part.
    Status {
        /// The status code.
        code: u16,
        /// The reason phrase, as sent; may be empty.
        reason: String,
        /// At most 512 bytes of the body, invalid UTF-8 replaced.
        body: String,
    },
    /// The answer was not what the protocol asks for at this place.
    Protocol(String),
    /// The server answered CONNECT with CONNECT_ERROR (Engine.IO 3: an ERROR packet).
    Refused {
        /// Its `message`, or the whole payload where there is none.
        message: String,
        /// The raw JSON of the payload.
        payload: String,
    },
    /// TLS said no: certificate, name, version.
    Tls(String),
    /// The options cannot be used (a header with a line break, a missing TLS configuration, ...).
    Options(String),
}

impl ConnectError {
    pub(crate) fn new(stage: Stage, cause: Cause, stages: Stages, endpoint: String) -> Self {
        Self(Box::new(Failure { stage, cause, stages, endpoint }))
    }

    pub(crate) fn into_cause(self) -> Cause {
        self.0.cause
    }

    /// Where it failed.
    pub fn stage(&self) -> Stage {
        self.0.stage
    }

    /// Why it failed.
    pub fn cause(&self) -> &Cause {
        &self.0.cause
    }

    /// How long each stage took until then.
    pub fn stages(&self) -> &Stages {
        &self.0.stages
    }

    /// Whom it was addressed to: the address where one was known, else `host:port`.
    pub fn endpoint(&self) -> &str {
        &self.0.endpoint
    }

    /// The HTTP status, where the server gave one.
    pub fn status(&self) -> Option<u16> {
        match self.0.cause {
            Cause::Status { code, .. } => Some(code),
            _ => None,
        }
    }

    /// The kind of the I/O error, where there was one. A timeout counts as one.
    pub fn io_kind(&self) -> Option<io::ErrorKind> {
        match &self.0.cause {
            Cause::Io(error) => Some(error.kind()),
            Cause::Closed(closed) => closed.io_kind(),
            Cause::Timeout(_) => Some(io::ErrorKind::TimedOut),
            _ => None,
        }
    }

    /// What the server sent along: the start of an HTTP body, or the payload of a CONNECT_ERROR.
    pub fn sample(&self) -> Option<&str> {
        match &self.0.cause {
            Cause::Status { body, .. } if !body.is_empty() => Some(body),
            Cause::Refused { payload, .. } if !payload.is_empty() => Some(payload),
            _ => None,
        }
    }

    /// The cause in a few words, the same for the same fault: `ECONNREFUSED`, `timeout`,
    /// `503 Service Unavailable`, `refused: not allowed`.
    pub fn cause_text(&self) -> String {
        self.0.cause.to_string()
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.stage, self.0.cause)
    }
}

impl Error for ConnectError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.0.cause {
            Cause::Io(error) => Some(error),
            Cause::Closed(closed) => Some(closed),
            _ => None,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Io(error) => f.write_str(&io_text(error)),
            Cause::Timeout(_) => f.write_str("timeout"),
            Cause::Closed(closed) => closed.fmt(f),
            Cause::Status { code, reason, .. } if reason.is_empty() => write!(f, "{code}"),
            Cause::Status { code, reason, .. } => write!(f, "{code} {reason}"),
            Cause::Protocol(text) => f.write_str(text),
            Cause::Refused { message, .. } => write!(f, "refused: {message}"),
            Cause::Tls(text) => f.write_str(text),
            Cause::Options(text) => write!(f, "options: {text}"),
        }
    }
}

impl From<Closed> for Cause {
    /// A protocol fault of the peer keeps its own name, and an HTTP answer its status.
    fn from(closed: Closed) -> Self {
        match closed {
            Closed::Protocol(text) => Cause::Protocol(text),
            Closed::Http { code, reason, body } | Closed::Status { code, reason, body, .. } => {
                Cause::Status { code, reason, body }
            }
            other => Cause::Closed(other),
        }
    }
}

/// Why an established connection is no longer one. Every later call on it answers the same.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Closed {
    /// The server sent a WebSocket close frame; `code` is `None` when the frame was empty.
    Server {
        /// The close code, such as 1000, 1012 or 4008.
        code: Option<u16>,
        /// The text in the frame.
        reason: String,
    },
    /// The server sent an Engine.IO `close` packet.
    Engine,
    /// In the place of a frame came an HTTP answer. Engine.IO servers do that when they refuse a revision
    /// on a WebSocket that is open already.
    Http {
        /// The status code.
        code: u16,
        /// The reason phrase, as sent; may be empty.
        reason: String,
        /// At most 512 bytes of the body, invalid UTF-8 replaced.
        body: String,
    },
    /// A poll or a post was answered with an error status, such as 400 and `{"code":1}`: the server knows
    /// of no such session (any more).
    Status {
        /// Which of the two.
        request: Method,
        /// The status code.
        code: u16,
        /// The reason phrase, as sent; may be empty.
        reason: String,
        /// At most 512 bytes of the body, invalid UTF-8 replaced.
        body: String,
    },
    /// The server ended the TCP stream without a close frame.
    Eof,
    /// Reading or writing failed.
    Transport {
        /// What kind of I/O error.
        kind: io::ErrorKind,
        /// The name of the error, such as `ECONNRESET`, else its text.
        text: String,
    },
    /// Nothing was heard for longer than the heartbeat allows.
    PingTimeout,
    /// The server sent something the protocol does not allow.
    Protocol(String),
    /// This side closed it.
    Local,
    /// This side closed it while polling, and the server had not answered the posts with its last packets: they may or
    /// may not have got there.
    Unsent {
        /// How many packets, the goodbye not counted.
        packets: u64,
        /// What the last post met with.
        text: String,
    },
}

/// The two requests of long polling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// GET: waits for what the server has to say.
    Poll,
    /// POST: brings what this side says.
    Post,
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Method::Poll => "poll",
            Method::Post => "post",
        })
    }
}

impl Closed {
    /// The kind of the I/O error, where that was the reason.
    pub fn io_kind(&self) -> Option<io::ErrorKind> {
        match self {
            Closed::Transport { kind, .. } => Some(*kind),
            Closed::Eof => Some(io::ErrorKind::UnexpectedEof),
            Closed::PingTimeout => Some(io::ErrorKind::TimedOut),
            _ => None,
        }
    }

    /// What the server sent along: the start of the body of an HTTP answer.
    pub fn sample(&self) -> Option<&str> {
        match self {
            Closed::Http { body, .. } | Closed::Status { body, .. } if !body.is_empty() => Some(body),
            _ => None,
        }
    }

    pub(crate) fn from_io(error: &io::Error) -> Self {
        Closed::Transport { kind: error.kind(), text: io_text(error) }
    }

    /// What ends a session that is polling, from what became of one request.
    pub(crate) fn of_request(request: Method, cause: Cause) -> Self {
        match cause {
            Cause::Io(error) => {
                Closed::Transport { kind: error.kind(), text: format!("{request}: {}", io_text(&error)) }
            }
            Cause::Timeout(_) => {
                Closed::Transport { kind: io::ErrorKind::TimedOut, text: format!("{request}: timeout") }
            }
            Cause::Closed(closed) => closed,
            Cause::Status { code, reason, body } => Closed::Status { request, code, reason, body },
            Cause::Protocol(text) => Closed::Protocol(text),
            other => Closed::Transport { kind: io::ErrorKind::Other, text: format!("{request}: {other}") },
        }
    }
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Closed::Server { code: None, .. } => f.write_str("closed by the server without a code"),
            Closed::Server { code: Some(code), reason } if reason.is_empty() => {
                write!(f, "closed by the server: {code}")
            }
            Closed::Server { code: Some(code), reason } => write!(f, "closed by the server: {code} {reason}"),
            Closed::Http { code, reason, .. } => {
                write!(f, "an HTTP answer instead of a frame: {code} {reason}")
            }
            Closed::Status { request, code, reason, body } => {
                write!(f, "{request}: {code}")?;
                if !reason.is_empty() {
                    write!(f, " {reason}")?;
                }
                // What Engine.IO servers say, and nothing of what a proxy's page may hold.
                match serde_json::from_str::<serde_json::Value>(body) {
                    Ok(said) if said["message"].is_string() => {
                        write!(f, " ({})", said["message"].as_str().unwrap_or_default())
                    }
                    _ => Ok(()),
                }
            }
            Closed::Engine => f.write_str("closed by the server's engine"),
            Closed::Eof => f.write_str("connection ended without a close frame"),
            Closed::Transport { text, .. } => f.write_str(text),
            Closed::PingTimeout => f.write_str("ping timeout"),
            Closed::Protocol(text) => f.write_str(text),
            Closed::Local => f.write_str("closed by the client"),
            Closed::Unsent { text, .. } => write!(f, "closed by the client with posts unanswered: {text}"),
        }
    }
}

impl Error for Closed {}

/// `ECONNRESET` and the like for what operators know by that name, else the error's own text.
pub fn io_text(error: &io::Error) -> String {
    let name = match error.raw_os_error() {
        Some(libc::ECONNREFUSED) => "ECONNREFUSED",
        Some(libc::ECONNRESET) => "ECONNRESET",
        Some(libc::ECONNABORTED) => "ECONNABORTED",
        Some(libc::EPIPE) => "EPIPE",
        Some(libc::ETIMEDOUT) => "ETIMEDOUT",
        Some(libc::EHOSTUNREACH) => "EHOSTUNREACH",
        Some(libc::ENETUNREACH) => "ENETUNREACH",
        Some(libc::EADDRNOTAVAIL) => "EADDRNOTAVAIL",
        Some(libc::EADDRINUSE) => "EADDRINUSE",
        Some(libc::EMFILE) => "EMFILE",
        Some(libc::ENFILE) => "ENFILE",
        Some(libc::EACCES) => "EACCES",
        Some(libc::EPERM) => "EPERM",
        _ => return error.to_string(),
    };
    name.to_owned()
}
