//! Connections that stand before the first phase and listen while the load runs.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use geographiclib_rs::{DirectGeodesic, Geodesic, InverseGeodesic};
use serde_json::Value;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use crate::delivery::{Ears, Stand, remembered};
use crate::ledger::{self, Class};
use crate::metrics::{CounterId, Names, TimeId};
use crate::outcome::{counters, names};
use crate::run::{Order, Report};
use crate::script::model::{Config, ListenerGroup, Place, Storm};
use crate::virtual_user::{Actor, Failed, Worker, rng_of};

mod stay;

/// At most so many of one thread's listeners connect at once.
const AT_ONCE: usize = 32;
const ATTEMPTS: u32 = 3;
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
            if let Some(returning) = &listeners.returning {
                ears.remember_cursor(&returning.cursor);
            }
            ears.apart = listeners.slow.is_some();
            let ears = Rc::new(RefCell::new(ears));
            let listener =
                Listener { worker: Rc::clone(worker), group, within, ears, orders: orders.clone() };
            let (gate, reports) = (Rc::clone(&gate), reports.clone());
            crowd.spawn_local(async move { listener.live(&gate, reports).await });
        }
    }
    crowd
}

/// What the listeners of a run have in common, and the names under which they are counted and timed.
#[derive(Debug)]
pub(crate) struct Audience {
    /// One for each group, in the script's order.
    pub(crate) classes: Vec<Class>,
    /// Acks of stamped messages.
    pub(crate) ack: TimeId,
    pub(crate) lost: CounterId,
    pub(crate) back: CounterId,
    pub(crate) reconnect: TimeId,
    /// See [`Listening::remembered`](crate::delivery::Listening).
    pub(crate) remembered: u32,
    /// Of all connections that do not read slowly on purpose; emptied by the conductor.
    pub(crate) late_heartbeats: Arc<AtomicU64>,
}

impl Audience {
    pub(crate) fn new(config: &Config, names: &mut Names) -> Self {
        let classes = config.listeners.iter().enumerate().map(|(index, group)| {
            let name = group.class(index);
            let time = names.time(&format!("{}{name}", names::DELIVERY_CLASS));
            Class { name, time, apart: group.slow.is_some() }
        });
        Self {
            classes: classes.collect(),
            ack: names.time(names::DELIVERY_ACK),
            lost: names.counter(counters::CONNECTIONS_LOST),
            back: names.counter(counters::CONNECTIONS_BACK),
            reconnect: names.time(names::RECONNECT),
            remembered: remembered(config.listeners.iter().map(|group| group.count).sum()),
            late_heartbeats: Arc::default(),
        }
    }
}

/// In which turn a storm takes each listener of its group.
#[derive(Debug)]
pub(crate) struct Turns {
    /// By the number within the group; `u32::MAX`: not at all.
    turns: Vec<u32>,
    /// How many it takes.
    hit: u32,
}

impl Turns {
    pub(crate) fn new(storm: &Storm, count: usize, seed: u64) -> Self {
        let mut order: Vec<usize> = (0..count).collect();
        fastrand::Rng::with_seed(seed).shuffle(&mut order);
        let mut turns = vec![u32::MAX; count];
        let hit = storm.hit(count);
        (0..).zip(&order[..hit]).for_each(|(turn, &within)| turns[within] = turn);
        Self { turns, hit: u32::try_from(hit).unwrap_or(u32::MAX) }
    }

    pub(crate) fn of_group(group: &ListenerGroup, seed: u64) -> Vec<Self> {
        let seeds = (0..).map(|index: u64| rng_of(seed ^ SEED, index).u64(..));
        group.storms.iter().zip(seeds).map(|(storm, seed)| Self::new(storm, group.count, seed)).collect()
    }
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
        self.stay(&mut actor, stand).await;
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
            actor.person.slow = group.slow.is_some();
            if actor.perform(&flow.flow).await.is_ok() {
                self.stands(&mut actor);
                return (Ok(actor), stand);
            }
        }
        (Err(Failed), stand)
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
            let stands = stand.into_iter().collect();
            let (walks, apart) = (group.moving.is_some(), group.slow.is_some());
            all.push(ledger::Listener::new(stands, walks, index as u32, apart));
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
            place: Some(place),
            payloads: Vec::new(),
            flow: Vec::new(),
            moving: None,
            returning: None,
            slow: None,
            storms: Vec::new(),
            reconnect: true,
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
