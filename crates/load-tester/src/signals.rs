//! Ctrl-C, SIGTERM and the end of the terminal: the first ends a run gently, the second the process at once.
//!
//! [`heed`] watches from a thread of its own, so that nothing a run does at its end (writing to a pipe nobody reads, a
//! last page for those who look) keeps the second from being heard. [`Signals`] tells the first to the run.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// One press reaches a process twice where a wrapper passes on what the terminal has told everybody.
pub(crate) const SAME_PRESS: Duration = Duration::from_millis(200);

/// The first of the process's life.
static FIRST: OnceLock<(&'static str, Instant)> = OnceLock::new();
/// Nobody is left to end anything early.
static WRITING: AtomicBool = AtomicBool::new(false);

/// Begins to watch, once for the process: from here on signals no longer end it by themselves.
///
/// # Errors
/// When signals cannot be listened for.
pub fn heed() -> anyhow::Result<()> {
    static HEEDED: Mutex<bool> = Mutex::new(false);
    let mut heeded = HEEDED.lock().unwrap_or_else(PoisonError::into_inner);
    if *heeded {
        return Ok(());
    }
    let what = "listening for signals";
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context(what)?;
    let mut all = {
        let _within = runtime.enter();
        All::new().context(what)?
    };
    let watch = async move {
        loop {
            let name = all.next().await;
            if FIRST.set((name, Instant::now())).is_ok() {
                if WRITING.load(Ordering::Acquire) {
                    let _ = std::io::Write::write_fmt(
                        &mut std::io::stderr(),
                        format_args!(
                            "{name}: the run is over and its results are being written (once more: stop at once)\n"
                        ),
                    );
                }
                continue;
            }
            let same = FIRST.get().is_some_and(|(_, at)| at.elapsed() < SAME_PRESS);
            // A terminal that goes away tells it twice, through its shell and by itself.
            let code = match name {
                "SIGINT" if !same => 130,
                "SIGTERM" if !same => 143,
                _ => continue,
            };
            crate::screen::restore();
            crate::report::json::remove_unfinished();
            std::process::exit(code);
        }
    };
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || runtime.block_on(watch))
        .context(what)?;
    *heeded = true;
    Ok(())
}

/// The name of the first signal, if there was one.
pub fn first() -> Option<&'static str> {
    FIRST.get().map(|(name, _)| *name)
}

/// The run is over: a first signal from here on ends nothing, and is told so.
pub fn only_writing_is_left() {
    WRITING.store(true, Ordering::Release);
}

/// The signals of one run.
#[derive(Debug)]
pub(crate) struct Signals {
    /// `None` when they are not this run's to heed.
    all: Option<All>,
}

#[derive(Debug)]
struct All {
    interrupt: Signal,
    terminate: Signal,
    /// `None` under `nohup`, which wants the run to go on.
    hangup: Option<Signal>,
}

impl Signals {
    pub(crate) fn new(handle: bool) -> anyhow::Result<Self> {
        let all = handle.then(|| heed().and_then(|()| All::new().context("listening for signals")));
        Ok(Self { all: all.transpose()? })
    }

    /// The name of the first signal, however early it came.
    pub(crate) async fn next(&mut self) -> &'static str {
        match &mut self.all {
            None => std::future::pending().await,
            Some(all) => match first() {
                Some(name) => name,
                None => all.next().await,
            },
        }
    }
}

impl All {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: (!is_ignored(libc::SIGHUP)).then(|| signal(SignalKind::hangup())).transpose()?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
            _ = async { self.hangup.as_mut().expect("checked").recv().await }, if self.hangup.is_some() => "SIGHUP",
        }
    }
}

/// Makes a file that may not grow (`ulimit -f`) an error of its write, as a full disk is; by default it is the process's end.
pub fn outlive_file_limits() {
    // SAFETY: ignoring a signal runs no code of ours.
    #[allow(unsafe_code)]
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
}

fn is_ignored(signal: libc::c_int) -> bool {
    let mut now = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: nothing is set, and what is there is written to a place made for it; all zeros are a value of it.
    #[allow(unsafe_code)]
    let now = unsafe {
        libc::sigaction(signal, std::ptr::null(), now.as_mut_ptr());
        now.assume_init()
    };
    now.sa_sigaction == libc::SIG_IGN
}
