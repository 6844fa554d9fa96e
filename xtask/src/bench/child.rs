//! A load program run to its end: what it said, and what it cost by the operating system's account.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use crate::command::{Interrupted, look_through_signals};
use crate::signal;
use crate::soak::watch::Process;

pub(super) struct Ended {
    /// Standard output.
    pub(super) said: String,
    /// Processor time, user and kernel, of it and all it waited for; seconds.
    pub(super) cpu_s: f64,
    pub(super) wall_s: f64,
    /// The most memory that it and its children had at one time, bytes.
    pub(super) peak_rss: u64,
    pub(super) exit_code: Option<i32>,
}

/// Runs `command`; its output goes to `<name>.out`, what it complains of to `<name>.log`.
pub(super) fn run(command: &mut Command, folder: &Path, name: &str) -> Result<Ended> {
    let out = folder.join(format!("{name}.out"));
    let log = folder.join(format!("{name}.log"));
    let create = |path: &Path| File::create(path).with_context(|| format!("cannot write {}", path.display()));
    let begun = Instant::now();
    let mut child = command
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(create(&out)?)
        .stderr(create(&log)?)
        .spawn()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    let (usage, peak_rss) = wait(&mut child).with_context(|| format!("{name} was lost"))?;
    let wall_s = begun.elapsed().as_secs_f64();
    if signal::received().is_some() {
        return Err(Interrupted.into());
    }
    let said = fs::read_to_string(&out).with_context(|| format!("cannot read {}", out.display()))?;
    Ok(Ended { said, cpu_s: usage.cpu_s, wall_s, peak_rss, exit_code: usage.exit_code })
}

/// As `run`, and an exit code other than 0 is an error with what was said.
pub(super) fn succeed(command: &mut Command, folder: &Path, name: &str) -> Result<Ended> {
    let ended = run(command, folder, name)?;
    if ended.exit_code != Some(0) {
        let log = fs::read_to_string(folder.join(format!("{name}.log"))).unwrap_or_default();
        let lines: Vec<_> = log.lines().chain(ended.said.lines()).collect();
        let last = lines[lines.len().saturating_sub(20)..].join("\n");
        bail!("{name} ended with {:?}:\n{last}", ended.exit_code);
    }
    Ok(ended)
}

struct Usage {
    cpu_s: f64,
    exit_code: Option<i32>,
}

/// What it used, and the most memory that was seen.
fn wait(child: &mut Child) -> io::Result<(Usage, u64)> {
    let mut peak_rss = 0;
    let usage = look_through_signals(child, |child| {
        peak_rss = peak_rss.max(memory(child.id()));
        reap(child)
    })?;
    Ok((usage, peak_rss))
}

/// Resident bytes of a process and all below it.
pub(super) fn memory(pid: u32) -> u64 {
    let own = Process::of(pid).map_or(0, |process| process.rss_bytes);
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let children = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let below: u64 = children
        .flat_map(|text| text.split(' ').filter_map(|pid| pid.parse().ok()).map(memory).collect::<Vec<_>>())
        .sum();
    own + below
}

/// `None` while it runs. Afterwards nobody else can wait for it.
#[allow(unsafe_code)] // neither the standard library nor rustix tells what a child used; both pointers are to our own
fn reap(child: &Child) -> io::Result<Option<Usage>> {
    let pid = libc::pid_t::try_from(child.id()).map_err(io::Error::other)?;
    let mut status = 0;
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    let waited = unsafe { libc::wait4(pid, &mut status, libc::WNOHANG, usage.as_mut_ptr()) };
    match waited {
        0 => return Ok(None),
        ended if ended == pid => {}
        _ => return Err(io::Error::last_os_error()),
    }
    let usage = unsafe { usage.assume_init() };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    Ok(Some(Usage {
        cpu_s: seconds(usage.ru_utime) + seconds(usage.ru_stime),
        exit_code: libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status)),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_childs_words_code_and_cost_are_told() {
        let folder = crate::tree::target().join("bench-child-test");
        fs::create_dir_all(&folder).expect("a folder");
        let busy = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; echo done; exit 3";
        let ended = run(Command::new("sh").args(["-c", busy]), &folder, "busy").expect("it runs");
        assert_eq!((ended.said.as_str(), ended.exit_code), ("done\n", Some(3)));
        assert!(ended.cpu_s > 0.01 && ended.cpu_s < ended.wall_s + 0.1, "{} s", ended.cpu_s);
        assert!(ended.peak_rss > 100_000, "{} bytes", ended.peak_rss);
        let error = succeed(Command::new("sh").args(["-c", "echo why >&2; exit 1"]), &folder, "sad");
        assert!(error.err().expect("an error").to_string().contains("why"));
    }
}
