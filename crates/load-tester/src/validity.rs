//! May the numbers be believed? Thresholds on the tester itself.
//!
//! Share of arrivals skipped, lateness of those started, CPU of each thread that measures, and how late those threads
//! come to what is due. The last one also shows a tester whose core others take, which no CPU figure does.

use crate::outcome::{ProcessSample, Rule, Validity, Window, names};
use crate::report::units::thousands;

const MOST_SKIPPED: f64 = 0.001;
const MOST_LATENESS_MS: f64 = 50.0;
const MOST_CPU: f64 = 0.95;
const FOR_SECONDS: f64 = 5.0;
const MOST_LAG_MS: f64 = 50.0;

/// Threads that carry load are called so; others (DNS, writing files) may be busy without harm.
pub(crate) const WORKER_THREAD: &str = "drumfire-w";
/// The thread that gives the orders, adds up what the others measured, and judges deliveries.
pub(crate) const CONDUCTOR_THREAD: &str = "drumfire-conductor";

/// How long threads were at their limit; told of each sample when it is taken, because samples of long runs are folded.
#[derive(Debug, Default)]
pub(crate) struct Busy {
    threads: Vec<BusyThread>,
    /// When the sample before was taken.
    at_s: f64,
}

#[derive(Debug)]
struct BusyThread {
    name: String,
    /// Above the limit without a pause until now.
    running_s: f64,
    longest_s: f64,
    highest: f64,
}

impl Busy {
    pub(crate) fn see(&mut self, sample: &ProcessSample) {
        // A reader that is itself late takes a sample of several seconds.
        let length_s = sample.at_s - self.at_s;
        self.at_s = sample.at_s;
        for (name, used) in &sample.threads {
            if !name.starts_with(WORKER_THREAD) && name != CONDUCTOR_THREAD {
                continue;
            }
            let at = self.threads.iter().position(|known| known.name == *name).unwrap_or_else(|| {
                let name = name.clone();
                self.threads.push(BusyThread { name, running_s: 0.0, longest_s: 0.0, highest: 0.0 });
                self.threads.len() - 1
            });
            let thread = &mut self.threads[at];
            thread.running_s = if *used > MOST_CPU { thread.running_s + length_s } else { 0.0 };
            thread.longest_s = thread.longest_s.max(thread.running_s);
            thread.highest = thread.highest.max(*used);
        }
    }

    /// The longest time any one of the threads was above the limit, and the highest use of any.
    fn longest(&self, of: impl Fn(&str) -> bool) -> (f64, f64) {
        self.threads.iter().filter(|thread| of(&thread.name)).fold(
            (0.0, 0.0),
            |(longest, highest), thread| {
                (f64::max(longest, thread.longest_s), f64::max(highest, thread.highest))
            },
        )
    }
}

/// `planned`: arrivals that were due in what ran of the plan; those of closed phases, which cannot be skipped, are not
/// among them.
pub(crate) fn judge(total: &Window, planned: u64, busy: &Busy) -> Validity {
    let skipped = total.counters.get("vusers.skipped").copied().unwrap_or(0);
    let share = if planned > 0 { skipped as f64 / planned as f64 } else { 0.0 };
    let skips = Rule {
        what: "arrivals skipped".into(),
        limit: format!("{} %", MOST_SKIPPED * 100.0),
        measured: format!("{:.2} % ({} of {})", share * 100.0, thousands(skipped), thousands(planned)),
        held: share <= MOST_SKIPPED,
    };
    let p99_ms = |name: &str| {
        let times = total.histograms.get(name).filter(|times| !times.is_empty());
        times.map_or(0.0, |times| times.value_at_quantile(0.99) as f64 / 1000.0)
    };
    let at_most = |what: &str, measured_ms: f64, limit_ms: f64| Rule {
        what: what.into(),
        limit: format!("{limit_ms} ms"),
        measured: format!("{measured_ms:.2} ms"),
        held: measured_ms <= limit_ms,
    };
    let cpu = |what: &str, of: fn(&str) -> bool| {
        let (longest_s, highest) = busy.longest(of);
        Rule {
            what: format!("{what} above 95 % CPU"),
            limit: format!("{FOR_SECONDS} s"),
            measured: format!("{longest_s:.0} s (highest {:.0} %)", highest * 100.0),
            // Samples come a millisecond early or late.
            held: longest_s < FOR_SECONDS - 0.05,
        }
    };
    let rules = vec![
        skips,
        at_most("start lateness p99", p99_ms(names::START_LATENESS), MOST_LATENESS_MS),
        cpu("a worker thread", |name| name.starts_with(WORKER_THREAD)),
        cpu("the thread that adds up and judges", |name| name == CONDUCTOR_THREAD),
        at_most("a worker thread late to its own ticks, p99", p99_ms(names::LOOP_LAG), MOST_LAG_MS),
    ];
    Validity { valid: rules.iter().all(|rule| rule.held), rules }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use hdrhistogram::Histogram;

    use super::*;

    fn window(skipped: u64, late_us: u64, lag_us: u64) -> Window {
        let times = |us| {
            let mut times: Histogram<u64> = Histogram::new(3).unwrap();
            times.record(us).unwrap();
            times
        };
        Window {
            start_s: 0.0,
            length_s: 1.0,
            counters: BTreeMap::from([("vusers.skipped".to_owned(), skipped)]),
            histograms: BTreeMap::from([
                (names::START_LATENESS.to_owned(), times(late_us)),
                (names::LOOP_LAG.to_owned(), times(lag_us)),
            ]),
            concurrent_users: 0,
            connections: 0,
        }
    }

    /// One sample after so many seconds each, with what the thread used.
    fn busy(thread: &str, step_s: f64, uses: &[f64]) -> Busy {
        let mut busy = Busy::default();
        for (index, &used) in uses.iter().enumerate() {
            busy.see(&ProcessSample {
                at_s: (index + 1) as f64 * step_s,
                threads: vec![("tokio-runtime-w".into(), 1.0), (thread.into(), used)],
                rss_bytes: 0,
                open_files: 0,
            });
        }
        busy
    }

    #[test]
    fn each_threshold_alone_makes_a_run_invalid() {
        let good = || busy("drumfire-w0", 1.0, &[0.96, 0.96, 0.96, 0.96, 0.5, 0.96]);
        let rows: [(u64, u64, u64, Busy, [bool; 5]); 8] = [
            (10, 49_900, 49_900, good(), [true; 5]),
            (11, 49_900, 49_900, good(), [false, true, true, true, true]),
            (10, 50_200, 49_900, good(), [true, false, true, true, true]),
            (10, 49_900, 49_900, busy("drumfire-w1", 1.0, &[0.96; 5]), [true, true, false, true, true]),
            // The reader was so late that two seconds are one sample.
            (10, 49_900, 49_900, busy("drumfire-w1", 2.0, &[0.96; 3]), [true, true, false, true, true]),
            (10, 49_900, 49_900, busy(CONDUCTOR_THREAD, 1.0, &[0.96; 5]), [true, true, true, false, true]),
            (10, 49_900, 49_900, busy("dns", 1.0, &[1.0; 9]), [true; 5]),
            (10, 49_900, 50_200, good(), [true, true, true, true, false]),
        ];
        for (skipped, late_us, lag_us, busy, expected) in rows {
            let validity = judge(&window(skipped, late_us, lag_us), 10_000, &busy);
            let held: Vec<bool> = validity.rules.iter().map(|rule| rule.held).collect();
            assert_eq!(held, expected, "{:?}", validity.rules);
            assert_eq!(validity.valid, expected == [true; 5]);
        }
    }
}
