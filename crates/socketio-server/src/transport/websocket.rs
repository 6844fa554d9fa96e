//! A WebSocket over TCP, after the HTTP upgrade.
//!
//! The task reads into the worker's one buffer and parses there; memory of its own it has only while a frame is
//! incomplete. Writing is the worker's flush, straight on the socket; this task writes only after the socket
//! was full.

use std::io::{self, IoSlice};
use std::rc::Rc;
use std::task::{Context, Poll};

use rustix::net::{RecvFlags, Shutdown, recv, shutdown};
use socketio_wire::websocket::close::CloseCode;
use socketio_wire::websocket::frame::{Incoming, MAX_HEADER_LEN, Opcode, Reader, Role, encode_close_payload};
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::application::Application;
use crate::frame::Frame;
use crate::reason::{Reason, Violation};
use crate::session::{Phase, Session};
use crate::stats::add;
use crate::transport::Transport;
use crate::transport::http::Upgraded;
use crate::worker::Worker;

/// Least room made in a connection's own buffer, in bytes.
const LEAST_ROOM: usize = 1024;

/// The socket, as flushing sees it.
#[derive(Debug)]
pub(crate) struct Writer {
    stream: Rc<TcpStream>,
}

impl Writer {
    /// `send` for one frame, `writev` for more.
    pub(crate) fn write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match slices {
            [one] => self.stream.try_write(one),
            many => self.stream.try_write_vectored(many),
        }
    }

    pub(crate) fn finish(&self) {
        // An error means that the peer is gone, which reading will show.
        let _ = shutdown(&*self.stream, Shutdown::Write);
    }
}

pub(crate) fn close_frame(close: Option<(CloseCode, &str)>) -> Frame {
    let mut payload = Vec::new();
    if let Some((code, why)) = close {
        encode_close_payload(code, why, &mut payload);
    }
    Frame::from_parts(Opcode::Close, &[&payload])
}

/// Runs an upgraded connection to its end.
pub(crate) async fn run<A: Application>(worker: Rc<Worker<A>>, upgraded: Upgraded) {
    let Upgraded { stream, mut leftover, revision, handshake } = upgraded;
    if !worker.config().open_delay.is_zero() {
        Box::pin(tokio::time::sleep(worker.config().open_delay)).await;
    }
    let stream = Rc::new(stream);
    let transport = Transport::Websocket(Writer { stream: Rc::clone(&stream) });
    let session = Session::open(&worker, revision, handshake, transport);
    let reader = Reader::new(Role::Server, worker.config().max_payload);
    if let Some(code) = worker.draining() {
        // The drain began between the upgrade's answer and now.
        session.drain(code);
    }
    let mut connection = Connection { session, stream, reader, remainder: Vec::new() };
    drop(worker);
    if !leftover.is_empty() {
        let consumed = connection.parse(&mut leftover);
        leftover.drain(..consumed);
        connection.remainder = leftover;
    } else {
        drop(leftover);
    }
    std::future::poll_fn(|cx| connection.poll(cx)).await;
    connection.end();
}

struct Connection<A: Application> {
    session: Rc<Session<A>>,
    stream: Rc<TcpStream>,
    reader: Reader,
    /// The beginning of a frame whose end has not arrived; no memory otherwise.
    remainder: Vec<u8>,
}

enum Read {
    /// There may be more at once.
    Again,
    /// Wait for the socket to become readable.
    Wait,
    /// The connection is over.
    Over,
}

impl<A: Application> Connection<A> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let session = Rc::clone(&self.session);
        session.set_task(cx.waker());
        loop {
            if session.phase.get() == Phase::Dead {
                return Poll::Ready(());
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
            let (outcome, length) = receive(&self.stream, buffer.len(), |stream, flags| {
                recv(stream, &mut buffer[..], flags).map(|(_, length)| length)
            })?;
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
            let room = own.capacity() - held;
            let (outcome, length) = receive(&self.stream, room, |stream, flags| {
                recv(stream, rustix::buffer::spare_capacity(&mut own), flags).map(|(_, length)| length)
            })?;
            let consumed = self.parse(&mut own);
            if consumed < own.len() {
                own.drain(..consumed);
                own.shrink_to(LEAST_ROOM);
                self.remainder = own;
            }
            (outcome, length)
        };
        add(&worker.stats().bytes_in, bytes as u64);
        Ok(outcome)
    }

    /// Handles the complete frames at the front and gives their length.
    fn parse(&mut self, bytes: &mut [u8]) -> usize {
        let mut at = 0;
        while self.session.is_open() {
            match self.reader.read(&mut bytes[at..]) {
                Ok(Some((length, incoming))) => {
                    at += length;
                    self.handle(&incoming);
                }
                Ok(None) => return at,
                Err(error) => self.session.violate(Violation::Frame(error)),
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

    fn end(&self) {
        if self.session.phase.get() == Phase::Dead && !self.session.outbox.borrow().is_empty() {
            // Half a frame may have left, and the kernel may hold more: only a reset frees it at once.
            let _ = self.stream.set_zero_linger();
        }
        self.session.end();
    }
}

impl<A: Application> Drop for Connection<A> {
    fn drop(&mut self) {
        // A no-op after `end`; otherwise the runtime is going down with the connection open.
        self.session.release();
    }
}

/// One `recv` of up to `room` bytes. A call that does not fill the room has emptied the socket, so its
/// readiness is given up without a second call that would only say so.
fn receive(
    stream: &TcpStream,
    room: usize,
    mut call: impl FnMut(&TcpStream, RecvFlags) -> rustix::io::Result<usize>,
) -> io::Result<(Read, usize)> {
    let mut partial = None;
    let result = stream.try_io(Interest::READABLE, || {
        let length = loop {
            match call(stream, RecvFlags::empty()) {
                Err(rustix::io::Errno::INTR) => {}
                other => break other?,
            }
        };
        if length > 0 && length < room {
            partial = Some(length);
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(length)
    });
    match (partial, result) {
        (Some(length), _) => Ok((Read::Wait, length)),
        (None, Ok(0)) => Ok((Read::Over, 0)),
        (None, Ok(length)) => Ok((Read::Again, length)),
        (None, Err(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok((Read::Wait, 0)),
        (None, Err(error)) => Err(error),
    }
}
