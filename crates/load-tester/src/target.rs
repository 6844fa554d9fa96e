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

use tokio::sync::{Semaphore, watch};
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
/// How long the run waits for the first answers before it begins.
const FIRST_PATIENCE: Duration = Duration::from_millis(500);
/// For the last answer, after the run.
const LAST_PATIENCE: Duration = Duration::from_millis(500);

/// How busy the target is while nobody loads it.
#[derive(Debug)]
pub(crate) struct Quiet {
    processes: Processes,
    since: Instant,
}

impl Quiet {
    pub(crate) fn watch(addresses: &[SocketAddr]) -> Self {
        Self { processes: Processes::new(addresses), since: Instant::now() }
    }

    /// Cores used since the call before; `None` for a target elsewhere, or one that is gone.
    pub(crate) fn cores(&mut self) -> Option<f64> {
        self.processes.sample(self.since.elapsed().as_secs_f64());
        self.processes.cores()
    }
}

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
    /// The run's start, once it is known.
    zero: watch::Sender<Option<Instant>>,
    stop: watch::Sender<bool>,
    /// A permit for each that has looked before the run.
    looked: Arc<Semaphore>,
    looking: u32,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// What each task of the thread waits for.
#[derive(Debug, Clone)]
struct Orders {
    zero: watch::Receiver<Option<Instant>>,
    stop: watch::Receiver<bool>,
    looked: Arc<Semaphore>,
}

impl Observer {
    /// Has a first look at everything; what stands then is what the run's own share is counted from.
    pub(crate) fn start(config: &Config, addresses: &[SocketAddr]) -> Self {
        let board = Shared::default();
        let ((zero, at_zero), (stop, stopped)) = (watch::channel(None), watch::channel(false));
        let looked = Arc::new(Semaphore::new(0));
        let orders = Orders { zero: at_zero, stop: stopped, looked: Arc::clone(&looked) };
        let sources = sources(config, addresses);
        let looking = sources.len() as u32 + 1;
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
                    asking.spawn(ask_on(source, index, Arc::clone(&theirs), orders.clone()));
                }
                sample_on(&addresses, &theirs, orders).await;
                let rest = async { while asking.join_next().await.is_some() {} };
                // Whoever takes longer for a last answer has said enough.
                let _ = tokio::time::timeout(LAST_PATIENCE, rest).await;
            });
        });
        Self { board, zero, stop, looked, looking, thread: thread.ok() }
    }

    /// Waits for the first look, but not long.
    pub(crate) async fn looked(&self) {
        let all = self.looked.acquire_many(self.looking);
        let _ = tokio::time::timeout(FIRST_PATIENCE, all).await;
    }

    /// The run's start is known.
    pub(crate) fn begin(&self, zero: Instant) {
        self.zero.send_replace(Some(zero));
    }

    /// Notices that were not told yet.
    pub(crate) fn notices(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.board).notices)
    }

    /// The processes behind the port alone, which somebody looks at each second.
    pub(crate) fn target(&self) -> Option<TargetUse> {
        lock(&self.board).target.clone()
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

impl Orders {
    /// One more has looked; answers the run's start, or `None` when there will be none.
    async fn begun(&mut self) -> Option<Instant> {
        self.looked.add_permits(1);
        let zero = self.zero.wait_for(Option::is_some).await.ok()?;
        *zero
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
async fn sample_on(addresses: &[SocketAddr], board: &Shared, mut orders: Orders) {
    let mut processes = Processes::new(addresses);
    {
        let mut board = lock(board);
        board.target = processes.found();
        board.notices.extend(processes.forwarder.as_ref().map(|forwarder| {
            format!(
                "what listens on the target's port is {forwarder}, which only passes it on, so nothing is said of the \
                 server's CPU and memory"
            )
        }));
    }
    let Some(zero) = orders.begun().await else { return };
    processes.forget();
    let mut second = 1;
    while sleep_until(zero + Duration::from_secs(second), &mut orders.stop).await {
        let at_s = zero.elapsed().as_secs_f64();
        processes.sample(at_s);
        lock(board).target = processes.found();
        second = at_s as u64 + 1;
    }
}

/// Asks an endpoint before the first phase, again and again, and once more after the run.
async fn ask_on(mut source: Source, index: usize, board: Shared, mut orders: Orders) {
    let first = source.endpoint.get(PATIENCE).await;
    let mut asked = Instant::now();
    let Some(zero) = orders.begun().await else { return };
    let mut answer = first;
    let mut goes_on = true;
    loop {
        let at_s = match asked.checked_duration_since(zero) {
            Some(since) => since.as_secs_f64(),
            None => -zero.duration_since(asked).as_secs_f64(),
        };
        let notices = take(&mut source, &answer, at_s);
        {
            let mut board = lock(&board);
            board.notices.extend(notices);
            board.said[index] = source.account.told();
        }
        if !goes_on || (source.guessed && !source.account.has_stages()) {
            return;
        }
        // At whole seconds of the run, so that every series has its points at the same places.
        let (since, every) = (zero.elapsed().as_secs_f64(), source.every.as_secs_f64());
        let next = zero + Duration::from_secs_f64((since / every).floor() * every + every);
        goes_on = sleep_until(next, &mut orders.stop).await;
        answer = source.endpoint.get(if goes_on { PATIENCE } else { LAST_PATIENCE }).await;
        asked = Instant::now();
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

/// Takes an answer given at `at_s`; what should be told of it.
fn take(source: &mut Source, answer: &Result<String, String>, at_s: f64) -> Option<String> {
    let taken = answer.as_ref().map_err(Clone::clone).and_then(|text| {
        let all =
            prometheus::parse(text).map_err(|error| format!("not in Prometheus's text format: {error}"))?;
        source.account.take(&all, at_s);
        Ok(())
    });
    if source.guessed || source.told {
        return None;
    }
    let url = source.endpoint.url();
    let notice = match taken {
        Err(why) => {
            format!("config.monitor: {url}: {why}; asked again every {} s", source.every.as_secs_f64())
        }
        Ok(()) if source.account.overflowed => {
            format!("config.monitor: {url}: more than 200 series fit; the first 200 are kept")
        }
        Ok(()) if source.account.is_empty() => {
            format!("config.monitor: {url}: it has no series of those names")
        }
        Ok(()) => return None,
    };
    source.told = true;
    Some(notice)
}
