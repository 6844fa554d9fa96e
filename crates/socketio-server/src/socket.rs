//! One client in one namespace: what the application talks to.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;
use std::net::IpAddr;
use std::rc::Rc;

use bytes::Bytes;
use socketio_wire::engineio::Revision;
use socketio_wire::websocket::close::CloseCode;

use crate::application::{AckId, Application, Message};
use crate::frame::{Frame, push_json_string};
use crate::handshake::Handshake;
use crate::reason::Reason;
use crate::session::{Session, Sid};
use crate::stats::add;

/// Names a [`Socket`]; unique in the process, never given twice: 24 bits of slot, 24 of generation, 16 of worker.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct SocketId(pub u64);

impl SocketId {
    pub(crate) const MAX_SLOT: usize = (1 << 24) - 1;

    pub(crate) fn new(worker: u16, generation: u32, slot: usize) -> Self {
        Self(u64::from(worker) << 48 | u64::from(generation & 0xff_ffff) << 24 | slot as u64)
    }

    pub(crate) fn slot(self) -> usize {
        (self.0 & 0xff_ffff) as usize
    }
}

/// One client in one namespace: what the application talks to. Lives on its worker's thread.
// In this order: a push needs the first two.
#[repr(C)]
pub struct Socket<A: Application> {
    session: Rc<Session<A>>,
    pub(crate) state: Cell<SocketState>,
    id: SocketId,
    namespace: Box<str>,
    sid: Sid,
    next_ack: Cell<u64>,
    data: A::Data,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum SocketState {
    /// The application is being asked; what it pushes waits in the worker.
    Connecting,
    Connected,
    /// The application disconnected it and has not been told yet.
    Leaving,
    Gone,
}

impl<A: Application> Socket<A> {
    /// A client that asks for a namespace; the application is to be asked next.
    pub(crate) fn new(id: SocketId, session: &Rc<Session<A>>, namespace: &str) -> Self {
        Self {
            id,
            session: Rc::clone(session),
            namespace: namespace.into(),
            sid: Sid::random(session.worker.seat()),
            state: Cell::new(SocketState::Connecting),
            next_ack: Cell::new(0),
            data: A::Data::default(),
        }
    }

    pub fn id(&self) -> SocketId {
        self.id
    }

    /// The Socket.IO id the client knows this socket by.
    pub fn sid(&self) -> Cow<'_, str> {
        match (self.session.revision(), &*self.namespace) {
            (Revision::V4, _) => Cow::Borrowed(self.sid.as_str()),
            (Revision::V3, "/") => Cow::Borrowed(self.session.sid().as_str()),
            (Revision::V3, namespace) => Cow::Owned(format!("{namespace}#{}", self.session.sid().as_str())),
        }
    }

    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    pub fn revision(&self) -> Revision {
        self.session.revision()
    }

    /// Whether the session polls over HTTP at this moment; it may change to a WebSocket later.
    pub fn is_polling(&self) -> bool {
        self.session.transport.borrow().is_polling()
    }

    /// The application's own state of this socket.
    pub fn data(&self) -> &A::Data {
        &self.data
    }

    pub fn handshake(&self) -> &Handshake {
        self.session.handshake()
    }

    /// Address of the TCP peer (a proxy's, behind a proxy).
    pub fn peer(&self) -> IpAddr {
        self.session.handshake().peer().ip()
    }

    /// Whether what is pushed still goes out.
    pub fn is_connected(&self) -> bool {
        self.state.get() == SocketState::Connected && self.session.is_open()
    }

    /// Frames waiting in the outbox of this socket's session.
    pub fn outbox_len(&self) -> usize {
        self.session.outbox.borrow().len()
    }

    /// Bytes waiting in the outbox of this socket's session.
    pub fn outbox_bytes(&self) -> usize {
        self.session.outbox.borrow().bytes()
    }

    /// Appends a shared frame to the outbox. It leaves with the worker's next flush, in the order of the
    /// pushes. Dropped without effect when the socket is gone; a full outbox closes the session (4008).
    pub fn push(&self, frame: &Frame) {
        match self.state.get() {
            SocketState::Connected => self.session.push(frame.clone()),
            SocketState::Connecting => self.session.worker.hold(frame.clone()),
            SocketState::Leaving | SocketState::Gone => add(&self.session.worker.stats().frames_late, 1),
        }
    }

    /// Sends an event to this socket alone. `args_json` as in [`Frame::event`].
    pub fn emit(&self, event: &str, args_json: &str) {
        self.push(&Frame::event_in(&self.namespace, event, args_json));
    }

    /// Sends an event with attachments, for which `{"_placeholder":true,"num":n}` stands in `args_json`.
    pub fn emit_binary(&self, event: &str, args_json: &str, attachments: &[Bytes]) {
        let mut name = String::with_capacity(event.len() + 2);
        push_json_string(event, &mut name);
        let elements = [&*name, args_json];
        self.push(&Frame::socketio(b'5', Some(attachments.len()), &self.namespace, None, &elements));
        self.push_attachments(attachments);
    }

    /// Sends an event that the client is to answer; the answer arrives with this number at
    /// [`Application::acknowledged`], or never.
    pub fn emit_with_ack(&self, event: &str, args_json: &str) -> u64 {
        let id = self.next_ack.get();
        self.next_ack.set(id + 1);
        let mut name = String::with_capacity(event.len() + 2);
        push_json_string(event, &mut name);
        self.push(&Frame::socketio(b'2', None, &self.namespace, Some(id), &[&name, args_json]));
        id
    }

    /// Answers an event. `args_json` as in [`Frame::event`].
    pub fn ack(&self, id: AckId, args_json: &str) {
        self.push(&Frame::socketio(b'3', None, &self.namespace, Some(id.0), &[args_json]));
        self.session.hurry();
    }

    /// Answers an event with attachments; see [`Socket::emit_binary`].
    pub fn ack_binary(&self, id: AckId, args_json: &str, attachments: &[Bytes]) {
        let count = Some(attachments.len());
        self.push(&Frame::socketio(b'6', count, &self.namespace, Some(id.0), &[args_json]));
        self.push_attachments(attachments);
        self.session.hurry();
    }

    fn push_attachments(&self, attachments: &[Bytes]) {
        for attachment in attachments {
            self.push(&self.session.binary_frame(attachment));
        }
    }

    /// Sends a bare Engine.IO message; for [`Mode::EngineIo`].
    pub fn send(&self, message: Message<'_>) {
        self.push(&match message {
            Message::Text(text) => Frame::text(text),
            Message::Binary(data) => self.session.binary_frame(data),
        });
    }

    /// Leaves the namespace with a Socket.IO DISCONNECT; the session lives on. Official clients do not come
    /// back from it by themselves: to make them reconnect use [`Socket::close`].
    pub fn disconnect(&self) {
        if self.state.get() == SocketState::Connected {
            self.push(&Frame::control(b'1', &self.namespace, ""));
            self.state.set(SocketState::Leaving);
            self.session.leave_one();
        }
    }

    /// Closes the whole session with a WebSocket close, after what its outbox holds. `why` is cut to 123 bytes.
    pub fn close(&self, code: CloseCode, why: &str) {
        self.session.close(Reason::ServerClose(code), code, why);
    }
}

impl<A: Application> fmt::Debug for Socket<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket")
            .field("id", &self.id)
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_id_keeps_slot_generation_and_worker_apart() {
        let id = SocketId::new(3, 7, 9);
        assert_eq!(id.slot(), 9);
        assert_ne!(id, SocketId::new(3, 8, 9));
        assert_ne!(id, SocketId::new(4, 7, 9));
    }
}
