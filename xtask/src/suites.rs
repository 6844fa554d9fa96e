//! `cargo xtask suites --from DIR`: the protocols' official test suites against the example `protocol-echo`.
//!
//! The suites are others' work and not part of this repository: `DIR` is a checkout of the Socket.IO repository.
//! What is needed of it is copied to `target/suites`, packages are installed there, nothing in `DIR` changes.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::command::Part;
use crate::echo::Echo;
use crate::{tree, web};

/// Where the suites look for the server.
const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 3000);

struct Suite {
    name: &'static str,
    folder: &'static str,
    /// What `protocol-echo` speaks for it.
    protocol: &'static str,
    cases: u64,
}

const SUITES: [Suite; 3] = [
    Suite {
        name: "Engine.IO 3",
        folder: "docs/engine.io-protocol/v3-test-suite",
        protocol: "engine",
        cases: 23,
    },
    Suite {
        name: "Engine.IO 4",
        folder: "docs/engine.io-protocol/v4-test-suite",
        protocol: "engine",
        cases: 25,
    },
    Suite {
        name: "Socket.IO 5",
        folder: "docs/socket.io-protocol/v5-test-suite",
        protocol: "socket",
        cases: 32,
    },
];

#[derive(clap::Args)]
pub(crate) struct Options {
    /// A checkout of the Socket.IO repository (the folder that holds `docs/engine.io-protocol`).
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
}

pub(crate) fn run(options: &Options) -> Result<u8> {
    Ok(u8::from(!all(&options.from)?.1))
}

/// For the test command: a part of its summary, or why not.
pub(crate) fn part(from: &Path) -> Result<Part> {
    let started = std::time::Instant::now();
    let (note, whole) = all(from)?;
    if !whole {
        bail!("the official suites: {note}");
    }
    Ok(Part { name: "official suites", took: started.elapsed(), note })
}

/// Runs all suites; tells how many cases passed, and whether that is all.
fn all(from: &Path) -> Result<(String, bool)> {
    web::need_node()?;
    for suite in &SUITES {
        if !from.join(suite.folder).join("test-suite.js").is_file() {
            bail!(
                "{} has no {}/test-suite.js: --from takes a checkout of the Socket.IO repository",
                from.display(),
                suite.folder
            );
        }
    }
    if TcpListener::bind(ADDRESS).is_err() {
        bail!("the suites look for their server at {ADDRESS}, which is taken: end what listens there");
    }
    let (mut passed, mut cases) = (0, 0);
    for suite in &SUITES {
        let report = run_suite(from, suite)?;
        let count = |of: &str| report["stats"][of].as_u64().unwrap_or(0);
        println!(
            "  {:<22} {:>3} of {} passed, {} failed, {} skipped by the suite",
            suite.name,
            count("passes"),
            suite.cases,
            count("failures"),
            count("pending")
        );
        for failure in report["failures"].as_array().into_iter().flatten() {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            println!("    {}: {}", text(&failure["fullTitle"]), text(&failure["err"]["message"]));
        }
        passed += count("passes");
        cases += suite.cases;
    }
    println!("  {passed} of {cases}");
    Ok((format!("{passed} of {cases}"), passed == cases))
}

/// One suite's report, as mocha's JSON reporter gives it.
fn run_suite(from: &Path, suite: &Suite) -> Result<Value> {
    let folder = tree::target().join("suites").join(suite.name.replace(' ', "-"));
    copy(&from.join(suite.folder), &folder)?;
    web::install(&folder, "suite packages")?;
    let echo = Echo::start(&ADDRESS.to_string(), suite.protocol, &[])?;
    let mocha = Command::new(folder.join("node_modules/.bin/mocha"))
        .args(["--reporter", "json", "test-suite.js"])
        .current_dir(&folder)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output();
    drop(echo);
    let output = mocha.with_context(|| format!("{}: cannot start mocha", suite.name))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let json = text.find('{').map_or("", |at| &text[at..]);
    serde_json::from_str(json)
        .with_context(|| format!("{}: mocha gave no report: {}", suite.name, text.trim()))
}

/// The suite's own files; packages installed there before stay.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let path = entry?.path();
        let is_wanted = path.extension().is_some_and(|kind| kind == "js" || kind == "json");
        if let (true, Some(name)) = (is_wanted, path.file_name()) {
            let target = to.join(name);
            // Written only when it differs: packages are installed anew when their list is younger than they are.
            let text = fs::read(&path)?;
            if fs::read(&target).is_ok_and(|known| known == text) {
                continue;
            }
            fs::write(&target, text).with_context(|| format!("cannot write {}", target.display()))?;
        }
    }
    Ok(())
}
