//! Everything of a run that is known before its first thread starts.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::{Context as _, bail};
use socketio_client::Revision;
use tokio::sync::mpsc;

use super::{Progress, RunOptions};
use crate::delivery::{Marks, Messages};
use crate::flow::Maker;
use crate::listeners::{Audience, Turns};
use crate::metrics::Names;
use crate::outcome::counters;
use crate::plan::Plan;
use crate::script::model::{Action, Engine, EngineRevision, Script, Step};
use crate::socketio::SocketTemplate;
use crate::virtual_user::{ListenerFlow, ScenarioFlow, Shared};

/// Makes every flow ready and asks the target what must be known of it.
pub(super) async fn prepare(
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
        let storms = Turns::of_group(group, config.seed ^ first as u64);
        listeners.push(ListenerFlow { flow, moving, first, storms });
        first += group.count;
    }
    let audience = Audience::new(config, maker.names);
    let listening = maker.names.step("listening".into(), config.target.clone());
    let unfinished = maker.names.counter(counters::USERS_UNFINISHED);
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
    socket.count_late_heartbeats(&audience.late_heartbeats);
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
        audience,
        listening,
        unfinished,
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

pub(super) fn uses_socketio(script: &Script) -> bool {
    let scenarios = script.scenarios.iter().chain(&script.before).chain(&script.after);
    !script.config.listeners.is_empty()
        || scenarios.into_iter().any(|scenario| scenario.engine == Engine::SocketIo)
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
