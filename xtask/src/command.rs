//! Child processes: their output goes to a log, their last line to the terminal, their time into the summary.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::{signal, tree};

/// How often the status line moves on a terminal, and how often a word is said without one.
const STATUS_EVERY: Duration = Duration::from_millis(200);
const WORD_EVERY: Duration = Duration::from_secs(60);
/// What of a failed child's output is repeated.
const TAIL_LINES: usize = 60;

/// The user ended it; there is nothing to explain.
#[derive(Debug)]
pub(crate) struct Interrupted;

impl std::error::Error for Interrupted {}

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("interrupted")
    }
}

/// A part of a task: its name and how long it took.
pub(crate) struct Part {
    pub(crate) name: &'static str,
    pub(crate) took: Duration,
    /// A few words for the summary, e.g. how many tests ran.
    pub(crate) note: String,
}

/// Runs `command` with its output in `target/xtask/<name>.log`; on failure the end of it is in the error.
/// `each_line` sees every line as it comes.
pub(crate) fn logged(
    name: &'static str,
    command: &mut Command,
    mut each_line: impl FnMut(&str),
) -> Result<Part> {
    let folder = tree::target().join("xtask");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let log_path = folder.join(format!("{}.log", name.replace([' ', '/'], "-")));
    let mut log = File::create(&log_path).with_context(|| format!("cannot write {}", log_path.display()))?;

    let started = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{name}: cannot start {}", command.get_program().display()))?;
    let (sender, lines) = mpsc::channel();
    let readers = [
        forward(child.stdout.take().context("no stdout")?, sender.clone()),
        forward(child.stderr.take().context("no stderr")?, sender),
    ];

    let mut status = Status::new(name, started);
    let mut tail = VecDeque::new();
    loop {
        match lines.recv_timeout(STATUS_EVERY) {
            Ok(line) => {
                writeln!(log, "{line}")?;
                each_line(&line);
                status.line(&line);
                tail.push_back(line);
                if tail.len() > TAIL_LINES {
                    tail.pop_front();
                }
            }
            Err(RecvTimeoutError::Timeout) => status.tick(),
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if signal::received().is_some() {
            terminate(&child);
        }
    }
    for reader in readers {
        let _ = reader.join();
    }
    let exit = child.wait().with_context(|| format!("{name}: lost its process"))?;
    status.clear();
    if signal::received().is_some() {
        return Err(Interrupted.into());
    }
    let took = started.elapsed();
    if !exit.success() {
        let tail = tail.into_iter().collect::<Vec<_>>().join("\n");
        bail!("{tail}\n\n{name} failed ({exit}); whole output: {}", tree::shown(&log_path));
    }
    println!("  {name:<22} {:>7}", seconds(took));
    Ok(Part { name, took, note: String::new() })
}

fn forward(from: impl Read + Send + 'static, to: mpsc::Sender<String>) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut reader = BufReader::new(from);
        let mut bytes = Vec::new();
        while matches!(reader.read_until(b'\n', &mut bytes), Ok(1..)) {
            let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
            bytes.clear();
            if to.send(line).is_err() {
                return;
            }
        }
    })
}

/// On a terminal one line that is rewritten; elsewhere a word a minute, so that a log shows life.
struct Status {
    name: &'static str,
    started: Instant,
    terminal: bool,
    last: String,
    said: Instant,
}

impl Status {
    fn new(name: &'static str, started: Instant) -> Self {
        Self { name, started, terminal: std::io::stdout().is_terminal(), last: String::new(), said: started }
    }

    fn line(&mut self, line: &str) {
        if !line.trim().is_empty() {
            line.trim().clone_into(&mut self.last);
        }
        self.tick();
    }

    fn tick(&mut self) {
        let pause = if self.terminal { STATUS_EVERY } else { WORD_EVERY };
        if self.said.elapsed() < pause {
            return;
        }
        self.said = Instant::now();
        let text: String = self.last.chars().take(70).collect();
        let line = format!("  {:<22} {:>7}  {text}", self.name, seconds(self.started.elapsed()));
        if self.terminal {
            print!("\r\x1b[2K{line}");
            let _ = std::io::stdout().flush();
        } else {
            println!("{line}");
        }
    }

    fn clear(&self) {
        if self.terminal {
            print!("\r\x1b[2K");
            let _ = std::io::stdout().flush();
        }
    }
}

/// SIGTERM: asks a child to end in its own way.
pub(crate) fn terminate(child: &Child) {
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
}

/// Waits at most `limit`; `None` when the child still runs.
pub(crate) fn wait_for(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let until = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= until {
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Ctrl-C goes to the whole terminal group, so a child has it too and ends in its own time; SIGTERM is passed on.
pub(crate) fn wait_through_signals(mut child: Child) -> Result<ExitStatus> {
    Ok(look_through_signals(&mut child, Child::try_wait)?)
}

/// The same, until `look`, which comes every 20 ms, has seen the end.
pub(crate) fn look_through_signals<T>(
    child: &mut Child,
    mut look: impl FnMut(&mut Child) -> io::Result<Option<T>>,
) -> io::Result<T> {
    let mut passed_on = false;
    loop {
        if let Some(seen) = look(child)? {
            return Ok(seen);
        }
        if signal::received().is_some_and(|signal| signal != libc::SIGINT) && !passed_on {
            terminate(child);
            passed_on = true;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn seconds(took: Duration) -> String {
    let s = took.as_secs_f64();
    if s < 100.0 {
        format!("{s:.1} s")
    } else {
        format!("{}m {:02}s", took.as_secs() / 60, took.as_secs() % 60)
    }
}
