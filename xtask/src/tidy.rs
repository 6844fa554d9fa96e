//! `cargo xtask tidy`: rules no compiler knows. Each complaint says how to mend it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::command::{Part, seconds};
use crate::{journal, licences, tree};

const LONGEST_FILE: usize = 1_000;
/// Written by tools, or kept byte for byte.
const NOT_OURS: [&str; 1] = ["Cargo.lock"];
const TEXT: [&str; 12] = ["rs", "ts", "js", "mjs", "css", "html", "md", "toml", "yml", "yaml", "sh", "sql"];

/// No members of the workspace.
const APART: [&str; 2] = ["fuzz/Cargo.toml", licences::PEERS];

/// The arrows of ARCHITECTURE.md: who may depend on whom among our crates.
const ARROWS: [(&str, &[&str]); 6] = [
    ("socketio-wire", &[]),
    ("geo-index", &[]),
    ("socketio-server", &["socketio-wire"]),
    ("socketio-client", &["socketio-wire"]),
    ("chat-server", &["socketio-server", "geo-index"]),
    ("load-tester", &["socketio-client"]),
];
/// No library knows a program, not even in its tests.
const PROGRAMS: [&str; 2] = ["chat-server", "load-tester"];

pub(crate) fn run() -> Result<u8> {
    part()?;
    Ok(0)
}

pub(crate) fn part() -> Result<Part> {
    let started = Instant::now();
    let files = tree::files()?;
    let metadata = metadata()?;
    let mut complaints = Vec::new();
    texts(&files, &mut complaints);
    documents(&files, &mut complaints);
    readmes(&metadata, &mut complaints);
    arrows(&metadata, &mut complaints);
    licences::check(&mut complaints)?;
    for manifest in APART {
        lock(manifest, &mut complaints)?;
    }
    let walked = journal::walk(&mut complaints)?;
    if !complaints.is_empty() {
        bail!("tidy found {}:\n  {}", complaints.len(), complaints.join("\n  "));
    }
    let part = Part { name: "tidy", took: started.elapsed(), note: walked };
    println!("  {:<22} {:>7}  {}", part.name, seconds(part.took), part.note);
    Ok(part)
}

fn metadata() -> Result<Value> {
    let output = tree::cargo()
        .args(["metadata", "--format-version", "1", "--locked", "--no-deps"])
        .output()
        .context("cannot start cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Cargo looks at no lock of another workspace, and `cargo fuzz` knows no `--locked`.
fn lock(manifest: &str, complaints: &mut Vec<String>) -> Result<()> {
    let output = tree::cargo()
        .args(["metadata", "--format-version", "1", "--locked", "--manifest-path", manifest])
        .output()
        .context("cannot start cargo metadata")?;
    if !output.status.success() {
        complaints.push(format!(
            "{manifest}: cargo update --workspace --manifest-path {manifest} may mend its lock: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        ));
    }
    Ok(())
}

fn has_extension(path: &Path, wanted: &[&str]) -> bool {
    path.extension().and_then(|e| e.to_str()).is_some_and(|e| wanted.contains(&e))
}

/// Lengths, and promises left in the code.
fn texts(files: &[PathBuf], complaints: &mut Vec<String>) {
    // Put together here so that this file does not complain of itself.
    let left_over = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:")];
    for path in files.iter().filter(|path| has_extension(path, &TEXT)) {
        let name = path.display();
        if NOT_OURS.contains(&name.to_string().as_str()) {
            continue;
        }
        let Ok(text) = fs::read_to_string(tree::root().join(path)) else {
            complaints.push(format!("{name} is not UTF-8: save it as UTF-8"));
            continue;
        };
        let lines = text.lines().count();
        if lines > LONGEST_FILE {
            complaints.push(format!(
                "{name} has {lines} lines: split it where its subjects part (at most {LONGEST_FILE})"
            ));
        }
        for (number, line) in text.lines().enumerate() {
            if let Some(word) = left_over.iter().find(|word| line.contains(**word)) {
                complaints.push(format!("{name}:{}: `{word}`: do it now or open an issue", number + 1));
            }
        }
    }
}

/// Links between documents lead somewhere, and the paths they name exist.
fn documents(files: &[PathBuf], complaints: &mut Vec<String>) {
    for path in files.iter().filter(|path| has_extension(path, &["md"])) {
        let Ok(text) = fs::read_to_string(tree::root().join(path)) else { continue };
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut fenced = false;
        for (number, line) in text.lines().enumerate() {
            if line.trim_start().starts_with("```") {
                fenced = !fenced;
            }
            if fenced || line.starts_with("    ") {
                continue;
            }
            let at = format!("{}:{}", path.display(), number + 1);
            for link in links(line) {
                if let Some(complaint) = broken(folder, path, link) {
                    complaints.push(format!("{at}: {complaint}"));
                }
            }
            for named in named_paths(line) {
                if !tree::root().join(named).exists() {
                    complaints.push(format!(
                        "{at}: `{named}` does not exist: follow the code that moved, or drop the mention"
                    ));
                }
            }
        }
    }
}

/// The targets of `[text](target)`.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split_once(')').map(|(target, _)| target))
}

/// Code spans that are paths from the root; patterns and commands are not.
fn named_paths(line: &str) -> impl Iterator<Item = &str> {
    const ROOTS: [&str; 8] =
        ["crates/", "web/src", "e2e/", "xtask/", "scenarios/", "docs/", "conformance/", "bench/"];
    /// Made by commands, not committed.
    const MADE: [&str; 2] = [".csv", "node_modules"];
    line.split('`').skip(1).step_by(2).map(|span| span.split("::").next().unwrap_or(span)).filter(|span| {
        ROOTS.iter().any(|root| span.starts_with(root))
            && !span.contains(['*', ' ', '{', '<', '…'])
            && !MADE.iter().any(|end| span.ends_with(end))
    })
}

fn broken(folder: &Path, document: &Path, link: &str) -> Option<String> {
    if link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
    let target = if file.is_empty() { document.to_path_buf() } else { normal(&folder.join(file)) };
    if !tree::root().join(&target).exists() {
        return Some(format!(
            "link to {link}: {} does not exist; correct the path or write the page",
            target.display()
        ));
    }
    if anchor.is_empty() || !has_extension(&target, &["md"]) {
        return None;
    }
    let text = fs::read_to_string(tree::root().join(&target)).unwrap_or_default();
    let found = text.lines().filter(|line| line.starts_with('#')).any(|heading| slug(heading) == anchor);
    (!found).then(|| format!("link to {link}: no heading `{anchor}` in {}", target.display()))
}

/// `a/../b` is `b`, without asking the file system.
fn normal(path: &Path) -> PathBuf {
    let mut parts = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(parts.pop()),
            Component::CurDir => (),
            other => parts.push(other),
        }
    }
    parts
}

/// A heading's anchor as code hosts make it.
fn slug(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    text.chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

fn members(metadata: &Value) -> Vec<&Value> {
    let ids: BTreeSet<_> = list(&metadata["workspace_members"]).filter_map(Value::as_str).collect();
    list(&metadata["packages"])
        .filter(|package| package["id"].as_str().is_some_and(|id| ids.contains(id)))
        .collect()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn readmes(metadata: &Value, complaints: &mut Vec<String>) {
    for package in members(metadata) {
        let manifest = Path::new(package["manifest_path"].as_str().unwrap_or_default());
        let folder = manifest.parent().unwrap_or(Path::new(""));
        if !folder.join("README.md").is_file() {
            let shown = folder.strip_prefix(tree::root()).unwrap_or(folder).display();
            complaints.push(format!("{shown} has no README.md: say in its first line what the crate is"));
        }
    }
}

fn arrows(metadata: &Value, complaints: &mut Vec<String>) {
    let ours: BTreeSet<_> = ARROWS.iter().map(|(name, _)| *name).collect();
    for package in members(metadata) {
        let from = package["name"].as_str().unwrap_or_default();
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == from) else { continue };
        for dependency in list(&package["dependencies"]) {
            let to = dependency["name"].as_str().unwrap_or_default();
            let in_tests = dependency["kind"] == "dev";
            let is_fine = if in_tests { !PROGRAMS.contains(&to) } else { allowed.contains(&to) };
            if ours.contains(to) && !is_fine {
                complaints.push(format!(
                    "{from} -> {to} is an arrow the wrong way: move what is shared down, or draw the arrow in ARCHITECTURE.md and in xtask/src/tidy.rs with its reason"
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;

    #[test]
    fn links_are_found_and_judged() {
        let found: Vec<_> =
            links("see [a](ARCHITECTURE.md) and [b](https://x.org/y), [c](#crates)").collect();
        assert_eq!(found, ["ARCHITECTURE.md", "https://x.org/y", "#crates"]);
        let at = Path::new("docs/operating.md");
        assert!(broken(Path::new("docs"), at, "../Cargo.toml").is_none());
        assert!(broken(Path::new("docs"), at, "../no-such-file.md").is_some());
        assert!(broken(Path::new("docs"), at, "https://example.org").is_none());
    }

    #[test]
    fn headings_become_anchors() {
        assert_eq!(slug("## The life of one message"), "the-life-of-one-message");
        assert_eq!(slug("### `dna serve`: flags"), "dna-serve-flags");
    }

    #[test]
    fn named_paths_are_code_spans_of_the_tree() {
        let found: Vec<_> =
            named_paths("`crates/x/src/a.rs::name` `cargo run` crates/no `docs/*.md` `scenarios/tokens.csv`")
                .collect();
        assert_eq!(found, ["crates/x/src/a.rs"]);
    }

    #[test]
    fn an_arrow_the_wrong_way_is_named() {
        let metadata = json!({
            "workspace_members": ["w", "l"],
            "packages": [
                {"id": "w", "name": "socketio-wire", "dependencies": [{"name": "geo-index", "kind": null}, {"name": "bytes", "kind": null}]},
                {"id": "l", "name": "geo-index", "dependencies": [{"name": "chat-server", "kind": "dev"}, {"name": "socketio-wire", "kind": "dev"}]},
            ],
        });
        let mut complaints = Vec::new();
        arrows(&metadata, &mut complaints);
        assert_eq!(complaints.len(), 2, "{complaints:?}");
        assert!(complaints[0].starts_with("socketio-wire -> geo-index"));
        assert!(complaints[1].starts_with("geo-index -> chat-server"));
    }
}
