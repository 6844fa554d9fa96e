//! A reader that is slow on purpose: so many bytes a second, the rest stays with the kernel and then with the server.

use std::num::NonZeroU32;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::time::{Sleep, sleep_until};

#[derive(Debug)]
pub(crate) struct Pace {
    bytes_per_second: NonZeroU32,
    /// When what was read last has been paid for.
    next: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Pace {
    pub(crate) fn new(bytes_per_second: NonZeroU32) -> Box<Self> {
        let now = Instant::now();
        Box::new(Self { bytes_per_second, next: now, timer: Box::pin(sleep_until(now.into())) })
    }

    pub(crate) fn rate(&self) -> NonZeroU32 {
        self.bytes_per_second
    }

    /// When it reads again.
    pub(crate) fn next(&self) -> Instant {
        self.next
    }

    /// Ready when bytes may be read again, and how many: a tenth of a second's worth.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        if Instant::now() < self.next {
            self.timer.as_mut().reset(self.next.into());
            ready!(self.timer.as_mut().poll(cx));
        }
        Poll::Ready(self.bytes_per_second.get().div_ceil(10) as usize)
    }

    pub(crate) fn took(&mut self, bytes: usize) {
        let cost = Duration::from_secs_f64(bytes as f64 / f64::from(self.bytes_per_second.get()));
        // Idle time is not saved up: what comes after it is read as slowly.
        self.next = self.next.max(Instant::now()) + cost;
    }
}
