//! An [`Interest`] may name a worker too many, never one too few.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use geo_index::{Interest, InterestError, InterestHandle, Position, circle_contains};
use geographiclib_rs::{DirectGeodesic, Geodesic};
use proptest::prelude::*;

fn somewhere() -> impl Strategy<Value = Position> {
    let lng = prop_oneof![Just(180.0), Just(-180.0), Just(0.0), -180.0..=180.0f64, 179.0..=180.0f64];
    let lat = prop_oneof![
        Just(90.0),
        Just(-90.0),
        88.0..=90.0f64,
        -90.0..=-88.0f64,
        -90.0..=90.0f64,
        37.0..38.0f64
    ];
    (lng, lat).prop_map(|(lng, lat)| Position::new(lng, lat).unwrap())
}

fn radius() -> impl Strategy<Value = f64> {
    prop_oneof![prop::sample::select(&[0.0, 1_000.0, 1_000.1, 20_000.0, 100_000.0][..]), 0.0..100_000.0f64]
}

fn away(from: Position, azimuth: f64, metres: f64) -> Position {
    let (lat, lng): (f64, f64) = Geodesic::wgs84().direct(from.lat(), from.lng(), azimuth, metres);
    Position::new(lng.clamp(-180.0, 180.0), lat.clamp(-90.0, 90.0)).unwrap()
}

proptest! {
    /// People of four workers come, move and leave, in tables large and absurdly small. After every step, a place in
    /// each circle, often on its rim, names the circle's worker. When all have left, nothing is named.
    #[test]
    fn never_too_few(
        slots in prop::sample::select(&[2usize, 16, 1 << 12, 1 << 17][..]),
        steps in prop::collection::vec((0..24usize, somewhere(), radius(), 0..4u8), 1..60),
        azimuth in -180.0..180.0f64,
        share in prop_oneof![Just(1.0), 0.0..=1.0f64],
    ) {
        let interest = Arc::new(Interest::with_slots(slots));
        let mut handles: Vec<InterestHandle> =
            (0..4).map(|worker| interest.handle(worker * 21).unwrap()).collect();
        let mut people: Vec<Option<(Position, f64)>> = vec![None; 24];
        for (who, position, radius_m, what) in steps {
            let handle = &mut handles[who % 4];
            match (people[who], what) {
                (Some((position, radius_m)), 0) => {
                    handle.remove(position, radius_m);
                    people[who] = None;
                }
                (Some(old), _) => {
                    handle.update(old, (position, radius_m));
                    people[who] = Some((position, radius_m));
                }
                (None, _) => {
                    handle.add(position, radius_m);
                    people[who] = Some((position, radius_m));
                }
            }
            for (who, circle) in people.iter().enumerate() {
                if let Some((center, radius_m)) = *circle {
                    let heard = away(center, azimuth, radius_m * share);
                    if circle_contains(center, radius_m, heard) {
                        prop_assert!(interest.listeners(heard) & 1 << (who % 4 * 21) != 0, "{center:?} {radius_m}");
                    }
                    prop_assert!(interest.listeners(center) & 1 << (who % 4 * 21) != 0);
                }
            }
        }
        let places: Vec<Position> = people.iter().flatten().map(|circle| circle.0).collect();
        for (who, circle) in people.iter().enumerate() {
            if let Some((position, radius_m)) = *circle {
                handles[who % 4].remove(position, radius_m);
            }
        }
        for place in places {
            prop_assert_eq!(interest.listeners(place), 0);
        }
    }
}

#[test]
fn far_away_names_nobody() {
    let interest = Arc::new(Interest::new());
    let at = |lng, lat| Position::new(lng, lat).unwrap();
    let mut handle = interest.handle(3).unwrap();
    handle.add(at(127.0, 37.5), 20_000.0);
    assert_eq!(interest.listeners(at(127.1, 37.5)), 1 << 3);
    assert_eq!(interest.listeners(at(129.0, 35.0)), 0);
    // The same slots, thousands of circles, one bit: the last one out clears it.
    for _ in 0..5_000 {
        handle.add(at(127.0, 37.5), 20_000.0);
    }
    for _ in 0..5_000 {
        handle.remove(at(127.0, 37.5), 20_000.0);
    }
    assert_eq!(interest.listeners(at(127.1, 37.5)), 1 << 3);
    handle.remove(at(127.0, 37.5), 20_000.0);
    assert_eq!(interest.listeners(at(127.1, 37.5)), 0);
}

#[test]
fn one_handle_per_worker_and_dropping_withdraws() {
    let interest = Arc::new(Interest::new());
    let place = Position::new(0.0, 0.0).unwrap();
    let (mut first, mut other) = (interest.handle(0).unwrap(), interest.handle(63).unwrap());
    assert_eq!(interest.handle(0).unwrap_err(), InterestError::Taken(0));
    assert_eq!(interest.handle(64).unwrap_err(), InterestError::TooManyWorkers(64));
    first.add(place, 500.0);
    other.add(place, 50_000.0);
    assert_eq!(interest.listeners(place), 1 | 1 << 63);
    drop(first);
    assert_eq!(interest.listeners(place), 1 << 63);
    assert!(interest.handle(0).is_ok());
}

/// One person per worker moves, grows and shrinks without pause, always within earshot of one place. Whoever asks in
/// the middle of it must find them both.
#[test]
fn never_too_few_while_moving() {
    let interest = Arc::new(Interest::new());
    let place = Position::new(180.0, 37.5).unwrap();
    let writing = AtomicUsize::new(2);
    let ready = AtomicBool::new(false);
    thread::scope(|scope| {
        for worker in 0..2u32 {
            let mut handle = interest.handle(worker).unwrap();
            let (writing, ready) = (&writing, &ready);
            scope.spawn(move || {
                let circles: Vec<(Position, f64)> = (0..64)
                    .map(|i| {
                        let radius_m = [100.0, 90_000.0, 1_500.0, 30_000.0, 700.0, 15_000.0][i * 7 % 6];
                        (away(place, i as f64 * 77.0, radius_m * 0.99), radius_m)
                    })
                    .collect();
                handle.add(circles[0].0, circles[0].1);
                writing.fetch_sub(1, Ordering::Release);
                while !ready.load(Ordering::Acquire) {
                    thread::yield_now();
                }
                for i in 0..300_000 {
                    handle.update(circles[i % 64], circles[(i + 1) % 64]);
                }
                writing.fetch_add(1, Ordering::Release);
                // Nobody leaves before the reader has seen that all are done.
                while ready.load(Ordering::Acquire) {
                    thread::yield_now();
                }
            });
        }
        while writing.load(Ordering::Acquire) > 0 {
            thread::yield_now();
        }
        ready.store(true, Ordering::Release);
        let mut missed = 0u64;
        let mut asked = 0u64;
        while writing.load(Ordering::Acquire) < 2 {
            missed += u64::from(interest.listeners(place) != 0b11);
            asked += 1;
        }
        ready.store(false, Ordering::Release);
        assert_eq!(missed, 0, "of {asked} questions");
        assert!(asked > 1_000, "{asked}");
    });
}

/// What was added before a question, in the happens-before sense, is in the answer.
#[test]
fn an_add_is_seen_by_whoever_is_told_of_it() {
    let interest = Arc::new(Interest::new());
    let mut handle = interest.handle(5).unwrap();
    let (told, hear) = std::sync::mpsc::sync_channel::<Position>(64);
    let (back, done) = std::sync::mpsc::sync_channel::<Position>(256);
    thread::scope(|scope| {
        let asking = Arc::clone(&interest);
        scope.spawn(move || {
            for place in hear {
                assert_eq!(asking.listeners(place), 1 << 5, "{place:?}");
                back.send(place).unwrap();
            }
        });
        let mut rng = fastrand::Rng::with_seed(9);
        let withdraw = |handle: &mut InterestHandle, place: Position| {
            handle.remove(place, 800.0);
        };
        for _ in 0..50_000 {
            let place = Position::new(rng.f64() * 360.0 - 180.0, rng.f64() * 180.0 - 90.0).unwrap();
            handle.add(place, 800.0);
            told.send(place).unwrap();
            while let Ok(place) = done.try_recv() {
                withdraw(&mut handle, place);
            }
        }
        drop(told);
        for place in done {
            withdraw(&mut handle, place);
        }
    });
}
