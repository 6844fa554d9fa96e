//! What stands on the terminal while a run goes on and after it, in one of three forms.

use std::fmt::Write as _;
use std::path::Path;

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use super::diagnosis::{Kind, diagnose};
use super::loaded::{Loaded, Slice};
use super::{console_v1, console_v2, plain, story};
use crate::outcome::{CheckKind, Outcome, PhaseInfo, Window};

/// `--format`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// Our own lines.
    #[default]
    Plain,
    /// Artillery 1's block.
    V1,
    /// Artillery 2's.
    V2,
}

/// Writes pieces of text for one run; each ends with a line break.
#[derive(Debug, Clone)]
pub struct Console {
    format: Format,
    zone: TimeZone,
    started_at_ms: u64,
}

impl Console {
    /// Clock times are shown in the machine's time zone.
    pub fn new(format: Format, started_at_ms: u64) -> Self {
        Self::in_zone(format, started_at_ms, TimeZone::system())
    }

    pub fn in_zone(format: Format, started_at_ms: u64, zone: TimeZone) -> Self {
        Self { format, zone, started_at_ms }
    }

    pub fn phase_started(&self, index: usize, phase: &PhaseInfo) -> String {
        let at = self.at(phase.start_s);
        match self.format {
            Format::Plain => plain::phase_started(index, phase),
            Format::V1 => console_v1::phase_started(index, &phase.name, phase.duration_s, &at),
            Format::V2 => console_v2::phase("started", index, &phase.name, phase.duration_s, &at),
        }
    }

    /// Empty where the form has no such line.
    pub fn phase_completed(&self, index: usize, phase: &PhaseInfo) -> String {
        let at = self.at(phase.start_s + phase.duration_s);
        match self.format {
            Format::Plain | Format::V1 => String::new(),
            Format::V2 => console_v2::phase("completed", index, &phase.name, phase.duration_s, &at),
        }
    }

    /// A reporting window that has just closed.
    pub fn window(&self, window: &Window) -> String {
        let slice = Slice::of_window(window);
        let at = self.at(slice.start_s + slice.length_s);
        match self.format {
            Format::Plain => plain::window(&slice),
            Format::V1 => console_v1::window(&slice, &at),
            Format::V2 => console_v2::window(&slice, &at),
        }
    }

    /// The end of a run: the block, the log file's name, and what the reader must know before believing it.
    pub fn summary(&self, outcome: &Outcome, log_file: Option<&Path>) -> String {
        self.summary_of(&Loaded::of(outcome), log_file)
    }

    /// The same of a result file.
    pub fn summary_of(&self, loaded: &Loaded, log_file: Option<&Path>) -> String {
        let at = self.at(loaded.duration_s);
        let mut text = match self.format {
            Format::Plain => plain::summary(loaded),
            Format::V1 => console_v1::summary(loaded, &at),
            Format::V2 => console_v2::summary(loaded, &at),
        };
        if let Some(path) = log_file {
            match self.format {
                Format::Plain => {
                    let _ = writeln!(text, "\nresult      {}", path.display());
                }
                Format::V1 => {
                    let _ = writeln!(text, "\nLog file: {}", path.display());
                }
                Format::V2 => {
                    let _ = writeln!(text, "Log file: {}", path.display());
                }
            }
        }
        self.notes(&mut text, loaded);
        text
    }

    fn notes(&self, text: &mut String, loaded: &Loaded) {
        if let Some(note) = story::foreign_note(loaded) {
            let _ = writeln!(text, "\n{note}");
        }
        let Some(run) = &loaded.run else { return };
        let found = diagnose(loaded);
        // The plain form has them in its body.
        if self.format != Format::Plain {
            let _ = writeln!(text, "\n{}", found.first);
            let checks = |kind| run.checks.iter().filter(move |c| c.kind == kind);
            for (kind, head) in [(CheckKind::Ensure, "Checks:"), (CheckKind::Expect, "Expectations:")] {
                if checks(kind).next().is_some() {
                    let _ = writeln!(text, "\n{head}");
                }
                for check in checks(kind) {
                    let verdict = if check.passed { "ok" } else { "fail" };
                    let optional = if check.strict { "" } else { " (not strict)" };
                    let _ = writeln!(
                        text,
                        "{verdict}: {}{optional}, observed {}",
                        check.expression, check.observed
                    );
                }
            }
            if let Some(delivery) = story::delivery(run) {
                let _ = writeln!(text, "\nDelivery: {delivery}");
            }
        }
        // Where nothing worse was found it is the first sentence already.
        if let Some(banner) = story::unconfirmed(loaded).filter(|_| found.kind != Kind::NothingConfirmed) {
            let _ = writeln!(text, "\n{banner}");
        }
        let _ = writeln!(text, "\n{}", story::validity(run));
    }

    fn at(&self, offset_s: f64) -> Zoned {
        let millisecond = self.started_at_ms as f64 + offset_s.max(0.0) * 1000.0;
        Timestamp::from_millisecond(millisecond as i64)
            .unwrap_or(Timestamp::UNIX_EPOCH)
            .to_zoned(self.zone.clone())
    }
}
