//! What a session has begun and not finished: messages that are not complete, a namespace not joined. Both are
//! bounded in time and, for all sessions of a worker together, in amount.

use std::rc::Rc;

use socketio_wire::engineio::Revision;
use socketio_wire::websocket::close::CloseCode;

use super::Session;
use crate::application::Application;
use crate::config::Mode;
use crate::heartbeat::NEVER;
use crate::reason::Reason;

impl<A: Application> Session<A> {
    // ---- messages ----

    /// Whether a packet waits for its attachments.
    pub(crate) fn awaits_attachments(&self) -> bool {
        self.reassembler.borrow().is_waiting()
    }

    /// No message is unfinished at this point of what was read.
    pub(crate) fn input_finished(&self) {
        self.due.message.set(NEVER);
    }

    /// After a read: whether a message has begun and is not complete, and the bytes the transport holds of it.
    pub(crate) fn input_unfinished(self: &Rc<Self>, unfinished: bool, held: usize) {
        if !unfinished && self.input_held.get() == 0 {
            return;
        }
        let held = held + self.reassembler.borrow().held();
        let before = self.input_held.replace(held);
        if !unfinished {
            self.input_finished();
        } else if self.due.message.get() == NEVER && self.is_open() {
            let worker = &self.worker;
            self.due.message.set(worker.tick_after(worker.tick(), worker.config().message_timeout));
            worker.schedule(self);
        }
        self.worker.input_changed(before, held);
    }

    pub(crate) fn input_held(&self) -> usize {
        self.input_held.get()
    }

    pub(crate) fn drop_input(&self) {
        self.reassembler.borrow_mut().clear();
        self.worker.input_changed(self.input_held.replace(0), 0);
    }

    /// Ends the session that holds most of the memory for unfinished messages.
    pub(crate) fn give_up_input(self: &Rc<Self>) {
        // Its own task frees the memory; what is counted goes now, so that nobody else has to go for it.
        self.drop_input();
        self.close(Reason::InputBytes, CloseCode::TRY_AGAIN_LATER, "too much unfinished input");
        self.wake_task();
    }

    // ---- the namespace ----

    /// Whether its client asks for a namespace; others are in theirs from the start and prove themselves with
    /// their first packet.
    pub(super) fn asks_to_join(&self) -> bool {
        self.revision == Revision::V4 && self.worker.config().mode == Mode::SocketIo
    }

    /// A packet of the client has come.
    pub(super) fn prove(&self) {
        if self.newcomer.get().is_some() && !self.asks_to_join() {
            self.has_joined();
        }
    }

    /// Ends the session that has been a newcomer for the longest time.
    pub(crate) fn give_up_newcomer(self: &Rc<Self>) {
        self.has_joined();
        if self.transport.borrow().is_polling() {
            // Its close would wait for a poll that may never come.
            self.lost(Reason::TooManyNewcomers);
        } else {
            self.close(Reason::TooManyNewcomers, CloseCode::TRY_AGAIN_LATER, "too many wait to join");
        }
    }

    /// It is no newcomer any more.
    pub(super) fn has_joined(&self) {
        if self.newcomer.take().is_some() {
            self.worker.newcomer_left();
        }
    }
}
