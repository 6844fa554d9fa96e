//! The run so far, for whoever shows it while it goes on.

use std::fmt;

use crate::ledger::Ledger;
use crate::metrics::Collector;
use crate::outcome::{Meta, Outcome, TargetUse, Window};
use crate::samples::Samples;
use crate::validity::{self, Busy};

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
    pub(super) ledger: Option<&'a Ledger>,
    pub(super) target: Option<&'a TargetUse>,
    pub(super) target_samples: &'a Samples,
    pub(super) tester: &'a Samples,
    pub(super) busy: &'a Busy,
}

impl Known<'_> {
    /// `total` is what was measured up to its end.
    pub(super) fn outcome(&self, total: &Window) -> Outcome {
        let collector = self.collector;
        let counted = |name: &str| total.counters.get(name).copied().unwrap_or(0);
        Outcome {
            meta: Meta {
                duration_s: total.length_s,
                unconfirmed_emits: collector.unconfirmed,
                confirmed_emits: collector.confirmed,
                ..self.meta.clone()
            },
            validity: validity::judge(
                total,
                counted("vusers.created") + counted("vusers.skipped"),
                self.busy,
            ),
            seconds: Vec::new(),
            total: total.clone(),
            errors: collector.errors(),
            server_events: collector.server_events.clone(),
            scenario_counts: collector.scenario_counts.clone(),
            delivery: self.ledger.map(|ledger| ledger.delivery().clone()),
            target: self
                .target
                .map(|target| TargetUse { samples: self.target_samples.clone().finish(), ..target.clone() }),
            stages: Vec::new(),
            monitored: Vec::new(),
            tester: self.tester.clone().finish(),
            checks: Vec::new(),
            interrupted: None,
            ended_after_s: None,
        }
    }
}
