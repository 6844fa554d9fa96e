//! Limits and times of a worker. Every limit has a default that suits a public server.

use std::time::Duration;

/// What a [`Worker`](crate::Worker) needs to know. Start from `Config::default()`.
#[derive(Clone, Debug)]
pub struct Config {
    /// Path of the Engine.IO endpoint, with leading and trailing slash. The same path without the trailing
    /// slash is served too; every other path goes to the fallback.
    pub path: String,
    /// What is spoken inside Engine.IO messages.
    pub mode: Mode,
    /// Which Engine.IO revisions are accepted; others get HTTP 400 with code 5.
    pub revisions: Revisions,
    /// Whether sessions may begin, and stay, with HTTP long polling; without it only WebSockets are served.
    pub polling: bool,
    /// How long a WebSocket that a polling session changes to may take from its opening to the last step.
    pub upgrade_timeout: Duration,
    /// Time between two heartbeats of one session.
    pub ping_interval: Duration,
    /// How long a heartbeat may stay unanswered.
    pub ping_timeout: Duration,
    /// Largest incoming message in bytes (a WebSocket message, all fragments together; the body of a POST). A
    /// larger one closes the session, with 1009 or HTTP 413. Attachments of one Socket.IO packet together obey it too.
    pub max_payload: usize,
    /// Most attachments one Socket.IO packet may announce.
    pub max_attachments: u32,
    /// Most namespaces one session may be connected to at a time.
    pub max_namespaces: usize,
    /// How many refused CONNECT packets a session may have sent; one more closes it with 1008.
    pub max_refused_connects: u32,
    /// How long a session may live without having connected to any namespace.
    pub connect_timeout: Duration,
    /// Bytes one session's outbox may hold. One more frame closes the session with 4008, unless the outbox is
    /// empty (a single frame is always taken).
    pub outbox_bytes: usize,
    /// How old the oldest frame of a socket that does not take bytes may become before it is closed with 4008.
    pub outbox_age: Duration,
    /// How long one flush may write before it lets reads, heartbeats and other threads run.
    pub flush_slice: Duration,
    /// A burst of at most this many dirty sockets is flushed before what is left of a larger one.
    pub small_burst: usize,
    /// Whether what is to be written to many sockets is handed to the kernel in one call where it allows that;
    /// [`batch::measure`](crate::batch::measure) tells whether that is cheaper here.
    pub batch: bool,
    /// `TCP_NOTSENT_LOWAT` in bytes: how much unsent data the kernel takes from us per connection. Without it
    /// the kernel swallows megabytes from a reader that sleeps, and the outbox bound means nothing. `None`
    /// leaves the system's default.
    pub notsent_lowat: Option<u32>,
    /// How long an HTTP request's head may take to arrive, the first one included, and a TLS handshake before it.
    /// A head that has begun is answered with 408.
    pub header_timeout: Duration,
    /// How long the body of a request may take to arrive (408), and, together with `header_timeout`, how long a
    /// client may take to read an answer and ask the next.
    pub body_timeout: Duration,
    /// Largest head of an HTTP request in bytes (at least 8192, the HTTP library's minimum); a larger one is
    /// answered with 431.
    pub max_head_bytes: usize,
    /// Most header fields in a request; more are answered with 431.
    pub max_headers: usize,
    /// How long a message with all its frames and attachments may take to be complete once it has begun; then
    /// its session is closed with 1008.
    pub message_timeout: Duration,
    /// Bytes that unfinished messages of all of a worker's sessions may hold together; beyond, the session
    /// that holds most is closed with 1013. As much again may the bodies of requests hold; beyond, one that is
    /// not small is answered with 503.
    pub input_bytes: usize,
    /// Most connections of a worker on which no request is being answered and no session lives, and most
    /// sessions that have joined no namespace; beyond, the one that has waited longest is closed, a session with
    /// 1013.
    pub max_waiting: usize,
    /// Most polling sessions of one address on a worker, where its connections have a
    /// [`Lease`](crate::Lease); beyond, its handshakes get 429. A WebSocket costs its client a connection, which
    /// whoever accepts can count; a polling session does not.
    pub polling_per_address: usize,
    /// How long after the answer to an upgrade the open packet follows. A client that begins to listen only when
    /// told of the opened WebSocket, as test suites on bare sockets do, may lose what comes in the same segment;
    /// official clients do not, so the default is zero.
    pub open_delay: Duration,
    /// How long a closing session may take to write its close frame and to see the peer go; then it is reset.
    pub close_timeout: Duration,
    /// Which origins may read our HTTP answers from a page of theirs.
    pub cors: Cors,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            path: "/socket.io/".to_owned(),
            mode: Mode::SocketIo,
            revisions: Revisions::Both,
            polling: true,
            upgrade_timeout: Duration::from_secs(10),
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_secs(20),
            max_payload: 1_000_000,
            max_attachments: 64,
            max_namespaces: 16,
            max_refused_connects: 100,
            connect_timeout: Duration::from_secs(45),
            outbox_bytes: 1 << 20,
            outbox_age: Duration::from_secs(10),
            flush_slice: Duration::from_micros(100),
            small_burst: 256,
            batch: false,
            notsent_lowat: Some(16 << 10),
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(20),
            max_head_bytes: 16 << 10,
            max_headers: 64,
            message_timeout: Duration::from_secs(30),
            input_bytes: 64 << 20,
            max_waiting: 4096,
            polling_per_address: 2000,
            open_delay: Duration::ZERO,
            close_timeout: Duration::from_secs(5),
            cors: Cors::Off,
        }
    }
}

/// What is spoken inside Engine.IO messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Socket.IO packets: [`Application::connect`](crate::Application::connect) and
    /// [`event`](crate::Application::event) are called.
    SocketIo,
    /// Nothing: each session is one [`Socket`](crate::Socket) of namespace `""`, connected at once, and
    /// [`Application::message`](crate::Application::message) gets the bare messages.
    EngineIo,
}

/// Accepted Engine.IO revisions (the `EIO` query parameter).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revisions {
    Both,
    Only3,
    Only4,
}

/// Cross-origin answers on our HTTP path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cors {
    /// No header.
    Off,
    /// Any origin, without credentials (`Access-Control-Allow-Origin: *`).
    Any,
    /// These origins (`https://example.org`), with credentials.
    Origins(Vec<String>),
}
