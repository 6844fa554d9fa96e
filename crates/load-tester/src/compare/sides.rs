//! The two sides: which files, and what is kept of each.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::metric::Metric;
use crate::outcome::{Outcome, ProcessSample, Window};
use crate::report::{Loaded, json};

/// More would be a mistake in a wildcard.
const MOST_RUNS: usize = 100;

/// One run, or several of the same script.
#[derive(Debug)]
pub struct Side {
    /// As typed.
    pub name: String,
    pub runs: Vec<Run>,
}

#[derive(Debug)]
pub struct Run {
    pub path: PathBuf,
    pub loaded: Loaded,
    /// Empty for Artillery's files: they keep no distribution of a window.
    pub(crate) seconds: Vec<Second>,
}

/// A second (or ten, of a long run) as resampling needs it.
#[derive(Debug, Clone)]
pub(crate) struct Second {
    pub(crate) start_s: f64,
    pub(crate) length_s: f64,
    pub(crate) counters: BTreeMap<String, u64>,
    pub(crate) errors: u64,
    /// Value in microseconds and how often, ascending.
    pub(crate) histograms: BTreeMap<String, Vec<(u64, u64)>>,
    pub(crate) target: Use,
    pub(crate) tester: Use,
}

/// Processor time in milliseconds, and over how many seconds.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Use {
    pub(crate) used_ms: f64,
    pub(crate) watched_s: f64,
}

impl Second {
    fn of(window: &Window) -> Self {
        let histograms = window.histograms.iter().map(|(name, histogram)| {
            let steps = histogram.iter_recorded();
            let values =
                steps.map(|step| (step.value_iterated_to(), step.count_since_last_iteration())).collect();
            (name.clone(), values)
        });
        Self {
            start_s: window.start_s,
            length_s: window.length_s,
            errors: window
                .counters
                .iter()
                .filter(|(name, _)| name.starts_with("errors."))
                .fold(0, |sum, (_, n)| sum.saturating_add(*n)),
            histograms: histograms.collect(),
            counters: window.counters.clone(),
            target: Use::default(),
            tester: Use::default(),
        }
    }
}

impl Run {
    /// # Errors
    /// When the file is no result.
    pub fn read(path: &Path) -> Result<Self, json::Error> {
        let (loaded, seconds) = json::read_with_windows(path)?;
        Ok(Self::of(path, loaded, seconds.iter().map(Second::of).collect()))
    }

    /// A run that has just ended, under the name its file would have.
    pub fn of_outcome(path: &Path, outcome: &Outcome) -> Self {
        Self::of(path, Loaded::of(outcome), outcome.seconds.iter().map(Second::of).collect())
    }

    fn of(path: &Path, loaded: Loaded, mut seconds: Vec<Second>) -> Self {
        if let Some(run) = &loaded.run {
            let target = run.target.as_ref().map_or(&[][..], |target| &target.samples);
            share_out(target, &mut seconds, |second| &mut second.target);
            share_out(&run.tester, &mut seconds, |second| &mut second.tester);
        }
        Self { path: path.to_owned(), loaded, seconds }
    }

    pub fn name(&self) -> String {
        self.path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    }
}

/// Each sample's use to the second it ends in.
fn share_out(samples: &[ProcessSample], seconds: &mut [Second], of: fn(&mut Second) -> &mut Use) {
    let mut before = None;
    for sample in samples {
        let one = std::slice::from_ref(sample);
        let length = sample.at_s - before.unwrap_or_else(|| (sample.at_s - 1.0).max(0.0));
        before = Some(sample.at_s);
        let middle = sample.at_s - length / 2.0;
        let at = seconds.partition_point(|second| second.start_s <= middle).saturating_sub(1);
        if let (Some(second), true) = (seconds.get_mut(at), length > 0.0) {
            let cores: f64 = one.iter().flat_map(|sample| &sample.threads).map(|thread| thread.1).sum();
            let used = of(second);
            used.used_ms += cores * length * 1000.0;
            used.watched_s += length;
        }
    }
}

impl Side {
    /// Reads what was typed: a file, a directory of them, a wildcard, or several of these with commas between.
    ///
    /// # Errors
    /// When there is nothing, or a file is no result.
    pub fn read(typed: &str) -> anyhow::Result<Self> {
        let mut paths = Vec::new();
        // A name may itself hold a comma.
        if Path::new(typed).exists() {
            paths.extend(files(typed)?);
        } else {
            for part in typed.split(',').map(str::trim).filter(|part| !part.is_empty()) {
                paths.extend(files(part)?);
            }
        }
        if paths.is_empty() {
            if Path::new(typed).is_dir() {
                bail!("{typed}: no result (*.json) is in this directory: give each run -o {typed}/");
            }
            bail!("{typed}: no result file is named so");
        }
        if paths.len() > MOST_RUNS {
            bail!("{typed}: {} files; a side has at most {MOST_RUNS} runs", paths.len());
        }
        let mut distinct = std::collections::BTreeSet::new();
        let twice =
            |path: &&PathBuf| !distinct.insert(path.canonicalize().unwrap_or_else(|_| (*path).clone()));
        if let Some(path) = paths.iter().find(twice) {
            bail!("{typed}: {} is in it twice, and a run counts once: name it once", path.display());
        }
        let runs = paths.iter().map(|path| Run::read(path)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { name: typed.to_owned(), runs })
    }

    /// The first file that is on the other side, too.
    pub fn shares(&self, other: &Self) -> Option<&Path> {
        let files: Vec<_> = other.runs.iter().filter_map(|run| run.path.canonicalize().ok()).collect();
        let shared =
            self.runs.iter().find(|run| run.path.canonicalize().is_ok_and(|path| files.contains(&path)));
        shared.map(|run| run.path.as_path())
    }

    /// The mean of the runs' figures; `None` unless every run has it.
    pub fn figure(&self, metric: &Metric) -> Option<f64> {
        let values = self.values(metric)?;
        Some(values.iter().sum::<f64>() / values.len() as f64)
    }

    pub(crate) fn values(&self, metric: &Metric) -> Option<Vec<f64>> {
        self.runs.iter().map(|run| metric.of(&run.loaded)).collect()
    }

    /// Runs that must not be believed, in words.
    pub(crate) fn invalid(&self, label: &str) -> Vec<String> {
        let mut all = Vec::new();
        for run in &self.runs {
            let Some(ours) = &run.loaded.run else { continue };
            if !ours.validity.valid {
                let broken: Vec<String> = ours
                    .validity
                    .broken()
                    .map(|rule| format!("{} {}, limit {}", rule.what, rule.measured, rule.limit))
                    .collect();
                all.push(format!("{label} ({}) is an invalid run: {}", run.name(), broken.join("; ")));
            } else if let Some(signal) = &ours.interrupted {
                all.push(format!("{label} ({}) was ended early by {signal}", run.name()));
            }
        }
        all
    }
}

fn files(typed: &str) -> anyhow::Result<Vec<PathBuf>> {
    let path = Path::new(typed);
    let mut found: Vec<PathBuf> = if path.is_dir() {
        let entries = std::fs::read_dir(path).with_context(|| format!("{typed}: cannot be read"))?;
        entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.is_file() && path.extension().is_some_and(|end| end == "json"))
            .collect()
    } else if path.exists() || !typed.contains(['*', '?', '[']) {
        vec![path.to_owned()]
    } else {
        glob::glob(typed).with_context(|| format!("{typed}: not a pattern"))?.flatten().collect()
    };
    found.sort();
    Ok(found)
}
