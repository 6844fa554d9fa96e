//! The other testers: Artillery from npm, oha from crates.io, wrk from the distribution.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use crate::bench::locked_version;
use crate::command::logged;
use crate::{tree, web};

const OHA: &str = "1.16.0";

pub(super) struct Peers {
    pub(super) oha: PathBuf,
    pub(super) versions: Vec<(String, String)>,
}

impl Peers {
    /// Those that are there already are left as they are.
    pub(super) fn install() -> Result<Self> {
        web::need_node()?;
        let mut versions = Vec::new();
        for (folder, name) in [("e2e/artillery-1", "Artillery 1"), ("e2e/artillery-2", "Artillery 2")] {
            web::install(&tree::root().join(folder), name)?;
            let version = locked_version(&format!("{folder}/package-lock.json"), "artillery")?;
            versions.push((name.to_owned(), version));
        }
        let oha = oha()?;
        versions.push(("oha".to_owned(), OHA.to_owned()));
        versions.push(("wrk".to_owned(), wrk()?));
        need_taskset()?;
        Ok(Self { oha, versions })
    }
}

pub(super) fn artillery(folder: &str) -> Command {
    let mut command = Command::new(tree::root().join(folder).join("node_modules/.bin/artillery"));
    command.env("ARTILLERY_DISABLE_TELEMETRY", "true").env("CI", "true");
    command
}

fn oha() -> Result<PathBuf> {
    let home = tree::target().join("bench-tools");
    let program = home.join("bin/oha");
    let found = Command::new(&program).arg("--version").output();
    if !found.is_ok_and(|found| String::from_utf8_lossy(&found.stdout).contains(OHA)) {
        let mut install = tree::cargo();
        install.args(["install", "oha", "--locked", "--version", OHA, "--root"]).arg(&home);
        logged("oha", &mut install, |_| ())?;
    }
    Ok(program)
}

/// Its version; installed where this may be done without asking.
fn wrk() -> Result<String> {
    if let Some(version) = wrk_version() {
        return Ok(version);
    }
    if rustix::process::geteuid().is_root() {
        logged("wrk", Command::new("apt-get").args(["install", "--yes", "wrk"]), |_| ())?;
    }
    match wrk_version() {
        Some(version) => Ok(version),
        None => bail!("`wrk` is missing (plain GET beside drumfire): apt-get install wrk | brew install wrk"),
    }
}

/// It ends with 1 when asked, whatever it says.
fn wrk_version() -> Option<String> {
    let output = Command::new("wrk").arg("-v").output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    let line = String::from_utf8_lossy(&text).lines().next()?.to_owned();
    Some(line.strip_prefix("wrk ")?.split(' ').next()?.to_owned())
}

fn need_taskset() -> Result<()> {
    if Command::new("taskset").arg("--version").output().is_ok_and(|output| output.status.success()) {
        return Ok(());
    }
    bail!("`taskset` is missing (server and tester get a core each): apt-get install util-linux")
}
