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
use crate::outcome::Nanos;
use crate::run::{Order, Report};
use crate::script::model::{ListenerGroup, Moving, Place};
use crate::virtual_user::{Actor, Failed, Worker, rng_of, while_hearing};

/// At most so many of one thread's listeners connect at once.
const AT_ONCE: usize = 32;
const ATTEMPTS: u32 = 3;
/// Keeps the listeners' random numbers apart from the users'.
const SEED: u64 = 0x6c69_7374_656e;

/// One thread's listeners.
#[derive(Debug)]
pub(crate) struct Crowd {
    pub(crate) ears: Vec<Rc<RefCell<Ears>>>,
    pub(crate) tasks: JoinSet<()>,
}

/// Starts this thread's share: every `workers`-th listener. Each reports when it stands or has given up.
pub(crate) fn stand_up(
    worker: &Rc<Worker>,
    index: usize,
    reports: &mpsc::UnboundedSender<Report>,
    orders: &watch::Receiver<Order>,
) -> Crowd {
    let shared = Arc::clone(&worker.shared);
    let gate = Rc::new(Semaphore::new(AT_ONCE));
    let mut crowd = Crowd { ears: Vec::new(), tasks: JoinSet::new() };
    for (group, listeners) in shared.script.config.listeners.iter().enumerate() {
        let first = shared.listeners[group].first;
        for within in 0..listeners.count {
            let number = first + within;
            if number % shared.workers != index {
                continue;
            }
            let ears = Rc::new(RefCell::new(Ears::new(number)));
            crowd.ears.push(Rc::clone(&ears));
            let listener =
                Listener { worker: Rc::clone(worker), group, within, ears, orders: orders.clone() };
            let (gate, reports) = (Rc::clone(&gate), reports.clone());
            crowd.tasks.spawn_local(async move { listener.live(&gate, reports).await });
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
            self.ears.borrow_mut().stands = vec![*stand];
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
            self.ears.borrow_mut().stands.push(stand);
            if actor.walk(&flow.steps).await.is_ok() {
                let settled = shared.nanos(Instant::now());
                if let Some(last) = self.ears.borrow_mut().stands.last_mut() {
                    last.settled = settled;
                }
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

/// The places of all listeners that stand still, for the pairs a run should make; `None` when one moves.
pub(crate) fn still_ears(shared: &crate::virtual_user::Shared) -> Option<Vec<Ears>> {
    let mut all = Vec::new();
    for (index, group) in shared.script.config.listeners.iter().enumerate() {
        if group.moving.is_some() {
            return None;
        }
        for within in 0..group.count {
            let number = shared.listeners[index].first + within;
            let mut ears = Ears::new(number);
            ears.stands.extend(first_stand(group, &mut rng_of(shared.seed ^ SEED, number as u64)));
            all.push(ears);
        }
    }
    Some(all)
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
            place: Some(place),
            payloads: Vec::new(),
            flow: Vec::new(),
            moving: None,
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
