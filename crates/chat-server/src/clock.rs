//! The time of day. This is the one place where it is read.
//!
//! It stands in `created_at` and decides whether a token has expired. Whatever measures how long something
//! takes (limits, heartbeats, patience, the rest between two alerts) uses [`Instant`], which does not notice
//! when somebody sets the clock.

use std::time::{Duration, Instant};

use jiff::Timestamp;

pub fn now() -> Timestamp {
    Timestamp::now()
}

/// Milliseconds since 1970, UTC.
pub fn now_ms() -> i64 {
    now().as_millisecond()
}

/// Seconds since 1970, UTC.
pub fn now_s() -> u64 {
    u64::try_from(now_ms() / 1000).unwrap_or(0)
}

/// Further apart than this from what the monotonic clock says: a jump. A clock being steered stays far below.
const JUMP_MS: i64 = 30_000;
/// A clock that has jumped is believed again when it has kept its pace for this long.
pub(crate) const TRUST_AFTER: Duration = Duration::from_secs(3600);

/// Whether the time of day may be believed by what cannot be undone: deleting old messages.
///
/// A clock that is wrong for a moment is not believed in that moment, in whichever direction it jumped.
#[derive(Debug)]
pub(crate) struct Trust {
    last: Look,
    believed_from: Instant,
}

/// How far the clock jumped, milliseconds; negative: back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Jump(pub(crate) i64);

/// Both clocks at one moment: the time of day, milliseconds since 1970, and the monotonic one.
pub(crate) type Look = (i64, Instant);

/// How far the time of day was set between two looks; `None`: it kept its pace.
pub(crate) fn jump((last_ms, last): Look, (now_ms, now): Look) -> Option<Jump> {
    let passed_ms = i64::try_from(now.saturating_duration_since(last).as_millis()).unwrap_or(i64::MAX);
    let jump_ms = now_ms.saturating_sub(last_ms).saturating_sub(passed_ms);
    (jump_ms.abs() > JUMP_MS).then_some(Jump(jump_ms))
}

impl Trust {
    /// `known_ms`: when the time of day was last believed, by an earlier process perhaps. A gap between then
    /// and now may be a pause or a wrong clock; nobody can tell, so it has to keep its pace first.
    pub(crate) fn new(now_ms: i64, now: Instant, known_ms: Option<i64>) -> Self {
        let gap_ms = known_ms.map_or(0, |known_ms| now_ms.saturating_sub(known_ms));
        let is_near = gap_ms.unsigned_abs() <= TRUST_AFTER.as_millis() as u64;
        Self { last: (now_ms, now), believed_from: if is_near { now } else { now + TRUST_AFTER } }
    }

    /// Looks at both clocks; tells when one has left the other since the last look.
    pub(crate) fn look(&mut self, now_ms: i64, now: Instant) -> Option<Jump> {
        let last = std::mem::replace(&mut self.last, (now_ms, now));
        let jump = jump(last, (now_ms, now))?;
        self.believed_from = now + TRUST_AFTER;
        Some(jump)
    }

    /// As of the last look.
    pub(crate) fn is_believed(&self) -> bool {
        self.last.1 >= self.believed_from
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const HOUR_MS: i64 = 3_600_000;

    /// Looks once a minute; gives the jumps, and after how many minutes the clock was believed at last.
    fn watch(known_ms: Option<i64>, steps: &[(u32, i64)]) -> (Vec<i64>, Option<u32>) {
        let start = Instant::now();
        let mut trust = Trust::new(0, start, known_ms);
        let (mut jumps, mut believed_at, mut set_ms) = (Vec::new(), None, 0);
        for minute in 0..300 {
            set_ms += steps.iter().find(|(at, _)| *at == minute).map_or(0, |(_, step_ms)| *step_ms);
            let now_ms = i64::from(minute) * 60_000 + set_ms;
            jumps.extend(trust.look(now_ms, start + MINUTE * minute).map(|Jump(ms)| ms));
            match trust.is_believed() {
                false => believed_at = None,
                true if believed_at.is_none() => believed_at = Some(minute),
                true => {}
            }
        }
        (jumps, believed_at)
    }

    #[test]
    fn a_clock_is_believed_while_it_keeps_its_pace() {
        for (known_ms, steps, jumps, believed_at) in [
            (None, vec![], vec![], 0),
            // Restarted soon, after a long rest, or with a clock that was set back meanwhile.
            (Some(-HOUR_MS / 2), vec![], vec![], 0),
            (Some(-50 * HOUR_MS), vec![], vec![], 60),
            (Some(50 * HOUR_MS), vec![], vec![], 60),
            // Steered a little; set forward for good; set back for good; wrong for a moment.
            (None, vec![(10, 900), (20, -900)], vec![], 0),
            (None, vec![(10, 5 * HOUR_MS)], vec![5 * HOUR_MS], 70),
            (None, vec![(10, -5 * HOUR_MS)], vec![-5 * HOUR_MS], 70),
            (None, vec![(10, HOUR_MS), (15, -HOUR_MS)], vec![HOUR_MS, -HOUR_MS], 75),
        ] {
            assert_eq!(watch(known_ms, &steps), (jumps, Some(believed_at)), "{known_ms:?} {steps:?}");
        }
    }
}
