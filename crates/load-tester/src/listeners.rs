//! Connections that stand before the first phase and listen while the load runs.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use geographiclib_rs::{DirectGeodesic, Geodesic, InverseGeodesic};
use serde_json::Value;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use crate::delivery::{Ears, Stand};
use crate::ledger;
use crate::outcome::Nanos;
use crate::run::{Order, Report};
use crate::script::model::{ListenerGroup, Moving, Place, Returning};
use crate::virtual_user::{Actor, Failed, Worker, rng_of, while_hearing};

/// At most so many of one thread's listeners connect at once.
const AT_ONCE: usize = 32;
const ATTEMPTS: u32 = 3;
/// The rest between attempts to come back.
const RETRY: Duration = Duration::from_millis(500);
/// Keeps the listeners' random numbers apart from the users'.
const SEED: u64 = 0x6c69_7374_656e;

/// Starts this thread's share: every `workers`-th listener. Each reports when it stands or has given up.
pub(crate) fn stand_up(
    worker: &Rc<Worker>,
    index: usize,
    reports: &mpsc::UnboundedSender<Report>,
    orders: &watch::Receiver<Order>,
) -> JoinSet<()> {
    let shared = Arc::clone(&worker.shared);
    let gate = Rc::new(Semaphore::new(AT_ONCE));
    let mut crowd = JoinSet::new();
    for (group, listeners) in shared.script.config.listeners.iter().enumerate() {
        let first = shared.listeners[group].first;
        for within in 0..listeners.count {
            let number = first + within;
            if number % shared.workers != index {
                continue;
            }
            let mut ears = Ears::new(number);
            if listeners.returning.is_some() {
                ears.remember_last();
            }
            let ears = Rc::new(RefCell::new(ears));
            let listener =
                Listener { worker: Rc::clone(worker), group, within, ears, orders: orders.clone() };
            let (gate, reports) = (Rc::clone(&gate), reports.clone());
            crowd.spawn_local(async move { listener.live(&gate, reports).await });
        }
    }
    crowd
}

struct Listener {
    worker: Rc<Worker>,
    group: usize,
    /// Its number within the group.
    within: usize,
    ears: Rc<RefCell<Ears>>,
    orders: watch::Receiver<Order>,
}

impl Listener {
    async fn live(mut self, gate: &Semaphore, reports: mpsc::UnboundedSender<Report>) {
        let shared = Arc::clone(&self.worker.shared);
        let group = &shared.script.config.listeners[self.group];
        let mut finish = self.orders.clone();
        let (standing, stand) = {
            let Ok(_turn) = gate.acquire().await else { return };
            tokio::select! {
                standing = self.stand() => standing,
                _ = finish.wait_for(|order| *order >= Order::StopArrivals) => return,
            }
        };
        let Ok(mut actor) = standing else {
            let _ = reports.send(Report::ListenerFailed);
            return;
        };
        let _ = reports.send(Report::ListenerReady);
        drop(reports);
        match (&group.moving, &shared.listeners[self.group].moving, stand) {
            _ if let Some(returning) = &group.returning => {
                Box::pin(self.come_and_go(&mut actor, returning)).await;
            }
            (Some(moving), Some(flow), Some(stand)) => {
                // Boxed: most listeners stand still and need no room for this.
                Box::pin(self.walk(&mut actor, moving, flow, group, stand)).await;
            }
            _ => {
                let hearing = actor.person.hearing();
                let done = self.orders.wait_for(|order| *order >= Order::Finish);
                // An error means that the run is gone, which ends the listening just as well.
                let _ = while_hearing(&mut actor.socket, &hearing, done).await;
            }
        }
        actor.leave().await;
    }

    /// Connects and does the group's flow, a few times if need be.
    async fn stand(&mut self) -> (Result<Actor, Failed>, Option<Stand>) {
        let shared = Arc::clone(&self.worker.shared);
        let group = &shared.script.config.listeners[self.group];
        let flow = &shared.listeners[self.group];
        let number = flow.first + self.within;
        let mut rng = rng_of(shared.seed ^ SEED, number as u64);
        let stand = first_stand(group, &mut rng);
        let users = shared.vars.get().expect("set before the listeners stand up");
        let mut vars = users.listener(group, self.within, &mut rng);
        if let Some(stand) = &stand {
            set_place(&mut vars, stand);
        }
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                tokio::time::sleep(Duration::from_millis(200) * attempt).await;
            }
            let mut actor = Actor::new(&self.worker, &flow.flow, vars.clone(), rng.clone(), Instant::now());
            actor.person.ears = Some(Rc::clone(&self.ears));
            if actor.perform(&flow.flow).await.is_ok() {
                actor.person.last_emit = shared.listening;
                return (Ok(actor), stand);
            }
        }
        (Err(Failed), stand)
    }

    fn tell_stand(&self, stand: Stand) {
        self.worker.recorder.borrow_mut().stands.push((self.ears.borrow().number, stand));
    }

    /// Leaves each `every`, by turns politely and without a word, and comes back with the cursor of what it saw last.
    async fn come_and_go(&mut self, actor: &mut Actor, returning: &Returning) {
        let shared = Arc::clone(&self.worker.shared);
        let flow = &shared.listeners[self.group].flow;
        // Not all at once, and not each at the same time as before.
        let mut rng = actor.person.rng.fork();
        let mut pause = returning.every.mul_f64(rng.f64());
        let mut politely = rng.bool();
        let mut orders = self.orders.clone();
        let mut finished_within = async |socket: &mut _, hearing: &_, pause: Duration| {
            let finish = tokio::time::timeout(pause, orders.wait_for(|order| *order >= Order::Finish));
            while_hearing(socket, hearing, finish).await.is_ok()
        };
        loop {
            let hearing = actor.person.hearing();
            if finished_within(&mut actor.socket, &hearing, pause).await {
                return;
            }
            if politely {
                actor.leave().await;
            } else {
                actor.socket = None;
            }
            politely = !politely;
            pause = returning.away;
            loop {
                if finished_within(&mut None, &hearing, pause).await {
                    return;
                }
                let since = self.ears.borrow().last_value(&returning.cursor);
                actor.person.vars.set("since", since.unwrap_or(Value::Null));
                actor.namespaces.clear();
                if actor.perform(flow).await.is_ok() {
                    break;
                }
                // What went wrong is among the errors.
                actor.socket = None;
                pause = RETRY;
            }
            actor.person.last_emit = shared.listening;
            pause = returning.every.mul_f64(0.75 + rng.f64() / 2.0);
        }
    }

    /// Moves each `every` until the run ends.
    async fn walk(
        &mut self,
        actor: &mut Actor,
        moving: &Moving,
        flow: &crate::flow::Flow,
        group: &ListenerGroup,
        mut stand: Stand,
    ) {
        let shared = Arc::clone(&self.worker.shared);
        let mut rng = actor.person.rng.fork();
        let mut orders = self.orders.clone();
        {
            let hearing = actor.person.hearing();
            let started = orders.wait_for(|order| *order >= Order::Start);
            if while_hearing(&mut actor.socket, &hearing, started).await.is_err() {
                return;
            }
        }
        // Not all at once.
        let mut next = tokio::time::Instant::now() + moving.every.mul_f64(rng.f64());
        loop {
            let hearing = actor.person.hearing();
            let finished = while_hearing(&mut actor.socket, &hearing, async {
                tokio::select! {
                    _ = tokio::time::sleep_until(next) => false,
                    _ = orders.wait_for(|order| *order >= Order::Finish) => true,
                }
            })
            .await;
            if finished {
                return;
            }
            next += moving.every;
            if actor.socket.is_none() {
                continue;
            }
            stand = step(group.place.as_ref(), &stand, moving.step_m, &mut rng);
            stand.asked = shared.nanos(Instant::now());
            stand.settled = Nanos::MAX;
            set_place(&mut actor.person.vars, &stand);
            self.tell_stand(stand);
            if actor.walk(&flow.steps).await.is_ok() {
                self.tell_stand(Stand { settled: shared.nanos(Instant::now()), ..stand });
            }
            actor.person.last_emit = shared.listening;
        }
    }
}

fn set_place(vars: &mut crate::script::vars::Vars, stand: &Stand) {
    vars.set("lng", stand.lng.into());
    vars.set("lat", stand.lat.into());
    let whole = stand.radius_m.fract() == 0.0 && stand.radius_m < 1e9;
    vars.set("radius", if whole { Value::from(stand.radius_m as u64) } else { stand.radius_m.into() });
}

/// Where the listener with this random generator stands first.
fn first_stand(group: &ListenerGroup, rng: &mut fastrand::Rng) -> Option<Stand> {
    let place = group.place?;
    // The root makes the disc evenly full.
    let distance = place.within_m * rng.f64().sqrt();
    let (lng, lat) = walk_from((place.lng, place.lat), rng.f64() * 360.0, distance);
    let (from, to) = place.radius_m;
    let radius = from + (to - from) * rng.f64();
    let whole = from.fract() == 0.0 && to.fract() == 0.0;
    Some(Stand { lng, lat, radius_m: if whole { radius.round() } else { radius }, asked: 0, settled: 0 })
}

/// Where all listeners stand first, for the account of what they hear.
pub(crate) fn first_stands(shared: &crate::virtual_user::Shared) -> Vec<ledger::Listener> {
    let mut all = Vec::new();
    for (index, group) in shared.script.config.listeners.iter().enumerate() {
        for within in 0..group.count {
            let number = shared.listeners[index].first + within;
            let stand = first_stand(group, &mut rng_of(shared.seed ^ SEED, number as u64));
            all.push(ledger::Listener { stands: stand.into_iter().collect(), walks: group.moving.is_some() });
        }
    }
    all
}

/// At most `step_m` metres away, still within the group's disc.
fn step(place: Option<&Place>, from: &Stand, step_m: f64, rng: &mut fastrand::Rng) -> Stand {
    for _ in 0..16 {
        let (lng, lat) = walk_from((from.lng, from.lat), rng.f64() * 360.0, step_m * rng.f64());
        let inside = place.is_none_or(|place| {
            let away: f64 = Geodesic::wgs84().inverse(place.lat, place.lng, lat, lng);
            away <= place.within_m
        });
        if inside {
            return Stand { lng, lat, ..*from };
        }
    }
    *from
}

/// `distance` metres from a place in a direction (degrees from north), to a centimetre.
fn walk_from((lng, lat): (f64, f64), direction: f64, distance: f64) -> (f64, f64) {
    let (lat, lng): (f64, f64) = Geodesic::wgs84().direct(lat, lng, direction, distance);
    let round = |degrees: f64| (degrees * 1e7).round() / 1e7;
    (round(lng), round(lat))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(place: Place) -> ListenerGroup {
        ListenerGroup {
            name: None,
            count: 1,
            engine: crate::script::model::Engine::SocketIo,
            place: Some(place),
            payloads: Vec::new(),
            flow: Vec::new(),
            moving: None,
            returning: None,
        }
    }

    #[test]
    fn listeners_fill_the_disc_evenly() {
        let place = Place { lng: 127.0276, lat: 37.4979, within_m: 2870.0, radius_m: (100.0, 1000.0) };
        let mut inner = 0;
        for number in 0..4000 {
            let stand = first_stand(&group(place), &mut rng_of(9, number)).unwrap();
            let away: f64 = Geodesic::wgs84().inverse(place.lat, place.lng, stand.lat, stand.lng);
            assert!(away <= place.within_m + 0.02, "{away}");
            assert!((100.0..=1000.0).contains(&stand.radius_m) && stand.radius_m.fract() == 0.0);
            inner += u32::from(away < place.within_m / 2.0);
        }
        // A quarter of the area lies within half the distance.
        assert!((900..1100).contains(&inner), "{inner}");
    }

    #[test]
    fn a_walk_stays_in_the_disc_and_takes_short_steps() {
        let place = Place { lng: 0.0, lat: 0.0, within_m: 100.0, radius_m: (10.0, 10.0) };
        let mut rng = rng_of(1, 1);
        let mut stand = first_stand(&group(place), &mut rng).unwrap();
        for _ in 0..500 {
            let next = step(Some(&place), &stand, 30.0, &mut rng);
            let moved: f64 = Geodesic::wgs84().inverse(stand.lat, stand.lng, next.lat, next.lng);
            let away: f64 = Geodesic::wgs84().inverse(0.0, 0.0, next.lat, next.lng);
            assert!(moved <= 30.02 && away <= 100.0, "{moved} {away}");
            stand = next;
        }
    }
}
