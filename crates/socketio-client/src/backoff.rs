//! How long to wait before trying again: longer each time, and not all at once.

use std::time::Duration;

/// Waits that double from `first` to `most`, each blurred so that those who lost a server together do not come
/// back together. As the official clients': 1 s to 5 s, give or take half.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    /// 0 to 1: how far a wait may lie from its middle, as a part of it.
    blur: f64,
    attempts: u32,
    rng: fastrand::Rng,
}

impl Backoff {
    /// The official clients' defaults (`reconnectionDelay` 1,000 ms, `reconnectionDelayMax` 5,000 ms,
    /// `randomizationFactor` 0.5). The same seed gives the same waits.
    pub fn new(seed: u64) -> Self {
        Self::between(Duration::from_secs(1), Duration::from_secs(5), 0.5, seed)
    }

    /// Waits that begin around `first` and never exceed `most`; `blur` from 0 (none) to 1.
    pub fn between(first: Duration, most: Duration, blur: f64, seed: u64) -> Self {
        let blur = if blur.is_finite() { blur.clamp(0.0, 1.0) } else { 0.0 };
        Self { first, most, blur, attempts: 0, rng: fastrand::Rng::with_seed(seed) }
    }

    /// The next wait.
    pub fn next_delay(&mut self) -> Duration {
        let doubled = self.first.saturating_mul(1u32.checked_shl(self.attempts).unwrap_or(u32::MAX));
        self.attempts = self.attempts.saturating_add(1);
        // The middle is bounded before it is blurred only so far that the sum stays a number; the wait is
        // bounded afterwards, as in the official clients, so that late waits are mostly `most` itself.
        let middle = doubled.min(self.most.saturating_mul(4)).as_secs_f64();
        let off = middle * self.blur * (self.rng.f64() * 2.0 - 1.0);
        Duration::try_from_secs_f64(middle + off).unwrap_or(self.most).min(self.most)
    }

    /// How many waits were given since the last [`Backoff::reset`].
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Begins anew: it worked.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_most() {
        let mut backoff = Backoff::between(Duration::from_millis(100), Duration::from_millis(1_000), 0.0, 1);
        let mut waits = || backoff.next_delay().as_millis();
        assert_eq!([(); 6].map(|()| waits()), [100, 200, 400, 800, 1_000, 1_000]);
        assert_eq!(backoff.attempts(), 6);
        backoff.reset();
        assert_eq!((backoff.next_delay().as_millis(), backoff.attempts()), (100, 1));
    }

    #[test]
    fn the_official_waits_lie_where_they_should_and_are_spread() {
        let rows =
            [(500, 1_500), (1_000, 3_000), (2_000, 5_000), (4_000, 5_000), (5_000, 5_000), (5_000, 5_000)];
        let mut seen = rows.map(|_| (u128::MAX, 0));
        for seed in 0..1_000 {
            let mut backoff = Backoff::new(seed);
            for ((least, most), seen) in rows.iter().zip(&mut seen) {
                let wait = backoff.next_delay().as_millis();
                assert!((*least..=*most).contains(&wait), "{wait} is not within {least} and {most}");
                *seen = (seen.0.min(wait), seen.1.max(wait));
            }
        }
        // From end to end, nearly.
        assert!(seen[0].0 < 520 && seen[0].1 > 1_480, "{seen:?}");
        assert!(seen[1].0 < 1_040 && seen[1].1 > 2_960, "{seen:?}");
    }

    #[test]
    fn a_seed_repeats_its_waits_and_two_differ() {
        let waits = |seed| {
            let mut backoff = Backoff::new(seed);
            [(); 3].map(|()| backoff.next_delay())
        };
        assert_eq!(waits(7), waits(7));
        assert_ne!(waits(7), waits(8));
    }

    #[test]
    fn odd_settings_and_many_attempts_stay_within_bounds() {
        let long = Duration::MAX;
        for (first, most, blur) in [
            (Duration::ZERO, Duration::ZERO, 0.5),
            (long, long, 1.0),
            (Duration::from_secs(9), Duration::from_secs(1), f64::NAN),
            (Duration::from_nanos(1), Duration::from_secs(1), 99.0),
        ] {
            let mut backoff = Backoff::between(first, most, blur, 3);
            for _ in 0..100 {
                assert!(backoff.next_delay() <= most);
            }
        }
    }
}
