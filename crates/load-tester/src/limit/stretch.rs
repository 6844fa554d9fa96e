//! The part of a step that is judged: of users at once, the time in which all of them are there, and what they do until
//! they have ended.

use crate::metric::Totals;
use crate::metrics::merge_windows;
use crate::outcome::{Delivery, Outcome, ProcessSample, Window, counters};

pub(super) struct Stretch<'o> {
    /// `None`: the whole run.
    part: Option<(Window, Option<Delivery>)>,
    users_before: u64,
    /// In which load was asked for.
    pub(super) seconds: f64,
    target: &'o [ProcessSample],
    outcome: &'o Outcome,
}

impl<'o> Stretch<'o> {
    /// From the last phase on.
    pub(super) fn of(outcome: &'o Outcome) -> Self {
        let target = outcome.target.as_ref().map_or(&[][..], |target| &target.samples);
        let seconds = outcome.meta.phases.iter().map(|phase| phase.duration_s).sum();
        let whole = Self { part: None, users_before: 0, seconds, target, outcome };
        let Some(phase) = outcome.meta.phases.last().filter(|phase| phase.start_s > 0.0) else {
            return whole;
        };
        // A window that reaches over from the phase before is of neither.
        let first = outcome.seconds.partition_point(|second| second.start_s < phase.start_s - 0.001);
        let Some(mut window) = merge_windows(&outcome.seconds[first..]) else { return whole };
        window.length_s = phase.duration_s;
        Self {
            users_before: first.checked_sub(1).map_or(0, |last| outcome.seconds[last].concurrent_users),
            seconds: phase.duration_s,
            target: &target[target.partition_point(|sample| sample.at_s <= phase.start_s)..],
            part: Some((window.clone(), outcome.delivery.as_ref().map(|whole| delivery(whole, &window)))),
            ..whole
        }
    }

    pub(super) fn totals(&self) -> Totals<'_> {
        let (total, delivery) = match &self.part {
            Some((window, delivery)) => (window, delivery.as_ref()),
            None => (&self.outcome.total, self.outcome.delivery.as_ref()),
        };
        Totals {
            total,
            users_before: self.users_before,
            delivery,
            target: self.target,
            tester: &self.outcome.tester,
        }
    }
}

/// The account of what was sent in this window; what no second counts stays that of the whole run.
fn delivery(whole: &Delivery, window: &Window) -> Delivery {
    let count = |name: &str| window.counters.get(name).copied().unwrap_or(0);
    Delivery {
        expected: whole.expected.map(|_| count(counters::EXPECTED)),
        heard: count(counters::HEARD),
        missing: count(counters::MISSING),
        duplicates: count(counters::DUPLICATES),
        late: count(counters::LATE),
        unexpected: count(counters::UNEXPECTED),
        ..whole.clone()
    }
}
