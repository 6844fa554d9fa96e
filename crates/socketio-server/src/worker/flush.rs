//! From the outboxes to the sockets: whose turn it is, and for how long.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::task::Poll;

use crate::application::Application;
use crate::batch::{MOST_SENDS, Ring, Send};
use crate::outbox::{Micros, Tally, Written};
use crate::reason::Reason;
use crate::session::{Phase, Session};
use crate::stats::{LocalHistogram, add};
use crate::worker::Worker;

/// Sessions of a large burst flushed in each slice, however much else there is.
const LEAST_PROGRESS: usize = 32;

/// For fewer, a call each is as cheap.
const LEAST_BATCH: usize = 3;

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
    writes_batched: u64,
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
            writes_batched: 0,
            frames: 0,
            bytes: 0,
            wouldblock: 0,
            queue: LocalHistogram::new(),
            write: LocalHistogram::new(),
        }
    }
}

/// Sessions whose turn has come, and which are written for together.
type Batch<A> = Vec<Rc<Session<A>>>;

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
                if self.is_flushed() {
                    *self.flusher.borrow_mut() = Some(cx.waker().clone());
                    Poll::Pending
                } else {
                    Poll::Ready(())
                }
            })
            .await;
            self.do_chores();
            self.flush_slice();
            if self.is_flushed() {
                self.all_flushed.notify_waiters();
            } else {
                // What has waited for this processor meanwhile goes first, such as the thread that stores what others
                // have said: the system itself would take it away only after some milliseconds.
                std::thread::yield_now();
                tokio::task::yield_now().await;
            }
        }
    }

    /// Whether [`Worker::flushed`] would not wait.
    pub fn is_flushed(&self) -> bool {
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
        let mut batch = Vec::new();
        while let Some(session) = urgent.pop_front() {
            if session.urgent.get() {
                self.flush_soon(session, &mut batch, bulk);
            }
            // Everybody's heartbeat may be due at once.
            if self.clock().wrapping_sub(start) >= slice {
                break;
            }
        }
        let small = fresh.len() <= self.config.small_burst;
        // Whoever is not listed any more stands in the batch already, or has nothing to write.
        for session in fresh.drain(..).filter(|session| session.listed.get()) {
            if small {
                self.flush_soon(session, &mut batch, bulk);
            } else {
                bulk.push_back(session);
            }
        }
        let mut done = 0;
        while let Some(session) = bulk.pop_front() {
            if session.listed.get() {
                self.flush_soon(session, &mut batch, bulk);
            }
            done += 1;
            if done >= LEAST_PROGRESS && self.clock().wrapping_sub(start) >= slice {
                break;
            }
        }
        self.flush_batch(&mut batch, bulk);
        drop(lists);
        self.publish();
    }

    /// Writes for one session, at once or with the batch. What is left then goes to `bulk`.
    fn flush_soon(&self, session: Rc<Session<A>>, batch: &mut Batch<A>, bulk: &mut VecDeque<Rc<Session<A>>>) {
        if self.ring.borrow().is_none() || session.transport.borrow().socket().is_none() {
            if self.flush(&session) {
                put_back(session, bulk);
            }
        } else if take_turn(&session) {
            batch.push(session);
            if batch.len() == MOST_SENDS {
                self.flush_batch(batch, bulk);
            }
        }
    }

    /// Writes for all sessions of a batch, which it empties.
    fn flush_batch(&self, batch: &mut Batch<A>, bulk: &mut VecDeque<Rc<Session<A>>>) {
        let mut ring_place = self.ring.borrow_mut();
        let ring = ring_place.as_mut().filter(|_| batch.len() >= LEAST_BATCH);
        let Some(ring) = ring else {
            for session in batch.drain(..) {
                if self.write(&session) {
                    put_back(session, bulk);
                }
            }
            return;
        };
        let before = self.clock();
        let outcomes = send_all(ring, batch);
        if ring.is_broken() {
            *ring_place = None;
        }
        let each = self.refresh_clock().wrapping_sub(before) / batch.len() as Micros;
        let mut gathered = self.gathered.borrow_mut();
        gathered.writes += batch.len() as u64;
        gathered.writes_batched += batch.len() as u64;
        gathered.write.record(each.into(), batch.len() as u32);
        for (session, (offered, outcome)) in batch.drain(..).zip(outcomes) {
            if matches!(&outcome, Err(error) if error.kind() == io::ErrorKind::WouldBlock) {
                session.transport.borrow().found_full();
            }
            let written = session.outbox.borrow_mut().settle(outcome, offered, &mut gathered.tally);
            if self.written(&session, written, &mut gathered) {
                put_back(session, bulk);
            }
        }
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
        take_turn(session) && self.write(session)
    }

    fn write(&self, session: &Rc<Session<A>>) -> bool {
        let mut gathered = self.gathered.borrow_mut();
        let gathered = &mut *gathered;
        let before = self.clock();
        let written = session.transport.borrow().flush(&mut session.outbox.borrow_mut(), &mut gathered.tally);
        let now = self.refresh_clock();
        gathered.writes += 1;
        gathered.write.record(now.wrapping_sub(before).into(), 1);
        self.written(session, written, gathered)
    }

    /// After a write. Tells whether it took everything offered and more is left.
    fn written(&self, session: &Rc<Session<A>>, written: Written, gathered: &mut Gathered) -> bool {
        let now = self.clock();
        gathered.bytes += std::mem::take(&mut gathered.tally.bytes) as u64;
        for pushed in gathered.tally.pushed.drain(..) {
            gathered.frames += 1;
            gathered.queue.record(now.wrapping_sub(pushed).into(), 1);
        }
        let transport = session.transport.borrow();
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
            (&stats.writes_batched, &mut gathered.writes_batched),
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

/// The session stands in no list any more. Tells whether there is something to write for it.
fn take_turn<A: Application>(session: &Rc<Session<A>>) -> bool {
    session.listed.set(false);
    session.urgent.set(false);
    !session.blocked.get() && session.phase.get() != Phase::Dead && !session.outbox.borrow().is_empty()
}

/// What is left for a session is written in its turn.
fn put_back<A: Application>(session: Rc<Session<A>>, bulk: &mut VecDeque<Rc<Session<A>>>) {
    session.listed.set(true);
    bulk.push_back(session);
}

/// For each session how many bytes were offered, and what came of it.
fn send_all<A: Application>(ring: &mut Ring, batch: &Batch<A>) -> Vec<(usize, io::Result<usize>)> {
    debug_assert!(
        batch.iter().map(Rc::as_ptr).collect::<std::collections::HashSet<_>>().len() == batch.len(),
        "a session stands in a batch once, or its frames would leave twice"
    );
    let transports: Vec<_> = batch.iter().map(|session| session.transport.borrow()).collect();
    let outboxes: Vec<_> = batch.iter().map(|session| session.outbox.borrow()).collect();
    let mut frames = Vec::with_capacity(batch.len());
    let ends: Vec<_> = outboxes
        .iter()
        .map(|outbox| {
            frames.extend(outbox.front());
            frames.len()
        })
        .collect();
    let mut start = 0;
    let mut sends = Vec::with_capacity(batch.len());
    for (transport, end) in transports.iter().zip(ends) {
        let frames = &frames[std::mem::replace(&mut start, end)..end];
        sends.extend(transport.socket().map(|socket| Send { socket, frames }));
    }
    let offered = |send: &Send<'_>| send.frames.iter().map(|frame: &IoSlice<'_>| frame.len()).sum();
    let outcomes = ring.send(&sends);
    sends.iter().map(offered).zip(outcomes).collect()
}
