//! Memory of long runs: seconds nobody will ask for again are deflated, and of a long run so many become one.

use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer as _, V2DeflateSerializer};

use super::{Collector, merge_windows};
use crate::outcome::Window;

/// So many windows are put away before more seconds go into one.
const MOST_FOLDED: usize = 600;
const REFOLD_AT_ONCE: usize = 4;

/// A window put away: its histograms are a twentieth as large deflated, and nobody looks at them before the run is over.
#[derive(Debug, Clone)]
pub(crate) struct Folded {
    window: Window,
    histograms: Vec<(String, Box<[u8]>)>,
}

impl Folded {
    pub(crate) fn of(mut window: Window) -> Self {
        let mut serializer = V2DeflateSerializer::new();
        let histograms = std::mem::take(&mut window.histograms).into_iter().map(|(name, histogram)| {
            let mut bytes = Vec::new();
            serializer.serialize(&histogram, &mut bytes).expect("a Vec takes everything");
            (name, bytes.into_boxed_slice())
        });
        Self { histograms: histograms.collect(), window }
    }

    pub(crate) fn unfold(mut self) -> Window {
        let mut deserializer = Deserializer::new();
        self.window.histograms = self
            .histograms
            .into_iter()
            .map(|(name, bytes)| {
                let mut histogram: Histogram<u64> =
                    deserializer.deserialize(&mut &*bytes).expect("as it was put away");
                // It comes back unable to grow, and more may be added to it.
                histogram.auto(true);
                (name, histogram)
            })
            .collect();
        self.window
    }
}

impl Collector {
    /// How long the run will take as far as anybody knows: folded from the start as far as that asks for.
    pub(crate) fn expect_seconds(&mut self, seconds: usize) {
        self.fold_by = 1;
        while seconds.div_ceil(self.fold_by) > MOST_FOLDED {
            self.fold_by = match self.fold_by {
                1 => 2,
                2 => 5,
                5 => 10,
                by => by * 2,
            };
        }
    }

    /// So many seconds go into one window that is put away now.
    pub(crate) fn seconds_per_window(&self) -> usize {
        self.fold_by
    }

    /// So many seconds into one from the start.
    #[cfg(test)]
    pub(crate) fn fold_by(&mut self, seconds: usize) {
        self.fold_by = seconds;
    }

    /// Puts away what is older than second `before`; nobody may ask for it any more. A run that outlasts what was
    /// expected of it has what was put away folded further.
    pub(crate) fn fold(&mut self, before: usize) {
        loop {
            // What was put away before the folding grew may end within such a stretch.
            let by = self.fold_by - self.first % self.fold_by;
            if self.first + by > before.min(self.complete) {
                break;
            }
            let window = merge_windows(self.seconds.iter().take(by).map(|second| &second.window));
            self.folded.extend(window.map(Folded::of));
            self.seconds.drain(..by);
            self.first += by;
        }
        if self.folded.len() > MOST_FOLDED && self.refolded.is_none() {
            // All lie within windows of ten seconds, or hold whole ones.
            self.fold_by = match self.fold_by {
                1 => 2,
                2 | 5 => 10,
                by => by * 2,
            };
            self.refolded = Some(0);
        }
        self.refold(REFOLD_AT_ONCE);
    }

    /// Brings so many of the stretches put away to the length they are to have: little by little, because each has to be
    /// inflated for it.
    pub(super) fn refold(&mut self, stretches: usize) {
        for _ in 0..stretches {
            let Some(at) = self.refolded else { return };
            let Some(first) = self.folded.get(at) else {
                self.refolded = None;
                return;
            };
            let by = self.fold_by as f64;
            let end = ((first.window.start_s / by).floor() + 1.0) * by;
            let within = self.folded[at..].iter().take_while(|one| one.window.start_s < end).count();
            let last = &self.folded[at + within - 1].window;
            if last.start_s + last.length_s < end - 0.5 {
                // The rest of it is still to be put away.
                return;
            }
            if within > 1 {
                let windows: Vec<Window> =
                    self.folded.splice(at..at + within, []).map(Folded::unfold).collect();
                if let Some(merged) = merge_windows(&windows) {
                    self.folded.insert(at, Folded::of(merged));
                }
            }
            self.refolded = Some(at + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{Count, Names, Recorder, Time};
    use super::*;
    use crate::outcome::names;

    /// A run of so many seconds, one user in each, one thread, and a deadline of five seconds.
    fn seconds_of(expected: usize, length: usize) -> Vec<Window> {
        let mut collector = Collector::new(Names::default(), 1);
        collector.expect_seconds(expected);
        for second in 0..length {
            let mut recorder = Recorder::default();
            recorder.count(Count::UsersCreated);
            recorder.time(Time::HttpResponse, Duration::from_millis(second as u64 % 1000 + 1));
            collector.add(second, &recorder);
            assert_eq!(collector.whole_from(second).count(), 1);
            collector.fold(second.saturating_sub(5));
            assert!(collector.seconds.len() < 7 + 2 * collector.fold_by);
            assert!(collector.folded.len() < MOST_FOLDED + 20, "{} at {second}", collector.folded.len());
        }
        let (seconds, _) = collector.finish(length as f64);
        let users: u64 = seconds.iter().map(|window| window.counters["vusers.created"]).sum();
        let times: u64 =
            seconds.iter().map(|window| window.histograms[names::HTTP_RESPONSE_TIME].len()).sum();
        assert_eq!((users, times), (length as u64, length as u64), "nothing is lost");
        let mut at = 0.0;
        for window in &seconds {
            assert!((window.start_s - at).abs() < 1e-9);
            at += window.length_s;
            let (first, last) = (window.start_s / 10.0, (at - 0.5) / 10.0);
            let tens = (window.start_s % 10.0 == 0.0) && (at % 10.0 == 0.0);
            assert!(tens || first.floor() == last.floor(), "across ten seconds: {} to {at}", window.start_s);
        }
        assert!((at - length as f64).abs() < 1e-9);
        seconds
    }

    #[test]
    fn seconds_are_folded_no_further_than_a_run_asks_for() {
        let longest = |expected, length| {
            let seconds = seconds_of(expected, length);
            seconds.iter().map(|window| window.length_s as u64).max().unwrap()
        };
        assert_eq!(longest(600, 100), 1);
        assert_eq!(longest(900, 100), 2);
        assert_eq!(longest(2_400, 100), 5);
        assert_eq!(longest(5_000, 100), 10);
        // Nobody knew that it would take so long.
        assert_eq!(longest(10, 600), 1);
        assert_eq!(longest(10, 700), 2);
        assert_eq!(longest(1_200, 1_400), 10);
        assert_eq!(longest(6_000, 6_200), 20);
    }
}
