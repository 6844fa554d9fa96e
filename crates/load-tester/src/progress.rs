//! What a run tells while it goes on: to the terminal, the screen, and whoever else looks on.

use std::time::Duration;

use std::collections::BTreeMap;

use crate::outcome::{Delivery, ErrorGroup, PhaseInfo, ProcessSample, TargetUse, Validity, Window};
use crate::run::SoFar;

/// Errors told of each second; the rest is in the result.
pub(crate) const ERRORS: usize = 50;

/// What is told while the run goes on; called on the thread that called [`run`].
#[derive(Debug)]
#[non_exhaustive]
pub enum Progress<'a> {
    /// Something the reader should know.
    Notice(&'a str),
    /// Listeners that stand, of how many. Told about ten times.
    ListenersConnecting {
        ready: usize,
        of: usize,
    },
    /// All listeners stand; the first phase begins.
    ListenersReady(usize),
    PhaseStarted {
        index: usize,
        phase: &'a PhaseInfo,
    },
    PhaseCompleted {
        index: usize,
        phase: &'a PhaseInfo,
    },
    /// Each second: that second, and everything so far.
    Second {
        second: &'a Window,
        total: &'a Window,
        now: &'a Now<'a>,
    },
    /// After each `Second`: all there is.
    SoFar(&'a SoFar<'a>),
    /// Each reporting window (`config.stats_interval`, 10 s), and the account of the messages whose deadline is over.
    Window {
        window: &'a Window,
        delivery: Option<&'a Delivery>,
    },
    /// The text of a `log` step.
    Log(&'a str),
    /// All phases are over; users that are still at work.
    Draining {
        users: u64,
    },
    /// The last user is done; deliveries are still waited for.
    AwaitingDeliveries,
    /// A signal ended the arrivals.
    Interrupted(&'static str),
    /// `--max-duration` ended the arrivals; users that are still at work have the grace to end.
    DurationOver {
        users: u64,
        grace: Duration,
    },
}

/// `1 user`, `60 users`: told in the same words on lines and on the screen.
pub fn users(n: u64) -> String {
    crate::report::units::count(n, "user", "users")
}

/// The run so far, beside its last second.
#[derive(Debug, Clone)]
pub struct Now<'a> {
    pub phases: &'a [PhaseInfo],
    /// Arrivals that were due by the end of this second.
    pub due: u64,
    /// The messages whose deadline is over, with `config.delivery`.
    pub delivery: Option<&'a Delivery>,
    /// The most frequent, most frequent first; at most fifty.
    pub errors: Vec<ErrorGroup>,
    pub server_events: &'a BTreeMap<String, u64>,
    /// The newest sample of the tester itself.
    pub tester: Option<&'a ProcessSample>,
    /// With all samples so far, when the target is on this machine.
    pub target: Option<&'a TargetUse>,
    /// Judged by what is known: arrivals due by now, not those of the whole plan.
    pub validity: Validity,
}
