//! Processor time of processes and their threads, as the operating system counts it.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How often a watch looks: often enough that what lies between two looks may be drawn as a line.
const EVERY: Duration = Duration::from_millis(100);

/// In which Linux tells times to programs, on every machine.
const TICKS_PER_SECOND: f64 = 100.0;

/// Seconds of processor time, user and kernel, that a process has used: of `/proc/<pid>`, or of one thread's folder.
pub(super) fn used(folder: &Path) -> Option<f64> {
    ticks(&fs::read_to_string(folder.join("stat")).ok()?).map(|ticks| ticks / TICKS_PER_SECOND)
}

pub(super) fn process(pid: u32) -> std::path::PathBuf {
    Path::new("/proc").join(pid.to_string())
}

/// Fields 14 and 15; what stands in brackets before them may hold blanks.
fn ticks(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    Some(fields.next()?.parse::<f64>().ok()? + fields.next()?.parse::<f64>().ok()?)
}

/// Seconds since 1970.
pub(super) fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

#[derive(Debug, Clone)]
struct Look {
    at: f64,
    /// Of each server process.
    servers: Vec<f64>,
    /// Of each thread of the load side, by its number.
    load: Vec<(u32, f64)>,
}

/// Looks at servers and load side until it is ended.
pub(super) struct Watch {
    looks: Arc<Mutex<Vec<Look>>>,
    over: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Watch {
    pub(super) fn start(servers: &[u32], load: u32) -> Self {
        let looks = Arc::new(Mutex::new(Vec::new()));
        let over = Arc::new(AtomicBool::new(false));
        let servers: Vec<_> = servers.iter().copied().map(process).collect();
        let threads = process(load).join("task");
        let thread = thread::spawn({
            let (looks, over) = (Arc::clone(&looks), Arc::clone(&over));
            move || {
                while !over.load(Ordering::Relaxed) {
                    let look = Look {
                        at: now(),
                        servers: servers.iter().map(|folder| used(folder).unwrap_or(0.0)).collect(),
                        load: each_thread(&threads),
                    };
                    looks.lock().unwrap_or_else(PoisonError::into_inner).push(look);
                    thread::sleep(EVERY);
                }
            }
        });
        Self { looks, over, thread }
    }

    pub(super) fn end(self) -> Seen {
        self.over.store(true, Ordering::Relaxed);
        let _ = self.thread.join();
        Seen { looks: std::mem::take(&mut self.looks.lock().unwrap_or_else(PoisonError::into_inner)) }
    }
}

fn each_thread(folder: &Path) -> Vec<(u32, f64)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, used(&entry.path())?)))
        .collect()
}

/// What a watch saw.
#[derive(Default)]
pub(super) struct Seen {
    looks: Vec<Look>,
}

/// Between two instants, in cores: 1.0 is one core busy all the time.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Usage {
    pub(super) servers: Vec<f64>,
    pub(super) load: f64,
    pub(super) busiest_load_thread: f64,
}

impl Seen {
    /// `None` when the watch did not see both instants (seconds since 1970).
    pub(super) fn between(&self, from: f64, until: f64) -> Option<Usage> {
        let (first, last) = (self.at(from)?, self.at(until)?);
        let length = until - from;
        let share = |(then, now): (f64, f64)| ((now - then) / length).max(0.0);
        let servers = first.servers.iter().zip(&last.servers).map(|(then, now)| share((*then, *now)));
        let threads: Vec<_> = last
            .load
            .iter()
            .map(|(thread, now)| {
                let then =
                    first.load.iter().find(|(other, _)| other == thread).map_or(0.0, |(_, then)| *then);
                share((then, *now))
            })
            .collect();
        Some(Usage {
            servers: servers.collect(),
            load: threads.iter().sum(),
            busiest_load_thread: threads.iter().copied().fold(0.0, f64::max),
        })
    }

    /// On the line between the looks before and after.
    fn at(&self, instant: f64) -> Option<Look> {
        let after = self.looks.iter().position(|look| look.at >= instant)?;
        let (before, after) = (self.looks.get(after.checked_sub(1)?)?, &self.looks[after]);
        let part = (instant - before.at) / (after.at - before.at).max(f64::EPSILON);
        let line = |from: f64, to: f64| from + (to - from) * part;
        Some(Look {
            at: instant,
            servers: before.servers.iter().zip(&after.servers).map(|(from, to)| line(*from, *to)).collect(),
            load: after
                .load
                .iter()
                .map(|(thread, to)| {
                    let from = before.load.iter().find(|(other, _)| other == thread);
                    (*thread, from.map_or(*to, |(_, from)| line(*from, *to)))
                })
                .collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_blanks_hides_no_field() {
        assert_eq!(ticks("7 (a) b) S 1 7 7 0 -1 4 9 0 0 0 40 2 0 0 20 0"), Some(42.0));
    }

    #[test]
    fn usage_is_told_between_two_instants() {
        let look = |at: f64| Look { at, servers: vec![at * 0.5], load: vec![(1, at * 0.25), (2, at * 0.75)] };
        let seen = Seen { looks: (0..10).map(f64::from).map(look).collect() };
        let usage = seen.between(1.5, 7.25).expect("seen");
        assert!((usage.servers[0] - 0.5).abs() < 1e-9, "{usage:?}");
        assert!((usage.load - 1.0).abs() < 1e-9 && (usage.busiest_load_thread - 0.75).abs() < 1e-9);
        assert_eq!(seen.between(1.5, 11.0), None);
        assert_eq!(seen.between(0.0, 3.0), None, "nothing was seen before the first look");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_uses_what_it_burns() {
        let folder = process(std::process::id());
        let before = used(&folder).expect("it runs");
        let until = std::time::Instant::now() + Duration::from_millis(200);
        while std::time::Instant::now() < until {}
        assert!(used(&folder).expect("it runs") > before);
    }
}
