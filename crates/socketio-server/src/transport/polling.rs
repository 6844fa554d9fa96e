//! HTTP long polling: a GET waits for what the outbox has, a POST brings what the client says.
//!
//! ```text
//! GET  <path>?EIO=3|4&transport=polling            -> the open packet
//! GET  <path>?...&sid=<sid>                        -> packets, as soon as there are any
//! POST <path>?...&sid=<sid>   packets              -> ok
//! ```
//!
//! The first half of this file is the session's side, on the thread that owns it; the second half the
//! connection's, on whatever worker the request came to. Between them travel [`Errand`]s, through the other
//! worker's door or, mostly, by a plain call. A polling session has no task: what ends it is done by the worker.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::rc::Rc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::Request;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use socketio_wire::engineio::Revision;
use socketio_wire::engineio::packet::PacketType;
use socketio_wire::engineio::payload::{self, Limits};
use socketio_wire::websocket::close::CloseCode;
use socketio_wire::websocket::frame::Opcode;
use tokio::sync::oneshot;

use crate::application::Application;
use crate::frame::{self, Frame};
use crate::handshake::Handshake;
use crate::heartbeat::Tick;
use crate::peers::{Errand, Reply};
use crate::reason::{Reason, Violation};
use crate::session::{Phase, Session, Sid};
use crate::stats::add;
use crate::transport::Transport;
use crate::transport::http::Refusal;
use crate::transport::websocket;
use crate::worker::{HeldBody, Worker};

/// Most packets in one POST: far more than a client gathers, far fewer than a megabyte could name.
const MAX_PACKETS: usize = 16 << 10;

/// The body of an answered poll.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) body: Vec<u8>,
    /// In the byte form of revision 3.
    pub(crate) is_bytes: bool,
}

/// Why a request did not come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// Its connection ended.
    Gone,
    /// Its body is larger than the limit.
    TooLarge,
    /// Its body did not arrive in time.
    Slow,
    /// The bodies of all requests under way hold too much memory.
    Full,
}

/// How far the change to a WebSocket has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Upgrade {
    No,
    /// A WebSocket is being opened for it; given up after this tick.
    Claimed(Tick),
    /// That WebSocket is open and has yet to prove itself.
    Probing,
    /// Its probe has been answered: polls end at once, so that the client can change over.
    Probed,
}

/// The write side of a polling session.
#[derive(Debug)]
pub(crate) struct Writer {
    revision: Revision,
    /// The client takes the byte form of revision 3.
    takes_bytes: bool,
    /// The poll that waits for an answer.
    waiting: RefCell<Option<Reply<Answer>>>,
    /// A POST is under way.
    posting: Cell<bool>,
    pub(crate) upgrade: Cell<Upgrade>,
}

impl Writer {
    fn new(revision: Revision, takes_bytes: bool, first: Reply<Answer>) -> Self {
        Self {
            revision,
            takes_bytes,
            waiting: RefCell::new(Some(first)),
            posting: Cell::new(false),
            upgrade: Cell::new(Upgrade::No),
        }
    }

    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting.borrow().is_some()
    }

    /// Answers the waiting poll with whole frames.
    pub(crate) fn write(&self, frames: &[IoSlice<'_>]) -> io::Result<usize> {
        let Some(reply) = self.waiting.take() else { return Err(io::ErrorKind::WouldBlock.into()) };
        let answer = encode(self.revision, self.takes_bytes, frames);
        let taken = frames.iter().map(|frame| frame.len()).sum();
        // The client has gone: what it was to be told may not be lost without a word.
        reply.send(Ok(answer)).map_err(|_| io::ErrorKind::ConnectionAborted)?;
        Ok(taken)
    }

    /// Ends a waiting poll without a message.
    pub(crate) fn end_poll(&self) {
        if self.is_waiting() {
            let _ = self.write(&[IoSlice::new(packet_frame(PacketType::Noop).as_bytes())]);
        }
    }
}

/// A packet without data as a frame.
fn packet_frame(kind: PacketType) -> Frame {
    Frame::from_parts(Opcode::Text, &[&[b'0' + kind.number()]])
}

/// Codes after which a client shall come back.
const COME_BACK: [CloseCode; 3] =
    [CloseCode::SERVICE_RESTART, CloseCode::TRY_AGAIN_LATER, CloseCode::SLOW_CONSUMER];

/// What a polling client is told when its session ends: `close`, or only the end of its poll when it said so first,
/// or when it shall come back: some clients stay away after a `close`, and all take the next poll's refusal for a
/// broken connection.
pub(crate) fn close_frame(reason: &Reason, code: Option<CloseCode>) -> Frame {
    let ends_the_poll_alone =
        matches!(reason, Reason::ClientClose(_)) || code.is_some_and(|code| COME_BACK.contains(&code));
    packet_frame(if ends_the_poll_alone { PacketType::Noop } else { PacketType::Close })
}

/// Frames without their WebSocket headers, as a polling body.
fn encode(revision: Revision, takes_bytes: bool, frames: &[IoSlice<'_>]) -> Answer {
    let is_bytes = takes_bytes && frames.iter().any(|frame| frame::is_binary(frame));
    let mut body = Vec::with_capacity(frames.iter().map(|frame| frame.len() + 8).sum());
    let mut base64 = String::new();
    for frame in frames {
        let packet = frame::payload(frame);
        if is_bytes {
            payload::append_raw_packet(frame::is_binary(frame), packet, &mut body);
            continue;
        }
        let text = if frame::is_binary(frame) {
            base64.clear();
            base64.push('b');
            match (revision, packet.split_first()) {
                (Revision::V3, Some((kind, data))) => {
                    base64.push(char::from(b'0' + kind));
                    BASE64_STANDARD.encode_string(data, &mut base64);
                }
                _ => BASE64_STANDARD.encode_string(packet, &mut base64),
            }
            &*base64
        } else {
            // Frames are made of strings.
            std::str::from_utf8(packet).unwrap_or_default()
        };
        payload::append_text_packet(revision, text, &mut body);
    }
    Answer { body, is_bytes }
}

/// Does on the session's own thread what came for it.
pub(crate) fn run_errand<A: Application>(worker: &Rc<Worker<A>>, errand: Errand) {
    match errand {
        Errand::Poll { sid, reply } => match find(worker, &sid) {
            Ok(session) => poll(&session, reply),
            Err(refusal) => drop(reply.send(Err(refusal))),
        },
        Errand::PostBegins { sid, reply } => {
            let _ = reply.send(post_begins(worker, &sid));
        }
        Errand::Post { sid, body, is_bytes, reply } => {
            let _ = reply.send(find(worker, &sid).and_then(|session| post(&session, &body, is_bytes)));
        }
        Errand::Broken { sid, how } => {
            if let Ok(session) = find(worker, &sid) {
                match how {
                    Broken::Gone | Broken::Slow | Broken::Full => session.lost(Reason::TransportClose),
                    Broken::TooLarge => session.violate(Violation::TooLarge),
                }
            }
        }
        Errand::UpgradeBegins { sid, revision, reply } => {
            let _ = reply.send(claim_upgrade(worker, &sid, revision));
        }
        Errand::Upgraded { sid, stream, leftover, lease } => {
            if let (Some(session), Ok(stream)) = (worker.polling_session(&sid), stream.attach()) {
                worker.spawn(async move {
                    websocket::take_over(session, stream, leftover).await;
                    drop(lease);
                });
            }
        }
    }
}

/// The session of this id, as long as it polls and its heartbeat is in time.
fn find<A: Application>(worker: &Worker<A>, sid: &Sid) -> Result<Rc<Session<A>>, Refusal> {
    let session = worker.polling_session(sid).ok_or(Refusal::UnknownSid)?;
    if !matches!(*session.transport.borrow(), Transport::Polling(_)) {
        // It has changed to a WebSocket.
        return Err(Refusal::BadRequest);
    }
    session.check_heartbeat();
    if session.phase.get() == Phase::Dead { Err(Refusal::UnknownSid) } else { Ok(session) }
}

/// Calls `f` with the write side of a session that polls.
fn with_writer<A: Application, T>(session: &Session<A>, f: impl FnOnce(&Writer) -> T) -> Option<T> {
    match &*session.transport.borrow() {
        Transport::Polling(writer) => Some(f(writer)),
        _ => None,
    }
}

fn poll<A: Application>(session: &Rc<Session<A>>, reply: Reply<Answer>) {
    let waiting = with_writer(session, |writer| {
        let before = writer.waiting.take();
        match before {
            // Its client has gone, which ends the session; the news is only under way.
            Some(gone) if gone.is_closed() => Err(Reason::TransportClose),
            Some(before) => {
                *writer.waiting.borrow_mut() = Some(before);
                Err(Reason::Violation(Violation::Overlap))
            }
            None => Ok(writer.upgrade.get() == Upgrade::Probed),
        }
    });
    match waiting {
        Some(Ok(ends_at_once)) => {
            with_writer(session, |writer| *writer.waiting.borrow_mut() = Some(reply));
            session.blocked.set(false);
            if !session.outbox.borrow().is_empty() {
                session.worker.flush_now(session);
            } else if ends_at_once {
                with_writer(session, Writer::end_poll);
            }
        }
        Some(Err(Reason::Violation(violation))) => {
            session.violate(violation);
            let _ = reply.send(Err(Refusal::BadRequest));
        }
        Some(Err(reason)) => {
            session.lost(reason);
            let _ = reply.send(Err(Refusal::UnknownSid));
        }
        None => drop(reply.send(Err(Refusal::BadRequest))),
    }
}

fn post_begins<A: Application>(worker: &Worker<A>, sid: &Sid) -> Result<(), Refusal> {
    let session = find(worker, sid)?;
    if !session.is_open() {
        return Err(Refusal::UnknownSid);
    }
    if with_writer(&session, |writer| writer.posting.replace(true)) == Some(true) {
        session.violate(Violation::Overlap);
        return Err(Refusal::BadRequest);
    }
    Ok(())
}

fn post<A: Application>(session: &Rc<Session<A>>, body: &[u8], is_bytes: bool) -> Result<(), Refusal> {
    with_writer(session, |writer| writer.posting.set(false));
    if !session.is_open() {
        return Err(Refusal::UnknownSid);
    }
    let limits = Limits { packets: MAX_PACKETS, bytes: session.worker.config().max_payload };
    let packets = if is_bytes && session.revision() == Revision::V3 {
        payload::decode_bytes(body, &limits)
    } else {
        payload::as_text(body).and_then(|text| payload::decode_text(session.revision(), text, &limits))
    };
    match packets {
        Ok(packets) => {
            for packet in &packets {
                if !session.is_open() {
                    break;
                }
                session.receive(packet);
                if !session.awaits_attachments() {
                    session.input_finished();
                }
            }
            session.input_unfinished(session.awaits_attachments(), 0);
        }
        Err(error) => session.violate(Violation::EngineIo(error)),
    }
    if session.has_violated() { Err(Refusal::BadRequest) } else { Ok(()) }
}

fn claim_upgrade<A: Application>(worker: &Worker<A>, sid: &Sid, revision: Revision) -> Result<bool, Refusal> {
    let session = worker.polling_session(sid).ok_or(Refusal::UnknownSid)?;
    if session.revision() != revision {
        return Err(Refusal::BadRequest);
    }
    let now = worker.tick();
    let claimed = with_writer(&session, |writer| {
        let is_free = match writer.upgrade.get() {
            Upgrade::No => true,
            Upgrade::Claimed(until) => until < now,
            Upgrade::Probing | Upgrade::Probed => false,
        };
        if is_free {
            let until = worker.tick_after(now, worker.config().upgrade_timeout);
            writer.upgrade.set(Upgrade::Claimed(until));
        }
        is_free
    });
    Ok(session.is_open() && claimed == Some(true))
}

// ---- the connection's side ----

/// Opens a session with a first poll, which brings the open packet.
pub(crate) async fn open<A: Application>(
    worker: &Rc<Worker<A>>,
    revision: Revision,
    handshake: Handshake,
    is_counted: bool,
) -> Result<Answer, Refusal> {
    let place = match is_counted {
        true => Some(worker.polling_place(handshake.peer().ip()).ok_or(Refusal::TooMany)?),
        false => None,
    };
    // A client of revision 3 that cannot take bytes says so.
    let takes_bytes = revision == Revision::V3 && handshake.query_value("b64").is_none();
    let (reply, answer) = oneshot::channel();
    let transport = Transport::Polling(Box::new(Writer::new(revision, takes_bytes, reply)));
    let session = Session::open(worker, revision, handshake, transport);
    if let Some(place) = place {
        let _ = session.address.set(place);
    }
    worker.add_polling(&session);
    worker.flush_now(&session);
    drop(session);
    answer.await.unwrap_or(Err(Refusal::UnknownSid))
}

/// Waits for what the session has to say.
pub(crate) async fn wait<A: Application>(worker: &Rc<Worker<A>>, sid: Sid) -> Result<Answer, Refusal> {
    let (reply, answer) = oneshot::channel();
    worker.run_errand(&sid, Errand::Poll { sid, reply });
    Guard::new(worker, sid).until(answer).await
}

/// Takes the body of a POST to its session.
pub(crate) async fn take<A: Application>(
    worker: &Rc<Worker<A>>,
    sid: Sid,
    request: Request<Incoming>,
) -> Result<(), Refusal> {
    let (reply, answer) = oneshot::channel();
    worker.run_errand(&sid, Errand::PostBegins { sid, reply });
    let guard = Guard::new(worker, sid);
    answer.await.unwrap_or(Err(Refusal::UnknownSid)).inspect_err(|_| guard.disarm())?;
    let is_bytes = request
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/octet-stream"));
    // Held, and counted, until the session has taken it.
    let (body, _held) = match read_body(worker, request).await {
        Ok(read) => read,
        Err(how) => {
            guard.broken(how);
            return Err(match how {
                Broken::TooLarge => Refusal::TooLarge,
                Broken::Slow => Refusal::Slow,
                Broken::Full => Refusal::Full,
                Broken::Gone => Refusal::BadRequest,
            });
        }
    };
    let (reply, answer) = oneshot::channel();
    worker.run_errand(&sid, Errand::Post { sid, body, is_bytes, reply });
    guard.until(answer).await
}

async fn read_body<A: Application>(
    worker: &Worker<A>,
    request: Request<Incoming>,
) -> Result<(Bytes, HeldBody<'_>), Broken> {
    let config = worker.config();
    let length = request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if length.is_some_and(|length: usize| length > config.max_payload) {
        return Err(Broken::TooLarge);
    }
    let body = gather(worker, request.into_body());
    match tokio::time::timeout(config.body_timeout, body).await {
        Err(_) => Err(Broken::Slow),
        Ok(gathered) => {
            let (body, held) = gathered?;
            add(&worker.stats().bytes_in, body.len() as u64);
            Ok((body.into(), held))
        }
    }
}

/// Bodies up to this size are always taken, however much others hold.
const SMALL_BODY: usize = 16 << 10;

async fn gather<A: Application>(
    worker: &Worker<A>,
    mut body: Incoming,
) -> Result<(Vec<u8>, HeldBody<'_>), Broken> {
    let mut whole = Vec::new();
    let mut held = worker.hold_body();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Broken::Gone)?.into_data() else { continue };
        if data.len() > worker.config().max_payload - whole.len() {
            return Err(Broken::TooLarge);
        }
        whole.extend_from_slice(&data);
        if !held.grow_to(whole.capacity()) && whole.len() > SMALL_BODY {
            return Err(Broken::Full);
        }
    }
    Ok((whole, held))
}

/// Asks whether a session changes to the WebSocket that is being opened.
pub(crate) async fn begin_upgrade<A: Application>(
    worker: &Rc<Worker<A>>,
    sid: Sid,
    revision: Revision,
) -> Result<bool, Refusal> {
    let (reply, answer) = oneshot::channel();
    worker.run_errand(&sid, Errand::UpgradeBegins { sid, revision, reply });
    answer.await.unwrap_or(Err(Refusal::UnknownSid))
}

/// Ends the session when a request of it is dropped unanswered: its client has gone.
struct Guard<'a, A: Application> {
    worker: &'a Rc<Worker<A>>,
    sid: Sid,
    is_over: Cell<bool>,
}

impl<'a, A: Application> Guard<'a, A> {
    fn new(worker: &'a Rc<Worker<A>>, sid: Sid) -> Self {
        Self { worker, sid, is_over: Cell::new(false) }
    }

    fn disarm(&self) {
        self.is_over.set(true);
    }

    async fn until<T>(self, answer: oneshot::Receiver<Result<T, Refusal>>) -> Result<T, Refusal> {
        let answered = answer.await;
        self.disarm();
        answered.unwrap_or(Err(Refusal::UnknownSid))
    }

    fn broken(&self, how: Broken) {
        if !self.is_over.replace(true) {
            self.worker.run_errand(&self.sid, Errand::Broken { sid: self.sid, how });
        }
    }
}

impl<A: Application> Drop for Guard<'_, A> {
    fn drop(&mut self) {
        self.broken(Broken::Gone);
    }
}
