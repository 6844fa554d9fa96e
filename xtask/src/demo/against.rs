//! `cargo xtask demo --against 2018`: what the journal's server does under the journal's load, measured as dna is.

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::{Interrupted, Options, Outcome, Part, Stage};
use crate::server_2018::{self, Server2018};
use crate::{signal, stage, tree};

/// Between the runs, so that neither meets the other's closing sockets.
const PAUSE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(super) enum Year {
    #[value(name = "2018")]
    Y2018,
}

pub(super) fn need_programs() -> Result<()> {
    server_2018::need_programs()
}

/// The load on the server of that year. Whatever it failed at is in its result, and no failure of the demo.
pub(super) fn load(
    Year::Y2018: Year,
    stage: &Stage,
    options: &Options,
    parts: &mut Vec<Part>,
) -> Result<Outcome> {
    parts.extend(server_2018::install()?);
    println!("\nThe chat server of 2018, at {}:\n", options.listen);
    let server = Server2018::start(options.listen, &stage::secret(&stage.data)?, &stage.folder)?;
    let (_, outcome) = stage.load(options, &stage.result(Some("2018")), "run 2018", parts)?;
    server.stop()?;
    if !outcome.result.is_file() {
        bail!("drumfire wrote no result of the chat server of 2018; the reason stands above");
    }
    let until = Instant::now() + PAUSE;
    while Instant::now() < until && signal::received().is_none() {
        thread::sleep(Duration::from_millis(50));
    }
    if signal::received().is_some() {
        outcome.print("2018 ");
        return Err(Interrupted.into());
    }
    Ok(outcome)
}

/// `drumfire compare`, in words here and as a page. Its exit code tells whether something became worse: not asked here.
pub(super) fn compare(before: &Outcome, after: &Outcome, page: &Path) -> Result<()> {
    let drumfire = || Command::new(tree::binary("drumfire"));
    let is_there = drumfire().args(["compare", "--help"]).output().is_ok_and(|help| help.status.success());
    if !is_there {
        println!("compare   this drumfire has no `compare` yet; both summaries stand above");
        return Ok(());
    }
    println!();
    let status = drumfire()
        .arg("compare")
        .args([&before.result, &after.result])
        .arg("-o")
        .arg(page)
        .status()
        .context("cannot start drumfire compare")?;
    if page.is_file() {
        println!("compare   {}", tree::shown(page));
    } else {
        bail!("drumfire compare wrote no page ({status})");
    }
    Ok(())
}
