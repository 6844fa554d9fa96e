//! One timer wheel per worker for everything a session waits for: heartbeats, the first namespace, the age of
//! what is queued, the end of a close.
//!
//! A session stands in the wheel once, at the earliest thing due. Things move to a later time without touching
//! the wheel: when a session's bucket comes up, the session says what is due by then and is put where it
//! belongs next. An entry that an earlier one replaced is recognised by its tick and skipped.

use std::cell::Cell;
use std::time::Duration;

/// Ticks since the worker began.
pub(crate) type Tick = u64;

pub(crate) const NEVER: Tick = Tick::MAX;

/// Times that are due for one session; [`NEVER`] when not waited for.
#[derive(Debug)]
pub(crate) struct Due {
    /// The next ping to send, or the end of the wait for the peer's.
    pub(crate) heartbeat: Cell<Tick>,
    /// A ping of ours is unanswered (revision 4).
    pub(crate) awaits_pong: Cell<bool>,
    /// End of the wait for the first namespace.
    pub(crate) connect: Cell<Tick>,
    /// End of the wait for a close to complete.
    pub(crate) close: Cell<Tick>,
    /// End of the wait for the rest of a message.
    pub(crate) message: Cell<Tick>,
    /// Where the session stands in the wheel.
    scheduled: Cell<Tick>,
}

impl Default for Due {
    fn default() -> Self {
        let never = || Cell::new(NEVER);
        Self {
            heartbeat: never(),
            awaits_pong: Cell::new(false),
            connect: never(),
            close: never(),
            message: never(),
            scheduled: never(),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Wheel {
    tick: Duration,
    /// The tick up to which all is done.
    now: Tick,
    /// Slots of sessions, by tick modulo the number of buckets.
    buckets: Vec<Vec<u32>>,
}

const BUCKETS: u64 = 512;

impl Wheel {
    /// Fine enough to keep a ping interval within half a percent, never finer than 5 ms.
    pub(crate) fn new(ping_interval: Duration) -> Self {
        let tick = (ping_interval / 256).clamp(Duration::from_millis(5), Duration::from_millis(100));
        Self { tick, now: 0, buckets: (0..BUCKETS).map(|_| Vec::new()).collect() }
    }

    pub(crate) fn tick(&self) -> Duration {
        self.tick
    }

    /// Moves on without looking, when no session stands in the wheel.
    pub(crate) fn skip_to(&mut self, now: Tick) {
        self.now = self.now.max(now);
    }

    /// The first tick not before `wait` has passed, counted from `start`.
    pub(crate) fn after(&self, start: Tick, wait: Duration) -> Tick {
        // One more, because `start` may be nearly over.
        start + wait.as_nanos().div_ceil(self.tick.as_nanos()) as Tick + 1
    }

    /// The last tick before `wait` has passed, counted from `start`, but never `start` itself.
    pub(crate) fn within(&self, start: Tick, wait: Duration) -> Tick {
        start + ((wait.as_nanos() / self.tick.as_nanos()) as Tick).max(1)
    }

    /// Puts a session where `at` is, unless it stands at an earlier tick already.
    pub(crate) fn schedule(&mut self, slot: usize, due: &Due, at: Tick) {
        if at >= due.scheduled.get() || at == NEVER {
            return;
        }
        // What lies further ahead than the wheel reaches is looked at on the way.
        let at = at.clamp(self.now + 1, self.now + BUCKETS - 1);
        due.scheduled.set(at);
        self.buckets[(at % BUCKETS) as usize].push(slot as u32);
    }

    /// Moves to the next tick not after `until` that has sessions, and gives it with their slots; each has to
    /// be asked with [`Wheel::is_due`].
    pub(crate) fn advance(&mut self, until: Tick) -> Option<(Tick, Vec<u32>)> {
        while self.now < until {
            self.now += 1;
            let bucket = &mut self.buckets[(self.now % BUCKETS) as usize];
            if !bucket.is_empty() {
                return Some((self.now, std::mem::take(bucket)));
            }
        }
        None
    }

    /// Whether the entry found at `at` is this session's own; if so, it stands in the wheel no more.
    pub(crate) fn is_due(due: &Due, at: Tick) -> bool {
        let own = due.scheduled.get() == at;
        if own {
            due.scheduled.set(NEVER);
        }
        own
    }

    /// Gives an emptied bucket's memory back for use.
    pub(crate) fn recycle(&mut self, at: Tick, mut emptied: Vec<u32>) {
        emptied.clear();
        let bucket = &mut self.buckets[(at % BUCKETS) as usize];
        if bucket.is_empty() {
            *bucket = emptied;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every (tick, slot) that comes up until `until`, stale entries left out.
    fn run(wheel: &mut Wheel, dues: &[Due], until: Tick) -> Vec<(Tick, u32)> {
        let mut fired = Vec::new();
        while let Some((at, slots)) = wheel.advance(until) {
            fired.extend(
                slots.iter().filter(|slot| Wheel::is_due(&dues[**slot as usize], at)).map(|slot| (at, *slot)),
            );
            wheel.recycle(at, slots);
        }
        fired
    }

    #[test]
    fn the_earliest_time_wins_and_each_comes_up_once() {
        let mut wheel = Wheel::new(Duration::from_secs(25));
        let dues = [Due::default(), Due::default()];
        wheel.schedule(0, &dues[0], 30);
        wheel.schedule(0, &dues[0], 10);
        wheel.schedule(0, &dues[0], 20);
        wheel.schedule(1, &dues[1], 10);
        wheel.schedule(1, &dues[1], NEVER);
        assert_eq!(run(&mut wheel, &dues, 9), []);
        assert_eq!(run(&mut wheel, &dues, 100), [(10, 0), (10, 1)]);
    }

    #[test]
    fn what_lies_beyond_the_wheel_is_looked_at_on_the_way() {
        let mut wheel = Wheel::new(Duration::from_secs(25));
        let dues = [Due::default()];
        wheel.schedule(0, &dues[0], 10_000);
        assert_eq!(run(&mut wheel, &dues, 600), [(BUCKETS - 1, 0)]);
        wheel.schedule(0, &dues[0], 3);
        assert_eq!(run(&mut wheel, &dues, 700), [(601, 0)], "a time that has passed is the next tick");
    }

    #[test]
    fn a_wait_is_never_cut_short() {
        let wheel = Wheel::new(Duration::from_millis(300));
        assert_eq!(wheel.tick(), Duration::from_millis(5));
        assert_eq!(wheel.after(7, Duration::from_millis(200)), 48);
        assert_eq!(wheel.after(7, Duration::from_millis(201)), 49);
    }

    #[test]
    fn what_may_come_early_is_never_late() {
        let wheel = Wheel::new(Duration::from_millis(300));
        assert_eq!(wheel.within(7, Duration::from_millis(300)), 67);
        assert_eq!(wheel.within(7, Duration::from_millis(304)), 67);
        assert_eq!(wheel.within(7, Duration::from_millis(1)), 8);
    }
}
