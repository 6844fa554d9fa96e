//! Long polling, the change to a WebSocket, and requests that reach another worker than their session's.

#[allow(unreachable_pub)] // shared by several test programs
mod support;

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use socketio_server::{CloseCode, Config, Frame, seats};
use support::{Got, PATIENCE, Server, config};

const UNKNOWN: (u16, &str) = (400, r#"{"code":1,"message":"Session ID unknown"}"#);
const BAD: (u16, &str) = (400, r#"{"code":3,"message":"Bad request"}"#);

#[track_caller]
fn expect(got: (u16, String), expected: (u16, &str)) {
    let (status, body) = got;
    assert_eq!((status, &*body), expected);
}

/// A session in `/`, everything read that greets it.
fn connected(server: &Server, revision: u8) -> String {
    let session = server.polling(revision);
    // A client of revision 3 has read it with the open packet.
    if revision == 4 {
        expect(server.post(&session, "40"), (200, "ok"));
        let (status, body) = server.poll(&session);
        assert!(status == 200 && body.ends_with("\u{1e}42[\"hello\",\"/\"]"), "{body}");
    }
    server.expect("connect / auth= query=");
    session
}

/// Waits until a poll on its way has arrived.
fn until_waiting(server: &Server) {
    while server.run(|worker| worker.sockets().iter().all(|socket| !socket.is_polling())) {
        thread::yield_now();
    }
    thread::sleep(Duration::from_millis(50));
}

#[test]
fn both_revisions_talk_over_polling() {
    let server = Server::start(config());
    let rows = [
        (4, "421[\"echo\",1]\u{1e}42[\"echo\",\"길\"]", "431[1]\u{1e}42[\"echo\",\"길\"]"),
        (3, r#"13:421["echo",1]14:42["echo","길"]"#, r#"6:431[1]14:42["echo","길"]"#),
        (
            4,
            "451-[\"echo\",{\"_placeholder\":true,\"num\":0}]\u{1e}bAQID",
            "451-[\"echo\",{\"_placeholder\":true,\"num\":0}]\u{1e}bAQID",
        ),
    ];
    for (revision, said, heard) in rows {
        let session = connected(&server, revision);
        expect(server.post(&session, said), (200, "ok"));
        expect(server.poll(&session), (200, heard));
        while !server.told_nothing() {}
    }
    // A client of revision 3 takes bytes, unless it said otherwise at the beginning.
    let said = r#"42:451-["echo",{"_placeholder":true,"num":0}]6:b4AQID"#;
    let (_, opened) = server.poll("EIO=3&transport=polling");
    let (length, packets) = opened.split_once(':').unwrap();
    assert!(packets[length.parse().unwrap()..] == *r#"2:4015:42["hello","/"]"#, "{opened}");
    server.told();
    let session = connected(&server, 3);
    expect(server.post(&session, said), (200, "ok"));
    let bytes = "\0\u{4}\u{2}\u{fffd}451-[\"echo\",{\"_placeholder\":true,\"num\":0}]\u{1}\u{4}\u{fffd}\u{4}\u{1}\u{2}\u{3}";
    let (head, heard) = server.ask_poll(&session).head_and_body();
    assert!(head.to_lowercase().contains("content-type: application/octet-stream\r\n"), "{head}");
    assert_eq!(String::from_utf8_lossy(&heard), bytes);
}

#[test]
fn a_poll_waits_for_something_to_say() {
    let server = Server::start(config());
    let session = connected(&server, 4);

    let waiting = server.ask_poll(&session);
    until_waiting(&server);
    server.run(|worker| worker.sockets()[0].push(&Frame::event("news", "1")));
    expect(waiting.answer(), (200, r#"42["news",1]"#));
    // What is said while nobody polls waits, more than one answer takes included.
    server.run(|worker| {
        for n in 0..100 {
            worker.sockets()[0].push(&Frame::event("n", &n.to_string()));
        }
    });
    let mut heard = Vec::new();
    while heard.len() < 100 {
        let (status, body) = server.poll(&session);
        assert_eq!(status, 200);
        heard.extend(body.split('\u{1e}').map(str::to_owned));
    }
    let expected: Vec<_> = (0..100).map(|n| format!("42[\"n\",{n}]")).collect();
    assert_eq!(heard, expected);
}

#[test]
fn a_broken_rule_ends_the_session_and_nobody_elses() {
    let server = Server::start(Config { max_payload: 1_000, ..config() });
    let bystander = connected(&server, 4);
    let large = "4".repeat(1_001);
    let rows: &[(&str, &str, (u16, &str))] = &[
        ("not a packet", "abc", BAD),
        ("an empty body", "", BAD),
        ("a ping from a client of revision 4", "2", BAD),
        ("not an array", "42{}", BAD),
        ("too large", &large, (413, "body too large\n")),
    ];
    for (name, body, expected) in rows {
        let session = connected(&server, 4);
        let got = server.post(&session, body);
        assert_eq!((got.0, got.1.as_str()), *expected, "{name}");
        assert!(server.told().starts_with("disconnect / violation"), "{name}");
        expect(server.poll(&session), UNKNOWN);
        expect(server.post(&session, "42[\"echo\"]"), UNKNOWN);
        expect(server.post(&bystander, "420[\"echo\"]"), (200, "ok"));
        expect(server.poll(&bystander), (200, "430[]"));
        server.told();
    }
}

#[test]
fn two_polls_at_once_end_the_session() {
    let server = Server::start(config());
    let session = connected(&server, 4);

    let first = server.ask_poll(&session);
    until_waiting(&server);
    expect(server.poll(&session), BAD);
    expect(first.answer(), (200, "1"));
    server.expect("disconnect / violation: two polls or two posts at the same time");
    expect(server.poll(&session), UNKNOWN);
}

#[test]
fn two_posts_at_once_end_the_session() {
    let server = Server::start(config());
    let session = connected(&server, 4);
    let _first = server
        .ask(&format!("POST /socket.io/?{session} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n42["));
    thread::sleep(Duration::from_millis(100));
    expect(server.post(&session, "42[\"echo\"]"), BAD);
    server.expect("disconnect / violation: two polls or two posts at the same time");
    expect(server.poll(&session), UNKNOWN);
}

#[test]
fn a_client_that_goes_in_the_middle_of_a_request_ends_its_session() {
    let server = Server::start(config());
    for request in [
        "GET /socket.io/?SESSION HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST /socket.io/?SESSION HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n42[",
    ] {
        let session = connected(&server, 4);
        let asked = server.ask(&request.replace("SESSION", &session));
        thread::sleep(Duration::from_millis(100));
        drop(asked);
        server.expect("disconnect / transport_close");
        expect(server.poll(&session), UNKNOWN);
    }
}

#[test]
fn a_body_that_does_not_come_is_given_up() {
    let server = Server::start(Config { body_timeout: Duration::from_millis(200), ..config() });
    let session = connected(&server, 4);
    let (status, _) = server.http(&format!(
        "POST /socket.io/?{session} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 9\r\n\r\n42["
    ));
    assert_eq!(status, 408);
    server.expect("disconnect / transport_close");
}

#[test]
fn a_session_says_goodbye_in_its_polls() {
    let server = Server::start(config());
    // The client's own goodbye ends its poll and nothing more.
    let session = connected(&server, 4);

    let waiting = server.ask_poll(&session);
    until_waiting(&server);
    expect(server.post(&session, "1"), (200, "ok"));
    expect(waiting.answer(), (200, "6"));
    server.expect("disconnect / client_close");
    expect(server.poll(&session), UNKNOWN);

    // The server's comes after what is queued, with the poll that waits or the next one. Who shall come back is not
    // told to close.
    for (code, number, goodbye) in [
        (CloseCode::NORMAL, 1000, "1"),
        (CloseCode::SERVICE_RESTART, 1012, "6"),
        (CloseCode(1013), 1013, "6"),
    ] {
        let session = connected(&server, 4);
        server.run(move |worker| {
            worker.sockets()[0].push(&Frame::event("last", ""));
            worker.sockets()[0].close(code, "");
        });
        expect(server.poll(&session), (200, &format!("42[\"last\"]\u{1e}{goodbye}")));
        server.expect(&format!("disconnect / server_close ({number})"));
        expect(server.poll(&session), UNKNOWN);
    }
    assert_eq!(server.run(|worker| worker.connections()), 0);
}

#[test]
fn heartbeats_run_over_polls() {
    let times = Config {
        ping_interval: Duration::from_millis(200),
        ping_timeout: Duration::from_millis(2_000),
        ..Config::default()
    };
    let server = Server::start(times);
    let session = connected(&server, 4);
    for _ in 0..3 {
        expect(server.poll(&session), (200, "2"));
        expect(server.post(&session, "3"), (200, "ok"));
    }
    // Nobody polls: the ping is never fetched.
    server.expect("disconnect / ping_timeout");
    expect(server.poll(&session), UNKNOWN);

    let session = connected(&server, 3);
    expect(server.post(&session, "6:2probe"), (200, "ok"));
    expect(server.poll(&session), (200, "6:3probe"));
    server.expect("disconnect / ping_timeout");
}

#[test]
fn a_polling_reader_that_is_slow_is_closed() {
    let server = Server::start(Config { outbox_bytes: 10_000, ..config() });
    let session = connected(&server, 4);
    server.run(|worker| {
        let socket = worker.sockets().remove(0);
        for _ in 0..20 {
            socket.push(&Frame::event("much", &format!("{:?}", "x".repeat(1_000))));
        }
    });
    server.expect("disconnect / outbox_bytes");
    // What was queued is dropped; python-socketio would stay away after a `close`.
    expect(server.poll(&session), (200, "6"));
}

#[test]
fn a_session_changes_to_a_websocket_and_nothing_is_lost() {
    for revision in [3, 4] {
        let server = Server::start(config());
        let session = connected(&server, revision);
        let noop = if revision == 3 { "1:6" } else { "6" };
        let websocket = session.replace("polling", "websocket");

        let waiting = server.ask_poll(&session);
        until_waiting(&server);
        let mut client = server.websocket(&websocket);
        client.send("2probe");
        client.expect("3probe");
        expect(waiting.answer(), (200, noop));
        // The client has not changed over yet: it may poll on, and is told what there is.
        expect(server.poll(&session), (200, noop));
        server.run(|worker| worker.sockets()[0].push(&Frame::event("between", "1")));
        client.raw(&[support::masked(0x81, b"5"), support::masked(0x81, br#"420["echo"]"#)].concat());
        client.expect(r#"42["between",1]"#);
        client.expect("430[]");
        server.expect("event echo  attachments=[] ack=Some(AckId(0))");
        // Its polling is over, and another WebSocket is only closed.
        expect(server.poll(&session), BAD);
        expect(server.post(&session, "42[\"echo\"]"), BAD);
        server.websocket(&websocket).expect_close(1008);
        client.send(r#"421["echo"]"#);
        client.expect("431[]");
        server.told();
        client.send("1");
        assert!(matches!(client.next(), Got::Close(_)));
        server.expect("disconnect / client_close");
    }
}

#[test]
fn a_change_that_fails_leaves_the_session_polling() {
    let server = Server::start(Config { upgrade_timeout: Duration::from_millis(300), ..config() });
    let session = connected(&server, 4);
    let websocket = session.replace("polling", "websocket");
    let rows: &[(&str, &[&str])] = &[
        ("no probe", &["5"]),
        ("a message before the change", &["2probe", "42[\"echo\"]"]),
        ("not a probe", &["2"]),
        ("silence", &[]),
        ("silence after the probe", &["2probe"]),
    ];
    for (name, said) in rows {
        let mut client = server.websocket(&websocket);
        for text in *said {
            client.send(text);
            if *text == "2probe" {
                client.expect("3probe");
            }
        }
        assert_eq!(client.next(), Got::Close(Some(1008)), "{name}");
        expect(server.post(&session, "420[\"echo\"]"), (200, "ok"));
        expect(server.poll(&session), (200, "430[]"));
        server.told();
    }
    let mut raw = server.websocket(&websocket);
    raw.raw(&[0xff, 0xff]);
    assert_eq!(raw.next(), Got::Close(Some(1008)));
    let wrong = websocket.replace("EIO=4", "EIO=3");
    let key = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    let (status, _) = server.http(&format!(
        "GET /socket.io/?{wrong} HTTP/1.1\r\nHost: x\r\n{key}\r\n\r\nGET / HTTP/1.1\r\nConnection: close\r\n\r\n"
    ));
    assert_eq!(status, 400);
    assert!(server.told_nothing());
}

#[test]
fn requests_find_their_session_on_another_worker() {
    let mut seats = seats(2).into_iter();
    let (owner, other) = (
        Server::start_at(seats.next().unwrap(), config()),
        Server::start_at(seats.next().unwrap(), config()),
    );
    // The other has not begun anything: whom it might own is unknown.
    expect(owner.poll("EIO=4&transport=polling&sid=AQAAAAAAAAAAAAAAAAAA"), UNKNOWN);
    let session = owner.polling(4);
    expect(other.post(&session, "40"), (200, "ok"));
    let (_, body) = other.poll(&session);
    assert!(body.starts_with("40{"), "{body}");
    owner.expect("connect / auth= query=");

    let waiting = other.ask_poll(&session);
    until_waiting(&owner);
    expect(owner.post(&session, "420[\"echo\"]"), (200, "ok"));
    expect(waiting.answer(), (200, "430[]"));
    owner.told();

    // The WebSocket comes to the other one and moves to the session's own thread.
    let mut client = other.websocket(&session.replace("polling", "websocket"));
    client.send("2probe");
    client.expect("3probe");
    client.send("5");
    client.send("421[\"echo\"]");
    client.expect("431[]");
    owner.expect("event echo  attachments=[] ack=Some(AckId(1))");
    assert!(other.told_nothing());
    assert_eq!(other.stats.handed_over.load(std::sync::atomic::Ordering::Relaxed), 5 + 1);
    expect(other.poll(&session), BAD);

    // A poll whose client goes is noticed across threads, too.
    let session = connected(&owner, 4);
    let asked = other.ask_poll(&session);
    thread::sleep(Duration::from_millis(100));
    drop(asked);
    owner.expect("disconnect / transport_close");
}

#[test]
fn a_drain_lets_polling_clients_come_for_their_goodbye() {
    let server = Server::start(config());
    let session = connected(&server, 4);
    server.run(|worker| {
        let worker = worker.clone();
        tokio::task::spawn_local(async move {
            worker.drain(CloseCode::SERVICE_RESTART, Duration::from_secs(10)).await;
        });
    });
    server.expect("disconnect / drain (1012)");
    expect(server.poll("EIO=4&transport=polling"), (503, "draining\n"));
    expect(server.poll(&session), (200, "6"));
    assert_eq!(server.run(|worker| worker.connections()), 0);
}

/// Has a worker drain, and tells when it has.
fn drain(server: &Server) -> mpsc::Receiver<()> {
    let (sender, drained) = mpsc::channel();
    server.run(move |worker| {
        let worker = worker.clone();
        tokio::task::spawn_local(async move {
            worker.drain(CloseCode::SERVICE_RESTART, Duration::from_secs(10)).await;
            sender.send(()).unwrap();
        });
    });
    drained
}

#[test]
fn a_drain_waits_for_answers_on_their_way_out() {
    let mut seats = seats(2).into_iter();
    let (owner, other) = (
        Server::start_at(seats.next().unwrap(), config()),
        Server::start_at(seats.next().unwrap(), config()),
    );
    let session = owner.polling(4);
    // The other worker has to run before it is asked.
    expect(other.post(&session, "40"), (200, "ok"));
    other.poll(&session);
    // The session is one worker's, its poll waits on the other, and the answer is more than a socket takes.
    let waiting = other.ask_poll(&session);
    until_waiting(&owner);
    let text = "x".repeat(900_000);
    let event = format!("{text:?}");
    owner.run(move |worker| worker.sockets()[0].push(&Frame::event("large", &event)));
    let drained = [drain(&other), drain(&owner)];
    thread::sleep(Duration::from_millis(100));
    let reading = thread::spawn(move || waiting.answer());
    drained.iter().for_each(|drained| drained.recv_timeout(PATIENCE).expect("a drain ends"));
    // Their runtimes go, and with them whatever had not left.
    drop((owner, other));
    let (status, body) = reading.join().unwrap();
    assert_eq!((status, body.len()), (200, text.len() + r#"42["large",""]"#.len()));
}

#[test]
fn a_client_between_two_polls_is_no_slow_reader() {
    let server = Server::start(Config { outbox_age: Duration::from_millis(200), ..config() });
    let session = connected(&server, 4);
    server.run(|worker| worker.sockets()[0].push(&Frame::event("waits", "")));
    thread::sleep(Duration::from_millis(800));
    expect(server.poll(&session), (200, r#"42["waits"]"#));
}

#[test]
fn a_websocket_that_only_pings_is_refused() {
    let server = Server::start(config());
    let session = connected(&server, 4);
    let mut client = server.websocket(&session.replace("polling", "websocket"));
    client.raw(&support::masked(0x89, b"").repeat(1_000));
    for _ in 0..16 {
        assert_eq!(client.next(), Got::Pong(Vec::new()));
    }
    let end = client.next();
    assert!(matches!(end, Got::Close(Some(1008)) | Got::Reset), "{end:?}");
    expect(server.post(&session, "420[\"echo\"]"), (200, "ok"));
}

#[test]
fn other_ways_of_polling_are_refused_by_name() {
    let server = Server::start(config());
    let (status, body) = server.poll("EIO=3&transport=polling&j=0");
    assert_eq!(status, 400);
    assert!(body.contains("JSONP is not served"), "{body}");
    let only_websocket = Server::start(Config { polling: false, ..config() });
    expect(
        only_websocket.poll("EIO=4&transport=polling"),
        (400, r#"{"code":0,"message":"Transport unknown"}"#),
    );
}
