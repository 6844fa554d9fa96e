//! The map page: packages, types, build.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context, Result, bail};

use crate::command::{Part, logged};
use crate::tree;

/// The source file that takes the page in.
const EMBEDS: &str = "crates/chat-server/src/http.rs";
/// What Vite asks for.
const OLDEST_NODE: (u32, u32) = (20, 19);

pub(crate) fn run() -> Result<u8> {
    need_node()?;
    check_and_build()?;
    println!(
        "\nThe page is in {}; the next build of dna embeds it.",
        tree::shown(&tree::root().join("web/dist"))
    );
    Ok(0)
}

/// Fails with what to do where Node is absent or too old.
pub(crate) fn need_node() -> Result<()> {
    let wanted = format!("Node {}.{} or newer with npm", OLDEST_NODE.0, OLDEST_NODE.1);
    let Some(version) = version_of("node") else {
        bail!(
            "{wanted} is needed and `node` is not on the PATH; install it from your distribution or nodejs.org"
        );
    };
    let mut numbers = version.trim_start_matches('v').split('.').map(|n| n.parse::<u32>().unwrap_or(0));
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if found < OLDEST_NODE {
        bail!("{wanted} is needed; `node` is {version}");
    }
    if version_of("npm").is_none() {
        bail!("{wanted} is needed; `npm` is not on the PATH");
    }
    Ok(())
}

fn version_of(program: &str) -> Option<String> {
    let output = Command::new(program).arg("--version").output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

pub(crate) fn check_and_build() -> Result<Vec<Part>> {
    let web = tree::root().join("web");
    let mut parts = Vec::new();
    parts.extend(install(&web, "web packages")?);
    parts.push(logged("web types", npm(&web).args(["run", "check"]), |_| ())?);
    parts.push(build(&web)?);
    Ok(parts)
}

/// Builds only what changed since the last time; for the demo.
pub(crate) fn build_if_stale() -> Result<Vec<Part>> {
    let web = tree::root().join("web");
    let mut parts = Vec::new();
    let sources = ["index.html", "package-lock.json", "public", "src", "vite.config.ts"];
    let newest = sources.iter().filter_map(|name| newest_change(&web.join(name))).max();
    if newest_change(&web.join("dist/index.html")) < newest {
        parts.extend(install(&web, "web packages")?);
        parts.push(build(&web)?);
    }
    Ok(parts)
}

fn build(web: &Path) -> Result<Part> {
    let is_first = !web.join("dist").exists();
    let part = logged("web build", npm(web).args(["run", "build"]), |_| ())?;
    if is_first {
        // A dna compiled without the page does not know the files it would have to watch for.
        let embeds = tree::root().join(EMBEDS);
        File::options()
            .append(true)
            .open(&embeds)
            .and_then(|file| file.set_modified(SystemTime::now()))
            .with_context(|| format!("cannot touch {}", embeds.display()))?;
    }
    Ok(part)
}

/// `npm ci` in `folder`, unless what is installed is younger than the lock file.
pub(crate) fn install(folder: &Path, name: &'static str) -> Result<Option<Part>> {
    let lock = folder.join("package-lock.json");
    let wanted = newest_change(&lock).with_context(|| format!("{} does not exist", lock.display()))?;
    // npm's own note of what it installed, written last.
    if newest_change(&folder.join("node_modules/.package-lock.json")).is_some_and(|done| done >= wanted) {
        return Ok(None);
    }
    // No package of ours needs its install scripts, so none is run.
    logged(name, npm(folder).args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]), |_| ()).map(Some)
}

fn npm(folder: &Path) -> Command {
    let mut command = Command::new("npm");
    command.current_dir(folder).env("NO_UPDATE_NOTIFIER", "1");
    command
}

pub(crate) fn newest_change(path: &Path) -> Option<SystemTime> {
    let data = fs::metadata(path).ok()?;
    if !data.is_dir() {
        return data.modified().ok();
    }
    fs::read_dir(path).ok()?.flatten().filter_map(|entry| newest_change(&entry.path())).max()
}
