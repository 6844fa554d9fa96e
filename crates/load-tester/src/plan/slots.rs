//! Closed phases: which places are kept taken, and from when to when.
//!
//! A closed phase of N users is N slots. A slot's first user is due when the slot opens; each later one when the user
//! before it ends, as long as the slot is open. So slots are known before the run, and arrivals are not.

use std::time::Duration;

use super::PlannedPhase;
use crate::script::model::PhaseKind;

/// A stretch of time in which one slot is kept taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotWindow {
    /// From 0; the same slot in every phase of the run.
    pub slot: u64,
    /// From the run's start.
    pub opens: Duration,
    /// Whoever ends from here on is not replaced; nobody is cut off.
    pub closes: Duration,
}

/// Of all closed phases, in the order in which they open. A slot that stays wanted from one phase to the next has one
/// window for both, so that its user lives on.
pub(super) fn windows(phases: &[PlannedPhase]) -> Vec<SlotWindow> {
    let mut windows: Vec<SlotWindow> = Vec::new();
    // By slot: its last window.
    let mut last: Vec<Option<usize>> = vec![None; usize::try_from(most(phases)).unwrap_or(0)];
    for phase in phases {
        let PhaseKind::Closed { from, to, duration } = phase.phase.kind else { continue };
        for slot in 0..from.max(to) {
            let (opens, closes) = of_phase(slot, from, to, duration.as_secs_f64());
            let at = |seconds: f64| phase.start + Duration::from_secs_f64(seconds).min(duration);
            let window = SlotWindow { slot, opens: at(opens), closes: at(closes) };
            match last[slot as usize] {
                Some(before) if windows[before].closes == window.opens => {
                    windows[before].closes = window.closes;
                }
                _ => {
                    last[slot as usize] = Some(windows.len());
                    windows.push(window);
                }
            }
        }
    }
    windows.sort_by_key(|window| (window.opens, window.slot));
    windows
}

/// The most slots wanted at once.
pub(super) fn most(phases: &[PlannedPhase]) -> u64 {
    let of_phase = |phase: &PlannedPhase| match phase.phase.kind {
        PhaseKind::Closed { from, to, .. } => from.max(to),
        _ => 0,
    };
    phases.iter().map(of_phase).max().unwrap_or(0)
}

/// When a slot opens and closes, in seconds of its phase. On a ramp where the line from `from` to `to`, rounded to whole
/// users, passes it.
fn of_phase(slot: u64, from: u64, to: u64, duration: f64) -> (f64, f64) {
    let crossed = || {
        let share = (slot as f64 + 0.5 - from as f64) / (to as f64 - from as f64);
        share * duration
    };
    match (slot < from, slot < to) {
        (true, true) => (0.0, duration),
        (false, true) => (crossed(), duration),
        (true, false) => (0.0, crossed()),
        (false, false) => (0.0, 0.0),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::plan::Plan;
    use crate::script::model::Phase;

    fn s(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    fn closed(duration: f64, from: u64, to: u64) -> Phase {
        let kind = PhaseKind::Closed { duration: s(duration), from, to };
        Phase { name: None, kind, max_vusers: None }
    }

    fn pause(duration: f64) -> Phase {
        Phase { name: None, kind: PhaseKind::Pause { duration: s(duration) }, max_vusers: None }
    }

    fn rate(duration: f64, rate: f64) -> Phase {
        let kind = PhaseKind::Rate { duration: s(duration), rate, poisson: false };
        Phase { name: None, kind, max_vusers: None }
    }

    fn told(phases: &[Phase]) -> Vec<(u64, f64, f64)> {
        let plan = Plan::new(phases, 0);
        plan.slots().iter().map(|w| (w.slot, w.opens.as_secs_f64(), w.closes.as_secs_f64())).collect()
    }

    #[test]
    fn a_phase_keeps_its_slots_taken_from_end_to_end() {
        assert_eq!(told(&[closed(5.0, 2, 2)]), [(0, 0.0, 5.0), (1, 0.0, 5.0)]);
        assert_eq!(told(&[rate(2.0, 3.0), closed(5.0, 1, 1)]), [(0, 2.0, 7.0)]);
        assert_eq!(told(&[closed(5.0, 0, 0)]), []);
    }

    #[test]
    fn ramps_open_and_close_one_after_the_other() {
        let up = [(0, 0.0, 4.0), (1, 0.5, 4.0), (2, 1.5, 4.0), (3, 2.5, 4.0), (4, 3.5, 4.0)];
        assert_eq!(told(&[closed(4.0, 1, 5)]), up);
        let down = [(0, 0.0, 4.0), (1, 0.0, 3.0), (2, 0.0, 1.0)];
        assert_eq!(told(&[closed(4.0, 3, 1)]), down);
    }

    #[test]
    fn who_is_wanted_in_the_next_phase_too_lives_on() {
        let both = [closed(2.0, 2, 2), closed(3.0, 1, 3)];
        assert_eq!(told(&both), [(0, 0.0, 5.0), (1, 0.0, 2.0), (1, 2.75, 5.0), (2, 4.25, 5.0)]);
        let apart = [closed(2.0, 1, 1), pause(1.0), closed(2.0, 1, 1)];
        assert_eq!(told(&apart), [(0, 0.0, 2.0), (0, 3.0, 5.0)]);
    }

    #[test]
    fn users_of_slots_have_numbers_of_their_own_behind_those_of_arrivals() {
        let plan = Plan::new(&[rate(2.0, 3.0), closed(5.0, 4, 4), closed(5.0, 2, 2)], 0);
        assert_eq!(plan.len(), 6);
        let numbers: Vec<u64> = (0..2)
            .flat_map(|turn| (0..4).map(move |slot| (slot, turn)))
            .map(|(s, t)| plan.slot_user(s, t))
            .collect();
        assert_eq!(numbers, (6..14).collect::<Vec<_>>());
        let (even, odd): (Vec<_>, Vec<_>) =
            (plan.slots_of_worker(0, 2).collect(), plan.slots_of_worker(1, 2).collect());
        assert!(
            even.iter().all(|window| window.slot % 2 == 0) && odd.iter().all(|window| window.slot % 2 == 1)
        );
        assert_eq!(even.len() + odd.len(), plan.slots().len());
    }

    proptest! {
        /// At any instant as many slots are open as the line says, give or take the half that rounding takes.
        #[test]
        fn open_slots_follow_the_line(from in 0..50_u64, to in 0..50_u64, duration in 0.1..100.0_f64, share in 0.0..1.0_f64) {
            let plan = Plan::new(&[closed(duration, from, to)], 0);
            let at = s(duration * share);
            let open = plan.slots().iter().filter(|window| window.opens <= at && at < window.closes).count();
            let line = from as f64 + (to as f64 - from as f64) * share;
            prop_assert!((open as f64 - line).abs() < 0.5 + 1e-6, "{open} of {line}");
        }
    }
}
