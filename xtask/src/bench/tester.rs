//! Load testers: what a user, a message, a request and an idle user cost `drumfire` and others, and whether it is on time.

mod cost; // a row of rounds for each tester, and its table
mod idle; // memory of users who say nothing
mod journal; // the journal's user, and ten times the journal's rate
mod messages; // WebSocket messages
mod peers; // the other testers, installed
mod requests; // plain GET, and lateness

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::child::{self, Ended};
use super::report::Section;
use super::{Ground, MOST_LATE_MS, MOST_OF_A_CORE, Options, build_peers, cpu, load, peer, start_bare_accept};
use crate::program::Program;
use crate::tree;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tester {
    Bare,
    Drumfire,
    Artillery1,
    Artillery2,
    Oha,
    Wrk,
}

impl Tester {
    /// For `--only` and files.
    fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Drumfire => "drumfire",
            Self::Artillery1 => "artillery-1",
            Self::Artillery2 => "artillery-2",
            Self::Oha => "oha",
            Self::Wrk => "wrk",
        }
    }
}

impl fmt::Display for Tester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bare => "system calls alone",
            Self::Drumfire => "drumfire",
            Self::Artillery1 => "Artillery 1.7.9",
            Self::Artillery2 => "Artillery 2.0.21",
            Self::Oha => "oha",
            Self::Wrk => "wrk",
        })
    }
}

/// What all measurements of this part stand on.
struct Stage<'a> {
    options: &'a Options,
    ground: &'a Ground,
    folder: PathBuf,
    peers: peers::Peers,
}

impl Stage<'_> {
    fn rounds(&self) -> usize {
        self.options.rounds()
    }

    fn wanted(&self, all: &[Tester]) -> Vec<Tester> {
        all.iter().copied().filter(|tester| self.options.wants(tester.name())).collect()
    }

    /// A tester that reads Artillery scripts runs one of them; its result file beside what it cost.
    fn script(
        &self,
        tester: Tester,
        script: &str,
        target: &str,
        overrides: &Value,
        name: &str,
    ) -> Result<(Ended, Value)> {
        let name = format!("{script}-{name}-{}", tester.name());
        let output = self.folder.join(format!("{name}.json"));
        let mut command = self.script_command(tester, script, target, overrides)?;
        command.arg("-o").arg(&output);
        let ended = child::succeed(command.arg(format!("{script}.yml")), &self.folder, &name)?;
        let text = std::fs::read_to_string(&output)
            .with_context(|| format!("{tester} wrote no {}", output.display()))?;
        Ok((ended, serde_json::from_str(&text)?))
    }

    fn script_command(
        &self,
        tester: Tester,
        script: &str,
        target: &str,
        overrides: &Value,
    ) -> Result<Command> {
        let copy = self.folder.join(format!("{script}.yml"));
        let from = if script == "journal" { "scenarios" } else { "bench" };
        std::fs::copy(tree::root().join(from).join(format!("{script}.yml")), &copy)
            .with_context(|| format!("cannot write {}", copy.display()))?;
        let mut command = match tester {
            Tester::Artillery1 => peers::artillery("e2e/artillery-1"),
            Tester::Artillery2 => peers::artillery("e2e/artillery-2"),
            _ => load::drumfire(),
        };
        command.args(["run", "--quiet", "-t", target, "--overrides", &overrides.to_string()]);
        Ok(command)
    }

    /// As typed.
    fn shown(&self, tester: Tester, script: &str, overrides: &Value) -> Result<String> {
        let mut command = self.script_command(tester, script, "http://127.0.0.1:PORT", overrides)?;
        Ok(super::words(command.arg(format!("{script}.yml"))))
    }
}

/// The server of `bench-peers` that answers with as little as it can.
struct Bare {
    program: Program,
    listen: SocketAddr,
}

impl Bare {
    /// On the first core, where there is another one for the tester.
    fn start(folder: &Path) -> Result<Self> {
        let (program, listen) = start_bare_accept(on_core(0, &peer("bare-accept")), folder)?;
        Ok(Self { program, listen })
    }
}

/// Of server and tester each gets a core of its own.
fn on_core(core: usize, program: &Path) -> Command {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if core >= cores {
        return Command::new(program);
    }
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", &core.to_string()]).arg(program);
    command
}

/// Cores that a process used while `run` went on.
fn watched<T>(pid: u32, run: impl FnOnce() -> Result<(Ended, T)>) -> Result<(Ended, T, f64)> {
    let used = || cpu::used(&cpu::process(pid)).context("the server has gone");
    let before = used()?;
    let (ended, told) = run()?;
    let cores = (used()? - before) / ended.wall_s;
    Ok((ended, told, cores))
}

/// Why what stands opposite the tester, or its own clock, makes a run worthless.
fn doubts(tester: Tester, result: &Value, server_cores: f64) -> Option<String> {
    if server_cores > MOST_OF_A_CORE {
        return Some(format!("the server took {:.0} % of a core", server_cores * 100.0));
    }
    match tester {
        Tester::Drumfire if result["drumfire"]["validity"]["valid"] != true => {
            Some("drumfire says itself that it was late".to_owned())
        }
        Tester::Bare => {
            let late = result["start_lateness_ms"]["p99"].as_f64().unwrap_or(f64::INFINITY);
            (late > MOST_LATE_MS).then(|| format!("late by {late:.0} ms (p99)"))
        }
        _ => None,
    }
}

/// Why a run in which not everybody completed, or somebody met an error, is worthless.
fn unfinished(result: &Value, users: u64) -> Option<String> {
    match completed(result) {
        (completed, 0) if completed == users => None,
        (completed, errors) => Some(format!("{completed} of {users} completed, {errors} errors")),
    }
}

/// Users completed, and errors, in the result files of `drumfire` and both kinds of Artillery.
fn completed(result: &Value) -> (u64, u64) {
    let aggregate = &result["aggregate"];
    let sum = |counts: &Value, of: &str| -> u64 {
        let counts = counts.as_object().into_iter().flatten();
        counts.filter(|(name, _)| name.starts_with(of)).filter_map(|(_, count)| count.as_u64()).sum()
    };
    if let Some(users) = result["users"].as_u64() {
        return (result["completed"].as_u64().unwrap_or(0), result["errors"].as_u64().unwrap_or(users));
    }
    let counters = &aggregate["counters"];
    if let Some(completed) = counters["vusers.completed"].as_u64() {
        return (completed, sum(counters, "errors."));
    }
    (aggregate["scenariosCompleted"].as_u64().unwrap_or(0), sum(&aggregate["errors"], ""))
}

pub(super) fn run(options: &Options, ground: &Ground) -> Result<Section> {
    build_peers()?;
    let stage = Stage { options, ground, folder: ground.part("tester")?, peers: peers::Peers::install()? };
    let mut section = Section {
        title: "Load testers: what a user, a message, a request and an idle user cost".to_owned(),
        text: words(),
        versions: stage.peers.versions.clone(),
        notes: vec!["k6 is left out: its licence, the AGPL, keeps it from being installed here.".to_owned()],
        commands: vec!["cargo xtask bench tester".to_owned()],
        ..Section::default()
    };
    // First, for it tells what a tester's start alone costs.
    let starts = idle::measure(&stage, &mut section)?;
    journal::measure(&stage, &starts, &mut section)?;
    messages::measure(&stage, &starts, &mut section)?;
    requests::measure(&stage, &mut section)?;
    journal::tenfold(&stage, &mut section)?;
    Ok(section)
}

fn words() -> Vec<String> {
    vec![
        "Processor time of the whole process, from its start to its end, all threads and children, as the operating system \
         accounts for it when the process is reaped (`wait4`); memory is the resident memory of the process and its children, \
         looked at 50 times a second. Medians of the rounds beside them; in each round all testers run in turn."
            .to_owned(),
        "`system calls alone` is the same user in Rust without a runtime: one thread on epoll, due instants from a timerfd, and \
         nothing counted but lateness (`bench/peers/src/bin/bare-user.rs`). It is the floor under every tester."
            .to_owned(),
        "A round counts when every user completed without an error, `drumfire` and the floor kept their own time (p99 of start \
         lateness within 50 ms), and the server opposite took at most 80 % of a core. Artillery does not tell how late it is."
            .to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn users_are_counted_in_every_form_of_result() {
        let v2 = json!({"aggregate": {"counters": {"vusers.completed": 7, "errors.a": 2, "errors.b": 1}}});
        assert_eq!(completed(&v2), (7, 3));
        assert_eq!(
            completed(&json!({"aggregate": {"scenariosCompleted": 5, "counters": {}, "errors": {"x": 4}}})),
            (5, 4)
        );
        assert_eq!(completed(&json!({"users": 9, "completed": 8, "errors": 1})), (8, 1));
        assert_eq!(completed(&json!({})), (0, 0));
    }

    #[test]
    fn a_busy_server_or_a_late_tester_is_doubted() {
        let valid = json!({"drumfire": {"validity": {"valid": true}}});
        assert_eq!(doubts(Tester::Drumfire, &valid, 0.3), None);
        assert!(doubts(Tester::Drumfire, &valid, 0.9).is_some());
        assert!(doubts(Tester::Drumfire, &json!({}), 0.3).is_some());
        assert!(doubts(Tester::Bare, &json!({"start_lateness_ms": {"p99": 60.0}}), 0.3).is_some());
    }
}
