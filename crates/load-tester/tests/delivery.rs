//! Whole runs against a server that loses, doubles and delays what it is to deliver, and ends connections.

mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use load_tester::outcome::{ClassDelivery, Delivery, Outcome, counters, names};
use load_tester::run::{Progress, RunOptions, run};
use load_tester::script::{self, LoadOptions};
use rustix::process::Signal;
use serde_json::{Value, json};
use support::{Manner, Running, Server, Socket, counter, drum, drum_with, plain_page, write_script};

/// A square where everybody hears everything; `listeners` is the YAML of the groups.
fn square(listeners: &str, seconds: u32, messages: u32) -> String {
    format!(
        r#"
config:
  target: "{{target}}"
  socketio: {{transports: ["websocket"]}}
  phases: [{{duration: {seconds}, arrivalCount: {messages}}}]
  listeners:
{listeners}
  delivery: {{event: new_msg, stamp: contents, read: contents, expect: all, deadline: 2}}
scenarios:
  - engine: socketio
    flow: [{{emit: [save_msg, {{contents: hi}}], acknowledge: true}}]
"#
    )
}

const JOIN: &str = "flow: [{emit: [store, {who: x}], acknowledge: true}]";

/// Acks, and gives every message to `hear` for each who stands.
fn serve(
    hear: impl Fn(&Arc<Server>, usize, &Arc<Socket>, usize, &Value) + Send + Sync + 'static,
) -> Arc<Server> {
    let count = AtomicUsize::new(0);
    let on_event = move |server: &Arc<Server>,
                         socket: &Arc<Socket>,
                         event: &str,
                         arguments: &[Value],
                         ack: Option<u64>| {
        if event == "save_msg" {
            let number = count.fetch_add(1, Ordering::Relaxed);
            let standing = server.standing.lock().unwrap().clone();
            for (index, listener) in standing.iter().enumerate() {
                hear(server, index, listener, number, &arguments[0]);
            }
        }
        if let Some(ack) = ack {
            socket.ack(ack, &json!({"status": 200}));
        }
    };
    Server::start(|_| Manner::Serve, on_event, plain_page)
}

fn class<'d>(delivery: &'d Delivery, name: &str) -> &'d ClassDelivery {
    delivery.classes.iter().find(|class| class.name == name).unwrap()
}

/// The sum of a counter over all seconds, which must be the total's.
fn over_time(outcome: &Outcome, name: &str) -> u64 {
    let sum = outcome.seconds.iter().filter_map(|second| second.counters.get(name)).sum();
    assert_eq!(sum, counter(outcome, name), "{name}");
    sum
}

fn samples(outcome: &Outcome, name: &str) -> u64 {
    outcome.total.histograms.get(name).map_or(0, |times| times.len())
}

#[test]
fn a_loss_of_one_in_a_hundred_is_shown_by_class_and_by_listener_and_over_time() {
    let server = serve(|_, index, listener, number, message| {
        // Of the 200 messages number 7, 107 are kept from the first listener, all even ones from the last.
        let lost = index == 0 && number % 100 == 7 || index == 9 && number % 2 == 0;
        if !lost {
            listener.emit("new_msg", message);
        }
        // And whatever the second hears, it hears twice when it ends in 5.
        if index == 1 && number % 10 == 5 {
            listener.emit("new_msg", message);
        }
    });
    let groups = format!("    - {{count: 8, name: near, {JOIN}}}\n    - {{count: 2, {JOIN}}}");
    let mut outcome = drum(&server, &square(&groups, 2, 200)).unwrap();
    assert!(outcome.errors.is_empty(), "{:?}", outcome.errors);
    let delivery = outcome.delivery.take().unwrap();
    assert_eq!((delivery.expected, delivery.missing, delivery.heard), (Some(2000), 102, 1898));
    assert_eq!((delivery.duplicates, delivery.unexpected, delivery.late), (20, 0, 0));
    // The listeners stand in the order in which they came, so which one is short is not known; how much is.
    assert_eq!(delivery.listeners_short, 2);
    let missing: Vec<u64> = delivery.worst.iter().map(|one| one.missing).collect();
    assert_eq!(missing, [100, 2]);
    assert!(
        delivery
            .worst
            .iter()
            .all(|one| one.expected == 200 && delivery.classes.iter().any(|class| class.name == one.class))
    );
    assert_eq!((class(&delivery, "near").expected, class(&delivery, "2").expected), (Some(1600), Some(400)));
    for (sum, of) in [
        (delivery.heard, (|class| class.heard) as fn(&ClassDelivery) -> u64),
        (delivery.missing, |class| class.missing),
        (delivery.duplicates, |class| class.duplicates),
        (10, |class| class.listeners),
    ] {
        assert_eq!(delivery.classes.iter().map(of).sum::<u64>(), sum);
    }
    for (name, sum) in [
        (counters::EXPECTED, 2000),
        (counters::HEARD, 1898),
        (counters::MISSING, 102),
        (counters::DUPLICATES, 20),
        (counters::UNEXPECTED, 0),
        (counters::LATE, 0),
    ] {
        assert_eq!(over_time(&outcome, name), sum, "{name}");
    }
    assert_eq!(samples(&outcome, names::DELIVERY), 1898);
    assert_eq!(samples(&outcome, names::DELIVERY_FROM_DUE), 1898);
    assert_eq!(samples(&outcome, names::DELIVERY_ACK), 200);
    let classes = ["near", "2"].map(|name| samples(&outcome, &format!("{}{name}", names::DELIVERY_CLASS)));
    assert_eq!(classes.iter().sum::<u64>(), 1898);
    let of_second = |name: &str| outcome.seconds[0].histograms.get(name).map_or(0, |times| times.len());
    // What was sent in the first second, whenever it was heard.
    assert!((900..=1000).contains(&of_second(names::DELIVERY)), "{}", of_second(names::DELIVERY));
}

#[test]
fn storms_take_their_share_and_the_recovery_can_be_drawn() {
    for how in ["close", "drop", "silent"] {
        let server = serve(|_, _, listener, _, message| listener.emit("new_msg", message));
        let groups = format!(
            "    - {{count: 30, name: hit, storm: {{at: 1.5, share: 0.4, how: {how}, over: 0.3, back: at-once}}, {JOIN}}}\n    - {{count: 5, name: calm, {JOIN}}}"
        );
        let outcome = drum(&server, &square(&groups, 3, 300)).unwrap();
        assert!(outcome.errors.is_empty(), "{how}: {:?}", outcome.errors);
        let lost = over_time(&outcome, counters::CONNECTIONS_LOST);
        let back = over_time(&outcome, counters::CONNECTIONS_BACK);
        assert_eq!((lost, back, samples(&outcome, names::RECONNECT)), (12, 12, 12), "{how}");
        let first_second = outcome.seconds[0].counters.get(counters::CONNECTIONS_LOST);
        assert_eq!(first_second, None, "{how}: not before its time");
        let delivery = outcome.delivery.as_ref().unwrap();
        assert_eq!((delivery.missing, delivery.unexpected), (0, 0), "{how}: {:?}", delivery.samples);
        let sum = delivery.expected.unwrap() + delivery.undecided;
        assert_eq!(sum, 300 * 35, "{how}: what was said while they were away is on neither side");
        assert!((1..12 * 150).contains(&delivery.undecided), "{how}: {}", delivery.undecided);
        assert_eq!(class(delivery, "calm").expected, Some(1500), "{how}");
        let polite = server.closed_politely.load(Ordering::Relaxed);
        // Users and those who stand at the end leave politely, and from a storm as it says.
        assert_eq!(polite, 300 + 35 + if how == "close" { 12 } else { 0 }, "{how}");
    }
}

#[test]
fn who_stays_away_after_a_storm_is_expected_to_hear_nothing() {
    let server = serve(|_, _, listener, _, message| listener.emit("new_msg", message));
    let groups = format!("    - {{count: 4, storm: {{at: 1, back: never}}, {JOIN}}}");
    let outcome = drum(&server, &square(&groups, 2, 100)).unwrap();
    let delivery = outcome.delivery.as_ref().unwrap();
    assert_eq!(counter(&outcome, counters::CONNECTIONS_LOST), 4);
    assert_eq!(counter(&outcome, counters::CONNECTIONS_BACK), 0);
    assert_eq!((delivery.missing, delivery.expected.unwrap() + delivery.undecided), (0, 400));
    assert!((100..=204).contains(&delivery.expected.unwrap()), "{:?}", delivery.expected);
}

/// The server ends every listener's connection at the 50th of 200 messages, or takes the namespace from them.
#[test]
fn listeners_that_the_server_loses_come_back_and_what_they_missed_is_missing() {
    for (politely, reconnect) in [(false, true), (true, true), (false, false)] {
        let ended = Mutex::new(false);
        let server = serve(move |server, index, listener, number, message| {
            listener.emit("new_msg", message);
            let mut ended = ended.lock().unwrap();
            if number >= 50 && index == 0 && !*ended {
                *ended = true;
                // Both groups have come by then.
                for listener in server.standing.lock().unwrap().drain(..) {
                    if politely { listener.packet("41") } else { listener.end() }
                }
            }
        });
        let groups = format!("    - {{count: 6, reconnect: {reconnect}, {JOIN}}}");
        let outcome = drum(&server, &square(&groups, 4, 200)).unwrap();
        let case = format!("politely: {politely}, reconnect: {reconnect}");
        let rows: Vec<(&str, &str, u64)> =
            outcome.errors.iter().map(|error| (&*error.step, &*error.cause, error.count)).collect();
        let cause = if politely {
            "disconnected from / by the server"
        } else {
            "disconnected: connection ended without a close frame"
        };
        assert_eq!(rows, [("listening", cause, 6)], "{case}");
        assert_eq!(over_time(&outcome, counters::CONNECTIONS_LOST), 6, "{case}");
        let back = over_time(&outcome, counters::CONNECTIONS_BACK);
        assert_eq!(
            (back, samples(&outcome, names::RECONNECT)),
            if reconnect { (6, 6) } else { (0, 0) },
            "{case}"
        );
        let delivery = outcome.delivery.as_ref().unwrap();
        assert_eq!((delivery.expected, delivery.undecided), (Some(1200), 0), "{case}");
        assert_eq!((delivery.listeners_short, delivery.worst.len()), (6, 6), "{case}");
        if reconnect {
            // As the official clients: half a second to one and a half.
            let took = &outcome.total.histograms[names::RECONNECT];
            assert!(took.min() > 400_000 && took.max() < 2_500_000, "{case}: {} {}", took.min(), took.max());
            assert!(delivery.heard > 6 * 70 && delivery.missing > 6 * 20, "{case}: {}", delivery.missing);
        } else {
            assert!(delivery.missing >= 6 * 145, "{case}: {}", delivery.missing);
        }
    }
}

#[test]
fn a_copy_over_the_next_connection_is_a_duplicate_all_the_same() {
    let last = Mutex::new(None::<Value>);
    let again = AtomicUsize::new(0);
    let on_event = move |server: &Arc<Server>,
                         socket: &Arc<Socket>,
                         event: &str,
                         arguments: &[Value],
                         ack: Option<u64>| {
        let mut last = last.lock().unwrap();
        if event == "save_msg" {
            server.standing.lock().unwrap().iter().for_each(|one| one.emit("new_msg", &arguments[0]));
            *last = Some(arguments[0].clone());
        } else if let Some(message) = &*last {
            again.fetch_add(1, Ordering::Relaxed);
            socket.emit("new_msg", message);
        }
        socket.ack(ack.unwrap(), &json!({"status": 200, "again": again.load(Ordering::Relaxed)}));
    };
    let server = Server::start(|_| Manner::Serve, on_event, plain_page);
    let groups = format!("    - {{count: 3, storm: {{at: 1.2, back: at-once}}, {JOIN}}}");
    let outcome = drum(&server, &square(&groups, 2, 4)).unwrap();
    let delivery = outcome.delivery.as_ref().unwrap();
    // Two messages before the storm and two after it; the last before it once more for each.
    assert_eq!((delivery.duplicates, delivery.missing), (3, 0), "{delivery:?}");
    assert_eq!(over_time(&outcome, counters::DUPLICATES), 3);
}

#[test]
fn slow_listeners_are_a_class_of_their_own_and_everybody_elses_figures_are_not_theirs() {
    let server = serve(|_, _, listener, _, message| listener.emit("new_msg", message));
    let groups = format!(
        "    - {{count: 4, name: quick, {JOIN}}}\n    - {{count: 2, name: slow, slow: {{bytesPerSecond: 400}}, {JOIN}}}\n    - {{count: 2, name: deaf, slow: {{stopReading: true}}, {JOIN}}}"
    );
    let outcome = drum(&server, &square(&groups, 2, 100)).unwrap();
    assert!(outcome.errors.is_empty(), "{:?}", outcome.errors);
    let delivery = outcome.delivery.as_ref().unwrap();
    assert_eq!((delivery.expected, delivery.heard, delivery.missing), (Some(400), 400, 0));
    let rows: BTreeMap<&str, (Option<u64>, u64)> =
        delivery.classes.iter().map(|class| (&*class.name, (class.expected, class.missing))).collect();
    assert_eq!(rows, [("deaf", (None, 0)), ("quick", (Some(400), 0)), ("slow", (None, 0))].into());
    assert_eq!(class(delivery, "deaf").heard, 0);
    let slow = class(delivery, "slow").heard;
    // 40 bytes or so a message: not all 200 of them within the run.
    assert!((2..160).contains(&slow), "{slow}");
    assert_eq!(samples(&outcome, names::DELIVERY), 400);
    let of_slow = &outcome.total.histograms["drumfire.delivery.class.slow"];
    let of_all = &outcome.total.histograms[names::DELIVERY];
    assert_eq!(of_slow.len(), slow);
    assert!(of_slow.max() > 2 * of_all.max(), "{} {}", of_slow.max(), of_all.max());
}

#[test]
fn pings_that_come_too_late_are_counted_while_messages_keep_the_connection_alive() {
    let server = serve(|_, _, listener, number, message| {
        listener.emit("new_msg", message);
        // 50 messages a second.
        if number % 50 == 0 {
            listener.packet("2");
        }
    });
    server.pings.set((400, 300)).unwrap();
    let groups = format!("    - {{count: 3, {JOIN}}}");
    let outcome = drum(&server, &square(&groups, 3, 150)).unwrap();
    assert!(outcome.errors.is_empty(), "{:?}", outcome.errors);
    let late = over_time(&outcome, counters::HEARTBEATS_LATE);
    // After one second and after two, for each.
    assert!((6..=9).contains(&late), "{late}");
}

/// The server answers posts after 1.4 s, so those who leave after their last word are gone by then.
#[test]
fn what_a_polling_user_says_last_is_not_sent_where_the_post_was_never_answered() {
    let on_event =
        |server: &Arc<Server>, socket: &Arc<Socket>, event: &str, arguments: &[Value], ack: Option<u64>| {
            if event == "save_msg" {
                std::thread::sleep(Duration::from_millis(1_400));
                server.standing.lock().unwrap().iter().for_each(|one| one.emit("new_msg", &arguments[0]));
            }
            if let Some(ack) = ack {
                socket.ack(ack, &json!({"status": 200}));
            }
        };
    let server = Server::start(|_| Manner::Serve, on_event, plain_page);
    let yaml = square(&format!("    - {{count: 2, {JOIN}}}"), 1, 5)
        .replace(r#"["websocket"]"#, r#"["polling"]"#)
        .replace("hi}], acknowledge: true}", "first}]}, {emit: [save_msg, {contents: second}]}");
    let outcome = drum(&server, &yaml).unwrap();
    let rows: Vec<(&str, u64)> = outcome.errors.iter().map(|error| (&*error.cause, error.count)).collect();
    let cause = "leaving: closed by the client with posts unanswered: no answer within 1 s";
    assert_eq!(rows, [(cause, 5)]);
    assert!(outcome.errors[0].step.starts_with("emit save_msg"), "{:?}", outcome.errors[0]);
    assert!(outcome.errors[0].sample.ends_with("(2 packets)"), "{:?}", outcome.errors[0]);
    let delivery = outcome.delivery.unwrap();
    // The first got there all the same, which was heard; the second never left, but where it was quick enough to go into
    // the first one's post.
    assert!((3..=5).contains(&delivery.not_sent), "{delivery:?}");
    assert_eq!((delivery.messages, delivery.expected), (10, Some(2 * (10 - delivery.not_sent))));
    assert_eq!((delivery.missing, delivery.unexpected), (0, 0));
}

/// The first try of each to return is refused, without a cursor in the answer; what was missed comes with the next one
/// all the same.
#[test]
fn a_refused_return_does_not_forget_where_to_go_on() {
    #[derive(Default)]
    struct Square {
        said: Vec<String>,
        standing: Vec<Arc<Socket>>,
        joins: usize,
        caught_up: usize,
    }
    let square_now = Arc::new(Mutex::new(Square::default()));
    let on_square = Arc::clone(&square_now);
    let on_event =
        move |_: &Arc<Server>, socket: &Arc<Socket>, event: &str, arguments: &[Value], ack: Option<u64>| {
            let mut square = on_square.lock().unwrap();
            let message = |number: usize, text: &str| json!({"contents": text, "cursor": number + 1});
            if event == "save_msg" {
                let text = arguments[0]["contents"].as_str().unwrap().to_owned();
                let said = message(square.said.len(), &text);
                square.said.push(text);
                square.standing.iter().for_each(|one| one.emit("new_msg", &said));
                socket.ack(ack.unwrap(), &json!({"status": 201}));
                return;
            }
            square.joins += 1;
            if (4..=6).contains(&square.joins) {
                socket.ack(ack.unwrap(), &json!({"status": 503}));
                socket.end();
                return;
            }
            let missed: Vec<Value> = match arguments[0]["since"].as_u64() {
                None => Vec::new(),
                Some(since) => (since as usize..square.said.len())
                    .map(|number| message(number, &square.said[number]))
                    .collect(),
            };
            square.caught_up += missed.len();
            let cursor = square.said.len();
            socket.ack(ack.unwrap(), &json!({"status": 200, "cursor": cursor, "missed": missed}));
            square.standing.push(Arc::clone(socket));
        };
    let server = Server::start(|_| Manner::Serve, on_event, plain_page);
    let groups = r#"    - count: 3
      storm: {at: 1, how: drop, back: at-once, over: 0.2}
      returning: {cursor: cursor}
      flow: [{emit: [store, {since: "{{ since }}"}], acknowledge: {match: {json: "$.0.status", value: 200}}}]"#;
    let yaml = square(groups, 4, 200).replace("deadline: 2", "deadline: 6");
    let outcome = drum(&server, &yaml).unwrap();
    let rows: Vec<u64> = outcome.errors.iter().map(|error| error.count).collect();
    assert_eq!(rows, [3], "{:?}", outcome.errors);
    let delivery = outcome.delivery.unwrap();
    let square = square_now.lock().unwrap();
    assert!(
        square.joins == 9 && square.caught_up > 0,
        "{} joins, {} caught up",
        square.joins,
        square.caught_up
    );
    assert_eq!((delivery.expected, delivery.heard, delivery.missing), (Some(600), 600, 0), "{delivery:?}");
    assert_eq!((delivery.undecided, delivery.duplicates, delivery.out_of_order), (0, 0, 0));
}

#[test]
fn a_full_disk_under_pairs_is_told_and_the_run_goes_on() {
    if !std::path::Path::new("/dev/full").exists() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let pairs = folder.path().join("pairs.csv");
    std::os::unix::fs::symlink("/dev/full", &pairs).unwrap();
    let server = serve(|_, _, listener, _, message| listener.emit("new_msg", message));
    let script = write_script(&server, &square(&format!("    - {{count: 5, {JOIN}}}"), 1, 20), folder.path());
    let script = script::load(&LoadOptions { files: vec![script], ..LoadOptions::default() }).unwrap();
    let options = RunOptions { workers: Some(1), pairs_out: Some(pairs), ..RunOptions::default() };
    let mut notices = Vec::new();
    let outcome = run(&script, &options, &mut |progress| {
        if let Progress::Notice(text) = progress {
            notices.push((*text).to_owned());
        }
    })
    .unwrap();
    assert_eq!(outcome.delivery.unwrap().heard, 100);
    assert_eq!(notices.len(), 1, "{notices:?}");
    assert!(notices[0].starts_with("writing who heard what (`--pairs`) failed"), "{notices:?}");
}

/// Ctrl-C while the listeners are away and messages are still under way: nobody is blamed for what was cut off.
#[test]
fn an_interrupted_run_blames_nobody_for_what_could_not_be_heard_any_more() {
    let server = serve(|_, _, listener, number, message| {
        if number > 0 {
            listener.emit("new_msg", message);
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let groups = r#"    - {count: 6, name: stays, flow: [{emit: [store, {}], acknowledge: true}]}
    - count: 4
      returning: {every: 0.5, away: 60, cursor: cursor}
      flow: [{emit: [store, {since: "{{ since }}"}], acknowledge: true}]"#;
    let yaml = square(groups, 60, 3_000)
        .replace("deadline: 2", "deadline: 1")
        .replace("acknowledge: true}]\n", "acknowledge: true}, {log: here}]\n");
    let script = write_script(&server, &yaml, folder.path());
    let result = folder.path().join("result.json");
    let (result_word, script) = (result.to_str().unwrap(), script.to_str().unwrap());
    let mut drumfire = Running::start(folder.path(), &["run", "-o", result_word, script]);
    drumfire.until_said("here", 151);
    drumfire.signal(Signal::INT);
    assert_eq!(drumfire.ended(Duration::from_secs(30)).0, 130);
    let written: Value = serde_json::from_slice(&std::fs::read(&result).unwrap()).unwrap();
    let delivery = &written["drumfire"]["delivery"];
    // The first message is truly lost, for those who were there.
    let missing = delivery["missing"].as_u64().unwrap();
    assert!((6..=10).contains(&missing), "{delivery}");
    assert!(delivery["undecided"].as_u64().unwrap() > 4 * 100, "{delivery}");
}

/// The server ends every connection at a step it does not confirm; those who walk come back and walk on.
#[test]
fn walkers_come_back_and_walk_on() {
    let (steps, joins) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (on_steps, on_joins) = (Arc::clone(&steps), Arc::clone(&joins));
    let on_event = move |server: &Arc<Server>,
                         socket: &Arc<Socket>,
                         event: &str,
                         arguments: &[Value],
                         ack: Option<u64>| {
        match event {
            "save_msg" => {
                server.standing.lock().unwrap().iter().for_each(|one| one.emit("new_msg", &arguments[0]));
            }
            "move" if on_steps.fetch_add(1, Ordering::Relaxed) == 20 => {
                return server.standing.lock().unwrap().drain(..).for_each(|one| one.end());
            }
            "store" => drop(on_joins.fetch_add(1, Ordering::Relaxed)),
            _ => {}
        }
        socket.ack(ack.unwrap(), &json!({"status": 200}));
    };
    let server = Server::start(|_| Manner::Serve, on_event, plain_page);
    let groups = r#"    - count: 4
      place: {around: [127, 37], within: 10, radius: 1000}
      moving: {every: 0.1, step: 5, flow: [{emit: [move, {to: ["{{ lng }}", "{{ lat }}"]}], acknowledge: true}]}
      flow: [{emit: [store, {at: ["{{ lng }}", "{{ lat }}"]}], acknowledge: true}]"#;
    let yaml = square(groups, 4, 200)
        .replace("expect: all", "expect: circle, place: {lng: lng, lat: lat}")
        .replace("{contents: hi}", "{contents: hi, lng: 127, lat: 37}");
    let outcome = drum(&server, &yaml).unwrap();
    let delivery = outcome.delivery.as_ref().unwrap();
    assert_eq!(joins.load(Ordering::Relaxed), 8);
    assert_eq!(
        (counter(&outcome, counters::CONNECTIONS_LOST), counter(&outcome, counters::CONNECTIONS_BACK)),
        (4, 4)
    );
    // 20 before it, 40 a second after it.
    let steps = steps.load(Ordering::Relaxed);
    assert!(steps > 60, "{steps}");
    assert_eq!((delivery.expected, delivery.undecided, delivery.unexpected), (Some(800), 0, 0));
    assert!(delivery.missing > 4 * 20 && delivery.heard > 4 * 70, "{delivery:?}");
}

/// Posts are not answered for three seconds, and nobody hears what stands in them.
#[test]
fn who_ends_before_the_answer_to_its_post_has_sent_nothing_for_sure() {
    let on_event = |_: &Arc<Server>, socket: &Arc<Socket>, event: &str, _: &[Value], ack: Option<u64>| {
        if event == "save_msg" {
            std::thread::sleep(Duration::from_secs(3));
        }
        if let Some(ack) = ack {
            socket.ack(ack, &json!({"status": 200}));
        }
    };
    let run = |then: &str, options: &RunOptions| {
        let server = Server::start(|_| Manner::Serve, on_event, plain_page);
        let yaml = square(&format!("    - {{count: 2, {JOIN}}}"), 1, 5)
            .replace(r#"["websocket"]"#, r#"["polling"]"#)
            .replace("hi}], acknowledge: true}", &format!("hi}}]}}{then}"));
        let outcome = drum_with(&server, &yaml, options).unwrap();
        let delivery = outcome.delivery.unwrap();
        assert_eq!((delivery.messages, delivery.not_sent), (5, 5), "{then}: {delivery:?}");
        assert_eq!((delivery.expected, delivery.missing), (Some(0), 0), "{then}");
    };
    let options = RunOptions { workers: Some(2), ..RunOptions::default() };
    run(", {disconnect: drop}", &options);
    run(", {disconnect: silent}", &options);
    // Cut off at the run's end: in a pause, waiting for an answer, and while they leave.
    let cut_off = RunOptions {
        max_duration: Some(Duration::from_millis(1_100)),
        grace: Some(Duration::from_millis(50)),
        ..options
    };
    run(", {think: 60}", &cut_off);
    run(", {emit: [other], acknowledge: true}", &cut_off);
    run("", &RunOptions { grace: Some(Duration::ZERO), ..cut_off });
}

/// What a walker waits for may come before the ack of its step.
#[test]
fn a_walker_keeps_what_comes_between_its_steps() {
    let on_event = |_: &Arc<Server>, socket: &Arc<Socket>, event: &str, _: &[Value], ack: Option<u64>| {
        if event == "move" {
            socket.emit("moved", &json!(1));
        }
        socket.ack(ack.unwrap(), &json!({"status": 200}));
    };
    let server = Server::start(|_| Manner::Serve, on_event, plain_page);
    let groups = r#"    - count: 2
      place: {around: [127, 37], within: 10, radius: 1000}
      moving: {every: 0.2, step: 5, flow: [{emit: [move, 1], acknowledge: true}, {wait: {for: moved, timeout: 0.5}}]}
      flow: [{emit: [store, 1], acknowledge: true}]"#;
    let outcome = drum(&server, &square(groups, 2, 10)).unwrap();
    assert!(outcome.errors.is_empty(), "{:?}", outcome.errors);
    assert!(outcome.server_events["moved"] > 10, "{:?}", outcome.server_events);
}
