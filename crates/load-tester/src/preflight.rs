//! Can this machine carry the run at all? Asked before the first thread starts.

use std::time::Duration;

use anyhow::bail;
use socketio_client::Transport;

use crate::flow::{Flow, FlowAction, any_step, shortest_life};
use crate::plan::Plan;
use crate::script::model::{Engine, PhaseKind};
use crate::virtual_user::Shared;

/// Refuses a run whose sockets cannot all be open at once.
pub(crate) fn check_descriptors(shared: &Shared) -> anyhow::Result<()> {
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
    let listeners: u64 = shared.script.config.listeners.iter().map(|group| group.most_connections()).sum();
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
