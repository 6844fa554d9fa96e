//! A WebSocket over TCP or TLS, after the HTTP upgrade.
//!
//! A session begins here, or changes to a WebSocket from polling: then the client first proves that this way works
//! (`2probe`, `3probe`) and says when it has changed over (`5`); until that the session goes on polling, and what
//! goes wrong here costs it nothing.
//!
//! The task reads into the worker's one buffer and parses there; memory of its own it has only while a frame is
//! incomplete. Writing is the worker's flush, straight on the socket; this task writes only after the socket
//! was full.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::task::{Context, Poll};

use socketio_wire::engineio::Revision;
use socketio_wire::websocket::close::CloseCode;
use socketio_wire::websocket::frame::{
    Incoming, MAX_CONTROL_LEN, MAX_HEADER_LEN, Opcode, Reader, Role, encode_close_payload,
};

use crate::application::Application;
use crate::frame::Frame;
use crate::handshake::Handshake;
use crate::reason::{Reason, Violation};
use crate::session::{Phase, Session};
use crate::stats::add;
use crate::transport::Transport;
use crate::transport::polling::Upgrade;
use crate::transport::stream::{Read, Stream};
use crate::worker::Worker;

/// Least room made in a connection's own buffer, in bytes.
const LEAST_ROOM: usize = 1024;

/// The socket, as flushing sees it.
#[derive(Debug)]
pub(crate) struct Writer {
    stream: Rc<Stream>,
}

impl Writer {
    pub(crate) fn write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.stream.write(slices)
    }

    pub(crate) fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.stream.plain_socket()
    }

    pub(crate) fn found_full(&self) {
        self.stream.found_full();
    }

    pub(crate) fn holds_back(&self) -> bool {
        self.stream.holds_back()
    }

    pub(crate) fn finish(&self) {
        self.stream.finish();
    }
}

/// Frames a WebSocket may send before its session has changed to it: a probe, the change, and a few pings.
const PROBE_FRAMES: u8 = 16;

pub(crate) fn close_frame(close: Option<(CloseCode, &str)>) -> Frame {
    let mut payload = Vec::new();
    if let Some((code, why)) = close {
        encode_close_payload(code, why, &mut payload);
    }
    Frame::from_parts(Opcode::Close, &[&payload])
}

/// Runs a session that begins with a WebSocket to its end.
pub(crate) async fn run<A: Application>(
    worker: Rc<Worker<A>>,
    stream: Stream,
    leftover: Vec<u8>,
    revision: Revision,
    handshake: Handshake,
) {
    if !worker.config().open_delay.is_zero() {
        Box::pin(tokio::time::sleep(worker.config().open_delay)).await;
    }
    let stream = Rc::new(stream);
    let transport = Transport::Websocket(Writer { stream: Rc::clone(&stream) });
    let session = Session::open(&worker, revision, handshake, transport);
    if let Some(code) = worker.draining() {
        // The drain began between the upgrade's answer and now.
        session.drain(code);
    }
    drop(worker);
    let mut connection = Connection::new(session, stream, Stage::Running, leftover);
    std::future::poll_fn(|cx| connection.poll(cx)).await;
    connection.end();
}

/// Has a polling session change to this WebSocket, then runs it to its end.
pub(crate) async fn take_over<A: Application>(session: Rc<Session<A>>, stream: Stream, leftover: Vec<u8>) {
    let is_ours = match &*session.transport.borrow() {
        // From here on this WebSocket's own end gives the claim back, and nobody else's.
        Transport::Polling(writer) if matches!(writer.upgrade.get(), Upgrade::Claimed(_)) => {
            writer.upgrade.set(Upgrade::Probing);
            true
        }
        _ => false,
    };
    if !is_ours {
        return refuse(&stream);
    }
    let limit = session.worker.config().upgrade_timeout;
    let stage = Stage::Probing { frames_left: PROBE_FRAMES };
    let mut connection = Connection::new(session, Rc::new(stream), stage, leftover);
    let changed = tokio::time::timeout(limit, std::future::poll_fn(|cx| connection.poll_probe(cx)));
    // Boxed, so that the timer is not kept while the WebSocket lives.
    if Box::pin(changed).await.is_err() {
        connection.stage.set(Stage::Refused);
    }
    if connection.stage.get() == Stage::Running {
        std::future::poll_fn(|cx| connection.poll(cx)).await;
        connection.end();
    } else {
        refuse(&connection.stream);
    }
}

/// Says goodbye to a WebSocket that no session changes to.
pub(crate) fn refuse(stream: &Stream) {
    let goodbye = close_frame(Some((CloseCode::POLICY, "this session does not change to this WebSocket")));
    // Whether it arrives or not, the connection ends.
    let _ = stream.write(&[IoSlice::new(goodbye.as_bytes())]);
    stream.finish();
}

/// How far a connection has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Its session still polls. So many frames may come until the change is done.
    Probing { frames_left: u8 },
    /// It is its session's transport.
    Running,
    /// Its session does not change to it.
    Refused,
}

struct Connection<A: Application> {
    session: Rc<Session<A>>,
    stream: Rc<Stream>,
    stage: Cell<Stage>,
    reader: Reader,
    /// The beginning of a frame whose end has not arrived; no memory otherwise.
    remainder: Vec<u8>,
}

impl<A: Application> Connection<A> {
    fn new(session: Rc<Session<A>>, stream: Rc<Stream>, stage: Stage, mut leftover: Vec<u8>) -> Self {
        let reader = Self::reader(&session, stage);
        let mut connection = Self { session, stream, stage: Cell::new(stage), reader, remainder: Vec::new() };
        if !leftover.is_empty() {
            let consumed = connection.parse(&mut leftover);
            leftover.drain(..consumed);
            connection.remainder = leftover;
            connection.account_input();
        }
        connection
    }

    /// Whoever has yet to prove itself has little to say.
    fn reader(session: &Session<A>, stage: Stage) -> Reader {
        let most =
            if stage == Stage::Running { session.worker.config().max_payload } else { MAX_CONTROL_LEN };
        Reader::new(Role::Server, most)
    }

    /// Ready when the session has changed to this WebSocket, or does not.
    fn poll_probe(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.session.set_task(cx.waker());
        while matches!(self.stage.get(), Stage::Probing { .. }) && self.session.is_open() {
            match self.stream.poll_read_ready(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) => match self.read() {
                    Ok(Read::Wait) => {}
                    Ok(Read::Again) => {
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    Ok(Read::Over) | Err(_) => break,
                },
                Poll::Ready(Err(_)) => break,
            }
        }
        if matches!(self.stage.get(), Stage::Probing { .. }) {
            self.stage.set(Stage::Refused);
        }
        Poll::Ready(())
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let session = Rc::clone(&self.session);
        session.set_task(cx.waker());
        loop {
            match session.phase.get() {
                Phase::Open => {}
                // What was begun is not wanted any more.
                Phase::Closing => self.forget_input(),
                Phase::Dead => return Poll::Ready(()),
            }
            if session.blocked.get() {
                match self.stream.poll_write_ready(cx) {
                    Poll::Ready(Ok(())) => {
                        session.blocked.set(false);
                        session.worker.flush_now(&session);
                        continue;
                    }
                    Poll::Ready(Err(error)) => {
                        session.lost(Reason::TransportError(error.kind()));
                        return Poll::Ready(());
                    }
                    Poll::Pending => {}
                }
            }
            match self.stream.poll_read_ready(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => {
                    session.lost(Reason::TransportError(error.kind()));
                    return Poll::Ready(());
                }
                Poll::Ready(Ok(())) => match self.read() {
                    Ok(Read::Wait) => {}
                    Ok(Read::Again) => {
                        // A full buffer: others may read theirs before this one's rest.
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    Ok(Read::Over) => {
                        // It may still read what was said last, its close answered above all.
                        if !session.blocked.get() {
                            session.worker.flush_now(&session);
                        }
                        session.lost(Reason::TransportClose);
                        return Poll::Ready(());
                    }
                    Err(error) => {
                        session.lost(Reason::TransportError(error.kind()));
                        return Poll::Ready(());
                    }
                },
            }
        }
    }

    /// Reads once, into the worker's buffer or behind an incomplete frame, and handles what is complete.
    fn read(&mut self) -> io::Result<Read> {
        let worker = Rc::clone(&self.session.worker);
        let (outcome, bytes) = if self.remainder.is_empty() {
            let mut buffer = worker.read_buffer();
            let (outcome, length) = self.stream.receive(&mut buffer)?;
            let consumed = self.parse(&mut buffer[..length]);
            if consumed < length {
                self.remainder.extend_from_slice(&buffer[consumed..length]);
            }
            (outcome, length)
        } else {
            let mut own = std::mem::take(&mut self.remainder);
            let held = own.len();
            let missing = self.reader.wanted(&own).unwrap_or(held + MAX_HEADER_LEN).saturating_sub(held);
            // Room grows with what has arrived, not with what a header promises.
            own.reserve(missing.clamp(LEAST_ROOM, held.max(LEAST_ROOM)));
            let (outcome, length) = self.stream.receive_more(&mut own)?;
            let consumed = self.parse(&mut own);
            if consumed < own.len() {
                own.drain(..consumed);
                own.shrink_to(LEAST_ROOM);
                self.remainder = own;
            }
            (outcome, length)
        };
        add(&worker.stats().bytes_in, bytes as u64);
        self.account_input();
        Ok(outcome)
    }

    /// Tells the session of what is held of a message that is not complete.
    fn account_input(&self) {
        if self.stage.get() != Stage::Running {
            return;
        }
        let held = self.remainder.capacity() + self.reader.held();
        let unfinished = held > 0 || self.is_mid_message();
        self.session.input_unfinished(unfinished, held);
    }

    /// Between the frames of a message, or between a packet and its attachments.
    fn is_mid_message(&self) -> bool {
        self.reader.is_mid_message() || self.session.awaits_attachments()
    }

    fn forget_input(&mut self) {
        if self.remainder.capacity() > 0 || self.reader.held() > 0 {
            self.remainder = Vec::new();
            self.reader = Self::reader(&self.session, Stage::Running);
        }
        self.session.drop_input();
    }

    /// Handles the complete frames at the front and gives their length.
    fn parse(&mut self, bytes: &mut [u8]) -> usize {
        let mut at = 0;
        while self.session.is_open() && self.stage.get() != Stage::Refused {
            match self.reader.read(&mut bytes[at..]) {
                Ok(Some((length, incoming))) => {
                    at += length;
                    match self.stage.get() {
                        Stage::Running => {
                            self.handle(&incoming);
                            if !self.is_mid_message() {
                                self.session.input_finished();
                            }
                        }
                        Stage::Probing { frames_left: 0 } | Stage::Refused => self.stage.set(Stage::Refused),
                        Stage::Probing { frames_left } => {
                            self.stage.set(Stage::Probing { frames_left: frames_left - 1 });
                            self.probe(&incoming);
                            if self.stage.get() == Stage::Running {
                                self.reader = Self::reader(&self.session, Stage::Running);
                            }
                        }
                    }
                }
                Ok(None) => return at,
                Err(error) if self.stage.get() == Stage::Running => {
                    self.session.violate(Violation::Frame(error));
                }
                Err(_) => self.stage.set(Stage::Refused),
            }
        }
        // Closing: what comes now is not wanted, only read so that the peer can finish.
        bytes.len()
    }

    fn handle(&self, incoming: &Incoming<'_>) {
        let session = &self.session;
        match incoming {
            Incoming::Text(text) => session.receive_text(text),
            Incoming::Binary(data) => session.receive_binary(data),
            Incoming::Ping(data) => session.push_control(Frame::from_parts(Opcode::Pong, &[data])),
            Incoming::Close(code, _) => session.peer_closed(*code),
            Incoming::Pong(_) | Incoming::Partial => {}
        }
    }

    /// One step of the change from polling; anything else ends it.
    fn probe(&self, incoming: &Incoming<'_>) {
        let say = |frame: Frame| {
            let written = self.stream.write(&[IoSlice::new(frame.as_bytes())]);
            written.is_ok_and(|n| n == frame.len()) && !self.stream.holds_back()
        };
        let has_probed = match &*self.session.transport.borrow() {
            Transport::Polling(writer) => match incoming {
                Incoming::Text(text)
                    if text == "2probe" && say(Frame::from_parts(Opcode::Text, &[b"3probe"])) =>
                {
                    writer.upgrade.set(Upgrade::Probed);
                    // The client waits for the end of its poll before it changes over.
                    writer.end_poll();
                    return;
                }
                Incoming::Ping(data) if say(Frame::from_parts(Opcode::Pong, &[data])) => return,
                Incoming::Pong(_) | Incoming::Partial => return,
                Incoming::Text(text) => text == "5" && writer.upgrade.get() == Upgrade::Probed,
                _ => false,
            },
            Transport::Websocket(_) | Transport::Gone => false,
        };
        if has_probed {
            self.stage.set(Stage::Running);
            let transport = Transport::Websocket(Writer { stream: Rc::clone(&self.stream) });
            self.session.change_transport(transport);
        } else {
            self.stage.set(Stage::Refused);
        }
    }

    fn end(&self) {
        self.stream.end(self.session.phase.get() == Phase::Dead && !self.session.outbox.borrow().is_empty());
        self.session.end();
    }
}

impl<A: Application> Drop for Connection<A> {
    fn drop(&mut self) {
        if self.stage.get() == Stage::Running {
            // A no-op after `end`; otherwise the runtime is going down with the connection open.
            self.session.release();
        } else if let Transport::Polling(writer) = &*self.session.transport.borrow() {
            writer.upgrade.set(Upgrade::No);
        }
    }
}
