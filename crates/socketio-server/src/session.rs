//! One Engine.IO client: its namespaces, its heartbeat's answers, its outbox, and why it ended.
//!
//! A session does not read or write by itself. A transport hands it what arrived (`receive_text`,
//! `receive_binary`, `receive`) and takes from its outbox what is to leave; the worker's flush and timers do the rest.
//! So a session may change its transport while it lives.

mod unfinished;

use std::cell::{Cell, OnceCell, RefCell};
use std::num::NonZeroU32;
use std::rc::Rc;
use std::task::Waker;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use serde_json::value::RawValue;
use smallvec::SmallVec;
use socketio_wire::engineio::{Revision, handshake as open_packet, packet as engineio};
use socketio_wire::socketio::packet::{self as socketio, Packet, PacketType};
use socketio_wire::socketio::reassembly::{Limits, Reassembler, Text};
use socketio_wire::websocket::close::CloseCode;
use socketio_wire::websocket::frame::Opcode;

use crate::application::{AckId, Application, ConnectError, ConnectRequest, Event, Message, Payload};
use crate::config::Mode;
use crate::frame::{Frame, push_json_string};
use crate::handshake::Handshake;
use crate::heartbeat::{Due, NEVER, Tick};
use crate::outbox::Outbox;
use crate::reason::{Reason, Violation};
use crate::socket::{Socket, SocketState};
use crate::stats::{add, sub};
use crate::transport::Transport;
use crate::worker::{Lease, Worker};

/// A name of 20 characters that fit a URL: the seat of its session's worker and 112 random bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Sid([u8; 20]);

impl Sid {
    pub(crate) fn random(seat: u8) -> Self {
        let mut bytes = [seat; 15];
        getrandom::fill(&mut bytes[1..]).expect("the operating system's random source");
        let mut text = [0; 20];
        URL_SAFE_NO_PAD.encode_slice(bytes, &mut text).expect("15 bytes are 20 characters");
        Self(text)
    }

    /// What a request names; `None` when it cannot be one of ours.
    pub(crate) fn from_query(text: &str) -> Option<Self> {
        let sid = Self(text.as_bytes().try_into().ok()?);
        sid.decode().map(|_| sid)
    }

    /// Of the worker whose session it is.
    pub(crate) fn seat(&self) -> u8 {
        self.decode().map_or(0, |bytes| bytes[0])
    }

    fn decode(&self) -> Option<[u8; 15]> {
        let mut bytes = [0; 15];
        (URL_SAFE_NO_PAD.decode_slice(self.0, &mut bytes) == Ok(15)).then_some(bytes)
    }

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("")
    }
}

/// How far a session's life has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    Open,
    /// The close frame is in the outbox; nothing is taken in any more.
    Closing,
    /// To be dropped at once, with a reset if the outbox still holds bytes.
    Dead,
}

/// One Engine.IO client. In this order: two lines of the cache are all that a frame on its way out needs of it.
#[repr(C)]
pub(crate) struct Session<A: Application> {
    pub(crate) phase: Cell<Phase>,
    /// Stands in one of the worker's lists of sessions to flush.
    pub(crate) listed: Cell<bool>,
    /// Stands in the worker's list of sessions to flush first.
    pub(crate) urgent: Cell<bool>,
    /// The transport took no more bytes; its own task waits for it and flushes.
    pub(crate) blocked: Cell<bool>,
    pub(crate) worker: Rc<Worker<A>>,
    pub(crate) transport: RefCell<Transport>,
    pub(crate) outbox: RefCell<Outbox>,
    /// The transport's task, to be woken when the session is blocked or ends.
    task: RefCell<Option<Waker>>,
    pub(crate) slot: Cell<usize>,
    pub(crate) due: Due,
    revision: Revision,
    sid: Sid,
    sockets: RefCell<SmallVec<[Rc<Socket<A>>; 1]>>,
    reassembler: RefCell<Reassembler>,
    reason: Cell<Option<Reason>>,
    /// The application has been told of the end.
    settled: Cell<bool>,
    /// A chore for this session waits in the worker.
    pub(crate) has_chore: Cell<bool>,
    /// The application has disconnected a namespace: packets for it may still be under way.
    server_disconnected: Cell<bool>,
    refused_connects: Cell<u32>,
    /// Its number among those of its worker that have yet to join a namespace.
    pub(crate) newcomer: Cell<Option<NonZeroU32>>,
    /// Bytes that its unfinished messages hold.
    input_held: Cell<usize>,
    /// Counts it among its address's, when they are counted.
    pub(crate) address: OnceCell<Lease>,
    handshake: Handshake,
}

impl<A: Application> Session<A> {
    /// Registers a session and answers the handshake.
    pub(crate) fn open(
        worker: &Rc<Worker<A>>,
        revision: Revision,
        handshake: Handshake,
        transport: Transport,
    ) -> Rc<Self> {
        let config = worker.config();
        let limits = Limits { attachments: config.max_attachments, bytes: config.max_payload };
        let session = Rc::new(Self {
            outbox: RefCell::default(),
            transport: RefCell::new(transport),
            phase: Cell::new(Phase::Open),
            listed: Cell::new(false),
            urgent: Cell::new(false),
            blocked: Cell::new(false),
            worker: Rc::clone(worker),
            task: RefCell::default(),
            slot: Cell::new(usize::MAX),
            due: Due::default(),
            revision,
            sid: Sid::random(worker.seat()),
            sockets: RefCell::default(),
            reassembler: RefCell::new(Reassembler::new(limits)),
            reason: Cell::new(None),
            settled: Cell::new(false),
            has_chore: Cell::new(false),
            server_disconnected: Cell::new(false),
            refused_connects: Cell::new(0),
            newcomer: Cell::new(None),
            input_held: Cell::new(0),
            address: OnceCell::new(),
            handshake,
        });
        worker.add_session(&session);
        let open = open_packet::Handshake {
            sid: session.sid.as_str().to_owned(),
            upgrades: if session.transport.borrow().is_polling() {
                vec!["websocket".to_owned()]
            } else {
                Vec::new()
            },
            ping_interval_ms: config.ping_interval.as_millis() as u64,
            ping_timeout_ms: config.ping_timeout.as_millis() as u64,
            max_payload: (revision == Revision::V4).then_some(config.max_payload as u64),
        };
        let mut packet = vec![b'0'];
        open_packet::encode(&open, &mut packet);
        session.push(Frame::from_parts(Opcode::Text, &[&packet]));

        let now = worker.tick();
        session.due.heartbeat.set(match revision {
            Revision::V4 => worker.tick_within(now, config.ping_interval),
            Revision::V3 => worker.tick_after(now, config.ping_interval + config.ping_timeout),
        });
        match config.mode {
            Mode::EngineIo => session.connect("", "", ""),
            Mode::SocketIo => {
                session.due.connect.set(worker.tick_after(now, config.connect_timeout));
                // Revision 3 clients never ask for "/": they are in it from the start.
                if revision == Revision::V3 {
                    session.connect("/", "", "");
                }
            }
        }
        worker.schedule(&session);
        session
    }

    pub(crate) fn is_open(&self) -> bool {
        self.phase.get() == Phase::Open
    }

    pub(crate) fn sid(&self) -> &Sid {
        &self.sid
    }

    pub(crate) fn handshake(&self) -> &Handshake {
        &self.handshake
    }

    /// A socket of this session leaves its namespace; the application is told soon.
    pub(crate) fn leave_one(self: &Rc<Self>) {
        self.server_disconnected.set(true);
        self.worker.chore(self);
    }

    pub(crate) fn revision(&self) -> Revision {
        self.revision
    }

    pub(crate) fn has_violated(&self) -> bool {
        matches!(self.reason.get(), Some(Reason::Violation(_)))
    }

    // ---- out ----

    /// Appends a frame in order. The fast path of a broadcast: no allocation once the queue has its room.
    pub(crate) fn push(self: &Rc<Self>, frame: Frame) {
        if !self.is_open() {
            add(&self.worker.stats().frames_late, 1);
            return;
        }
        if !self.has_room(frame.len()) {
            let stats = self.worker.stats();
            add(if self.is_open() { &stats.frames_dropped } else { &stats.frames_late }, 1);
            self.give_up(Reason::OutboxBytes);
            return;
        }
        let mut outbox = self.outbox.borrow_mut();
        // The list first: it reads the clock when this push is the first of its turn.
        if !self.listed.get() && !self.blocked.get() {
            self.listed.set(true);
            self.worker.list(self);
        }
        outbox.push_back(frame, self.worker.clock());
    }

    /// Puts an engine's own packet before everything not yet begun, and has it flushed first.
    pub(crate) fn push_control(self: &Rc<Self>, frame: Frame) {
        if !self.is_open() {
            return;
        }
        if !self.has_room(frame.len()) {
            self.give_up(Reason::OutboxBytes);
            return;
        }
        // A ping may be the first thing in a long while.
        self.outbox.borrow_mut().push_control(frame, self.worker.refresh_clock());
        self.hurry();
    }

    /// Whether the outbox takes a frame. A full one is written out first: it is full because its reader is slow
    /// only when the socket takes no more.
    fn has_room(self: &Rc<Self>, len: usize) -> bool {
        let limit = self.worker.config().outbox_bytes;
        while !self.outbox.borrow().has_room(len, limit) {
            if self.blocked.get() || self.phase.get() != Phase::Open {
                return false;
            }
            self.worker.flush_now(self);
        }
        true
    }

    /// Has this session flushed before larger bursts.
    pub(crate) fn hurry(self: &Rc<Self>) {
        if !self.urgent.get() && !self.blocked.get() && !self.outbox.borrow().is_empty() {
            self.urgent.set(true);
            self.worker.list_urgent(self);
        }
    }

    /// Goes on with another transport; what is queued leaves by that one.
    pub(crate) fn change_transport(self: &Rc<Self>, transport: Transport) {
        let before = self.transport.replace(transport);
        if let Transport::Polling(writer) = before {
            writer.end_poll();
        }
        add(&self.worker.stats().upgraded, 1);
        self.blocked.set(false);
        if !self.outbox.borrow().is_empty() {
            self.worker.flush_now(self);
        }
    }

    pub(crate) fn wake_task(&self) {
        if let Some(waker) = &*self.task.borrow() {
            waker.wake_by_ref();
        }
    }

    pub(crate) fn set_task(&self, waker: &Waker) {
        let mut task = self.task.borrow_mut();
        if !task.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *task = Some(waker.clone());
        }
    }

    // ---- the end ----

    /// Ends the session: nothing more is taken in or pushed; the close leaves after what is queued.
    pub(crate) fn close(self: &Rc<Self>, reason: Reason, code: CloseCode, why: &str) {
        if self.is_open() {
            self.begin_close(reason, Some((code, why)));
        }
    }

    pub(crate) fn drain(self: &Rc<Self>, code: CloseCode) {
        self.close(Reason::Drain(code), code, "restarting");
    }

    /// Ends the session without what is queued: the peer does not take it.
    fn give_up(self: &Rc<Self>, reason: Reason) {
        if self.is_open() {
            let dropped = self.outbox.borrow_mut().clear_unsent();
            add(&self.worker.stats().frames_dropped, dropped as u64);
            let (code, why) = match reason {
                Reason::PingTimeout => (CloseCode::POLICY, "ping timeout"),
                _ => (CloseCode::SLOW_CONSUMER, "reading too slowly"),
            };
            self.begin_close(reason, Some((code, why)));
        }
    }

    pub(crate) fn violate(self: &Rc<Self>, violation: Violation) {
        tracing::debug!(peer = %self.handshake.peer(), %violation, "protocol violation");
        self.close(Reason::Violation(violation), violation.close_code(), &violation.to_string());
    }

    /// The WebSocket peer sent its close; ours answers with the same code.
    pub(crate) fn peer_closed(self: &Rc<Self>, code: Option<CloseCode>) {
        if self.is_open() {
            let dropped = self.outbox.borrow_mut().clear_unsent();
            add(&self.worker.stats().frames_dropped, dropped as u64);
            self.begin_close(Reason::ClientClose(code), code.map(|code| (code, "")));
        }
    }

    fn begin_close(self: &Rc<Self>, reason: Reason, close: Option<(CloseCode, &str)>) {
        let worker = &self.worker;
        self.phase.set(Phase::Closing);
        self.reason.set(Some(reason));
        worker.stats().count_closed(&reason);
        let (frame, can_wait) = {
            let transport = self.transport.borrow();
            (transport.close_frame(&reason, close), transport.takes_goodbye(&reason))
        };
        if !can_wait {
            self.kill();
            return;
        }
        self.outbox.borrow_mut().push_back(frame, worker.clock());
        self.hurry();
        self.due.close.set(worker.tick_after(worker.tick(), worker.config().close_timeout));
        worker.schedule(self);
        if self.input_held.get() > 0 {
            // Its own task frees what nobody wants any more.
            self.wake_task();
        }
        worker.chore(self);
    }

    /// The transport is gone: no goodbye is possible.
    pub(crate) fn lost(self: &Rc<Self>, reason: Reason) {
        if self.reason.get().is_none() {
            self.reason.set(Some(reason));
            self.worker.stats().count_closed(&reason);
        }
        self.kill();
    }

    /// Has the transport's task drop everything now.
    pub(crate) fn kill(self: &Rc<Self>) {
        if self.phase.get() != Phase::Dead {
            self.phase.set(Phase::Dead);
            self.wake_task();
            self.worker.chore(self);
        }
    }

    /// Tells the application what has ended. Never runs inside a call of the application's.
    pub(crate) fn settle(self: &Rc<Self>) {
        let over = !self.is_open();
        if over && self.settled.replace(true) {
            return;
        }
        let mut left: SmallVec<[Rc<Socket<A>>; 1]> = SmallVec::new();
        self.sockets.borrow_mut().retain(|socket| {
            let leaves = over || socket.state.get() == SocketState::Leaving;
            if leaves {
                left.push(Rc::clone(socket));
            }
            !leaves
        });
        for socket in left {
            let reason = match socket.state.replace(SocketState::Gone) {
                SocketState::Leaving => Reason::ServerDisconnect,
                _ => self.reason.get().unwrap_or(Reason::TransportClose),
            };
            self.forget(&socket, &reason);
        }
    }

    /// A polling session has no task that would end it.
    pub(crate) fn release_if_polling(&self) {
        if self.phase.get() == Phase::Dead && self.transport.borrow().is_polling() {
            self.release();
        }
    }

    fn forget(&self, socket: &Rc<Socket<A>>, reason: &Reason) {
        self.worker.remove_socket(socket.id());
        sub(&self.worker.stats().sockets, 1);
        self.worker.application().disconnect(socket, reason);
    }

    /// The transport's task ends: the session leaves the worker.
    pub(crate) fn end(self: &Rc<Self>) {
        self.phase.set(Phase::Dead);
        self.settle();
        self.release();
    }

    /// Gives up what the session holds, without telling the application (the runtime may be going down).
    pub(crate) fn release(&self) {
        if self.slot.get() == usize::MAX {
            return;
        }
        self.phase.set(Phase::Dead);
        self.drop_input();
        self.has_joined();
        let dropped = self.outbox.borrow_mut().take();
        add(&self.worker.stats().frames_dropped, dropped as u64);
        self.worker.remove_polling(&self.sid);
        *self.transport.borrow_mut() = Transport::Gone;
        *self.task.borrow_mut() = None;
        for socket in self.sockets.take() {
            socket.state.set(SocketState::Gone);
            self.worker.remove_socket(socket.id());
            sub(&self.worker.stats().sockets, 1);
        }
        self.worker.remove_session(self.slot.replace(usize::MAX));
    }

    // ---- time ----

    /// Does what is due at `now` and says when to look again.
    pub(crate) fn on_tick(self: &Rc<Self>, now: Tick) -> Tick {
        let (worker, due) = (&self.worker, &self.due);
        let config = worker.config();
        match self.phase.get() {
            Phase::Dead => return NEVER,
            Phase::Closing => {
                if due.close.get() <= now {
                    self.kill();
                    return NEVER;
                }
                return due.close.get();
            }
            Phase::Open => {}
        }
        if due.connect.get() <= now {
            due.connect.set(NEVER);
            self.close(Reason::ConnectTimeout, CloseCode::POLICY, "no namespace connected");
        } else if due.heartbeat.get() <= now {
            if self.revision == Revision::V4 && !due.awaits_pong.get() {
                due.awaits_pong.set(true);
                due.heartbeat.set(worker.tick_after(now, config.ping_timeout));
                self.push_control(worker.ping_frame());
                // Seldom enough to cost nothing, often enough that an idle session holds no queue.
                self.outbox.borrow_mut().shrink_if_empty();
            } else {
                self.give_up(Reason::PingTimeout);
            }
        }
        if self.is_open() && due.message.get() <= now {
            self.close(Reason::InputTimeout, CloseCode::POLICY, "message not complete in time");
        }
        let mut blocked_look = NEVER;
        if self.outbox_can_age() {
            let age = self.outbox.borrow().age(worker.refresh_clock());
            if age >= config.outbox_age {
                self.give_up(Reason::OutboxAge);
            } else {
                blocked_look = worker.tick_after(now, config.outbox_age - age);
            }
        }
        match self.phase.get() {
            Phase::Open => {
                due.heartbeat.get().min(due.connect.get()).min(due.message.get()).min(blocked_look)
            }
            Phase::Closing => due.close.get(),
            Phase::Dead => NEVER,
        }
    }

    /// Whether what waits too long ends the session. Between two polls nothing can be taken: who polls no more is
    /// ended by the heartbeat, who polls too seldom by the outbox's bytes.
    fn outbox_can_age(&self) -> bool {
        self.blocked.get() && self.is_open() && !self.transport.borrow().is_polling()
    }

    /// When to look at this session next.
    pub(crate) fn next_due(&self) -> Tick {
        match self.phase.get() {
            Phase::Dead => NEVER,
            Phase::Closing => self.due.close.get(),
            Phase::Open => {
                let age = if self.outbox_can_age() {
                    self.worker.tick_after(self.worker.tick(), self.worker.config().outbox_age)
                } else {
                    NEVER
                };
                let due = &self.due;
                due.heartbeat.get().min(due.connect.get()).min(due.message.get()).min(age)
            }
        }
    }

    /// Ends a polling session whose heartbeat is overdue before the wheel gets there: a poll that comes in the
    /// wheel's last moments before the end of the wait comes too late.
    pub(crate) fn check_heartbeat(self: &Rc<Self>) {
        let waits_for_peer = self.revision == Revision::V3 || self.due.awaits_pong.get();
        if self.is_open() && waits_for_peer && self.due.heartbeat.get() <= self.worker.tick() + 1 {
            self.give_up(Reason::PingTimeout);
        }
    }

    fn heard_heartbeat(self: &Rc<Self>, next: Tick) {
        self.due.awaits_pong.set(false);
        self.due.heartbeat.set(next);
        // Sooner than what the wheel knows only where the timeout is longer than the interval.
        self.worker.schedule(self);
    }

    // ---- in ----

    /// One Engine.IO packet in text form.
    pub(crate) fn receive_text(self: &Rc<Self>, text: &str) {
        match engineio::decode_text(text) {
            Ok((kind, data)) => self.receive_text_packet(kind, data),
            Err(error) => match engineio::decode(self.revision, text) {
                // Binary data of a client that can only send text; revision 4 knows no such client.
                Ok(packet) if self.revision == Revision::V3 => self.receive(&packet),
                _ => self.violate(Violation::EngineIo(error)),
            },
        }
    }

    /// A binary message as this client takes it.
    pub(crate) fn binary_frame(&self, data: &[u8]) -> Frame {
        // Looked up each time: a flag would cost every session, for clients that hardly exist.
        if self.revision == Revision::V4 || self.handshake.query_value("b64").is_none() {
            return Frame::binary(self.revision, data);
        }
        let mut packet = Vec::with_capacity(2 + data.len().div_ceil(3) * 4);
        engineio::encode_base64(self.revision, engineio::PacketType::Message, data, &mut packet);
        Frame::from_parts(Opcode::Text, &[&packet])
    }

    /// One binary Engine.IO packet.
    pub(crate) fn receive_binary(self: &Rc<Self>, bytes: &[u8]) {
        match engineio::decode_binary(self.revision, bytes) {
            Ok((kind, data)) => self.receive_binary_packet(kind, data),
            Err(error) => self.violate(Violation::EngineIo(error)),
        }
    }

    /// One Engine.IO packet of a polling body.
    pub(crate) fn receive(self: &Rc<Self>, packet: &engineio::Packet<'_>) {
        match &packet.data {
            engineio::Data::Text(data) => self.receive_text_packet(packet.kind, data),
            engineio::Data::Binary(data) => self.receive_binary_packet(packet.kind, data),
        }
    }

    fn receive_text_packet(self: &Rc<Self>, kind: engineio::PacketType, data: &str) {
        use engineio::PacketType::{Close, Message as MessageType, Noop, Open, Ping, Pong, Upgrade};
        let config = self.worker.config();
        self.prove();
        match (kind, self.revision) {
            (MessageType, _) => self.receive_message(Message::Text(data)),
            (Ping, Revision::V3) => {
                let wait = config.ping_interval + config.ping_timeout;
                self.heard_heartbeat(self.worker.tick_after(self.worker.tick(), wait));
                self.push_control(Frame::from_parts(Opcode::Text, &[b"3", data.as_bytes()]));
            }
            // Our own ping may come early, not late: clients count from the last one.
            (Pong, Revision::V4) => {
                self.heard_heartbeat(self.worker.tick_within(self.worker.tick(), config.ping_interval));
            }
            (Ping | Pong, _) => self.violate(Violation::HeartbeatDirection),
            (Close, _) => self.close(Reason::ClientClose(None), CloseCode::NORMAL, ""),
            // Late parts of an upgrade; the official server ignores them too.
            (Open | Upgrade | Noop, _) => {}
        }
    }

    fn receive_binary_packet(self: &Rc<Self>, kind: engineio::PacketType, data: &[u8]) {
        self.prove();
        match kind {
            engineio::PacketType::Message => self.receive_message(Message::Binary(data)),
            _ => self.violate(Violation::Direction),
        }
    }

    fn receive_message(self: &Rc<Self>, message: Message<'_>) {
        add(&self.worker.stats().messages_in, 1);
        if self.revision == Revision::V3 {
            // These clients ping, but whatever they send shows that they live. The wheel looks again by itself.
            let config = self.worker.config();
            let wait = config.ping_interval + config.ping_timeout;
            self.due.heartbeat.set(self.worker.tick_after(self.worker.tick(), wait));
        }
        if self.worker.config().mode == Mode::EngineIo {
            let socket = self.sockets.borrow().first().cloned();
            if let Some(socket) = socket {
                self.worker.application().message(&socket, message);
            }
            return;
        }
        let outcome = match message {
            Message::Text(text) => self.receive_packet(text),
            Message::Binary(data) => self.receive_attachment(Bytes::copy_from_slice(data)),
        };
        if let Err(violation) = outcome {
            self.violate(violation);
        }
    }

    fn receive_packet(self: &Rc<Self>, text: &str) -> Result<(), Violation> {
        let packet = socketio::decode(text).map_err(Violation::SocketIo)?;
        let taken = self.reassembler.borrow_mut().take_text(packet).map_err(Violation::SocketIo)?;
        match taken {
            Text::Complete(packet) => self.handle(&packet, &[]),
            Text::Waiting => Ok(()),
        }
    }

    fn receive_attachment(self: &Rc<Self>, attachment: Bytes) -> Result<(), Violation> {
        let taken = self.reassembler.borrow_mut().take_binary(attachment).map_err(Violation::SocketIo)?;
        match taken {
            Some(message) => self.handle(&message.packet(), &message.attachments),
            None => Ok(()),
        }
    }

    fn handle(self: &Rc<Self>, packet: &Packet<'_>, attachments: &[Bytes]) -> Result<(), Violation> {
        if packet.kind == PacketType::Connect {
            return self.handle_connect(packet);
        }
        let Some(socket) = self.socket(packet.namespace) else {
            // What the client sent before it read our DISCONNECT is no fault of its own.
            return if self.server_disconnected.get() { Ok(()) } else { Err(Violation::NotConnected) };
        };
        let application = self.worker.application();
        match packet.kind {
            PacketType::Event | PacketType::BinaryEvent => {
                let event = socketio::event_args(packet.data).map_err(Violation::SocketIo)?;
                let payload = Payload { args: &event.args, attachments };
                application.event(&socket, Event { name: &event.name, payload, ack: packet.ack.map(AckId) });
            }
            PacketType::Ack | PacketType::BinaryAck => {
                let args = socketio::ack_args(packet.data).map_err(Violation::SocketIo)?;
                let id = packet.ack.ok_or(Violation::Direction)?;
                application.acknowledged(&socket, id, Payload { args: &args, attachments });
            }
            PacketType::Disconnect => {
                socket.state.set(SocketState::Gone);
                self.sockets.borrow_mut().retain(|other| !Rc::ptr_eq(other, &socket));
                self.forget(&socket, &Reason::ClientDisconnect);
            }
            PacketType::Connect | PacketType::ConnectError => return Err(Violation::Direction),
        }
        Ok(())
    }

    fn handle_connect(self: &Rc<Self>, packet: &Packet<'_>) -> Result<(), Violation> {
        if !packet.data.is_empty() && serde_json::from_str::<&RawValue>(packet.data).is_err() {
            return Err(Violation::Connect);
        }
        if self.socket(packet.namespace).is_some() {
            if self.revision == Revision::V3 {
                // Old servers took a second CONNECT; answering it again harms nobody.
                self.push(Frame::control(b'0', packet.namespace, ""));
                return Ok(());
            }
            return Err(Violation::Connect);
        }
        let config = self.worker.config();
        if self.sockets.borrow().len() >= config.max_namespaces {
            return Err(Violation::Connect);
        }
        if self.refused_connects.get() >= config.max_refused_connects {
            return Err(Violation::RefusedConnects);
        }
        self.connect(packet.namespace, packet.data, packet.query);
        Ok(())
    }

    fn socket(&self, namespace: &str) -> Option<Rc<Socket<A>>> {
        let sockets = self.sockets.borrow();
        let found = sockets
            .iter()
            .find(|socket| socket.namespace() == namespace && socket.state.get() == SocketState::Connected);
        found.cloned()
    }

    /// Asks the application for a namespace and answers the client.
    fn connect(self: &Rc<Self>, namespace: &str, auth: &str, namespace_query: &str) {
        let worker = &self.worker;
        let socket = worker.add_socket(|id| Socket::new(id, self, namespace));
        let request = ConnectRequest { namespace, auth, namespace_query, handshake: &self.handshake };
        let answer = worker.application().connect(&socket, &request);
        let held = worker.take_held();
        match answer {
            Ok(()) => {
                self.due.connect.set(NEVER);
                if self.asks_to_join() {
                    self.has_joined();
                }
                add(&worker.stats().sockets, 1);
                socket.state.set(SocketState::Connected);
                self.sockets.borrow_mut().push(Rc::clone(&socket));
                if worker.config().mode == Mode::SocketIo {
                    let payload = match self.revision {
                        Revision::V3 => String::new(),
                        Revision::V4 => format!(r#"{{"sid":"{}"}}"#, socket.sid()),
                    };
                    self.push(Frame::control(b'0', namespace, &payload));
                }
                for frame in held {
                    self.push(frame);
                }
            }
            Err(error) => {
                self.refused_connects.set(self.refused_connects.get() + 1);
                socket.state.set(SocketState::Gone);
                worker.remove_socket(socket.id());
                match worker.config().mode {
                    Mode::SocketIo => self.push(refusal(self.revision, namespace, &error)),
                    Mode::EngineIo => {
                        self.close(Reason::ServerClose(CloseCode::POLICY), CloseCode::POLICY, &error.message);
                    }
                }
            }
        }
    }
}

fn refusal(revision: Revision, namespace: &str, error: &ConnectError) -> Frame {
    let mut message = String::with_capacity(error.message.len() + 2);
    push_json_string(&error.message, &mut message);
    let payload = match (revision, &error.data) {
        (Revision::V3, Some(data)) => data.clone(),
        (Revision::V3, None) => message,
        (Revision::V4, Some(data)) => format!(r#"{{"message":{message},"data":{data}}}"#),
        (Revision::V4, None) => format!(r#"{{"message":{message}}}"#),
    };
    Frame::control(b'4', namespace, &payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_speaks_the_clients_revision() {
        let plain = ConnectError::unknown_namespace();
        let rich = ConnectError::new("no").with_data(r#"{"code":1}"#);
        let rows = [
            (Revision::V4, &plain, r#"44/x,{"message":"Invalid namespace"}"#),
            (Revision::V4, &rich, r#"44/x,{"message":"no","data":{"code":1}}"#),
            (Revision::V3, &plain, r#"44/x,"Invalid namespace""#),
            (Revision::V3, &rich, r#"44/x,{"code":1}"#),
        ];
        for (revision, error, expected) in rows {
            assert_eq!(refusal(revision, "/x", error).payload(), expected.as_bytes());
        }
    }
}
