//! Phases -> the instant each virtual user is due. Pure: the same phases and seed give the same instants, and any
//! instant is known without walking the ones before it.

use std::time::Duration;

use crate::script::model::{Phase, PhaseKind};

/// All arrivals of a run, numbered from 0 in the order they are due.
#[derive(Debug, Clone)]
pub struct Plan {
    phases: Vec<PlannedPhase>,
    len: u64,
    duration: Duration,
}

/// One phase with its place in the run.
#[derive(Debug, Clone)]
pub struct PlannedPhase {
    pub phase: Phase,
    /// From the run's start.
    pub start: Duration,
    pub duration: Duration,
    /// Number of its first arrival.
    pub first: u64,
    /// How many arrive in it.
    pub arrivals: u64,
    /// Poisson: each arrival's offset from the phase's start.
    drawn: Option<Vec<Duration>>,
}

/// More arrivals than this are refused when a script is checked.
pub const MAX_ARRIVALS: u64 = 1_000_000_000;
/// Poisson instants are kept in memory, so there may be fewer of them.
pub const MAX_POISSON_ARRIVALS: u64 = 20_000_000;

impl Plan {
    /// Lays the phases one after another. `seed` decides Poisson gaps and nothing else.
    pub fn new(phases: &[Phase], seed: u64) -> Self {
        let mut planned = Vec::with_capacity(phases.len());
        let (mut start, mut first) = (Duration::ZERO, 0);
        for (index, phase) in phases.iter().enumerate() {
            let duration = phase.duration();
            let drawn = phase.is_poisson().then(|| draw(phase, seed.wrapping_add(index as u64)));
            let arrivals =
                drawn.as_ref().map_or_else(|| expected_arrivals(phase), |drawn| drawn.len() as u64);
            planned.push(PlannedPhase { phase: phase.clone(), start, duration, first, arrivals, drawn });
            start += duration;
            first += arrivals;
        }
        Self { phases: planned, len: first, duration: start }
    }

    /// How many users arrive in all.
    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The sum of all phases; users may live on after it.
    pub fn duration(&self) -> Duration {
        self.duration
    }

    pub fn phases(&self) -> &[PlannedPhase] {
        &self.phases
    }

    /// When arrival `i` is due, from the run's start. Grows with `i`.
    ///
    /// # Panics
    /// When `i` is not below [`Plan::len`].
    pub fn due(&self, i: u64) -> Duration {
        let phase = &self.phases[self.phase_of(i)];
        phase.start + phase.offset(i - phase.first)
    }

    /// The index of the phase in which arrival `i` is due.
    ///
    /// # Panics
    /// When `i` is not below [`Plan::len`].
    pub fn phase_of(&self, i: u64) -> usize {
        assert!(i < self.len, "arrival {i} of {}", self.len);
        self.phases.partition_point(|phase| phase.first + phase.arrivals <= i)
    }

    /// The arrivals of worker `worker` of `workers`, each with its number: every `workers`-th instant.
    pub fn of_worker(&self, worker: u64, workers: u64) -> impl Iterator<Item = (u64, Duration)> + '_ {
        (worker..self.len).step_by(workers.max(1) as usize).map(|i| (i, self.due(i)))
    }
}

impl PlannedPhase {
    /// Offset of the phase's arrival `n` from its start.
    fn offset(&self, n: u64) -> Duration {
        if let Some(drawn) = &self.drawn {
            return drawn[n as usize];
        }
        // The first arrives when the integral of the rate reaches one, as in Artillery.
        let seconds = match self.phase.kind {
            PhaseKind::Pause { .. } => 0.0,
            PhaseKind::Count { duration, count } => duration.as_secs_f64() * (n + 1) as f64 / count as f64,
            PhaseKind::Rate { .. } | PhaseKind::Ramp { .. } => self.phase.reaches((n + 1) as f64),
        };
        Duration::from_secs_f64(seconds.max(0.0)).min(self.duration)
    }

    /// The load in words: `300/s`, `10 -> 100/s`, `20 users`, `pause`.
    pub fn load(&self) -> String {
        self.phase.load()
    }
}

impl Phase {
    pub fn duration(&self) -> Duration {
        match self.kind {
            PhaseKind::Pause { duration }
            | PhaseKind::Count { duration, .. }
            | PhaseKind::Rate { duration, .. }
            | PhaseKind::Ramp { duration, .. } => duration,
        }
    }

    fn is_poisson(&self) -> bool {
        matches!(self.kind, PhaseKind::Rate { poisson: true, .. } | PhaseKind::Ramp { poisson: true, .. })
    }

    /// The load in words: `300/s`, `10 -> 100/s`, `20 users`, `pause`.
    pub fn load(&self) -> String {
        match self.kind {
            PhaseKind::Pause { .. } => "pause".into(),
            PhaseKind::Count { count: 1, .. } => "1 user".into(),
            PhaseKind::Count { count, .. } => format!("{count} users"),
            PhaseKind::Rate { rate, poisson, .. } => format!("{rate}/s{}", suffix(poisson)),
            PhaseKind::Ramp { from, to, poisson, .. } => format!("{from} -> {to}/s{}", suffix(poisson)),
        }
    }

    /// Seconds after which the integral of the rate reaches `users`.
    fn reaches(&self, users: f64) -> f64 {
        match self.kind {
            PhaseKind::Rate { rate, .. } => users / rate,
            PhaseKind::Ramp { duration, from, to, .. } => {
                // from*t + slope*t^2/2 = users, in the form that stays exact for a slope near zero.
                let slope = (to - from) / duration.as_secs_f64();
                2.0 * users / (from + (from * from + 2.0 * slope * users).max(0.0).sqrt())
            }
            PhaseKind::Pause { .. } | PhaseKind::Count { .. } => 0.0,
        }
    }
}

/// How many users a phase launches; for Poisson, on average.
pub fn expected_arrivals(phase: &Phase) -> u64 {
    match phase.kind {
        PhaseKind::Pause { .. } => 0,
        PhaseKind::Count { count, .. } => count,
        PhaseKind::Rate { duration, rate, .. } => whole(duration.as_secs_f64() * rate),
        PhaseKind::Ramp { duration, from, to, .. } => whole(duration.as_secs_f64() * (from + to) / 2.0),
    }
}

/// Rounds down, forgiving what binary fractions lose (`0.29 * 100`).
fn whole(users: f64) -> u64 {
    (users * (1.0 + 1e-12) + 1e-9).floor() as u64
}

/// Exponential gaps of mean one, laid along the integral of the rate.
fn draw(phase: &Phase, seed: u64) -> Vec<Duration> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let duration = phase.duration();
    let total = match phase.kind {
        PhaseKind::Rate { duration, rate, .. } => duration.as_secs_f64() * rate,
        PhaseKind::Ramp { duration, from, to, .. } => duration.as_secs_f64() * (from + to) / 2.0,
        PhaseKind::Pause { .. } | PhaseKind::Count { .. } => 0.0,
    };
    let mut instants = Vec::new();
    let mut users = 0.0;
    loop {
        users += -(1.0 - rng.f64()).ln();
        if users >= total || instants.len() as u64 >= MAX_POISSON_ARRIVALS * 2 {
            return instants;
        }
        instants.push(Duration::from_secs_f64(phase.reaches(users)).min(duration));
    }
}

fn suffix(poisson: bool) -> &'static str {
    if poisson { " (poisson)" } else { "" }
}
