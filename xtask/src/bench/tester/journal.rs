//! The journal's own file: what one of its users costs each tester, and ten times its rate.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::cost::Costs;
use super::idle::Starts;
use super::{Stage, Tester, completed, doubts, unfinished, watched};
use crate::bench::fanout::{Peer, Server};
use crate::bench::figure::thousands;
use crate::bench::goal::{Bound, Goal};
use crate::bench::report::{Section, Table};
use crate::bench::{child, free_port, in_turn, peer};
use crate::{stage, tree};

const SCRIPT: &str = "journal";
/// As the file says.
const RATE: u64 = 300;
const SECONDS: u64 = 6;
const TENFOLD_SECONDS: u64 = 30;

const TESTERS: [Tester; 4] = [Tester::Bare, Tester::Drumfire, Tester::Artillery1, Tester::Artillery2];

pub(super) fn measure(stage: &Stage<'_>, starts: &Starts, section: &mut Section) -> Result<()> {
    let testers = stage.wanted(&TESTERS);
    let seconds = stage.options.seconds_or(SECONDS);
    let users = RATE * seconds;
    let tokens = stage.folder.join("tokens.csv");
    stage::make_tokens(&tokens, 1, users, &stage.ground.data)?;
    let mut whole = Costs::new("CPU for each of the journal's users", "user", "ms", &testers);
    whole.decimals = 3;
    let mut without = Costs::new("The same without the tester's start", "user-without-start", "ms", &testers);
    without.decimals = 3;
    let overrides = phases(RATE, seconds);
    let listen = free_port()?;
    let (server, pids) = Server::start(stage.ground, Peer::Dna, listen, &stage.folder)?;
    let pid = *pids.first().context("dna's process")?;
    let target = format!("http://{listen}");
    let measured = in_turn(stage.rounds(), &testers, |round, tester| {
        let (ended, result, server_cores) = watched(pid, || {
            if *tester != Tester::Bare {
                return stage.script(*tester, SCRIPT, &target, &overrides, &round.to_string());
            }
            let mut command = Command::new(peer("bare-user"));
            command.args(["--target", &listen.to_string(), "--rate", &RATE.to_string()]);
            command.args(["--seconds", &seconds.to_string(), "--tokens"]).arg(&tokens);
            let ended = child::succeed(&mut command, &stage.folder, &format!("bare-user-{round}"))?;
            let result = serde_json::from_str(&ended.said)?;
            Ok((ended, result))
        })?;
        let doubt = unfinished(&result, users).or_else(|| doubts(*tester, &result, server_cores));
        let each = |cpu_s: f64| cpu_s / users as f64 * 1e3;
        whole.add(*tester, each(ended.cpu_s), doubt.as_deref(), section)?;
        without.add(*tester, each(ended.cpu_s - starts.of(*tester)), doubt.as_deref(), section)
    });
    server.stop()?;
    measured?;
    section.goals.push(Goal {
        what: "CPU of a user of the journal's file, to the system calls alone".to_owned(),
        at: Bound::Most(2.0),
        measured: whole.of(Tester::Drumfire).over(&whole.of(Tester::Bare)).median(),
        unit: "",
        decimals: 2,
    });
    section.goals.push(Goal {
        what: "times cheaper than Artillery 1.7.9, whose start is left out".to_owned(),
        at: Bound::Least(8.0),
        measured: without.of(Tester::Artillery1).over(&whole.of(Tester::Drumfire)).median(),
        unit: "",
        decimals: 1,
    });
    let caption = format!(
        "`scenarios/journal.yml`, unchanged but for its {seconds} s in place of 30: {RATE} users a second, each a `GET /`, a \
         Socket.IO connection, one message, a second of thinking. Against `dna` without its limits."
    );
    whole.tell(Tester::Bare, &caption, section);
    without.tell(Tester::Bare, "Less the processor time of a run with one user.", section);
    section.commands.push(stage.shown(Tester::Drumfire, SCRIPT, &overrides)?);
    section.commands.push(stage.shown(Tester::Artillery1, SCRIPT, &overrides)?);
    Ok(())
}

fn phases(rate: u64, seconds: u64) -> Value {
    json!({"config": {"phases": [{"duration": seconds, "arrivalRate": rate}]}})
}

/// Everybody completes, nobody errs, and every message is in the database.
pub(super) fn tenfold(stage: &Stage<'_>, section: &mut Section) -> Result<()> {
    if !stage.options.wants(Tester::Drumfire.name()) {
        return Ok(());
    }
    let (rate, seconds) = (RATE * 10, stage.options.seconds_or(TENFOLD_SECONDS));
    let users = rate * seconds;
    // A database of its own, so that every row in it is of this run.
    let data = stage.folder.join("tenfold-data");
    fs::create_dir_all(&data).with_context(|| format!("cannot make {}", data.display()))?;
    stage::make_tokens(&stage.folder.join("tokens.csv"), 1, users, &data)?;
    let listen = free_port()?;
    let mut dna = Command::new(tree::binary("dna"));
    dna.env("DNA_NO_LIMITS", "true");
    let mut dna = stage::serve_as(dna, listen, &data, &stage.folder.join("tenfold-dna.log"))?;
    let overrides = phases(rate, seconds);
    let run = || stage.script(Tester::Drumfire, SCRIPT, &format!("http://{listen}"), &overrides, "tenfold");
    let ran = watched(dna.id(), run);
    stage::end(&mut dna)?;
    let (ended, result, server_cores) = ran?;
    let (done, errors) = completed(&result);
    let rows = rows(&data)?;
    let is_valid = result["drumfire"]["validity"]["valid"] == true;
    let late =
        result["aggregate"]["summaries"]["drumfire.start_lateness"]["p99"].as_f64().unwrap_or(f64::NAN);
    println!(
        "  ten times the rate: {done} of {users} completed, {errors} errors, {rows} rows, late by {late:.2} ms (p99)"
    );
    section.runs.push(json!({
        "what": "ten times the journal's rate", "users": users, "completed": done, "errors": errors, "rows": rows,
        "start_lateness_p99_ms": late, "valid": is_valid, "drumfire_cpu_s": ended.cpu_s, "dna_cores": server_cores,
    }));
    let exactly = |what: &str, measured: u64| Goal {
        what: format!("ten times the journal's rate, {seconds} s: {what}"),
        at: Bound::Least(users as f64),
        measured: Some(measured as f64),
        unit: "",
        decimals: 0,
    };
    section.goals.push(exactly("users completed", done));
    section.goals.push(Goal {
        what: "ten times the journal's rate: errors".to_owned(),
        at: Bound::Most(0.0),
        measured: Some(errors as f64),
        unit: "",
        decimals: 0,
    });
    section.goals.push(exactly("rows in the test world's database", rows));
    if !is_valid {
        section
            .notes
            .push(format!("ten times the journal's rate: drumfire was late itself ({late:.1} ms at p99)"));
    }
    section.tables.push(Table {
        caption: "## Ten times the journal's rate\n\nOnce, `dna` started with `--no-limits`: its limits let one place say 1,000 things a second, \
                  and everybody says theirs at the same one."
            .to_owned(),
        columns: ["", "figure"].map(str::to_owned).to_vec(),
        rows: [
            ("users due", thousands(users as f64)),
            ("completed", thousands(done as f64)),
            ("errors", thousands(errors as f64)),
            ("rows in the test world's database", thousands(rows as f64)),
            ("start lateness, p99, ms", format!("{late:.2}")),
            ("drumfire, CPU for each user, ms", format!("{:.3}", ended.cpu_s / users as f64 * 1e3)),
            ("dna, cores", format!("{server_cores:.2}")),
        ]
        .map(|(what, figure)| vec![what.to_owned(), figure])
        .to_vec(),
    });
    Ok(())
}

/// Messages in the test world's database, counted by a program that is not ours.
fn rows(data: &std::path::Path) -> Result<u64> {
    let output = Command::new("sqlite3")
        .arg("-readonly")
        .arg(data.join("dna-test.db"))
        .arg("SELECT count(*) FROM message")
        .output()
        .context("`sqlite3` counts what dna stored: apt-get install sqlite3")?;
    anyhow::ensure!(output.status.success(), "sqlite3: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8_lossy(&output.stdout).trim().parse()?)
}
