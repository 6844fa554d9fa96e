//! Who starts when: arrivals at their instants, slots of closed phases kept taken.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use tokio::task::{JoinError, JoinSet};

use crate::metrics::Count;
use crate::plan::SlotWindow;
use crate::timer::Timer;
use crate::virtual_user::{Due, Worker, live};

/// How often a thread looks whether it comes to anything in time.
const TICK: Duration = Duration::from_millis(20);

/// The users of one worker.
#[derive(Debug)]
pub(super) struct Crowd {
    worker: Rc<Worker>,
    users: RefCell<JoinSet<()>>,
    slots: RefCell<FxHashMap<u64, Slot>>,
    /// Nobody is replaced any more.
    stopped: Cell<bool>,
}

#[derive(Debug, Default)]
struct Slot {
    /// From the run's start; whoever ends from here on is not replaced.
    closes: Duration,
    /// How many users it has had.
    users: u64,
    taken: bool,
}

impl Crowd {
    pub(super) fn new(worker: &Rc<Worker>) -> Rc<Self> {
        Rc::new(Self {
            worker: Rc::clone(worker),
            users: RefCell::default(),
            slots: RefCell::default(),
            stopped: Cell::new(false),
        })
    }

    /// Starts this worker's users, each at its instant; every `workers`-th arrival and slot is its own.
    pub(super) async fn pace(self: &Rc<Self>) {
        let shared = Arc::clone(&self.worker.shared);
        let zero = *shared.zero.get().expect("set before the start");
        let (index, workers) = (self.worker.index as u64, shared.workers as u64);
        let mut arrivals = shared.plan.of_worker(index, workers).peekable();
        let mut slots = shared.plan.slots_of_worker(index, workers).peekable();
        let timer = Timer::new();
        let mut in_a_row = 0;
        loop {
            let slot = match (arrivals.peek(), slots.peek()) {
                (None, None) => break,
                (Some((_, due)), Some(window)) => window.opens < *due,
                (arrival, _) => arrival.is_none(),
            };
            let due = if slot {
                slots.peek().map(|window| window.opens)
            } else {
                arrivals.peek().map(|next| next.1)
            };
            let at = zero + due.expect("one of them was there");
            if at > Instant::now() {
                timer.until(at).await;
                in_a_row = 0;
            } else {
                in_a_row += 1;
                // Behind schedule: those that were started must get their turn too.
                if in_a_row % 16 == 0 {
                    tokio::task::yield_now().await;
                }
            }
            if slot {
                if let Some(window) = slots.next() {
                    self.open(*window, at);
                }
            } else if let Some((arrival, _)) = arrivals.next() {
                self.arrive(arrival, at);
            }
        }
        // A pause at the end is part of the plan too.
        timer.until(zero + shared.plan.duration()).await;
    }

    fn arrive(self: &Rc<Self>, arrival: u64, at: Instant) {
        let shared = &self.worker.shared;
        let most = shared.plan.phases()[shared.plan.phase_of(arrival)].phase.max_vusers;
        if most.is_some_and(|most| shared.alive.load(Ordering::Relaxed) >= most) {
            self.worker.recorder.borrow_mut().count(Count::UsersSkipped);
            return;
        }
        shared.alive.fetch_add(1, Ordering::Relaxed);
        let worker = Rc::clone(&self.worker);
        self.spawn(async move { live(&worker, arrival, Due::Planned(at)).await.leave().await });
    }

    /// A slot opens; when its last user is still there, that one is simply replaced again.
    fn open(self: &Rc<Self>, window: SlotWindow, at: Instant) {
        {
            let mut slots = self.slots.borrow_mut();
            let slot = slots.entry(window.slot).or_default();
            slot.closes = window.closes;
            if std::mem::replace(&mut slot.taken, true) {
                return;
            }
        }
        self.spawn(Rc::clone(self).keep_taken(window.slot, at));
    }

    /// One user after the other, until the slot closes.
    async fn keep_taken(self: Rc<Self>, number: u64, at: Instant) {
        let shared = Arc::clone(&self.worker.shared);
        let zero = *shared.zero.get().expect("set before the start");
        let mut due = Due::Planned(at);
        loop {
            let before = {
                let mut slots = self.slots.borrow_mut();
                let slot = slots.get_mut(&number).expect("it was opened");
                slot.users += 1;
                slot.users - 1
            };
            shared.alive.fetch_add(1, Ordering::Relaxed);
            let mut user = live(&self.worker, shared.plan.slot_user(number, before), due).await;
            let ended = Instant::now();
            if user.socket.is_some() {
                // The next one does not wait for the server's part of a goodbye.
                self.spawn(async move { user.leave().await });
            }
            {
                let mut slots = self.slots.borrow_mut();
                let slot = slots.get_mut(&number).expect("it was opened");
                if self.stopped.get() || ended >= zero + slot.closes {
                    slot.taken = false;
                    return;
                }
            }
            due = Due::Replacing(ended);
            // Users that wait for nothing must not hold the thread.
            tokio::task::coop::consume_budget().await;
        }
    }

    fn spawn(&self, user: impl Future<Output = ()> + 'static) {
        let mut users = self.users.borrow_mut();
        while let Some(joined) = users.try_join_next() {
            check(joined);
        }
        users.spawn_local(user);
    }

    /// Who ends from now on is not replaced.
    pub(super) fn stop(&self) {
        self.stopped.set(true);
    }

    pub(super) async fn all_ended(&self) {
        while let Some(joined) = poll_fn(|cx| self.users.borrow_mut().poll_join_next(cx)).await {
            check(joined);
        }
    }

    /// Ends users where they are, and counts them.
    pub(super) async fn cut_off(&self) {
        let cut_off = self.worker.users.get();
        if cut_off > 0 {
            self.worker.recorder.borrow_mut().add(self.worker.shared.unfinished, cut_off);
        }
        let mut users = self.users.take();
        users.shutdown().await;
    }
}

/// A user's task cannot fail but by a fault of ours.
pub(super) fn check(joined: Result<(), JoinError>) {
    if let Err(error) = joined
        && let Ok(panic) = error.try_into_panic()
    {
        std::panic::resume_unwind(panic);
    }
}

/// Notes fifty times a second how late this thread comes to what is due. A thread held up for two seconds notes each
/// tick it missed, with what that one waited.
pub(super) async fn note_lag(worker: &Worker) {
    let shared = &worker.shared;
    let timer = Timer::new();
    let mut due = *shared.zero.get().expect("set before the start");
    loop {
        due += TICK;
        timer.until(due).await;
        worker.recorder.borrow_mut().time_of(shared.loop_lag, due.elapsed());
    }
}
