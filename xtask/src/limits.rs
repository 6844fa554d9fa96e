//! `cargo xtask limits`: what `drumfire limit` finds for dna and for the chat server of 2018, held against runs by hand:
//! at the rate it found all must be in time, at 1.3 times that rate it must not.
//!
//! Server and tester share this machine, and a tester that gives out first says nothing about the server. So the servers
//! run behind drumfire (`nice`): what is found is what they hold with what drumfire leaves them, and drumfire keeps time.

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::command::{Interrupted, logged};
use crate::demo::{FIRST_LISTENER_IDX, LISTENERS, SCENARIO, SEED};
use crate::server_2018::{self, Server2018};
use crate::{signal, stage, tree};

/// What is searched for.
const UNTIL: &str = "delivery.p99 < 100ms";
const REFUTED_AT: f64 = 1.3;
/// More users than a search starts; after the last one the first comes again.
const USERS: u64 = 100_000;
/// So that no run meets the closing sockets of the one before.
const PAUSE: Duration = Duration::from_secs(5);

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only this server.
    #[arg(long, value_name = "SERVER")]
    only: Option<Server>,
    /// Seconds of each run by hand.
    #[arg(long, value_name = "S", default_value_t = 20, value_parser = clap::value_parser!(u64).range(5..=3600))]
    duration: u64,
    /// Where the servers listen, one after the other.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9013")]
    listen: SocketAddr,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Server {
    Dna,
    #[value(name = "2018")]
    Y2018,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dna => "dna",
            Self::Y2018 => "2018",
        })
    }
}

pub(crate) fn run(options: &Options) -> Result<u8> {
    stage::port_is_free(options.listen)?;
    let servers: Vec<_> = [Server::Dna, Server::Y2018]
        .into_iter()
        .filter(|server| options.only.is_none_or(|only| only == *server))
        .collect();
    if servers.contains(&Server::Y2018) {
        server_2018::need_programs()?;
    }
    stage::raise_open_files();
    logged("build", tree::cargo().args(tree::RELEASE_BUILD), |_| ())?;
    if !drumfire(&["limit", "--help"]).output().is_ok_and(|help| help.status.success()) {
        bail!("this drumfire has no `limit` yet: there is nothing to hold against runs by hand");
    }
    let ground = Ground::set(options)?;
    let mut all_hold = true;
    for server in servers {
        let (found, at, above) = ground.serving(server, || {
            let found = ground.search(server)?;
            let at = ground.by_hand(server, &found, found.rate)?;
            let above = ground.by_hand(server, &found, higher(found.rate))?;
            Ok((found, at, above))
        })?;
        let (rate, higher) = (found.rate, higher(found.rate));
        println!(
            "\n{server}: {rate} users a second by `drumfire limit --until '{UNTIL}'`; \
             a run at {rate} {at}, one at {higher} {above}",
        );
        if found.tester_gave_out {
            println!("{server}: drumfire was the limit of this search, so {server} may hold more");
        }
        all_hold &= at.holds && at.is_valid && !above.holds && above.is_valid && !found.tester_gave_out;
    }
    println!("\nresults   {}", tree::shown(&ground.folder));
    Ok(u8::from(!all_hold))
}

/// `limit` asks for tenths of a user at the least.
fn higher(rate: f64) -> f64 {
    (rate * REFUTED_AT * 10.0).ceil() / 10.0
}

/// Scenario, tokens and results, all under `target/limits`.
struct Ground {
    folder: PathBuf,
    data: PathBuf,
    scenario: PathBuf,
    listen: SocketAddr,
    duration: u64,
}

impl Ground {
    fn set(options: &Options) -> Result<Self> {
        let folder = tree::target().join("limits");
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("cannot clear {}", folder.display()))?;
        }
        let data = folder.join("data");
        fs::create_dir_all(&data).with_context(|| format!("cannot make {}", data.display()))?;
        let scenario = folder.join("scenario.yml");
        fs::copy(tree::root().join(SCENARIO), &scenario)
            .with_context(|| format!("cannot write {}", scenario.display()))?;
        stage::make_tokens(&folder.join("tokens.csv"), 1, USERS, &data)?;
        stage::make_tokens(&folder.join("listeners.csv"), FIRST_LISTENER_IDX, LISTENERS, &data)?;
        Ok(Self { folder, data, scenario, listen: options.listen, duration: options.duration })
    }

    /// What `drumfire limit` finds.
    fn search(&self, server: Server) -> Result<Found> {
        let output = self.folder.join(format!("limit-{server}.json"));
        let mut command = drumfire(&["limit", "--until", UNTIL]);
        let status = self.fire(server, command.arg("-o").arg(&output))?;
        let text = fs::read_to_string(&output)
            .with_context(|| format!("drumfire limit ({status}) wrote no {}", output.display()))?;
        Found::read(&serde_json::from_str(&text)?)
            .with_context(|| format!("{}: nothing held ({status})", tree::shown(&output)))
    }

    /// A run at this rate, with what was searched for as its limits.
    fn by_hand(&self, server: Server, found: &Found, rate: f64) -> Result<Judged> {
        let output = self.folder.join(format!("{server}-at-{rate}.json"));
        let conditions: Vec<_> =
            found.conditions.iter().map(|condition| json!({"expression": condition})).collect();
        let overrides = json!({"config": {
            "phases": [{"duration": self.duration, "arrivalRate": rate}],
            "ensure": {"conditions": conditions},
        }});
        let mut command = drumfire(&["run", "--overrides", &overrides.to_string()]);
        let status = self.fire(server, command.arg("-o").arg(&output))?;
        let text = fs::read_to_string(&output)
            .with_context(|| format!("drumfire run ({status}) wrote no {}", output.display()))?;
        Judged::read(&serde_json::from_str(&text)?)
            .with_context(|| format!("{}: its limits were not judged", tree::shown(&output)))
    }

    /// What is done while the server runs: the search and the runs by hand meet the same process, for one that has just
    /// begun holds less (Node has compiled nothing yet), and no two hold the same.
    fn serving<T>(&self, server: Server, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let running = Running::start(server, self)?;
        let done = work();
        running.stop()?;
        done
    }

    /// drumfire's command on the server that runs.
    fn fire(&self, server: Server, command: &mut Command) -> Result<ExitStatus> {
        println!("\n== {server}: {}", words(command));
        let status = command
            .args(["--seed", SEED, "-t", &format!("http://{}", self.listen)])
            .arg(&self.scenario)
            .status()
            .context("cannot start drumfire")?;
        if signal::received().is_some() {
            return Err(Interrupted.into());
        }
        thread::sleep(PAUSE);
        Ok(status)
    }
}

enum Running {
    Dna(Child),
    Y2018(Server2018),
}

impl Running {
    fn start(server: Server, ground: &Ground) -> Result<Self> {
        Ok(match server {
            Server::Dna => Self::Dna(stage::serve_as(
                stage::nice(tree::binary("dna")),
                ground.listen,
                &ground.data,
                &ground.folder.join("dna.log"),
            )?),
            Server::Y2018 => Self::Y2018(Server2018::start_as(
                |program| stage::nice(program),
                ground.listen,
                &stage::secret(&ground.data)?,
                &ground.folder,
            )?),
        })
    }

    fn stop(self) -> Result<()> {
        match self {
            Self::Dna(mut dna) => stage::stop(&mut dna),
            Self::Y2018(server) => server.stop(),
        }
    }
}

fn drumfire(arguments: &[&str]) -> Command {
    let mut command = Command::new(tree::binary("drumfire"));
    command.args(arguments);
    command
}

fn words(command: &Command) -> String {
    let shown = |word: &std::ffi::OsStr| tree::shown(Path::new(word));
    let name = command.get_program().to_string_lossy();
    let name = name.rsplit('/').next().unwrap_or_default().to_owned();
    std::iter::once(name).chain(command.get_args().map(shown)).collect::<Vec<_>>().join(" ")
}

/// The answer in the file that `drumfire limit -o` writes.
#[derive(Debug, PartialEq)]
struct Found {
    /// The most users a second that held.
    rate: f64,
    /// What had to hold, `--until` and what `limit` adds to it.
    conditions: Vec<String>,
    /// What came next was beyond drumfire and not beyond the server.
    tester_gave_out: bool,
}

impl Found {
    fn read(file: &Value) -> Option<Self> {
        let limit = &file["drumfire_limit"];
        let conditions = limit["until"].as_array()?.iter().filter_map(Value::as_str).map(str::to_owned);
        Some(Self {
            rate: limit["held"]["load"].as_f64()?,
            conditions: conditions.collect(),
            tester_gave_out: limit["beyond"]["verdict"] == "tester",
        })
    }
}

/// What became of a run's limits.
#[derive(Debug, PartialEq)]
struct Judged {
    holds: bool,
    /// The tester kept up.
    is_valid: bool,
}

impl Judged {
    /// `None` when there were none.
    fn read(result: &Value) -> Option<Self> {
        let checks = result["drumfire"]["checks"].as_array().filter(|checks| !checks.is_empty())?;
        Some(Self {
            holds: checks.iter().all(|check| check["passed"] == true),
            is_valid: result["drumfire"]["validity"]["valid"].as_bool()?,
        })
    }
}

impl fmt::Display for Judged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.holds { "holds" } else { "does not hold" })?;
        if !self.is_valid {
            f.write_str(" (an invalid run: the tester itself did not keep up)")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limits_file_is_read() {
        let file = json!({"drumfire_limit": {
            "until": ["delivery.p99 < 100ms", "errors.share <= 1%"],
            "held": {"load": 320.0, "verdict": "held"},
            "beyond": {"load": 340.0, "verdict": "tester", "why": "start lateness p99 80 ms (limit 50 ms)"},
        }});
        let found = Found::read(&file).expect("an answer");
        assert_eq!((found.rate, &*found.conditions[1]), (320.0, "errors.share <= 1%"));
        assert!(found.tester_gave_out);
        assert_eq!(Found::read(&json!({"drumfire_limit": {"until": [], "held": null}})), None);
    }

    #[test]
    fn a_run_without_limits_is_not_judged() {
        let result = |checks: Value| json!({"drumfire": {"checks": checks, "validity": {"valid": false}}});
        assert_eq!(Judged::read(&result(json!([]))), None);
        let judged = Judged::read(&result(json!([{"passed": true}, {"passed": false}])));
        assert_eq!(judged, Some(Judged { holds: false, is_valid: false }));
    }
}
