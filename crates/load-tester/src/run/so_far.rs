//! The run so far, for whoever shows it while it goes on.

use std::fmt;

use crate::metrics::Collector;
use crate::outcome::{Delivery, Meta, Outcome, Validity, Window};
use crate::samples::Samples;
use crate::target::{Observer, Seen};

/// Told each second. The seconds are lent; the rest is put together only when it is asked for.
pub struct SoFar<'a> {
    /// The second that has just become whole. Deliveries are filed in it later, when they have been judged.
    pub newest: &'a Window,
    /// The latest second in which nothing will change any more.
    pub settled: Option<&'a Window>,
    /// So many settled seconds make one window of the result: 1, or in a long run more.
    pub seconds_per_window: usize,
    pub(super) make: &'a dyn Fn() -> Outcome,
}

impl SoFar<'_> {
    /// Everything but the seconds, which are told one by one; no check has been judged. Copies all of it, so it is meant
    /// for when somebody looks.
    pub fn outcome(&self) -> Outcome {
        (self.make)()
    }
}

impl fmt::Debug for SoFar<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SoFar").field("newest", &self.newest.start_s).finish_non_exhaustive()
    }
}

/// What the conductor knows while the run goes on.
pub(super) struct Known<'a> {
    pub(super) meta: &'a Meta,
    pub(super) collector: &'a Collector,
    pub(super) delivery: Option<&'a Delivery>,
    pub(super) observer: &'a Observer,
    pub(super) tester: &'a Samples,
    pub(super) validity: &'a Validity,
}

impl Known<'_> {
    /// `total` is what was measured up to its end.
    pub(super) fn outcome(&self, total: &Window) -> Outcome {
        let collector = self.collector;
        let Seen { target, stages, monitored } = self.observer.seen();
        Outcome {
            meta: Meta {
                duration_s: total.length_s,
                unconfirmed_emits: collector.unconfirmed,
                confirmed_emits: collector.confirmed,
                ..self.meta.clone()
            },
            validity: self.validity.clone(),
            seconds: Vec::new(),
            total: total.clone(),
            errors: collector.errors(),
            server_events: collector.server_events.clone(),
            scenario_counts: collector.scenario_counts.clone(),
            delivery: self.delivery.cloned(),
            target,
            stages,
            monitored,
            tester: self.tester.clone().finish(),
            checks: Vec::new(),
            interrupted: None,
            ended_after_s: None,
        }
    }
}
