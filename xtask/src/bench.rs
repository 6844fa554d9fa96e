//! `cargo xtask bench`: ours and others side by side on this machine, in one go. Every figure is the median of rounds in
//! which all of them ran in turn, and stands beside the rounds it comes from.

mod centrifugo; // a peer whose places are channels
mod chart; // bars in SVG
mod child; // a load program, run to its end
mod connect; // taking connections, holding them, taking all back
mod cpu; // what the operating system says of processes
mod crowd; // slow readers, and many in one place
mod fanout; // server CPU per delivery
mod figure; // medians of rounds
mod goal; // what is to be reached
mod index; // who hears, who is where, moves
mod load; // drumfire, with an eye on both sides
mod machine; // what it ran on
mod report; // sections in Markdown
mod stages; // where the time went
mod tester; // drumfire beside other testers

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use crate::command::{Interrupted, logged, seconds};
use crate::program::Program;
use crate::stage::free_port;
use crate::{signal, stage, tree, web};
use machine::Machine;
use report::Section;

/// What `--quick` runs: enough to see that everything works, no figure to keep.
const QUICK_ROUNDS: usize = 1;
const QUICK_SECONDS: u64 = 3;
/// Where a round is long, or is like the one before, so that the whole takes less than an hour.
const FEW_ROUNDS: usize = 3;
/// Of a core: a load side (or what stands opposite a tester) that takes more may be what was measured.
const MOST_OF_A_CORE: f64 = 0.8;
/// p99 of a load side that kept its time.
const MOST_LATE_MS: f64 = 50.0;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Which parts; all when none is named.
    #[arg(value_name = "PART")]
    parts: Vec<Part>,
    /// How often each of those measured runs, all in turn; long ones at most three times.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=99))]
    rounds: u64,
    /// Seconds of each measurement; each part has its own default.
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: Option<u64>,
    /// One round of 3 s: to see that everything works.
    #[arg(long, conflicts_with_all = ["rounds", "seconds"])]
    quick: bool,
    /// Only these of those measured, e.g. `dna` or `bare`; what is left out makes it no result.
    #[arg(long, value_name = "PEER")]
    only: Vec<String>,
}

impl Options {
    fn rounds(&self) -> usize {
        if self.quick { QUICK_ROUNDS } else { usize::try_from(self.rounds).unwrap_or(1) }
    }

    fn few_rounds(&self) -> usize {
        self.rounds().min(FEW_ROUNDS)
    }

    fn seconds_or(&self, default: u64) -> u64 {
        if self.quick { QUICK_SECONDS } else { self.seconds.unwrap_or(default) }
    }

    fn wants(&self, peer: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == peer)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Server CPU per delivery: 22 minutes.
    Fanout,
    /// Who hears a place, who is in a circle, what a move costs: 3 minutes.
    Index,
    /// Connections: taking them, holding them, taking all of them back after a restart: 5 minutes.
    Connect,
    /// What a user, a message and a request cost the load tester: 9 minutes.
    Tester,
    /// Slow readers, 15,000 people in one place, and a city beside them: 9 minutes.
    Crowd,
}

impl Part {
    const ALL: [Self; 5] = [Self::Fanout, Self::Index, Self::Connect, Self::Tester, Self::Crowd];

    fn name(self) -> &'static str {
        match self {
            Self::Fanout => "fanout",
            Self::Index => "index",
            Self::Connect => "connect",
            Self::Tester => "tester",
            Self::Crowd => "crowd",
        }
    }

    fn run(self, options: &Options, ground: &Ground) -> Result<Section> {
        match self {
            Self::Fanout => fanout::run(options, ground),
            Self::Index => index::run(options, ground),
            Self::Connect => connect::run(options, ground),
            Self::Tester => tester::run(options, ground),
            Self::Crowd => crowd::run(options, ground),
        }
    }
}

pub(crate) fn run(options: &Options) -> Result<u8> {
    let started = Instant::now();
    stage::raise_open_files();
    web::need_node()?;
    let parts: Vec<_> = Part::ALL
        .into_iter()
        .filter(|part| options.parts.is_empty() || options.parts.contains(part))
        .collect();
    logged("build", tree::cargo().args(tree::RELEASE_BUILD), |_| ())?;
    let ground = Ground::set()?;
    let mut incomplete = false;
    for part in parts {
        println!("\n== {}", part.name());
        let section = part.run(options, &ground)?;
        for lack in &section.lacks {
            println!("no result: {lack}");
        }
        incomplete |= !section.lacks.is_empty();
        let folder = ground.results(options, &section);
        let page = section.write(part.name(), &folder, &ground.machine)?;
        report::index(&folder)?;
        println!("{:<9} {}", part.name(), tree::shown(&page));
    }
    println!("took      {}", seconds(started.elapsed()));
    Ok(u8::from(incomplete))
}

/// What all parts stand on.
struct Ground {
    /// `target/bench`: tokens, logs, results of single runs. Cleared at the start.
    folder: PathBuf,
    /// `dna`'s data directory; its secret signs everybody's tokens.
    data: PathBuf,
    machine: Machine,
}

impl Ground {
    fn set() -> Result<Self> {
        let folder = tree::target().join("bench");
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("cannot clear {}", folder.display()))?;
        }
        let data = folder.join("data");
        fs::create_dir_all(&data).with_context(|| format!("cannot make {}", data.display()))?;
        // With its first token dna makes the secret that the servers beside it want, too.
        stage::make_tokens(&folder.join("first.csv"), 1, 1, &data)?;
        Ok(Self { folder, data, machine: Machine::this()? })
    }

    /// A folder of the part's own, made when it is not there.
    fn part(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.join(name);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(folder)
    }

    /// bench/results/<date>, or a place that is not kept for what is no result.
    fn results(&self, options: &Options, section: &Section) -> PathBuf {
        if options.quick || !section.lacks.is_empty() {
            return self.folder.join("no-result");
        }
        tree::root().join("bench/results").join(&self.machine.date)
    }
}

/// Builds bench/peers, the peers written in Rust.
fn build_peers() -> Result<()> {
    let mut build = tree::cargo();
    build.args(["build", "--release", "--locked", "--manifest-path", "bench/peers/Cargo.toml"]);
    build.arg("--target-dir").arg(peers());
    logged("peers in Rust", &mut build, |_| ()).map(|_| ())
}

/// Format, lints and tests of what no other check reaches, since bench/peers is a workspace of its own.
pub(crate) fn check_peers() -> Result<Vec<crate::command::Part>> {
    const MANIFEST: [&str; 2] = ["--manifest-path", "bench/peers/Cargo.toml"];
    logged("peers format", tree::cargo().arg("fmt").args(MANIFEST).arg("--check"), |_| ())?;
    let apart = |command: &str| {
        let mut cargo = tree::cargo();
        cargo
            .arg(command)
            .args(["--locked", "--all-targets"])
            .args(MANIFEST)
            .arg("--target-dir")
            .arg(peers());
        cargo
    };
    let lints = logged("peers lints", apart("clippy").args(["--", "-D", "warnings"]), |_| ())?;
    Ok(vec![lints, logged("peers tests", &mut apart("test"), |_| ())?])
}

fn peers() -> PathBuf {
    tree::target().join("bench-peers")
}

/// A program of bench/peers.
fn peer(name: &str) -> PathBuf {
    peers().join("release").join(name)
}

/// Starts the server of bench/peers that answers with as little as it can; `command` begins with its program.
fn start_bare_accept(mut command: Command, folder: &Path) -> Result<(Program, SocketAddr)> {
    let listen = free_port()?;
    let mut program = Program::start("bare-accept", command.args(["--listen", &listen.to_string()]), folder)?;
    program.wait_for(listen)?;
    Ok((program, listen))
}

/// Each of `all` once a round, in turn; every other round backwards, so that none always follows the same one.
fn in_turn<T>(rounds: usize, all: &[T], mut run: impl FnMut(usize, &T) -> Result<()>) -> Result<()> {
    for round in 0..rounds {
        let forth = all.iter();
        let order: Vec<_> = if round % 2 == 0 { forth.collect() } else { forth.rev().collect() };
        for one in order {
            if signal::received().is_some() {
                return Err(Interrupted.into());
            }
            run(round, one)?;
        }
    }
    Ok(())
}

/// A command as a person would type it in the repository's root.
fn words(command: &Command) -> String {
    let shown = |word: &std::ffi::OsStr| {
        let path = Path::new(word);
        let inside = path.strip_prefix(tree::root()).unwrap_or(path).display().to_string();
        if inside.contains(|c: char| c.is_whitespace() || "{}\"'$".contains(c)) {
            format!("'{inside}'")
        } else {
            inside
        }
    };
    let variables = command.get_envs().filter_map(|(name, value)| {
        // Secrets are made for each run.
        value.filter(|_| name != "JWT_SECRET").map(|value| format!("{}={}", name.display(), value.display()))
    });
    // What is not ours lies elsewhere on every machine.
    let program = Path::new(command.get_program());
    let program = match (program.starts_with(tree::root()), program.file_name()) {
        (false, Some(name)) => name,
        _ => program.as_os_str(),
    };
    let program = std::iter::once(shown(program));
    variables.chain(program).chain(command.get_args().map(shown)).collect::<Vec<_>>().join(" ")
}

/// Of a package in a Cargo.lock or a package-lock.json.
fn locked_version(file: &str, package: &str) -> Result<String> {
    let text = fs::read_to_string(tree::root().join(file)).with_context(|| format!("cannot read {file}"))?;
    version_in_lock(&text, package).with_context(|| format!("{file} has no {package}"))
}

fn version_in_lock(lock: &str, package: &str) -> Option<String> {
    let names = [format!("name = \"{package}\""), format!("\"node_modules/{package}\": {{")];
    let mut lines = lock.lines().skip_while(|line| !names.iter().any(|name| line.trim() == name));
    let version = lines.nth(1)?.split('"').rfind(|part| part.starts_with(|c: char| c.is_ascii_digit()))?;
    Some(version.to_owned())
}

/// The first line a program says of its version.
fn version(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("`{program}` is needed and cannot be started"))?;
    if !output.status.success() {
        bail!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_runs_each_round_and_the_order_turns() {
        let mut seen = Vec::new();
        in_turn(3, &["a", "b"], |round, name| {
            seen.push(format!("{round}{name}"));
            Ok(())
        })
        .expect("runs");
        assert_eq!(seen, ["0a", "0b", "1b", "1a", "2a", "2b"]);
    }

    #[test]
    fn a_command_is_shown_as_typed_and_without_the_secret() {
        let mut command = Command::new(tree::root().join("target/release/dna"));
        command.args(["serve", "a b"]).env("PORT", "1").env("JWT_SECRET", "hush");
        assert_eq!(words(&command), "PORT=1 target/release/dna serve 'a b'");
        assert_eq!(words(Command::new("/opt/bin/cargo").arg("bench")), "cargo bench");
    }

    #[test]
    fn versions_are_read_from_locks() {
        let cargo = "[[package]]\nname = \"a\"\nversion = \"1.2.3\"\n";
        let npm = "    \"node_modules/b\": {\n      \"version\": \"4.8.4\",\n";
        assert_eq!(version_in_lock(cargo, "a").as_deref(), Some("1.2.3"));
        assert_eq!(version_in_lock(npm, "b").as_deref(), Some("4.8.4"));
        assert_eq!(version_in_lock(npm, "c"), None);
    }
}
