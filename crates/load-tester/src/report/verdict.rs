//! The one word and the one sentence that every form begins with. The word follows the exit code: a run of which
//! nothing is claimed cannot fail.

use super::loaded::{Loaded, Run};
use super::{diagnose, story};
use crate::outcome::Check;

/// What came of a run, in the order of what outranks what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Interrupted,
    /// Something is claimed, and the figures may not be believed.
    Invalid,
    Failed,
    Passed,
    /// No `ensure` and no `expect`: nothing to pass or fail.
    NoClaim,
}

impl Verdict {
    pub(crate) fn of(loaded: &Loaded) -> Self {
        let Some(run) = &loaded.run else { return Self::NoClaim };
        if run.interrupted.is_some() {
            Self::Interrupted
        } else if run.checks.is_empty() {
            Self::NoClaim
        } else if !run.validity.valid {
            Self::Invalid
        } else if run.checks.iter().any(broken) {
            Self::Failed
        } else {
            Self::Passed
        }
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Interrupted => "interrupted",
            Self::Invalid => "invalid",
            Self::Failed => "failed",
            Self::Passed => "passed",
            Self::NoClaim => "nothing was checked",
        }
    }
}

/// A check that decides: it failed and it is strict.
pub(crate) fn broken(check: &Check) -> bool {
    check.strict && !check.passed
}

/// The run in a few sentences, the first of which names the outcome.
pub(crate) fn sentences(loaded: &Loaded) -> Vec<String> {
    let diagnosis = diagnose(loaded);
    std::iter::once(diagnosis.first).chain(diagnosis.evidence).collect()
}

/// Why the figures may not be believed; `None` when they may, or nobody knows.
pub(crate) fn distrust(run: &Run) -> Option<String> {
    (!run.validity.valid).then(|| story::validity(run))
}
