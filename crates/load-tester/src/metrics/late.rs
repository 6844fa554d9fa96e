//! What belongs to a second that has been handed over already: a message is heard, acknowledged and judged after it was
//! sent.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use rustc_hash::FxHashMap;

use super::{Collector, Time, TimeId, new_second, new_total};

/// Samples gathered for the seconds they belong to, by the number of the histogram.
#[derive(Debug, Default)]
pub(crate) struct LateTimes(FxHashMap<(usize, usize), Histogram<u64>>);

impl LateTimes {
    pub(crate) fn time(&mut self, second: usize, what: Time, micros: u32) {
        self.record(second, what as usize, micros);
    }

    pub(crate) fn time_of(&mut self, second: usize, what: TimeId, micros: u32) {
        self.record(second, what.0, micros);
    }

    fn record(&mut self, second: usize, index: usize, micros: u32) {
        self.0.entry((second, index)).or_insert_with(new_total).record(u64::from(micros)).expect("it grows");
    }
}

impl Collector {
    /// Adds to seconds that may have been handed over already: what is known only later, such as a message's last hearer.
    pub(crate) fn add_late(&mut self, times: LateTimes) {
        for ((second, index), histogram) in times.0 {
            let total = self.total.histograms[index].get_or_insert_with(new_total);
            total.add(&histogram).expect("both grow");
            // What is folded is closed; hardly anything is as late as that.
            if second < self.first {
                continue;
            }
            let name = self.time_names[index].clone();
            let window = &mut self.second(second).window;
            let sum = window.histograms.entry(name).or_insert_with(new_second);
            for step in histogram.iter_recorded() {
                sum.record_n(step.value_iterated_to(), step.count_since_last_iteration()).expect("it grows");
            }
        }
    }

    /// Counts in the total and, where that is known and not yet folded, in the second it belongs to.
    pub(crate) fn count_late(&mut self, second: Option<usize>, name: &str, by: u64) {
        let add = |counters: &mut BTreeMap<String, u64>| match counters.get_mut(name) {
            Some(count) => *count += by,
            None => drop(counters.insert(name.to_owned(), by)),
        };
        if by == 0 {
            return;
        }
        add(&mut self.total.counters);
        if let Some(second) = second.filter(|second| *second >= self.first) {
            add(&mut self.second(second).window.counters);
        }
    }
}
