//! The index against a scan of everybody with an oracle that shares no code with it (`common`).

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{holds, vincenty_m};
use geo_index::{Index, MAX_RADIUS_M, Position, circle_contains, distance_m};
use geographiclib_rs::{DirectGeodesic, Geodesic};
use proptest::prelude::*;

fn place((lng, lat): (f64, f64)) -> Position {
    Position::new(lng, lat).unwrap()
}

/// The place at a distance in a direction, by the direct geodesic.
fn away(from: (f64, f64), azimuth: f64, metres: f64) -> (f64, f64) {
    let (lat, lng): (f64, f64) = Geodesic::wgs84().direct(from.1, from.0, azimuth, metres);
    (lng.clamp(-180.0, 180.0), lat.clamp(-90.0, 90.0))
}

#[derive(Debug, Default)]
struct Everybody {
    index: Index,
    model: BTreeMap<u32, ((f64, f64), f64)>,
}

impl Everybody {
    fn put(&mut self, id: u32, at: (f64, f64), radius_m: f64) {
        let before = self.index.insert(id, place(at), radius_m);
        let radius_m = radius_m.clamp(0.0, MAX_RADIUS_M);
        assert_eq!(before, self.model.insert(id, (at, radius_m)).map(|(at, radius_m)| (place(at), radius_m)));
        assert_eq!(self.index.get(id), Some((place(at), radius_m)));
    }

    fn remove(&mut self, id: u32) {
        let before = self.model.remove(&id);
        assert_eq!(self.index.remove(id), before.map(|(at, radius_m)| (place(at), radius_m)));
        assert_eq!(self.index.get(id), None);
    }

    fn check_hearers(&self, at: (f64, f64)) -> usize {
        let mut found = Vec::new();
        self.index.who_hears(place(at), |id| found.push(id));
        self.check(&found, |id, (center, radius_m)| {
            assert_eq!(self.index.hears(id, place(at)), found.contains(&id));
            (holds(center, radius_m, at), circle_contains(place(center), radius_m, place(at)))
        })
    }

    fn check_inside(&self, center: (f64, f64), radius_m: f64) -> usize {
        let mut found = Vec::new();
        self.index.who_is_in(place(center), radius_m, |id| found.push(id));
        let radius_m = radius_m.clamp(0.0, MAX_RADIUS_M);
        self.check(&found, |_, (at, _)| {
            (holds(center, radius_m, at), circle_contains(place(center), radius_m, place(at)))
        })
    }

    /// `truth` gives the oracle's opinion, if it has one, and the crate's own answer for a single pair.
    fn check(&self, found: &[u32], truth: impl Fn(u32, ((f64, f64), f64)) -> (Option<bool>, bool)) -> usize {
        let set: BTreeSet<u32> = found.iter().copied().collect();
        assert_eq!(set.len(), found.len(), "someone was named twice");
        assert_eq!(self.index.len(), self.model.len());
        for (&id, &circle) in &self.model {
            let (oracle, exact) = truth(id, circle);
            assert_eq!(set.contains(&id), exact, "person {id}, {circle:?}");
            if let Some(oracle) = oracle {
                assert_eq!(exact, oracle, "person {id}, {circle:?}");
            }
        }
        assert!(set.iter().all(|id| self.model.contains_key(id)), "someone unknown was named");
        found.len()
    }
}

/// Centres of interest: a city, both poles, the antimeridian, 0, 0, and high latitudes on the antimeridian.
const HUBS: [(f64, f64); 9] = [
    (127.0276, 37.4979),
    (0.0, 90.0),
    (77.0, -90.0),
    (180.0, 12.0),
    (-180.0, -66.0),
    (0.0, 0.0),
    (179.9, 89.4),
    (-0.0, 51.5),
    (13.0, -89.99),
];

const RADII: [f64; 15] = [
    0.0,
    1e-4,
    0.5,
    99.999,
    100.0,
    100.001,
    500.0,
    1_000.0,
    1_000.000_1,
    4_999.0,
    10_000.0,
    20_000.0,
    20_000.1,
    50_001.0,
    100_000.0,
];

fn radius() -> impl Strategy<Value = f64> {
    prop_oneof![
        prop::sample::select(&RADII[..]),
        (0.0..5.0f64).prop_map(|log| 10f64.powf(log)),
        Just(250_000.0)
    ]
}

/// At a hub or some way off, from a micrometre to 200 km.
fn somewhere() -> impl Strategy<Value = (f64, f64)> {
    let near = (prop::sample::select(&HUBS[..]), -6.0..5.3f64, -180.0..180.0f64)
        .prop_map(|(hub, log, azimuth)| away(hub, azimuth, 10f64.powf(log)));
    prop_oneof![3 => near, 1 => prop::sample::select(&HUBS[..]), 1 => (-180.0..=180.0f64, -90.0..=90.0f64)]
}

#[derive(Clone, Debug)]
enum Step {
    Put(u32, (f64, f64), f64),
    /// A few metres to a few kilometres on.
    Move(u32, f64, f64),
    Resize(u32, f64),
    /// Onto the very place of someone else.
    Join(u32, u32),
    Remove(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let id = || prop_oneof![8 => 0..80u32, 1 => 5_000..5_003u32, 1 => Just(u32::MAX)];
    prop_oneof![
        4 => (id(), somewhere(), radius()).prop_map(|(id, at, radius)| Step::Put(id, at, radius)),
        4 => (id(), 0.0..360.0f64, 0.0..4.0f64).prop_map(|(id, az, log)| Step::Move(id, az, 10f64.powf(log))),
        1 => (id(), radius()).prop_map(|(id, radius)| Step::Resize(id, radius)),
        2 => (id(), id()).prop_map(|(id, other)| Step::Join(id, other)),
        2 => id().prop_map(Step::Remove),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Any history; then questions anywhere, at everyone's own place, and on rims: where the geodesic of a radius
    /// ends, and a little inside and outside.
    #[test]
    fn any_history(
        steps in prop::collection::vec(step(), 1..250),
        places in prop::collection::vec((somewhere(), radius()), 6),
        azimuth in -180.0..180.0f64,
        gap in prop::sample::select(&[0.0, 1e-9, 1e-4, 0.000_9, 0.001_1, 0.01, 0.05, 1.0][..]),
    ) {
        let mut all = Everybody::default();
        for step in steps {
            match step {
                Step::Put(id, at, radius_m) => all.put(id, at, radius_m),
                Step::Move(id, azimuth, metres) => if let Some(&(at, radius_m)) = all.model.get(&id) {
                    all.put(id, away(at, azimuth, metres), radius_m);
                },
                Step::Resize(id, radius_m) => if let Some(&(at, _)) = all.model.get(&id) {
                    all.put(id, at, radius_m);
                },
                Step::Join(id, other) => if let Some(&(at, radius_m)) = all.model.get(&other) {
                    all.put(id, at, radius_m);
                },
                Step::Remove(id) => all.remove(id),
            }
        }
        for (at, radius_m) in places {
            all.check_hearers(at);
            all.check_inside(at, radius_m);
        }
        for &(center, radius_m) in all.model.values().take(12) {
            all.check_hearers(center);
            for metres in [radius_m - gap, radius_m + gap] {
                let rim = away(center, azimuth, metres.max(0.0));
                all.check_hearers(rim);
                all.check_inside(rim, radius_m);
                all.check_inside(center, radius_m);
            }
        }
    }

    /// The distance itself, against the oracle.
    #[test]
    fn distances(a in somewhere(), azimuth in -180.0..180.0f64, log in -6.0..5.3f64) {
        let b = away(a, azimuth, 10f64.powf(log));
        prop_assert!((distance_m(place(a), place(b)) - vincenty_m(a, b)).abs() < common::ORACLE_M);
    }
}

#[test]
fn longitude_and_latitude_zero_are_places() {
    let mut all = Everybody::default();
    for (id, at) in [(0.0, 0.0), (-0.0, 0.0), (0.0, 51.5), (127.0, 0.0)].into_iter().enumerate() {
        all.put(id as u32, at, 0.0);
    }
    assert_eq!(all.check_hearers((0.0, 0.0)), 2);
    assert_eq!(all.check_hearers((0.0, 51.5)), 1);
    assert_eq!(all.check_inside((127.0, -0.0), 0.0), 1);
}

#[test]
fn one_place_however_it_is_written() {
    let mut all = Everybody::default();
    all.put(0, (180.0, 5.0), 0.0);
    all.put(1, (-180.0, 5.0), 0.0);
    all.put(2, (10.0, 90.0), 0.0);
    all.put(3, (-170.0, 90.0), 0.0);
    for at in [(180.0, 5.0), (-180.0, 5.0), (99.0, 90.0)] {
        assert_eq!(all.check_hearers(at), 2);
        assert_eq!(all.check_inside(at, 0.0), 2);
    }
}

/// 30,000 people on one spot, the same radius, and the place on their rim: the dearest crowd there is.
#[test]
fn a_crowd_on_one_spot() {
    let mut index = Index::new();
    let spot = (127.0276, 37.4979);
    for id in 0..30_000 {
        index.insert(id, place(spot), 1_000.0);
    }
    let count = |at: (f64, f64)| {
        let mut heard = 0;
        index.who_hears(place(at), |_| heard += 1);
        heard
    };
    assert_eq!(count(spot), 30_000);
    assert_eq!(count(away(spot, 45.0, 999.99)), 30_000);
    assert_eq!(count(away(spot, 45.0, 1_000.01)), 0);
}

/// A million people: cities, countryside, both polar caps and both sides of the antimeridian, all radii; a third of
/// them move, some leave. Then a few hundred places against all of them.
#[test]
fn a_million_people() {
    const PEOPLE: u32 = 1_000_000;
    let mut rng = fastrand::Rng::with_seed(7);
    let mut index = Index::new();
    let mut circles: Vec<Option<((f64, f64), f64)>> = Vec::with_capacity(PEOPLE as usize);
    let somewhere = |rng: &mut fastrand::Rng| {
        let (hub, spread) = match rng.u8(0..10) {
            0..6 => (HUBS[rng.usize(0..HUBS.len())], 0.3),
            _ => (HUBS[0], 3.0),
        };
        // Not even, and not meant to be; near the poles all longitudes.
        let lat = hub.1 + spread * (rng.f64() - 0.5);
        let lat = if lat > 90.0 {
            180.0 - lat
        } else if lat < -90.0 {
            -180.0 - lat
        } else {
            lat
        };
        let wide = if hub.1.abs() > 89.0 { 360.0 } else { spread };
        let lng = (hub.0 + wide * (rng.f64() - 0.5) + 180.0).rem_euclid(360.0) - 180.0;
        (lng, lat)
    };
    let radius = |rng: &mut fastrand::Rng| match rng.u8(0..20) {
        0 => 0.0,
        1 => RADII[rng.usize(0..RADII.len())],
        _ => 20.0 * 10f64.powf(rng.f64() * 2.7),
    };
    for id in 0..PEOPLE {
        let circle = (somewhere(&mut rng), radius(&mut rng));
        index.insert(id, place(circle.0), circle.1);
        circles.push(Some(circle));
    }
    for _ in 0..PEOPLE / 3 {
        let id = rng.u32(0..PEOPLE);
        if let Some((at, radius_m)) = circles[id as usize] {
            match rng.u8(0..10) {
                0 => {
                    index.remove(id);
                    circles[id as usize] = None;
                }
                1 => circles[id as usize] = Some((somewhere(&mut rng), radius(&mut rng))),
                _ => {
                    let lat = (at.1 + 2e-4 * (rng.f64() - 0.5)).clamp(-90.0, 90.0);
                    let lng = (at.0 + 2e-4 * (rng.f64() - 0.5)).clamp(-180.0, 180.0);
                    circles[id as usize] = Some(((lng, lat), radius_m));
                }
            }
            if let Some((at, radius_m)) = circles[id as usize] {
                index.update(id, place(at), radius_m);
            }
        }
    }
    assert_eq!(index.len(), circles.iter().flatten().count());

    let (mut found, mut named) = (vec![false; PEOPLE as usize], 0);
    for question in 0..120 {
        let at = somewhere(&mut rng);
        let radius_m = if question % 2 == 0 { None } else { Some(RADII[question / 2 % RADII.len()]) };
        found.fill(false);
        let mut name = |id: u32| {
            assert!(!std::mem::replace(&mut found[id as usize], true), "person {id} was named twice");
            named += 1;
        };
        match radius_m {
            None => index.who_hears(place(at), &mut name),
            Some(radius_m) => index.who_is_in(place(at), radius_m, &mut name),
        }
        for (id, circle) in circles.iter().enumerate() {
            let truth = match (circle, radius_m) {
                (None, _) => Some(false),
                (Some((center, own_m)), None) => holds(*center, *own_m, at),
                (Some((position, _)), Some(radius_m)) => holds(at, radius_m, *position),
            };
            assert!(
                truth.is_none_or(|truth| truth == found[id]),
                "person {id} {circle:?}, {at:?} {radius_m:?}"
            );
        }
    }
    assert!(named > 100_000, "{named}"); // the questions were not idle
}
