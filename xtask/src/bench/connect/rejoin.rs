//! 15,000 people on the map lose their server, which is restarted, and come back by drumfire's listeners.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::bench::figure::Figure;
use crate::bench::goal::{Bound, Goal};
use crate::bench::report::Table;
use crate::bench::{Ground, Options, free_port, load};
use crate::command::{terminate, wait_for};
use crate::soak::watch::Process;
use crate::{stage, tree};

const SCRIPT: &str = "bench/rejoin.yml";
/// They stand for so long before their server goes, and after they are back: a second is told when it is over.
const STAND: Duration = Duration::from_millis(1_500);
const ENDED_WITHIN: Duration = Duration::from_secs(30);

pub(super) struct Rejoined {
    all: u64,
    rounds: Vec<Round>,
}

struct Round {
    /// From SIGTERM until the server has drained and ended.
    drained_s: f64,
    /// From SIGTERM until it serves again.
    serving_s: f64,
    /// From when it served again until all were on the map; `None` when they were not in time.
    back_s: Option<f64>,
    /// The longest from a listener's loss until its flow was done again, p99 and most.
    away_ms: [Option<f64>; 2],
    /// User-space bytes of each who stands on the map, before the restart.
    standing: f64,
    /// Attempts while there was no server.
    refused: u64,
    /// Beside the losses themselves and those.
    errors: Vec<String>,
}

/// With one token for each in `listeners.csv`.
pub(super) fn measure(options: &Options, ground: &Ground, folder: &Path, all: u64) -> Result<Rejoined> {
    fs::copy(tree::root().join(SCRIPT), folder.join("rejoin.yml")).context("cannot copy the script")?;
    let mut rounds = Vec::new();
    for round in 0..options.rounds() {
        let measured = Round::measure(ground, folder, all, round)?;
        println!("  {}", measured.line(round));
        rounds.push(measured);
    }
    Ok(Rejoined { all, rounds })
}

impl Round {
    fn measure(ground: &Ground, folder: &Path, all: u64, round: usize) -> Result<Self> {
        let listen = free_port()?;
        let mut dna = stage::serve(listen, &ground.data, &folder.join("dna.log"))?;
        let anonymous =
            |dna: &Child| Process::of(dna.id()).map_or(0.0, |process| process.anonymous_bytes as f64);
        let before = anonymous(&dna);
        let output = folder.join(format!("rejoin-{round}.json"));
        let mut drumfire = start(listen, folder, all, &output)?;
        let restart = |dna: &mut Child| -> Result<_> {
            load::until_all_stand(listen, all)?.context("not everybody came to stand in time")?;
            thread::sleep(STAND);
            let standing = (anonymous(dna) - before) / all as f64;
            let begun = Instant::now();
            stage::end(dna)?;
            let drained_s = begun.elapsed().as_secs_f64();
            *dna = stage::serve(listen, &ground.data, &folder.join("dna-again.log"))?;
            let serving_s = begun.elapsed().as_secs_f64();
            let back = load::until_all_stand(listen, all)?;
            thread::sleep(STAND);
            Ok((standing, drained_s, serving_s, back))
        };
        let restarted = restart(&mut dna);
        // Both end, whatever happened.
        terminate(&drumfire);
        let ended = wait_for(&mut drumfire, ENDED_WITHIN)?;
        if ended.is_none() {
            drumfire.kill()?;
            drumfire.wait()?;
        }
        stage::end(&mut dna)?;
        let (standing, drained_s, serving_s, back) = restarted?;
        let text =
            fs::read_to_string(&output).with_context(|| format!("drumfire wrote no {}", output.display()))?;
        let result: Value = serde_json::from_str(&text)?;
        let (refused, mut errors) = errors_of(&result);
        let returned = result["aggregate"]["counters"]["drumfire.connections.back"].as_u64().unwrap_or(0);
        if returned != all {
            errors.push(format!("{returned} of {all} came back"));
        }
        let away = |which: &str| result["aggregate"]["summaries"]["drumfire.reconnect"][which].as_f64();
        Ok(Self {
            drained_s,
            serving_s,
            back_s: back.map(|back| back.as_secs_f64()),
            away_ms: [away("p99"), away("max")],
            standing,
            refused,
            errors,
        })
    }

    fn line(&self, round: usize) -> String {
        format!(
            "restart              round {}: drained in {:.2} s, all back {} s after it served again, {} refused meanwhile, {:.0} bytes each on the map{}",
            round + 1,
            self.drained_s,
            self.back_s.map_or_else(|| "not".to_owned(), |back| format!("{back:.2}")),
            self.refused,
            self.standing,
            if self.errors.is_empty() { String::new() } else { format!("; {}", self.errors.join("; ")) },
        )
    }
}

fn start(listen: SocketAddr, folder: &Path, all: u64, output: &Path) -> Result<Child> {
    let log = File::create(folder.join("rejoin.log")).context("cannot write rejoin.log")?;
    command(listen, all)
        .arg("-o")
        .arg(output)
        .arg("rejoin.yml")
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("cannot start drumfire")
}

fn command(listen: SocketAddr, all: u64) -> Command {
    let listeners = load::people(all, load::MIDDLE, 20_000.0, (100.0, 1_000.0));
    let overrides = json!({"config": {"listeners": listeners}});
    let mut command = load::drumfire();
    command.args([
        "run",
        "--no-tui",
        "-t",
        &format!("http://{listen}"),
        "--overrides",
        &overrides.to_string(),
    ]);
    command
}

/// How many attempts met no server, and every other error but the losses, which were asked for.
fn errors_of(result: &Value) -> (u64, Vec<String>) {
    let mut refused = 0;
    let mut others = Vec::new();
    for error in result["drumfire"]["errors"].as_array().into_iter().flatten() {
        let count = error["count"].as_u64().unwrap_or(1);
        let cause = error["cause"].as_str().unwrap_or("unnamed");
        if cause.contains("ECONNREFUSED") {
            refused += count;
        } else if !cause.contains("1012") {
            others.push(format!("{count} × {cause}"));
        }
    }
    (refused, others)
}

impl Rejoined {
    pub(super) fn goal(&self) -> Goal {
        Goal {
            what: "restarts after which somebody met an error or did not come back".to_owned(),
            at: Bound::Most(0.0),
            measured: Some(
                self.rounds.iter().filter(|round| !round.errors.is_empty() || round.back_s.is_none()).count()
                    as f64,
            ),
            unit: "",
            decimals: 0,
        }
    }

    pub(super) fn table(&self) -> Table {
        let figure =
            |of: &dyn Fn(&Round) -> Option<f64>| Figure { rounds: self.rounds.iter().map(of).collect() };
        let row = |what: &str, figure: &Figure, decimals: usize| {
            vec![what.to_owned(), figure.text(decimals), figure.rounds_text(decimals)]
        };
        Table {
            caption: format!(
                "## {} people on the map, and a restart\n\nThe server gets SIGTERM, drains (1012), ends, and is started again on the same data; \
                 drumfire's listeners come back as official clients do, after 0.5 to 1.5 s, then longer. With `dna`'s usual limits.",
                crate::bench::figure::thousands(self.all as f64)
            ),
            columns: ["what", "median", "rounds"].map(str::to_owned).to_vec(),
            rows: vec![
                row("from SIGTERM to drained, s", &figure(&|round| Some(round.drained_s)), 2),
                row("from SIGTERM to serving again, s", &figure(&|round| Some(round.serving_s)), 2),
                row("from serving again to all on the map, s", &figure(&|round| round.back_s), 2),
                row("away, p99, ms", &figure(&|round| round.away_ms[0]), 0),
                row("away, longest, ms", &figure(&|round| round.away_ms[1]), 0),
                row(
                    "attempts refused while there was no server",
                    &figure(&|round| Some(round.refused as f64)),
                    0,
                ),
                row("other errors, kinds", &figure(&|round| Some(round.errors.len() as f64)), 0),
                row("user-space bytes of each on the map", &figure(&|round| Some(round.standing)), 0),
            ],
        }
    }

    pub(super) fn notes(&self) -> Vec<String> {
        let rounds = self.rounds.iter().enumerate().filter(|(_, round)| !round.errors.is_empty());
        rounds
            .map(|(round, found)| format!("restart, round {}: {}", round + 1, found.errors.join("; ")))
            .collect()
    }

    pub(super) fn json(&self) -> Vec<Value> {
        let rounds = self.rounds.iter().enumerate();
        rounds
            .map(|(number, round)| {
                json!({
                    "restart_with": self.all, "round": number + 1, "drained_s": round.drained_s, "serving_s": round.serving_s,
                    "back_s": round.back_s, "away_p99_ms": round.away_ms[0], "away_longest_ms": round.away_ms[1],
                    "refused": round.refused, "errors": round.errors, "bytes_on_the_map": round.standing,
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_and_an_absent_server_are_no_errors_of_the_restart() {
        let error = |cause: &str, count: u64| json!({"cause": cause, "count": count});
        let result = json!({"drumfire": {"errors": [
            error("disconnected: closed by the server: 1012 restarting", 15_000),
            error("tcp: ECONNREFUSED", 7),
            error("namespace: closed by the server: 1013 too many wait to join", 2),
        ]}});
        let (refused, others) = errors_of(&result);
        assert_eq!((refused, others.len()), (7, 1));
        assert!(others[0].starts_with("2 ×"));
    }
}
