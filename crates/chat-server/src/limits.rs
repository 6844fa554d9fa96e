//! Token buckets: per connection (on its worker), per user and per place (in the store thread).

use std::hash::Hash;
use std::time::Instant;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

/// A steady rate and how much may come at once.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    pub per_second: f64,
    pub burst: f64,
}

/// One bucket: starts full.
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    pub fn full(rate: Rate, now: Instant) -> Self {
        Self { tokens: rate.burst, filled: now }
    }

    /// Takes one token; false when there is none.
    pub fn take(&mut self, rate: Rate, now: Instant) -> bool {
        self.fill(rate, now);
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }

    fn fill(&mut self, rate: Rate, now: Instant) {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens = (self.tokens + passed * rate.per_second).min(rate.burst);
        self.filled = self.filled.max(now);
    }
}

/// Buckets by key; full ones are forgotten now and then, so memory follows the recently active.
#[derive(Debug)]
pub struct Buckets<K> {
    /// `None`: no limit.
    rate: Option<Rate>,
    buckets: FxHashMap<K, Bucket>,
    /// When to look for full buckets next, in entries.
    sweep_at: usize,
}

const FIRST_SWEEP: usize = 4096;

impl<K: Eq + Hash> Buckets<K> {
    pub fn new(rate: Option<Rate>) -> Self {
        Self { rate, buckets: FxHashMap::default(), sweep_at: FIRST_SWEEP }
    }

    pub fn take(&mut self, key: K, now: Instant) -> bool {
        let Some(rate) = self.rate else { return true };
        if self.buckets.len() >= self.sweep_at {
            self.buckets.retain(|_, bucket| {
                bucket.fill(rate, now);
                bucket.tokens < rate.burst
            });
            self.sweep_at = (self.buckets.len() * 2).max(FIRST_SWEEP);
        }
        self.buckets.entry(key).or_insert_with(|| Bucket::full(rate, now)).take(rate, now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const RATE: Rate = Rate { per_second: 2.0, burst: 3.0 };

    #[test]
    fn a_burst_then_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::full(RATE, start);
        let taken = (0..10).filter(|_| bucket.take(RATE, start)).count();
        assert_eq!(taken, 3);
        assert!(!bucket.take(RATE, start + Duration::from_millis(400)));
        assert!(bucket.take(RATE, start + Duration::from_millis(600)));
        // A clock that goes back gives nothing and takes nothing.
        assert!(!bucket.take(RATE, start));
    }

    #[test]
    fn keys_do_not_share_and_idle_ones_are_forgotten() {
        let start = Instant::now();
        let mut buckets = Buckets::new(Some(RATE));
        for key in 0..FIRST_SWEEP as u32 {
            assert!(buckets.take(key, start));
        }
        assert!(buckets.take(u32::MAX, start + Duration::from_secs(60)));
        assert_eq!(buckets.buckets.len(), 1);
        let mut free = Buckets::new(None);
        assert!((0..1000).all(|_| free.take(1, start)));
    }
}
