//! What a listener does once it stands: hears until the run's end, moves, comes and goes, loses its connection in a
//! storm or without our doing, and comes back.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use socketio_client::{Backoff, Kind};

use super::{Listener, Turns, set_place, step};
use crate::delivery::{Presence, Stand};
use crate::link::{Came, Link};
use crate::outcome::Nanos;
use crate::run::Order;
use crate::script::model::{Back, Cut, Slow, Storm};
use crate::virtual_user::{Actor, Hearing, OpenSocket, lose};

/// The rest between attempts to come back from where the script sent the listener.
const RETRY: Duration = Duration::from_millis(500);
/// What the kernel keeps for a slow listener, as far as it can be told.
const SLOW_BUFFER: usize = 16 * 1024;
/// What ends a stretch of hearing.
enum Next {
    Started,
    Due,
    Finished,
    /// The connection ended without our doing. What it was is among the errors.
    Lost,
}

enum Until {
    Start,
    Moment(Instant),
    Finish,
}

/// What a listener will do, and when.
#[derive(Default)]
struct Agenda {
    storms: VecDeque<(Instant, Storm)>,
    step: Option<Instant>,
    leave: Option<Instant>,
}

#[derive(Clone, Copy)]
enum Deed {
    Storm(Storm),
    Step,
    Leave,
}

impl Agenda {
    fn next(&self) -> Option<(Instant, Deed)> {
        let storm = self.storms.front().map(|&(at, storm)| (at, Deed::Storm(storm)));
        let step = self.step.map(|at| (at, Deed::Step));
        let leave = self.leave.map(|at| (at, Deed::Leave));
        [storm, step, leave].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// The listener was away until now: what passed over it meanwhile took nothing from it.
    fn sat_out(&mut self, now: Instant) {
        self.storms.retain(|(at, _)| *at > now);
    }
}

impl Listener {
    /// From standing to the run's end.
    pub(super) async fn stay(&mut self, actor: &mut Actor, mut stand: Option<Stand>) {
        let shared = Arc::clone(&self.worker.shared);
        let group = &shared.script.config.listeners[self.group];
        let mut rng = actor.person.rng.fork();
        let mut politely = rng.bool();
        let mut agenda = Agenda::default();
        let mut until = Until::Start;
        // Connections that hang since a storm: nobody reads them, and nobody ends them.
        let mut hanging: Vec<Link> = Vec::new();
        loop {
            match self.hear(actor, until).await {
                Next::Finished => break,
                Next::Started => agenda = self.agenda(&mut rng),
                Next::Lost => {
                    if !Box::pin(self.lost(actor, &mut stand)).await {
                        break;
                    }
                    agenda.sat_out(Instant::now());
                }
                Next::Due => match agenda.next() {
                    Some((_, Deed::Storm(storm))) => {
                        agenda.storms.pop_front();
                        // Who is away already loses nothing.
                        if actor.socket.is_some() {
                            if !Box::pin(self.storm(actor, storm, &mut hanging)).await {
                                break;
                            }
                            self.settle(actor, &mut stand);
                            agenda.sat_out(Instant::now());
                        }
                    }
                    Some((at, Deed::Step)) => {
                        let every = group.moving.as_ref().map_or(Duration::MAX, |moving| moving.every);
                        // Steps that were due while it was away are not made up for.
                        agenda.step = at.checked_add(every).map(|next| next.max(Instant::now()));
                        if actor.socket.is_some() {
                            // Boxed: most listeners stand still and need no room for this.
                            Box::pin(self.walk(actor, &mut stand, &mut rng)).await;
                            if actor.socket.is_none() {
                                if !Box::pin(self.lost(actor, &mut stand)).await {
                                    break;
                                }
                                agenda.sat_out(Instant::now());
                            }
                        }
                    }
                    Some((_, Deed::Leave)) => {
                        if actor.socket.is_some() && !Box::pin(self.leave_for_a_while(actor, politely)).await
                        {
                            break;
                        }
                        agenda.sat_out(Instant::now());
                        politely = !politely;
                        let stays = group.returning.as_ref().and_then(|returning| returning.every);
                        agenda.leave =
                            stays.map(|every| Instant::now() + every.mul_f64(0.75 + rng.f64() / 2.0));
                    }
                    None => {}
                },
            }
            until = match agenda.next() {
                Some((at, _)) => Until::Moment(at),
                None if shared.zero.get().is_none() => Until::Start,
                None => Until::Finish,
            };
        }
        if group.slow.is_some() {
            // It would have to read everything before it could leave as clients do.
            actor.socket = None;
        }
    }

    fn agenda(&self, rng: &mut fastrand::Rng) -> Agenda {
        let shared = &self.worker.shared;
        let group = &shared.script.config.listeners[self.group];
        let zero = shared.zero.get().copied().unwrap_or_else(Instant::now);
        let turns = &shared.listeners[self.group].storms;
        let mut storms: Vec<(Instant, Storm)> = (group.storms.iter().zip(turns))
            .filter_map(|(storm, turns)| Some((zero + turns.of(self.within, storm)?, *storm)))
            .collect();
        storms.sort_by_key(|(at, _)| *at);
        // Not all at once.
        let first = |every: Duration, rng: &mut fastrand::Rng| Instant::now() + every.mul_f64(rng.f64());
        let step = group.moving.as_ref().map(|moving| first(moving.every, rng));
        let every = group.returning.as_ref().and_then(|returning| returning.every);
        let leave = every.map(|every| first(every, rng));
        Agenda { storms: storms.into(), step, leave }
    }

    /// Hears, at the pace of its group, until something is to be done or the connection is lost.
    async fn hear(&mut self, actor: &mut Actor, until: Until) -> Next {
        let slow = self.worker.shared.script.config.listeners[self.group].slow;
        let mut orders = self.orders.clone();
        let due = async {
            match until {
                Until::Start => {
                    // An error means that the run is gone, which ends the listening just as well.
                    let order = orders.wait_for(|order| *order >= Order::Start).await;
                    match order.map(|order| *order) {
                        Ok(order) if order < Order::Finish => Next::Started,
                        _ => Next::Finished,
                    }
                }
                Until::Moment(at) => tokio::select! {
                    () = tokio::time::sleep_until(at.into()) => Next::Due,
                    _ = orders.wait_for(|order| *order >= Order::Finish) => Next::Finished,
                },
                Until::Finish => {
                    let _ = orders.wait_for(|order| *order >= Order::Finish).await;
                    Next::Finished
                }
            }
        };
        let hearing = actor.person.hearing();
        let next = match (&mut actor.socket, slow) {
            (None, _) | (_, Some(Slow::StopReading)) => return due.await,
            (Some(open), _) => tokio::select! {
                biased;
                next = due => next,
                () = hear_out(open, &hearing) => Next::Lost,
            },
        };
        match next {
            Next::Lost => lose(&mut actor.socket),
            _ => {
                if let Some(open) = &mut actor.socket {
                    open.tell_upgrade();
                }
            }
        }
        next
    }

    /// The connection ended without our doing. False when the run ended before it was back.
    async fn lost(&mut self, actor: &mut Actor, stand: &mut Option<Stand>) -> bool {
        let gone = Instant::now();
        let shared = Arc::clone(&self.worker.shared);
        self.worker.recorder.borrow_mut().add(shared.audience.lost, 1);
        if !shared.script.config.listeners[self.group].reconnect {
            return true;
        }
        let back = self.come_back(actor, gone, Back::Backoff).await;
        if back {
            self.settle(actor, stand);
        }
        back
    }

    /// The connection ends as the storm says, and comes back as it says. False when the run ended first.
    async fn storm(&mut self, actor: &mut Actor, storm: Storm, hanging: &mut Vec<Link>) -> bool {
        let gone = Instant::now();
        self.tell_gone(gone);
        {
            let shared = &self.worker.shared;
            self.worker.recorder.borrow_mut().add(shared.audience.lost, 1);
        }
        match storm.how {
            Cut::Close => actor.leave().await,
            Cut::Drop => actor.socket = None,
            Cut::Silent => hanging.extend(actor.socket.take().map(|open| open.into_link())),
        }
        if storm.back == Back::Never {
            return true;
        }
        let back = self.come_back(actor, gone, storm.back).await;
        if back {
            self.tell_back();
        }
        back
    }

    /// Connects and does the group's flow again, as often as it takes. False when the run ended first.
    async fn come_back(&mut self, actor: &mut Actor, gone: Instant, how: Back) -> bool {
        let shared = Arc::clone(&self.worker.shared);
        let mut backoff = Backoff::new(actor.person.rng.u64(..));
        let first = if how == Back::AtOnce { Duration::ZERO } else { backoff.next_delay() };
        if !self.rejoin(actor, first, || backoff.next_delay()).await {
            return false;
        }
        let mut recorder = self.worker.recorder.borrow_mut();
        recorder.add(shared.audience.back, 1);
        recorder.time_of(shared.audience.reconnect, gone.elapsed());
        true
    }

    /// Leaves as the script's `returning` says, and comes back. False when the run ended first.
    async fn leave_for_a_while(&mut self, actor: &mut Actor, politely: bool) -> bool {
        let shared = Arc::clone(&self.worker.shared);
        let group = &shared.script.config.listeners[self.group];
        self.tell_gone(Instant::now());
        if politely {
            actor.leave().await;
        } else {
            actor.socket = None;
        }
        let away = group.returning.as_ref().map_or(Duration::ZERO, |returning| returning.away);
        let back = self.rejoin(actor, away, || RETRY).await;
        if back {
            self.tell_back();
        }
        back
    }

    /// Tries after the first wait, and after further ones until it works. What goes wrong is among the errors.
    async fn rejoin(
        &mut self,
        actor: &mut Actor,
        mut wait: Duration,
        mut next_wait: impl FnMut() -> Duration,
    ) -> bool {
        let shared = Arc::clone(&self.worker.shared);
        let recovers = self.recovers();
        loop {
            actor.socket = None;
            if !wait.is_zero()
                && let Next::Finished = self.hear(actor, Until::Moment(Instant::now() + wait)).await
            {
                return false;
            }
            if recovers {
                let since = self.ears.borrow_mut().cursor();
                actor.person.vars.set("since", since.unwrap_or(Value::Null));
            }
            actor.namespaces.clear();
            if actor.perform(&shared.listeners[self.group].flow).await.is_ok() && actor.socket.is_some() {
                break;
            }
            wait = next_wait();
        }
        self.stands(actor);
        true
    }

    /// One step of a walk, told to the server.
    async fn walk(&mut self, actor: &mut Actor, stand: &mut Option<Stand>, rng: &mut fastrand::Rng) {
        let shared = Arc::clone(&self.worker.shared);
        let group = &shared.script.config.listeners[self.group];
        let flow = shared.listeners[self.group].moving.as_ref();
        let (Some(moving), Some(flow), Some(stand)) = (&group.moving, flow, stand) else { return };
        *stand = step(group.place.as_ref(), stand, moving.step_m, rng);
        stand.asked = shared.nanos(Instant::now());
        stand.settled = Nanos::MAX;
        set_place(&mut actor.person.vars, stand);
        self.tell_stand(*stand);
        if flow.kept.inbox {
            flow.kept.prepare(&mut actor.person.inbox.get_or_insert_default().borrow_mut());
        }
        if actor.walk(&flow.steps).await.is_ok() {
            stand.settled = shared.nanos(Instant::now());
            self.tell_stand(*stand);
        }
        actor.person.last_emit = shared.listening;
    }

    /// The flow that brought it back has told the server where it stands, also where the step before was never confirmed.
    fn settle(&self, actor: &Actor, stand: &mut Option<Stand>) {
        if actor.socket.is_some()
            && let Some(stand) = stand.as_mut().filter(|stand| stand.settled == Nanos::MAX)
        {
            stand.settled = self.worker.shared.nanos(Instant::now());
            self.tell_stand(*stand);
        }
    }

    fn number(&self) -> u32 {
        self.ears.borrow().number
    }

    /// Whether it comes back with a cursor.
    fn recovers(&self) -> bool {
        self.ears.borrow().remembers()
    }

    fn tell_stand(&self, stand: Stand) {
        self.worker.recorder.borrow_mut().stands.push((self.number(), stand));
    }

    fn tell_gone(&self, at: Instant) {
        let gone = Presence::Gone { at: self.worker.shared.nanos(at), recovers: self.recovers() };
        self.worker.recorder.borrow_mut().presences.push((self.number(), gone));
    }

    fn tell_back(&self) {
        let back = Presence::Back { at: self.worker.shared.nanos(Instant::now()) };
        self.worker.recorder.borrow_mut().presences.push((self.number(), back));
    }

    /// It stands, for the first time or again.
    pub(super) fn stands(&self, actor: &mut Actor) {
        actor.person.last_emit = self.worker.shared.listening;
        let slow = self.worker.shared.script.config.listeners[self.group].slow;
        let (Some(slow), Some(open)) = (slow, &mut actor.socket) else { return };
        // Where the system refuses, it reads slowly all the same, and the server notices later.
        let _ = open.link.limit_receive_buffer(SLOW_BUFFER);
        if let Slow::BytesPerSecond(rate) = slow {
            open.link.set_read_rate(Some(rate));
        }
    }
}

/// Hears whatever comes until the connection ends, or the server takes the namespace away: a listener without one is
/// as deaf as one without a connection.
async fn hear_out(open: &mut OpenSocket, hearing: &Hearing) {
    let ended = open.link.visit(|came| {
        hearing.came(&came);
        match came {
            Came::Packet(incoming) if incoming.kind == Kind::Disconnect && incoming.namespace == "/" => {
                ControlFlow::Break(())
            }
            _ => ControlFlow::Continue(()),
        }
    });
    if let Err(closed) = ended.await {
        hearing.lost(&closed);
    }
}

impl Turns {
    /// When the storm takes the listener, from the run's start; `None`: it does not.
    fn of(&self, within: usize, storm: &Storm) -> Option<Duration> {
        let turn = *self.turns.get(within)?;
        if turn == u32::MAX {
            return None;
        }
        let part = (f64::from(turn) + 0.5) / f64::from(self.hit.max(1));
        Some(storm.at + storm.over.mul_f64(part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_takes_exactly_its_share_evenly_within_its_time() {
        let storm = Storm {
            at: Duration::from_secs(20),
            share: 0.3,
            how: Cut::Drop,
            over: Duration::from_secs(2),
            back: Back::Backoff,
        };
        let turns = Turns::new(&storm, 1_000, 7);
        let mut times: Vec<Duration> = (0..1_000).filter_map(|within| turns.of(within, &storm)).collect();
        times.sort_unstable();
        assert_eq!(times.len(), 300);
        assert!(times[0] >= storm.at && times[299] <= storm.at + storm.over);
        let gap = |pair: &[Duration]| (pair[1] - pair[0]).as_micros();
        assert!(times.windows(2).all(|pair| (6_600..6_700).contains(&gap(pair))), "{times:?}");
        // Who is hit is drawn, and drawn again the same.
        let first_half = (0..500).filter(|&within| turns.of(within, &storm).is_some()).count();
        assert!((110..190).contains(&first_half), "{first_half}");
        let again = Turns::new(&storm, 1_000, 7);
        assert!((0..1_000).all(|within| turns.of(within, &storm) == again.of(within, &storm)));
        let all = Turns::new(&Storm { share: 1.0, ..storm }, 3, 7);
        assert!((0..3).all(|within| all.of(within, &storm).is_some()));
    }

    #[test]
    fn the_next_deed_is_the_earliest() {
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let storm = Storm {
            at: Duration::ZERO,
            share: 1.0,
            how: Cut::Close,
            over: Duration::ZERO,
            back: Back::Never,
        };
        let mut agenda = Agenda { storms: [(at(3), storm)].into(), step: Some(at(2)), leave: Some(at(9)) };
        assert!(matches!(agenda.next(), Some((_, Deed::Step))));
        agenda.step = Some(at(4));
        assert!(matches!(agenda.next(), Some((when, Deed::Storm(_))) if when == at(3)));
        // Of two storms the one that passes while it is away does not wait for it.
        agenda.storms.push_back((at(6), storm));
        agenda.sat_out(at(5));
        assert_eq!(agenda.storms.iter().map(|(when, _)| *when).collect::<Vec<_>>(), [at(6)]);
        agenda.storms.clear();
        agenda.step = None;
        assert!(matches!(agenda.next(), Some((_, Deed::Leave))));
        assert!(Agenda::default().next().is_none());
    }
}
