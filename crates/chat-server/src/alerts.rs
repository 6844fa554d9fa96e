//! `speaker` alerts: at most one per connection and interval; what comes between is folded into the next.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socketio_server::SocketId;
use tokio::sync::Notify;

use crate::delivery::Publication;

/// A connection's alerts.
#[derive(Debug, Default)]
pub(crate) struct AlertState {
    last: Option<Instant>,
    /// The newest held back, and how many are.
    waiting: Option<(Arc<Publication>, u64)>,
}

/// What to do with a new alert.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Offered {
    SendNow,
    /// The first held back: wake at this instant.
    WaitUntil(Instant),
    Folded,
}

impl AlertState {
    pub(crate) fn offer(
        &mut self,
        publication: &Arc<Publication>,
        now: Instant,
        interval: Duration,
    ) -> Offered {
        if let Some((newest, count)) = &mut self.waiting {
            *newest = publication.clone();
            *count += 1;
            return Offered::Folded;
        }
        let due = self.last.map_or(now, |last| last + interval);
        if due <= now {
            self.last = Some(now);
            return Offered::SendNow;
        }
        self.waiting = Some((publication.clone(), 1));
        Offered::WaitUntil(due)
    }

    /// What waited: the newest, and how many others it stands for.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<(Arc<Publication>, u64)> {
        let (newest, count) = self.waiting.take()?;
        self.last = Some(now);
        Some((newest, count - 1))
    }
}

/// When which connection's held alert is due.
#[derive(Debug, Default)]
pub(crate) struct AlertQueue {
    due: RefCell<BinaryHeap<Reverse<(Instant, SocketId)>>>,
    earlier: Notify,
}

impl AlertQueue {
    pub(crate) fn push(&self, at: Instant, socket: SocketId) {
        let mut due = self.due.borrow_mut();
        let is_first = due.peek().is_none_or(|Reverse((first, _))| at < *first);
        due.push(Reverse((at, socket)));
        if is_first {
            self.earlier.notify_one();
        }
    }

    /// Waits until something is due, then gives all that is.
    pub(crate) async fn next_due(&self) -> Vec<SocketId> {
        loop {
            let first = self.due.borrow().peek().map(|Reverse((at, _))| *at);
            match first {
                None => self.earlier.notified().await,
                Some(at) if at <= Instant::now() => return self.take(Instant::now()),
                Some(at) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(at.into()) => {}
                        () = self.earlier.notified() => {}
                    }
                }
            }
        }
    }

    fn take(&self, now: Instant) -> Vec<SocketId> {
        let mut due = self.due.borrow_mut();
        let mut sockets = Vec::new();
        while let Some(Reverse((at, socket))) = due.peek().copied()
            && at <= now
        {
            due.pop();
            sockets.push(socket);
        }
        sockets
    }
}
