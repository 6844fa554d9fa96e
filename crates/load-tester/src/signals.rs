//! Ctrl-C and SIGTERM: the first ends a run gently, the second at once.

use anyhow::Context as _;

#[derive(Debug)]
pub(crate) struct Signals {
    both: Option<(tokio::signal::unix::Signal, tokio::signal::unix::Signal)>,
}

impl Signals {
    pub(crate) fn new(handle: bool) -> anyhow::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let both = handle.then(|| {
            Ok::<_, std::io::Error>((signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?))
        });
        Ok(Self { both: both.transpose().context("listening for signals")? })
    }

    /// The name of the next signal.
    pub(crate) async fn next(&mut self) -> &'static str {
        match &mut self.both {
            None => std::future::pending().await,
            Some((interrupt, terminate)) => tokio::select! {
                _ = interrupt.recv() => "SIGINT",
                _ = terminate.recv() => "SIGTERM",
            },
        }
    }

    /// The first has been heeded; whoever asks again wants out now.
    pub(crate) fn next_one_kills(&mut self) {
        if let Some((mut interrupt, mut terminate)) = self.both.take() {
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
