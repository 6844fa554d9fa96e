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

    /// How many are due before this instant, counted from the run's start.
    pub fn due_before(&self, at: Duration) -> u64 {
        let (mut low, mut high) = (0, self.len);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.due(middle) < at { low = middle + 1 } else { high = middle }
        }
        low
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn s(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    fn phase(kind: PhaseKind) -> Phase {
        Phase { name: None, kind, max_vusers: None }
    }

    fn rate(duration: f64, rate: f64) -> Phase {
        phase(PhaseKind::Rate { duration: s(duration), rate, poisson: false })
    }

    fn ramp(duration: f64, from: f64, to: f64) -> Phase {
        phase(PhaseKind::Ramp { duration: s(duration), from, to, poisson: false })
    }

    fn count(duration: f64, count: u64) -> Phase {
        phase(PhaseKind::Count { duration: s(duration), count })
    }

    fn pause(duration: f64) -> Phase {
        phase(PhaseKind::Pause { duration: s(duration) })
    }

    #[test]
    fn how_many_arrive() {
        let rows = [
            (rate(30.0, 300.0), 9000),
            (rate(5.0, 60.0), 300),
            (rate(100.0, 0.29), 29),
            (rate(10.0, 0.7), 7),
            (rate(30.0, 0.1), 3),
            (rate(1.0, 0.5), 0),
            (ramp(10.0, 1.0, 10.0), 55),
            (ramp(10.0, 10.0, 1.0), 55),
            (ramp(1.0, 0.0, 1.0), 0),
            (ramp(60.0, 0.0, 100.0), 3000),
            (ramp(10.0, 3.0, 3.0), 30),
            (count(60.0, 20), 20),
            (count(0.0, 20), 20),
            (pause(5.0), 0),
        ];
        for (phase, expected) in rows {
            assert_eq!(Plan::new(std::slice::from_ref(&phase), 0).len(), expected, "{phase:?}");
        }
    }

    #[test]
    fn when_they_arrive() {
        let rows: [(Phase, &[f64]); 3] = [
            // The first after a whole interval, the last at the end.
            (rate(1.0, 4.0), &[0.25, 0.5, 0.75, 1.0]),
            (count(6.0, 3), &[2.0, 4.0, 6.0]),
            // t^2 / 2 reaches 1, 2, 3, 4.
            (ramp(3.0, 0.0, 3.0), &[2_f64.sqrt(), 2.0, 6_f64.sqrt(), 8_f64.sqrt()]),
        ];
        for (phase, expected) in &rows {
            let plan = Plan::new(std::slice::from_ref(phase), 0);
            let due: Vec<f64> = (0..plan.len()).map(|i| plan.due(i).as_secs_f64()).collect();
            assert_eq!(due.len(), expected.len(), "{phase:?}");
            for (due, expected) in due.iter().zip(*expected) {
                assert!((due - expected).abs() < 1e-8, "{phase:?}: {due} {expected}");
            }
        }
    }

    #[test]
    fn phases_follow_each_other() {
        let plan = Plan::new(&[rate(2.0, 1.0), pause(3.0), count(1.0, 2)], 0);
        let due: Vec<_> = (0..plan.len()).map(|i| (plan.phase_of(i), plan.due(i).as_secs_f64())).collect();
        assert_eq!(due, [(0, 1.0), (0, 2.0), (2, 5.5), (2, 6.0)]);
        assert_eq!(plan.duration(), s(6.0));
        assert!(Plan::new(&[], 0).is_empty());
    }

    #[test]
    fn workers_share_one_schedule() {
        let plan = Plan::new(&[rate(10.0, 7.0), ramp(5.0, 1.0, 9.0)], 0);
        let mut all: Vec<_> = (0..3).flat_map(|worker| plan.of_worker(worker, 3)).collect();
        all.sort_unstable();
        assert_eq!(all, (0..plan.len()).map(|i| (i, plan.due(i))).collect::<Vec<_>>());
    }

    #[test]
    fn poisson_is_seeded() {
        let phases = [phase(PhaseKind::Rate { duration: s(100.0), rate: 50.0, poisson: true })];
        let due = |seed| {
            let plan = Plan::new(&phases, seed);
            (0..plan.len()).map(|i| plan.due(i)).collect::<Vec<_>>()
        };
        assert_eq!(due(1), due(1));
        assert_ne!(due(1), due(2));
        // 5000 expected, standard deviation 71.
        assert!((4600..5400).contains(&due(1).len()), "{}", due(1).len());
        let gaps: Vec<f64> = due(1).windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        // Exponential: the deviation is the mean.
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.1, "{mean} {variance}");
    }

    fn any_phase() -> impl Strategy<Value = Phase> {
        let seconds = 0.001..30.0_f64;
        prop_oneof![
            seconds.clone().prop_map(pause),
            (seconds.clone(), 0..200_u64).prop_map(|(d, n)| count(d, n)),
            (seconds.clone(), 0.01..200.0_f64).prop_map(|(d, r)| rate(d, r)),
            (seconds.clone(), 0.0..100.0_f64, 0.01..100.0_f64).prop_map(|(d, a, b)| ramp(d, a, b)),
            (seconds, 0.0..100.0_f64, 0.01..100.0_f64, any::<bool>()).prop_map(|(d, a, b, flat)| phase(
                if flat {
                    PhaseKind::Rate { duration: s(d), rate: b, poisson: true }
                } else {
                    PhaseKind::Ramp { duration: s(d), from: a, to: b, poisson: true }
                }
            )),
        ]
    }

    proptest! {
        #[test]
        fn instants_grow_and_stay_in_their_phase(phases in prop::collection::vec(any_phase(), 0..5), seed in any::<u64>()) {
            let plan = Plan::new(&phases, seed);
            let mut last = Duration::ZERO;
            for i in 0..plan.len() {
                let due = plan.due(i);
                prop_assert!(due >= last);
                let phase = &plan.phases()[plan.phase_of(i)];
                prop_assert!(due >= phase.start && due <= phase.start + phase.duration);
                last = due;
            }
            prop_assert_eq!(plan.phases().iter().map(|phase| phase.arrivals).sum::<u64>(), plan.len());
        }

        /// At each arrival the integral of the rate has just reached a whole number.
        #[test]
        fn ramps_follow_their_integral_anywhere(duration in 0.1..100.0_f64, from in 0.0..200.0_f64, to in 0.0..200.0_f64) {
            let plan = Plan::new(&[ramp(duration, from, to)], 0);
            let integral = |t: f64| from * t + (to - from) * t * t / (2.0 * duration);
            prop_assert_eq!(plan.len(), (integral(duration) * (1.0 + 1e-12) + 1e-9).floor() as u64);
            for i in (0..plan.len()).step_by(1 + plan.len() as usize / 50) {
                let reached = integral(plan.due(i).as_secs_f64());
                // Near a rate of zero a nanosecond more or less is a large part of a user.
                prop_assert!((reached - (i + 1) as f64).abs() < 1e-3, "{reached} at {i}");
            }
        }
    }

    #[test]
    fn ramps_follow_their_integral() {
        let plan = Plan::new(&[ramp(10.0, 1.0, 10.0)], 0);
        // In the first five seconds 5 + 0.9 * 25 / 2 = 16.25 of the 55.
        let early = (0..plan.len()).filter(|i| plan.due(*i) <= s(5.0)).count();
        assert_eq!((early, plan.len()), (16, 55));
        let back = Plan::new(&[ramp(10.0, 10.0, 1.0)], 0);
        let early = (0..back.len()).filter(|i| back.due(*i) <= s(5.0)).count();
        assert_eq!(early, 38);
    }
}
