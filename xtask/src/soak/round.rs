//! One drumfire against one dna, looked at while it runs.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::watch::{Figures, Minute, Process, Sample};
use crate::command::{self, Interrupted};
use crate::{signal, stage, tree};

const SCENARIO: &str = "scenarios/soak.yml";
/// What the scenario says; `the_scenario_says_the_same` holds them together.
const MESSAGES_PER_USER: u64 = 10;
const STANDING: u64 = 1_600;
const RETURNING: u64 = 400;
pub(crate) const LISTENERS: u64 = STANDING + RETURNING;

/// They come again when all have had their turn.
const USERS: u64 = 20_000;
const FIRST_STANDING_IDX: u64 = 1_000_001;
const FIRST_RETURNING_IDX: u64 = 2_000_001;
/// Where messages fall: far enough apart that the limit for one place is out of the picture.
const PLACES: u64 = 64;
const MIDDLE: (f64, f64) = (127.0276, 37.4979);
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Between dna's start and a load at which the crowd has come to stand.
const STANDING_WITHIN: Duration = Duration::from_secs(120);

/// The files of one soak, and where its dna listens.
pub(crate) struct Stage {
    pub(crate) folder: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) result: PathBuf,
    data: PathBuf,
    windows: PathBuf,
    listen: SocketAddr,
}

impl Stage {
    /// A fresh start, and a token for everybody.
    pub(crate) fn set(name: &str) -> Result<Self> {
        let folder = super::folder().join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("cannot clear {}", folder.display()))?;
        }
        let data = folder.join("data");
        fs::create_dir_all(&data).with_context(|| format!("cannot make {}", data.display()))?;
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port is free")?;
        let stage = Self {
            log: folder.join("dna.log"),
            result: folder.join("drumfire.json"),
            windows: folder.join("windows.jsonl"),
            listen: free.local_addr()?,
            data,
            folder,
        };
        for (file, first, count) in [
            ("users.csv", 1, USERS),
            ("standing.csv", FIRST_STANDING_IDX, STANDING),
            ("returning.csv", FIRST_RETURNING_IDX, RETURNING),
        ] {
            stage::make_tokens(&stage.folder.join(file), first, count, &stage.data)?;
        }
        fs::write(stage.folder.join("places.csv"), places())?;
        fs::copy(tree::root().join(SCENARIO), stage.folder.join("soak.yml"))?;
        Ok(stage)
    }

    pub(crate) fn serve(&self) -> Result<Child> {
        stage::serve(self.listen, &self.data, &self.log)
    }
}

/// A sunflower's seeds over a disc of 2 km: evenly spread, the same each time.
fn places() -> String {
    let golden = std::f64::consts::PI * (3.0 - 5f64.sqrt());
    let row = |seed: u64| {
        let away_m = 2_000.0 * (seed as f64 / PLACES as f64).sqrt();
        let (sin, cos) = (seed as f64 * golden).sin_cos();
        let lat = MIDDLE.1 + away_m * cos / 111_000.0;
        let lng = MIDDLE.0 + away_m * sin / (111_320.0 * MIDDLE.1.to_radians().cos());
        format!("{lng:.6},{lat:.6}\n")
    };
    (0..PLACES).map(row).collect()
}

/// What a round told from beginning to end.
pub(crate) struct Told {
    pub(crate) minutes: Vec<Minute>,
    pub(crate) samples: Vec<Sample>,
    /// drumfire's account, `null` when it wrote no result.
    pub(crate) delivery: Value,
    /// May drumfire's figures be believed?
    pub(crate) valid: bool,
    /// What failed, in drumfire's words.
    pub(crate) errors: Vec<String>,
    pub(crate) p99_ms: f64,
    pub(crate) interrupted: bool,
    /// How often dna did not answer when it was asked for its figures.
    pub(crate) unanswered: u64,
}

pub(crate) struct Round<'a> {
    stage: &'a Stage,
    drumfire: Child,
    dna: u32,
    windows: BufReader<File>,
    begun: Instant,
    /// When the first phase began.
    zero: Option<Instant>,
    samples: Vec<Sample>,
    minutes: Vec<Minute>,
    /// Deliveries until the last minute ended.
    delivered: u64,
    unanswered: u64,
    told_to_end: bool,
    ended: bool,
}

impl<'a> Round<'a> {
    pub(crate) fn start(stage: &'a Stage, dna: u32, rate: u64, lasts: Duration) -> Result<Self> {
        let users = rate as f64 / MESSAGES_PER_USER as f64;
        let phases = format!(
            r#"{{"config":{{"phases":[{{"duration":{},"arrivalRate":{users}}}]}}}}"#,
            lasts.as_secs()
        );
        let log = File::create(stage.folder.join("drumfire.log"))?;
        // There before drumfire is, so that it can be read from the start.
        File::create(&stage.windows)?;
        let drumfire = Command::new(tree::binary("drumfire"))
            .arg("run")
            .args(["-t", &format!("http://{}", stage.listen), "--overrides", &phases, "-o"])
            .arg(&stage.result)
            .arg("--windows")
            .arg(&stage.windows)
            .arg(stage.folder.join("soak.yml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // A group of its own: one signal ends it gently, a second would end it at once.
            .process_group(0)
            .spawn()
            .context("cannot start drumfire")?;
        Ok(Self {
            stage,
            drumfire,
            dna,
            windows: BufReader::new(File::open(&stage.windows)?),
            begun: Instant::now(),
            zero: None,
            samples: Vec::new(),
            minutes: Vec::new(),
            delivered: 0,
            unanswered: 0,
            told_to_end: false,
            ended: false,
        })
    }

    /// Waits for the end of the next minute; `None` when drumfire has ended.
    pub(crate) fn next_minute(&mut self) -> Result<Option<&Minute>> {
        let mut windows: Vec<Value> = Vec::new();
        let mut look_at = Instant::now();
        loop {
            if signal::received().is_some() && !self.told_to_end {
                println!("no more people come; results follow");
                command::terminate(&self.drumfire);
                self.told_to_end = true;
            }
            if self.drumfire.try_wait()?.is_some() {
                self.ended = true;
                return Ok(None);
            }
            windows.extend(self.new_windows()?);
            if self.zero.is_none() {
                if !windows.is_empty() {
                    self.zero = Some(Instant::now() - seconds(&windows[0], "length_s"));
                } else if self.begun.elapsed() > STANDING_WITHIN {
                    self.kill();
                    bail!("no load within {} s{}", STANDING_WITHIN.as_secs(), self.last_words());
                }
            }
            if let Some(zero) = self.zero.filter(|_| Instant::now() >= look_at) {
                look_at += LOOK_EVERY;
                let Some(figures) = Figures::of(self.stage.listen) else {
                    if Process::of(self.dna).is_none() {
                        bail!("dna ended by itself; its log: {}", tree::shown(&self.stage.log));
                    }
                    self.unanswered += 1;
                    continue;
                };
                if let (Some(dna), Some(drumfire)) = (Process::of(self.dna), Process::of(self.drumfire.id()))
                {
                    let at = zero.elapsed();
                    self.samples.push(Sample { at, dna, drumfire, connections: figures.connected });
                }
                let minute = self.minutes.len() as u64 + 1;
                let over = windows.last().is_some_and(|last| end_s(last) + 0.5 >= minute as f64 * 60.0);
                if let Some(&sample) = self.samples.last().filter(|_| over) {
                    self.close_minute(minute, &windows, figures, sample);
                    return Ok(self.minutes.last());
                }
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn close_minute(&mut self, number: u64, windows: &[Value], figures: Figures, sample: Sample) {
        let since = self.minutes.last().map_or(Duration::ZERO, |last| last.sample.at);
        let took = sample.at.saturating_sub(since).as_secs_f64().max(1.0);
        let delivered = figures.deliveries.saturating_sub(self.delivered);
        self.delivered = figures.deliveries;
        let last = windows.last().unwrap_or(&Value::Null);
        let p99 = windows.iter().filter_map(|one| one["summaries"]["drumfire.delivery"]["p99"].as_f64());
        let errors = windows.iter().map(errors).sum::<u64>() + self.minutes.last().map_or(0, |m| m.errors);
        let account = |name: &str| last["delivery"][name].as_u64().unwrap_or(0);
        self.minutes.push(Minute {
            number,
            deliveries_per_s: (delivered as f64 / took) as u64,
            p99_ms: p99.fold(0.0, f64::max),
            sample,
            wal_bytes: figures.wal_bytes,
            missing: account("missing"),
            twice: account("duplicates") + account("late"),
            errors,
        });
    }

    /// Whole lines that have come since the last time.
    fn new_windows(&mut self) -> Result<Vec<Value>> {
        let mut windows = Vec::new();
        loop {
            let mut line = String::new();
            let length = self.windows.read_line(&mut line)?;
            if length == 0 {
                return Ok(windows);
            }
            if !line.ends_with('\n') {
                self.windows.seek(SeekFrom::Current(-i64::try_from(length)?))?;
                return Ok(windows);
            }
            windows.push(serde_json::from_str(&line).context("drumfire --windows wrote no JSON")?);
        }
    }

    /// Waits for the result and reads it.
    pub(crate) fn finish(mut self) -> Result<Told> {
        let status = self.drumfire.wait()?;
        self.ended = true;
        let Ok(text) = fs::read_to_string(&self.stage.result) else {
            if self.told_to_end {
                return Err(Interrupted.into());
            }
            bail!("drumfire ended without a result ({status}){}", self.last_words());
        };
        let result: Value = serde_json::from_str(&text).context("drumfire's result")?;
        let block = &result["drumfire"];
        let error = |group: &Value| {
            let word = |name: &str| group[name].as_str().unwrap_or_default().to_owned();
            format!("{} times {} at {}: {}", group["count"], word("cause"), word("step"), word("sample"))
        };
        let p99 = &result["aggregate"]["summaries"]["drumfire.delivery"]["p99"];
        Ok(Told {
            minutes: std::mem::take(&mut self.minutes),
            samples: std::mem::take(&mut self.samples),
            delivery: block["delivery"].clone(),
            valid: block["validity"]["valid"].as_bool().unwrap_or(false),
            errors: block["errors"].as_array().into_iter().flatten().map(error).collect(),
            p99_ms: p99.as_f64().unwrap_or(0.0),
            interrupted: self.told_to_end,
            unanswered: self.unanswered,
        })
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(self.stage.folder.join("drumfire.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        format!(":\n{}", lines[lines.len().saturating_sub(20)..].join("\n"))
    }

    fn kill(&mut self) {
        let _ = self.drumfire.kill();
        let _ = self.drumfire.wait();
        self.ended = true;
    }
}

/// Nothing outlives its round.
impl Drop for Round<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.kill();
        }
    }
}

fn seconds(window: &Value, name: &str) -> Duration {
    Duration::from_secs_f64(window[name].as_f64().unwrap_or(0.0).clamp(0.0, 1e6))
}

fn end_s(window: &Value) -> f64 {
    (seconds(window, "start_s") + seconds(window, "length_s")).as_secs_f64()
}

fn errors(window: &Value) -> u64 {
    let counters = window["counters"].as_object().into_iter().flatten();
    counters.filter(|(name, _)| name.starts_with("errors.")).filter_map(|(_, count)| count.as_u64()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scenario_says_the_same() {
        let text = fs::read_to_string(tree::root().join(SCENARIO)).expect("the scenario");
        for line in [
            format!("count: {MESSAGES_PER_USER}"),
            format!("count: {STANDING}"),
            format!("count: {RETURNING}"),
            format!("around: [{}, {}]", MIDDLE.0, MIDDLE.1),
        ] {
            assert!(text.contains(&line), "{SCENARIO} lacks `{line}`");
        }
    }

    #[test]
    fn places_are_many_and_near() {
        let rows = places();
        assert_eq!(rows.lines().count() as u64, PLACES);
        for row in rows.lines() {
            let (lng, lat) = row.split_once(',').expect("two columns");
            let (lng, lat): (f64, f64) = (lng.parse().expect("a number"), lat.parse().expect("a number"));
            assert!((lng - MIDDLE.0).abs() < 0.03 && (lat - MIDDLE.1).abs() < 0.02, "{row}");
        }
    }
}
