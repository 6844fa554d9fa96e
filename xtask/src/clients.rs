//! `cargo xtask clients`: the official clients that e2e/tests/clients.rs talks through, each installed as its language does it.
//!
//! JavaScript beside its `package.json`, Python and Java under `target/clients/`; only what changed since the last time.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::command::{Part, logged};
use crate::{tree, web};

/// Versions of `io.socket:socket.io-client`: of Engine.IO 4, and of 3 as the journal's Android client had it.
const JAVA_CLIENTS: [(&str, &str); 2] = [("2.1.2", "Java client 2"), ("1.0.2", "Java client 1")];

/// What the drivers are built with and run on; how Debian and macOS get it.
const PROGRAMS: [(&str, &[&str], &str, &str); 3] = [
    (
        "python3",
        &["-c", "import venv, ensurepip"],
        "Python 3 with its venv module runs python-socketio",
        "apt-get install python3-venv | brew install python",
    ),
    (
        "javac",
        &["--release", "17", "-version"],
        "a JDK of 17 or newer runs the Java client",
        "apt-get install default-jdk-headless | brew install openjdk",
    ),
    ("mvn", &["--version"], "Maven fetches the Java client", "apt-get install maven | brew install maven"),
];

pub(crate) fn run() -> Result<u8> {
    need_programs()?;
    web::need_node()?;
    for install in [javascript, python, java] {
        install()?;
    }
    Ok(0)
}

/// Fails with what to do where Python, Java or Maven is absent.
pub(crate) fn need_programs() -> Result<()> {
    for (program, check, why, how) in PROGRAMS {
        let found = Command::new(program).args(check).output();
        if !found.is_ok_and(|output| output.status.success()) {
            bail!("`{program} {}` fails ({why}): {how}", check.join(" "));
        }
    }
    Ok(())
}

pub(crate) fn javascript() -> Result<Vec<Part>> {
    let part = web::install(&folder().join("js"), "JS clients")?;
    Ok(part.into_iter().collect())
}

/// Where [`python`] installs it.
pub(crate) fn python_program() -> PathBuf {
    python_home().join("bin/python")
}

fn python_home() -> PathBuf {
    tree::target().join("clients/python")
}

pub(crate) fn python() -> Result<Vec<Part>> {
    let requirements = folder().join("python/requirements.txt");
    let home = python_home();
    let done = home.join("installed");
    if is_newer(&done, [&requirements]) {
        return Ok(Vec::new());
    }
    let venv =
        logged("Python venv", Command::new("python3").args(["-m", "venv", "--clear"]).arg(&home), |_| ())?;
    let mut install = Command::new(python_program());
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]).arg(requirements);
    let client = logged("Python client", &mut install, |_| ())?;
    note(&done)?;
    Ok(vec![venv, client])
}

pub(crate) fn java() -> Result<Vec<Part>> {
    let project = folder().join("java");
    let sources = [project.join("pom.xml"), project.join("src/Driver.java")];
    let mut parts = Vec::new();
    for (version, name) in JAVA_CLIENTS {
        let home = tree::target().join(format!("clients/java-{version}"));
        let done = home.join("installed");
        if is_newer(&done, &sources) {
            continue;
        }
        let mut compile = Command::new("mvn");
        compile.current_dir(&project).args(["--batch-mode", "--quiet", "compile"]);
        compile.arg(format!("-Dclient.version={version}")).arg(format!("-Dhome={}", home.display()));
        parts.push(logged(name, &mut compile, |_| ())?);
        note(&done)?;
    }
    Ok(parts)
}

fn folder() -> PathBuf {
    tree::root().join("e2e/clients")
}

/// Written last, so that what was interrupted is done again.
fn note(done: &Path) -> Result<()> {
    std::fs::write(done, "").with_context(|| format!("cannot write {}", done.display()))
}

fn is_newer<'a>(done: &Path, sources: impl IntoIterator<Item = &'a PathBuf>) -> bool {
    let done = web::newest_change(done);
    done.is_some() && sources.into_iter().all(|source| web::newest_change(source) <= done)
}
