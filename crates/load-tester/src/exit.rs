//! Which exit code a run ends with. Pure, so that the precedence is one table.

use crate::outcome::{CheckKind, Outcome};

/// Everything the exit code depends on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Findings {
    pub interrupted: Option<Signal>,
    /// The script could not be run as written.
    pub script_error: bool,
    /// The run's figures may not be believed, or not be held against another's.
    pub invalid: bool,
    /// Something is claimed of the figures (`ensure`, `expect`, `compare`, `limit`), or validity itself is asked for
    /// (`--require-valid`). Without a claim an invalid run is only said to be one.
    pub claim: bool,
    pub expect_failed: bool,
    /// A strict `ensure` limit does not hold, `compare` found worse than is allowed, or `limit` found nothing that holds.
    pub ensure_failed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    Interrupt,
    Terminate,
    Hangup,
}

impl Signal {
    /// From the name an [`Outcome`] carries.
    pub fn named(name: &str) -> Self {
        let name = name.to_ascii_uppercase();
        if name.contains("TERM") {
            Self::Terminate
        } else if name.contains("HUP") {
            Self::Hangup
        } else {
            Self::Interrupt
        }
    }
}

/// The code, highest precedence first: 129/130/143 signal, 1 script error, 3 invalid run under a claim, 21 `expect`
/// failed, 1 `ensure` failed, 0.
///
/// Each command fills the same table:
///
/// | code | `run` | `compare` | `limit` |
/// | --- | --- | --- | --- |
/// | 129, 130, 143 | ended by a signal | | ended by a signal, what is known is told |
/// | 1 | no such script, not runnable | no such result | no such script; a figure it does not measure |
/// | 3 | invalid, and something is claimed | an invalid or unfinished run, or runs that cannot be compared | the tester was the limit |
/// | 21 | `expect` failed | | |
/// | 1 | `ensure` failed | worse than allowed | nothing held |
/// | 0 | else | no worse than allowed | found |
pub fn code(findings: &Findings) -> u8 {
    match findings {
        Findings { interrupted: Some(Signal::Interrupt), .. } => 130,
        Findings { interrupted: Some(Signal::Terminate), .. } => 143,
        Findings { interrupted: Some(Signal::Hangup), .. } => 129,
        Findings { script_error: true, .. } => 1,
        Findings { invalid: true, claim: true, .. } => 3,
        Findings { expect_failed: true, .. } => 21,
        Findings { ensure_failed: true, .. } => 1,
        _ => 0,
    }
}

/// The code of a `debug`: a user that failed is what it was asked about.
pub fn code_of_debug(debugged: &crate::run::Debugged) -> u8 {
    code(&Findings {
        script_error: debugged.failed > 0,
        expect_failed: debugged.expectations_failed > 0,
        ..Findings::default()
    })
}

/// The code of a run that took place.
pub fn code_of(outcome: &Outcome, require_valid: bool) -> u8 {
    let failed = |kind| outcome.checks.iter().any(|c| c.kind == kind && c.strict && !c.passed);
    code(&Findings {
        interrupted: outcome.interrupted.map(Signal::named),
        script_error: false,
        invalid: !outcome.validity.valid,
        claim: require_valid || !outcome.checks.is_empty(),
        expect_failed: failed(CheckKind::Expect),
        ensure_failed: failed(CheckKind::Ensure),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn precedence() {
        // signal, script error, invalid, claim, expect failed, ensure failed -> code
        let int = Some(Signal::Interrupt);
        let term = Some(Signal::Terminate);
        let rows = [
            (None, false, false, false, false, false, 0),
            (None, false, false, true, false, false, 0),
            (None, false, true, false, false, false, 0),
            (None, false, true, true, false, false, 3),
            (None, false, false, true, true, false, 21),
            (None, false, false, true, false, true, 1),
            (None, false, false, true, true, true, 21),
            (None, false, true, true, true, true, 3),
            (None, true, false, false, false, false, 1),
            (None, true, true, true, true, true, 1),
            (int, false, false, false, false, false, 130),
            (term, false, false, false, false, false, 143),
            (int, true, true, true, true, true, 130),
            (term, false, true, true, true, true, 143),
            (Some(Signal::Hangup), false, true, true, true, true, 129),
        ];
        for (interrupted, script_error, invalid, claim, expect_failed, ensure_failed, expected) in rows {
            let findings =
                Findings { interrupted, script_error, invalid, claim, expect_failed, ensure_failed };
            assert_eq!(code(&findings), expected, "{findings:?}");
        }
    }

    #[test]
    fn signals_are_known_by_their_names() {
        for (name, signal) in [
            ("SIGINT", Signal::Interrupt),
            ("Ctrl-C", Signal::Interrupt),
            ("SIGTERM", Signal::Terminate),
            ("SIGHUP", Signal::Hangup),
        ] {
            assert_eq!(Signal::named(name), signal, "{name}");
        }
    }
}
