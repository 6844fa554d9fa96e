//! What the screen knows of a run: the last ten minutes second by second, and the whole so far.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use crate::ensure;
use crate::metric::Totals;
use crate::outcome::{
    Check, Delivery, ErrorGroup, PhaseInfo, ProcessSample, Validity, Window, counters, names,
};
use crate::progress::Now;
use crate::report::Slice;
use crate::report::plain::one_line;
use crate::report::units::instant;
use crate::run::Progress;
use crate::script::model::{Ensure, Script};

/// Seconds kept; no terminal is wider.
const POINTS: usize = 600;
/// Lines of the log kept.
const LINES: usize = 1000;

/// What is being done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stage {
    Preparing,
    Connecting { ready: usize, of: usize },
    Running { phase: usize },
    Draining,
    AwaitingDeliveries,
}

/// A distribution of one second: median and 99th percentile, in microseconds.
pub(super) type Times = Option<(u64, u64)>;

/// One second.
#[derive(Debug, Clone, Default)]
pub(super) struct Point {
    /// Start of the second.
    start_s: f64,
    pub(super) due: u64,
    pub(super) started: u64,
    pub(super) skipped: u64,
    pub(super) requests: u64,
    pub(super) errors: u64,
    pub(super) users: u64,
    pub(super) connections: u64,
    pub(super) expected: Option<u64>,
    pub(super) missing: Option<u64>,
    pub(super) heard: u64,
    pub(super) from_due: Times,
    pub(super) service: Times,
    pub(super) lateness: Times,
    pub(super) ack: Times,
    pub(super) delivery: Times,
    pub(super) first: Times,
    pub(super) median: Times,
    pub(super) last: Times,
    /// Of the busiest thread, thousandths of a core.
    pub(super) tester: Option<u64>,
    pub(super) target: Option<u64>,
}

#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) pid: u32,
    pub(super) command: String,
    pub(super) sample: ProcessSample,
}

/// Everything a frame is drawn from.
#[derive(Debug, Clone)]
pub struct Picture {
    version: u64,
    pub(super) script: String,
    pub(super) target_url: String,
    ensure: Option<Ensure>,
    pub(super) stage: Stage,
    pub(super) interrupted: Option<&'static str>,
    pub(super) phases: Vec<PhaseInfo>,
    /// When the first phase began.
    zero: Option<Instant>,
    pub(super) points: VecDeque<Point>,
    pub(super) total: Slice,
    pub(super) due: u64,
    pub(super) delivery: Option<Delivery>,
    pub(super) delivers: bool,
    pub(super) errors: Vec<ErrorGroup>,
    pub(super) server_events: BTreeMap<String, u64>,
    pub(super) validity: Option<Validity>,
    /// `ensure`, judged by what is known so far.
    pub(super) checks: Vec<Check>,
    pub(super) tester: Option<ProcessSample>,
    pub(super) target: Option<Target>,
    pub(super) log: VecDeque<String>,
    said: VecDeque<String>,
    unsaid: usize,
}

/// Median and 99th percentile, in microseconds.
fn times(slice: &Slice, name: &str) -> Times {
    slice.summary(name).map(|s| (micros(s.median), micros(s.p99)))
}

fn micros(ms: f64) -> u64 {
    (ms * 1000.0).round().max(0.0) as u64
}

impl Picture {
    pub fn new(script: &Script) -> Self {
        let name = script
            .path
            .file_name()
            .map_or_else(|| script.path.display().to_string(), |name| name.to_string_lossy().into_owned());
        let config = &script.config;
        Self::of(&name, &config.target, config.ensure.clone(), config.delivery.is_some())
    }

    /// `delivers`: the script has `config.delivery`.
    pub fn of(script: &str, target: &str, ensure: Option<Ensure>, delivers: bool) -> Self {
        Self {
            version: 0,
            script: one_line(script.rsplit('/').next().unwrap_or(script), 200),
            target_url: one_line(target, 200),
            ensure,
            stage: Stage::Preparing,
            interrupted: None,
            phases: Vec::new(),
            zero: None,
            points: VecDeque::new(),
            total: Slice::default(),
            due: 0,
            delivery: None,
            delivers,
            errors: Vec::new(),
            server_events: BTreeMap::new(),
            validity: None,
            checks: Vec::new(),
            tester: None,
            target: None,
            log: VecDeque::new(),
            said: VecDeque::new(),
            unsaid: 0,
        }
    }

    /// Takes in what a run tells.
    pub fn tell(&mut self, progress: &Progress<'_>) {
        self.version += 1;
        match progress {
            Progress::Notice(text) => {
                self.say(format!("note: {text}"));
                self.line(&format!("note: {text}"));
            }
            Progress::Log(text) => {
                self.say((*text).to_owned());
                self.line(text);
            }
            Progress::ListenersConnecting { ready, of } => {
                self.stage = Stage::Connecting { ready: *ready, of: *of };
            }
            Progress::ListenersReady(count) => self.line(&format!("{count} listeners stand")),
            Progress::PhaseStarted { index, phase } => {
                if self.zero.is_none() {
                    let since = std::time::Duration::try_from_secs_f64(phase.start_s).unwrap_or_default();
                    self.zero = Instant::now().checked_sub(since);
                }
                self.stage = Stage::Running { phase: *index };
                if self.phases.len() <= *index {
                    self.phases.push((*phase).clone());
                }
                let name =
                    if phase.name.is_empty() { String::new() } else { format!(" “{}”", phase.name) };
                self.line(&format!("phase {}{name} begins: {}", index + 1, phase.load));
            }
            Progress::Second { second, total, now } => self.second(second, total, now),
            Progress::Draining { users } => {
                self.stage = Stage::Draining;
                self.line(&format!("all phases over, {} still at work", crate::progress::users(*users)));
            }
            Progress::AwaitingDeliveries => {
                self.stage = Stage::AwaitingDeliveries;
                self.line("waiting for the last deliveries");
            }
            Progress::Interrupted(signal) => {
                self.interrupted = Some(signal);
                self.line(&format!("{signal}: no more arrivals; results follow"));
            }
            Progress::SoFar(so_far) if self.delivers => {
                if let Some(second) = so_far.settled {
                    self.settle(second);
                }
            }
            Progress::DurationOver { users, grace } => {
                self.stage = Stage::Draining;
                self.line(&format!(
                    "the longest duration is over: no more arrivals, {:.0} s for {} to end",
                    grace.as_secs_f64(),
                    crate::progress::users(*users)
                ));
            }
            Progress::SoFar(_) | Progress::PhaseCompleted { .. } | Progress::Window { .. } => {}
        }
    }

    fn second(&mut self, second: &Window, total: &Window, now: &Now<'_>) {
        let slice = Slice::of_window(second);
        let times = |name: &str| times(&slice, name);
        let busiest = |sample: &ProcessSample| {
            (sample.threads.iter().map(|(_, cpu)| *cpu).fold(0.0, f64::max) * 1000.0).round() as u64
        };
        let target = now.target.and_then(|target| Some((target, target.samples.last()?)));
        if self.points.len() == POINTS {
            self.points.pop_front();
        }
        self.points.push_back(Point {
            start_s: second.start_s,
            due: now.due.saturating_sub(self.due),
            started: slice.launched(),
            skipped: slice.skipped(),
            requests: slice.requests_started,
            errors: slice.error_count(),
            users: second.concurrent_users,
            connections: second.connections,
            expected: slice.counters.get(counters::EXPECTED).copied(),
            missing: slice.counters.get(counters::MISSING).copied(),
            heard: slice.summary(names::DELIVERY).and_then(|s| s.count).unwrap_or(0),
            from_due: times(names::RESPONSE_FROM_DUE),
            service: slice.answered.map(|s| (micros(s.median), micros(s.p99))),
            lateness: times(names::START_LATENESS),
            ack: times(names::DELIVERY_ACK),
            delivery: times(names::DELIVERY),
            first: times(names::DELIVERY_FIRST),
            median: times(names::DELIVERY_MEDIAN),
            last: times(names::DELIVERY_LAST),
            tester: now.tester.map(busiest),
            target: target.map(|(_, sample)| busiest(sample)),
        });
        self.total = Slice::of_window(total);
        self.due = now.due;
        self.phases = now.phases.to_vec();
        self.delivery = now.delivery.cloned();
        self.errors.clone_from(&now.errors);
        self.server_events.clone_from(now.server_events);
        self.validity = Some(now.validity.clone());
        if let Some(limits) = &self.ensure {
            let target = now.target.map_or(&[][..], |target| &target.samples);
            let tester = now.tester.map_or(&[][..], std::slice::from_ref);
            self.checks = ensure::judge(
                limits,
                Totals { total, users_before: 0, delivery: now.delivery, target, tester },
            );
        }
        self.tester = now.tester.cloned();
        self.target = target.map(|(target, sample)| Target {
            pid: target.pid,
            command: target.command.clone(),
            sample: sample.clone(),
        });
    }

    /// A second again, in which nothing will change any more: what became of the messages sent in it is known by now.
    pub fn settle(&mut self, second: &Window) {
        let Some(point) = self.points.iter_mut().rev().find(|point| point.start_s <= second.start_s + 0.01)
        else {
            return;
        };
        if second.length_s > 1.5 || (point.start_s - second.start_s).abs() > 0.01 {
            return;
        }
        self.version += 1;
        let slice = Slice::of_window(second);
        point.expected = slice.counters.get(counters::EXPECTED).copied();
        point.missing = slice.counters.get(counters::MISSING).copied();
        point.first = times(&slice, names::DELIVERY_FIRST);
        point.median = times(&slice, names::DELIVERY_MEDIAN);
        point.last = times(&slice, names::DELIVERY_LAST);
    }

    pub(super) fn note(&mut self, text: &str) {
        self.version += 1;
        self.say(text.to_owned());
        self.line(text);
    }

    fn line(&mut self, text: &str) {
        if self.log.len() == LINES {
            self.log.pop_front();
        }
        let at = self.zero.map_or_else(|| "before".to_owned(), |zero| instant(zero.elapsed().as_secs_f64()));
        self.log.push_back(format!("{at:>7}  {}", one_line(text, 500)));
    }

    fn say(&mut self, text: String) {
        if self.said.len() == LINES {
            self.said.pop_front();
            self.unsaid += 1;
        }
        self.said.push_back(text);
    }

    pub(super) fn said(&mut self) -> Vec<String> {
        let mut said: Vec<String> = std::mem::take(&mut self.said).into();
        if self.unsaid > 0 {
            said.insert(0, format!("({} lines before these were shown on the screen only)", self.unsaid));
        }
        said
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn interrupted(&self) -> bool {
        self.interrupted.is_some()
    }

    /// Seconds since the first phase began; zero before.
    pub(super) fn elapsed_s(&self, at: Instant) -> f64 {
        self.zero.map_or(0.0, |zero| at.saturating_duration_since(zero).as_secs_f64())
    }

    /// When the last phase ends, as far as is known.
    pub(super) fn planned_s(&self) -> f64 {
        self.phases.iter().map(|phase| phase.start_s + phase.duration_s).fold(0.0, f64::max)
    }
}
