//! Plain WebSocket, without Engine.IO.
//!
//! One read serves every message it brought; they are looked at in place, in a buffer that all
//! connections of the thread share. One sent message is one write.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use socketio_wire::websocket::close::CloseCode;
use socketio_wire::websocket::frame::{self, Incoming, Opcode, Reader, Role};
use tokio::time::timeout;

use crate::buffers;
use crate::error::{Closed, ConnectError, Stage, Stages};
use crate::http::{self, Head};
use crate::net::{Progress, Route, Stream};
use crate::options::{self, Endpoint, InvalidUrl, Timeouts};
use crate::pace::Pace;

/// What to ask for.
#[derive(Clone, Debug)]
pub struct Request {
    /// The server.
    pub endpoint: Endpoint,
    /// Path and query, encoded, beginning with `/`.
    pub target: String,
    /// Headers beside those an upgrade needs.
    pub headers: Vec<(String, String)>,
    /// Offered in this order; the server picks at most one.
    pub subprotocols: Vec<String>,
    /// How long to wait for what.
    pub timeouts: Timeouts,
    /// The local address to connect from.
    pub local_addr: Option<IpAddr>,
    /// Addresses to use instead of asking DNS.
    pub addresses: Vec<SocketAddr>,
    /// The largest message accepted, in bytes.
    pub max_message: usize,
    /// For `wss` and `https`.
    pub tls: Option<Arc<rustls::ClientConfig>>,
}

/// An upgrade that succeeded.
#[derive(Debug)]
pub struct Upgraded {
    /// The connection.
    pub connection: Connection,
    /// How long each stage took.
    pub stages: Stages,
    /// The subprotocol the server picked.
    pub subprotocol: Option<String>,
}

/// A message, lent from the read buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// Valid UTF-8.
    Text(&'a str),
    /// Any bytes.
    Binary(&'a [u8]),
    /// The answer to a ping of ours. (A server's pings are answered inside.)
    Pong(&'a [u8]),
}

/// A message that owns its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnedMessage {
    /// See [`Message::Text`].
    Text(String),
    /// See [`Message::Binary`].
    Binary(Vec<u8>),
    /// See [`Message::Pong`].
    Pong(Vec<u8>),
}

impl Message<'_> {
    /// A copy to keep.
    pub fn to_owned(&self) -> OwnedMessage {
        match *self {
            Message::Text(text) => OwnedMessage::Text(text.to_owned()),
            Message::Binary(bytes) => OwnedMessage::Binary(bytes.to_vec()),
            Message::Pong(payload) => OwnedMessage::Pong(payload.to_vec()),
        }
    }
}

/// One WebSocket connection. Waiting methods are safe to cancel. Dropping it drops the TCP connection
/// without a close frame.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    reader: Reader,
    inbox: Inbox,
    /// Frames the system has not taken yet, of which `written` bytes are gone. Empty but in a jam.
    outbox: Vec<u8>,
    written: usize,
    last_read: Instant,
    send_timeout: Duration,
    close_timeout: Duration,
    /// Nothing can be sent any more; what was received before is still worth reading.
    write_failed: bool,
    /// After a close frame nothing is sent, not even a pong.
    close_sent: bool,
    closed: Option<Closed>,
    /// Set for a slow reader.
    pace: Option<Box<Pace>>,
}

impl Request {
    /// Defaults for a `ws`, `wss`, `http` or `https` URL.
    ///
    /// # Errors
    /// When it is no URL, has another scheme, or no host.
    pub fn new(url: &str) -> Result<Self, InvalidUrl> {
        let parsed = options::parse(url)?;
        let endpoint = Endpoint::of(&parsed, url)?;
        let target = match parsed.query() {
            Some(query) => format!("{}?{query}", parsed.path()),
            None => parsed.path().to_owned(),
        };
        Ok(Self {
            endpoint,
            target,
            headers: options::authorization(&parsed).into_iter().collect(),
            subprotocols: Vec::new(),
            timeouts: Timeouts::default(),
            local_addr: None,
            addresses: Vec::new(),
            max_message: options::DEFAULT_MAX_PAYLOAD,
            tls: None,
        })
    }
}

impl Connection {
    /// Connects and upgrades.
    ///
    /// # Errors
    /// Names the stage, of `dns` to `upgrade`, and the cause.
    pub async fn connect(request: &Request) -> Result<Upgraded, ConnectError> {
        // Boxed: this future is kilobytes, and a task that awaits it would keep that room while it lives.
        Box::pin(Self::connect_in_stages(request)).await
    }

    async fn connect_in_stages(request: &Request) -> Result<Upgraded, ConnectError> {
        let mut progress = Progress::new(&request.endpoint, &request.timeouts);
        let route = Route {
            endpoint: &request.endpoint,
            addresses: &request.addresses,
            local_addr: request.local_addr,
            tls: request.tls.as_ref(),
            timeouts: &request.timeouts,
        };
        let head = Head {
            authority: &request.endpoint.authority,
            target: &request.target,
            headers: &request.headers,
        };
        let (connection, subprotocol) =
            Self::establish(&mut progress, route, &head, &request.subprotocols, request.max_message).await?;
        Ok(Upgraded { connection, stages: progress.stages(), subprotocol })
    }

    /// The stages up to `upgrade` of any connect.
    pub(crate) async fn establish(
        progress: &mut Progress<'_>,
        route: Route<'_>,
        head: &Head<'_>,
        subprotocols: &[String],
        max_message: usize,
    ) -> Result<(Self, Option<String>), ConnectError> {
        let mut stream = progress.open(route).await?;
        let switched = progress.run(Stage::Upgrade, http::upgrade(&mut stream, head, subprotocols)).await?;
        let connection = Self {
            stream,
            reader: Reader::new(Role::Client, max_message),
            inbox: Inbox { fresh: !switched.rest.is_empty(), bytes: switched.rest, start: 0 },
            outbox: Vec::new(),
            written: 0,
            last_read: Instant::now(),
            send_timeout: route.timeouts.send,
            close_timeout: route.timeouts.close,
            write_failed: false,
            close_sent: false,
            closed: None,
            pace: None,
        };
        Ok((connection, switched.subprotocol))
    }

    /// Waits once for bytes, then hands every whole message already there, and when it was read, to `visit`
    /// until it breaks (the rest stays for the next call). Answers how many were visited, at least 1.
    ///
    /// # Errors
    /// How the connection ended. Messages before the end have been visited.
    pub async fn for_each_ready(
        &mut self,
        mut visit: impl FnMut(Message<'_>, Instant) -> ControlFlow<()>,
    ) -> Result<usize, Closed> {
        poll_fn(|cx| self.poll_for_each_ready(cx, &mut visit)).await
    }

    /// The polled form of [`Connection::for_each_ready`].
    pub fn poll_for_each_ready(
        &mut self,
        cx: &mut Context<'_>,
        mut visit: impl FnMut(Message<'_>, Instant) -> ControlFlow<()>,
    ) -> Poll<Result<usize, Closed>> {
        let mut visited = 0;
        loop {
            ready!(self.poll_messages(cx, |message, at, _| {
                visited += 1;
                visit(message, at).map_break(|()| Stop::Visitor)
            }))?;
            if visited > 0 {
                return Poll::Ready(Ok(visited));
            }
        }
    }

    /// The next message, copied.
    ///
    /// # Errors
    /// How the connection ended.
    pub async fn next(&mut self) -> Result<OwnedMessage, Closed> {
        let mut next = None;
        self.for_each_ready(|message, _| {
            next = Some(message.to_owned());
            ControlFlow::Break(())
        })
        .await?;
        Ok(next.expect("at least one message was visited"))
    }

    /// Sends a text message: one frame, one write.
    ///
    /// # Errors
    /// How the connection ended.
    pub async fn send_text(&mut self, text: &str) -> Result<(), Closed> {
        self.send(Opcode::Text, text.as_bytes()).await
    }

    /// Sends a binary message: one frame, one write.
    ///
    /// # Errors
    /// How the connection ended.
    pub async fn send_binary(&mut self, bytes: &[u8]) -> Result<(), Closed> {
        self.send(Opcode::Binary, bytes).await
    }

    /// Sends a ping; its answer comes as [`Message::Pong`]. Of `payload` at most 125 bytes are sent.
    ///
    /// # Errors
    /// How the connection ended.
    pub async fn send_ping(&mut self, payload: &[u8]) -> Result<(), Closed> {
        self.send(Opcode::Ping, &payload[..payload.len().min(frame::MAX_CONTROL_LEN)]).await
    }

    /// Sends a close frame (empty for `None`) and waits for the server's, at most `timeouts.close`; what
    /// still arrives is dropped. Answers [`Closed::Local`], or how the connection had ended already.
    pub async fn close(self, code: Option<u16>, reason: &str) -> Closed {
        self.close_visiting(code, reason, |_, _| ()).await
    }

    /// [`Connection::close`] that hands what still arrives to `visit`.
    pub async fn close_visiting(
        mut self,
        code: Option<u16>,
        reason: &str,
        mut visit: impl FnMut(Message<'_>, Instant),
    ) -> Closed {
        let mut payload = Vec::new();
        if let Some(code) = code {
            frame::encode_close_payload(CloseCode(code), reason, &mut payload);
        }
        let mut frames = Vec::with_capacity(32);
        encode_masked(Opcode::Close, &payload, &mut frames);
        let visit = |message: Message<'_>, at, _: &mut Vec<u8>| {
            visit(message, at);
            ControlFlow::Continue(())
        };
        self.close_with(&frames, visit).await
    }

    /// From now on reads at most so many bytes a second, in small pieces; `None`: as fast as they come. What is not
    /// read stays in the kernel's buffers, and when they are full with the server.
    pub fn set_read_rate(&mut self, bytes_per_second: Option<NonZeroU32>) {
        self.pace = bytes_per_second.map(Pace::new);
    }

    /// Ends the connection with a TCP reset, as a client does that loses power or is killed.
    pub fn abort(self) {
        self.reset_on_drop();
    }

    pub(crate) fn reset_on_drop(&self) {
        self.stream.reset_on_drop();
    }

    /// The address of this end and of the server.
    ///
    /// # Errors
    /// As the system's `getsockname` and `getpeername`.
    pub fn addresses(&self) -> io::Result<(SocketAddr, SocketAddr)> {
        Ok((self.stream.tcp().local_addr()?, self.stream.tcp().peer_addr()?))
    }

    /// Bytes held beside the kernel's: read but incomplete, and sent but not taken.
    pub fn buffered_bytes(&self) -> usize {
        self.inbox.rest().len() + self.outbox.len() - self.written
    }

    /// When bytes were last read.
    pub(crate) fn last_read(&self) -> Instant {
        self.last_read
    }

    pub(crate) fn pace(&self) -> Option<&Pace> {
        self.pace.as_deref()
    }

    /// How many bytes the kernel takes for this connection before the server has to wait, about. It keeps what it has
    /// taken already.
    ///
    /// # Errors
    /// As the system's `setsockopt`.
    pub fn limit_receive_buffer(&self, bytes: usize) -> io::Result<()> {
        self.stream.limit_receive_buffer(bytes)
    }

    /// The session read something by other means at this time.
    pub(crate) fn read_elsewhere(&mut self, at: Instant) {
        self.last_read = self.last_read.max(at);
    }

    async fn send(&mut self, opcode: Opcode, payload: &[u8]) -> Result<(), Closed> {
        buffers::with_frame_buffer(|frames| {
            encode_masked(opcode, payload, frames);
            self.submit(frames)
        })?;
        self.finish_send().await
    }

    /// Hands encoded frames to the system in one write; what it does not take is kept.
    pub(crate) fn submit(&mut self, frames: &[u8]) -> Result<(), Closed> {
        if let Some(closed) = &self.closed {
            return Err(closed.clone());
        }
        if self.outbox.is_empty() {
            match self.stream.try_write(frames) {
                Ok(written) if written == frames.len() && !self.stream.is_tls() => return Ok(()),
                Ok(written) => {
                    self.outbox.extend_from_slice(frames);
                    self.written = written;
                    return Ok(());
                }
                Err(error) => return Err(self.write_error(&error)),
            }
        }
        self.outbox.extend_from_slice(frames);
        Ok(())
    }

    /// Waits until everything submitted has left, at most the send timeout.
    pub(crate) async fn finish_send(&mut self) -> Result<(), Closed> {
        if self.outbox.is_empty() {
            return Ok(());
        }
        match timeout(self.send_timeout, poll_fn(|cx| self.poll_flush(cx))).await {
            Ok(outcome) => outcome,
            Err(_) => {
                let text = "send timeout".to_owned();
                Err(self.end(Closed::Transport { kind: io::ErrorKind::TimedOut, text }))
            }
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        if let Some(closed) = &self.closed {
            return Poll::Ready(Err(closed.clone()));
        }
        while self.written < self.outbox.len() {
            match ready!(self.stream.poll_write(cx, &self.outbox[self.written..])) {
                Ok(0) => return Poll::Ready(Err(self.write_error(&io::ErrorKind::WriteZero.into()))),
                Ok(written) => self.written += written,
                Err(error) => return Poll::Ready(Err(self.write_error(&error))),
            }
        }
        if let Err(error) = ready!(self.stream.poll_flush(cx)) {
            return Poll::Ready(Err(self.write_error(&error)));
        }
        self.outbox = Vec::new();
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    /// A failed write says only that the server is gone; what it sent before it went may say why.
    fn write_error(&mut self, error: &io::Error) -> Closed {
        self.write_failed = true;
        self.outbox = Vec::new();
        self.written = 0;
        let mut cx = Context::from_waker(Waker::noop());
        while self.closed.is_none() {
            let outcome = self.poll_messages(&mut cx, |_, _, _| ControlFlow::Continue(()));
            if outcome.is_pending() {
                break;
            }
        }
        match &self.closed {
            Some(closed @ Closed::Server { .. }) => closed.clone(),
            _ => {
                self.closed = None;
                self.end(Closed::from_io(error))
            }
        }
    }

    fn end(&mut self, closed: Closed) -> Closed {
        self.closed.get_or_insert(closed).clone()
    }

    /// Ends the connection from this side for a reason the layer above has found.
    pub(crate) fn fail(&mut self, closed: Closed) -> Closed {
        let closed = self.end(closed);
        self.stream.reset_on_drop();
        closed
    }

    /// One readiness wait and one read (none where an earlier visit left messages); every whole message
    /// goes to `visit`, which may add frames to send as its third argument. Answers after each read, also
    /// when that brought no whole message.
    pub(crate) fn poll_messages<F>(&mut self, cx: &mut Context<'_>, mut visit: F) -> Poll<Result<(), Closed>>
    where
        F: FnMut(Message<'_>, Instant, &mut Vec<u8>) -> ControlFlow<Stop>,
    {
        if let Some(closed) = &self.closed {
            return Poll::Ready(Err(closed.clone()));
        }
        if !self.outbox.is_empty() && !self.write_failed {
            // Not waited for here; its waker is set, and a failure shows in `closed`.
            if let Poll::Ready(Err(closed)) = self.poll_flush(cx) {
                return Poll::Ready(Err(closed));
            }
        }
        let mut replies = Vec::new();
        let end = if self.inbox.fresh {
            let mut inbox = std::mem::take(&mut self.inbox);
            let (consumed, end) = decode(
                &mut self.reader,
                &mut inbox.bytes[inbox.start..],
                self.last_read,
                &mut replies,
                &mut visit,
            );
            inbox.start += consumed;
            inbox.fresh = matches!(end, End::Stopped(Stop::Visitor));
            self.inbox = inbox.tidy();
            end
        } else if self.inbox.rest().len() <= INBOX_IN_SHARED {
            let held = self.inbox.rest().len();
            let Self { stream, reader, inbox, last_read, pace, .. } = &mut *self;
            let most = match pace {
                Some(pace) => ready!(pace.poll(cx)),
                None => usize::MAX,
            };
            ready!(buffers::with_read_buffer(|buffer| {
                buffer[..held].copy_from_slice(inbox.rest());
                let end = buffer.len().min(held.saturating_add(most));
                let end = match ready!(stream.poll_read(cx, &mut buffer[held..end])) {
                    Ok(0) => End::Stopped(Stop::Close(Closed::Eof)),
                    Ok(read) => {
                        *last_read = Instant::now();
                        if let Some(pace) = pace {
                            pace.took(read);
                        }
                        let filled = &mut buffer[..held + read];
                        let (consumed, end) = decode(reader, filled, *last_read, &mut replies, &mut visit);
                        let fresh = matches!(end, End::Stopped(Stop::Visitor));
                        *inbox = Inbox { bytes: filled[consumed..].to_vec(), start: 0, fresh }.tidy();
                        end
                    }
                    Err(error) => End::Stopped(Stop::Close(Closed::from_io(&error))),
                };
                Poll::Ready(end)
            }))
        } else {
            // A message too large for the shared buffer collects in one of its own.
            let Self { stream, reader, inbox, last_read, pace, .. } = &mut *self;
            inbox.make_room(reader.wanted(inbox.rest()));
            let read = match pace {
                None => ready!(stream.poll_read_more(cx, &mut inbox.bytes)),
                Some(pace) => {
                    let most = ready!(pace.poll(cx));
                    let mut piece = [0; 4096];
                    let most = most.min(piece.len());
                    ready!(stream.poll_read(cx, &mut piece[..most])).inspect(|&read| {
                        inbox.bytes.extend_from_slice(&piece[..read]);
                        pace.took(read);
                    })
                }
            };
            match read {
                Ok(0) => End::Stopped(Stop::Close(Closed::Eof)),
                Ok(_) => {
                    *last_read = Instant::now();
                    let mut taken = std::mem::take(inbox);
                    let (consumed, end) =
                        decode(reader, &mut taken.bytes, *last_read, &mut replies, &mut visit);
                    taken.start = consumed;
                    taken.fresh = matches!(end, End::Stopped(Stop::Visitor));
                    *inbox = taken.tidy();
                    end
                }
                Err(error) => End::Stopped(Stop::Close(Closed::from_io(&error))),
            }
        };
        if !replies.is_empty() && !self.close_sent && !self.write_failed {
            // What has just been visited counts first; a failure is kept and answers the next call.
            let _ = self.submit(&replies);
            if !self.outbox.is_empty() {
                // Sets the waker for what the system did not take.
                let _ = self.poll_flush(cx);
            }
        }
        match end {
            End::Starved | End::Stopped(Stop::Visitor) => Poll::Ready(Ok(())),
            End::Stopped(Stop::Close(closed)) => Poll::Ready(Err(self.end(closed))),
        }
    }

    /// Sends `frames`, the last of which is a close frame, and reads on until the server has closed too.
    pub(crate) async fn close_with<F>(&mut self, frames: &[u8], mut visit: F) -> Closed
    where
        F: FnMut(Message<'_>, Instant, &mut Vec<u8>) -> ControlFlow<Stop>,
    {
        if let Err(closed) = self.submit(frames) {
            return closed;
        }
        self.close_sent = true;
        let outcome = timeout(self.close_timeout, async {
            loop {
                if let Err(closed) = poll_fn(|cx| self.poll_messages(cx, &mut visit)).await {
                    return closed;
                }
            }
        })
        .await;
        match outcome {
            // The answer to our close frame, or an end without one: either way we left first, and a server
            // in a hurry may reset what it no longer reads.
            Ok(Closed::Server { .. } | Closed::Eof | Closed::Transport { .. }) | Err(_) => {
                self.closed = Some(Closed::Local);
                // The drop ends TCP; TLS has a last word of its own, and a server that never answered is
                // told. A failure changes nothing any more.
                if self.stream.is_tls() || outcome.is_err() {
                    let mut cx = Context::from_waker(Waker::noop());
                    let _ = self.stream.poll_shutdown(&mut cx);
                }
                Closed::Local
            }
            Ok(other) => other,
        }
    }
}

/// Why a visit stops before the bytes do.
pub(crate) enum Stop {
    /// The caller has what it wanted; what follows stays for the next call.
    Visitor,
    /// The connection is over.
    Close(Closed),
}

enum End {
    /// No whole frame is left.
    Starved,
    Stopped(Stop),
}

/// Decodes what is whole in `buffer`, answers control frames into `replies`, and gives how many bytes were used.
fn decode<F>(
    reader: &mut Reader,
    buffer: &mut [u8],
    at: Instant,
    replies: &mut Vec<u8>,
    visit: &mut F,
) -> (usize, End)
where
    F: FnMut(Message<'_>, Instant, &mut Vec<u8>) -> ControlFlow<Stop>,
{
    let mut consumed = 0;
    loop {
        let (length, incoming) = match reader.read(&mut buffer[consumed..]) {
            Ok(Some(read)) => read,
            Ok(None) => return (consumed, End::Starved),
            Err(error) => {
                let mut payload = Vec::new();
                frame::encode_close_payload(error.close_code(), "", &mut payload);
                encode_masked(Opcode::Close, &payload, replies);
                let closed = http::misplaced_answer(&buffer[consumed..]);
                let closed = closed.unwrap_or_else(|| Closed::Protocol(error.to_string()));
                return (consumed, End::Stopped(Stop::Close(closed)));
            }
        };
        consumed += length;
        let flow = match &incoming {
            Incoming::Text(text) => visit(Message::Text(text), at, replies),
            Incoming::Binary(bytes) => visit(Message::Binary(bytes), at, replies),
            Incoming::Pong(payload) => visit(Message::Pong(payload), at, replies),
            Incoming::Ping(payload) => {
                encode_masked(Opcode::Pong, payload, replies);
                ControlFlow::Continue(())
            }
            Incoming::Partial => ControlFlow::Continue(()),
            Incoming::Close(code, reason) => {
                let mut payload = Vec::new();
                if let Some(code) = code {
                    frame::encode_close_payload(*code, "", &mut payload);
                }
                encode_masked(Opcode::Close, &payload, replies);
                let closed = Closed::Server { code: code.map(|code| code.0), reason: (*reason).to_owned() };
                ControlFlow::Break(Stop::Close(closed))
            }
        };
        if let ControlFlow::Break(stop) = flow {
            return (consumed, End::Stopped(stop));
        }
    }
}

/// Appends one masked frame. The key need only be new and hard to foresee for what lies between the two
/// ends, which a per-thread generator seeded by the system gives at no cost.
pub(crate) fn encode_masked(opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
    frame::encode_masked(opcode, fastrand::u32(..).to_ne_bytes(), payload, out);
}

/// Bytes that were read and not yet used.
#[derive(Debug, Default)]
struct Inbox {
    bytes: Vec<u8>,
    start: usize,
    /// Whole messages may be there, so decode before reading.
    fresh: bool,
}

/// Up to this much is copied to the front of the shared buffer; beyond it, copying at each read would cost
/// more than a buffer of one's own.
const INBOX_IN_SHARED: usize = 16 * 1024;

impl Inbox {
    fn rest(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Gives the memory back when nothing is left.
    fn tidy(self) -> Self {
        if self.start == self.bytes.len() { Self::default() } else { self }
    }

    /// Room for the rest of a frame of `wanted` bytes, but no more at once than twice what is there: a
    /// length is easily claimed.
    fn make_room(&mut self, wanted: Option<usize>) {
        self.bytes.drain(..self.start);
        self.start = 0;
        if self.bytes.len() == self.bytes.capacity() {
            let have = self.bytes.len();
            let more = wanted.map_or(have, |wanted| wanted.saturating_sub(have)).clamp(1024, have.max(1024));
            self.bytes.reserve_exact(more);
        }
    }
}
