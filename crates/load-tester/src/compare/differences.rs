//! Did both sides do the same? What differs in script, load and surroundings.

use super::sides::{Run, Side};
use crate::report::Origin;
use crate::report::units::{duration, thousands};

/// Something that is not the same on both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    pub what: String,
    pub a: String,
    pub b: String,
    /// Figures cannot be held against each other over it.
    pub grave: bool,
}

/// What stands for an answer no file gives.
const UNKNOWN: &str = "not in the file";

impl Difference {
    /// Do both sides say?
    pub(super) fn is_known(&self) -> bool {
        self.a != UNKNOWN && self.b != UNKNOWN
    }
}

/// Each thing by which the sides differ, or the runs of one side among themselves.
pub(super) fn between(a: &Side, b: &Side) -> Vec<Difference> {
    let mut all = Vec::new();
    for (what, grave, of) in asked() {
        let (in_a, in_b) = (values(a, of), values(b, of));
        if in_a != in_b || in_a.len() > 1 {
            let text =
                |values: Vec<String>| if values.is_empty() { UNKNOWN.to_owned() } else { values.join(" | ") };
            all.push(Difference { what: what.to_owned(), a: text(in_a), b: text(in_b), grave });
        }
    }
    all
}

/// The distinct answers of a side's runs, in order.
fn values(side: &Side, of: fn(&Run) -> Option<String>) -> Vec<String> {
    let mut values: Vec<String> = side.runs.iter().filter_map(of).collect();
    values.dedup();
    values
}

type Question = (&'static str, bool, fn(&Run) -> Option<String>);

/// What is asked of each run; grave ones first.
fn asked() -> [Question; 13] {
    [
        ("phases", true, |run| {
            let phases = run.loaded.phases.iter().map(|phase| {
                let name = if phase.name.is_empty() { String::new() } else { format!("{} ", phase.name) };
                format!("{name}{} for {}", phase.load, duration(phase.duration_s))
            });
            let phases = phases.collect::<Vec<_>>().join(", ");
            (!phases.is_empty()).then_some(phases)
        }),
        ("listeners", true, |run| Some(thousands(run.loaded.run.as_ref()?.meta.listeners as u64))),
        ("the script's content", true, |run| {
            let hash = &run.loaded.run.as_ref()?.meta.script_sha256;
            Some(hash.chars().take(12).collect())
        }),
        ("the delivery's event", true, |run| Some(run.loaded.run.as_ref()?.delivery.as_ref()?.event.clone())),
        ("what is expected", true, |run| {
            let delivery = run.loaded.run.as_ref()?.delivery.as_ref()?;
            Some(delivery.expectation.clone().unwrap_or_else(|| "nothing".to_owned()))
        }),
        ("measured by", false, |run| {
            Some(match (&run.loaded.run, run.loaded.origin) {
                (Some(ours), _) => format!("drumfire {}", ours.meta.tool_version),
                (None, Origin::ArtilleryV1) => "Artillery 1".to_owned(),
                (None, _) => "Artillery 2".to_owned(),
            })
        }),
        ("target", false, |run| Some(run.loaded.run.as_ref()?.meta.target.clone())),
        ("target process", false, |run| Some(run.loaded.run.as_ref()?.target.as_ref()?.command.clone())),
        ("script", false, |run| Some(run.loaded.run.as_ref()?.meta.script.clone())),
        ("host", false, |run| Some(run.loaded.run.as_ref()?.meta.host.clone())),
        ("worker threads", false, |run| Some(run.loaded.run.as_ref()?.meta.workers.to_string())),
        ("Engine.IO revision", false, |run| Some(run.loaded.run.as_ref()?.meta.engine_revision?.to_string())),
        ("seed", false, |run| Some(run.loaded.run.as_ref()?.meta.seed.to_string())),
    ]
}
