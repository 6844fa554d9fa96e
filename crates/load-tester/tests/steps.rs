//! Steps about a user's connection, in whole runs: waiting for what comes, leaving and coming back, reading slowly.

mod support;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use load_tester::outcome::{Outcome, counters, names};
use serde_json::{Value, json};
use support::{Manner, Server, Socket, counter, drum, ok, plain_page};

/// One socketio user of these steps.
fn script(config: &str, flow: &str) -> String {
    format!(
        "
config:
  target: \"{{target}}\"
  timeout: 2
  socketio: {{transports: [\"websocket\"]}}
  phases: [{{duration: 0.1, arrivalCount: 1}}]
{config}
scenarios:
  - engine: socketio
    flow:
{flow}
"
    )
}

/// (step without its line, cause, code) of each error.
fn errors(outcome: &Outcome) -> Vec<(String, String, String)> {
    let step = |step: &str| step.split(" (line").next().unwrap_or_default().to_owned();
    outcome.errors.iter().map(|error| (step(&error.step), error.cause.clone(), error.code.clone())).collect()
}

#[track_caller]
fn completed(outcome: &Outcome) {
    assert_eq!(counter(outcome, "vusers.completed"), 1, "{:?}", outcome.errors);
    assert_eq!(outcome.errors, []);
}

/// Answers `say` with what its argument tells to emit, `reply` with its own arguments.
fn echo(_: &Arc<Server>, socket: &Arc<Socket>, event: &str, arguments: &[Value], ack: Option<u64>) {
    if event == "say" {
        for argument in arguments {
            socket.emit("said", argument);
        }
    }
    if let Some(ack) = ack {
        socket.ack(ack, &json!({}));
    }
}

#[test]
fn a_wait_takes_what_came_before_it_first() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&heard);
    let server = Server::start(
        |_| Manner::Serve,
        move |server, socket, event, arguments, ack| {
            if event == "report" {
                told.lock().unwrap().extend_from_slice(arguments);
            }
            echo(server, socket, event, arguments, ack);
        },
        plain_page,
    );
    // The five come before the ack, so all are there when the first wait begins; the pause takes none of them away.
    let outcome = drum(
        &server,
        &script(
            "",
            r#"
      - listen: said
      - emit: [say, {n: 1}, {n: 2}, {n: 3}, {n: 4}, {n: 5}]
        acknowledge: true
      - think: 0.1
      - wait: {for: said, match: {json: $.n, value: 4}, capture: {json: $.n, as: fourth}}
      - wait: {for: said, count: 2, collect: firsts}
      - wait: said
      - emit: [say, {n: 6}]
      - wait: {for: said, count: 2, collect: rest}
      - emit: [report, "{{ fourth }}", "{{ firsts }}", "{{ rest }}"]
        acknowledge: true
"#,
        ),
    )
    .unwrap();
    completed(&outcome);
    let expected = [json!(4), json!([{"n": 1}, {"n": 2}]), json!([{"n": 5}, {"n": 6}])];
    assert_eq!(*heard.lock().unwrap(), expected);
    assert_eq!(outcome.server_events["said"], 6);
    // Waits are told as what they are: how long they lasted, never as an answer's time.
    assert_eq!(outcome.total.histograms["drumfire.wait.said"].len(), 4);
    assert_eq!(outcome.total.histograms["drumfire.wait.said"].min(), 0);
    assert_eq!(outcome.total.histograms[names::SOCKETIO_RESPONSE_TIME].len(), 2, "the two acks");
}

#[test]
fn what_is_waited_for_without_a_listen_is_kept_from_the_connect_on() {
    let server = Server::start(|_| Manner::Serve, echo, plain_page);
    let flow = r#"
      - emit: [say, hello]
        acknowledge: true
      - loop: [{wait: {for: said, match: {json: $, value: hello}}}]
        count: 1
"#;
    completed(&drum(&server, &script("", flow)).unwrap());
    // With a `listen` only what comes behind it counts.
    let late = flow.replace("      - loop", "      - listen: said\n      - loop");
    let outcome = drum(&server, &script("", &late).replace("timeout: 2", "timeout: 0.3")).unwrap();
    assert_eq!(counter(&outcome, "vusers.failed"), 1);
}

#[test]
fn a_wait_that_comes_to_nothing_says_how_far_it_got() {
    let server = Server::start(|_| Manner::Serve, echo, plain_page);
    let run = |wait: &str| {
        let flow =
            format!("      - emit: [say, {{n: 1}}, {{n: 2}}]\n      - wait: {wait}\n      - emit: [never]");
        let outcome = drum(&server, &script("", &flow)).unwrap();
        assert_eq!(counter(&outcome, "vusers.failed"), 1);
        assert_eq!(counter(&outcome, "socketio.emit"), 1, "the user skips the rest");
        assert!(!outcome.total.histograms.contains_key("drumfire.wait.said"), "a failed wait is no sample");
        let sample = outcome.errors[0].sample.clone();
        (errors(&outcome), sample)
    };
    let row = |cause: &str| vec![("wait said".into(), cause.into(), "response timeout".into())];
    let (told, _) = run("{for: said, count: 3, timeout: 0.2}");
    assert_eq!(told, row("no said within 0.2 s, 2 of 3 came"));
    let (told, sample) = run("{for: said, match: {json: $.n, value: 7}, timeout: 200ms}");
    assert_eq!(told, row("no said that fits within 0.2 s"));
    assert!(sample.contains("expected 7, found 2") && sample.contains(r#"["said",{"n":2}]"#), "{sample}");
    let (told, _) = run("{for: other, timeout: 0.2}");
    assert_eq!(told[0].1, "no other within 0.2 s");

    let cut = Server::start(|_| Manner::Serve, |_, socket, _, _, _| socket.cut(), plain_page);
    let outcome =
        drum(&cut, &script("", "      - emit: [say]\n      - wait: {for: said, count: 2}")).unwrap();
    assert_eq!(
        errors(&outcome),
        [(
            "wait said".into(),
            "disconnected while waiting for said, 0 of 2 came: connection ended without a close frame".into(),
            "disconnect".into()
        )]
    );
    assert_eq!(counter(&outcome, counters::CONNECTIONS_LOST), 1);
}

/// More than an inbox holds, then the ack.
fn flood(_: &Arc<Server>, socket: &Arc<Socket>, event: &str, _: &[Value], ack: Option<u64>) {
    if event == "flood" {
        for number in 0..1010 {
            socket.emit("said", &json!(number));
        }
        socket.ack(ack.unwrap(), &json!({}));
    }
}

/// A listener's `listen` may join a namespace and nobody reads what comes of it, for hours.
#[test]
fn what_nobody_waits_for_is_counted_and_not_kept() {
    let server = Server::start(|_| Manner::Serve, flood, plain_page);
    let flow = "      - loop: [{listen: [said, other]}]\n        count: 1\n      - emit: [flood]\n        acknowledge: true";
    let outcome = drum(&server, &script("", flow)).unwrap();
    completed(&outcome);
    assert_eq!(outcome.server_events["said"], 1010);
}

#[test]
fn an_inbox_is_bounded_and_says_what_it_dropped() {
    let server = Server::start(|_| Manner::Serve, flood, plain_page);
    let flow = r#"
      - listen: said
      - emit: [flood]
        acknowledge: true
      - wait: {for: said, count: 1000}
      - emit: [flood]
        acknowledge: true
"#;
    let outcome = drum(&server, &script("", flow)).unwrap();
    assert_eq!(counter(&outcome, "vusers.completed"), 1, "{:?}", outcome.errors);
    // Nobody waits any more behind the last wait, so the second flood is not kept and nothing of it dropped.
    let error = &outcome.errors[0];
    assert!(error.step.starts_with("listen said (line "), "{}", error.step);
    assert_eq!(error.cause, "inbox full: more than 1000 messages or 1 MiB wait unread");
    assert_eq!((error.count, outcome.errors.len()), (10, 1));
    assert_eq!(outcome.server_events["said"], 2020);
}

#[test]
fn three_ways_to_leave_and_to_come_back() {
    let server = Server::start(|_| Manner::Serve, echo, plain_page);
    let run = |how: &str| {
        let flow = format!(
            "      - emit: [say, 1]\n      - wait: said\n      - disconnect: {how}\n      - think: 0.1
      - reconnect: {{after: 0.1}}\n      - emit: [say, 2]\n      - wait: {{for: said, match: {{json: $, value: 2}}}}"
        );
        let before = [&server.closed_politely, &server.cut_off].map(|count| count.load(Ordering::Relaxed));
        let outcome = drum(&server, &script("", &flow)).unwrap();
        completed(&outcome);
        assert!(outcome.meta.duration_s > 0.2);
        // The server notices the end of a connection a moment later.
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let now = [&server.closed_politely, &server.cut_off].map(|count| count.load(Ordering::Relaxed));
            let ends = [now[0] - before[0], now[1] - before[1]];
            if ends.iter().sum::<usize>() == 2 || Instant::now() > deadline {
                let counted = [counters::CONNECTIONS_LOST, counters::CONNECTIONS_BACK];
                return (ends, counted.map(|name| counter(&outcome, name)), outcome.total.connections);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    // ([goodbyes, ends without one], [lost, back])
    let (ends, counted, _) = run("true");
    assert_eq!((ends, counted), ([2, 0], [0, 0]), "the script's own goodbye is no loss");
    let (ends, counted, _) = run("drop");
    assert_eq!((ends, counted), ([1, 1], [1, 1]));
    let (ends, counted, open) = run("silent");
    assert_eq!((ends, counted), ([1, 1], [1, 1]));
    assert!(open <= 1, "the silent one stays open beside the new one, and counts for lost");
    let flow = "      - emit: [say, 1]\n      - wait: said\n      - disconnect: silent\n      - think: 1.3";
    let outcome = drum(&server, &script("", flow)).unwrap();
    completed(&outcome);
    assert_eq!(outcome.seconds[0].connections, 0);

    // A `connect` is a way back too.
    let flow = "      - connect: {}\n      - disconnect: drop\n      - connect: {}\n      - emit: [say, 1]\n      - wait: said";
    let outcome = drum(&server, &script("", flow)).unwrap();
    completed(&outcome);
    let counted = [counters::CONNECTIONS_LOST, counters::CONNECTIONS_BACK];
    assert_eq!(counted.map(|name| counter(&outcome, name)), [1, 1]);
}

#[test]
fn a_silent_user_answers_no_heartbeat_and_a_loss_unasked_is_an_error() {
    let cut_on = |word: &'static str| {
        move |_: &Arc<Server>, socket: &Arc<Socket>, event: &str, _: &[Value], _: Option<u64>| {
            if event == word {
                socket.cut();
            }
        }
    };
    let server = Server::start(|_| Manner::Serve, cut_on("cut me"), plain_page);
    let flow = "      - emit: [cut me]\n      - think: 0.2\n      - reconnect: true\n      - emit: [fine]\n      - think: 0.1";
    let outcome = drum(&server, &script("", flow)).unwrap();
    assert_eq!(counter(&outcome, "vusers.completed"), 1);
    let told = errors(&outcome);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((told[0].0.as_str(), told[0].2.as_str()), ("emit cut me", "disconnect"));
    let counted =
        [counters::CONNECTIONS_LOST, counters::CONNECTIONS_BACK].map(|name| counter(&outcome, name));
    assert_eq!(counted, [1, 1]);
    // Without a way back the next step says that there is no connection.
    let outcome = drum(&server, &script("", &flow.replace("      - reconnect: true\n", ""))).unwrap();
    assert!(errors(&outcome).contains(&("emit fine".into(), "not connected".into(), "not connected".into())));

    // A server that pings and counts the answers.
    let answered = Arc::new(Mutex::new(0));
    let counting = Arc::clone(&answered);
    let server = Server::start(
        |_| Manner::Serve,
        |_, socket, event, _, _| {
            if event == "ping me" {
                (0..3).for_each(|_| socket.raw("2"));
            }
        },
        plain_page,
    );
    server.on_pong.set(Box::new(move || *counting.lock().unwrap() += 1)).ok().unwrap();
    let ping = "      - emit: [ping me]\n      - think: 0.2";
    completed(&drum(&server, &script("", ping)).unwrap());
    assert_eq!(std::mem::take(&mut *answered.lock().unwrap()), 3);
    let silent = ping.replace("      - think", "      - disconnect: silent\n      - think");
    completed(&drum(&server, &script("", &silent)).unwrap());
    assert_eq!(*answered.lock().unwrap(), 0);
}

#[test]
fn an_http_login_comes_before_the_connection() {
    let logins = |path: &str, _: &str| {
        if path == "/login" {
            let body = r#"{"token":"t-17"}"#;
            let answer = format!(
                "HTTP/1.1 200 OK\r\nset-cookie: session=abc; Path=/\r\nset-cookie: elsewhere=1; Path=/other\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            return (answer, true);
        }
        (ok("page"), true)
    };
    let server = Server::start(|_| Manner::Serve, echo, logins);
    let handshake = || {
        let heads = std::mem::take(&mut *server.handshakes.lock().unwrap());
        let connects = std::mem::take(&mut *server.connects.lock().unwrap());
        assert_eq!((heads.len(), connects.len()), (1, 1), "{heads:?} {connects:?}");
        (heads[0].clone(), connects[0].clone())
    };
    const LOGIN: &str = "      - post: {url: /login, capture: {json: $.token, as: token}}\n";
    // The handshake asks for what the login gives, so it waits for it.
    let late = "  socketio: {transports: [websocket], query: {t: \"{{ token }}\"}, extraHeaders: {X-Token: \"{{ token }}\", cookie: own=1}, auth: {token: \"{{ token }}\"}}";
    let flow = format!("{LOGIN}      - think: 0.01\n      - emit: [say, 1]\n      - wait: said");
    let yaml = script(late, &flow).replacen("  socketio: {transports: [\"websocket\"]}\n", "", 1);
    completed(&drum(&server, &yaml).unwrap());
    let (head, connect) = handshake();
    assert!(head.contains("&t=t-17 HTTP/1.1"), "{head}");
    assert!(head.contains("X-Token: t-17\r\n"), "{head}");
    assert!(head.contains("cookie: own=1; session=abc\r\n"), "{head}");
    assert_eq!(connect, r#"40{"token":"t-17"}"#);

    // A step of its own goes before that, and before what the config says.
    let flow = format!(
        "{LOGIN}      - get: /\n      - connect: {{auth: {{mine: \"{{{{ token }}}}!\"}}, query: {{q: 1}}}}\n      - emit: [say, 1]\n      - wait: said"
    );
    completed(&drum(&server, &script("", &flow)).unwrap());
    let (head, connect) = handshake();
    assert!(head.contains("&q=1 HTTP/1.1") && head.contains("Cookie: session=abc\r\n"), "{head}");
    assert_eq!(connect, r#"40{"mine":"t-17!"}"#);

    // Nothing of the login in the handshake: connected at the start, as in Artillery.
    let flow = format!("{LOGIN}      - emit: [say, 1]\n      - wait: said");
    completed(&drum(&server, &script("", &flow)).unwrap());
    assert!(!handshake().0.to_ascii_lowercase().contains("cookie:"));

    // A reconnect fills the templates of the nearest `connect` anew.
    let flow = format!(
        "{LOGIN}      - loop:\n        - connect: {{auth: {{n: \"{{{{ $loopCount }}}}\"}}}}\n        - disconnect: drop\n        - reconnect: true\n        count: 2"
    );
    completed(&drum(&server, &script("", &flow)).unwrap());
    let auths = std::mem::take(&mut *server.connects.lock().unwrap());
    assert_eq!(auths, [r#"40{"n":0}"#, r#"40{"n":0}"#, r#"40{"n":1}"#, r#"40{"n":1}"#]);
}

#[test]
fn a_user_that_does_not_read_fills_the_servers_outbox() {
    /// More than the kernel takes for both ends.
    const FRAMES: usize = 250;
    let stood = Arc::new(Mutex::new(Duration::ZERO));
    let timed = Arc::clone(&stood);
    let flood = move |_: &Arc<Server>, socket: &Arc<Socket>, event: &str, _: &[Value], _: Option<u64>| {
        if event == "flood" {
            let text = json!("x".repeat(60_000));
            let longest = (0..FRAMES).map(|_| {
                let began = Instant::now();
                socket.emit("said", &text);
                began.elapsed()
            });
            *timed.lock().unwrap() = longest.max().unwrap();
            socket.emit("over", &json!(1));
        }
    };
    let server = Server::start(|_| Manner::Serve, flood, plain_page);
    let run = |step: &str| {
        let flow = format!("      - emit: [flood]\n{step}      - wait: {{for: over, timeout: 20}}");
        let outcome = drum(&server, &script("", &flow)).unwrap();
        completed(&outcome);
        assert_eq!(outcome.server_events["said"], FRAMES as u64, "what was not read comes later");
        *stood.lock().unwrap()
    };
    let as_they_come = run("");
    // The server's writing stood still for long.
    let stopped = run("      - read: {stop: true, for: 2}\n");
    assert!(stopped > Duration::from_millis(300) && stopped > as_they_come, "{stopped:?}, {as_they_come:?}");
    let slow = run("      - read: {bytesPerSecond: 10000, for: 2}\n");
    assert!(slow > Duration::from_millis(300) && slow > as_they_come, "{slow:?}, {as_they_come:?}");
}

#[test]
fn who_did_not_read_learns_of_the_end_before_leaving() {
    let cut = |_: &Arc<Server>, socket: &Arc<Socket>, event: &str, _: &[Value], _: Option<u64>| {
        assert_eq!(event, "cut");
        // Much to read before the end is seen.
        (0..500).for_each(|n| socket.raw(&format!(r#"42["said",{{"n":{n},"text":"{}"}}]"#, "x".repeat(200))));
        socket.cut();
    };
    let server = Server::start(|_| Manner::Serve, cut, plain_page);
    let flow = "      - emit: [cut]\n      - read: {stop: true, for: 0.5}";
    let outcome = drum(&server, &script("", flow)).unwrap();
    assert_eq!(outcome.errors.len(), 1, "{:?}", outcome.errors);
    assert_eq!(outcome.errors[0].step, "read nothing (line 12)");
    assert_eq!(counter(&outcome, counters::CONNECTIONS_LOST), 1);
}

#[test]
fn what_the_server_refuses_and_ends_is_an_error_with_step_and_sample() {
    let refuse = |_: &Arc<Server>, socket: &Arc<Socket>, event: &str, _: &[Value], _: Option<u64>| match event
    {
        "leave" => socket.raw("41"),
        "bad" => socket.raw(r#"42["exception",{"status":400,"message":"no"}]"#),
        _ => socket.raw(r#"44{"message":"expired"}"#),
    };
    let server = Server::start(|_| Manner::Serve, refuse, plain_page);
    let flow = "      - emit: [bad]\n      - think: 0.1\n      - emit: [expire]\n      - think: 0.1\n      - emit: [leave]\n      - think: 0.1\n      - emit: [any]\n        namespace: /refused";
    let outcome = drum(&server, &script("", flow)).unwrap();
    let mut told: Vec<_> = outcome
        .errors
        .iter()
        .map(|error| {
            let step = error.step.split(" (line").next().unwrap_or_default();
            (step, error.cause.as_str(), error.sample.as_str())
        })
        .collect();
    told.sort_unstable();
    assert_eq!(
        told,
        [
            (
                "emit any",
                "connect /refused: namespace: refused: no entry for 17",
                r#"{"message":"no entry for 17"}"#
            ),
            ("emit bad", "exception 400: no", r#"["exception",{"status":400,"message":"no"}]"#),
            ("emit expire", "connect_error: expired", r#"{"message":"expired"}"#),
            ("emit leave", "disconnected from / by the server", ""),
        ]
    );
    assert_eq!(counter(&outcome, counters::CONNECTIONS_LOST), 0, "the connection itself stood to the end");
}

#[test]
fn a_listener_that_waited_keeps_nothing_behind_its_last_wait() {
    let greet = |server: &Arc<Server>, socket: &Arc<Socket>, event: &str, _: &[Value], ack: Option<u64>| {
        if event == "flood" {
            for one in &*server.standing.lock().unwrap() {
                (0..1200).for_each(|number| one.emit("said", &json!(number)));
            }
        }
        socket.emit("said", &json!("welcome"));
        if let Some(ack) = ack {
            socket.ack(ack, &json!({}));
        }
    };
    let server = Server::start(|_| Manner::Serve, greet, plain_page);
    let listeners = "  listeners: [{count: 1, flow: [{emit: [store, {}]}, {wait: \"{{ word }}\"}, {emit: [store, {}]}, {wait: said}]}]
  variables: {word: [said]}";
    let flow = "      - emit: [flood]\n        acknowledge: true\n      - think: 0.2";
    let outcome = drum(&server, &script(listeners, flow)).unwrap();
    completed(&outcome);
    assert!(outcome.server_events["said"] > 1200, "{:?}", outcome.server_events);
}

#[test]
fn what_is_listened_for_and_never_waited_for_is_counted_and_not_kept() {
    let flood = |_: &Arc<Server>, socket: &Arc<Socket>, event: &str, _: &[Value], ack: Option<u64>| {
        let times = if event == "flood" { 1100 } else { 1 };
        (0..times).for_each(|number| socket.emit("said", &json!(number)));
        if let Some(ack) = ack {
            socket.ack(ack, &json!({}));
        }
    };
    let server = Server::start(|_| Manner::Serve, flood, plain_page);
    for flow in [
        "      - listen: said\n      - emit: [flood]\n        acknowledge: true",
        // Behind the last wait, by whatever name.
        "      - listen: said\n      - emit: [say]\n      - wait: said\n      - listen: said\n      - emit: [flood]\n        acknowledge: true",
        "      - listen: [said, other]\n      - emit: [say]\n      - wait: \"{{ word }}\"\n      - emit: [flood]\n        acknowledge: true",
        "      - listen: \"{{ word }}\"\n      - emit: [say]\n      - wait: \"{{ word }}\"\n      - emit: [flood]\n        acknowledge: true",
    ] {
        let outcome = drum(&server, &script("  variables: {word: [said]}", flow)).unwrap();
        completed(&outcome);
        assert!(outcome.server_events["said"] >= 1100, "{flow}: {:?}", outcome.server_events);
    }
    // In a loop a listen behind the wait is in front of the next one; and the name may be known only then.
    let flow = "      - loop:\n        - emit: [say]\n          acknowledge: true\n        - listen: said\n        count: 3\n      - wait: {for: \"{{ word }}\", count: 2}";
    completed(&drum(&server, &script("  variables: {word: [said]}", flow)).unwrap());
}

#[test]
fn a_wait_finds_its_message_behind_more_than_an_inbox_holds() {
    let flood = |_: &Arc<Server>, socket: &Arc<Socket>, event: &str, _: &[Value], _: Option<u64>| {
        if event == "flood" {
            (0..3000).for_each(|number| socket.emit("said", &json!({ "n": number })));
        }
    };
    let server = Server::start(|_| Manner::Serve, flood, plain_page);
    let flow =
        "      - emit: [flood]\n      - wait: {for: said, match: {json: $.n, value: 2999}, timeout: 10}";
    completed(&drum(&server, &script("", flow)).unwrap());
    // What had to make room is told where it may have been what was waited for.
    let again = format!("{flow}\n      - wait: {{for: said, match: {{json: $.n, value: 5}}, timeout: 0.1}}");
    let outcome = drum(&server, &script("", &again)).unwrap();
    assert_eq!(outcome.errors.len(), 1, "{:?}", outcome.errors);
    let sample = &outcome.errors[0].sample;
    assert!(sample.ends_with("older ones that had not fitted were dropped, the inbox was full"), "{sample}");
}

#[test]
fn who_reads_slowly_on_purpose_finds_no_late_heartbeats() {
    let pings = |_: &Arc<Server>, socket: &Arc<Socket>, event: &str, _: &[Value], _: Option<u64>| {
        if event == "go" {
            let socket = Arc::clone(socket);
            std::thread::spawn(move || {
                for _ in 0..8 {
                    std::thread::sleep(Duration::from_millis(200));
                    socket.raw("2");
                }
            });
        }
    };
    let server = Server::start(|_| Manner::Serve, pings, plain_page);
    server.pings.set((300, 200)).unwrap();
    let run = |step: &str| {
        let flow = format!("      - emit: [go]\n      - {step}\n      - think: 0.3");
        let outcome = drum(&server, &script("", &flow)).unwrap();
        completed(&outcome);
        counter(&outcome, counters::HEARTBEATS_LATE)
    };
    assert_eq!(run("think: 1"), 0);
    assert_eq!(run("read: {stop: true, for: 1}"), 0);
    assert_eq!(run("read: {bytesPerSecond: 1, for: 1}"), 0);
}

#[test]
fn nothing_is_emitted_to_a_namespace_that_the_server_took_away() {
    let leave = |_: &Arc<Server>, socket: &Arc<Socket>, event: &str, _: &[Value], _: Option<u64>| {
        if event == "leave" {
            socket.raw("41");
        }
    };
    let server = Server::start(|_| Manner::Serve, leave, plain_page);
    let flow = "      - emit: [leave]\n      - think: 0.1\n      - emit: [never]";
    let outcome = drum(&server, &script("", flow)).unwrap();
    let mut told: Vec<_> = errors(&outcome).into_iter().map(|(step, cause, _)| (step, cause)).collect();
    told.sort();
    let row = |step: &str, cause: &str| (step.to_owned(), cause.to_owned());
    assert_eq!(
        told,
        [
            row("emit leave", "disconnected from / by the server"),
            row("emit never", "not connected to /: the server took it away"),
        ]
    );
    assert_eq!((counter(&outcome, "socketio.emit"), counter(&outcome, "vusers.failed")), (1, 1));
}
