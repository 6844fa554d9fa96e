//! What was seen of a process second by second, in bounded memory however long the run takes.

use crate::outcome::ProcessSample;

/// At twice as many, two become one.
const MOST: usize = 600;

/// Samples of one process: each second's at first, of a long run the mean over two, four, ... seconds.
#[derive(Debug, Clone)]
pub(crate) struct Samples {
    kept: Vec<ProcessSample>,
    /// Those that make up the next one.
    pending: Vec<ProcessSample>,
    every: usize,
}

impl Default for Samples {
    fn default() -> Self {
        Self { kept: Vec::new(), pending: Vec::new(), every: 1 }
    }
}

impl Samples {
    pub(crate) fn push(&mut self, sample: ProcessSample) {
        self.pending.push(sample);
        if self.pending.len() < self.every {
            return;
        }
        let since = self.kept.last().map_or(0.0, |last| last.at_s);
        self.kept.extend(mean(since, std::mem::take(&mut self.pending)));
        if self.kept.len() >= 2 * MOST {
            let mut since = 0.0;
            let mut pairs = Vec::with_capacity(2 * MOST);
            let mut kept = std::mem::take(&mut self.kept).into_iter();
            while let Some(first) = kept.next() {
                let pair: Vec<_> = [first].into_iter().chain(kept.next()).collect();
                let end = pair.last().map_or(since, |last| last.at_s);
                pairs.extend(mean(since, pair));
                since = end;
            }
            self.kept = pairs;
            self.every *= 2;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.kept.is_empty() && self.pending.is_empty()
    }

    pub(crate) fn finish(mut self) -> Vec<ProcessSample> {
        let since = self.kept.last().map_or(0.0, |last| last.at_s);
        self.kept.extend(mean(since, self.pending));
        self.kept
    }
}

/// One sample for all of them, which follow each other from `since` on: what the threads used on average, the most
/// memory and files. A thread that was not there in one of them used nothing then.
fn mean(since: f64, samples: Vec<ProcessSample>) -> Option<ProcessSample> {
    if samples.len() < 2 {
        return samples.into_iter().next();
    }
    let at_s = samples.last()?.at_s;
    let mut all = ProcessSample { at_s, threads: Vec::new(), rss_bytes: 0, open_files: 0 };
    let mut before = since;
    let whole = (at_s - since).max(1e-9);
    for sample in samples {
        let share = (sample.at_s - before).max(0.0) / whole;
        before = sample.at_s;
        // Several threads may have one name: the n-th of a name is the n-th of that name before.
        let mut taken = vec![false; all.threads.len()];
        for (name, used) in sample.threads {
            let known = (0..taken.len()).find(|&at| !taken[at] && all.threads[at].0 == name);
            match known {
                Some(at) => {
                    taken[at] = true;
                    all.threads[at].1 += used * share;
                }
                None => all.threads.push((name, used * share)),
            }
        }
        all.rss_bytes = all.rss_bytes.max(sample.rss_bytes);
        all.open_files = all.open_files.max(sample.open_files);
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at_s: f64, threads: &[(&str, f64)]) -> ProcessSample {
        let threads = threads.iter().map(|(name, used)| ((*name).to_owned(), *used)).collect();
        ProcessSample { at_s, threads, rss_bytes: at_s as u64, open_files: 7 }
    }

    #[test]
    fn a_day_fits_and_its_cpu_time_is_all_there() {
        let mut samples = Samples::default();
        let day = 86_400;
        for second in 1..=day {
            let used = f64::from(second % 10) / 10.0;
            samples.push(sample(f64::from(second), &[("w", used), ("w", 1.0), ("main", 0.5)]));
            assert!(samples.kept.len() < 2 * MOST && samples.pending.len() < 256);
        }
        let kept = samples.finish();
        assert!(kept.len() >= MOST, "{}", kept.len());
        let mut before = 0.0;
        let mut spent = [0.0; 3];
        for sample in &kept {
            for (spent, (_, used)) in spent.iter_mut().zip(&sample.threads) {
                *spent += used * (sample.at_s - before);
            }
            before = sample.at_s;
        }
        assert!((before - f64::from(day)).abs() < 1e-9);
        for (spent, expected) in spent.iter().zip([0.45, 1.0, 0.5]) {
            assert!((spent / f64::from(day) - expected).abs() < 1e-6, "{spent}");
        }
        assert_eq!((kept.last().unwrap().rss_bytes, kept[0].open_files), (day as u64, 7));
    }

    #[test]
    fn short_runs_keep_each_second() {
        let mut samples = Samples::default();
        assert!(samples.is_empty());
        for second in 1..1000 {
            samples.push(sample(f64::from(second), &[("w", 0.1)]));
        }
        assert_eq!(samples.finish().len(), 999);
    }

    #[test]
    fn who_was_there_half_the_time_used_half() {
        let two = vec![sample(1.0, &[("a", 1.0)]), sample(2.0, &[("b", 0.5), ("a", 0.5)])];
        assert_eq!(mean(0.0, two).unwrap().threads, [("a".to_owned(), 0.75), ("b".to_owned(), 0.25)]);
        assert_eq!(mean(0.0, Vec::new()), None);
    }
}
