//! A whole run: threads, listeners, the pacer, the one reader of what the threads measured.

use std::path::PathBuf;

use crate::outcome::{Outcome, PhaseInfo, Window};
use crate::script::model::Script;

/// What a run needs beside its script.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// Worker threads; `None`: one per core.
    pub workers: Option<usize>,
    /// Name of the run in results and marks; `None`: random.
    pub run_id: Option<String>,
    /// As typed, for the result's metadata.
    pub command_line: String,
    /// Every emit that waits for nothing asks for an acknowledgement.
    pub ack: bool,
    /// Only scenarios of this name, or matching it as a regular expression.
    pub scenario_name: Option<String>,
    /// Writes who heard what as CSV: `FILE` holds a row for each (listener, message) pair heard, and beside it
    /// `FILE.listeners.csv` and `FILE.messages.csv` say who stood where and what was said where.
    pub pairs_out: Option<PathBuf>,
    /// First Ctrl-C or SIGTERM ends the run with its results, the second the process. Off in tests.
    pub handle_signals: bool,
}

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
    },
    /// Each reporting window (`config.stats_interval`, 10 s).
    Window(&'a Window),
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
}
