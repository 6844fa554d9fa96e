//! A whole run: threads, listeners, the pacer, the one reader of what the threads measured.
//!
//! Worker threads each have a runtime of their own and every `workers`-th arrival of the plan. The calling thread
//! gives the orders, reads what the workers hand over each second, watches the target and tells the progress.

mod crew;
mod debug;
mod pacer;
mod prepare;
mod show;
mod so_far;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use socketio_client::Revision;
use tokio::sync::mpsc;
use tokio::task::LocalSet;

pub(crate) use crew::{Order, Report};
pub use debug::{Debugged, debug};
pub(crate) use prepare::Padded;
pub use so_far::SoFar;

pub use crate::progress::Progress;

use crate::ledger::Ledger;
use crate::metric::Totals;
use crate::metrics::Collector;
use crate::outcome::{Check, CheckKind, Meta, Outcome, counters};
use crate::script::model::Script;
use crate::script::vars::SharedVars;
use crate::signals::Signals;
use crate::sources::Sources;
use crate::target::{Observer, Seen};
use crate::virtual_user::{Actor, Worker, rng_of};
use crate::{ensure, preflight, unstarted, validity};
use crew::Crew;
use prepare::{prepare, uses_socketio};
use show::{Limits, Show, await_listeners};

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
    /// After so long nobody arrives any more; `None`: what the script says.
    pub max_duration: Option<Duration>,
    /// What users get to end after that, before they are cut off; `None`: the script's `timeout`. Whoever waits for an
    /// answer has it by then, or has given up; whoever has not ended is pausing or going round in a loop.
    pub grace: Option<Duration>,
    /// Where connections come from; `None`: what the script says.
    pub sources: Option<Sources>,
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
    let outcome = LocalSet::new().block_on(&runtime, conduct(script, options, progress));
    // A name server that does not answer would hold up the end.
    runtime.shutdown_background();
    outcome
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
    let unstarted = |signal, collector| {
        unstarted::outcome(script, run_id.clone(), options.command_line.clone(), workers, signal, collector)
    };
    let prepared = tokio::select! {
        prepared = prepare(script, options, &run_id, workers, log, progress) => prepared?,
        signal = signals.next() => return Ok(unstarted(signal, None)),
    };
    let shared = Arc::new(prepared);
    for notice in preflight::check(&shared)? {
        progress(&Progress::Notice(&notice));
    }

    let limits = Limits {
        max_duration: options.max_duration.or(script.config.max_duration),
        grace: options.grace.unwrap_or(script.config.timeout),
    };
    let length = shared.plan.duration().min(limits.max_duration.unwrap_or(Duration::MAX));
    let mut collector = Collector::new(shared.names.clone(), workers);
    collector.expect_seconds(length.as_secs() as usize);
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
            let done = tokio::select! {
                done = actor.perform(flow) => done,
                signal = signals.next() => return Ok(unstarted(signal, Some(collector))),
            };
            actor.leave().await;
            // Not every error ends it: a refusal, a complaint of the server, a connection lost in a pause.
            collector.add_errors(&conductor.recorder.take());
            if done.is_err() {
                bail!("`before` failed, so nothing was started: {}", first_error(&mut collector));
            }
            SharedVars::new(&shared.script, actor.person.vars.own())
        }
    };
    shared.vars.set(captured).expect("set only here");

    let mut crew = Crew::start(&shared)?;
    let standing: usize = shared.script.config.listeners.iter().map(|group| group.count).sum();
    if standing > 0
        && let Some(signal) =
            await_listeners(&mut crew, standing, &mut signals, &mut collector, progress).await?
    {
        return Ok(unstarted(signal, Some(collector)));
    }

    let observer = Observer::start(&shared.script.config, &shared.addresses);
    observer.looked().await;
    // A moment for every thread to be at its timer when the plan begins.
    let zero = Instant::now() + Duration::from_millis(20);
    let started_at = SystemTime::now() + Duration::from_millis(20);
    shared.zero.set(zero).expect("set only here");
    observer.begin(zero);
    let revision = uses_socketio(&shared.script).then(|| match shared.socket.base().revision {
        Revision::V3 => 3,
        Revision::V4 => 4,
    });
    let meta = Meta {
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
        listeners: standing,
        // Known at the end, or at each look.
        duration_s: 0.0,
        phases: Vec::new(),
        unconfirmed_emits: 0,
        confirmed_emits: 0,
    };
    let mut show = Show::new(&shared, collector, observer, zero, workers, meta);
    if let (Some(ledger), Some(path)) = (&mut show.ledger, &options.pairs_out) {
        ledger.write_pairs(path).with_context(|| format!("writing {}", path.display()))?;
    }
    crew.orders.send_replace(Order::Start);
    let mut ended = show.watch(&mut crew, &mut signals, &mut logged, limits, progress).await?;
    let duration_s = zero.elapsed().as_secs_f64();
    if let Some(delivery) = shared.delivery.as_ref().filter(|_| shared.messages.len() == 0) {
        let path = delivery.stamp.join(".");
        progress(&Progress::Notice(&format!(
            "nothing was stamped: no emit has text at `{path}`, so no delivery was measured"
        )));
    }
    if shared.marks.is_some() {
        progress(&Progress::AwaitingDeliveries);
        show.await_deliveries(&mut crew, &mut signals, &mut ended.interrupted, progress).await;
    }
    crew.orders.send_replace(Order::Finish);
    show.finish(&mut crew, progress).await;
    let delivery = show.ledger.as_mut().map(Ledger::close);
    show.tell_fault(progress);
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
        // What fails in it is among the errors; the load itself is over.
        tokio::select! {
            _ = actor.perform(flow) => {}
            signal = signals.next(), if ended.interrupted.is_none() => {
                progress(&Progress::Interrupted(signal));
                ended.interrupted = Some(signal);
            }
        }
        actor.leave().await;
        show.collector.add_errors(&conductor.recorder.borrow());
    }
    while let Ok(text) = logged.try_recv() {
        progress(&Progress::Log(&text));
    }

    let Seen { target, stages, monitored } = show.observer.finish();
    for notice in show.observer.notices() {
        progress(&Progress::Notice(&notice));
    }
    let Show { mut collector, meta, tester, busy, .. } = show;
    let tester = tester.finish();
    let total = collector.total(duration_s);
    let (seconds, errors) = collector.finish(zero.elapsed().as_secs_f64());
    let planned = ended.stopped_at.map_or(shared.plan.len(), |at| shared.plan.due_by(at));
    // Whoever came and ended in time was not ended.
    let cut_off = total.counters.get(counters::USERS_UNFINISHED).is_some_and(|users| *users > 0);
    let ended_after_s = match (ended.interrupted, ended.stopped_at) {
        (None, Some(at)) if cut_off || at < shared.plan.duration() => Some(at.as_secs_f64()),
        _ => None,
    };
    let mut checks = match &shared.script.config.ensure {
        Some(limits) => {
            let target = target.as_ref().map_or(&[][..], |target| &target.samples);
            ensure::judge(
                limits,
                Totals {
                    total: &total,
                    users_before: 0,
                    delivery: delivery.as_ref(),
                    target,
                    tester: &tester,
                },
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
    Ok(Outcome {
        meta: Meta {
            duration_s,
            unconfirmed_emits: collector.unconfirmed,
            confirmed_emits: collector.confirmed,
            ..meta
        },
        validity: validity::judge(&total, planned, &busy),
        seconds,
        total,
        errors,
        server_events: std::mem::take(&mut collector.server_events),
        scenario_counts: std::mem::take(&mut collector.scenario_counts),
        delivery,
        target,
        stages,
        monitored,
        tester,
        checks,
        interrupted: ended.interrupted,
        ended_after_s,
    })
}

fn first_error(collector: &mut Collector) -> String {
    let (_, errors) = collector.finish(0.0);
    match errors.first() {
        Some(error) => format!("{} ({}): {}: {}", error.step, error.endpoint, error.cause, error.sample),
        None => "no reason was recorded".into(),
    }
}

pub(crate) fn host() -> String {
    let name = rustix::system::uname();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!(
        "{} ({} {}, {cores} cores)",
        name.nodename().to_string_lossy(),
        name.sysname().to_string_lossy(),
        name.machine().to_string_lossy()
    )
}
