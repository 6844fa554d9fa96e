//! Ctrl-C, SIGTERM and the end of the terminal: the first ends a run gently, the second at once.

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

#[derive(Debug)]
pub(crate) struct Signals {
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
        let all = handle.then(|| {
            Ok::<_, std::io::Error>(All {
                interrupt: signal(SignalKind::interrupt())?,
                terminate: signal(SignalKind::terminate())?,
                hangup: (!is_ignored(libc::SIGHUP)).then(|| signal(SignalKind::hangup())).transpose()?,
            })
        });
        Ok(Self { all: all.transpose().context("listening for signals")? })
    }

    /// The name of the next signal.
    pub(crate) async fn next(&mut self) -> &'static str {
        match &mut self.all {
            None => std::future::pending().await,
            Some(All { interrupt, terminate, hangup }) => tokio::select! {
                _ = interrupt.recv() => "SIGINT",
                _ = terminate.recv() => "SIGTERM",
                _ = async { hangup.as_mut().expect("checked").recv().await }, if hangup.is_some() => "SIGHUP",
            },
        }
    }

    /// The first has been heeded; whoever asks again wants out now. A terminal that goes away tells it twice, through its
    /// shell and by itself, so that a SIGHUP more asks for nothing.
    pub(crate) fn next_one_kills(&mut self) {
        if let Some(All { mut interrupt, mut terminate, .. }) = self.all.take() {
            tokio::task::spawn_local(async move {
                let code = tokio::select! {
                    _ = interrupt.recv() => 130,
                    _ = terminate.recv() => 143,
                };
                crate::screen::restore();
                std::process::exit(code);
            });
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
