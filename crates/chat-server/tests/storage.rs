//! `dna` over a second storage, which is slow, works on several batches at once and answers them out of
//! order: what the server promises holds whatever the storage does.

mod support;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;
use support::{Dna, HERE, LONG, Person, SlowStorage, config, message, test_token};

const STORED: (u64, u64) = (201, 0);
const REFUSED: (u64, u64) = (503, 10503);
const UNKNOWN: (u64, u64) = (504, 10504);
const SHUTTING_DOWN: (u64, u64) = (503, 11503);

/// Far from everybody.
const ELSEWHERE: (f64, f64) = (2.3522, 48.8566);

#[tokio::test]
async fn everybody_hears_the_same_once_in_order_and_never_before_it_is_stored() {
    let storage = SlowStorage::new();
    let dna = Dna::on(&storage);
    const EACH: usize = 60;
    let mut hearers = Vec::new();
    for idx in 0..3 {
        hearers.push(dna.person_at(100 + idx, HERE, 500.0).await);
    }
    let mut far = dna.person_at(200, ELSEWHERE, 20_000.0).await;
    let mut senders = Vec::new();
    for idx in 0..4 {
        senders.push(dna.person(idx).await);
    }

    let sending = join_all(senders.iter_mut().enumerate().map(|(number, sender)| async move {
        let mut ids = Vec::new();
        for count in 0..EACH {
            ids.push(sender.say(&format!("{number} {count}")).await);
            tokio::time::sleep(Duration::from_micros(fastrand::u64(0..4000))).await;
        }
        for id in ids {
            assert_eq!(sender.verdict(id).await, STORED);
        }
        // The sender's own copies come as well.
        sender.until_heard(EACH).await;
    }));
    let all = 4 * EACH;
    let hearing = join_all(hearers.iter_mut().map(|hearer| hearer.until_heard(all)));
    futures_util::future::join(sending, hearing).await;

    let first: Vec<u64> = hearers[0].heard.iter().map(|heard| heard.idx).collect();
    assert!(first.is_sorted_by(|a, b| a < b), "published in order of idx: {first:?}");
    for hearer in &mut hearers {
        hearer.round_trip().await;
        assert_eq!(hearer.heard.iter().map(|heard| heard.idx).collect::<Vec<_>>(), first);
        let mut per_sender = HashMap::<String, Vec<usize>>::new();
        for heard in &hearer.heard {
            let stored_at = storage.answered_at(&heard.text).expect("answered");
            assert!(heard.at >= stored_at, "{} was heard before it was stored", heard.text);
            let (sender, count) = heard.text.split_once(' ').unwrap();
            per_sender.entry(sender.to_owned()).or_default().push(count.parse().unwrap());
        }
        assert_eq!(per_sender.len(), 4);
        for counts in per_sender.values() {
            assert_eq!(*counts, (0..EACH).collect::<Vec<_>>());
        }
    }
    far.round_trip().await;
    assert_eq!(far.texts(), [""; 0]);
    // Without these the test would have shown nothing.
    let (most_in_flight, reordered) = storage.disorder();
    assert!(most_in_flight >= 2 && reordered > 0, "{most_in_flight} in flight, {reordered} reordered");
}

#[tokio::test]
async fn a_batch_answered_early_waits_for_those_before_it() {
    let storage = SlowStorage::new();
    let dna = Dna::on(&storage);
    let mut hearer = dna.person_at(1, HERE, 500.0).await;
    let mut sender = dna.person(2).await;
    storage.gate();
    let mut ids = Vec::new();
    for (count, text) in ["one", "two", "three"].into_iter().enumerate() {
        ids.push(sender.say(text).await);
        storage.arrived(count + 1).await;
    }
    let nothing_yet = async |hearer: &mut Person, sender: &mut Person| {
        hearer.round_trip().await;
        sender.round_trip().await;
        assert_eq!((hearer.texts(), sender.texts()), (vec![], vec![]));
        assert!(ids.iter().all(|id| !sender.acks.contains_key(id)));
    };
    nothing_yet(&mut hearer, &mut sender).await;
    storage.answer(2);
    storage.answer(1);
    while storage.answered_at("two").is_none() || storage.answered_at("three").is_none() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    nothing_yet(&mut hearer, &mut sender).await;
    storage.answer(0);
    hearer.until_heard(3).await;
    sender.until_heard(3).await;
    assert_eq!(hearer.texts(), ["one", "two", "three"]);
    assert_eq!(sender.texts(), ["one", "two", "three"]);
    for id in ids {
        assert_eq!(sender.verdict(id).await, STORED);
    }
}

/// Sends `texts` so that they reach the storage as one batch; gives the acks' ids. The storage must be gated.
async fn say_in_one_batch(storage: &SlowStorage, sender: &mut Person, texts: &[&str]) -> Vec<u64> {
    // As many batches as may be in flight; what follows has to wait, and goes together.
    let before = storage.arrived_count();
    for count in 0..4 {
        sender.say(&format!("filler {count}")).await;
        storage.arrived(before + count + 1).await;
    }
    let mut ids = Vec::new();
    for text in texts {
        ids.push(sender.say(text).await);
    }
    sender.round_trip().await;
    assert_eq!(storage.arrived_count(), before + 4, "a bound on batches in flight");
    for filler in 0..4 {
        storage.answer(before + filler);
    }
    let batches = storage.arrived(before + 5).await;
    assert_eq!(batches[before + 4], texts, "one batch");
    storage.answer(before + 4);
    ids
}

#[tokio::test]
async fn each_message_of_a_batch_has_its_own_outcome() {
    let storage = SlowStorage::new();
    let dna = Dna::on(&storage);
    let mut hearer = dna.person_at(1, HERE, 500.0).await;
    let mut sender = dna.person(2).await;
    storage.gate();
    let rows = [
        ("a", STORED),
        ("refuse b", REFUSED),
        ("c", STORED),
        ("unknown kept d", UNKNOWN),
        ("unknown lost e", UNKNOWN),
        ("f", STORED),
    ];
    let texts: Vec<&str> = rows.iter().map(|(text, _)| *text).collect();
    let ids = say_in_one_batch(&storage, &mut sender, &texts).await;
    for (id, (text, expected)) in ids.into_iter().zip(rows) {
        assert_eq!(sender.verdict(id).await, expected, "{text}");
    }
    hearer.until_heard(7).await;
    hearer.round_trip().await;
    sender.round_trip().await;
    let heard = ["filler 0", "filler 1", "filler 2", "filler 3", "a", "c", "f"];
    assert_eq!(hearer.texts(), heard);
    assert_eq!(sender.texts(), heard);

    // Whoever asked for no ack is told by `exception`.
    storage.ungate();
    sender.emit_without_ack("save_msg", &[message("refuse g")]).await;
    sender.until("exception", |person| person.first_event("exception").is_some()).await;
    let body = sender.first_event("exception").unwrap();
    assert_eq!((&body["status"], &body["code"]), (&json!(503), &json!(10503)));
}

#[tokio::test]
async fn what_a_storage_does_not_name_is_unknown() {
    let storage = SlowStorage::new();
    let dna = Dna::on(&storage);
    let mut hearer = dna.person_at(1, HERE, 500.0).await;
    let mut sender = dna.person(2).await;
    storage.gate();
    let ids = say_in_one_batch(&storage, &mut sender, &["a", "short b", "c"]).await;
    for (id, expected) in ids.into_iter().zip([STORED, UNKNOWN, UNKNOWN]) {
        assert_eq!(sender.verdict(id).await, expected);
    }
    hearer.until_heard(5).await;
    hearer.round_trip().await;
    assert_eq!(hearer.texts()[4..], ["a"]);
    storage.ungate();
    let id = sender.say("d").await;
    assert_eq!(sender.verdict(id).await, STORED, "the count is found again");
    hearer.until_heard(6).await;
}

#[tokio::test]
async fn who_comes_and_goes_hears_everything_once() {
    let storage = SlowStorage::new();
    let dna = Dna::on(&storage);
    const EACH: usize = 200;
    let mut reader = dna.person_at(1, HERE, 500.0).await;
    let mut heard = Vec::new();
    let mut returns = 0;
    let mut writers = [dna.person(2).await, dna.person(3).await];
    let writing = join_all(writers.iter_mut().enumerate().map(|(number, writer)| async move {
        let mut ids = Vec::new();
        for count in 0..EACH {
            // Some are refused; nobody may be told of them, now or later.
            let refused = count % 10 == 3;
            let text = format!("{}{number} {count}", if refused { "refuse " } else { "" });
            ids.push((writer.say(&text).await, if refused { REFUSED } else { STORED }));
            writer.listen_for(Duration::from_micros(fastrand::u64(0..6000))).await;
        }
        for (id, expected) in ids {
            assert_eq!(writer.verdict(id).await, expected);
        }
    }));
    let coming_and_going = async {
        let mut writing = std::pin::pin!(writing);
        let mut is_done = false;
        while !is_done {
            let stay = reader.listen_for(Duration::from_millis(fastrand::u64(0..40)));
            // Writing goes on while the reader stays, goes and returns.
            if let futures_util::future::Either::Left(_) =
                futures_util::future::select(writing.as_mut(), std::pin::pin!(stay)).await
            {
                is_done = true;
            }
            let cursor = reader.cursor.clone().unwrap();
            heard.extend(std::mem::take(&mut reader.heard));
            std::mem::replace(&mut reader, dna.person(1).await).abort();
            let joined = reader.join(HERE, 500.0, Some(&cursor)).await;
            assert_eq!(joined["recovered"], true, "{joined}");
            let missed = joined["missed"].as_array().unwrap().len();
            assert_eq!(reader.heard.len(), missed, "live messages follow behind what was missed");
            returns += 1;
        }
    };
    coming_and_going.await;
    reader.round_trip().await;
    heard.extend(std::mem::take(&mut reader.heard));

    let texts: Vec<&str> = heard.iter().map(|heard| heard.text.as_str()).collect();
    let once: BTreeSet<&str> = texts.iter().copied().collect();
    assert_eq!(once.len(), texts.len(), "nothing twice");
    assert_eq!(texts, storage.kept(), "nothing left out, in order");
    assert_eq!(texts.len(), 2 * EACH - 2 * EACH / 10);
    assert!(returns > 5, "only {returns} returns");
    let (most_in_flight, reordered) = storage.disorder();
    assert!(most_in_flight >= 2 && reordered > 0, "{most_in_flight} in flight, {reordered} reordered");
}

#[tokio::test]
async fn a_return_waits_for_all_batches_in_flight_before_it() {
    let storage = SlowStorage::new();
    let dna = Dna::on(&storage);
    let mut sender = dna.person(2).await;
    let mut reader = dna.person_at(1, HERE, 500.0).await;
    let id = sender.say("zero").await;
    assert_eq!(sender.verdict(id).await, STORED);
    reader.until_heard(1).await;
    let cursor = reader.cursor.clone().unwrap();
    reader.abort();

    storage.gate();
    for (count, text) in ["one", "two", "three"].into_iter().enumerate() {
        sender.say(text).await;
        storage.arrived(count + 1).await;
    }
    let mut reader = dna.person(1).await;
    let returning = reader.send_join(HERE, 500.0, Some(&cursor)).await;
    reader.round_trip().await;
    // A second return while the first is being answered is too much.
    let again = reader.send_join(HERE, 500.0, Some(&cursor)).await;
    assert_eq!(reader.verdict(again).await, (429, 10429));
    // Written after the return: comes live behind the ack, or within it if it was taken up with the return.
    sender.say("four").await;
    sender.round_trip().await;
    storage.answer(2);
    storage.answer(1);
    reader.round_trip().await;
    assert!(!reader.acks.contains_key(&returning), "`one` is not stored yet");
    storage.answer(0);
    storage.arrived(4).await;
    storage.answer(3);
    let ack = reader.ack(returning).await;
    assert_eq!(ack["result"]["recovered"], true, "{ack}");
    assert_eq!(reader.texts()[..3], ["one", "two", "three"]);
    reader.until_heard(4).await;
    reader.round_trip().await;
    assert_eq!(reader.texts(), ["one", "two", "three", "four"]);
}

#[tokio::test]
async fn going_away_does_not_take_a_message_back() {
    let storage = SlowStorage::new();
    let dna = Dna::on(&storage);
    let mut hearer = dna.person_at(1, HERE, 500.0).await;
    storage.gate();
    for (count, text) in ["before", "while"].into_iter().enumerate() {
        let mut sender = dna.person_at(2, HERE, 500.0).await;
        sender.say(text).await;
        if text == "while" {
            // The batch is with the storage when its sender goes.
            storage.arrived(count + 1).await;
            sender.abort();
        } else {
            sender.round_trip().await;
            sender.abort();
            storage.arrived(count + 1).await;
        }
        storage.answer(count);
        hearer.until_heard(count + 1).await;
    }
    assert_eq!(hearer.texts(), ["before", "while"]);
    assert_eq!(storage.kept(), ["before", "while"]);
}

#[tokio::test]
async fn stopping_finishes_and_answers_what_is_in_flight() {
    let storage = SlowStorage::new();
    let mut dna = Dna::on(&storage);
    let mut hearer = dna.person_at(1, HERE, 500.0).await;
    let mut sender = dna.person(2).await;
    storage.gate();
    let mut ids = Vec::new();
    for (count, text) in ["one", "refuse two", "three"].into_iter().enumerate() {
        ids.push(sender.say(text).await);
        storage.arrived(count + 1).await;
    }
    let stopping = dna.stop();
    // Sent after the order to stop: let in or told that it is too late, but answered.
    let late = sender.say("late").await;
    sender.round_trip().await;
    assert!(!stopping.is_finished(), "there are batches in flight");
    storage.open_all();
    assert_eq!(hearer.until_closed().await, Some(1012));
    assert_eq!(sender.until_closed().await, Some(1012));
    stopping.await.unwrap();
    for (id, expected) in ids.into_iter().zip([STORED, REFUSED, STORED]) {
        assert_eq!(sender.verdict(id).await, expected);
    }
    let late = sender.verdict(late).await;
    assert!([STORED, SHUTTING_DOWN].contains(&late), "{late:?}");
    let heard: &[&str] = if late == STORED { &["one", "three", "late"] } else { &["one", "three"] };
    assert_eq!(hearer.texts(), heard);
    assert_eq!(storage.kept(), heard);
}

#[tokio::test]
async fn stopping_in_a_crowd_loses_no_answer() {
    for _ in 0..3 {
        let storage = SlowStorage::new();
        let mut dna = Dna::on(&storage);
        let mut senders = Vec::new();
        for idx in 0..4 {
            senders.push(dna.person(idx).await);
        }
        let mut stopping = None;
        let began = Instant::now();
        let mut sent = vec![Vec::new(); senders.len()];
        // Four senders who do not wait for anything, until the server has gone.
        while senders.iter().any(|sender| sender.closed.is_none()) {
            assert!(began.elapsed() < LONG);
            for (number, sender) in senders.iter_mut().enumerate() {
                for _ in 0..5 {
                    let text = format!("{number} {}", sent[number].len());
                    if sender.closed.is_none()
                        && let Some(id) = sender.try_say(&text).await
                    {
                        sent[number].push((text, id));
                    }
                }
                sender.listen_for(Duration::from_micros(200)).await;
            }
            if stopping.is_none() && began.elapsed() > Duration::from_millis(100) {
                stopping = Some(dna.stop());
            }
        }
        stopping.unwrap().await.unwrap();
        let mut told_stored = BTreeSet::new();
        for (sender, sent) in senders.iter().zip(&sent) {
            let answers: Vec<Option<u64>> = sent
                .iter()
                .map(|(_, id)| sender.acks.get(id).map(|ack| ack["status"].as_u64().unwrap()))
                .collect();
            // What the server read is answered; what it did not read stands at the end.
            let answered = answers.iter().take_while(|answer| answer.is_some()).count();
            assert!(answers[answered..].iter().all(Option::is_none), "an answer is missing: {answers:?}");
            for ((text, _), answer) in sent.iter().zip(&answers) {
                if *answer == Some(201) {
                    told_stored.insert(text.clone());
                }
            }
        }
        assert_eq!(told_stored, storage.kept().into_iter().collect(), "acked and stored are the same");
        assert!(!told_stored.is_empty());
    }
}

#[tokio::test]
async fn readiness_follows_the_store() {
    let storage = SlowStorage::new();
    let dna = Dna::on(&storage);
    let mut sender = dna.person(2).await;
    assert_eq!(dna.get("/readyz").await.0, 200);
    storage.set_works(false);
    for bad in ["refuse it", "unknown lost it"] {
        let id = sender.say(bad).await;
        sender.ack(id).await;
        let (status, body) = dna.get("/readyz").await;
        assert_eq!(status, 503);
        assert!(body.contains("live"), "{body}");
        // The next success mends it, at once.
        let id = sender.say("good").await;
        assert_eq!(sender.verdict(id).await, STORED);
        assert_eq!(dna.get("/readyz").await.0, 200);
    }
    // Nobody sends to a server that is not ready: it finds out by itself when the store works again.
    let id = sender.say("refuse once more").await;
    sender.ack(id).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(dna.get("/readyz").await.0, 503, "the probe says that it does not work yet");
    storage.set_works(true);
    dna.until_ready_is(200).await;
}

#[tokio::test]
async fn a_storage_that_hangs_is_given_up_and_harms_no_other_world() {
    let live = SlowStorage::new();
    let test = SlowStorage::with_patience(Duration::from_millis(300));
    let mut dna = Dna::start(&config(), Arc::new(live.clone()), Arc::new(test.clone()));
    let mut tester = Person::connect(dna.address, &test_token(9)).await;
    let mut hearer = dna.person_at(1, HERE, 500.0).await;
    test.set_works(false);
    test.gate();
    let hung = tester.say("hangs").await;
    test.arrived(1).await;
    let mut sender = dna.person(2).await;
    let id = sender.say("goes on").await;
    assert_eq!(sender.verdict(id).await, STORED);
    hearer.until_heard(1).await;
    assert_eq!(tester.verdict(hung).await, UNKNOWN);
    let (status, body) = dna.get("/readyz").await;
    assert!(status == 503 && body.contains("test"), "{body}");
    test.ungate();
    let id = tester.say("works").await;
    assert_eq!(tester.verdict(id).await, STORED);
    tester.round_trip().await;
    assert_eq!(tester.texts(), ["works"]);
    // Nor does it keep the server from stopping.
    test.gate();
    tester.say("hangs again").await;
    test.arrived(2).await;
    let stopping = dna.stop();
    assert_eq!(tester.until_closed().await, Some(1012));
    tokio::time::timeout(LONG, stopping).await.expect("the end").unwrap();
    assert_eq!((live.kept(), test.kept()), (vec!["goes on".to_owned()], vec!["works".to_owned()]));
}

#[tokio::test]
async fn the_worlds_never_hear_each_other() {
    let (live, test) = (SlowStorage::new(), SlowStorage::new());
    let dna = Dna::start(&config(), Arc::new(live.clone()), Arc::new(test.clone()));
    let mut people = BTreeMap::from([
        ("live", dna.person_at(1, HERE, 500.0).await),
        ("test", Person::connect(dna.address, &test_token(1)).await),
    ]);
    people.get_mut("test").unwrap().join(HERE, 500.0, None).await;
    for (world, person) in &mut people {
        for count in 0..20 {
            person.say(&format!("{world} {count}")).await;
        }
    }
    for (world, person) in &mut people {
        person.until_heard(20).await;
        person.round_trip().await;
        let expected: Vec<String> = (0..20).map(|count| format!("{world} {count}")).collect();
        assert_eq!(person.texts(), expected);
        assert_eq!(if *world == "live" { live.kept() } else { test.kept() }, expected);
    }
}
