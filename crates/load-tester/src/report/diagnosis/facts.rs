//! The figures the rules look at, worked out once.

use super::super::loaded::{Loaded, Run, Slice, Summary};
use super::super::story::numbered;
use super::super::units::{count, latency, sum_of};
use crate::outcome::{ErrorGroup, ProcessSample, names};

/// From here on a thread counts as busy all the time.
pub(super) const BUSY: f64 = 0.95;
/// A thread must be busy for that many samples in a row (one a second).
pub(super) const BUSY_SAMPLES: usize = 5;

pub(super) struct Facts<'a> {
    pub(super) loaded: &'a Loaded,
    pub(super) run: Option<&'a Run>,
    pub(super) total: &'a Slice,
    pub(super) slices: &'a [Slice],
    /// The server's busiest thread stood still at its limit.
    pub(super) hot: Option<Hot>,
}

/// A stretch in which one thread did nothing but work.
#[derive(Debug, Clone)]
pub(super) struct Hot {
    pub(super) thread: String,
    pub(super) from_s: f64,
    pub(super) seconds: usize,
    pub(super) mean: f64,
}

impl<'a> Facts<'a> {
    pub(super) fn of(loaded: &'a Loaded) -> Self {
        let run = loaded.run.as_ref();
        let hot =
            run.and_then(|run| run.target.as_ref()).and_then(|target| longest_hot(&target.samples, |_| true));
        Self { loaded, run, total: &loaded.total, slices: &loaded.slices, hot }
    }

    pub(super) fn errors(&self) -> &'a [ErrorGroup] {
        self.run.map_or(&[], |run| &run.errors)
    }

    /// Errors whose name or cause has this in it; of Artillery's files only the names are known.
    pub(super) fn errors_like(&self, word: &str) -> u64 {
        if self.errors().is_empty() {
            return sum_of(self.total.errors().filter(|(name, _)| name.contains(word)).map(|(_, n)| n));
        }
        let like = |error: &&ErrorGroup| error.code.contains(word) || error.cause.contains(word);
        sum_of(self.errors().iter().filter(like).map(|error| error.count))
    }

    /// How busy the server's busiest thread was in its busiest second.
    pub(super) fn target_peak(&self) -> Option<f64> {
        let samples = &self.run?.target.as_ref()?.samples;
        (!samples.is_empty()).then(|| peak(samples))
    }

    /// Cores used by the server in this sample, and by the tester at the same time.
    pub(super) fn both_at(&self, sample: &ProcessSample) -> (f64, f64) {
        let sum = |sample: &ProcessSample| sample.threads.iter().map(|thread| thread.1).sum::<f64>();
        let tester = self.run.map_or(&[][..], |run| &run.tester);
        let ours = tester.iter().find(|one| (one.at_s - sample.at_s).abs() < 0.6);
        (sum(sample), ours.map_or(0.0, sum))
    }

    /// How much of all the machine's cores server and tester took together in the busiest second.
    pub(super) fn machine_peak(&self) -> Option<f64> {
        let target = self.run?.target.as_ref()?;
        let cores = f64::from(target.cores);
        let shares = target.samples.iter().map(|sample| {
            let (theirs, ours) = self.both_at(sample);
            (theirs + ours) / cores
        });
        (target.cores > 0).then(|| shares.fold(0.0, f64::max).clamp(0.0, 1.0))
    }

    /// What may be said of the server's processor time.
    pub(super) fn target_clause(&self) -> String {
        match self.target_peak() {
            None if self.run.is_none() => "nothing is known of the server's processes".to_owned(),
            None => "the server's process was not visible, so nothing is said of its CPU".to_owned(),
            Some(peak) => match &self.hot {
                Some(hot) => format!(
                    "from {} the server's busiest thread was at {:.0} %",
                    clock(hot.from_s),
                    hot.mean * 100.0
                ),
                None => format!("the server's busiest thread was at {:.0} % at most", peak * 100.0),
            },
        }
    }

    pub(super) fn arrivals_clause(&self) -> String {
        let skipped = self.total.skipped();
        match self.total.summary(names::START_LATENESS) {
            Some(late) if late.p99 > 50.0 => format!("arrivals were late by {} (p99)", latency(late.p99)),
            _ if skipped > 0 => "not all arrivals were started".to_owned(),
            Some(_) => "arrivals kept time".to_owned(),
            None => String::new(),
        }
    }

    /// Of its workers, when they are named as ours are; else of any thread.
    pub(super) fn tester_peak(&self) -> Option<f64> {
        let samples = &self.run?.tester;
        (!samples.is_empty()).then(|| peak(samples))
    }

    pub(super) fn tester_clause(&self) -> String {
        match self.tester_peak() {
            None => String::new(),
            Some(peak) if peak < 0.3 => "the tester was idle".to_owned(),
            Some(peak) => format!("the tester's busiest thread was at {:.0} %", peak * 100.0),
        }
    }

    /// The times that matter most to whoever reads: deliveries where there are any, else answers. Only what was measured
    /// by us, in which no unanswered message can be.
    pub(super) fn main_times(&self) -> Option<(&'static str, TimeOf)> {
        self.run?;
        if self.total.summary(names::DELIVERY).is_some() {
            return Some(("delivery", |slice| slice.summary(names::DELIVERY)));
        }
        self.total.answered.as_ref().map(|_| ("answer", (|slice: &Slice| slice.answered.as_ref()) as TimeOf))
    }

    /// `delivery p99 rose from 4 ms to 5.5 s` over an instant.
    pub(super) fn rise_clause(&self, at_s: f64) -> Option<String> {
        let (what, times) = self.main_times()?;
        let p99 = |keep: &dyn Fn(&Slice) -> bool| {
            let mut all: Vec<f64> =
                self.slices.iter().filter(|slice| keep(slice)).filter_map(times).map(|t| t.p99).collect();
            all.sort_by(f64::total_cmp);
            all
        };
        let before = p99(&|slice| slice.start_s + slice.length_s <= at_s);
        let after = p99(&|slice| slice.start_s >= at_s);
        let highest = *after.last()?;
        match before.get(before.len() / 2) {
            Some(usual) if highest >= usual * 2.0 => {
                Some(format!("{what} p99 rose from {} to {}", latency(*usual), latency(highest)))
            }
            Some(_) => Some(format!("{what} p99 stayed below {}", latency(highest))),
            None => Some(format!("{what} p99 was {} at worst", latency(highest))),
        }
    }

    /// `all 2,000 expected deliveries arrived, 99 % within 12 ms`, when they did.
    pub(super) fn deliveries_clause(&self) -> Option<String> {
        let delivery = self.run?.delivery.as_ref().filter(|delivery| delivery.missing == 0)?;
        let expected = delivery.expected.filter(|expected| *expected > 0)?;
        let within = self
            .total
            .summary(names::DELIVERY)
            .map_or_else(String::new, |heard| format!(", 99 % within {}", latency(heard.p99)));
        let all = count(expected, "expected delivery", "expected deliveries");
        Some(format!("all {all} arrived{within}"))
    }

    /// Clauses that say where to look for the cause of something that is not the processor's fault, and who was idle.
    pub(super) fn circumstances(&self) -> Vec<String> {
        if self.run.is_none() {
            return Vec::new();
        }
        let mut clauses = vec![self.target_clause(), self.arrivals_clause(), self.tester_clause()];
        clauses.retain(|clause| !clause.is_empty());
        clauses
    }

    /// Answers and deliveries a second in a slice.
    pub(super) fn came_back(slice: &Slice) -> f64 {
        let answered = slice.answered.as_ref().and_then(|s| s.count).unwrap_or(0);
        let heard = slice.summary(names::DELIVERY).and_then(|s| s.count).unwrap_or(0);
        answered as f64 + heard as f64
    }
}

pub(super) type TimeOf = fn(&Slice) -> Option<&Summary>;

/// `0:12`, `1:04:05`: a point in the run.
pub(super) fn clock(seconds: f64) -> String {
    let whole = seconds.max(0.0) as u64;
    if whole < 3600 {
        format!("{}:{:02}", whole / 60, whole % 60)
    } else {
        format!("{}:{:02}:{:02}", whole / 3600, whole % 3600 / 60, whole % 60)
    }
}

fn peak(samples: &[ProcessSample]) -> f64 {
    let all = samples.iter().flat_map(|sample| sample.threads.iter().map(|thread| thread.1));
    // A sample taken a little late may claim more than there is.
    all.fold(0.0, f64::max).clamp(0.0, 1.0)
}

/// The stretch in which the same thread was busy longest, if it is long enough to matter.
pub(super) fn longest_hot(samples: &[ProcessSample], counts: impl Fn(&str) -> bool) -> Option<Hot> {
    let mut running: Vec<(String, Hot)> = Vec::new();
    let mut longest: Option<Hot> = None;
    let mut before_s = 0.0;
    for sample in samples {
        let mut now = Vec::new();
        for (thread, cpu) in numbered(&sample.threads) {
            if cpu < BUSY || !counts(&thread) {
                continue;
            }
            let so_far =
                running.iter().position(|(name, _)| *name == thread).map(|at| running.swap_remove(at).1);
            let mut hot =
                so_far.unwrap_or(Hot { thread: thread.clone(), from_s: before_s, seconds: 0, mean: 0.0 });
            hot.mean = (hot.mean * hot.seconds as f64 + cpu.min(1.0)) / (hot.seconds + 1) as f64;
            hot.seconds += 1;
            if hot.seconds >= BUSY_SAMPLES && longest.as_ref().is_none_or(|known| hot.seconds > known.seconds)
            {
                longest = Some(hot.clone());
            }
            now.push((thread, hot));
        }
        running = now;
        before_s = sample.at_s;
    }
    longest
}

pub(super) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
