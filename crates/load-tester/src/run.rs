//! A whole run: threads, listeners, the pacer, the one reader of what the threads measured.
//!
//! Worker threads each have a runtime of their own and every `workers`-th arrival of the plan. The calling thread
//! gives the orders, reads what the workers hand over each second, watches the target and tells the progress.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use socketio_client::{Revision, Transport};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinSet, LocalSet};

use crate::delivery::{Marks, Messages};
use crate::flow::{Flow, FlowAction, Maker, any_step, shortest_life};
use crate::ledger::Ledger;
use crate::metric::Totals;
use crate::metrics::{Collector, Count, Names, Recorder, merge_windows};
use crate::monitor::Watch;
use crate::outcome::{
    Check, CheckKind, Delivery, Meta, Outcome, PhaseInfo, ProcessSample, TargetUse, Window,
};
use crate::plan::Plan;
use crate::script::model::{Action, Engine, EngineRevision, PhaseKind, Script, Step};
use crate::script::vars::SharedVars;
use crate::signals::Signals;
use crate::socketio::SocketTemplate;
use crate::timer::Timer;
use crate::virtual_user::{Actor, ListenerFlow, ScenarioFlow, Shared, Worker, live, rng_of};
use crate::{ensure, listeners, monitor, validity};

/// A longer run keeps its older seconds folded: at most so many windows, each a multiple of so many seconds long.
const MOST_SECONDS: usize = 600;
const FOLDED_S: usize = 10;

/// What a run needs beside its script.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// Worker threads; `None`: one per core.
    pub workers: Option<usize>,
    /// Name of the run in results and marks; `None`: random.
    pub run_id: Option<String>,
    /// As typed, for the result's metadata.
    pub command_line: String,
    /// Every emit that waits for nothing asks for an acknowledgement.
    pub ack: bool,
    /// Writes who heard what as CSV: `FILE` holds a row for each (listener, message) pair heard, and beside it
    /// `FILE.listeners.csv` and `FILE.messages.csv` say who stood where and what was said where.
    pub pairs_out: Option<PathBuf>,
    /// First Ctrl-C or SIGTERM ends the run with its results, the second the process. Off in tests.
    pub handle_signals: bool,
}

/// What is told while the run goes on; called on the thread that called [`run`].
#[derive(Debug)]
#[non_exhaustive]
pub enum Progress<'a> {
    /// Something the reader should know.
    Notice(&'a str),
    /// Listeners that stand, of how many. Told about ten times.
    ListenersConnecting {
        ready: usize,
        of: usize,
    },
    /// All listeners stand; the first phase begins.
    ListenersReady(usize),
    PhaseStarted {
        index: usize,
        phase: &'a PhaseInfo,
    },
    PhaseCompleted {
        index: usize,
        phase: &'a PhaseInfo,
    },
    /// Each second: that second, and everything so far.
    Second {
        second: &'a Window,
        total: &'a Window,
    },
    /// Each reporting window (`config.stats_interval`, 10 s), and the account of the messages whose deadline is over.
    Window {
        window: &'a Window,
        delivery: Option<&'a Delivery>,
    },
    /// The text of a `log` step.
    Log(&'a str),
    /// All phases are over; users that are still at work.
    Draining {
        users: u64,
    },
    /// The last user is done; deliveries are still waited for.
    AwaitingDeliveries,
    /// A signal ended the arrivals.
    Interrupted(&'static str),
}

/// What the worker threads are told, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Order {
    /// Listeners stand up.
    Stand,
    /// `Shared::zero` is set: the plan begins.
    Start,
    /// No more arrivals; users end where they are.
    StopArrivals,
    /// Hand over everything and close.
    Finish,
}

/// What the worker threads tell.
#[derive(Debug)]
pub(crate) enum Report {
    ListenerReady,
    ListenerFailed,
    Second { worker: usize, second: usize, recorder: Box<Recorder> },
    UsersDone,
    Final { second: usize, recorder: Box<Recorder> },
}

/// Runs the script to its end and answers with everything measured.
///
/// # Errors
/// When the run cannot begin: a part of the script that is not supported, descriptors that will not suffice,
/// listeners that could not stand, a `before` that failed. What fails during the run is in the outcome.
///
/// # Panics
/// When called from within an asynchronous runtime.
pub fn run(
    script: &Script,
    options: &RunOptions,
    progress: &mut dyn FnMut(&Progress<'_>),
) -> anyhow::Result<Outcome> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    LocalSet::new().block_on(&runtime, conduct(script, options, progress))
}

async fn conduct(
    script: &Script,
    options: &RunOptions,
    progress: &mut dyn FnMut(&Progress<'_>),
) -> anyhow::Result<Outcome> {
    let workers =
        options.workers.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1);
    let run_id = options.run_id.clone().unwrap_or_else(|| format!("t{:08x}", fastrand::u32(..)));
    let mut signals = Signals::new(options.handle_signals)?;
    let (log, mut logged) = mpsc::unbounded_channel();
    let shared = Arc::new(prepare(script, options, &run_id, workers, log, progress).await?);
    check_descriptors(&shared)?;

    let mut collector = Collector::new(shared.names.clone(), workers);
    let seconds = shared.plan.duration().as_secs() as usize;
    if seconds > MOST_SECONDS {
        collector.fold_by(FOLDED_S * seconds.div_ceil(FOLDED_S * MOST_SECONDS));
    }
    let conductor = Worker::new(Arc::clone(&shared), 0);
    let base = SharedVars::new(&shared.script, &[]);
    let captured = match &shared.before {
        None => base,
        Some(flow) => {
            let mut actor = Actor::new(
                &conductor,
                flow,
                base.user(0, &mut rng_of(shared.seed, 0)),
                rng_of(shared.seed, 0),
                Instant::now(),
            );
            let done = actor.perform(flow).await;
            actor.leave().await;
            if done.is_err() {
                collector.add_errors(&conductor.recorder.borrow());
                bail!("`before` failed, so nothing was started: {}", first_error(&mut collector));
            }
            SharedVars::new(&shared.script, actor.person.vars.own())
        }
    };
    shared.vars.set(captured).expect("set only here");

    let mut crew = Crew::start(&shared)?;
    let standing: usize = shared.script.config.listeners.iter().map(|group| group.count).sum();
    if standing > 0 && !await_listeners(&mut crew, standing, &mut signals, &mut collector, progress).await? {
        crew.dismiss().await;
        bail!("interrupted before the first phase");
    }

    // A moment for every thread to be at its timer when the plan begins.
    let zero = Instant::now() + Duration::from_millis(20);
    let started_at = SystemTime::now() + Duration::from_millis(20);
    shared.zero.set(zero).expect("set only here");
    let mut show = Show::new(&shared, collector, zero, workers);
    if let (Some(ledger), Some(path)) = (&mut show.ledger, &options.pairs_out) {
        ledger.write_pairs(path).with_context(|| format!("writing {}", path.display()))?;
    }
    crew.orders.send_replace(Order::Start);
    let interrupted = show.watch(&mut crew, &mut signals, &mut logged, progress).await?;
    let duration_s = zero.elapsed().as_secs_f64();
    if let Some(delivery) = shared.delivery.as_ref().filter(|_| shared.messages.len() == 0) {
        let path = delivery.stamp.join(".");
        progress(&Progress::Notice(&format!(
            "nothing was stamped: no emit has text at `{path}`, so no delivery was measured"
        )));
    }
    if shared.marks.is_some() {
        progress(&Progress::AwaitingDeliveries);
        show.await_deliveries(&mut crew, interrupted.is_some()).await.context("writing who heard what")?;
    }
    crew.orders.send_replace(Order::Finish);
    show.finish(&mut crew).await.context("writing who heard what")?;
    crew.dismiss().await;
    if shared.messages.unmarked() > 0 {
        progress(&Progress::Notice(&format!(
            "{} messages went without a mark and are in no account of deliveries: too many were under way at once",
            shared.messages.unmarked()
        )));
    }

    if let Some(flow) = &shared.after {
        let vars = shared.vars.get().expect("set above").user(0, &mut rng_of(shared.seed, 0));
        let mut actor = Actor::new(&conductor, flow, vars, rng_of(shared.seed, 1), Instant::now());
        conductor.recorder.take();
        // What fails in it is among the errors; the load itself is over.
        let _ = actor.perform(flow).await;
        actor.leave().await;
        show.collector.add_errors(&conductor.recorder.borrow());
    }
    while let Ok(text) = logged.try_recv() {
        progress(&Progress::Log(&text));
    }

    let Show { mut collector, ledger, phases, target, tester, .. } = show;
    let delivery = ledger.map(Ledger::close).transpose().context("writing who heard what")?;
    let total = collector.total(duration_s);
    let (seconds, errors) = collector.finish(zero.elapsed().as_secs_f64());
    let planned = if interrupted.is_some() {
        ["vusers.created", "vusers.skipped"].iter().filter_map(|name| total.counters.get(*name)).sum()
    } else {
        shared.plan.len()
    };
    let mut checks = match &shared.script.config.ensure {
        Some(limits) => {
            let target = target.as_ref().map_or(&[][..], |target| &target.samples);
            ensure::judge(
                limits,
                Totals { total: &total, delivery: delivery.as_ref(), target, tester: &tester },
            )
        }
        None => Vec::new(),
    };
    checks.extend(collector.expectations.iter().map(|(label, seen)| Check {
        kind: CheckKind::Expect,
        expression: label.clone(),
        observed: if seen.failed == 0 {
            format!("held {} times", seen.held)
        } else {
            format!("failed {} of {} times, e.g. {}", seen.failed, seen.held + seen.failed, seen.seen)
        },
        passed: seen.failed == 0,
        strict: true,
    }));
    let revision = uses_socketio(&shared.script).then(|| match shared.socket.base().revision {
        Revision::V3 => 3,
        Revision::V4 => 4,
    });
    Ok(Outcome {
        meta: Meta {
            run_id,
            tool_version: env!("CARGO_PKG_VERSION").into(),
            script: shared.script.path.display().to_string(),
            script_sha256: shared.script.sha256.clone(),
            target: shared.script.config.target.clone(),
            command_line: options.command_line.clone(),
            seed: shared.seed,
            host: host(),
            workers,
            engine_revision: revision,
            started_at_ms: started_at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64),
            duration_s,
            phases,
            listeners: standing,
            unconfirmed_emits: collector.unconfirmed,
            confirmed_emits: collector.confirmed,
        },
        validity: validity::judge(&total, planned, &tester),
        seconds,
        total,
        errors,
        server_events: std::mem::take(&mut collector.server_events),
        scenario_counts: std::mem::take(&mut collector.scenario_counts),
        delivery,
        target,
        stages: Vec::new(),
        monitored: Vec::new(),
        tester,
        checks,
        interrupted,
    })
}

fn first_error(collector: &mut Collector) -> String {
    let (_, errors) = collector.finish(0.0);
    match errors.first() {
        Some(error) => format!("{} ({}): {}: {}", error.step, error.endpoint, error.cause, error.sample),
        None => "no reason was recorded".into(),
    }
}

fn uses_socketio(script: &Script) -> bool {
    let scenarios = script.scenarios.iter().chain(&script.before).chain(&script.after);
    !script.config.listeners.is_empty()
        || scenarios.into_iter().any(|scenario| scenario.engine == Engine::SocketIo)
}

/// Everything that is known before the first thread starts.
async fn prepare(
    script: &Script,
    options: &RunOptions,
    run_id: &str,
    workers: usize,
    log: mpsc::UnboundedSender<String>,
    progress: &mut dyn FnMut(&Progress<'_>),
) -> anyhow::Result<Shared> {
    let config = &script.config;
    let mut names = Names::default();
    let mut maker = Maker {
        names: &mut names,
        target: &config.target,
        jitter: config.think_jitter,
        delivery: config.delivery.as_ref(),
        ack_all: options.ack,
        who: "",
    };
    let mut scenarios = Vec::new();
    for scenario in &script.scenarios {
        let flow = maker.flow(scenario.engine, &scenario.flow)?;
        let id = maker.names.scenario(scenario.name.clone());
        scenarios.push(ScenarioFlow { flow, id, weight: scenario.weight });
    }
    maker.delivery = None;
    maker.ack_all = false;
    let mut listeners = Vec::new();
    let mut first = 0;
    maker.who = "listener: ";
    for group in &config.listeners {
        let flow = maker.flow(Engine::SocketIo, &group.flow)?;
        let moving = match &group.moving {
            None => None,
            Some(moving) => {
                if !moving.flow.iter().any(confirms) {
                    bail!(
                        "`listeners.moving`: no emit asks for `acknowledge`, so nobody would know when a listener has moved"
                    );
                }
                Some(maker.flow(Engine::SocketIo, &moving.flow)?)
            }
        };
        listeners.push(ListenerFlow { flow, moving, first });
        first += group.count;
    }
    let listening = maker.names.step("listening".into(), config.target.clone());
    maker.who = "before: ";
    let before = script.before.as_ref().map(|before| maker.flow(before.engine, &before.flow)).transpose()?;
    maker.who = "after: ";
    let after = script.after.as_ref().map(|after| maker.flow(after.engine, &after.flow)).transpose()?;

    // Reading the machine's certificates takes memory and time that a plain target need not pay.
    let tls = match config.target.starts_with("https:") {
        false => None,
        true if config.tls_verify => {
            Some(socketio_client::tls::native_roots().context("reading the trusted certificates")?)
        }
        true => Some(socketio_client::tls::insecure()),
    };
    let addresses = addresses_of(&config.target, config.timeout).await?;
    let mut socket = SocketTemplate::new(config, Revision::V4, &addresses, tls.clone())?;
    if uses_socketio(script) {
        let revision = match config.socketio.revision {
            Some(EngineRevision::V3) => Revision::V3,
            Some(EngineRevision::V4) => Revision::V4,
            None => match socketio_client::detect_revision(socket.base()).await {
                Ok(revision) => revision,
                Err(error) => {
                    // The run goes on and shows the failures for what they are.
                    let notice = format!(
                        "the server's Engine.IO revision could not be told ({error}); speaking revision 4"
                    );
                    progress(&Progress::Notice(&notice));
                    Revision::V4
                }
            },
        };
        socket = SocketTemplate::new(config, revision, &addresses, tls.clone())?;
    }
    let weights = scenarios.iter().map(|scenario| u64::from(scenario.weight)).sum();
    if weights == 0 {
        bail!("every scenario has weight 0, so none can be chosen");
    }
    Ok(Shared {
        names,
        scenarios,
        weights,
        before,
        after,
        listeners,
        listening,
        plan: Plan::new(&config.phases, config.seed),
        workers,
        seed: config.seed,
        vars: OnceLock::new(),
        socket,
        tls: tls.map_or_else(OnceLock::new, |tls| Some(tls).into()),
        addresses,
        delivery: config.delivery.clone(),
        marks: config.delivery.as_ref().map(|delivery| Marks::new(&delivery.event, run_id)),
        messages: Messages::new(),
        heard: (0..workers).map(|_| Padded::default()).collect(),
        zero: OnceLock::new(),
        alive: AtomicU64::new(0),
        log,
        script: script.clone(),
    })
}

/// A counter with a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Padded(pub(crate) AtomicU64);

fn confirms(step: &Step) -> bool {
    match &step.action {
        Action::Emit(emit) => emit.acknowledge.is_some() || emit.response.is_some(),
        Action::Loop(inner) => inner.steps.iter().any(confirms),
        _ => false,
    }
}

/// The target's addresses, the first that takes a connection in front: `localhost` is two, and a server often
/// listens on one of them.
async fn addresses_of(target: &str, timeout: Duration) -> anyhow::Result<Vec<SocketAddr>> {
    let endpoint = crate::flow::endpoint(target)?;
    // A name that cannot be resolved now fails user by user, with its stage.
    let Ok(mut addresses) = socketio_client::resolve(&endpoint).await else { return Ok(Vec::new()) };
    if addresses.len() > 1 {
        for index in 0..addresses.len() {
            let connect = tokio::net::TcpStream::connect(addresses[index]);
            if let Ok(Ok(_)) = tokio::time::timeout(timeout, connect).await {
                addresses.swap(0, index);
                break;
            }
        }
    }
    Ok(addresses)
}

/// Refuses a run whose sockets cannot all be open at once.
fn check_descriptors(shared: &Shared) -> anyhow::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current < limit.maximum || limit.maximum.is_none() {
        // macOS knows an unlimited hard limit but grants only this much.
        let wanted = limit.maximum.or(Some(if cfg!(target_os = "macos") { 10_240 } else { 1 << 20 }));
        if wanted > limit.current {
            let _ = setrlimit(Resource::Nofile, Rlimit { current: wanted, maximum: limit.maximum });
        }
    }
    let Some(allowed) = getrlimit(Resource::Nofile).current else { return Ok(()) };
    // A poll and a post at once.
    let per_socket = match shared.socket.base().transport {
        Transport::WebSocket => 1,
        Transport::Polling => 2,
        // And the WebSocket beside them while the transport changes.
        _ => 3,
    };
    let listeners: u64 = shared.script.config.listeners.iter().map(|group| group.count as u64).sum();
    let flows =
        || shared.scenarios.iter().filter(|scenario| scenario.weight > 0).map(|scenario| &scenario.flow);
    let sockets = |flow: &Flow| {
        per_socket * u64::from(flow.engine == Engine::SocketIo)
            + u64::from(any_step(&flow.steps, &|action| matches!(action, FlowAction::Http(_))))
    };
    let sockets = flows().map(sockets).max().unwrap_or(1).max(1);
    let life = flows().map(|flow| shortest_life(&flow.steps)).max().unwrap_or_default();
    let users = peak_users(&shared.plan, life);
    let needed = listeners * per_socket + users * sockets + 64;
    if needed > allowed {
        bail!(
            "this run needs about {needed} open files ({listeners} listeners, about {users} users at once with {sockets} \
             each), but this process may open {allowed}: raise the limit (`ulimit -n {needed}`), or lower the load"
        );
    }
    Ok(())
}

/// How many users live at once when each lives as long as its pauses and a second more.
fn peak_users(plan: &Plan, life: Duration) -> u64 {
    let life = life.saturating_add(Duration::from_secs(1)).as_secs_f64();
    let of_phase = |planned: &crate::plan::PlannedPhase| {
        let rate = match planned.phase.kind {
            PhaseKind::Pause { .. } => 0.0,
            PhaseKind::Count { duration, count } => count as f64 / duration.as_secs_f64().max(0.001),
            PhaseKind::Rate { rate, .. } => rate,
            PhaseKind::Ramp { from, to, .. } => from.max(to),
        };
        let users = ((rate * life).ceil() as u64).min(planned.arrivals);
        planned.phase.max_vusers.map_or(users, |most| users.min(most))
    };
    plan.phases().iter().map(of_phase).max().unwrap_or(0)
}

fn host() -> String {
    let name = rustix::system::uname();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!(
        "{} ({} {}, {cores} cores)",
        name.nodename().to_string_lossy(),
        name.sysname().to_string_lossy(),
        name.machine().to_string_lossy()
    )
}

/// The worker threads, and the lines to them.
struct Crew {
    threads: Vec<std::thread::JoinHandle<()>>,
    orders: watch::Sender<Order>,
    reports: mpsc::UnboundedReceiver<Report>,
    /// Emptied recorders on their way back.
    spares: Vec<mpsc::UnboundedSender<Box<Recorder>>>,
}

impl Crew {
    fn start(shared: &Arc<Shared>) -> anyhow::Result<Self> {
        let (orders, order) = watch::channel(Order::Stand);
        let (report, reports) = mpsc::unbounded_channel();
        let mut crew = Self { threads: Vec::new(), orders, reports, spares: Vec::new() };
        for index in 0..shared.workers {
            let (spare, spares) = mpsc::unbounded_channel();
            crew.spares.push(spare);
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .context("starting a worker")?;
            let (shared, order, report) = (Arc::clone(shared), order.clone(), report.clone());
            let thread = std::thread::Builder::new()
                .name(format!("{}{index}", validity::WORKER_THREAD))
                .spawn(move || {
                    // A set polls its outermost future at every wake of any task, so that one had better be small.
                    let all = async move {
                        check(tokio::task::spawn_local(work(shared, index, report, order, spares)).await);
                    };
                    LocalSet::new().block_on(&runtime, all);
                });
            crew.threads.push(thread.context("starting a worker thread")?);
        }
        Ok(crew)
    }

    /// Waits for the threads to end; they close their sockets within a bounded time.
    async fn dismiss(&mut self) {
        self.orders.send_replace(Order::Finish);
        let threads = std::mem::take(&mut self.threads);
        let joined = tokio::task::spawn_blocking(move || {
            for thread in threads {
                if let Err(panic) = thread.join() {
                    std::panic::resume_unwind(panic);
                }
            }
        });
        if let Err(error) = joined.await
            && let Ok(panic) = error.try_into_panic()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

/// One worker thread's whole life.
async fn work(
    shared: Arc<Shared>,
    index: usize,
    reports: mpsc::UnboundedSender<Report>,
    mut orders: watch::Receiver<Order>,
    spares: mpsc::UnboundedReceiver<Box<Recorder>>,
) {
    let worker = Worker::new(Arc::clone(&shared), index);
    let mut crowd = listeners::stand_up(&worker, index, &reports, &orders);
    // An error means that the conductor is gone.
    if orders.wait_for(|order| *order >= Order::Start).await.is_ok_and(|order| *order == Order::Start) {
        let before = std::mem::take(&mut *worker.recorder.borrow_mut());
        worker.recorder.borrow_mut().begin_with(before);
        let hand_over =
            HandOver { worker: Rc::clone(&worker), index, reports: reports.clone(), spares, second: 0 };
        let hand_over = std::cell::RefCell::new(hand_over);
        let mut users = JoinSet::new();
        let mut stop = orders.clone();
        let run = async {
            let stopped = tokio::select! {
                () = pace(&worker, index, &mut users) => false,
                _ = stop.wait_for(|order| *order >= Order::StopArrivals) => true,
            };
            if !stopped {
                loop {
                    tokio::select! {
                        joined = users.join_next() => match joined {
                            Some(joined) => check(joined),
                            None => break,
                        },
                        _ = stop.wait_for(|order| *order >= Order::StopArrivals) => break,
                    }
                }
            }
            users.shutdown().await;
            let _ = reports.send(Report::UsersDone);
            let _ = orders.wait_for(|order| *order >= Order::Finish).await;
        };
        tokio::select! {
            () = run => {}
            () = HandOver::each_second(&hand_over) => {}
        }
        let (second, recorder) = hand_over.borrow_mut().take();
        let _ = reports.send(Report::Final { second, recorder });
    } else {
        let recorder = Box::new(worker.recorder.take());
        let _ = reports.send(Report::Final { second: 0, recorder });
    }
    drop(reports);
    // Listeners leave as clients do; whoever takes longer is cut off.
    let _ =
        tokio::time::timeout(Duration::from_secs(3), async { while crowd.join_next().await.is_some() {} })
            .await;
}

/// A user's task cannot fail but by a fault of ours.
fn check(joined: Result<(), tokio::task::JoinError>) {
    if let Err(error) = joined
        && let Ok(panic) = error.try_into_panic()
    {
        std::panic::resume_unwind(panic);
    }
}

/// Starts this worker's users, each at its instant.
async fn pace(worker: &Rc<Worker>, index: usize, users: &mut JoinSet<()>) {
    let shared = Arc::clone(&worker.shared);
    let zero = *shared.zero.get().expect("set before the start");
    let timer = Timer::new();
    let mut in_a_row = 0;
    for (arrival, due) in shared.plan.of_worker(index as u64, shared.workers as u64) {
        let at = zero + due;
        if at > Instant::now() {
            timer.until(at).await;
            in_a_row = 0;
        } else {
            in_a_row += 1;
            // Behind schedule: those that were started must get their turn too.
            if in_a_row % 16 == 0 {
                tokio::task::yield_now().await;
            }
        }
        while let Some(joined) = users.try_join_next() {
            check(joined);
        }
        let most = shared.plan.phases()[shared.plan.phase_of(arrival)].phase.max_vusers;
        if most.is_some_and(|most| shared.alive.load(Ordering::Relaxed) >= most) {
            worker.recorder.borrow_mut().count(Count::UsersSkipped);
            continue;
        }
        shared.alive.fetch_add(1, Ordering::Relaxed);
        users.spawn_local(live(Rc::clone(worker), arrival, at));
    }
    // A pause at the end is part of the plan too.
    timer.until(zero + shared.plan.duration()).await;
}

/// Gives the recorder away once a second.
struct HandOver {
    worker: Rc<Worker>,
    index: usize,
    reports: mpsc::UnboundedSender<Report>,
    spares: mpsc::UnboundedReceiver<Box<Recorder>>,
    second: usize,
}

impl HandOver {
    async fn each_second(this: &std::cell::RefCell<Self>) {
        let zero = *this.borrow().worker.shared.zero.get().expect("set before the start");
        loop {
            let next = zero + Duration::from_secs(this.borrow().second as u64 + 1);
            tokio::time::sleep_until(next.into()).await;
            let mut this = this.borrow_mut();
            let (second, recorder) = this.take();
            let _ = this.reports.send(Report::Second { worker: this.index, second, recorder });
            this.second += 1;
        }
    }

    fn take(&mut self) -> (usize, Box<Recorder>) {
        let mut fresh = self.spares.try_recv().unwrap_or_default();
        std::mem::swap(&mut *fresh, &mut *self.worker.recorder.borrow_mut());
        fresh.users = self.worker.users.get();
        fresh.connections = self.worker.connections.get();
        (self.second, fresh)
    }
}

/// Waits until all listeners stand. False when a signal came first.
async fn await_listeners(
    crew: &mut Crew,
    standing: usize,
    signals: &mut Signals,
    collector: &mut Collector,
    progress: &mut dyn FnMut(&Progress<'_>),
) -> anyhow::Result<bool> {
    let (mut ready, mut failed, mut told) = (0, 0, 0);
    while ready + failed < standing {
        tokio::select! {
            report = crew.reports.recv() => match report {
                Some(Report::ListenerReady) => ready += 1,
                Some(Report::ListenerFailed) => failed += 1,
                _ => bail!("a worker thread ended early"),
            },
            name = signals.next() => {
                progress(&Progress::Interrupted(name));
                return Ok(false);
            }
        }
        if ready * 10 / standing > told {
            told = ready * 10 / standing;
            progress(&Progress::ListenersConnecting { ready, of: standing });
        }
    }
    if failed > 0 {
        // The threads hand their errors over when they finish without having started.
        crew.orders.send_replace(Order::Finish);
        while let Some(report) = crew.reports.recv().await {
            if let Report::Final { recorder, .. } = report {
                collector.add_errors(&recorder);
            }
        }
        crew.dismiss().await;
        bail!("{failed} of {standing} listeners could not stand: {}", first_error(collector));
    }
    progress(&Progress::ListenersReady(standing));
    Ok(true)
}

/// Everything the conductor keeps while the plan runs.
struct Show<'a> {
    shared: &'a Arc<Shared>,
    collector: Collector,
    /// With `config.delivery`.
    ledger: Option<Ledger>,
    zero: Instant,
    workers: usize,
    phases: Vec<PhaseInfo>,
    target: Option<TargetUse>,
    target_watch: Option<Watch>,
    tester: Vec<ProcessSample>,
    tester_watch: Option<Watch>,
    /// Seconds told as `Second`, and as part of a `Window`.
    told_seconds: usize,
    told_windows: usize,
}

impl<'a> Show<'a> {
    fn new(shared: &'a Arc<Shared>, collector: Collector, zero: Instant, workers: usize) -> Self {
        let phases = shared.plan.phases().iter().map(|planned| PhaseInfo {
            name: planned.phase.name.clone().unwrap_or_default(),
            start_s: planned.start.as_secs_f64(),
            duration_s: planned.duration.as_secs_f64(),
            load: planned.load(),
            planned: planned.arrivals,
        });
        let target_watch = monitor::listener_on(&shared.addresses).and_then(Watch::new);
        let target = target_watch.as_ref().map(|watch| TargetUse {
            pid: watch.pid,
            command: watch.command(),
            samples: Vec::new(),
        });
        Self {
            shared,
            collector,
            ledger: shared
                .delivery
                .as_ref()
                .map(|config| Ledger::new(&config.event, config.expect, listeners::first_stands(shared))),
            zero,
            workers,
            phases: phases.collect(),
            target,
            target_watch,
            tester: Vec::new(),
            tester_watch: Watch::new(std::process::id()),
            told_seconds: 0,
            told_windows: 0,
        }
    }

    /// From the first phase to the last user's end; answers the signal that ended it early.
    async fn watch(
        &mut self,
        crew: &mut Crew,
        signals: &mut Signals,
        logged: &mut mpsc::UnboundedReceiver<String>,
        progress: &mut dyn FnMut(&Progress<'_>),
    ) -> anyhow::Result<Option<&'static str>> {
        let mut interrupted = None;
        let mut done = 0;
        // Phase boundaries: (when, phase, begins).
        let mut edges: Vec<(Instant, usize, bool)> = Vec::new();
        for (index, planned) in self.shared.plan.phases().iter().enumerate() {
            edges.push((self.zero + planned.start, index, true));
            edges.push((self.zero + planned.start + planned.duration, index, false));
        }
        edges.reverse();
        let mut tick =
            tokio::time::interval_at((self.zero + Duration::from_secs(1)).into(), Duration::from_secs(1));
        while done < self.workers {
            let edge = edges.last().copied();
            tokio::select! {
                report = crew.reports.recv() => match report {
                    Some(Report::Second { worker, second, recorder }) => {
                        self.take(crew, worker, second, recorder, progress).context("writing who heard what")?;
                    }
                    Some(Report::UsersDone) => done += 1,
                    Some(_) => {}
                    None => bail!("a worker thread ended early"),
                },
                _ = tick.tick() => self.sample(),
                Some(text) = logged.recv() => progress(&Progress::Log(&text)),
                () = tokio::time::sleep_until(edge.map_or(self.zero, |(at, ..)| at).into()), if edge.is_some() && interrupted.is_none() => {
                    edges.pop();
                    if let Some((_, index, begins)) = edge {
                        let phase = &self.phases[index];
                        progress(&if begins { Progress::PhaseStarted { index, phase } } else { Progress::PhaseCompleted { index, phase } });
                        if !begins && edges.is_empty() {
                            progress(&Progress::Draining { users: self.shared.alive.load(Ordering::Relaxed) });
                        }
                    }
                }
                name = signals.next(), if interrupted.is_none() => {
                    interrupted = Some(name);
                    signals.next_one_kills();
                    progress(&Progress::Interrupted(name));
                    crew.orders.send_replace(Order::StopArrivals);
                }
            }
        }
        Ok(interrupted)
    }

    fn take(
        &mut self,
        crew: &Crew,
        worker: usize,
        second: usize,
        mut recorder: Box<Recorder>,
        progress: &mut dyn FnMut(&Progress<'_>),
    ) -> std::io::Result<()> {
        let whole = self.collector.add(second, &recorder);
        if let Some(ledger) = &mut self.ledger {
            ledger.add(&recorder);
        }
        recorder.clear();
        // A thread that has ended needs no spare.
        let _ = crew.spares[worker].send(recorder);
        let deadline = self.shared.delivery.as_ref().map_or(Duration::ZERO, |config| config.deadline);
        if let Some(ledger) = &mut self.ledger {
            // Of the seconds that all threads have handed over everything is known.
            let over = Duration::from_secs(whole as u64).saturating_sub(deadline);
            ledger.judge_before(over.as_nanos() as u64, &self.shared.messages, &mut self.collector)?;
        }
        self.tell(whole, progress);
        let told = self.told_seconds.min(self.told_windows);
        self.collector.fold(told.saturating_sub(deadline.as_secs() as usize + 2));
        Ok(())
    }

    fn tell(&mut self, whole: usize, progress: &mut dyn FnMut(&Progress<'_>)) {
        while self.told_seconds < whole {
            let total = self.collector.total((self.told_seconds + 1) as f64);
            if let Some(second) = self.collector.whole_from(self.told_seconds).next() {
                progress(&Progress::Second { second, total: &total });
            }
            self.told_seconds += 1;
        }
        let length = usize::try_from(self.shared.script.config.stats_interval.as_secs()).unwrap_or(10).max(1);
        while self.told_windows + length <= whole {
            let window = merge_windows(self.collector.whole_from(self.told_windows).take(length));
            if let Some(window) = &window {
                let delivery = self.ledger.as_ref().map(Ledger::delivery);
                progress(&Progress::Window { window, delivery });
            }
            self.told_windows += length;
        }
    }

    fn sample(&mut self) {
        let at_s = self.zero.elapsed().as_secs_f64();
        if let (Some(watch), Some(target)) = (&mut self.target_watch, &mut self.target) {
            match watch.sample(at_s) {
                Some(sample) => target.samples.push(sample),
                // It is gone; what was seen of it stays.
                None => self.target_watch = None,
            }
        }
        self.tester.extend(self.tester_watch.as_mut().and_then(|watch| watch.sample(at_s)));
    }

    /// Waits until everything expected was heard, or until the deadline.
    async fn await_deliveries(&mut self, crew: &mut Crew, interrupted: bool) -> std::io::Result<()> {
        let Some(config) = &self.shared.delivery else { return Ok(()) };
        let limit = if interrupted { config.deadline.min(Duration::from_secs(1)) } else { config.deadline };
        let deadline = Instant::now() + limit;
        let wanted = self.ledger.as_mut().and_then(|ledger| ledger.wanted(&self.shared.messages));
        // Without a number to reach, silence has to do; what comes uncalled gets a moment to show itself either way.
        let silence = if wanted.is_some() { Duration::from_millis(200) } else { Duration::from_secs(2) };
        let mut heard = self.heard();
        let mut since = Instant::now();
        loop {
            let now = Instant::now();
            let quiet = now.duration_since(since) >= silence;
            if now >= deadline || (quiet && wanted.is_none_or(|wanted| heard >= wanted)) {
                return Ok(());
            }
            tokio::select! {
                report = crew.reports.recv() => match report {
                    Some(Report::Second { worker, second, recorder }) => {
                        self.take(crew, worker, second, recorder, &mut |_| {})?;
                    }
                    Some(_) => {}
                    None => return Ok(()),
                },
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
            }
            let now_heard = self.heard();
            if now_heard != heard {
                heard = now_heard;
                since = Instant::now();
            }
        }
    }

    fn heard(&self) -> u64 {
        self.shared.heard.iter().map(|heard| heard.0.load(Ordering::Relaxed)).sum()
    }

    /// Takes the last that every thread has.
    async fn finish(&mut self, crew: &mut Crew) -> std::io::Result<()> {
        let mut finals = 0;
        while finals < self.workers {
            match crew.reports.recv().await {
                Some(Report::Second { worker, second, recorder }) => {
                    self.take(crew, worker, second, recorder, &mut |_| {})?;
                }
                Some(Report::Final { second, recorder }) => {
                    finals += 1;
                    self.collector.add(second, &recorder);
                    if let Some(ledger) = &mut self.ledger {
                        ledger.add(&recorder);
                    }
                }
                Some(_) => {}
                None => break,
            }
        }
        if let Some(ledger) = &mut self.ledger {
            ledger.judge_before(u64::MAX, &self.shared.messages, &mut self.collector)?;
        }
        self.sample_if_never();
        Ok(())
    }

    /// A run of less than a second has a sample all the same.
    fn sample_if_never(&mut self) {
        if self.tester.is_empty() {
            self.sample();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::model::Phase;

    #[test]
    fn peak_users_follow_from_rate_and_life() {
        let phase = |kind| Phase { name: None, kind, max_vusers: None };
        let rate = phase(PhaseKind::Rate { duration: Duration::from_secs(30), rate: 300.0, poisson: false });
        let second = Duration::from_secs(1);
        assert_eq!(peak_users(&Plan::new(std::slice::from_ref(&rate), 1), second), 600);
        assert_eq!(peak_users(&Plan::new(std::slice::from_ref(&rate), 1), Duration::MAX), 9000);
        let capped = Phase { max_vusers: Some(50), ..rate };
        assert_eq!(peak_users(&Plan::new(&[capped], 1), second), 50);
    }
}
