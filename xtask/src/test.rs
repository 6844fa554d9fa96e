//! `cargo xtask test`: everything that must hold before a change lands. Cheap things first; nothing hides what follows it.

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::command::{Interrupted, Part, logged, seconds};
use crate::{clients, signal, suites, tidy, tree, web};

mod harness;

/// Official JavaScript clients and servers, and the real Artillery: what the end-to-end tests stand beside ours.
const JS_PACKAGES: [(&str, &str); 4] = [
    ("e2e/js", "e2e packages"),
    ("e2e/artillery-1", "Artillery 1"),
    ("e2e/artillery-2", "Artillery 2"),
    ("bench/2018", "2018 packages"),
];

/// Programs tests call; what each is for, and how Debian and macOS get it.
const PROGRAMS: [(&str, &str, &str); 3] = [
    ("git", "lists the project's files", "apt-get install git | xcode-select --install"),
    ("sqlite3", "reads what dna stored, independently of dna", "apt-get install sqlite3 | comes with macOS"),
    (
        "redis-server",
        "keeps the sessions of the chat server of 2018",
        "apt-get install redis-server | brew install redis",
    ),
];

#[derive(clap::Args)]
pub(crate) struct Options {
    /// A checkout of the Socket.IO repository, whose official protocol suites are then run, too.
    #[arg(long, value_name = "DIR")]
    suites: Option<PathBuf>,
}

pub(crate) fn run(options: &Options) -> Result<u8> {
    let started = Instant::now();
    need_programs()?;
    web::need_node()?;
    clients::need_programs()?;

    let mut summary = Summary::default();
    summary.add("tidy", tidy::part());
    summary.add("format", logged("format", tree::cargo().args(["fmt", "--all", "--check"]), |_| ()));
    // Before the build: dna embeds the page.
    summary.extend("web", web::check_and_build());
    summary.extend("peers", crate::bench::check_peers());
    summary.add("lints", logged("lints", tree::cargo().args(CLIPPY), |_| ()));
    // The end-to-end tests build the same way; any other selection of packages would compile everything twice.
    let built = logged("build", tree::cargo().args(tree::RELEASE_BUILD), |_| ());
    let is_built = built.is_ok();
    summary.add("build", built);
    // Without the programs the end-to-end tests' failures would say nothing.
    if is_built {
        for (folder, name) in JS_PACKAGES {
            let packages = web::install(&tree::root().join(folder), name);
            summary.extend(name, packages.map(|part| part.into_iter().collect()));
        }
        summary.extend("JS clients", clients::javascript());
        summary.extend("Python client", clients::python());
        summary.extend("Java clients", clients::java());
        let tests = logged("test build", tree::cargo().args(BUILD), |_| ());
        let are_built = tests.is_ok();
        summary.add("test build", tests);
        if are_built {
            match harness::tests() {
                Ok(lanes) => lanes.into_iter().for_each(|(name, part)| summary.add(name, part)),
                Err(error) => summary.add("tests", Err(error)),
            }
        }
    }
    // Built apart: under loom the atomics are others.
    summary.add(
        "every order",
        logged(
            "every order",
            tree::cargo()
                .args(["test", "--release", "--locked", "-p", "geo-index", "--test", "loom"])
                .env("RUSTFLAGS", "--cfg loom")
                .env("CARGO_TARGET_DIR", tree::target().join("loom")),
            |_| (),
        ),
    );
    match &options.suites {
        Some(from) => summary.add("official suites", suites::part(from)),
        None => println!(
            "  official suites         not run: cargo xtask suites --from <a checkout of the Socket.IO repository>"
        ),
    }
    summary.close(started)
}

const CLIPPY: [&str; 7] = ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
const BUILD: [&str; 4] = ["test", "--workspace", "--locked", "--no-run"];

fn need_programs() -> Result<()> {
    for (program, why, how) in PROGRAMS {
        if Command::new(program).arg("--version").output().is_err() {
            bail!("`{program}` is missing ({why}): {how}");
        }
    }
    Ok(())
}

#[derive(Default)]
struct Summary {
    parts: Vec<Part>,
    /// What failed, and the first words on why.
    failed: Vec<(&'static str, String)>,
}

impl Summary {
    fn add(&mut self, name: &'static str, part: Result<Part>) {
        self.extend(name, part.map(|part| vec![part]));
    }

    fn extend(&mut self, name: &'static str, parts: Result<Vec<Part>>) {
        match parts {
            Ok(parts) => self.parts.extend(parts),
            Err(error) => {
                eprintln!("\n{error:#}\n");
                self.failed.push((name, error.to_string()));
            }
        }
    }

    fn close(self, started: Instant) -> Result<u8> {
        if signal::received().is_some() {
            return Err(Interrupted.into());
        }
        println!();
        for part in &self.parts {
            println!("ok      {:<14} {:>8}  {}", part.name, seconds(part.took), part.note);
        }
        println!("{:<22} {:>8}", "in all", seconds(started.elapsed()));
        // Last, so that the end of a log is enough to know why.
        for (name, why) in &self.failed {
            let lines: Vec<&str> = why.lines().collect();
            let lines = &lines[lines.len().saturating_sub(harness::LINES_OF_A_REASON)..];
            println!("FAILED  {name}: {}", lines.join("\n        "));
        }
        Ok(u8::from(!self.failed.is_empty()))
    }
}
