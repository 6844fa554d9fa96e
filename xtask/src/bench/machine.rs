//! What the figures were measured on.

use std::fs;

use anyhow::Result;

use super::version;
use crate::tree;

pub(super) struct Machine {
    /// UTC, e.g. `2026-11-26`.
    pub(super) date: String,
    /// What and which: `processor`, `AMD EPYC, 2 cores`, ...
    pub(super) lines: Vec<(&'static str, String)>,
}

impl Machine {
    pub(super) fn this() -> Result<Self> {
        let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = field(&processors, "model name").unwrap_or("unknown processor");
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let memory = field(&memory, "MemTotal").and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
        let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
        let is_clean = git(&["status", "--porcelain", "--", "crates", "bench", "xtask", "Cargo.lock"])
            .is_ok_and(|changes| changes.is_empty());
        let clean = if is_clean { "" } else { " with changes that are not committed" };
        Ok(Self {
            date: version("date", &["--utc", "+%F"])?,
            lines: vec![
                ("measured", version("date", &["--utc", "+%F %H:%M UTC"])?),
                ("processor", format!("{model}, {cores} cores that servers and load share")),
                ("memory", memory.map_or_else(String::new, |kib| format!("{:.0} GiB", kib / 1_048_576.0))),
                ("system", version("uname", &["-sr"])?),
                ("this project", format!("{commit}{clean}")),
                ("Rust", version("rustc", &["--version"])?),
                ("Node", version("node", &["--version"])?),
            ],
        })
    }
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        (found.trim() == name).then_some(value.trim())
    })
}

fn git(arguments: &[&str]) -> Result<String> {
    let root = tree::root().display().to_string();
    version("git", &[&["-C", &root], arguments].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_whatever_their_margins() {
        assert_eq!(field("a\t: 1\nmodel name\t: A B\n", "model name"), Some("A B"));
        assert_eq!(field("", "x"), None);
    }
}
