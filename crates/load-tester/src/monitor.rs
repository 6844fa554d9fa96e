//! CPU and memory of the target (when it runs on this machine) and of ourselves, from `/proc`.
//!
//! Elsewhere than on Linux nothing is found and nothing is claimed.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustc_hash::{FxHashMap, FxHashSet};

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

/// The process that listens on this address, when it is on this machine and may be looked at.
pub(crate) fn listener_on(addresses: &[SocketAddr]) -> Option<u32> {
    let ports: Vec<u16> =
        addresses.iter().filter(|address| is_ours(address.ip())).map(SocketAddr::port).collect();
    let &port = ports.first()?;
    let mut inodes = FxHashSet::default();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        if let Ok(table) = fs::File::open(table) {
            inodes.extend(listening_inodes(BufReader::new(table), port));
        }
    }
    if inodes.is_empty() {
        return None;
    }
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // Processes of other users refuse to be looked at.
        let Ok(fds) = fs::read_dir(entry.path().join("fd")) else { continue };
        for fd in fds.flatten() {
            let Ok(link) = fs::read_link(fd.path()) else { continue };
            let inode =
                link.to_str().and_then(|link| link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
            if inode.is_some_and(|inode: u64| inodes.contains(&inode)) {
                return Some(pid);
            }
        }
    }
    None
}

/// Connections of this machine to a port that are not gone yet; those that only wait out their time count as gone.
pub(crate) fn connections_to(port: u16) -> usize {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    let open = tables.iter().filter_map(|table| fs::File::open(table).ok());
    open.map(|table| open_to(BufReader::new(table), port)).sum()
}

/// State `06` is TIME_WAIT, `0A` LISTEN, `07` CLOSE.
fn open_to(mut table: impl BufRead, port: u16) -> usize {
    let wanted = format!(":{port:04X}");
    let (mut count, mut line) = (0, String::new());
    while table.read_line(&mut line).is_ok_and(|length| length > 0) {
        let mut fields = line.split_ascii_whitespace();
        let remote = fields.nth(2).is_some_and(|remote| remote.ends_with(&wanted));
        if remote && fields.next().is_some_and(|state| !matches!(state, "06" | "07" | "0A")) {
            count += 1;
        }
        line.clear();
    }
    count
}

fn is_ours(ip: IpAddr) -> bool {
    ip.is_loopback() || ip.is_unspecified()
}

/// Inodes of the listening sockets on a port; state `0A` is LISTEN. Read line by line: after a load test the table
/// holds tens of thousands of closed connections.
fn listening_inodes(mut table: impl BufRead, port: u16) -> Vec<u64> {
    let wanted = format!(":{port:04X}");
    let mut inodes = Vec::new();
    let mut line = String::new();
    while table.read_line(&mut line).is_ok_and(|length| length > 0) {
        let mut fields = line.split_ascii_whitespace();
        let local = fields.nth(1).is_some_and(|local| local.ends_with(&wanted));
        if local && fields.nth(1) == Some("0A") {
            inodes.extend(fields.nth(5).and_then(|inode| inode.parse::<u64>().ok()));
        }
        line.clear();
    }
    inodes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listening_sockets_are_read_from_the_kernels_table() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:2335 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0 100 0 0 10 0\n\
             1: 0100007F:2335 0100007F:A001 01 00000000:00000000 00:00000000 00000000  1000        0 4712 1 0 20 4 30 10 -1\n\
             2: 0100007F:2336 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4713 1 0 100 0 0 10 0\n";
        assert_eq!(listening_inodes(table.as_bytes(), 9013), [4711]);
        let table = "  sl  local_address rem_address   st\n\
             0: 0100007F:A001 0100007F:2335 01 rest\n\
             1: 0100007F:A002 0100007F:2335 06 rest\n\
             2: 0100007F:2335 0100007F:A001 01 rest\n\
             3: 0100007F:A003 0100007F:2335 08 rest\n";
        assert_eq!(open_to(table.as_bytes(), 9013), 2);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_is_found_behind_its_port_and_its_work_is_seen() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let pid = listener_on(&[listener.local_addr().unwrap()]).unwrap();
        assert_eq!(pid, std::process::id());
        let mut watch = Watch::new(pid).unwrap();
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
