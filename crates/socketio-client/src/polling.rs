//! A session over HTTP long polling: one poll waits at the server, at most one post is under way beside it, and
//! what is said meanwhile gathers for the next. Until the session changes to a WebSocket, if it is to.
//!
//! ```text
//! GET  ?EIO=4&transport=polling                  0{"sid":"a","upgrades":["websocket"],...}
//! GET  ?EIO=4&transport=polling&sid=a            what the server has to say, as soon as it has something
//! POST ?EIO=4&transport=polling&sid=a            what this side has to say; answered `ok`
//! GET  ?EIO=4&transport=websocket&sid=a          101; `2probe`, `3probe`; the poll is ended by `6`; `5`
//! ```

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use socketio_wire::engineio::Revision;
use socketio_wire::engineio::handshake::{self, Handshake};
use socketio_wire::engineio::packet::{self as engine, Data, Packet, PacketType};
use socketio_wire::engineio::payload::{self, Cursor, Limits};
use socketio_wire::websocket::frame::Opcode;
use tokio::time::{Sleep, sleep, timeout};

use crate::client::Incoming;
use crate::cookies::Cookies;
use crate::error::{Cause, Closed, Method};
use crate::http::{self, Head};
use crate::lane::{Lane, LaneError, Opening};
use crate::net::{Progress, Route, Stream};
use crate::options::{Options, Transport};
use crate::pace::Pace;
use crate::response::Response;
use crate::session::{Session, sample};
use crate::upgrade::{self, Probe, Probed, Upgrade};
use crate::websocket::{Connection, Stop, encode_masked};

/// What a post holds at most where the server sets no limit.
const MAX_POST: usize = 1_000_000;
/// Most bytes of the answer to a post, which is `ok`.
const MAX_POST_ANSWER: usize = 16 * 1024;
/// So much may wait behind a post before sending waits too.
const MAX_QUEUE: usize = 64 * 1024;

pub(crate) struct Polling {
    /// With the one address that took the first request: the session lives there.
    options: Options,
    sid: String,
    cookies: Cookies,
    polls: Lane,
    posts: Lane,
    /// A poll's answer that has not been visited to its end.
    inbox: Option<Inbox>,
    queue: VecDeque<Outgoing>,
    /// Bytes in `queue`.
    queued: usize,
    /// Packets given by the application so far; of them in answered posts; and in the post under way.
    given: u64,
    taken: u64,
    under_way: u64,
    /// Most bytes of a post.
    max_post: usize,
    /// When the post under way has taken too long.
    overdue: Option<Pin<Box<Sleep>>>,
    /// What became of a post; told once nothing more is to be visited.
    post_failed: Option<Closed>,
    change: Change,
    upgrade: Option<Box<Upgrade>>,
    last_read: Instant,
    addresses: Option<(SocketAddr, SocketAddr)>,
    /// Tells one request from another, for caches in between.
    requests: u32,
    leaving: bool,
    closed: Option<Closed>,
    /// Set for a slow reader.
    pace: Option<Box<Pace>>,
}

/// How far the change to a WebSocket is.
enum Change {
    No,
    Probing(Probe),
    /// The probe got through; the poll and the post under way are waited for, and no new ones begun.
    Pausing(Box<Probed>),
}

/// A packet to be sent.
enum Outgoing {
    /// Its type included.
    Text(Box<str>),
    /// The engine's own (a pong, a goodbye), its type included.
    Own(Box<str>),
    /// The data of a message.
    Binary(Bytes),
}

/// A poll's answer, visited up to a place.
struct Inbox {
    body: Body,
    cursor: Cursor,
}

enum Body {
    Text(String),
    /// Revision 3's byte form.
    Bytes(Vec<u8>),
}

impl Inbox {
    fn new(answer: Response, revision: Revision) -> Result<Self, Closed> {
        let octets = answer.head.fields("content-type").any(|kind| kind.starts_with(BYTES));
        let body = if octets && revision == Revision::V3 {
            Body::Bytes(answer.body)
        } else {
            match String::from_utf8(answer.body) {
                Ok(text) => Body::Text(text),
                Err(_) => return Err(Closed::Protocol("a poll's answer is not UTF-8".into())),
            }
        };
        Ok(Self { body, cursor: Cursor::default() })
    }

    /// Bytes not visited yet; `None` behind the last packet.
    fn left(&self, revision: Revision) -> Option<usize> {
        let len = match &self.body {
            Body::Text(text) => text.len(),
            Body::Bytes(bytes) => bytes.len(),
        };
        self.cursor.left(revision, len)
    }

    fn next(&mut self, revision: Revision) -> Result<Option<Packet<'_>>, Closed> {
        // The body is within its limit already, and its packets are taken one by one.
        let limits = Limits { packets: usize::MAX, bytes: usize::MAX };
        let next = match &self.body {
            Body::Text(text) => self.cursor.next_text(revision, text, &limits),
            Body::Bytes(bytes) => self.cursor.next_bytes(bytes, &limits),
        };
        next.map_err(|error| Closed::Protocol(format!("a poll's answer: {error}")))
    }

    fn sample(&self) -> String {
        match &self.body {
            Body::Text(text) => format!("{:?}", sample(text)),
            Body::Bytes(bytes) => format!("\"{}\"", bytes[..bytes.len().min(100)].escape_ascii()),
        }
    }
}

/// The content type of revision 3's byte form.
const BYTES: &str = "application/octet-stream";

impl Outgoing {
    /// Bytes it takes in a body at most.
    fn cost(&self, revision: Revision) -> usize {
        const LENGTH: usize = 12; // a length and what stands around it
        match (self, revision) {
            (Outgoing::Text(text) | Outgoing::Own(text), Revision::V4) => text.len() + 1,
            (Outgoing::Text(text) | Outgoing::Own(text), Revision::V3) => text.len() + LENGTH,
            (Outgoing::Binary(bytes), Revision::V4) => bytes.len().div_ceil(3) * 4 + 2,
            (Outgoing::Binary(bytes), Revision::V3) => bytes.len() + LENGTH,
        }
    }

    /// Bytes held for it.
    fn len(&self) -> usize {
        match self {
            Outgoing::Text(text) | Outgoing::Own(text) => text.len(),
            Outgoing::Binary(bytes) => bytes.len(),
        }
    }

    /// 1 for what the application gave.
    fn given(&self) -> u64 {
        u64::from(!matches!(self, Outgoing::Own(_)))
    }

    fn packet(&self) -> Result<Packet<'_>, socketio_wire::Error> {
        Ok(match self {
            Outgoing::Text(text) | Outgoing::Own(text) => {
                let (kind, data) = engine::decode_text(text)?;
                Packet { kind, data: Data::Text(data) }
            }
            Outgoing::Binary(bytes) => {
                Packet { kind: PacketType::Message, data: Data::Binary(bytes.as_ref().into()) }
            }
        })
    }
}

/// One body of all `packets`, and its content type.
fn encode_body(revision: Revision, packets: &[Outgoing]) -> (&'static str, Vec<u8>) {
    let mut body = Vec::new();
    let binary = packets.iter().any(|packet| matches!(packet, Outgoing::Binary(_)));
    if revision == Revision::V3
        && binary
        && let Ok(packets) = packets.iter().map(Outgoing::packet).collect::<Result<Vec<_>, _>>()
    {
        payload::encode_bytes(&packets, &mut body);
        return (BYTES, body);
    }
    let mut base64 = Vec::new();
    for packet in packets {
        match packet {
            Outgoing::Text(text) | Outgoing::Own(text) => {
                payload::append_text_packet(revision, text, &mut body);
            }
            Outgoing::Binary(bytes) => {
                base64.clear();
                engine::encode_base64(revision, PacketType::Message, bytes, &mut base64);
                let text = std::str::from_utf8(&base64).expect("base64 is ASCII");
                payload::append_text_packet(revision, text, &mut body);
            }
        }
    }
    (http::TEXT, body)
}

impl Polling {
    pub(crate) fn new(options: &Options, stream: Stream, address: Option<SocketAddr>) -> Self {
        let mut options = options.clone();
        if let Some(address) = address {
            options.addresses = vec![address];
        }
        let tcp = stream.tcp();
        let addresses = tcp.local_addr().ok().zip(tcp.peer_addr().ok());
        Self {
            options,
            sid: String::new(),
            cookies: Cookies::default(),
            polls: Lane::fresh(stream),
            posts: Lane::empty(),
            inbox: None,
            queue: VecDeque::new(),
            queued: 0,
            given: 0,
            taken: 0,
            under_way: 0,
            max_post: MAX_POST,
            overdue: None,
            post_failed: None,
            change: Change::No,
            upgrade: None,
            last_read: Instant::now(),
            addresses,
            requests: 0,
            leaving: false,
            closed: None,
            pace: None,
        }
    }

    /// See `Client::set_read_rate`.
    pub(crate) fn set_read_rate(&mut self, bytes_per_second: Option<NonZeroU32>) {
        self.pace = bytes_per_second.map(Pace::new);
    }

    pub(crate) fn read_rate(&self) -> Option<NonZeroU32> {
        self.pace.as_ref().map(|pace| pace.rate())
    }

    fn revision(&self) -> Revision {
        self.options.revision
    }

    /// The first poll, whose answer begins with the `open` packet. What follows that is kept.
    pub(crate) async fn open(&mut self) -> Result<Handshake, Cause> {
        self.start_poll()?;
        let answer = poll_fn(|cx| self.polls.poll(cx)).await;
        let answer = answer.map_err(LaneError::into_cause)?;
        let revision = self.revision();
        let mut inbox = self.took(answer)?;
        let sample = inbox.sample();
        let open = match inbox.next(revision) {
            Ok(Some(Packet { kind: PacketType::Open, data: Data::Text(json) })) => {
                handshake::decode(json).map_err(|error| format!("{sample} ({error})"))
            }
            _ => Err(sample),
        };
        let open = open
            .map_err(|found| Cause::Protocol(format!("expected the Engine.IO open packet, got {found}")))?;
        if inbox.left(revision).is_some() {
            self.inbox = Some(inbox);
        }
        self.sid = url::form_urlencoded::byte_serialize(open.sid.as_bytes()).collect();
        if let Some(max) = open.max_payload {
            self.max_post = usize::try_from(max).unwrap_or(usize::MAX);
        }
        if self.options.transport == Transport::PollingThenWebSocket
            && open.upgrades.iter().any(|offered| offered == "websocket")
        {
            let mut options = self.options.clone();
            options.headers = self.cookies.joined(&options.headers);
            let target = format!("{}&sid={}", options.target("websocket", revision), self.sid);
            self.change = Change::Probing(upgrade::probe(options, target));
        }
        Ok(open)
    }

    /// Takes what is common to all good answers.
    fn took(&mut self, answer: Response) -> Result<Inbox, Closed> {
        self.take_cookies(&answer);
        self.last_read = Instant::now();
        if let Some(pace) = &mut self.pace {
            pace.took(answer.body.len());
        }
        if let Some(coding) = answer.head.fields("content-encoding").find(|coding| *coding != "identity") {
            return Err(Closed::Protocol(format!(
                "a poll's answer in the encoding {coding:?}, which was not asked for"
            )));
        }
        Inbox::new(answer, self.revision())
    }

    fn take_cookies(&mut self, answer: &Response) {
        let target = self.options.target("polling", self.revision());
        let path = target.split('?').next().unwrap_or("/");
        self.cookies.take(answer.head.fields("set-cookie"), path, self.options.endpoint.is_secure());
    }

    /// A request of this session, ready to be sent.
    fn request(&mut self, method: Method, body: Option<(&str, &[u8])>) -> Result<Vec<u8>, Cause> {
        let mut target = self.options.target("polling", self.revision());
        self.requests = self.requests.wrapping_add(1);
        target.push_str("&t=");
        target.push_str(&self.requests.to_string());
        if !self.sid.is_empty() {
            target.push_str("&sid=");
            target.push_str(&self.sid);
        }
        let headers = self.cookies.joined(&self.options.headers);
        let head = Head { authority: &self.options.endpoint.authority, target: &target, headers: &headers };
        let mut request = Vec::with_capacity(512);
        let reserved =
            ["connection", "content-length", "content-type", "transfer-encoding", "accept-encoding"];
        let method = match method {
            Method::Poll => "GET",
            Method::Post => "POST",
        };
        head.encode(method, &reserved, &mut request)?;
        match body {
            Some((kind, body)) => http::put_body(&mut request, kind, body),
            None => request.extend_from_slice(b"\r\n"),
        }
        Ok(request)
    }

    fn start_poll(&mut self) -> Result<(), Cause> {
        if !self.polls.is_idle() || self.leaving || matches!(self.change, Change::Pausing(_)) {
            return Ok(());
        }
        let request = self.request(Method::Poll, None)?;
        let options = &self.options;
        self.polls.start(request, options.max_payload, || open_stream(options));
        Ok(())
    }

    /// Posts what has gathered, as much of it as one post may hold.
    fn start_post(&mut self) -> Result<(), Cause> {
        if !self.posts.is_idle() || self.queue.is_empty() {
            return Ok(());
        }
        // The change waits for the posts under way; what gathers meanwhile goes with it, unless it becomes too much.
        if matches!(self.change, Change::Pausing(_)) && self.queued <= MAX_QUEUE {
            return Ok(());
        }
        let revision = self.revision();
        let mut cost = 0;
        let mut count = 0;
        for packet in &self.queue {
            cost += packet.cost(revision);
            // One that is too large goes alone: the server has the last word.
            if count > 0 && cost > self.max_post {
                break;
            }
            count += 1;
        }
        let packets: Vec<Outgoing> = self.queue.drain(..count).collect();
        self.queued = self.queue.iter().map(Outgoing::len).sum();
        self.under_way = packets.iter().map(Outgoing::given).sum();
        let (kind, body) = encode_body(revision, &packets);
        let request = self.request(Method::Post, Some((kind, &body)))?;
        let options = &self.options;
        self.posts.start(request, MAX_POST_ANSWER, || open_stream(options));
        self.overdue = Some(Box::pin(sleep(self.options.timeouts.send)));
        Ok(())
    }

    /// Posts until nothing is to be posted or the one under way has to be waited for.
    fn drive_posts(&mut self, cx: &mut Context<'_>) -> Result<(), Closed> {
        loop {
            self.start_post().map_err(|cause| Closed::of_request(Method::Post, cause))?;
            let under_way = !self.posts.is_idle();
            match self.posts.poll(cx) {
                Poll::Ready(Ok(answer)) => {
                    self.overdue = None;
                    self.taken += std::mem::take(&mut self.under_way);
                    self.take_cookies(&answer);
                }
                // Not repeated: the server may have taken it.
                Poll::Ready(Err(error)) => return Err(Closed::of_request(Method::Post, error.into_cause())),
                Poll::Pending => {
                    if under_way
                        && let Some(overdue) = &mut self.overdue
                        && overdue.as_mut().poll(cx).is_ready()
                    {
                        let cause = Cause::Timeout(self.options.timeouts.send);
                        return Err(Closed::of_request(Method::Post, cause));
                    }
                    return Ok(());
                }
            }
        }
    }

    /// Sees to the WebSocket beside the polls.
    fn drive_change(&mut self, cx: &mut Context<'_>) {
        match &mut self.change {
            Change::No => {}
            Change::Probing(probe) => match probe.as_mut().poll(cx) {
                Poll::Ready(Ok(probed)) => {
                    self.change = Change::Pausing(probed);
                    self.drive_change(cx);
                }
                Poll::Ready(Err(failed)) => self.stay(failed),
                Poll::Pending => {}
            },
            Change::Pausing(probed) => {
                // Nothing may come before the change: who takes the session to have changed already is mistaken.
                let end = probed.connection.poll_messages(cx, |_, _, _| {
                    ControlFlow::Break(Stop::Close(Closed::Protocol("a message before the change".into())))
                });
                if let Poll::Ready(Err(closed)) = end {
                    let failed = upgrade::lost(probed, &self.options, closed);
                    self.stay(failed);
                }
            }
        }
    }

    /// The session goes on polling.
    fn stay(&mut self, failed: Box<Upgrade>) {
        self.upgrade = Some(failed);
        self.change = Change::No;
    }

    /// The WebSocket the session has changed to, once neither poll nor post is under way.
    pub(crate) fn changed(&mut self) -> Option<(Connection, Box<Upgrade>)> {
        if !self.is_ready_to_change() {
            return None;
        }
        let Change::Pausing(probed) = std::mem::replace(&mut self.change, Change::No) else { return None };
        let Probed { mut connection, stages, began } = *probed;
        // Or silence on the new way would seem to have begun before the last poll was answered.
        connection.read_elsewhere(self.last_read);
        let mut frames = Vec::new();
        encode_masked(Opcode::Text, b"5", &mut frames);
        for packet in self.queue.drain(..) {
            match packet {
                Outgoing::Text(text) | Outgoing::Own(text) => {
                    encode_masked(Opcode::Text, text.as_bytes(), &mut frames);
                }
                Outgoing::Binary(bytes) => {
                    let mut data = Vec::with_capacity(1 + bytes.len());
                    engine::encode_binary(self.options.revision, PacketType::Message, &bytes, &mut data);
                    encode_masked(Opcode::Binary, &data, &mut frames);
                }
            }
        }
        // A failure is kept by the connection and answers the next call.
        let _ = connection.submit(&frames);
        Some((connection, Box::new(Upgrade { took: began.elapsed(), outcome: Ok(stages) })))
    }

    fn is_ready_to_change(&self) -> bool {
        matches!(self.change, Change::Pausing(_))
            && self.inbox.is_none()
            && self.post_failed.is_none()
            && self.polls.is_idle()
            && self.posts.is_idle()
    }

    /// Waits once for an answer to a poll (not where an earlier visit left packets) and visits its packets.
    /// Answers after each, and when the session may change to its WebSocket.
    pub(crate) fn poll_packets<F>(
        &mut self,
        cx: &mut Context<'_>,
        session: &mut Session,
        visit: &mut F,
    ) -> Poll<Result<(), Closed>>
    where
        F: FnMut(Incoming<'_>) -> ControlFlow<()>,
    {
        if let Some(closed) = &self.closed {
            return Poll::Ready(Err(closed.clone()));
        }
        if let Some(inbox) = self.inbox.take() {
            return Poll::Ready(self.deliver(inbox, session, visit));
        }
        if self.post_failed.is_none() {
            self.post_failed = self.drive_posts(cx).err();
        }
        self.drive_change(cx);
        if self.is_ready_to_change() {
            return Poll::Ready(Ok(()));
        }
        loop {
            if let Some(pace) = &mut self.pace
                && self.polls.is_idle()
                && pace.poll(cx).is_pending()
                && self.post_failed.is_none()
            {
                return Poll::Pending;
            }
            if let Err(cause) = self.start_poll() {
                return Poll::Ready(Err(self.end(Closed::of_request(Method::Poll, cause))));
            }
            match self.polls.poll(cx) {
                Poll::Ready(Ok(answer)) => {
                    let inbox = match self.took(answer) {
                        Ok(inbox) => inbox,
                        Err(closed) => return Poll::Ready(Err(self.end(closed))),
                    };
                    return Poll::Ready(self.deliver(inbox, session, visit));
                }
                // The server ended an idle connection just then; asking again on a new one takes nothing away.
                Poll::Ready(Err(LaneError::Stale(_))) if !self.leaving => {
                    // While the change is waited for none is asked again, and this may have been the last.
                    if self.is_ready_to_change() {
                        return Poll::Ready(Ok(()));
                    }
                }
                Poll::Ready(Err(error)) => {
                    let closed = Closed::of_request(Method::Poll, error.into_cause());
                    return Poll::Ready(Err(self.end(closed)));
                }
                Poll::Pending => {
                    return match self.post_failed.take() {
                        Some(closed) => Poll::Ready(Err(self.end(closed))),
                        None => Poll::Pending,
                    };
                }
            }
        }
    }

    /// Visits what is left of a poll's answer, then lets the next poll and what was answered leave.
    fn deliver<F>(&mut self, mut inbox: Inbox, session: &mut Session, visit: &mut F) -> Result<(), Closed>
    where
        F: FnMut(Incoming<'_>) -> ControlFlow<()>,
    {
        let at = self.last_read;
        loop {
            let flow = match inbox.next(self.options.revision) {
                Err(closed) => return Err(self.end(closed)),
                Ok(None) => break,
                Ok(Some(packet)) => session.receive_polled(packet, at, |pong| self.submit_own(pong), visit),
            };
            match flow {
                ControlFlow::Continue(()) => {}
                ControlFlow::Break(Stop::Visitor) if inbox.left(self.options.revision).is_none() => break,
                ControlFlow::Break(Stop::Visitor) => {
                    self.inbox = Some(inbox);
                    return Ok(());
                }
                ControlFlow::Break(Stop::Close(closed)) => return Err(self.end(closed)),
            }
        }
        // What has been visited counts first; where a request cannot be made, the next call finds out too.
        if self.pace.is_none() {
            let _ = self.start_poll();
        }
        let _ = self.start_post();
        Ok(())
    }

    fn submit_own(&mut self, packet: &[u8]) {
        let text = text_of(packet);
        self.queued += text.len();
        self.queue.push_back(Outgoing::Own(text));
    }

    /// Engine.IO 3's heartbeat.
    pub(crate) fn submit_ping(&mut self) -> Result<(), Closed> {
        if let Some(closed) = &self.closed {
            return Err(closed.clone());
        }
        self.submit_own(b"2");
        self.start_post().map_err(|cause| self.end(Closed::of_request(Method::Post, cause)))
    }

    /// Packets given so far, and how many of them, the first ones, stood in posts that were answered.
    pub(crate) fn posted(&self) -> (u64, u64) {
        (self.given, self.taken)
    }

    /// Takes one Engine.IO text packet for the next post, which leaves at once if none is under way.
    pub(crate) fn submit(&mut self, packet: &[u8]) -> Result<(), Closed> {
        self.submit_binary(packet, &[])
    }

    /// [`Polling::submit`], with binary messages right behind the text.
    pub(crate) fn submit_binary(&mut self, packet: &[u8], attachments: &[Bytes]) -> Result<(), Closed> {
        if let Some(closed) = &self.closed {
            return Err(closed.clone());
        }
        let text = text_of(packet);
        self.queued += text.len();
        self.queue.push_back(Outgoing::Text(text));
        for attachment in attachments {
            self.queued += attachment.len();
            self.queue.push_back(Outgoing::Binary(attachment.clone()));
        }
        self.given += 1 + attachments.len() as u64;
        self.start_post().map_err(|cause| self.end(Closed::of_request(Method::Post, cause)))
    }

    /// Waits until what was submitted is on its way, or waits behind a post that is and is not too much.
    pub(crate) async fn finish_send(&mut self) -> Result<(), Closed> {
        let limit = self.options.timeouts.send;
        match timeout(limit, poll_fn(|cx| self.poll_sent(cx))).await {
            Ok(outcome) => outcome,
            Err(_) => {
                let text = "send timeout".to_owned();
                Err(self.end(Closed::Transport { kind: io::ErrorKind::TimedOut, text }))
            }
        }
    }

    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        if let Some(closed) = &self.closed {
            return Poll::Ready(Err(closed.clone()));
        }
        if let Err(closed) = self.drive_posts(cx) {
            return Poll::Ready(Err(self.end(closed)));
        }
        if self.posts.is_sent() && self.queued <= MAX_QUEUE {
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
    }

    /// Posts a farewell, `packets` and the Engine.IO `close`, and waits until it and the poll under way are
    /// answered.
    pub(crate) async fn close_with<F>(
        mut self: Box<Self>,
        session: &mut Session,
        packets: &[String],
        mut visit: F,
    ) -> Closed
    where
        F: FnMut(Incoming<'_>) -> ControlFlow<()>,
    {
        if let Some(closed) = &self.closed {
            return closed.clone();
        }
        // A WebSocket that was only probed is let go; the session is still here.
        self.change = Change::No;
        self.leaving = true;
        for packet in packets {
            self.submit_own(packet.as_bytes());
        }
        self.submit_own(b"1");
        let limit = self.options.timeouts.close;
        let last = timeout(
            limit,
            poll_fn(|cx| {
                loop {
                    let polled = self.poll_packets(cx, session, &mut visit);
                    let idle = self.inbox.is_none() && self.polls.is_idle();
                    match polled {
                        Poll::Ready(Err(closed)) => return Poll::Ready(closed),
                        _ if idle && self.queue.is_empty() && self.posts.is_idle() => {
                            return Poll::Ready(Closed::Local);
                        }
                        Poll::Ready(Ok(())) => {}
                        Poll::Pending => return Poll::Pending,
                    }
                }
            }),
        );
        let outcome = last.await;
        let packets = self.given - self.taken;
        match outcome {
            // What breaks the protocol is told; any other end is the one that was asked for.
            Ok(closed @ Closed::Protocol(_)) => closed,
            Ok(closed) if packets > 0 => Closed::Unsent { packets, text: closed.to_string() },
            Err(_) if packets > 0 => {
                let text = format!("no answer within {} s", limit.as_secs_f64());
                Closed::Unsent { packets, text }
            }
            _ => Closed::Local,
        }
    }

    fn end(&mut self, closed: Closed) -> Closed {
        self.closed.get_or_insert(closed).clone()
    }

    /// Ends the session from this side for a reason the layer above has found.
    pub(crate) fn fail(&mut self, closed: Closed) -> Closed {
        let closed = self.end(closed);
        self.reset_on_drop();
        closed
    }

    /// Makes the coming drop a reset of every connection there is.
    pub(crate) fn reset_on_drop(&self) {
        for stream in [self.polls.stream(), self.posts.stream()].into_iter().flatten() {
            stream.reset_on_drop();
        }
        if let Change::Pausing(probed) = &self.change {
            probed.connection.reset_on_drop();
        }
    }

    pub(crate) fn limit_receive_buffer(&self, bytes: usize) -> io::Result<()> {
        self.polls.stream().map_or(Ok(()), |stream| stream.limit_receive_buffer(bytes))
    }

    /// What became of the WebSocket, where the session stays with polling.
    pub(crate) fn take_upgrade(&mut self) -> Option<Box<Upgrade>> {
        self.upgrade.take()
    }

    pub(crate) fn last_read(&self) -> Instant {
        self.last_read
    }

    pub(crate) fn pace(&self) -> Option<&Pace> {
        self.pace.as_deref()
    }

    /// Of the poll's connection, or the first one.
    pub(crate) fn addresses(&self) -> io::Result<(SocketAddr, SocketAddr)> {
        match self.polls.stream() {
            Some(stream) => Ok((stream.tcp().local_addr()?, stream.tcp().peer_addr()?)),
            None => self.addresses.ok_or_else(|| io::ErrorKind::NotConnected.into()),
        }
    }

    pub(crate) fn buffered_bytes(&self) -> usize {
        let inbox = self.inbox.as_ref().and_then(|inbox| inbox.left(self.options.revision)).unwrap_or(0);
        inbox + self.queued + self.polls.buffered_bytes() + self.posts.buffered_bytes()
    }
}

fn text_of(packet: &[u8]) -> Box<str> {
    String::from_utf8_lossy(packet).into_owned().into_boxed_str()
}

fn open_stream(options: &Options) -> Opening {
    let options = options.clone();
    Box::pin(async move {
        let mut progress = Progress::new(&options.endpoint, &options.timeouts);
        progress.open(Route::of(&options)).await
    })
}

impl fmt::Debug for Polling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Polling")
            .field("sid", &self.sid)
            .field("polls", &self.polls)
            .field("posts", &self.posts)
            .field("queued", &self.queued)
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_of_both_revisions() {
        let text = |text: &str| Outgoing::Text(text.into());
        let binary = |bytes: &'static [u8]| Outgoing::Binary(Bytes::from_static(bytes));
        let rows: [(Revision, &[Outgoing], &str, &[u8]); 5] = [
            (Revision::V4, &[text("4a"), text("4길")], http::TEXT, "4a\u{1e}4길".as_bytes()),
            (Revision::V4, &[text("451-[]"), binary(&[1, 2, 3, 4])], http::TEXT, b"451-[]\x1ebAQIDBA=="),
            (Revision::V3, &[text("4a"), text("4길𝄞")], http::TEXT, "2:4a4:4길𝄞".as_bytes()),
            (
                Revision::V3,
                &[text("4길"), binary(&[9])],
                BYTES,
                b"\x00\x04\xff4\xea\xb8\xb8\x01\x02\xff\x04\x09",
            ),
            // What is no packet cannot stand in the byte form.
            (Revision::V3, &[text("x"), binary(&[1])], http::TEXT, b"1:x6:b4AQ=="),
        ];
        for (revision, packets, kind, expected) in rows {
            let (found, body) = encode_body(revision, packets);
            assert_eq!(
                (found, &*body.escape_ascii().to_string()),
                (kind, &*expected.escape_ascii().to_string())
            );
            let cost: usize = packets.iter().map(|packet| packet.cost(revision)).sum();
            assert!(
                cost >= body.len() || kind == http::TEXT && revision == Revision::V3,
                "{cost} < {}",
                body.len()
            );
        }
    }
}
