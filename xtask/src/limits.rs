//! `cargo xtask limits`: what `drumfire limit` finds for dna and for the chat server of 2018, held against runs by hand:
//! at the rate it found all must be in time, at 1.3 times that rate it must not.

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

/// What is searched for, and the same as limits of a run by hand.
const UNTIL: &str = "delivery.p99 < 100ms";
const CONDITIONS: [&str; 2] = ["drumfire.delivery.p99 < 100", "drumfire.delivery.missing == 0"];
/// Of all users, in per cent: who failed heard nothing late, and is no success.
const MOST_ERRORS: f64 = 1.0;
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
        let found = ground.search(server)?;
        let confirmed = ground.by_hand(server, found)?;
        let refuted = !ground.by_hand(server, found * REFUTED_AT)?;
        println!(
            "\n{server}: {found:.0} users a second by `drumfire limit --until '{UNTIL}'`; a run at {found:.0} {}, one at {:.0} {}",
            if confirmed { "holds" } else { "DOES NOT HOLD" },
            found * REFUTED_AT,
            if refuted { "does not hold" } else { "HOLDS, TOO" },
        );
        all_hold &= confirmed && refuted;
    }
    println!("\nresults   {}", tree::shown(&ground.folder));
    Ok(u8::from(!all_hold))
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

    /// Users a second that `drumfire limit` found to hold.
    fn search(&self, server: Server) -> Result<f64> {
        let output = self.folder.join(format!("limit-{server}.json"));
        let mut command = drumfire(&["limit", "--until", UNTIL]);
        let status = self.fire(server, command.arg("-o").arg(&output))?;
        let text = fs::read_to_string(&output)
            .with_context(|| format!("drumfire limit ({status}) wrote no {}", output.display()))?;
        let found = rate_of(&serde_json::from_str(&text)?);
        found
            .filter(|rate| *rate >= 1.0)
            .with_context(|| format!("{}: not even one user a second holds `{UNTIL}`", tree::shown(&output)))
    }

    /// Whether a run at this rate keeps the limits.
    fn by_hand(&self, server: Server, rate: f64) -> Result<bool> {
        let rate = rate.round();
        let output = self.folder.join(format!("{server}-at-{rate}.json"));
        let conditions: Vec<_> =
            CONDITIONS.iter().map(|condition| json!({"expression": condition})).collect();
        let overrides = json!({"config": {
            "phases": [{"duration": self.duration, "arrivalRate": rate}],
            "ensure": {"conditions": conditions, "maxErrorRate": MOST_ERRORS},
        }});
        let mut command = drumfire(&["run", "--overrides", &overrides.to_string()]);
        let status = self.fire(server, command.arg("-o").arg(&output))?;
        match status.code() {
            Some(0) => Ok(true),
            // A limit of the run does not hold.
            Some(1) if output.is_file() => Ok(false),
            Some(3) => {
                bail!("the run at {rate} users a second is not to be believed; the reason stands above")
            }
            _ => bail!("drumfire run: {status}"),
        }
    }

    /// drumfire's command on a server that has just been started.
    fn fire(&self, server: Server, command: &mut Command) -> Result<ExitStatus> {
        println!("\n== {server}: {}", words(command));
        let running = Running::start(server, self)?;
        let status = command
            .args(["--seed", SEED, "-t", &format!("http://{}", self.listen)])
            .arg(&self.scenario)
            .status()
            .context("cannot start drumfire");
        running.stop()?;
        if signal::received().is_some() {
            return Err(Interrupted.into());
        }
        thread::sleep(PAUSE);
        status
    }
}

enum Running {
    Dna(Child),
    Y2018(Server2018),
}

impl Running {
    fn start(server: Server, ground: &Ground) -> Result<Self> {
        Ok(match server {
            Server::Dna => {
                Self::Dna(stage::serve(ground.listen, &ground.data, &ground.folder.join("dna.log"))?)
            }
            Server::Y2018 => {
                Self::Y2018(Server2018::start(ground.listen, &stage::secret(&ground.data)?, &ground.folder)?)
            }
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

/// Of the file that `drumfire limit -o` writes: the most users a second that held.
fn rate_of(limit: &Value) -> Option<f64> {
    limit["limit"]["arrivalRate"].as_f64()
}
