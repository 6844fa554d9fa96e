//! What is seen of a process from outside, and what `dna` says of itself.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use crate::stage;

/// A process at one instant.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Process {
    pub(crate) rss_bytes: u64,
    /// Memory that is no file's: heap and stacks.
    pub(crate) anonymous_bytes: u64,
    pub(crate) threads: u64,
    pub(crate) open_files: u64,
}

impl Process {
    /// The most bytes it ever had in memory.
    pub(crate) fn most_memory(pid: u32) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        number_in(&status, "VmHWM").map(|kilobytes| kilobytes * 1024)
    }

    /// `None` when it is gone, or where there is no `/proc`.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let number = |name: &str| number_in(&status, name);
        Some(Self {
            rss_bytes: number("VmRSS")? * 1024,
            anonymous_bytes: number("RssAnon").unwrap_or(0) * 1024,
            threads: number("Threads")?,
            open_files: fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |entries| entries.count() as u64),
        })
    }
}

fn number_in(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Both processes at one instant.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) at: Duration,
    pub(crate) dna: Process,
    pub(crate) drumfire: Process,
    pub(crate) connections: u64,
}

impl Sample {
    pub(crate) fn json(&self) -> Value {
        let process = |of: &Process| json!([of.rss_bytes, of.anonymous_bytes, of.threads, of.open_files]);
        json!({
            "at_s": self.at.as_secs(),
            "dna": process(&self.dna),
            "drumfire": process(&self.drumfire),
            "connections": self.connections,
        })
    }
}

/// What `/metrics` says.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Figures {
    pub(crate) deliveries: u64,
    pub(crate) wal_bytes: u64,
    pub(crate) connected: u64,
    /// On the map, in both worlds.
    pub(crate) people: u64,
}

impl Figures {
    pub(crate) fn of(listen: SocketAddr) -> Option<Self> {
        Some(Self::read(&stage::get(listen, "/metrics")?))
    }

    fn read(text: &str) -> Self {
        let number = |name: &str| sample(text, name).unwrap_or(0);
        Self {
            deliveries: number("dna_deliveries_total{world=\"test\"}"),
            wal_bytes: number("dna_wal_bytes{world=\"test\"}"),
            connected: number("dna_connected"),
            people: number("dna_people{world=\"live\"}") + number("dna_people{world=\"test\"}"),
        }
    }
}

/// A sample of `/metrics` by its whole name.
pub(crate) fn sample(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?.trim().parse().ok()
}

/// One minute of a soak.
#[derive(Debug, Clone)]
pub(crate) struct Minute {
    pub(crate) number: u64,
    pub(crate) deliveries_per_s: u64,
    /// Of the worst ten seconds, milliseconds.
    pub(crate) p99_ms: f64,
    pub(crate) sample: Sample,
    pub(crate) wal_bytes: u64,
    /// So far, of the messages whose deadline is over.
    pub(crate) missing: u64,
    pub(crate) twice: u64,
    pub(crate) errors: u64,
}

pub(crate) const HEADINGS: &str = "minute  deliveries/s  p99 ms  dna RSS MiB  anon MiB  files  threads  connected  WAL MiB  drumfire MiB  missing  twice  errors";

impl Minute {
    pub(crate) fn line(&self) -> String {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let Sample { dna, drumfire, connections, .. } = &self.sample;
        format!(
            "{:>6}  {:>12}  {:>6.1}  {:>11.1}  {:>8.1}  {:>5}  {:>7}  {:>9}  {:>7.1}  {:>12.1}  {:>7}  {:>5}  {:>6}",
            self.number,
            self.deliveries_per_s,
            self.p99_ms,
            mib(dna.rss_bytes),
            mib(dna.anonymous_bytes),
            dna.open_files,
            dna.threads,
            connections,
            mib(self.wal_bytes),
            mib(drumfire.rss_bytes),
            self.missing,
            self.twice,
            self.errors
        )
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "minute": self.number,
            "deliveries_per_s": self.deliveries_per_s,
            "p99_ms": self.p99_ms,
            "dna_rss_bytes": self.sample.dna.rss_bytes,
            "dna_anonymous_bytes": self.sample.dna.anonymous_bytes,
            "dna_open_files": self.sample.dna.open_files,
            "dna_threads": self.sample.dna.threads,
            "connected": self.sample.connections,
            "wal_bytes": self.wal_bytes,
            "drumfire_rss_bytes": self.sample.drumfire.rss_bytes,
            "missing": self.missing,
            "twice": self.twice,
            "errors": self.errors,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_those_of_the_test_world() {
        let figures = Figures::read(
            "dna_deliveries_total{world=\"live\"} 7\ndna_deliveries_total{world=\"test\"} 90\n# HELP dna_connected x\ndna_connected 12\ndna_wal_bytes{world=\"test\"} 4096\n",
        );
        assert_eq!((figures.deliveries, figures.connected, figures.wal_bytes), (90, 12, 4096));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_is_seen() {
        let process = Process::of(std::process::id()).expect("it is there");
        assert!(process.rss_bytes > 1 << 20 && process.threads > 0 && process.open_files > 2);
    }
}
