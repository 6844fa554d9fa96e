//! `drumfire debug`: a few users through the same code as in a run, without phases, everything told as it happens.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::{Context as _, bail};
use tokio::sync::mpsc;
use tokio::task::{JoinSet, LocalSet};

use super::prepare::prepare;
use super::{Progress, RunOptions};
use crate::flow::Flow;
use crate::metrics::Count;
use crate::script::model::Script;
use crate::script::vars::SharedVars;
use crate::trace::{self, Tracer};
use crate::virtual_user::{Actor, Due, Failed, Shared, Worker, live, rng_of};

/// How a debugged script did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Debugged {
    pub users: u64,
    pub failed: u64,
    /// `expect`ations that did not hold.
    pub expectations_failed: u64,
}

/// Walks `users` users at once through the script and gives each line that is to be told to `print`.
///
/// # Errors
/// When nobody could begin: a part of the script that is not supported, a `before` that failed.
///
/// # Panics
/// When called from within an asynchronous runtime.
pub fn debug(script: &Script, users: u64, print: &Rc<dyn Fn(&str)>) -> anyhow::Result<Debugged> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    let debugged = LocalSet::new().block_on(&runtime, walk(script, users, print));
    runtime.shutdown_background();
    debugged
}

async fn walk(script: &Script, users: u64, print: &Rc<dyn Fn(&str)>) -> anyhow::Result<Debugged> {
    // What a `log` step says is told by the tracer.
    let (log, _) = mpsc::unbounded_channel();
    let options = RunOptions::default();
    let mut tell = |progress: &Progress<'_>| {
        if let Progress::Notice(text) = progress {
            print(&format!("note: {text}"));
        }
    };
    let shared = prepare(script, &options, "debug", users.max(1) as usize, log, &mut tell).await?;
    let shared = Arc::new(shared);
    let listeners: usize = script.config.listeners.iter().map(|group| group.count).sum();
    if listeners > 0 {
        print(&format!("note: the {listeners} listeners of `config.listeners` do not stand here"));
    }

    trace::get_ready();
    let started = Instant::now();
    // Steps of `before` and `after` say in their labels what they are.
    let worker = |shared: &Arc<Shared>, index: u64, name: String| {
        let tracer = Tracer::new(name, started, Rc::clone(print));
        Worker::traced(Arc::clone(shared), index as usize, Some(Box::new(tracer)))
    };
    let base = SharedVars::new(script, &[]);
    let vars = match &shared.before {
        None => base,
        Some(flow) => {
            let conductor = worker(&shared, 0, String::new());
            let vars = base.user(0, &mut rng_of(shared.seed, 0));
            let (done, actor) = perform(&conductor, flow, vars, 0).await;
            if done.is_err() {
                bail!("`before` failed, so no user was started");
            }
            SharedVars::new(script, actor.person.vars.own())
        }
    };
    shared.vars.set(vars).expect("set only here");
    shared.zero.set(Instant::now()).expect("set only here");

    let mut walking = JoinSet::new();
    let mut workers = Vec::new();
    for number in 0..users {
        let name = if users > 1 { format!("[{}] ", number + 1) } else { String::new() };
        let worker = worker(&shared, number, name);
        workers.push(Rc::clone(&worker));
        shared.alive.fetch_add(1, Ordering::Relaxed);
        walking.spawn_local(async move {
            live(&worker, number, Due::Planned(Instant::now())).await.leave().await;
        });
    }
    while let Some(joined) = walking.join_next().await {
        super::pacer::check(joined);
    }
    let counted = |what| workers.iter().map(|worker| worker.recorder.borrow().counted(what)).sum();
    let debugged = Debugged {
        users,
        failed: counted(Count::UsersFailed),
        expectations_failed: counted(Count::ExpectFailed),
    };
    if let Some(flow) = &shared.after {
        let conductor = worker(&shared, 0, String::new());
        let vars = shared.vars.get().expect("set above").user(0, &mut rng_of(shared.seed, 0));
        let _ = perform(&conductor, flow, vars, 1).await;
    }
    Ok(debugged)
}

async fn perform(
    worker: &Rc<Worker>,
    flow: &Flow,
    vars: crate::script::vars::Vars,
    number: u64,
) -> (Result<(), Failed>, Actor) {
    let mut actor = Actor::new(worker, flow, vars, rng_of(worker.shared.seed, number), Instant::now());
    let done = actor.perform(flow).await;
    actor.leave().await;
    (done, actor)
}
