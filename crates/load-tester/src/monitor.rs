//! CPU, memory and open files of a process, from `/proc`: ourselves, and what `target/processes.rs` finds.
//!
//! Elsewhere than on Linux nothing is found and nothing is claimed.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustc_hash::FxHashMap;

use crate::outcome::ProcessSample;

/// Watches one process; each sample is the use since the one before.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) pid: u32,
    proc: PathBuf,
    /// Thread id -> CPU nanoseconds at the last sample.
    before: FxHashMap<u32, u64>,
    at: Instant,
}

impl Watch {
    /// `None` when there is no such process to be seen.
    pub(crate) fn new(pid: u32) -> Option<Self> {
        let proc = PathBuf::from(format!("/proc/{pid}"));
        let mut watch = Self { pid, proc, before: FxHashMap::default(), at: Instant::now() };
        watch.sample(0.0)?;
        Some(watch)
    }

    /// Of a process that has ended.
    #[cfg(test)]
    pub(crate) fn vanished() -> Self {
        Self { pid: 0, proc: PathBuf::from("/proc/0"), before: FxHashMap::default(), at: Instant::now() }
    }

    /// `None` when the process is gone.
    pub(crate) fn sample(&mut self, at_s: f64) -> Option<ProcessSample> {
        let now = Instant::now();
        let elapsed = now.duration_since(self.at).as_nanos().max(1) as f64;
        let mut threads = Vec::new();
        let mut after = FxHashMap::default();
        for entry in fs::read_dir(self.proc.join("task")).ok()?.flatten() {
            let Some(tid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let Some(used) = cpu_nanos(&entry.path()) else { continue };
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            // A thread that was not there before has used all it has since then.
            let since = used.saturating_sub(self.before.get(&tid).copied().unwrap_or(0));
            after.insert(tid, used);
            threads.push((name.trim().to_owned(), since as f64 / elapsed));
        }
        self.before = after;
        self.at = now;
        Some(ProcessSample {
            at_s,
            threads,
            rss_bytes: rss_bytes(&self.proc)?,
            open_files: open_files(&self.proc),
        })
    }

    /// As started, e.g. `target/release/dna serve`.
    pub(crate) fn command(&self) -> String {
        let raw = fs::read(self.proc.join("cmdline")).unwrap_or_default();
        let words: Vec<_> = raw
            .split(|&byte| byte == 0)
            .filter(|word| !word.is_empty())
            .map(String::from_utf8_lossy)
            .collect();
        let mut command = words.join(" ");
        crate::metrics::cut(&mut command, 200);
        command
    }
}

/// CPU time of a thread: in nanoseconds where the kernel keeps them, else in ticks of 10 ms.
fn cpu_nanos(task: &Path) -> Option<u64> {
    if let Ok(text) = fs::read_to_string(task.join("schedstat"))
        && let Some(nanos) = text.split_ascii_whitespace().next().and_then(|first| first.parse().ok())
    {
        return Some(nanos);
    }
    let text = fs::read_to_string(task.join("stat")).ok()?;
    // The name in brackets may itself hold brackets and spaces.
    let mut fields = text[text.rfind(')')? + 1..].split_ascii_whitespace();
    let user: u64 = fields.nth(11)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    Some((user + system) * (1_000_000_000 / per_second))
}

fn rss_bytes(proc: &Path) -> Option<u64> {
    let text = fs::read_to_string(proc.join("statm")).ok()?;
    let pages: u64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

fn open_files(proc: &Path) -> u64 {
    let fds = proc.join("fd");
    // Since Linux 6.2 the directory's size is the count; before that the entries have to be counted.
    match fs::metadata(&fds) {
        Ok(meta) if meta.len() > 0 => meta.len(),
        Ok(_) => fs::read_dir(&fds).map_or(0, |entries| entries.count() as u64),
        Err(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn the_work_of_a_process_is_seen() {
        let mut watch = Watch::new(std::process::id()).unwrap();
        let begun = Instant::now();
        let mut x = 1_u64;
        while begun.elapsed().as_millis() < 60 {
            x = std::hint::black_box(x.wrapping_mul(6_364_136_223_846_793_005));
        }
        let sample = watch.sample(1.0).unwrap();
        let used: f64 = sample.threads.iter().map(|(_, used)| used).sum();
        assert!(used > 0.05, "{sample:?}");
        assert!(sample.rss_bytes > 1_000_000 && sample.open_files > 2, "{sample:?}");
        assert!(!watch.command().is_empty());
    }
}
