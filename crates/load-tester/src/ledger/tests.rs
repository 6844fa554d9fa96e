//! The account on made-up scenes, and against one that is kept naively.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::delivery::{Ears, Listening, Marks};
use crate::metrics::Names;
use crate::outcome::{Window, names};

fn stand(lng: f64, radius_m: f64, asked: Nanos, settled: Nanos) -> Stand {
    Stand { lng, lat: 37.4979, radius_m, asked, settled }
}

/// Messages, who heard which in what order, and the judgement.
struct Scene {
    messages: Messages,
    marks: Marks,
    zero: Instant,
    ears: Vec<Ears>,
    recorder: Recorder,
}

impl Scene {
    fn new(listeners: usize) -> Self {
        Self {
            messages: Messages::new(),
            marks: Marks::new("new_msg", "r"),
            zero: Instant::now(),
            ears: (0..listeners).map(Ears::new).collect(),
            recorder: Recorder::default(),
        }
    }

    fn hear(&mut self, listener: usize, message: u32, after: Duration) {
        let mut raw = b"[\"new_msg\",\"".to_vec();
        self.marks.write(message, &mut raw);
        raw.extend_from_slice(b"\"]");
        let sent = self.messages.said(message).unwrap().sent;
        let received = self.zero + Duration::from_nanos(sent) + after;
        let listening =
            Listening { marks: &self.marks, messages: &self.messages, zero: self.zero, remembered: 1 << 16 };
        let raw = std::str::from_utf8(&raw).unwrap();
        self.ears[listener].hear(listening, raw, received, &mut self.recorder);
    }

    fn judge(&self, expectation: Option<DeliveryExpectation>, listeners: Vec<Listener>) -> Delivery {
        self.judge_with_total(expectation, listeners).0
    }

    fn judge_with_total(
        &self,
        expectation: Option<DeliveryExpectation>,
        listeners: Vec<Listener>,
    ) -> (Delivery, Window) {
        let (mut ledger, mut collector) = ledger(expectation, listeners);
        ledger.add(&self.recorder, &self.messages, &mut collector);
        ledger.judge_before(Nanos::MAX, &self.messages, &mut collector);
        (ledger.close(), collector.total(1.0))
    }
}

/// With as many classes as the listeners name; those apart are apart as a class.
fn ledger(expectation: Option<DeliveryExpectation>, listeners: Vec<Listener>) -> (Ledger, Collector) {
    let mut names = Names::default();
    let ack = names.time(names::DELIVERY_ACK);
    let most = listeners.iter().map(|listener| listener.class).max().unwrap_or(0);
    let classes = (0..=most).map(|class| Class {
        name: format!("class {class}"),
        time: names.time(&format!("{}class {class}", names::DELIVERY_CLASS)),
        apart: listeners.iter().any(|listener| listener.class == class && listener.apart),
    });
    let classes = classes.collect();
    let ledger = Ledger::new("new_msg", expectation, classes, ack, listeners);
    (ledger, Collector::new(names, 1))
}

const SOON: Duration = Duration::from_millis(3);

fn at(stands: &[Stand]) -> Listener {
    Listener { stands: stands.to_vec(), ..Listener::default() }
}

#[test]
fn missing_duplicate_unexpected_and_order_are_told_apart() {
    let mut scene = Scene::new(3);
    let place = Some((127.0276, 37.4979));
    let first = scene.messages.add(1_000, 2_000, place, None).unwrap();
    let second = scene.messages.add(3_000, 4_000, place, Some(first)).unwrap();
    let lost = scene.messages.add(5_000, 6_000, place, None).unwrap();
    scene.messages.set_status(lost, Status::NotSent);
    for (listener, message) in [(0, second), (0, first), (0, first), (1, first)] {
        scene.hear(listener, message, SOON);
    }
    let near = at(&[stand(127.0276, 500.0, 0, 0)]);
    let far = at(&[stand(127.5, 500.0, 0, 0)]);
    let deaf = at(&[stand(127.0277, 500.0, 0, 0)]);
    let listeners = vec![near, far, deaf];
    let delivery = scene.judge(Some(DeliveryExpectation::Circle), listeners.clone());
    assert_eq!(delivery.messages, 3);
    assert_eq!(delivery.not_sent, 1);
    assert_eq!(delivery.expected, Some(4));
    assert_eq!(delivery.heard, 3);
    assert_eq!(delivery.missing, 2);
    assert_eq!(delivery.unexpected, 1);
    assert_eq!(delivery.duplicates, 1);
    assert_eq!(delivery.out_of_order, 1);
    assert_eq!(delivery.samples.len(), 3, "{:?}", delivery.samples);
    assert!(delivery.samples.iter().any(|row| row.starts_with("listener 1 heard")), "{:?}", delivery.samples);

    let all = scene.judge(Some(DeliveryExpectation::All), listeners.clone());
    assert_eq!((all.expected, all.missing, all.unexpected), (Some(6), 3, 0));
    let number = scene.judge(Some(DeliveryExpectation::Number(1)), listeners.clone());
    assert_eq!((number.expected, number.missing, number.unexpected), (Some(2), 0, 1));
    let none = scene.judge(Some(DeliveryExpectation::Nobody), listeners.clone());
    assert_eq!((none.expected, none.missing, none.unexpected), (Some(0), 0, 3));
    let nothing = scene.judge(None, listeners);
    assert_eq!((nothing.expected, nothing.missing), (None, 0));
}

#[test]
fn a_complaint_refuses_a_message_only_when_nobody_heard_it() {
    let mut scene = Scene::new(1);
    let [heard, unheard, refused] = [1, 2, 3].map(|at| scene.messages.add(at, at, None, None).unwrap());
    scene.messages.set_status(heard, Status::Unanswered);
    scene.messages.set_status(unheard, Status::Complained);
    scene.messages.set_status(refused, Status::Refused);
    scene.hear(0, heard, SOON);
    scene.hear(0, refused, SOON);
    let delivery = scene.judge(Some(DeliveryExpectation::All), vec![Listener::default()]);
    assert_eq!((delivery.expected, delivery.missing), (Some(1), 0));
    assert_eq!((delivery.not_sent, delivery.unexpected), (2, 1), "{:?}", delivery.samples);
}

#[test]
fn a_message_sent_while_a_listener_moves_is_undecided_only_where_its_places_disagree() {
    const MS: Nanos = 1_000_000;
    let said = |sent| Said { due: sent, sent, lng: 127.0276, lat: 37.4979, status: Status::Written };
    let moved = [stand(127.0276, 500.0, 0, 0), stand(127.5, 500.0, 2_000 * MS, 2_010 * MS)];
    let near = [stand(127.0276, 500.0, 0, 0), stand(127.0277, 500.0, 2_000 * MS, 2_010 * MS)];
    let rows = [
        (&moved, 1_000, Should::Hear),
        (&moved, 1_900, Should::Undecided), // may have been matched after the move
        (&moved, 2_005, Should::Undecided),
        (&moved, 2_011, Should::NotHear),
        (&near, 1_900, Should::Hear),
        (&near, 2_005, Should::Hear),
    ];
    for (stands, sent_ms, expected) in rows {
        let sent = sent_ms * MS;
        assert_eq!(should_hear(stands, said(sent), sent + MATCHED_WITHIN), expected, "sent at {sent_ms} ms");
    }
    // A move that was never confirmed leaves both places possible until a later one is.
    let unconfirmed =
        [moved[0], Stand { settled: Nanos::MAX, ..moved[1] }, stand(127.6, 500.0, 4_000 * MS, 4_001 * MS)];
    let sent = 3_000 * MS;
    assert_eq!(should_hear(&unconfirmed, said(sent), sent + MATCHED_WITHIN), Should::Undecided);
    let sent = 4_002 * MS;
    assert_eq!(should_hear(&unconfirmed, said(sent), sent + MATCHED_WITHIN), Should::NotHear);
}

/// Judged piece by piece, while listeners walk, a long run keeps nothing of what is over.
#[test]
fn a_long_run_is_judged_as_it_goes_and_keeps_only_what_is_under_way() {
    let mut scene = Scene::new(2);
    let still = at(&[stand(127.0276, 500.0, 0, 0)]);
    let walker = Listener { walks: true, ..still.clone() };
    let (mut ledger, mut collector) = ledger(Some(DeliveryExpectation::Circle), vec![still, walker]);
    collector.fold_by(10);
    let rounds: u64 = 5_000;
    for round in 0..rounds {
        // One message a second, a step of the walker between two of them.
        let sent = round * 1_000_000_000;
        let message = scene.messages.add(sent, sent, Some((127.0276, 37.4979)), None).unwrap();
        scene.hear(0, message, SOON);
        if round != 77 {
            scene.hear(1, message, SOON);
        }
        let step = stand(127.0276, 500.0, sent + 500_000_000, sent + 501_000_000);
        scene.recorder.stands.push((1, step));
        ledger.add(&scene.recorder, &scene.messages, &mut collector);
        scene.recorder.clear();
        ledger.judge_before(sent.saturating_sub(10_000_000_000), &scene.messages, &mut collector);
        collector.fold(round.saturating_sub(15) as usize);
        assert!(ledger.under_way.len() < 16 && ledger.listeners[1].stands.len() < 32);
        if round > 20 {
            assert_eq!(ledger.delivery().messages, round - 10);
        }
    }
    ledger.judge_before(Nanos::MAX, &scene.messages, &mut collector);
    let delivery = ledger.close();
    assert_eq!((delivery.messages, delivery.expected), (rounds, Some(2 * rounds)));
    assert_eq!((delivery.heard, delivery.missing, delivery.late), (2 * rounds - 1, 1, 0));
    assert!(delivery.samples[0].starts_with("listener 1 missed message 77, sent at 77.000 s"));
}

#[test]
fn first_median_and_last_hearer_are_filed_under_the_second_of_sending() {
    let mut scene = Scene::new(4);
    let message = scene.messages.add(0, 1_500_000_000, None, None).unwrap();
    for (listener, after_us) in [(0, 30), (1, 10), (2, 20)] {
        scene.hear(listener, message, Duration::from_micros(after_us));
    }
    // Heard by one who had been away: no delivery time.
    scene.recorder.heard.push(Heard { message, listener: 3, after_us: Heard::CAUGHT_UP });
    scene.recorder.acked.push((message, 25));
    let (mut ledger, mut collector) = ledger(None, vec![Listener::default(); 4]);
    ledger.add(&scene.recorder, &scene.messages, &mut collector);
    ledger.judge_before(1_500_000_000, &scene.messages, &mut collector);
    assert!(!collector.total(1.0).histograms.contains_key(names::DELIVERY_LAST), "not old enough");
    assert_eq!(ledger.delivery().heard, 0, "nor in the account");
    ledger.judge_before(Nanos::MAX, &scene.messages, &mut collector);
    assert_eq!(ledger.delivery().heard, 4);
    let (seconds, _) = collector.finish(2.0);
    let value = |name: &str| seconds[1].histograms[name].max();
    let stages = [names::DELIVERY_FIRST, names::DELIVERY_MEDIAN, names::DELIVERY_ACK, names::DELIVERY_LAST];
    assert_eq!(stages.map(value), [10, 20, 25, 30]);
    // From due: 1.5 s later.
    assert_eq!(seconds[1].histograms[names::DELIVERY].len(), 3);
    assert!(seconds[1].histograms[names::DELIVERY_FROM_DUE].min() > 1_480_000);
    assert_eq!(seconds[1].counters[counters::HEARD], 4);
}

/// Seconds of a scene, in nanoseconds.
const S: Nanos = 1_000_000_000;

#[test]
fn what_comes_after_the_judgement_is_late_and_missing_and_its_time_counts() {
    let mut scene = Scene::new(2);
    let message = scene.messages.add(0, S, None, None).unwrap();
    let (mut ledger, mut collector) = ledger(Some(DeliveryExpectation::All), vec![Listener::default(); 2]);
    scene.hear(0, message, SOON);
    ledger.add(&scene.recorder, &scene.messages, &mut collector);
    scene.recorder.clear();
    ledger.judge_before(2 * S, &scene.messages, &mut collector);
    scene.hear(1, message, Duration::from_secs(12));
    scene.hear(0, message, Duration::from_secs(12));
    ledger.add(&scene.recorder, &scene.messages, &mut collector);
    let delivery = ledger.close();
    assert_eq!((delivery.expected, delivery.heard, delivery.missing), (Some(2), 1, 1));
    assert_eq!((delivery.late, delivery.duplicates), (1, 1));
    assert_eq!((delivery.classes[0].late, delivery.classes[0].duplicates), (1, 1));
    let (seconds, _) = collector.finish(2.0);
    assert_eq!(seconds[1].histograms[names::DELIVERY].max() / 1_000_000, 12);
    let counted =
        [counters::EXPECTED, counters::HEARD, counters::MISSING, counters::LATE, counters::DUPLICATES]
            .map(|name| seconds[1].counters[name]);
    assert_eq!(counted, [2, 1, 1, 1, 1]);
}

#[test]
fn classes_are_counted_by_themselves_and_the_slow_in_no_sum() {
    let mut scene = Scene::new(4);
    let listener = |class, apart| Listener { class, apart, ..Listener::default() };
    let listeners = vec![listener(0, false), listener(0, false), listener(1, false), listener(2, true)];
    for at in 1..=10 {
        let message = scene.messages.add(at, at, None, None).unwrap();
        scene.hear(0, message, SOON);
        if at != 3 {
            scene.hear(1, message, SOON);
        }
        if at % 2 == 0 {
            scene.hear(2, message, SOON);
        }
        scene.hear(3, message, Duration::from_secs(5));
        scene.hear(3, message, Duration::from_secs(5));
    }
    let (delivery, total) = scene.judge_with_total(Some(DeliveryExpectation::All), listeners.clone());
    assert_eq!((delivery.expected, delivery.heard, delivery.missing), (Some(30), 24, 6));
    assert_eq!((delivery.duplicates, delivery.undecided, delivery.unexpected), (0, 0, 0));
    let rows: Vec<_> = (delivery.classes.iter())
        .map(|class| {
            (&*class.name, class.listeners, class.expected, class.heard, class.missing, class.duplicates)
        })
        .collect();
    assert_eq!(
        rows,
        [
            ("class 0", 2, Some(20), 19, 1, 0),
            ("class 1", 1, Some(10), 5, 5, 0),
            ("class 2", 1, None, 10, 0, 10),
        ]
    );
    assert_eq!(delivery.listeners_short, 2);
    let worst: Vec<_> =
        (delivery.worst.iter()).map(|one| (one.listener, &*one.class, one.expected, one.missing)).collect();
    assert_eq!(worst, [(2, "class 1", 10, 5), (1, "class 0", 10, 1)]);
    assert_eq!(total.histograms[names::DELIVERY].len(), 24);
    assert!(total.histograms[names::DELIVERY].max() < 4_000, "the slow are not among them");
    let of_class = |class: u32| &total.histograms[&format!("{}class {class}", names::DELIVERY_CLASS)];
    assert_eq!([of_class(0).len(), of_class(1).len(), of_class(2).len()], [19, 5, 10]);
    assert!(of_class(2).min() > 4_000_000);
    assert_eq!(total.counters[counters::EXPECTED], 30);

    let number = scene.judge(Some(DeliveryExpectation::Number(3)), listeners);
    assert_eq!((number.expected, number.missing, number.classes[0].expected), (Some(30), 6, None));
    assert_eq!((number.classes[0].heard, number.classes[2].heard), (19, 10));
}

#[test]
fn only_twenty_of_those_who_missed_something_are_named() {
    let scene = Scene::new(0);
    scene.messages.add(1, 1, None, None).unwrap();
    let delivery = scene.judge(Some(DeliveryExpectation::All), vec![Listener::default(); 500]);
    assert_eq!((delivery.listeners_short, delivery.worst.len(), delivery.samples.len()), (500, 20, 20));
}

#[test]
fn what_is_sent_while_the_script_keeps_a_listener_away_is_on_neither_side_unless_it_catches_up() {
    let mut scene = Scene::new(3);
    // 0 is away without a cursor from 2 s to 4 s, 1 with one, 2 with one and does not come back.
    for at in 0..8 {
        scene.messages.add(at * S, at * S, None, None).unwrap();
    }
    let gone = |recovers| Presence::Gone { at: 2 * S, recovers };
    let back = Presence::Back { at: 4 * S };
    scene.recorder.presences = vec![(0, gone(false)), (1, gone(true)), (2, gone(true)), (0, back), (1, back)];
    for message in [0, 1, 5, 6, 7] {
        scene.hear(0, message, SOON);
    }
    for message in [0, 1, 2, 4, 5, 6, 7] {
        scene.hear(1, message, SOON);
    }
    scene.hear(2, 0, SOON);
    let delivery = scene.judge(Some(DeliveryExpectation::All), vec![Listener::default(); 3]);
    // 0: five and three undecided; 1: all eight, of which it missed the fourth; 2: two, of which it missed one.
    assert_eq!((delivery.expected, delivery.undecided), (Some(5 + 8 + 2), 3 + 6));
    assert_eq!((delivery.missing, delivery.heard), (2, 13));
    let missed: Vec<_> = delivery.worst.iter().map(|one| (one.listener, one.expected, one.missing)).collect();
    assert_eq!(missed, [(1, 8, 1), (2, 2, 1)]);
}

#[test]
fn a_run_that_is_cut_off_blames_nobody_for_what_might_still_have_come() {
    for expectation in [DeliveryExpectation::All, DeliveryExpectation::Number(2)] {
        let mut scene = Scene::new(2);
        for at in [1, 5, 9] {
            let message = scene.messages.add(at * S, at * S, None, None).unwrap();
            scene.hear(0, message, SOON);
        }
        let (mut ledger, mut collector) = ledger(Some(expectation), vec![Listener::default(); 2]);
        ledger.add(&scene.recorder, &scene.messages, &mut collector);
        ledger.cut_off(4 * S);
        ledger.judge_before(Nanos::MAX, &scene.messages, &mut collector);
        let delivery = ledger.close();
        assert_eq!(
            (delivery.expected, delivery.missing, delivery.undecided),
            (Some(4), 1, 2),
            "{expectation:?}"
        );
    }
}

#[test]
fn a_disk_that_is_full_ends_the_files_and_not_the_run() {
    // As long as it exists: every write fails with ENOSPC.
    if !Path::new("/dev/full").exists() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pairs.csv");
    std::os::unix::fs::symlink("/dev/full", &path).unwrap();
    let mut scene = Scene::new(1);
    let (mut ledger, mut collector) = ledger(Some(DeliveryExpectation::All), vec![Listener::default()]);
    ledger.write_pairs(&path).unwrap();
    for at in 0..5_000 {
        let message = scene.messages.add(at, at, None, None).unwrap();
        scene.hear(0, message, SOON);
    }
    ledger.add(&scene.recorder, &scene.messages, &mut collector);
    ledger.judge_before(Nanos::MAX, &scene.messages, &mut collector);
    assert_eq!(ledger.fault().map(|error| error.kind()), Some(io::ErrorKind::StorageFull));
    assert!(ledger.fault().is_none(), "told once");
    assert_eq!((ledger.close().heard, ledger.fault().is_none()), (5_000, true));
}

/// What happens in a scene, in order.
#[derive(Debug, Clone)]
enum Event {
    /// By one of a few senders.
    Say { sender: usize },
    /// Somebody hears one of the messages so far.
    Hear { listener: usize, message: usize },
    /// The script takes a listener away, or it is back.
    Toggle { listener: usize },
    /// A minute passes: what was said so far is judged.
    Judge,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        3 => (0..3_usize).prop_map(|sender| Event::Say { sender }),
        8 => (0..4_usize, any::<usize>()).prop_map(|(listener, message)| Event::Hear { listener, message }),
        1 => (0..4_usize).prop_map(|listener| Event::Toggle { listener }),
        1 => Just(Event::Judge),
    ];
    prop::collection::vec(event, 0..120)
}

/// The same account from lists of everything.
#[derive(Default)]
struct Naive {
    /// (sender, sent, judged)
    said: Vec<(usize, Nanos, bool)>,
    /// (listener, message) heard before it was judged, and after.
    heard: Vec<(usize, usize)>,
    late: Vec<(usize, usize)>,
    again: u64,
    out_of_order: u64,
    /// (listener, from, until)
    absences: Vec<(usize, Nanos, Nanos)>,
}

impl Naive {
    fn hear(&mut self, listener: usize, message: usize) {
        let known = |one: &&(usize, usize)| **one == (listener, message);
        if self.heard.iter().chain(&self.late).any(|one| known(&one)) {
            self.again += 1;
            return;
        }
        let later = |&&(who, other): &&(usize, usize)| {
            who == listener && other > message && self.said[other].0 == self.said[message].0
        };
        self.out_of_order += u64::from(self.heard.iter().chain(&self.late).any(|one| later(&one)));
        let list = if self.said[message].2 { &mut self.late } else { &mut self.heard };
        list.push((listener, message));
    }

    /// expected, missing, undecided, and unexpected, of listeners whose class is the one given; 4 stand for all.
    fn account(&self, nobody: bool, of: impl Fn(usize) -> bool) -> [u64; 4] {
        let mut account = [0; 4];
        for (message, &(_, sent, _)) in self.said.iter().enumerate() {
            for listener in (0..4).filter(|&listener| of(listener)) {
                let heard = self.heard.contains(&(listener, message));
                let away = |&&(who, from, until): &&(usize, Nanos, Nanos)| {
                    who == listener && from <= sent + MATCHED_WITHIN && sent <= until
                };
                if nobody {
                    account[3] += u64::from(heard);
                } else if self.absences.iter().any(|absence| away(&absence)) {
                    account[2] += 1;
                } else {
                    account[0] += 1;
                    account[1] += u64::from(!heard);
                }
            }
        }
        account
    }
}

proptest! {
    #[test]
    fn the_account_is_the_naive_one(events in events(), nobody in any::<bool>()) {
        let mut scene = Scene::new(4);
        let mut naive = Naive::default();
        let class = |listener: usize| (listener % 2) as u32;
        let listeners = (0..4).map(|number| Listener { class: class(number), ..Listener::default() }).collect();
        let expectation = if nobody { DeliveryExpectation::Nobody } else { DeliveryExpectation::All };
        let (mut ledger, mut collector) = ledger(Some(expectation), listeners);
        let mut last: [Option<u32>; 3] = [None; 3];
        // Each event a second after the one before.
        for (now, event) in (0..).map(|second| second * S).zip(events) {
            match event {
                Event::Say { sender } => {
                    let message = scene.messages.add(now, now, None, last[sender]).unwrap();
                    last[sender] = Some(message);
                    naive.said.push((sender, now, false));
                }
                Event::Hear { .. } if naive.said.is_empty() => {}
                Event::Hear { listener, message } => {
                    let message = message % naive.said.len();
                    scene.hear(listener, message as u32, SOON);
                    naive.hear(listener, message);
                }
                Event::Toggle { listener } => {
                    let open = |one: &&mut (usize, Nanos, Nanos)| one.0 == listener && one.2 == Nanos::MAX;
                    let presence = match naive.absences.iter_mut().find(open) {
                        Some(absence) => {
                            absence.2 = now;
                            Presence::Back { at: now }
                        }
                        None => {
                            naive.absences.push((listener, now, Nanos::MAX));
                            Presence::Gone { at: now, recovers: false }
                        }
                    };
                    scene.recorder.presences.push((listener as u32, presence));
                }
                Event::Judge => {
                    ledger.add(&scene.recorder, &scene.messages, &mut collector);
                    scene.recorder.clear();
                    ledger.judge_before(now, &scene.messages, &mut collector);
                    naive.said.iter_mut().for_each(|said| said.2 = true);
                }
            }
        }
        ledger.add(&scene.recorder, &scene.messages, &mut collector);
        ledger.judge_before(Nanos::MAX, &scene.messages, &mut collector);
        let delivery = ledger.close();
        let all = [delivery.expected.unwrap(), delivery.missing, delivery.undecided, delivery.unexpected];
        prop_assert_eq!(all, naive.account(nobody, |_| true));
        prop_assert_eq!(delivery.heard, naive.heard.len() as u64);
        prop_assert_eq!(delivery.late, naive.late.len() as u64);
        prop_assert_eq!(delivery.duplicates, naive.again);
        prop_assert_eq!(delivery.out_of_order, naive.out_of_order);
        for (number, of_class) in delivery.classes.iter().enumerate() {
            let [expected, missing, _, unexpected] = naive.account(nobody, |one| class(one) == number as u32);
            prop_assert_eq!(of_class.expected.unwrap(), expected);
            prop_assert_eq!((of_class.missing, of_class.unexpected), (missing, unexpected));
            let heard = naive.heard.iter().filter(|(listener, _)| class(*listener) == number as u32).count();
            prop_assert_eq!(of_class.heard, heard as u64);
        }
        let short = (0..4).filter(|&one| naive.account(nobody, |listener| listener == one)[1] > 0).count();
        prop_assert_eq!(delivery.listeners_short, short as u64);
        // The seconds add up to the account.
        let (seconds, _) = collector.finish(1.0);
        let mut sums = BTreeMap::<&str, u64>::new();
        for (name, by) in seconds.iter().flat_map(|second| &second.counters) {
            *sums.entry(name).or_default() += by;
        }
        let rows = [
            (counters::EXPECTED, all[0]),
            (counters::MISSING, all[1]),
            (counters::UNEXPECTED, all[3]),
            (counters::HEARD, delivery.heard),
            (counters::LATE, delivery.late),
            (counters::DUPLICATES, delivery.duplicates),
        ];
        for (name, sum) in rows {
            prop_assert_eq!(sums.get(name).copied().unwrap_or(0), sum, "{}", name);
        }
        let times = |name: &str| -> u64 {
            seconds.iter().filter_map(|second| second.histograms.get(name)).map(|times| times.len()).sum()
        };
        prop_assert_eq!(times(names::DELIVERY), delivery.heard + delivery.late);
    }
}

#[test]
fn a_number_is_not_short_of_those_whom_the_script_took_away() {
    let mut scene = Scene::new(3);
    let message = scene.messages.add(1_000, 2_000, None, None).unwrap();
    scene.hear(0, message, SOON);
    let judged = |scene: &Scene| {
        let delivery = scene.judge(Some(DeliveryExpectation::Number(3)), vec![Listener::default(); 3]);
        (delivery.expected, delivery.missing, delivery.undecided)
    };
    assert_eq!(judged(&scene), (Some(3), 2, 0));
    scene.recorder.presences.push((1, Presence::Gone { at: 500, recovers: false }));
    assert_eq!(judged(&scene), (Some(2), 1, 1));
}
