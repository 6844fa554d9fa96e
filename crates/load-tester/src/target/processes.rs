//! Which processes serve the target's port, when it is on this machine: those that hold the listening socket, and the
//! workers they have begun (a Node cluster's take over connections their parent accepted).
//!
//! Elsewhere than on Linux nothing is found and nothing is claimed.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustc_hash::{FxHashMap, FxHashSet};

use crate::monitor::Watch;
use crate::outcome::{ProcessSample, TargetChange, TargetChangeKind, TargetUse};
use crate::samples::Samples;

/// A server with more has its first ones looked at.
const MOST_PROCESSES: usize = 64;
/// Processes begun later are looked for so often.
const LOOK_AGAIN: usize = 5;
/// Programs that only pass a port on, to a container or another machine: what they use says nothing of the server.
const FORWARDERS: [&str; 8] =
    ["docker-proxy", "rootlessport", "slirp4netns", "pasta", "ssh", "kubectl", "socat", "gvproxy"];

/// Finds the processes behind an address, and finds them again after a restart.
#[derive(Debug)]
pub(super) struct Processes {
    addresses: Vec<SocketAddr>,
    watches: Vec<Watch>,
    /// The sockets that listen, and who holds them: a process with many sockets takes long to look through.
    inodes: FxHashSet<u64>,
    holders: Vec<u32>,
    /// Samples since all processes were looked through.
    looked: usize,
    /// Without its samples.
    found: Option<TargetUse>,
    samples: Samples,
    /// Only passes connections on; not looked at.
    pub(super) forwarder: Option<String>,
}

impl Processes {
    pub(super) fn new(addresses: &[SocketAddr]) -> Self {
        let mut this = Self {
            addresses: addresses.iter().copied().filter(|address| is_ours(address.ip())).collect(),
            watches: Vec::new(),
            inodes: FxHashSet::default(),
            holders: Vec::new(),
            looked: 0,
            found: None,
            samples: Samples::default(),
            forwarder: None,
        };
        this.look(None);
        this
    }

    /// Their use since the sample before; at most as often as once a second.
    pub(super) fn sample(&mut self, at_s: f64) {
        let mut sum = ProcessSample { at_s, threads: Vec::new(), rss_bytes: 0, open_files: 0 };
        let before = self.watches.len();
        self.watches.retain_mut(|watch| match watch.sample(at_s) {
            // One that has ended and waits for its parent's notice has no memory.
            Some(sample) if sample.rss_bytes > 0 => {
                sum.threads.extend(sample.threads);
                sum.rss_bytes += sample.rss_bytes;
                sum.open_files = sum.open_files.max(sample.open_files);
                true
            }
            _ => false,
        });
        if !self.watches.is_empty() && self.found.is_some() {
            self.samples.push(sum);
        }
        if before > 0
            && self.watches.is_empty()
            && let Some(found) = &mut self.found
        {
            let kind = TargetChangeKind::Gone;
            found.changes.push(TargetChange { at_s, kind, pid: found.pid });
        }
        self.looked += 1;
        // One that is gone may come back at any moment, and its table of sockets is short to read.
        if self.watches.is_empty() || self.looked >= LOOK_AGAIN {
            self.look(Some(at_s));
        }
    }

    /// Begins anew to count what they use.
    pub(super) fn forget(&mut self) {
        self.watches.retain_mut(|watch| watch.sample(0.0).is_some());
    }

    /// Cores used between the last two samples; `None` where no process was found.
    pub(super) fn cores(&self) -> Option<f64> {
        let used = self.samples.last()?.threads.iter().map(|(_, used)| used).sum();
        (!self.watches.is_empty()).then_some(used)
    }

    pub(super) fn found(&self) -> Option<TargetUse> {
        Some(TargetUse { samples: self.samples.clone().finish(), ..self.found.clone()? })
    }

    /// Those that listen, the oldest first, and behind them what they have begun.
    fn behind(&mut self) -> Vec<u32> {
        let inodes = listening(&self.addresses);
        if inodes.is_empty() {
            (self.inodes, self.holders) = (inodes, Vec::new());
            return Vec::new();
        }
        let all = processes();
        if inodes != self.inodes || self.holders.iter().any(|pid| !all.contains_key(pid)) {
            self.holders = all.keys().copied().filter(|pid| holds(*pid, &inodes)).collect();
            self.holders.sort_unstable();
            self.inodes = inodes;
        }
        with_workers(&self.holders, &all, std::process::id())
    }

    fn look(&mut self, at_s: Option<f64>) {
        self.looked = 0;
        let was_gone = self.watches.is_empty();
        for pid in self.behind() {
            if self.watches.len() < MOST_PROCESSES && self.watches.iter().all(|watch| watch.pid != pid) {
                self.watches.extend(Watch::new(pid));
            }
        }
        let Some(first) = self.watches.first().filter(|_| was_gone) else {
            if let Some(found) = &mut self.found {
                found.processes = found.processes.max(self.watches.len() as u32);
            }
            return;
        };
        let (pid, command) = (first.pid, first.command());
        if FORWARDERS.contains(&crate::report::program(&command)) {
            self.forwarder = Some(crate::report::program(&command).to_owned());
            self.watches.clear();
            self.addresses.clear();
            return;
        }
        let processes = self.watches.len() as u32;
        let open_files_limit = open_files_limit(pid);
        match &mut self.found {
            Some(found) => {
                found.changes.push(TargetChange {
                    at_s: at_s.unwrap_or(0.0),
                    kind: TargetChangeKind::Found,
                    pid,
                });
                (found.pid, found.command) = (pid, command);
                found.processes = found.processes.max(processes);
            }
            None => {
                let changed = at_s.map(|at_s| TargetChange { at_s, kind: TargetChangeKind::Found, pid });
                self.found = Some(TargetUse {
                    pid,
                    command,
                    samples: Vec::new(),
                    processes,
                    cores: std::thread::available_parallelism().map_or(0, |cores| cores.get() as u32),
                    open_files_limit,
                    changes: changed.into_iter().collect(),
                });
            }
        }
    }
}

/// The sockets that listen on the first of the addresses on which anybody does.
fn listening(addresses: &[SocketAddr]) -> FxHashSet<u64> {
    let on = |address: &SocketAddr| {
        let mut inodes = FxHashSet::default();
        for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
            if let Ok(table) = fs::File::open(table) {
                inodes.extend(listening_inodes(BufReader::new(table), *address));
            }
        }
        inodes
    };
    addresses.iter().map(on).find(|inodes| !inodes.is_empty()).unwrap_or_default()
}

fn is_ours(ip: IpAddr) -> bool {
    ip.is_loopback() || ip.is_unspecified()
}

fn open_files_limit(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// Adds those begun by the ones found, unless the tester is among them: then they are a test's, or a shell's, and
/// nobody can say which of them serve.
fn with_workers(holders: &[u32], all: &FxHashMap<u32, u32>, tester: u32) -> Vec<u32> {
    let mut every = holders.to_vec();
    let mut at = 0;
    while at < every.len() && every.len() < MOST_PROCESSES {
        let parent = every[at];
        let begun = all.iter().filter(|(pid, of)| **of == parent && !every.contains(pid));
        let mut begun: Vec<u32> = begun.map(|(pid, _)| *pid).collect();
        if begun.contains(&tester) {
            return holders.to_vec();
        }
        begun.sort_unstable();
        every.extend(begun);
        at += 1;
    }
    every
}

/// Every process and its parent.
fn processes() -> FxHashMap<u32, u32> {
    let mut all = FxHashMap::default();
    let Ok(entries) = fs::read_dir("/proc") else { return all };
    for entry in entries.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        // The name in brackets may itself hold brackets and spaces.
        let parent = stat
            .rfind(')')
            .and_then(|at| stat[at + 1..].split_ascii_whitespace().nth(1))
            .and_then(|parent| parent.parse().ok());
        all.insert(pid, parent.unwrap_or(0));
    }
    all
}

/// Whether a process has one of these sockets open; those of other users refuse to be looked at.
fn holds(pid: u32, inodes: &FxHashSet<u64>) -> bool {
    let Ok(fds) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    fds.flatten().any(|fd| {
        let Ok(link) = fs::read_link(fd.path()) else { return false };
        let inode =
            link.to_str().and_then(|link| link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
        inode.is_some_and(|inode: u64| inodes.contains(&inode))
    })
}

/// Inodes of the sockets that listen for this address; state `0A` is LISTEN. The kernel tells those first, and behind them
/// walks through all connections of the machine (30 ms for a thousand; after a load test there are tens of thousands), so
/// no more is read than it takes to see the first of these.
fn listening_inodes(mut table: impl BufRead, address: SocketAddr) -> Vec<u64> {
    let mut inodes = Vec::new();
    let mut line = String::new();
    while table.read_line(&mut line).is_ok_and(|length| length > 0) {
        let mut fields = line.split_ascii_whitespace();
        // The head of the table has no address there.
        if let Some(local) = fields.nth(1).and_then(local_address) {
            if fields.nth(1) != Some("0A") {
                break;
            }
            let serves =
                local.port() == address.port() && (local.ip().is_unspecified() || local.ip() == address.ip());
            if serves {
                inodes.extend(fields.nth(5).and_then(|inode| inode.parse::<u64>().ok()));
            }
        }
        line.clear();
    }
    inodes
}

/// `0100007F:2335`; an address is written as the words of the machine's memory.
fn local_address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| Some(u32::from_str_radix(ip.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    let ip = match ip.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for (index, part) in bytes.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(index * 8)?);
            }
            Ipv6Addr::from(bytes).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_endian = "little")]
    #[test]
    fn listening_sockets_are_read_from_the_kernels_table() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:2335 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0 100 0 0 10 0\n\
             1: 0100007F:2336 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4713 1 0 100 0 0 10 0\n\
             2: 0200007F:2335 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4714 1 0 100 0 0 10 0\n\
             3: 00000000:2337 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4715 1 0 100 0 0 10 0\n\
             4: 00000000000000000000000001000000:2335 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 4716 1 0\n\
             5: 0000000000000000FFFF00000100007F:2338 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 4717 1 0\n\
             6: 0100007F:2335 0100007F:A001 01 00000000:00000000 00:00000000 00000000  1000        0 4712 1 0 20 4 30 10 -1\n\
             7: 0100007F:2335 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4718 1 0 100 0 0 10 0\n";
        for (address, expected) in [
            ("127.0.0.1:9013", &[4711_u64][..]),
            ("127.0.0.2:9013", &[4714]),
            ("127.0.0.3:9013", &[]),
            ("127.0.0.1:9015", &[4715]),
            ("[::1]:9013", &[4716]),
            ("127.0.0.1:9016", &[4717]),
        ] {
            assert_eq!(listening_inodes(table.as_bytes(), address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn workers_are_counted_in_unless_the_tester_is_one() {
        // 10 began 11 and 12; 12 began 13.
        let all: FxHashMap<u32, u32> =
            [(1, 0), (10, 1), (11, 10), (12, 10), (13, 12), (99, 1)].into_iter().collect();
        assert_eq!(with_workers(&[10], &all, 99), [10, 11, 12, 13]);
        assert_eq!(with_workers(&[10], &all, 13), [10]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_server_that_goes_and_comes_back_is_found_again() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut processes = Processes::new(&[address]);
        processes.sample(1.0);
        let found = processes.found().unwrap();
        assert_eq!((found.pid, found.samples.len(), found.processes), (std::process::id(), 1, 1));
        assert!(
            found.cores > 0 && found.open_files_limit.is_some() && !found.command.is_empty(),
            "{found:?}"
        );
        // As when the process has ended.
        processes.watches[0] = Watch::vanished();
        processes.sample(2.0);
        processes.sample(3.0);
        let found = processes.found().unwrap();
        let changes: Vec<_> = found.changes.iter().map(|change| (change.at_s, change.kind)).collect();
        assert_eq!(changes, [(2.0, TargetChangeKind::Gone), (2.0, TargetChangeKind::Found)]);
        assert_eq!(found.samples.last().map(|sample| sample.at_s), Some(3.0));

        drop(listener);
        assert!(Processes::new(&[address]).found().is_none(), "nobody listens");
        assert!(Processes::new(&["192.0.2.1:80".parse().unwrap()]).found().is_none(), "not this machine");
    }
}
