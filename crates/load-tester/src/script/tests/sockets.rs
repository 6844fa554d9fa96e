//! Steps about a user's connection, and the ws engine's.

use std::num::NonZeroU32;

use super::*;

fn first(text: &str) -> Action {
    good(text).scenarios.remove(0).flow.remove(0).action
}

fn wait(step: &str) -> WaitStep {
    match first(&steps(&format!("- wait: {step}"))) {
        Action::Wait(wait) => *wait,
        other => panic!("{other:?}"),
    }
}

fn ws(flow: &str) -> String {
    with("", &format!("engine: ws\nflow:\n  {flow}"))
}

#[test]
fn socket_steps() {
    let short = wait("new_msg");
    assert_eq!((rendered(&short.event.unwrap()), short.count, short.timeout), (json!("new_msg"), 1, None));
    let long = wait(
        "{for: new_msg, namespace: chat, timeout: 5, count: 3, match: {json: $.a, value: 1}, capture: {json: $.b, as: b}, collect: all}",
    );
    assert_eq!((long.timeout, long.count), (Some(Duration::from_secs(5)), 3));
    assert_eq!((long.matches.len(), long.captures.len(), long.collect.as_deref()), (1, 1, Some("all")));
    assert_eq!(rendered(&long.namespace), "/chat");
    // What `collect` and `capture` set is known to later steps.
    assert_eq!(warnings(&steps("- wait: {for: a, collect: all}\n- log: '{{ all }}'")), [""; 0]);

    let listens = |step: &str| match first(&steps(&format!("- listen: {step}"))) {
        Action::Listen(listen) => {
            listen.events.iter().chain([&listen.namespace]).map(rendered).collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(listens("a"), ["a", "/"]);
    assert_eq!(listens("[a, b]"), ["a", "b", "/"]);
    assert_eq!(listens("{for: [a, b], namespace: /n}"), ["a", "b", "/n"]);

    let leaves = |step: &str| match first(&steps(&format!("- disconnect: {step}"))) {
        Action::Disconnect(leaving) => leaving,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        ["true", "{}", "{how: close}", "drop", "{how: silent}"].map(leaves),
        [Leaving::Close, Leaving::Close, Leaving::Close, Leaving::Drop, Leaving::Silent]
    );
    let again = first(&steps("- reconnect: {after: 1.5}"));
    assert!(matches!(again, Action::Reconnect { after } if after.as_millis() == 1500));
    assert!(matches!(first(&steps("- reconnect: true")), Action::Reconnect { after } if after.is_zero()));
    let slow = first(&steps("- read: {bytesPerSecond: 100, for: 10}"));
    let rate = NonZeroU32::new(100);
    assert!(
        matches!(slow, Action::Read { bytes_per_second, time } if bytes_per_second == rate && time.as_secs() == 10)
    );
    let stopped = first(&steps("- read: {stop: true, for: 1m}"));
    assert!(matches!(stopped, Action::Read { bytes_per_second: None, time } if time.as_secs() == 60));

    let Action::Connect(connect) =
        first(&steps("- connect: {auth: {token: a}, query: 'x=1&y=2', extraHeaders: {h: v}}"))
    else {
        panic!()
    };
    assert_eq!(rendered(&connect.auth.unwrap()), json!({"token": "a"}));
    assert_eq!((connect.query.unwrap().len(), connect.headers.unwrap().len()), (2, 1));

    assert_errors!(
        "socket_steps",
        &[
            &steps("- wait: 5"),
            &steps("- wait: {timeout: 5}"),
            &steps("- wait: {for: a, timeout: 0}"),
            &steps("- wait: {for: a, count: 0}"),
            &steps("- listen: []"),
            &steps("- listen: {namespace: /a}"),
            &steps("- disconnect: {how: rudely}"),
            &steps("- reconnect: 5"),
            &steps("- read: {for: 5}"),
            &steps("- read: {stop: true}"),
            &steps("- read: {stop: true, bytesPerSecond: 5, for: 5}"),
            &steps("- read: {bytesPerSecond: 0, for: 5}"),
            &steps("- connect: 'ws://other'"),
            &ws("- wait: {for: a}"),
            &ws("- send: {payload: '?', encoding: base64}"),
            &ws("- send:"),
            &ws("- connect: 5"),
            &with("listeners: [{count: 1, engine: http, flow: []}]", "flow: []"),
        ]
    );
    assert_eq!(
        warnings(&steps("- wait: {for: a, cuont: 2}")),
        ["8: `cuont` is not known and ignored: did you mean `count`?"]
    );
}

#[test]
fn frames_and_their_connection() {
    let sends = |step: &str| match first(&ws(&format!("- send: {step}"))) {
        Action::Send(send) => (rendered(&send.payload), send.binary, send.answer.is_some()),
        other => panic!("{other:?}"),
    };
    assert_eq!(sends("hello"), (json!("hello"), false, false));
    assert_eq!(sends("{a: 1}"), (json!({"a": 1}), false, false));
    assert_eq!(sends("{payload: {a: 1}}"), (json!({"a": 1}), false, false));
    assert_eq!(sends("{payload: AAEC, encoding: base64}"), (json!("AAEC"), true, false));
    assert_eq!(sends("{payload: ping, match: {json: $, value: pong}}"), (json!("ping"), false, true));
    let Action::Connect(connect) = first(&ws("- connect: 'ws://h/{{ $uuid }}'")) else { panic!() };
    assert!(connect.target.is_some() && connect.subprotocols.is_none());
    let Action::Connect(connect) =
        first(&ws("- connect: {target: /chat, headers: {a: b}, subprotocols: [x, y]}"))
    else {
        panic!()
    };
    assert_eq!(
        (connect.headers.unwrap().len(), connect.subprotocols.unwrap()),
        (1, vec!["x".into(), "y".into()])
    );
    let config = good(&with("ws: {headers: {a: b}, subprotocols: json, timeout: 3}", "flow: []")).config;
    assert_eq!((config.ws.headers.len(), &config.ws.subprotocols[..]), (1, &["json".to_owned()][..]));
    assert_eq!(config.timeout.as_secs(), 3);
    let group = good(&with("listeners: [{count: 2, engine: ws, flow: [{send: join}]}]", "flow: []"));
    assert_eq!(group.config.listeners[0].engine, Engine::WebSocket);
}

#[test]
fn check_tells_the_steps_in_words() {
    let told = summary::describe(&good(&steps(
        "- connect: true\n- listen: [a, b]\n- wait: {for: a, count: 2}\n- disconnect: drop\n- reconnect: {after: 2}\n- read: {stop: true, for: 3}",
    )));
    let words = "connect, listen for a and b, wait for 2 a, disconnect without a word, reconnect after 2s, read \
                 nothing for 3s";
    assert!(told.contains(words), "{told}");
}
