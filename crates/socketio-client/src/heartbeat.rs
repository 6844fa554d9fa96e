//! Who pings whom, and when silence means death.
//!
//! Engine.IO 4: the server pings every `pingInterval`; silent for `pingInterval + pingTimeout`, it is gone.
//! Engine.IO 3: the client pings every `pingInterval`; unanswered for `pingTimeout`, the server is gone.
//! Anything received counts as a sign of life, as in the official clients.

use std::pin::Pin;
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
    /// Engine.IO 3: when the next ping is due.
    next_ping: Instant,
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
        Self { revision, interval, timeout, ping_sent: None, next_ping: now + interval, timer: None }
    }

    /// Engine.IO 3: the server answered.
    pub(crate) fn pong(&mut self, now: Instant) {
        self.ping_sent = None;
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
