//! Whole runs over long polling and over the change from it to WebSocket.

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use load_tester::outcome::names;
use serde_json::{Value, json};
use support::{Manner, Server, Socket, counter, drum, plain_page};

const USERS: u64 = 30;

fn script(socketio: &str) -> String {
    format!(
        r#"
config:
  target: "{{target}}"
  timeout: 5
  socketio: {{{socketio}}}
  phases:
    - {{duration: 1, arrivalRate: {USERS}}}
scenarios:
  - engine: socketio
    flow:
      - emit: {{channel: ask, data: 1, acknowledge: true}}
      - think: 0.3
      - emit: {{channel: ask, data: 2, acknowledge: true}}
"#
    )
}

fn answer(_: &Arc<Server>, socket: &Arc<Socket>, _: &str, arguments: &[Value], ack: Option<u64>) {
    socket.ack(ack.expect("asked for"), &json!({"status": 200, "heard": arguments[0]}));
}

#[test]
fn polling_and_the_change_to_websocket_are_counted() {
    // What the script says; whether it polls, and whether it changes.
    for (socketio, polls, changes) in [
        ("protocol: 4", true, true),
        (r#"transports: ["polling", "websocket"]"#, true, true),
        (r#"transports: ["polling"]"#, true, false),
        ("upgrade: false", true, false),
        (r#"transports: ["websocket"]"#, false, false),
    ] {
        let server = Server::start(|_| Manner::Serve, answer, plain_page);
        let outcome = drum(&server, &script(socketio)).unwrap();
        assert_eq!(outcome.errors, [], "{socketio}");
        assert_eq!(counter(&outcome, "vusers.completed"), USERS, "{socketio}");
        let samples = |name: &str| outcome.total.histograms.get(name).map_or(0, |samples| samples.len());
        assert_eq!(samples(names::SOCKETIO_RESPONSE_TIME), 2 * USERS, "{socketio}");
        let count = |wanted: bool| if wanted { USERS } else { 0 };
        assert_eq!(samples("socketio.connect.polling"), count(polls), "{socketio}");
        assert_eq!(samples("socketio.connect.handshake"), count(!polls), "{socketio}");
        assert_eq!(samples("socketio.connect.upgrade"), count(changes || !polls), "{socketio}");
        assert_eq!(samples("socketio.connect.probe"), count(changes), "{socketio}");
        assert_eq!(samples(names::UPGRADE_TIME), count(changes), "{socketio}");
        assert_eq!(counter(&outcome, "socketio.upgrades"), count(changes), "{socketio}");
        assert_eq!(counter(&outcome, "socketio.upgrades_failed"), 0, "{socketio}");
        assert_eq!(server.upgrades.load(Ordering::Relaxed) as u64, count(changes || !polls), "{socketio}");
        // The question for the revision closes its session too, where it is asked.
        let asked = u64::from(!socketio.contains("protocol"));
        let frames = server.closed_politely.load(Ordering::Relaxed) as u64;
        let posts = server.closed_by_post.load(Ordering::Relaxed) as u64;
        assert_eq!(
            (frames, posts),
            (count(changes || !polls), count(polls && !changes) + asked),
            "{socketio}"
        );
    }
}

#[test]
fn errors_over_polling_name_step_endpoint_and_cause() {
    let decide = |number| if number < 5 { Manner::Answer503 } else { Manner::Serve };
    let server = Server::start(decide, answer, plain_page);
    let decide_polls = |number| match number % 10 {
        1 | 2 => Manner::Answer503,
        4 => Manner::Forgotten,
        _ => Manner::Serve,
    };
    assert!(server.decide_polls.set(Box::new(decide_polls)).is_ok());
    let outcome = drum(&server, &script("protocol: 4")).unwrap();
    let mut rows: Vec<(&str, &str, u64)> = (outcome.errors.iter())
        .map(|error| (error.step.split(" (").next().unwrap(), error.cause.as_str(), error.count))
        .collect();
    rows.sort_unstable();
    assert_eq!(
        rows,
        [
            ("connect", "change to websocket: upgrade: 503 Service Unavailable", 5),
            ("connect", "polling: 503 Service Unavailable", 6),
            ("emit ask", "disconnected while waiting for ack: poll: 400 Bad Request (Session ID unknown)", 3),
        ]
    );
    for error in &outcome.errors {
        assert!(
            error.endpoint.contains(&server.address.to_string()) || error.step.starts_with("emit"),
            "{error:?}"
        );
        assert!(error.sample.contains("busy") || error.sample.contains(r#"{"code":1,"#), "{error:?}");
    }
    let code = |cause: &str| &outcome.errors.iter().find(|error| error.cause.contains(cause)).unwrap().code;
    assert_eq!(code("polling: 503"), "xhr poll error (polling: 503 Service Unavailable)");
    assert_eq!(code("Session ID unknown"), "disconnect");
    assert_eq!(counter(&outcome, "vusers.failed"), 9);
    assert_eq!(counter(&outcome, "vusers.completed"), USERS - 9);
    assert_eq!(counter(&outcome, "socketio.upgrades_failed"), 5);
    assert_eq!(counter(&outcome, "socketio.upgrades"), USERS - 9 - 5);
}
