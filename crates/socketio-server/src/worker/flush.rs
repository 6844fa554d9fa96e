//! From the outboxes to the sockets: whose turn it is, and for how long.

use std::collections::VecDeque;
use std::rc::Rc;
use std::task::Poll;

use crate::application::Application;
use crate::outbox::{Micros, Tally, Written};
use crate::reason::Reason;
use crate::session::{Phase, Session};
use crate::stats::{LocalHistogram, add};
use crate::worker::Worker;

/// Sessions of a large burst flushed in each slice, however much else there is.
const LEAST_PROGRESS: usize = 32;

/// What the flush task has to do. A session may stand in several lists; its flags say which entry counts.
pub(super) struct Lists<A: Application> {
    /// Answers and heartbeats.
    pub(super) urgent: VecDeque<Rc<Session<A>>>,
    /// Dirty since the last flush.
    pub(super) fresh: Vec<Rc<Session<A>>>,
    /// The rest of bursts too large for one slice.
    bulk: VecDeque<Rc<Session<A>>>,
}

impl<A: Application> Default for Lists<A> {
    fn default() -> Self {
        Self { urgent: VecDeque::new(), fresh: Vec::new(), bulk: VecDeque::new() }
    }
}

impl<A: Application> Lists<A> {
    fn is_empty(&self) -> bool {
        self.urgent.is_empty() && self.fresh.is_empty() && self.bulk.is_empty()
    }
}

/// What one flush has counted.
pub(super) struct Gathered {
    tally: Tally,
    writes: u64,
    frames: u64,
    bytes: u64,
    wouldblock: u64,
    queue: LocalHistogram,
    write: LocalHistogram,
}

impl Default for Gathered {
    fn default() -> Self {
        Self {
            tally: Tally::default(),
            writes: 0,
            frames: 0,
            bytes: 0,
            wouldblock: 0,
            queue: LocalHistogram::new(),
            write: LocalHistogram::new(),
        }
    }
}

impl<A: Application> Worker<A> {
    pub(crate) fn list(&self, session: &Rc<Session<A>>) {
        self.wake_flusher();
        if !self.drained.get() {
            self.lists.borrow_mut().fresh.push(Rc::clone(session));
        }
    }

    pub(crate) fn list_urgent(&self, session: &Rc<Session<A>>) {
        self.wake_flusher();
        if !self.drained.get() {
            self.lists.borrow_mut().urgent.push_back(Rc::clone(session));
        }
    }

    /// Has the flush task call [`Session::settle`].
    pub(crate) fn chore(&self, session: &Rc<Session<A>>) {
        self.wake_flusher();
        if !self.drained.get() && !session.has_chore.replace(true) {
            self.chores.borrow_mut().push(Rc::clone(session));
        }
    }

    /// Wakes the flush task when it sleeps: it runs after the tasks that are ready now, so what they push
    /// leaves together.
    fn wake_flusher(&self) {
        let sleeping = self.flusher.borrow_mut().take();
        if let Some(flusher) = sleeping {
            self.refresh_clock();
            flusher.wake();
        }
    }

    pub(super) async fn flush_loop(self: Rc<Self>) {
        loop {
            std::future::poll_fn(|cx| {
                if self.is_idle() {
                    *self.flusher.borrow_mut() = Some(cx.waker().clone());
                    Poll::Pending
                } else {
                    Poll::Ready(())
                }
            })
            .await;
            self.do_chores();
            self.flush_slice();
            if self.is_idle() {
                self.all_flushed.notify_waiters();
            } else {
                tokio::task::yield_now().await;
            }
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.lists.borrow().is_empty() && self.chores.borrow().is_empty()
    }

    pub(super) fn do_chores(&self) {
        let chores = self.chores.take();
        for session in chores {
            session.has_chore.set(false);
            session.settle();
            session.release_if_polling();
        }
    }

    /// Writes for about one slice: answers and heartbeats, a small burst, then what a large one left.
    fn flush_slice(&self) {
        let start = self.refresh_clock();
        let slice = self.config.flush_slice.as_micros() as Micros;
        let mut lists = self.lists.borrow_mut();
        let Lists { urgent, fresh, bulk, .. } = &mut *lists;
        while let Some(session) = urgent.pop_front() {
            if session.urgent.get() && self.flush(&session) {
                session.listed.set(true);
                bulk.push_back(session);
            }
            // Everybody's heartbeat may be due at once.
            if self.clock().wrapping_sub(start) >= slice {
                break;
            }
        }
        let small = fresh.len() <= self.config.small_burst;
        for session in fresh.drain(..) {
            if !small || (session.listed.get() && self.flush(&session)) {
                session.listed.set(true);
                bulk.push_back(session);
            }
        }
        let mut done = 0;
        while let Some(session) = bulk.pop_front() {
            if session.listed.get() && self.flush(&session) {
                session.listed.set(true);
                bulk.push_back(session);
            }
            done += 1;
            if done >= LEAST_PROGRESS && self.clock().wrapping_sub(start) >= slice {
                break;
            }
        }
        drop(lists);
        self.publish();
    }

    /// Writes out of turn, for a transport that was blocked and is not any more.
    pub(crate) fn flush_now(&self, session: &Rc<Session<A>>) {
        if self.flush(session) {
            // More than one call's worth: the rest in its turn.
            session.listed.set(true);
            self.list(session);
        }
        self.publish();
    }

    /// One write call for one session. Tells whether it took everything offered and more is left.
    fn flush(&self, session: &Rc<Session<A>>) -> bool {
        session.listed.set(false);
        session.urgent.set(false);
        if session.blocked.get() || session.phase.get() == Phase::Dead {
            return false;
        }
        let mut outbox = session.outbox.borrow_mut();
        if outbox.is_empty() {
            return false;
        }
        let mut gathered = self.gathered.borrow_mut();
        let gathered = &mut *gathered;
        let before = self.clock();
        let transport = session.transport.borrow();
        let written = transport.flush(&mut outbox, &mut gathered.tally);
        let now = self.refresh_clock();
        gathered.writes += 1;
        gathered.bytes += std::mem::take(&mut gathered.tally.bytes) as u64;
        gathered.write.record(now.wrapping_sub(before).into(), 1);
        for pushed in gathered.tally.pushed.drain(..) {
            gathered.frames += 1;
            gathered.queue.record(now.wrapping_sub(pushed).into(), 1);
        }
        drop(outbox);
        match written {
            Written::More => return true,
            Written::Drained => {
                if session.phase.get() == Phase::Closing {
                    transport.finish();
                    if transport.is_polling() {
                        // The goodbye has left, and nothing is to be read any more.
                        session.kill();
                    }
                }
                if transport.holds_back() {
                    self.block(session, gathered);
                }
            }
            Written::Blocked => self.block(session, gathered),
            Written::Failed(kind) => {
                drop(transport);
                session.lost(Reason::TransportError(kind));
            }
        }
        false
    }

    /// Leaves a session to its own task until the transport takes more.
    fn block(&self, session: &Rc<Session<A>>, gathered: &mut Gathered) {
        gathered.wouldblock += 1;
        session.blocked.set(true);
        session.wake_task();
        self.schedule(session);
    }

    fn publish(&self) {
        let mut gathered = self.gathered.borrow_mut();
        let (stats, gathered) = (&*self.stats, &mut *gathered);
        let counters = [
            (&stats.writes, &mut gathered.writes),
            (&stats.frames_out, &mut gathered.frames),
            (&stats.bytes_out, &mut gathered.bytes),
            (&stats.write_wouldblock, &mut gathered.wouldblock),
        ];
        for (shared, own) in counters {
            if *own > 0 {
                add(shared, std::mem::take(own));
            }
        }
        stats.queue.merge(&mut gathered.queue);
        stats.write.merge(&mut gathered.write);
    }
}
