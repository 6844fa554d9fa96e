//! The target's side of a run, watched from a thread of its own: its processes when it is on this machine, the
//! stages of its work when it exposes them, and the series the script names.
//!
//! Nothing here is waited for by the load: an endpoint that fails is told once and asked again the next second.

mod fetch;
mod processes;
mod series;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;
use url::Url;

use crate::outcome::{Monitored, StageUse, TargetUse};
use crate::prometheus;
use crate::script::model::Config;
use fetch::Endpoint;
use processes::Processes;
use series::Account;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// For the last answer, after the run.
const LAST_PATIENCE: Duration = Duration::from_millis(500);

/// What was seen so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) target: Option<TargetUse>,
    pub(crate) stages: Vec<StageUse>,
    pub(crate) monitored: Vec<Monitored>,
}

/// What the thread writes down.
#[derive(Debug, Default)]
struct Board {
    target: Option<TargetUse>,
    /// One for each endpoint.
    said: Vec<(Vec<StageUse>, Vec<Monitored>)>,
    /// What the reader should know; each is told once.
    notices: Vec<String>,
}

type Shared = Arc<Mutex<Board>>;

fn lock(board: &Shared) -> MutexGuard<'_, Board> {
    board.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The watching thread.
#[derive(Debug)]
pub(crate) struct Observer {
    board: Shared,
    stop: watch::Sender<bool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Observer {
    /// Begins to watch; `zero` is the run's start.
    pub(crate) fn start(config: &Config, addresses: &[SocketAddr], zero: Instant) -> Self {
        let board = Shared::default();
        let (stop, stopped) = watch::channel(false);
        let sources = sources(config, addresses);
        lock(&board).said.resize_with(sources.len(), Default::default);
        let (addresses, theirs) = (addresses.to_vec(), Arc::clone(&board));
        let thread = std::thread::Builder::new().name("drumfire-target".into()).spawn(move || {
            // Without a runtime nothing is seen, and nothing is claimed.
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
                return;
            };
            runtime.block_on(async {
                let mut asking = JoinSet::new();
                for (index, source) in sources.into_iter().enumerate() {
                    asking.spawn(ask_on(source, index, Arc::clone(&theirs), zero, stopped.clone()));
                }
                sample_on(&addresses, &theirs, zero, stopped).await;
                let rest = async { while asking.join_next().await.is_some() {} };
                // Whoever takes longer for a last answer has said enough.
                let _ = tokio::time::timeout(LAST_PATIENCE, rest).await;
            });
        });
        Self { board, stop, thread: thread.ok() }
    }

    /// Notices that were not told yet.
    pub(crate) fn notices(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.board).notices)
    }

    /// Everything seen so far.
    pub(crate) fn seen(&self) -> Seen {
        let board = lock(&self.board);
        let (stages, monitored): (Vec<_>, Vec<_>) = board.said.iter().cloned().unzip();
        Seen { target: board.target.clone(), stages: stages.concat(), monitored: monitored.concat() }
    }

    /// Ends the thread; everything seen.
    pub(crate) fn finish(&mut self) -> Seen {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take()
            && let Err(panic) = thread.join()
        {
            std::panic::resume_unwind(panic);
        }
        self.seen()
    }
}

/// An endpoint that is asked.
struct Source {
    endpoint: Endpoint,
    account: Account,
    every: Duration,
    /// Not named in the script: it is only asked if it answers with stages the first time, and its silence is no news.
    guessed: bool,
    told: bool,
}

/// Those of the script, and the target's own `/metrics` when it is on this machine.
fn sources(config: &Config, addresses: &[SocketAddr]) -> Vec<Source> {
    let mut sources = Vec::new();
    let mut urls = BTreeSet::new();
    for monitor in &config.monitor {
        let Ok(url) = Url::parse(&monitor.url) else { continue };
        let endpoint = Endpoint::new(url, config.tls_verify);
        urls.insert(endpoint.url().to_owned());
        let name = monitor.name.clone().unwrap_or_else(|| endpoint.url().to_owned());
        sources.push(Source {
            account: Account::new(&name, &monitor.series),
            endpoint,
            every: monitor.every,
            guessed: false,
            told: false,
        });
    }
    let local = !addresses.is_empty() && addresses.iter().all(|address| address.ip().is_loopback());
    let own = Url::parse(&config.target).ok().and_then(|mut url| {
        let scheme = if matches!(url.scheme(), "https" | "wss") { "https" } else { "http" };
        // Between these schemes it cannot be refused.
        let _ = url.set_scheme(scheme);
        url.join("/metrics").ok()
    });
    if let Some(url) = own.filter(|url| local && !urls.contains(url.as_str())) {
        sources.push(Source {
            account: Account::new(url.as_str(), &[]),
            endpoint: Endpoint::new(url, config.tls_verify),
            every: Duration::from_secs(1),
            guessed: true,
            told: false,
        });
    }
    sources
}

/// Looks at the processes once a second.
async fn sample_on(
    addresses: &[SocketAddr],
    board: &Shared,
    zero: Instant,
    mut stopped: watch::Receiver<bool>,
) {
    let mut processes = Processes::new(addresses);
    {
        let mut board = lock(board);
        board.target = processes.found().cloned();
        board.notices.extend(processes.forwarder.as_ref().map(|forwarder| {
            format!(
                "what listens on the target's port is {forwarder}, which only passes it on, so nothing is said of the \
                 server's CPU and memory"
            )
        }));
    }
    let mut second = 1;
    while sleep_until(zero + Duration::from_secs(second), &mut stopped).await {
        let at_s = zero.elapsed().as_secs_f64();
        processes.sample(at_s);
        lock(board).target = processes.found().cloned();
        second = at_s as u64 + 1;
    }
}

/// Asks an endpoint before the first phase, again and again, and once more after the run.
async fn ask_on(
    mut source: Source,
    index: usize,
    board: Shared,
    zero: Instant,
    mut stopped: watch::Receiver<bool>,
) {
    let mut goes_on = true;
    let mut first = true;
    loop {
        let notices = ask(&mut source, zero, if goes_on { PATIENCE } else { LAST_PATIENCE }).await;
        {
            let mut board = lock(&board);
            board.notices.extend(notices);
            board.said[index] = source.account.told();
        }
        if !goes_on || (first && source.guessed && !source.account.has_stages()) {
            return;
        }
        first = false;
        // At whole seconds of the run, so that every series has its points at the same places.
        let (since, every) = (zero.elapsed().as_secs_f64(), source.every.as_secs_f64());
        let next = zero + Duration::from_secs_f64((since / every).floor() * every + every);
        goes_on = sleep_until(next, &mut stopped).await;
    }
}

/// False when the run ended before.
async fn sleep_until(at: Instant, stopped: &mut watch::Receiver<bool>) -> bool {
    tokio::select! {
        () = tokio::time::sleep_until(at.into()) => true,
        // An error means that the conductor is gone.
        _ = stopped.wait_for(|stop| *stop) => false,
    }
}

/// One scrape; what should be told of it.
async fn ask(source: &mut Source, zero: Instant, patience: Duration) -> Vec<String> {
    let answer = source.endpoint.get(patience).await;
    let now = Instant::now();
    let at_s = match now.checked_duration_since(zero) {
        Some(since) => since.as_secs_f64(),
        None => -zero.duration_since(now).as_secs_f64(),
    };
    let taken = answer.and_then(|text| {
        let all =
            prometheus::parse(&text).map_err(|error| format!("not in Prometheus's text format: {error}"))?;
        source.account.take(&all, at_s);
        Ok(())
    });
    let mut notices = Vec::new();
    if source.guessed || source.told {
        return notices;
    }
    let url = source.endpoint.url();
    if let Err(why) = taken {
        notices.push(format!(
            "config.monitor: {url}: {why}; asked again every {} s",
            source.every.as_secs_f64()
        ));
    } else if source.account.overflowed {
        notices.push(format!("config.monitor: {url}: more than 200 series fit; the first 200 are kept"));
    } else if source.account.is_empty() && at_s >= 0.0 {
        notices.push(format!("config.monitor: {url}: it has no series of those names"));
    }
    source.told |= !notices.is_empty();
    notices
}
