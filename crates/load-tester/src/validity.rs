//! May the numbers be believed? Three thresholds on the tester itself.

use crate::outcome::{ProcessSample, Rule, Validity, Window, names};

const MOST_SKIPPED: f64 = 0.001;
const MOST_LATENESS_MS: f64 = 50.0;
const MOST_CPU: f64 = 0.95;
const FOR_SECONDS: usize = 5;

/// Threads that carry load are called so; others (the reader, DNS) may be busy without harm.
pub(crate) const WORKER_THREAD: &str = "drumfire-w";

/// `planned`: arrivals that were due in what ran of the plan.
pub(crate) fn judge(total: &Window, planned: u64, tester: &[ProcessSample]) -> Validity {
    let skipped = total.counters.get("vusers.skipped").copied().unwrap_or(0);
    let share = if planned > 0 { skipped as f64 / planned as f64 } else { 0.0 };
    let skips = Rule {
        what: "arrivals skipped".into(),
        limit: format!("{} %", MOST_SKIPPED * 100.0),
        measured: format!("{:.2} % ({skipped} of {planned})", share * 100.0),
        held: share <= MOST_SKIPPED,
    };
    let late = match total.histograms.get(names::START_LATENESS).filter(|times| !times.is_empty()) {
        Some(times) => times.value_at_quantile(0.99) as f64 / 1000.0,
        None => 0.0,
    };
    let lateness = Rule {
        what: "start lateness p99".into(),
        limit: format!("{MOST_LATENESS_MS} ms"),
        measured: format!("{late:.2} ms"),
        held: late <= MOST_LATENESS_MS,
    };
    let (longest, busiest) = busiest(tester);
    let cpu = Rule {
        what: "a worker thread above 95 % CPU".into(),
        limit: format!("{FOR_SECONDS} s"),
        measured: format!("{longest} s (highest {:.0} %)", busiest * 100.0),
        held: longest < FOR_SECONDS,
    };
    let rules = vec![skips, lateness, cpu];
    Validity { valid: rules.iter().all(|rule| rule.held), rules }
}

/// The longest run of seconds any one worker was above the limit, and the highest use of any.
fn busiest(tester: &[ProcessSample]) -> (usize, f64) {
    let mut running: Vec<(&str, usize)> = Vec::new();
    let (mut longest, mut highest) = (0, 0.0_f64);
    for sample in tester {
        for (name, used) in sample.threads.iter().filter(|(name, _)| name.starts_with(WORKER_THREAD)) {
            highest = highest.max(*used);
            let at = running.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
                running.push((name, 0));
                running.len() - 1
            });
            let seconds = &mut running[at].1;
            *seconds = if *used > MOST_CPU { *seconds + 1 } else { 0 };
            longest = longest.max(*seconds);
        }
    }
    (longest, highest)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use hdrhistogram::Histogram;

    use super::*;

    fn window(skipped: u64, late_us: u64) -> Window {
        let mut times: Histogram<u64> = Histogram::new(3).unwrap();
        times.record(late_us).unwrap();
        Window {
            start_s: 0.0,
            length_s: 1.0,
            counters: BTreeMap::from([("vusers.skipped".to_owned(), skipped)]),
            histograms: BTreeMap::from([(names::START_LATENESS.to_owned(), times)]),
            concurrent_users: 0,
            connections: 0,
        }
    }

    fn cpu(uses: &[f64]) -> Vec<ProcessSample> {
        let sample = |&used: &f64| ProcessSample {
            at_s: 0.0,
            threads: vec![("drumfire".into(), 1.0), ("drumfire-w0".into(), used)],
            rss_bytes: 0,
            open_files: 0,
        };
        uses.iter().map(sample).collect()
    }

    #[test]
    fn each_threshold_alone_makes_a_run_invalid() {
        let good = [0.96, 0.96, 0.96, 0.96, 0.5, 0.96];
        let rows: [(u64, u64, &[f64], [bool; 3]); 4] = [
            (10, 49_900, &good, [true, true, true]),
            (11, 49_900, &good, [false, true, true]),
            (10, 50_200, &good, [true, false, true]),
            (10, 49_900, &[0.96; 5], [true, true, false]),
        ];
        for (skipped, late_us, uses, expected) in rows {
            let validity = judge(&window(skipped, late_us), 10_000, &cpu(uses));
            let held: Vec<bool> = validity.rules.iter().map(|rule| rule.held).collect();
            assert_eq!(held, expected, "{:?}", validity.rules);
            assert_eq!(validity.valid, expected == [true; 3]);
        }
    }
}
