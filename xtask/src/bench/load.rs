//! `drumfire` against a server that is watched: what the run gave, and what both sides used meanwhile.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::MOST_OF_A_CORE;
use super::cpu::{Seen, Usage, Watch};
use crate::command::{Interrupted, terminate, wait_through_signals};
use crate::demo::SEED;
use crate::soak::watch::Figures;
use crate::{signal, tree};

pub(super) fn drumfire() -> Command {
    Command::new(tree::binary("drumfire"))
}

/// Of the crowd: Gangnam station in Seoul.
pub(super) const MIDDLE: (f64, f64) = (127.0276, 37.4979);

const ALL_STAND_WITHIN: Duration = Duration::from_secs(90);

/// `listeners` of a script: so many with the tokens of `listeners.csv`, spread within so many metres of a place, who
/// each join the map with a radius between these, metres.
pub(super) fn people(count: u64, around: (f64, f64), within_m: f64, radius_m: (f64, f64)) -> Value {
    json!([{
        "count": count,
        "place": {"around": [around.0, around.1], "within": within_m, "radius": [radius_m.0, radius_m.1]},
        "payload": {"path": "listeners.csv", "fields": ["token"], "order": "sequence"},
        "flow": [{
            "emit": ["store", {"token": "{{ token }}", "position": ["{{ lng }}", "{{ lat }}"], "radius": "{{ radius }}"}],
            "acknowledge": true,
        }],
    }])
}

/// Waits until so many are on the map. How long it took; `None` when it took too long.
pub(super) fn until_all_stand(listen: SocketAddr, all: u64) -> Result<Option<Duration>> {
    let begun = Instant::now();
    while begun.elapsed() < ALL_STAND_WITHIN {
        if signal::received().is_some() {
            return Err(Interrupted.into());
        }
        if Figures::of(listen).is_some_and(|figures| figures.people >= all) {
            return Ok(Some(begun.elapsed()));
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(None)
}

/// A run of `script`, with the same chances each time.
pub(super) fn script(script: &Path, target: &str, variables: &Value, overrides: &Value) -> Command {
    let mut command = drumfire();
    command.args(["run", "--no-tui", "--seed", SEED, "-t", target]);
    command.args(["-v", &variables.to_string(), "--overrides", &overrides.to_string()]);
    command.arg(script);
    command
}

/// A run of drumfire, ended.
pub(super) struct Run {
    pub(super) result: Value,
    seen: Seen,
}

/// Runs `command` (`drumfire run ...` without `-o`) while the servers' processor time is watched. Its words go to
/// `<name>.log`, its result to `<name>.json`.
pub(super) fn fire(command: &mut Command, servers: &[u32], folder: &Path, name: &str) -> Result<Run> {
    Fired::begin(command, servers, folder, name)?.end()
}

/// A run of drumfire under way.
pub(super) struct Fired {
    child: Child,
    watch: Watch,
    output: PathBuf,
    log: PathBuf,
}

impl Fired {
    /// As `fire`, which then waits for its end.
    pub(super) fn begin(command: &mut Command, servers: &[u32], folder: &Path, name: &str) -> Result<Self> {
        let output = folder.join(format!("{name}.json"));
        let log_path = folder.join(format!("{name}.log"));
        let log = File::create(&log_path).with_context(|| format!("cannot write {}", log_path.display()))?;
        let child = command
            .arg("-o")
            .arg(&output)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start drumfire")?;
        let watch = Watch::start(servers, child.id());
        Ok(Self { child, watch, output, log: log_path })
    }

    /// Its users leave, and it ends in its own time.
    pub(super) fn terminate(&self) {
        terminate(&self.child);
    }

    /// Waits until it has ended.
    pub(super) fn end(self) -> Result<Run> {
        let status = wait_through_signals(self.child);
        let seen = self.watch.end();
        if signal::received().is_some() {
            return Err(Interrupted.into());
        }
        let Ok(text) = fs::read_to_string(&self.output) else {
            let said = fs::read_to_string(&self.log).unwrap_or_default();
            bail!("drumfire ({}) wrote no {}:\n{}", status?, self.output.display(), said.trim_end());
        };
        Ok(Run { result: serde_json::from_str(&text)?, seen })
    }
}

impl Run {
    #[cfg(test)]
    pub(super) fn for_tests(result: Value) -> Self {
        Self { result, seen: Seen::default() }
    }

    /// `counter`, summed over the seconds from `from` on, as they lie in the run.
    pub(super) fn counted(&self, counter: &str, from: u64, seconds: u64) -> f64 {
        let all = self.result["drumfire"]["seconds"].as_array().into_iter().flatten();
        all.filter(|second| {
            let start = second["start_s"].as_f64().unwrap_or(-1.0);
            start >= from as f64 && start < (from + seconds) as f64
        })
        .filter_map(|second| second["counters"][counter].as_f64())
        .sum()
    }

    /// When its first second began, seconds since 1970.
    pub(super) fn started(&self) -> Option<f64> {
        Some(self.result["drumfire"]["meta"]["started_at_ms"].as_f64()? / 1_000.0)
    }

    /// What both sides used over these seconds of the run.
    pub(super) fn usage(&self, from: u64, seconds: u64) -> Option<Usage> {
        let started = self.started()?;
        self.seen.between(started + from as f64, started + (from + seconds) as f64)
    }

    /// Why the load side is not to be believed, if so.
    pub(super) fn doubts(&self, usage: &Usage) -> Option<String> {
        let validity = &self.result["drumfire"]["validity"];
        if validity["valid"] != true {
            let broken = validity["rules"].as_array().into_iter().flatten();
            let broken: Vec<_> = broken
                .filter(|rule| rule["held"] == false)
                .map(|rule| {
                    let word = |key: &str| rule[key].as_str().unwrap_or_default().to_owned();
                    format!("{} {} (limit {})", word("what"), word("measured"), word("limit"))
                })
                .collect();
            return Some(format!("drumfire was late: {}", broken.join("; ")));
        }
        let busiest = usage.busiest_load_thread;
        (busiest > MOST_OF_A_CORE)
            .then(|| format!("drumfire's busiest thread took {:.0} % of a core", busiest * 100.0))
    }

    /// A counter of the whole run.
    pub(super) fn counter(&self, name: &str) -> f64 {
        self.result["aggregate"]["counters"][name].as_f64().unwrap_or(0.0)
    }

    /// One of the delivery account's counts.
    pub(super) fn account(&self, count: &str) -> f64 {
        self.result["drumfire"]["delivery"][count].as_f64().unwrap_or(0.0)
    }

    /// How often an event came, over all connections.
    pub(super) fn heard(&self, event: &str) -> f64 {
        self.result["drumfire"]["server_events"][event].as_f64().unwrap_or(0.0)
    }

    /// A percentile of a distribution, milliseconds.
    pub(super) fn time(&self, of: &str, percentile: &str) -> Option<f64> {
        self.result["aggregate"]["summaries"][of][percentile].as_f64()
    }

    /// The commonest error, and how many there were.
    pub(super) fn errors(&self) -> Option<String> {
        let errors = self.result["drumfire"]["errors"].as_array()?;
        let count = |error: &Value| error["count"].as_u64().unwrap_or(1);
        let first = errors.iter().max_by_key(|error| count(error))?;
        let cause = first["cause"].as_str().unwrap_or("unnamed");
        Some(format!("{} errors, most often “{cause}”", errors.iter().map(count).sum::<u64>()))
    }
}
