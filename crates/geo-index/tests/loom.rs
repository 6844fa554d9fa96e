//! An [`Interest`] may name a worker too many, never one too few: in every order in which the threads' steps can
//! interleave, and with every value the memory model lets a thread read, as far as loom's bound on preemptions goes.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release -p geo-index --test loom`; `cargo xtask test` runs it so.
#![cfg(loom)]

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use geo_index::{Interest, Position};
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;

/// Few enough to go through quickly. Radii and places are such that what a test takes away and what it sets lie in
/// different slots; in a shared one a circle is never out of sight, whatever the order.
const SLOTS: usize = 64;
/// Found bugs need one or two; loom's own advice is two or three. `LOOM_MAX_PREEMPTIONS` sets another bound.
const PREEMPTIONS: usize = 3;
/// Three threads have far more orders.
const PREEMPTIONS_OF_THREE: usize = 2;

fn check(model: impl Fn() + Sync + Send + 'static) {
    check_up_to(PREEMPTIONS, model);
}

fn check_up_to(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(preemptions);
    // Seven classes of radius, each a slot to look at, several times over.
    builder.max_branches = 10_000;
    let orders = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&orders);
    builder.check(move || {
        counted.fetch_add(1, Relaxed);
        model();
    });
    let orders = orders.load(Relaxed);
    println!("{orders} orders, preemptions at most: {:?}", builder.preemption_bound);
    assert!(orders > 1, "the threads never met");
}

fn place() -> Position {
    Position::new(127.0276, 37.4979).unwrap()
}

fn near() -> Position {
    Position::new(127.0277, 37.498).unwrap()
}

/// Radii of three classes; each circle holds [`place`].
const SMALL_M: f64 = 500.0;
const MIDDLE_M: f64 = 15_000.0;
const LARGE_M: f64 = 90_000.0;

#[test]
fn a_circle_that_changes_its_class_is_never_out_of_sight() {
    for (from, to) in [(SMALL_M, LARGE_M), (LARGE_M, SMALL_M)] {
        check(move || {
            let interest = Arc::new(Interest::with_slots(SLOTS));
            let mut handle = interest.handle(3).unwrap();
            handle.add(place(), from);
            let asking = Arc::clone(&interest);
            let asks = thread::spawn(move || asking.listeners(place()));
            handle.update((place(), from), (near(), to));
            assert_eq!(asks.join().unwrap(), 1 << 3);
            assert_eq!(interest.listeners(place()), 1 << 3);
        });
    }
}

/// There and back again while somebody asks: the slot first looked at is marked again, the other no longer.
#[test]
fn a_circle_that_comes_back_to_its_class_is_never_out_of_sight() {
    check(|| {
        let interest = Arc::new(Interest::with_slots(SLOTS));
        let mut handle = interest.handle(0).unwrap();
        handle.add(place(), SMALL_M);
        let asking = Arc::clone(&interest);
        let asks = thread::spawn(move || asking.listeners(place()));
        handle.update((place(), SMALL_M), (place(), MIDDLE_M));
        handle.update((place(), MIDDLE_M), (place(), SMALL_M));
        assert_eq!(asks.join().unwrap(), 1);
    });
}

/// Both workers mark and unmark the same slots; neither takes the other's bit away.
#[test]
fn workers_leave_each_others_marks_alone() {
    check(|| {
        let interest = Arc::new(Interest::with_slots(SLOTS));
        let mut stays = interest.handle(0).unwrap();
        let mut goes = interest.handle(63).unwrap();
        goes.add(place(), SMALL_M);
        let leaves = thread::spawn(move || {
            goes.remove(place(), SMALL_M);
            goes
        });
        stays.add(place(), SMALL_M);
        assert_eq!(interest.listeners(place()) & 1, 1);
        let goes = leaves.join().unwrap();
        assert_eq!(interest.listeners(place()), 1);
        drop(goes);
    });
}

/// Two people move at once, on two workers, both always within earshot.
#[test]
fn two_that_move_at_once_are_both_seen() {
    check_up_to(PREEMPTIONS_OF_THREE, || {
        let interest = Arc::new(Interest::with_slots(SLOTS));
        let mut handles = [0, 1].map(|worker| interest.handle(worker).unwrap());
        handles[0].add(place(), SMALL_M);
        handles[1].add(place(), LARGE_M);
        let [mut first, mut second] = handles;
        let moves = thread::spawn(move || {
            first.update((place(), SMALL_M), (place(), LARGE_M));
            first
        });
        let asking = Arc::clone(&interest);
        let asks = thread::spawn(move || asking.listeners(place()));
        second.update((place(), LARGE_M), (place(), SMALL_M));
        assert_eq!(asks.join().unwrap(), 0b11);
        drop((moves.join().unwrap(), second));
    });
}

/// Whoever is told of an arrival finds it: the ack of a `store` is behind the mark of its circle.
#[test]
fn what_was_added_before_the_question_is_in_the_answer() {
    check(|| {
        let interest = Arc::new(Interest::with_slots(SLOTS));
        let told = Arc::new(AtomicBool::new(false));
        let (asking, hears) = (Arc::clone(&interest), Arc::clone(&told));
        let asks = thread::spawn(move || {
            let knew = hears.load(Ordering::Acquire);
            (knew, asking.listeners(place()))
        });
        let mut handle = interest.handle(5).unwrap();
        handle.add(near(), MIDDLE_M);
        told.store(true, Ordering::Release);
        let (knew, mask) = asks.join().unwrap();
        assert!(!knew || mask == 1 << 5);
    });
}
