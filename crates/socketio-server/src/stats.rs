//! Counters and histograms of one worker (or of several that share them).

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::reason::{HttpFault, Reason};

/// What has happened so far. Any thread may read while workers count. Give each worker its own and add them up
/// when reading: workers that share one also share its cache lines.
#[derive(Debug, Default)]
pub struct Stats {
    /// TCP connections taken by `accept`.
    pub accepted: AtomicU64,
    /// TLS handshakes that failed or took too long.
    pub tls_failed: AtomicU64,
    /// Sessions opened (handshakes answered) so far.
    pub opened: AtomicU64,
    /// Sessions alive now.
    pub sessions: AtomicU64,
    /// Sockets (namespace connections) alive now.
    pub sockets: AtomicU64,
    /// Requests on our path answered with an error.
    pub refused: AtomicU64,
    /// Sessions that have changed from polling to a WebSocket.
    pub upgraded: AtomicU64,
    /// Polls, posts and upgrades handed over to the worker whose session they are for.
    pub handed_over: AtomicU64,
    /// Engine.IO messages received.
    pub messages_in: AtomicU64,
    /// Bytes received by open sessions.
    pub bytes_in: AtomicU64,
    /// Frames wholly written.
    pub frames_out: AtomicU64,
    /// Bytes written.
    pub bytes_out: AtomicU64,
    /// Writes to single sockets, those in batches included.
    pub writes: AtomicU64,
    /// Of these, the ones that were handed over with others in one call.
    pub writes_batched: AtomicU64,
    /// Writes that found the socket full, at once or after a part.
    pub write_wouldblock: AtomicU64,
    /// Frames dropped unsent when a session closed.
    pub frames_dropped: AtomicU64,
    /// Frames given to a session that was closing already.
    pub frames_late: AtomicU64,
    closed: [AtomicU64; Reason::KINDS.len()],
    http_faults: [AtomicU64; HttpFault::KINDS.len()],
    /// From the push of a frame to the end of the write that took its last byte.
    pub queue: Histogram,
    /// Time of one write; in a batch, its share.
    pub write: Histogram,
}

impl Stats {
    /// Sessions ended so far for this reason.
    pub fn closed(&self, reason: &Reason) -> u64 {
        self.closed[reason.index()].load(Relaxed)
    }

    /// Each reason's name (a metric label) with its count.
    pub fn closed_by_reason(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        Reason::KINDS.iter().zip(&self.closed).map(|(name, count)| (*name, count.load(Relaxed)))
    }

    /// HTTP connections and requests ended so far for this fault.
    pub fn http_fault(&self, fault: HttpFault) -> u64 {
        self.http_faults[fault as usize].load(Relaxed)
    }

    /// Each fault's name (a metric label) with its count.
    pub fn http_faults(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        HttpFault::KINDS.iter().zip(&self.http_faults).map(|(name, count)| (*name, count.load(Relaxed)))
    }

    pub(crate) fn count_http_fault(&self, fault: HttpFault) {
        add(&self.http_faults[fault as usize], 1);
    }

    pub(crate) fn count_closed(&self, reason: &Reason) {
        add(&self.closed[reason.index()], 1);
    }
}

pub(crate) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Relaxed);
}

pub(crate) fn sub(counter: &AtomicU64, n: u64) {
    counter.fetch_sub(n, Relaxed);
}

/// Buckets with an upper bound each, four to a doubling, from 1 us to 67 s: at most 25 % wide.
const BUCKETS: usize = 104;

/// Durations in microseconds.
#[derive(Debug)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum_us: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: std::array::from_fn(|_| AtomicU64::new(0)), sum_us: AtomicU64::new(0) }
    }
}

impl Histogram {
    pub(crate) fn merge(&self, local: &mut LocalHistogram) {
        if local.low > local.high {
            return;
        }
        for index in local.low..=local.high {
            let count = std::mem::take(&mut local.buckets[index]);
            if count > 0 {
                add(&self.buckets[index], count.into());
            }
        }
        add(&self.sum_us, std::mem::take(&mut local.sum_us));
        local.low = BUCKETS;
        local.high = 0;
    }

    /// Every bucket as (upper bound in microseconds, inclusive; count inside it alone), shortest first.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.buckets.iter().enumerate().map(|(index, count)| (upper_bound(index), count.load(Relaxed)))
    }

    pub fn sum_us(&self) -> u64 {
        self.sum_us.load(Relaxed)
    }

    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Relaxed)).sum()
    }
}

/// What one flush gathers before it touches the shared counters.
#[derive(Debug)]
pub(crate) struct LocalHistogram {
    buckets: [u32; BUCKETS],
    sum_us: u64,
    low: usize,
    high: usize,
}

impl LocalHistogram {
    pub(crate) fn new() -> Self {
        Self { buckets: [0; BUCKETS], sum_us: 0, low: BUCKETS, high: 0 }
    }

    pub(crate) fn record(&mut self, us: u64, times: u32) {
        let index = bucket(us);
        self.buckets[index] += times;
        self.sum_us += us * u64::from(times);
        self.low = self.low.min(index);
        self.high = self.high.max(index);
    }
}

/// 0..=3 have a bucket each; above, the two bits after the leading one choose among four.
fn bucket(us: u64) -> usize {
    if us < 4 {
        return us as usize;
    }
    let exponent = 63 - us.leading_zeros() as usize;
    let quarter = (us >> (exponent - 2)) as usize & 3;
    ((exponent - 1) * 4 + quarter).min(BUCKETS - 1)
}

fn upper_bound(index: usize) -> u64 {
    if index < 4 {
        return index as u64;
    }
    let (exponent, quarter) = (index / 4 + 1, index as u64 % 4);
    ((5 + quarter) << (exponent - 2)) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_duration_falls_into_the_bucket_that_bounds_it() {
        for us in (0..5_000).chain([65_535, 65_536, 1_000_000, 60_000_000]) {
            let index = bucket(us);
            assert!(us <= upper_bound(index), "{us} in bucket {index}");
            assert!(index == 0 || us > upper_bound(index - 1), "{us} not in bucket {index}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn a_merge_moves_everything_once() {
        let shared = Histogram::default();
        let mut local = LocalHistogram::new();
        local.record(7, 3);
        local.record(1_000, 1);
        shared.merge(&mut local);
        shared.merge(&mut local);
        assert_eq!((shared.count(), shared.sum_us()), (4, 1_021));
        assert_eq!(shared.buckets().filter(|(_, count)| *count > 0).count(), 2);
    }
}
