//! The outcome of a run that was interrupted before its first phase: no seconds, but what was asked for, who ended it,
//! and what had failed by then.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::metrics::{Collector, Names};
use crate::outcome::{Meta, Outcome, PhaseInfo};
use crate::plan::expected_arrivals;
use crate::script::model::Script;
use crate::validity;

/// `collector`: with the errors of listeners and of `before`, when it had come to that.
pub(crate) fn outcome(
    script: &Script,
    run_id: String,
    command_line: String,
    workers: usize,
    signal: &'static str,
    collector: Option<Collector>,
) -> Outcome {
    let mut collector = collector.unwrap_or_else(|| Collector::new(Names::default(), workers));
    let mut total = collector.total(0.0);
    total.length_s = 0.0;
    let (_, errors) = collector.finish(0.0);
    let mut start = Duration::ZERO;
    let phases = script.config.phases.iter().map(|phase| {
        let info = PhaseInfo::of(phase, start, expected_arrivals(phase));
        start += phase.duration();
        info
    });
    Outcome {
        meta: Meta {
            run_id,
            tool_version: env!("CARGO_PKG_VERSION").into(),
            script: script.path.display().to_string(),
            script_sha256: script.sha256.clone(),
            target: script.config.target.clone(),
            command_line,
            seed: script.config.seed,
            host: crate::run::host(),
            workers,
            engine_revision: None,
            started_at_ms: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_millis() as u64),
            duration_s: 0.0,
            phases: phases.collect(),
            listeners: script.config.listeners.iter().map(|group| group.count).sum(),
            unconfirmed_emits: 0,
            confirmed_emits: 0,
        },
        validity: validity::judge(&total, 0, &validity::Busy::default()),
        seconds: Vec::new(),
        total,
        errors,
        server_events: BTreeMap::new(),
        scenario_counts: BTreeMap::new(),
        delivery: None,
        target: None,
        stages: Vec::new(),
        monitored: Vec::new(),
        tester: Vec::new(),
        checks: Vec::new(),
        ended_after_s: None,
        interrupted: Some(signal),
    }
}
