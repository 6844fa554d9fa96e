//! Plain GET as fast as it goes, and whether users start when they are due.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::cost::Costs;
use super::{Bare, Stage, Tester, completed, on_core};
use crate::bench::child::{self, Ended};
use crate::bench::figure::Figure;
use crate::bench::goal::{Bound, Goal};
use crate::bench::report::Section;
use crate::bench::{in_turn, load};

const SCRIPT: &str = "requests";
/// As the script says.
const CONNECTIONS: &str = "50";
const SECONDS: u64 = 5;
/// Users a second, where lateness is looked at.
const RATE: u64 = 1_000;

const TESTERS: [Tester; 3] = [Tester::Drumfire, Tester::Oha, Tester::Wrk];

pub(super) fn measure(stage: &Stage<'_>, section: &mut Section) -> Result<()> {
    let testers = stage.wanted(&TESTERS);
    let seconds = stage.options.seconds_or(SECONDS);
    let mut costs = Costs::new("CPU for each plain GET", "request", "us", &testers);
    let mut lateness = Figure::default();
    let mut server = Bare::start(&stage.folder)?;
    let target = format!("http://{}", server.listen);
    let measured = in_turn(stage.rounds(), &testers, |round, tester| {
        let (ended, requests) = ask(stage, *tester, &target, seconds, round)?;
        costs.add(
            *tester,
            ended.cpu_s / requests.max(1.0) * 1e6,
            (requests == 0.0).then_some("no request"),
            section,
        )?;
        if *tester == Tester::Drumfire {
            let late = start_lateness(stage, &target, seconds, round)?;
            println!("  {:<28} {tester:<20} round {}: {late:.3} ms (p99)", "start lateness", round + 1);
            section.runs.push(json!({"what": "start lateness, p99", "tester": "drumfire", "round": round + 1, "value": late, "unit": "ms"}));
            lateness.rounds.push(Some(late));
        }
        Ok(())
    });
    server.program.stop()?;
    measured?;
    section.goals.push(Goal {
        what: "requests for a second of processor time, to oha".to_owned(),
        at: Bound::Least(0.9),
        measured: costs.of(Tester::Oha).over(&costs.of(Tester::Drumfire)).median(),
        unit: "",
        decimals: 2,
    });
    section.goals.push(Goal {
        what: format!(
            "start lateness, p99, {RATE} users a second who ask once ({})",
            lateness.rounds_text(2)
        ),
        at: Bound::Most(0.5),
        measured: lateness.median(),
        unit: "ms",
        decimals: 2,
    });
    let caption = format!(
        "{CONNECTIONS} connections, one request after the other on each for {seconds} s, to a server that answers with two letters. \
         Server and tester have a core each (`taskset`), every tester one thread; a tester that is at its limit is what is \
         measured here, so no load is too high."
    );
    costs.tell(Tester::Oha, &caption, section);
    section.commands.push(crate::bench::words(&closed(&target, seconds)));
    section.commands.push(crate::bench::words(&oha(&stage.peers.oha, &target, seconds)));
    section.commands.push(crate::bench::words(&wrk(&target, seconds)));
    Ok(())
}

/// What it cost, and how many were answered.
fn ask(stage: &Stage<'_>, tester: Tester, target: &str, seconds: u64, round: usize) -> Result<(Ended, f64)> {
    let name = format!("{SCRIPT}-{round}-{}", tester.name());
    Ok(match tester {
        Tester::Oha => {
            let ended = child::succeed(&mut oha(&stage.peers.oha, target, seconds), &stage.folder, &name)?;
            let told: Value = serde_json::from_str(&ended.said).context("oha's JSON")?;
            let codes = told["statusCodeDistribution"].as_object().context("oha's status codes")?;
            let requests = codes.values().filter_map(Value::as_f64).sum();
            (ended, requests)
        }
        Tester::Wrk => {
            let ended = child::succeed(&mut wrk(target, seconds), &stage.folder, &name)?;
            let requests = wrk_requests(&ended.said).with_context(|| format!("wrk said: {}", ended.said))?;
            (ended, requests)
        }
        _ => {
            let output = stage.folder.join(format!("{name}.json"));
            stage.script_command(tester, SCRIPT, target, &json!({}))?;
            let mut command = closed(target, seconds);
            command.arg("-o").arg(&output);
            let ended = child::succeed(command.arg(format!("{SCRIPT}.yml")), &stage.folder, &name)?;
            let result: Value = serde_json::from_str(&std::fs::read_to_string(&output)?)?;
            let requests = result["aggregate"]["counters"]["http.codes.200"].as_f64().unwrap_or(0.0);
            (ended, requests)
        }
    })
}

fn closed(target: &str, seconds: u64) -> Command {
    let overrides = json!({"config": {"phases": [{"duration": seconds, "concurrency": 50}]}});
    let mut command = on_core(1, Path::new(load::drumfire().get_program()));
    command.args(["run", "--quiet", "--workers", "1", "-t", target, "--overrides", &overrides.to_string()]);
    command
}

fn oha(program: &Path, target: &str, seconds: u64) -> Command {
    let mut command = on_core(1, program);
    command.args([
        "-z",
        &format!("{seconds}s"),
        "-c",
        CONNECTIONS,
        "--no-tui",
        "--output-format",
        "json",
        target,
    ]);
    command
}

fn wrk(target: &str, seconds: u64) -> Command {
    let mut command = on_core(1, Path::new("wrk"));
    command.args(["-t1", "-c", CONNECTIONS, "-d", &format!("{seconds}s"), target]);
    command
}

/// `  123456 requests in 5.00s, 9.9MB read`
fn wrk_requests(said: &str) -> Option<f64> {
    let line = said.lines().find(|line| line.contains(" requests in "))?;
    line.split_whitespace().next()?.parse().ok()
}

/// p99, milliseconds.
fn start_lateness(stage: &Stage<'_>, target: &str, seconds: u64, round: usize) -> Result<f64> {
    let overrides = json!({
        "config": {"phases": [{"duration": seconds, "arrivalRate": RATE}]},
        "scenarios": [{"flow": [{"get": {"url": "/"}}]}],
    });
    let (_, result) = stage.script(Tester::Drumfire, SCRIPT, target, &overrides, &format!("late-{round}"))?;
    let (users, errors) = completed(&result);
    anyhow::ensure!(users == seconds * RATE && errors == 0, "{users} users completed, {errors} errors");
    result["aggregate"]["summaries"]["drumfire.start_lateness"]["p99"].as_f64().context("start lateness")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrks_words_are_read() {
        let said = "Running 5s test @ http://127.0.0.1:1\n  1 threads and 50 connections\n  372101 requests in 5.05s, 26.97MB read\n";
        assert_eq!(wrk_requests(said), Some(372_101.0));
        assert_eq!(wrk_requests("unable to connect"), None);
    }
}
