//! Who pings whom, and when silence means death.
//!
//! Engine.IO 4: the server pings every `pingInterval`; silent for `pingInterval + pingTimeout`, it is gone.
//! Engine.IO 3: the client pings every `pingInterval`; unanswered for `pingTimeout`, the server is gone.
//! Anything received counts as a sign of life, as in the official clients.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use socketio_wire::engineio::Revision;
use tokio::time::{Sleep, sleep_until};

/// What a server may ask for at most, so that sums of times cannot overflow.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug)]
pub(crate) struct Heartbeat {
    revision: Revision,
    interval: Duration,
    timeout: Duration,
    /// Engine.IO 3: when the unanswered ping was sent.
    ping_sent: Option<Instant>,
    /// When the next ping is due: ours in Engine.IO 3, the server's in 4.
    next_ping: Instant,
    /// Counts beats that came later than allowed.
    late: Option<Arc<AtomicU64>>,
    /// Set to a moment no later than the next deadline. Moved only when it fires, so that a message costs
    /// no timer operation. Boxed: it must not move, and it is larger than the rest.
    timer: Option<Pin<Box<Sleep>>>,
}

/// What the clock asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Beat {
    /// Engine.IO 3: send a ping now.
    Ping,
    /// The server has been silent for too long.
    Dead,
}

impl Heartbeat {
    pub(crate) fn new(revision: Revision, interval_ms: u64, timeout_ms: u64, now: Instant) -> Self {
        let interval = Duration::from_millis(interval_ms).min(LONGEST);
        let timeout = Duration::from_millis(timeout_ms).min(LONGEST);
        let next_ping = now + interval;
        Self { revision, interval, timeout, ping_sent: None, next_ping, late: None, timer: None }
    }

    pub(crate) fn count_late(&mut self, late: Option<Arc<AtomicU64>>) {
        self.late = late;
    }

    /// Engine.IO 4: the server pinged.
    pub(crate) fn ping(&mut self, at: Instant) {
        if at > self.next_ping + self.timeout {
            self.one_late();
        }
        self.next_ping = at + self.interval;
    }

    fn one_late(&self) {
        if let Some(late) = &self.late {
            late.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Engine.IO 3: the server answered.
    pub(crate) fn pong(&mut self, now: Instant) {
        if self.ping_sent.take().is_some_and(|sent| now > sent + self.timeout) {
            self.one_late();
        }
        self.next_ping = now + self.interval;
        // The timer stands at the pong's deadline, which may be later.
        if let Some(timer) = &mut self.timer {
            timer.as_mut().reset(self.next_ping.into());
        }
    }

    /// To be polled when there is nothing to read, so that a busy client is not taken for a dead server.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, last_read: Instant) -> Poll<Beat> {
        loop {
            let due = self.due(last_read);
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due.into())));
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let now = Instant::now();
            if now < due {
                timer.as_mut().reset(due.into());
                continue;
            }
            // The timer has fired and stays so; the next poll sets it anew.
            if self.ping_is_due(now) {
                return Poll::Ready(Beat::Ping);
            }
            return Poll::Ready(Beat::Dead);
        }
    }

    /// Engine.IO 3: whether a ping has come due while there was always something to read. `now` need only
    /// be near: the instant of the last read will do.
    pub(crate) fn ping_is_due(&mut self, now: Instant) -> bool {
        let due = self.revision == Revision::V3 && self.ping_sent.is_none() && now >= self.next_ping;
        if due {
            // The timer stands at `next_ping`, which is past, and finds its new deadline when it is polled.
            self.ping_sent = Some(now);
        }
        due
    }

    fn due(&self, last_read: Instant) -> Instant {
        match (self.revision, self.ping_sent) {
            (Revision::V4, _) => last_read + self.interval + self.timeout,
            (Revision::V3, None) => self.next_ping,
            (Revision::V3, Some(sent)) => sent.max(last_read) + self.timeout,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beats_are_late_beyond_what_the_server_itself_allows() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let late = Arc::new(AtomicU64::new(0));
        let beat = |revision| {
            let mut heartbeat = Heartbeat::new(revision, 100, 50, start);
            heartbeat.count_late(Some(Arc::clone(&late)));
            heartbeat
        };
        let mut server_pings = beat(Revision::V4);
        for (ms, so_far) in [(150, 0), (301, 1), (420, 1), (600, 2)] {
            server_pings.ping(at(ms));
            assert_eq!(late.load(Ordering::Relaxed), so_far, "ping at {ms} ms");
        }
        late.store(0, Ordering::Relaxed);
        let mut we_ping = beat(Revision::V3);
        for (sent, answered, so_far) in [(100, 150, 0), (250, 301, 1), (401, 402, 1)] {
            assert!(we_ping.ping_is_due(at(sent)), "at {sent} ms");
            we_ping.pong(at(answered));
            assert_eq!(late.load(Ordering::Relaxed), so_far, "pong at {answered} ms");
        }
    }
}
