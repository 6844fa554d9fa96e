//! What the libraries' licences ask, checked against the list in `deny.toml` without needing `cargo deny`.

use std::fs;

use anyhow::{Context, Result, bail};

use crate::tree;

/// Not given away with our programs, but committed with their lock.
pub(crate) const PEERS: &str = "bench/peers/Cargo.toml";

pub(crate) fn check(complaints: &mut Vec<String>) -> Result<()> {
    let text = fs::read_to_string(tree::root().join("deny.toml")).context("cannot read deny.toml")?;
    let allowed = allowed(&text);
    for manifest in ["Cargo.toml", PEERS] {
        workspace(manifest, &allowed, complaints)?;
    }
    Ok(())
}

fn workspace(manifest: &str, allowed: &[&str], complaints: &mut Vec<String>) -> Result<()> {
    // `cargo tree` and not `cargo metadata`: only it leaves out what no feature of ours pulls in.
    let output = tree::cargo()
        .args([
            "tree",
            "--workspace",
            "--manifest-path",
            manifest,
            "--locked",
            "--edges",
            "normal,build,dev",
            "--prefix",
            "none",
            "--no-dedupe",
        ])
        .args(["--format", "{p}|{l}"])
        .output()
        .context("cannot start cargo tree")?;
    if !output.status.success() {
        bail!("cargo tree failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let tree = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut packages: Vec<_> = tree.lines().filter_map(|line| line.split_once('|')).collect();
    packages.sort_unstable();
    packages.dedup();
    for (name, expression) in packages {
        if !permits(expression, allowed) {
            let under = if expression.is_empty() { "no named licence" } else { expression };
            complaints.push(format!(
                "{name} is under {under}: choose another library, or allow it in deny.toml with the reason"
            ));
        }
    }
    Ok(())
}

/// The strings of `allow = [...]` under `[licenses]`.
fn allowed(deny: &str) -> Vec<&str> {
    let list = deny
        .split("[licenses]")
        .nth(1)
        .and_then(|rest| rest.split_once("allow = ["))
        .map_or("", |(_, rest)| rest);
    let list = list.split_once(']').map_or("", |(list, _)| list);
    list.lines().filter_map(|line| line.split('"').nth(1)).collect()
}

/// SPDX: OR binds weaker than AND; the old `/` means OR. `WITH` belongs to the name before it.
fn permits(expression: &str, allowed: &[&str]) -> bool {
    let spaced =
        expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ").replace(" WITH ", "+WITH+");
    let words: Vec<_> = spaced.split_whitespace().collect();
    let (value, rest) = any_of(&words, allowed);
    value && rest.is_empty()
}

fn any_of<'a, 'b>(words: &'a [&'b str], allowed: &[&str]) -> (bool, &'a [&'b str]) {
    let (mut value, mut rest) = all_of(words, allowed);
    while let Some((&"OR", after)) = rest.split_first() {
        let (next, after) = all_of(after, allowed);
        (value, rest) = (value || next, after);
    }
    (value, rest)
}

fn all_of<'a, 'b>(words: &'a [&'b str], allowed: &[&str]) -> (bool, &'a [&'b str]) {
    let (mut value, mut rest) = one(words, allowed);
    while let Some((&"AND", after)) = rest.split_first() {
        let (next, after) = one(after, allowed);
        (value, rest) = (value && next, after);
    }
    (value, rest)
}

fn one<'a, 'b>(words: &'a [&'b str], allowed: &[&str]) -> (bool, &'a [&'b str]) {
    match words.split_first() {
        Some((&"(", inner)) => {
            let (value, rest) = any_of(inner, allowed);
            match rest.split_first() {
                Some((&")", after)) => (value, after),
                _ => (false, rest),
            }
        }
        Some((name, rest)) => (allowed.contains(&name.replace("+WITH+", " WITH ").as_str()), rest),
        None => (false, words),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions() {
        let allowed = ["MIT", "Apache-2.0", "Unicode-3.0"];
        for (expression, expected) in [
            ("MIT", true),
            ("GPL-3.0", false),
            ("MIT OR GPL-3.0", true),
            ("Apache-2.0/MIT", true),
            ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
            ("MIT AND GPL-3.0", false),
            ("GPL-3.0 AND (MIT", false),
            ("Apache-2.0 WITH LLVM-exception", false),
            ("Apache-2.0 WITH LLVM-exception OR MIT", true),
            ("", false),
        ] {
            assert_eq!(permits(expression, &allowed), expected, "{expression}");
        }
    }

    #[test]
    fn the_list_is_read() {
        let deny = "[licenses]\nversion = 2\nallow = [\n  \"MIT\", # ours\n  \"ISC\",\n]\n[bans]\n";
        assert_eq!(allowed(deny), ["MIT", "ISC"]);
    }
}
