//! Whole runs against a little server of our own that misbehaves on purpose.

mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use load_tester::outcome::names;
use load_tester::run::RunOptions;
use rustix::process::Signal;
use serde_json::{Value, json};
use support::{Manner, Running, Server, Socket, counter, drum, drum_with, ok, plain_page, write_script};

const JOURNAL: &str = r#"
config:
  target: "{target}"
  timeout: 1
  socketio: {transports: ["websocket"]}
  phases:
    - {duration: 1, arrivalRate: 90}
scenarios:
  - engine: socketio
    flow:
      - get: {url: "/"}
      - emit: {channel: save_msg, data: {token: "...", messageData: {lng: 127.??, lat: 37.??, contents: testing}, radius: 500}}
      - think: 0.2
"#;

#[test]
fn three_ways_to_fail_are_three_rows_with_their_stage_and_count() {
    let decide = |number| match number % 30 {
        3 => Manner::Answer503,
        9 | 19 => Manner::ResetAfter101,
        4 | 14 | 24 => Manner::SilentAfterOpen,
        _ => Manner::Serve,
    };
    let server = Server::start(decide, |_, _, _, _, _| {}, plain_page);
    let outcome = drum(&server, JOURNAL).unwrap();
    let rows: Vec<(&str, &str, u64)> =
        outcome.errors.iter().map(|error| (error.step.as_str(), error.cause.as_str(), error.count)).collect();
    assert_eq!(
        rows,
        [
            ("connect", "namespace: timeout", 9),
            ("connect", "handshake: ECONNRESET", 6),
            ("connect", "upgrade: 503 Service Unavailable", 3),
        ]
    );
    for error in &outcome.errors {
        assert!(error.endpoint.contains(&server.address.to_string()), "{error:?}");
        assert!(!error.sample.is_empty() && error.first_s <= error.last_s && error.last_s > 0.0, "{error:?}");
        assert!(error.code.starts_with("websocket error ("), "{error:?}");
    }
    assert!(outcome.errors[2].sample.contains("busy"), "{:?}", outcome.errors[2]);
    assert_eq!(counter(&outcome, "vusers.created"), 90);
    assert_eq!(counter(&outcome, "vusers.completed"), 72);
    assert_eq!(counter(&outcome, "vusers.failed"), 18);
    // The connect comes before the first step, so those that failed asked for nothing.
    assert_eq!(counter(&outcome, "http.requests"), 72);
    assert_eq!(server.closed_politely.load(Ordering::Relaxed), 72);
}

#[test]
fn exceptions_name_their_field_and_the_user_goes_on() {
    let refuse = |_: &Arc<Server>, socket: &Arc<Socket>, _: &str, arguments: &[Value], _: Option<u64>| {
        assert_eq!(arguments[0]["messageData"]["lng"], "127.??");
        socket.emit("exception", &json!({"status": 400, "code": 10400, "message": "no", "errors": {"messageData.lng": {"message": "no number"}}}));
        socket.emit("news", &json!(1));
    };
    let server = Server::start(|_| Manner::Serve, refuse, plain_page);
    let outcome = drum(&server, JOURNAL).unwrap();
    assert_eq!(outcome.errors.len(), 1, "{:?}", outcome.errors);
    let error = &outcome.errors[0];
    assert_eq!((error.cause.as_str(), error.count), ("exception 400: messageData.lng", 90));
    assert!(error.step.starts_with("emit save_msg (line "), "{}", error.step);
    assert!(error.sample.contains("10400"), "{}", error.sample);
    assert_eq!(outcome.server_events, BTreeMap::from([("exception".into(), 90), ("news".into(), 90)]));
    assert_eq!(counter(&outcome, "vusers.completed"), 90);
    assert_eq!((outcome.meta.confirmed_emits, outcome.meta.unconfirmed_emits), (0, 90));
    assert!(
        !outcome.total.histograms.contains_key(names::SOCKETIO_RESPONSE_TIME),
        "an unanswered emit has no latency"
    );
    assert_eq!(outcome.total.histograms[names::HTTP_RESPONSE_TIME].len(), 90);
    assert_eq!(outcome.meta.engine_revision, Some(4));
    let sum: u64 = outcome.seconds.iter().filter_map(|second| second.counters.get("vusers.created")).sum();
    assert_eq!(sum, 90, "the seconds add up to the total");
}

#[test]
fn with_ack_every_emit_is_confirmed_and_a_refusal_in_the_ack_is_an_error() {
    let answer = |_: &Arc<Server>, socket: &Arc<Socket>, _: &str, _: &[Value], ack: Option<u64>| {
        socket.ack(ack.expect("asked for"), &json!({"status": 403, "message": "not for 17"}));
    };
    let server = Server::start(|_| Manner::Serve, answer, plain_page);
    let options = RunOptions { workers: Some(1), ack: true, ..RunOptions::default() };
    let outcome = drum_with(&server, JOURNAL, &options).unwrap();
    assert_eq!((outcome.meta.confirmed_emits, outcome.meta.unconfirmed_emits), (90, 0));
    assert_eq!(outcome.total.histograms[names::SOCKETIO_RESPONSE_TIME].len(), 90);
    assert_eq!(outcome.errors[0].cause, "ack 403: not for N");
    assert_eq!(counter(&outcome, "vusers.completed"), 90);
}

#[test]
fn what_is_captured_is_used_and_waits_end_with_a_name() {
    let answer =
        |_: &Arc<Server>, socket: &Arc<Socket>, event: &str, arguments: &[Value], ack: Option<u64>| {
            match event {
                "login" => {
                    assert_eq!(arguments[0], "secret");
                    socket.emit("welcome", &json!({"id": 1}));
                    socket.emit("welcome", &json!({"id": 41}));
                    socket.ack(ack.unwrap(), &json!({"room": 5}));
                }
                "join" => {
                    assert_eq!(arguments, [json!(5), json!({"id": 1})]);
                    socket.emit("joined", &json!("other"));
                    socket.emit("joined", &json!("ok"));
                }
                _ => {}
            }
        };
    let page = |path: &str, _: &str| {
        (ok(if path == "/token?for=me" { r#"{"list":[{"token":"secret"}]}"# } else { "{}" }), true)
    };
    let server = Server::start(|_| Manner::Serve, answer, page);
    let outcome = drum(
        &server,
        r#"
config:
  target: "{target}"
  timeout: 1
  socketio: {transports: ["websocket"]}
  phases: [{duration: 1, arrivalCount: 4}]
scenarios:
  - engine: socketio
    flow:
      - get: {url: "/token", qs: {for: me}, capture: {json: "$.list[0].token", as: token}}
      - emit: [login, "{{ token }}"]
        acknowledge: {match: {json: "$.0.room", value: 5}, capture: {json: "$.0.room", as: room}}
        response: {on: welcome, capture: {json: "$.0", as: me}}
      - emit: [join, "{{ room }}", "{{ me }}"]
        response: {on: joined, args: [ok]}
      - emit: {channel: nothing, acknowledge: true}
      - log: "never"
"#,
    )
    .unwrap();
    assert_eq!(outcome.errors.len(), 1, "{:?}", outcome.errors);
    assert_eq!(
        (outcome.errors[0].cause.as_str(), outcome.errors[0].code.as_str()),
        ("no ack within 1 s", "response timeout")
    );
    assert_eq!(outcome.errors[0].count, 4);
    assert_eq!(counter(&outcome, "vusers.failed"), 4);
    assert_eq!(
        outcome.total.histograms[names::SOCKETIO_RESPONSE_TIME].len(),
        8,
        "one sample for an exchange"
    );
    assert_eq!(outcome.total.histograms[names::RESPONSE_FROM_DUE].len(), 4);
}

#[test]
fn a_user_keeps_one_connection_to_its_end_and_a_pool_is_shared() {
    let yaml = r#"
config:
  target: "{target}"
  phases: [{duration: 1, arrivalCount: 4}]
scenarios:
  - flow:
      - get: {url: "/"}
      - loop: [{get: {url: "/{{ $loopCount }}"}}]
        count: 3
      - think: 0.4
"#;
    let server = Server::start(|_| Manner::Serve, |_, _, _, _, _| {}, plain_page);
    let outcome = drum(&server, yaml).unwrap();
    assert_eq!(counter(&outcome, "http.codes.200"), 16);
    assert_eq!(server.accepted.load(Ordering::Relaxed), 4);
    let idled = server.idled.lock().unwrap().clone();
    assert!(idled.iter().all(|idle| *idle > Duration::from_millis(350)), "{idled:?}");

    let server = Server::start(|_| Manner::Serve, |_, _, _, _, _| {}, plain_page);
    let pooled = yaml.replace("  phases:", "  http: {pool: 2}\n  phases:");
    let outcome = drum(&server, &pooled).unwrap();
    assert_eq!(counter(&outcome, "http.codes.200"), 16);
    assert_eq!(server.accepted.load(Ordering::Relaxed), 2, "one for each of two workers");
}

#[test]
fn redirects_cookies_and_answers_without_a_location() {
    let page = |path: &str, head: &str| match path {
        "/start" => (
            "HTTP/1.1 302 Found\r\nlocation: /next\r\nset-cookie: a=1; Path=/\r\ncontent-length: 0\r\n\r\n"
                .into(),
            true,
        ),
        "/next" if head.contains("cookie: a=1") && head.starts_with("GET ") => (ok(r#"{"ok":true}"#), true),
        "/same" => ("HTTP/1.1 304 Not Modified\r\n\r\n".into(), true),
        "/lost" => ("HTTP/1.1 301 Moved Permanently\r\ncontent-length: 0\r\n\r\n".into(), true),
        "/gone" => (String::new(), false),
        _ => ("HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n".into(), true),
    };
    let server = Server::start(|_| Manner::Serve, |_, _, _, _, _| {}, page);
    let outcome = drum(
        &server,
        r#"
config:
  target: "{target}"
  phases: [{duration: 1, arrivalCount: 3}]
  ensure: {thresholds: [{"http.response_time.p99": 5000}], conditions: [{expression: "http.codes.500 < 1"}]}
scenarios:
  - flow:
      - post: {url: "/start", json: {x: 1}, match: {json: "$.ok", value: true}}
      - get: {url: "/same"}
      - get: {url: "/lost"}
      - loop: [{get: {url: "/oops"}}]
        count: 2
      - get: {url: "/gone"}
"#,
    )
    .unwrap();
    let codes: Vec<u64> =
        [302, 200, 304, 301, 500].map(|code| counter(&outcome, &format!("http.codes.{code}"))).into();
    assert_eq!(codes, [3, 3, 3, 3, 6]);
    assert_eq!(counter(&outcome, "vusers.failed"), 3);
    assert_eq!(outcome.errors.len(), 1, "{:?}", outcome.errors);
    assert_eq!(outcome.errors[0].code, "ECONNRESET");
    assert!(outcome.errors[0].step.starts_with("GET /gone (line "), "{:?}", outcome.errors[0]);
    let passed: Vec<bool> = outcome.checks.iter().map(|check| check.passed).collect();
    assert_eq!(passed, [true, false], "{:?}", outcome.checks);
}

/// Of 60 messages to 10 listeners: one in ten is kept from the first listener, one in twelve comes twice to the
/// second, and the third hears everything of the second message of a user before the first.
#[test]
fn deliveries_are_counted_missing_twice_and_out_of_order() {
    let held = Mutex::new(BTreeMap::<usize, Value>::new());
    let count = AtomicUsize::new(0);
    let on_event = move |server: &Arc<Server>,
                         socket: &Arc<Socket>,
                         event: &str,
                         arguments: &[Value],
                         ack: Option<u64>| {
        if event == "save_msg" {
            let number = count.fetch_add(1, Ordering::Relaxed);
            let heard = json!({"result": {"contents": arguments[0]["messageData"]["contents"]}});
            for (index, listener) in server.standing.lock().unwrap().iter().enumerate() {
                if index == 0 && number.is_multiple_of(10) {
                    continue;
                }
                if index == 2 && arguments[0]["part"] == "first" {
                    held.lock().unwrap().insert(Arc::as_ptr(socket) as usize, heard.clone());
                    continue;
                }
                listener.emit("new_msg", &heard);
                if index == 1 && number.is_multiple_of(12) {
                    listener.emit("new_msg", &heard);
                }
                if index == 2
                    && let Some(earlier) = held.lock().unwrap().remove(&(Arc::as_ptr(socket) as usize))
                {
                    listener.emit("new_msg", &earlier);
                }
            }
        }
        if let Some(ack) = ack {
            socket.ack(ack, &json!({"status": 201}));
        }
    };
    let server = Server::start(|_| Manner::Serve, on_event, plain_page);
    let yaml = r#"
config:
  target: "{target}"
  socketio: {transports: ["websocket"]}
  phases: [{duration: 1, arrivalCount: 30}]
  listeners:
    - {count: 10, flow: [{emit: [store, {}], acknowledge: true}]}
  delivery: {event: new_msg, stamp: messageData.contents, read: result.contents, expect: all, deadline: 1}
scenarios:
  - engine: socketio
    flow:
      - emit: [save_msg, {part: first, messageData: {lng: 1, lat: 2, contents: "hi \"you\""}}]
        acknowledge: true
      - emit: [save_msg, {part: second, messageData: {lng: "{{ $randomNumber(1,9) }}", lat: 2, contents: "{{ $randomString(3) }}"}}]
        acknowledge: true
      - think: 0.1
"#;
    let folder = tempfile::tempdir().unwrap();
    let pairs = folder.path().join("pairs.csv");
    let options = RunOptions { workers: Some(2), pairs_out: Some(pairs.clone()), ..RunOptions::default() };
    let outcome = drum_with(&server, yaml, &options).unwrap();
    assert!(outcome.errors.is_empty(), "{:?}", outcome.errors);
    let delivery = outcome.delivery.clone().unwrap();
    assert_eq!(delivery.messages, 60);
    assert_eq!(delivery.expected, Some(600));
    assert_eq!((delivery.missing, delivery.heard), (6, 594), "{:?}", delivery.samples);
    assert_eq!(delivery.duplicates, 5);
    assert_eq!(delivery.out_of_order, 30);
    assert_eq!((delivery.unexpected, delivery.not_sent, delivery.undecided), (0, 0, 0));
    assert_eq!(outcome.server_events["new_msg"], 599);
    assert_eq!(outcome.total.histograms[names::DELIVERY].len(), 594);
    assert_eq!(outcome.total.histograms[names::LISTENER_CONNECT].len(), 10);
    assert_eq!(outcome.total.histograms[names::CONNECT_TOTAL].len(), 30, "users only");
    assert_eq!(outcome.total.histograms[names::DELIVERY_LAST].len(), 60);
    assert_eq!(counter(&outcome, "socketio.emit"), 60, "listeners' emits are no load");
    assert_eq!(outcome.meta.listeners, 10);
    assert_eq!(std::fs::read_to_string(&pairs).unwrap().lines().count(), 1 + 594);
    assert_eq!(server.closed_politely.load(Ordering::Relaxed), 40);
}

/// Everything said, those who stand, and what was kept from somebody who came back.
#[derive(Default)]
struct Square {
    said: Vec<String>,
    standing: Vec<Arc<Socket>>,
    returns: usize,
    withheld: u64,
}

impl Square {
    fn message(&self, number: usize) -> Value {
        json!({"result": {"contents": self.said[number], "cursor": format!("c.{}", number + 1)}})
    }

    /// Joins; with `since`, what was missed comes with the ack, but for every tenth message where `withhold` says so.
    fn store(&mut self, socket: &Arc<Socket>, since: Option<&str>, ack: u64, withhold: bool) {
        let mut result = json!({"cursor": format!("c.{}", self.said.len())});
        if let Some(seen) = since.and_then(|since| since.strip_prefix("c.")?.parse::<usize>().ok()) {
            self.returns += 1;
            let (kept, withheld): (Vec<_>, Vec<_>) =
                (seen..self.said.len()).partition(|number| !withhold || number % 10 != 0);
            self.withheld += withheld.len() as u64;
            result["missed"] =
                kept.iter().map(|&number| self.message(number)["result"].clone()).collect::<Vec<_>>().into();
        }
        socket.ack(ack, &json!({"status": 200, "result": result}));
        self.standing.push(Arc::clone(socket));
    }
}

#[test]
fn listeners_that_come_and_go_catch_up() {
    for withhold in [false, true] {
        let square = Arc::new(Mutex::new(Square::default()));
        let on_square = Arc::clone(&square);
        let on_event = move |_: &Arc<Server>,
                             socket: &Arc<Socket>,
                             event: &str,
                             arguments: &[Value],
                             ack: Option<u64>| {
            let mut square = on_square.lock().unwrap();
            if event == "store" {
                square.store(socket, arguments[0]["since"].as_str(), ack.unwrap(), withhold);
            } else {
                square.said.push(arguments[0]["messageData"]["contents"].as_str().unwrap().to_owned());
                let message = square.message(square.said.len() - 1);
                square.standing.iter().for_each(|listener| listener.emit("new_msg", &message));
                socket.ack(ack.unwrap(), &json!({"status": 201}));
            }
        };
        let server = Server::start(|_| Manner::Serve, on_event, plain_page);
        let yaml = r#"
config:
  target: "{target}"
  socketio: {transports: ["websocket"]}
  phases: [{duration: 3, arrivalCount: 150}]
  listeners:
    - count: 6
      flow: [{emit: [store, {since: "{{ since }}"}], acknowledge: true}]
      returning: {every: 300ms, away: 150ms, cursor: result.cursor}
  delivery: {event: new_msg, stamp: messageData.contents, read: result.contents, expect: all, deadline: 2}
scenarios:
  - engine: socketio
    flow: [{emit: [save_msg, {messageData: {contents: hi}}], acknowledge: true}]
"#;
        let outcome = drum(&server, yaml).unwrap();
        assert!(outcome.errors.is_empty(), "{:?}", outcome.errors);
        let delivery = outcome.delivery.unwrap();
        let square = square.lock().unwrap();
        assert_eq!((delivery.messages, delivery.expected), (150, Some(900)));
        assert_eq!(delivery.missing, square.withheld, "{:?}", delivery.samples);
        assert_eq!((delivery.duplicates, delivery.late, delivery.unexpected), (0, 0, 0));
        // Fewer on a machine that is busy with something else; several each in any case.
        assert!(square.returns > 12, "{}", square.returns);
        let at_once = outcome.total.histograms[names::DELIVERY].len();
        assert!(at_once < delivery.heard, "{at_once} of {}: nobody caught up", delivery.heard);
        // By turns politely and without a word; the users are polite.
        let polite = server.closed_politely.load(Ordering::Relaxed) - 150;
        assert!(polite > 0 && polite < square.returns, "{polite} of {}", square.returns);
    }
}

#[test]
fn refused_messages_are_nobodys_to_hear_and_marks_stay_out_without_delivery() {
    let on_event = |_: &Arc<Server>, socket: &Arc<Socket>, _: &str, arguments: &[Value], ack: Option<u64>| {
        if let Some(contents) = arguments[0]["messageData"]["contents"].as_str() {
            assert!(contents.starts_with("hi ~df:"), "{contents}");
            socket.emit("exception", &json!({"status": 400}));
        }
        if let Some(ack) = ack {
            socket.ack(ack, &json!({"status": 200}));
        }
    };
    let server = Server::start(|_| Manner::Serve, on_event, plain_page);
    let outcome = drum(
        &server,
        r#"
config:
  target: "{target}"
  socketio: {transports: ["websocket"]}
  phases: [{duration: 1, arrivalCount: 5}]
  listeners:
    - {count: 2, flow: [{emit: [store, {}], acknowledge: true}]}
  delivery: {event: new_msg, stamp: messageData.contents, read: result.contents, expect: all, deadline: 1}
scenarios:
  - engine: socketio
    flow:
      - emit: [save_msg, {messageData: {contents: hi}}]
      - think: 0.1
"#,
    )
    .unwrap();
    let delivery = outcome.delivery.unwrap();
    assert_eq!((delivery.messages, delivery.not_sent), (5, 5));
    assert_eq!((delivery.expected, delivery.missing), (Some(0), 0));
}

#[test]
fn listeners_that_cannot_stand_stop_the_run_with_the_reason() {
    let decide = |number| if number < 2 { Manner::Serve } else { Manner::Answer503 };
    let server =
        Server::start(decide, |_, socket, _, _, ack| socket.ack(ack.unwrap(), &json!({})), plain_page);
    let error = drum(
        &server,
        r#"
config:
  target: "{target}"
  socketio: {transports: ["websocket"]}
  phases: [{duration: 1, arrivalCount: 5}]
  listeners:
    - {count: 4, flow: [{emit: [store, {}], acknowledge: true}]}
scenarios:
  - engine: socketio
    flow: [{think: 1}]
"#,
    )
    .unwrap_err()
    .to_string();
    assert!(error.starts_with("2 of 4 listeners could not stand: listener: connect"), "{error}");
    assert!(error.contains("503"), "{error}");
}

#[test]
fn arrivals_above_max_vusers_are_skipped_and_make_the_run_invalid() {
    let server = Server::start(|_| Manner::Serve, |_, _, _, _, _| {}, plain_page);
    let outcome = drum(
        &server,
        r#"
config:
  target: "{target}"
  phases: [{duration: 1, arrivalCount: 10, maxVusers: 2}]
scenarios:
  - flow: [{get: {url: "/"}}, {think: 3}]
"#,
    )
    .unwrap();
    assert_eq!((counter(&outcome, "vusers.created"), counter(&outcome, "vusers.skipped")), (2, 8));
    assert_eq!(outcome.total.concurrent_users, 2);
    assert!(!outcome.validity.valid);
}

#[test]
fn before_gives_its_captures_to_everyone_and_its_failure_stops_the_run() {
    let page = |path: &str, _: &str| match path {
        "/login" => (ok(r#"{"token":"t1"}"#), true),
        "/use/t1" => (ok(""), true),
        _ => ("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".into(), true),
    };
    let server = Server::start(|_| Manner::Serve, |_, _, _, _, _| {}, page);
    let yaml = r#"
config:
  target: "{target}"
  phases: [{duration: 1, arrivalCount: 3}]
before: {flow: [{post: {url: "/login", capture: {json: "$.token", as: token}}}]}
scenarios:
  - flow: [{get: {url: "/use/{{ token }}"}}]
"#;
    let outcome = drum(&server, yaml).unwrap();
    assert_eq!(counter(&outcome, "http.codes.200"), 3);
    assert_eq!(counter(&outcome, "http.requests"), 3, "`before` is no load");
    let error = drum(&server, &yaml.replace("/login", "/logout")).unwrap_err().to_string();
    assert!(error.starts_with("`before` failed"), "{error}");
    assert!(error.contains("Failed capture or match"), "{error}");

    // What goes wrong in it without ending it is told all the same.
    let refuse = |_: &Arc<Server>, socket: &Arc<Socket>, _: &str, _: &[Value], ack: Option<u64>| {
        socket.ack(ack.unwrap(), &json!({"status": 403, "message": "no"}));
    };
    let server = Server::start(|_| Manner::Serve, refuse, page);
    let emits = yaml
        .replace(
            "{post: {url: \"/login\", capture: {json: \"$.token\", as: token}}}",
            "{emit: [hello], acknowledge: true}",
        )
        .replace("before: {", "before: {engine: socketio, ");
    let outcome = drum(&server, &emits).unwrap();
    let rows: Vec<_> = outcome.errors.iter().map(|error| (&*error.cause, error.count)).collect();
    assert_eq!(rows, [("ack 403: no", 1)]);
}

/// First Ctrl-C: no more arrivals, the results are written, exit code 130.
#[test]
fn an_interrupted_run_still_has_its_results() {
    let server = Server::start(|_| Manner::Serve, |_, _, _, _, _| {}, plain_page);
    let folder = tempfile::tempdir().unwrap();
    let script = write_script(
        &server,
        r#"
config:
  target: "{target}"
  phases: [{duration: 600, arrivalRate: 20}]
scenarios:
  - flow: [{get: {url: "/"}}, {log: "here"}, {think: 300}]
"#,
        folder.path(),
    );
    let result = folder.path().join("result.json");
    let (result_word, script) = (result.to_str().unwrap(), script.to_str().unwrap());
    let mut drumfire = Running::start(folder.path(), &["run", "-o", result_word, script]);
    // The first user is at work; its word is the event to wait for.
    drumfire.until_said("here", 1);
    drumfire.signal(Signal::INT);
    assert_eq!(drumfire.ended(Duration::from_secs(30)).0, 130);
    let written: Value = serde_json::from_slice(&std::fs::read(&result).unwrap()).unwrap();
    assert!(
        written["aggregate"]["counters"]["vusers.created"].as_u64().unwrap() >= 1,
        "{}",
        written["aggregate"]
    );
}
