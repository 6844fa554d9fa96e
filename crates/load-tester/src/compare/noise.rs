//! How much two equal runs would differ: the band a difference has to leave to be one.
//!
//! With several runs on both sides, Welch's t interval over the runs' figures. Otherwise a block bootstrap over the seconds
//! of each run: seconds are drawn anew in blocks, since a slow second is seldom alone, and within each phase, since phases
//! are not chance. It sees what varies within a run, not what differs from one start of the server to the next.

use std::collections::BTreeMap;

use statrs::distribution::{ContinuousCDF as _, StudentsT};

use super::sides::{Run, Second, Side};
use crate::metric::{Metric, Source, Statistic, Sum, answered};
use crate::outcome::names;

/// Redraws of each run.
pub(super) const DRAWS: usize = 400;
/// Fewer seconds than this tell nothing about how they vary.
pub(super) const LEAST_SECONDS: usize = 8;
/// The histogram of a total knows its values to one in a thousand.
const RESOLUTION: f64 = 0.001;

/// How the noise was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    /// Between runs, so many on each side.
    Runs(usize, usize),
    /// Within the runs, redrawn so often.
    Seconds(usize),
    /// Artillery's files keep no distribution of a window.
    Nothing,
}

impl Method {
    pub(crate) fn text(self, confidence: f64) -> String {
        let level = format!("{confidence:.1} %");
        match self {
            Self::Runs(a, b) => format!(
                "Noise is what {a} runs of A and {b} of B differ by among themselves: Welch's t interval of the \
                 difference, {level} confidence for each figure, so that all key figures together are wrong in at \
                 most 5 of 100 comparisons of equal runs."
            ),
            Self::Seconds(redraws) => format!(
                "Noise is estimated from the seconds of each run: block bootstrap within phases, {redraws} redraws, t \
                 interval of the difference, {level} confidence for each figure, so that all key figures together are \
                 wrong in at most about 5 of 100 comparisons of equal runs. It cannot see what differs between one \
                 start of the server and the next: give several runs of each side for that."
            ),
            Self::Nothing => {
                "No noise is known: too few seconds were measured, or the files are Artillery's, which keep \
                 no distribution of a window. Give several runs of each side."
                    .to_owned()
            }
        }
    }
}

/// Half the width of the interval of B - A for each metric; `None` where no noise is known.
pub(crate) fn bands(
    a: &Side,
    b: &Side,
    metrics: &[Metric],
    level: f64,
    (redraws, seed): (usize, u64),
) -> (Method, Vec<Option<f64>>) {
    if a.runs.len() >= 2 && b.runs.len() >= 2 {
        let bands = metrics.iter().map(|metric| between_runs(&a.values(metric)?, &b.values(metric)?, level));
        return (Method::Runs(a.runs.len(), b.runs.len()), bands.collect());
    }
    let mut random = fastrand::Rng::with_seed(seed);
    let mut resampled = |side: &Side| -> Vec<Option<Spread>> {
        let runs: Vec<Vec<Option<Spread>>> =
            side.runs.iter().map(|run| Redrawn::new(run, redraws, &mut random).spreads(metrics)).collect();
        // The mean of n runs varies by the root of the sum of squares, over n.
        (0..metrics.len())
            .map(|index| {
                let spreads: Vec<Spread> = runs.iter().map(|run| run[index]).collect::<Option<_>>()?;
                let n = spreads.len() as f64;
                Some(Spread {
                    error: spreads.iter().map(|spread| spread.error.powi(2)).sum::<f64>().sqrt() / n,
                    freedom: spreads.iter().map(|spread| spread.freedom).sum(),
                })
            })
            .collect()
    };
    let (in_a, in_b) = (resampled(a), resampled(b));
    let bands: Vec<Option<f64>> =
        in_a.into_iter().zip(in_b).map(|(a, b)| half_width(a?, b?, level)).collect();
    let method = if bands.iter().any(Option::is_some) { Method::Seconds(redraws) } else { Method::Nothing };
    (method, bands)
}

/// Standard error of a figure, and the degrees of freedom behind it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Spread {
    error: f64,
    freedom: f64,
}

/// Welch and Satterthwaite.
fn half_width(a: Spread, b: Spread, level: f64) -> Option<f64> {
    let (va, vb) = (a.error.powi(2), b.error.powi(2));
    if va + vb == 0.0 {
        return Some(0.0);
    }
    let freedom = (va + vb).powi(2) / (va.powi(2) / a.freedom + vb.powi(2) / b.freedom);
    let t = StudentsT::new(0.0, 1.0, freedom.max(1.0)).ok()?.inverse_cdf(0.5 + level / 2.0);
    Some(t * (va + vb).sqrt())
}

fn between_runs(a: &[f64], b: &[f64], level: f64) -> Option<f64> {
    let spread = |values: &[f64]| {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0);
        // Runs that agree to the last bucket do not agree better than buckets can tell.
        let least = (mean.abs() * RESOLUTION).powi(2) / 12.0;
        Spread { error: ((variance.max(least)) / n).sqrt(), freedom: n - 1.0 }
    };
    half_width(spread(a), spread(b), level)
}

/// A run whose seconds were drawn anew many times.
struct Redrawn<'r> {
    run: &'r Run,
    /// For each redraw, how often each second was taken.
    draws: Vec<Vec<u32>>,
    /// Blocks there are, less one for each phase.
    freedom: f64,
    /// Counts of one histogram's values in each redraw; rows of the same histogram stand together.
    last: Option<(String, Vec<u64>, Vec<Vec<u64>>)>,
}

impl<'r> Redrawn<'r> {
    fn new(run: &'r Run, redraws: usize, random: &mut fastrand::Rng) -> Self {
        let strata = strata(run);
        let block = |length: usize| ((length as f64).sqrt().round() as usize).max(1);
        let draws = if run.seconds.len() < LEAST_SECONDS { 0 } else { redraws };
        let draws = (0..draws)
            .map(|_| {
                let mut taken = vec![0; run.seconds.len()];
                for stratum in &strata {
                    let length = block(stratum.len());
                    let mut left = stratum.len();
                    while left > 0 {
                        let from = random.usize(..stratum.len());
                        for step in 0..length.min(left) {
                            taken[stratum.start + (from + step) % stratum.len()] += 1;
                        }
                        left -= length.min(left);
                    }
                }
                taken
            })
            .collect();
        let freedom: f64 =
            strata.iter().map(|stratum| stratum.len() as f64 / block(stratum.len()) as f64 - 1.0).sum();
        Self { run, draws, freedom: freedom.max(1.0), last: None }
    }

    fn spreads(&mut self, metrics: &[Metric]) -> Vec<Option<Spread>> {
        metrics.iter().map(|metric| self.spread(metric)).collect()
    }

    fn spread(&mut self, metric: &Metric) -> Option<Spread> {
        let figure = metric.of(&self.run.loaded)?;
        let Some(values) = self.values(metric).filter(|values| values.len() >= 2) else {
            return self.lost_whole(metric).map(|error| Spread { error, freedom: self.freedom });
        };
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let deviation = (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
        // A rate over the seconds drawn is not quite one over the phases, so its spread is taken as a share. And few
        // blocks are less apart than the many they stand for.
        let scale = if mean != 0.0 && figure != 0.0 { (figure / mean).abs() } else { 1.0 };
        let few = ((self.freedom + 1.0) / self.freedom).sqrt();
        Some(Spread { error: deviation * scale * few, freedom: self.freedom })
    }

    /// The figure in each redraw; `None` where the seconds do not hold what it is made of.
    fn values(&mut self, metric: &Metric) -> Option<Vec<f64>> {
        if self.draws.is_empty() {
            return None;
        }
        match &metric.source {
            Source::Statistic { histogram, statistic } => self.statistics(histogram, *statistic),
            Source::Counter(name) => {
                if name.starts_with("drumfire.delivery.") && !self.adds_up(name) {
                    return None;
                }
                let series = self.series(|second| second.counters.get(name).copied().unwrap_or(0) as f64);
                Some(self.sums(&series))
            }
            Source::Errors => {
                let series = self.series(|second| second.errors as f64);
                Some(self.sums(&series))
            }
            Source::Ratio { of, over, .. } => {
                let (of, over) = (self.parts(*of)?, self.parts(*over)?);
                let pairs = self.sums(&of).into_iter().zip(self.sums(&over));
                Some(pairs.filter(|(_, over)| *over > 0.0).map(|(of, over)| of / over).collect())
            }
            Source::Answers(_) | Source::TargetMemory | Source::TesterMemory => None,
        }
    }

    fn statistics(&mut self, histogram: &str, statistic: Statistic) -> Option<Vec<f64>> {
        // How far the highest value may go cannot be learnt by drawing those there were.
        let quantile = match statistic {
            Statistic::Quantile(quantile) => Some(quantile),
            Statistic::Mean => None,
            _ => return None,
        };
        // What happened in a few seconds only, such as the connecting of listeners, cannot be redrawn.
        let seconds =
            self.run.seconds.iter().filter(|second| second.histograms.contains_key(histogram)).count();
        if seconds < LEAST_SECONDS {
            return None;
        }
        if self.last.as_ref().is_none_or(|(name, ..)| name != histogram) {
            let (values, counts) = self.counts(histogram);
            self.last = Some((histogram.to_owned(), values, counts));
        }
        let (_, values, counts) = self.last.as_ref()?;
        let of = |counts: &Vec<u64>| {
            let all = counts.iter().fold(0_u64, |sum, count| sum.saturating_add(*count));
            if all == 0 {
                return None;
            }
            let Some(quantile) = quantile else {
                let sum: f64 =
                    values.iter().zip(counts).map(|(value, count)| *value as f64 * *count as f64).sum();
                return Some(sum / all as f64 / 1000.0);
            };
            let wanted = ((quantile * all as f64).ceil() as u64).max(1);
            let mut seen = 0;
            let at = counts.iter().position(|count| {
                seen += count;
                seen >= wanted
            })?;
            Some(values[at] as f64 / 1000.0)
        };
        Some(counts.iter().filter_map(of).collect())
    }

    /// The distinct values of a histogram, and how often each occurs in each redraw.
    fn counts(&self, histogram: &str) -> (Vec<u64>, Vec<Vec<u64>>) {
        let of = |second: &'r Second| second.histograms.get(histogram).map_or(&[][..], Vec::as_slice);
        let mut index: BTreeMap<u64, usize> =
            self.run.seconds.iter().flat_map(of).map(|(value, _)| (*value, 0)).collect();
        for (at, slot) in index.values_mut().enumerate() {
            *slot = at;
        }
        let seconds: Vec<Vec<(usize, u64)>> = self
            .run
            .seconds
            .iter()
            .map(|second| of(second).iter().map(|(value, count)| (index[value], *count)).collect())
            .collect();
        let draws = self.draws.iter().map(|taken| {
            let mut counts = vec![0_u64; index.len()];
            for (times, second) in taken.iter().zip(&seconds).filter(|(times, _)| **times > 0) {
                for (at, count) in second {
                    counts[*at] = counts[*at].saturating_add(count.saturating_mul(u64::from(*times)));
                }
            }
            counts
        });
        let draws = draws.collect();
        (index.into_keys().collect(), draws)
    }

    fn series(&self, of: impl Fn(&Second) -> f64) -> Vec<f64> {
        self.run.seconds.iter().map(of).collect()
    }

    fn sums(&self, series: &[f64]) -> Vec<f64> {
        let sum =
            |taken: &Vec<u32>| taken.iter().zip(series).map(|(times, value)| f64::from(*times) * value).sum();
        self.draws.iter().map(sum).collect()
    }

    fn parts(&self, sum: Sum) -> Option<Vec<f64>> {
        let counter = |name: &'static str| {
            self.series(move |second| second.counters.get(name).copied().unwrap_or(0) as f64)
        };
        Some(match sum {
            // Heard pairs of files that keep no count of them by the second: the samples of their times.
            Sum::Counters([one @ "drumfire.delivery.heard"]) if !self.adds_up(one) => self.series(|second| {
                second
                    .histograms
                    .get(names::DELIVERY)
                    .map_or(0.0, |values| values.iter().map(|(_, count)| *count as f64).sum())
            }),
            // Who ends does so seconds after having begun: what is missing from all is told by those that failed.
            Sum::Counters(["vusers.completed"]) => {
                let (created, failed) = (counter("vusers.created"), counter("vusers.failed"));
                created.iter().zip(failed).map(|(created, failed)| created - failed).collect()
            }
            Sum::Counters(all) => {
                let mut sum = vec![0.0; self.run.seconds.len()];
                for name in all {
                    sum.iter_mut().zip(counter(name)).for_each(|(sum, value)| *sum += value);
                }
                sum
            }
            Sum::Users => counter("vusers.created"),
            Sum::Errors => self.series(|second| second.errors as f64),
            Sum::HttpAnswers | Sum::ServerErrors => {
                let lowest = if sum == Sum::ServerErrors { 500 } else { 100 };
                let count = |(name, count): (&String, &u64)| answered(name, lowest).then_some(*count as f64);
                self.series(|second| second.counters.iter().filter_map(count).sum())
            }
            Sum::Fulfilled => {
                self.adds_up("drumfire.delivery.missing").then_some(())?;
                let expected = self.parts(Sum::Expected)?;
                let missing = counter("drumfire.delivery.missing");
                expected.iter().zip(missing).map(|(expected, missing)| expected - missing).collect()
            }
            Sum::Expected => {
                self.adds_up("drumfire.delivery.expected").then_some(())?;
                counter("drumfire.delivery.expected")
            }
            Sum::Seconds => self.seconds_of_load(),
            Sum::TargetCpu => self.series(|second| second.target.used_ms),
            Sum::TesterCpu => self.series(|second| second.tester.used_ms),
            Sum::TargetWatched => self.series(|second| second.target.watched_s),
            Sum::TesterWatched => self.series(|second| second.tester.watched_s),
        })
    }

    /// Seconds in which somebody was to arrive; those after the last phase belong to no rate.
    fn seconds_of_load(&self) -> Vec<f64> {
        let phases = &self.run.loaded.phases;
        let loaded = |second: &Second| {
            phases.iter().any(|phase| {
                let (from, to) = (phase.start_s - 1e-6, phase.start_s + phase.duration_s - 1e-6);
                phase.planned > 0 && second.start_s >= from && second.start_s < to
            })
        };
        let any = self.run.seconds.iter().any(loaded);
        self.series(|second| if !any || loaded(second) { second.length_s } else { 0.0 })
    }

    /// Do the seconds hold this count of deliveries, all of it?
    fn adds_up(&self, name: &str) -> bool {
        let Some(delivery) = self.run.loaded.run.as_ref().and_then(|run| run.delivery.as_ref()) else {
            return false;
        };
        let whole = crate::delivery::figures(delivery).get(name).copied();
        let counts = self.run.seconds.iter().filter_map(|second| second.counters.get(name));
        let sum = counts.fold(0_u64, |sum, count| sum.saturating_add(*count));
        whole == Some(sum)
    }

    /// Without a count by the second: as if deliveries went missing by whole messages, which is the worst case.
    fn lost_whole(&self, metric: &Metric) -> Option<f64> {
        let delivery = self.run.loaded.run.as_ref()?.delivery.as_ref()?;
        let expected = delivery.expected? as f64;
        let hearers = expected / (delivery.messages.max(1) as f64);
        let error = |count: u64| (count as f64 * hearers.max(1.0)).sqrt();
        match &metric.source {
            Source::Ratio { of: Sum::Fulfilled, over: Sum::Expected, times } if expected > 0.0 => {
                Some(error(delivery.missing) / expected * times)
            }
            Source::Counter(name) if name.starts_with("drumfire.delivery.") => {
                crate::delivery::figures(delivery).get(name.as_str()).map(|count| error(*count))
            }
            _ => None,
        }
    }
}

/// Seconds that may stand for each other: those of one phase, and those after the last.
fn strata(run: &Run) -> Vec<std::ops::Range<usize>> {
    let phase_of = |second: &Second| {
        run.loaded.phases.iter().position(|phase| second.start_s < phase.start_s + phase.duration_s - 1e-6)
    };
    let mut strata: Vec<std::ops::Range<usize>> = Vec::new();
    let mut before = None;
    for (index, second) in run.seconds.iter().enumerate() {
        let phase = Some(phase_of(second));
        match strata.last_mut() {
            Some(last) if phase == before => last.end = index + 1,
            _ => strata.push(index..index + 1),
        }
        before = phase;
    }
    strata
}
