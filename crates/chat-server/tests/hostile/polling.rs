//! Long polling: bodies that are too large, too slow or too many, polls that only wait, sessions by the thousand.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::raw::{Client, Got, PATIENCE, masked};
use crate::stage::{Stage, closed, end_of, fault, http, read_all};
use crate::support::token;

const PATH: &str = "/socket.io/?EIO=4&transport=polling";

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").into_bytes()
}

fn post(sid: &str, fields: &str, body: &str) -> Vec<u8> {
    format!("POST {PATH}&sid={sid} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{fields}\r\n{body}")
        .into_bytes()
}

fn whole_post(sid: &str, body: &str) -> Vec<u8> {
    post(sid, &format!("Content-Length: {}\r\n", body.len()), body)
}

/// The session id of an open packet, wherever it stands.
fn sid_of(answer: &str) -> String {
    let (_, rest) = answer.split_once("\"sid\":\"").unwrap_or_else(|| panic!("no sid: {answer}"));
    rest.split('"').next().unwrap().to_owned()
}

/// A session that has joined the namespace.
fn session(stage: &Stage) -> String {
    let sid = sid_of(&http(stage.address(), &get(PATH)));
    let answer = http(stage.address(), &whole_post(&sid, &format!(r#"40{{"token":"{}"}}"#, token(667))));
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let answer = http(stage.address(), &get(&format!("{PATH}&sid={sid}")));
    assert!(answer.contains("\r\n\r\n40{"), "{answer}");
    sid
}

fn send(stage: &Stage, request: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(stage.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request).unwrap();
    stream
}

#[test]
fn bodies_that_are_too_much() {
    let stage = Stage::set("", "max_payload = 100000\nmessage_ms = 1000");
    let giant = "4".repeat(3_000_000);
    let chunked = format!("{:x}\r\n{giant}\r\n0\r\n\r\n", giant.len());
    let many = vec!["6"; 20_000].join("\x1e");
    let violation = closed("violation");
    type Row<'a> = (&'a str, &'a str, &'a str, &'a str, String);
    let too_large = fault("body_too_large");
    let rows: &[Row<'_>] = &[
        ("a giant body", "Content-Length: 3000000\r\n", &giant, "413", too_large.clone()),
        ("one that only says it is", "Content-Length: 3000000\r\n", "", "413", too_large.clone()),
        (
            "one that asks first",
            "Content-Length: 3000000\r\nExpect: 100-continue\r\n",
            "",
            "413",
            too_large.clone(),
        ),
        ("a giant chunk", "Transfer-Encoding: chunked\r\n", &chunked, "413", too_large),
        ("20,000 packets", "Content-Length: 39999\r\n", &many, "400", violation.clone()),
        ("an empty packet", "Content-Length: 2\r\n", "4\x1e", "400", violation.clone()),
        ("no packet", "Content-Length: 0\r\n", "", "400", violation.clone()),
        ("NaN", "Content-Length: 21\r\n", r#"420["save_msg",{a:NaN"#, "400", violation.clone()),
        ("a packet only servers send", "Content-Length: 1\r\n", "2", "400", violation.clone()),
        ("base64 that is none", "Content-Length: 3\r\n", "b!!", "400", violation),
    ];
    for (name, fields, body, status, sample) in rows {
        let sid = session(&stage);
        let answer = stage.counted(name, sample, || http(stage.address(), &post(&sid, fields, body)));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{name}: {answer}");
        assert!(!answer.contains(" 100 Continue"), "{name}: {answer}");
        // The session is over.
        let answer = http(stage.address(), &get(&format!("{PATH}&sid={sid}")));
        assert!(answer.starts_with("HTTP/1.1 400 "), "{name}: {answer}");
    }
    let sid = session(&stage);
    stage.counted("bad UTF-8", &closed("violation"), || {
        let mut request = post(&sid, "Content-Length: 6\r\n", "42[\"");
        request.extend_from_slice(b"\xff\"");
        assert!(http(stage.address(), &request).starts_with("HTTP/1.1 400 "));
    });
    let sid = session(&stage);
    stage.counted("a body that drips", &fault("body_timeout"), || {
        let mut stream = send(&stage, &post(&sid, "Content-Length: 5000\r\n", "4"));
        crate::slow::drip(&mut stream, b"2");
        assert!(read_all(&mut stream).starts_with("HTTP/1.1 408 "));
    });
    stage.end();
}

/// A second request hidden in the body of a POST is not answered, and what the server believes of the first is
/// what the standard says.
#[test]
fn smuggling_in_a_post() {
    let stage = Stage::usual();
    let hidden = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
    let both = "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n";
    let answer =
        http(stage.address(), &post(&session(&stage), both, &format!("3\r\n420\r\n0\r\n\r\n{hidden}")));
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    for fields in [
        "Content-Length: 1\r\nContent-Length: 2\r\n",
        "Content-Length: 1, 1\r\n",
        "X: y\r\n Content-Length: 1\r\n",
    ] {
        stage.counted(fields, &fault("malformed"), || {
            let answer = http(stage.address(), &post(&session(&stage), fields, &format!("6{hidden}")));
            assert!(
                answer.starts_with("HTTP/1.1 400 ") && answer.matches("HTTP/1.1 ").count() == 1,
                "{answer}"
            );
        });
    }
    stage.end();
}

#[test]
fn requests_a_session_does_not_allow() {
    let stage = Stage::usual();
    for (name, path, code) in [
        ("a session nobody has", format!("{PATH}&sid=AAAAAAAAAAAAAAAAAAAA"), 1),
        ("a session id that is none", format!("{PATH}&sid=%00"), 1),
        ("a session id of 5,000 bytes", format!("{PATH}&sid={}", "A".repeat(5_000)), 1),
        ("no such transport", "/socket.io/?EIO=4&transport=carrier-pigeon".to_owned(), 0),
        ("no such revision", "/socket.io/?EIO=5&transport=polling".to_owned(), 5),
        ("JSONP", format!("{PATH}&j=0"), 3),
    ] {
        let answer =
            stage.counted(name, "dna_handshakes_refused_total", || http(stage.address(), &get(&path)));
        assert!(
            answer.starts_with("HTTP/1.1 400 ") && answer.contains(&format!("{{\"code\":{code},")),
            "{name}: {answer}"
        );
    }
    let sid = session(&stage);
    stage.counted("two polls at a time", &closed("violation"), || {
        let mut first = send(&stage, &get(&format!("{PATH}&sid={sid}")));
        let second = http(stage.address(), &get(&format!("{PATH}&sid={sid}")));
        assert!(second.starts_with("HTTP/1.1 400 "), "{second}");
        assert!(read_all(&mut first).ends_with("\r\n\r\n1"), "the first is told of the end");
    });
    let sid = session(&stage);
    stage.counted("two posts at a time", &closed("violation"), || {
        let _first = send(&stage, &post(&sid, "Content-Length: 100\r\n", "4"));
        // The first head has to arrive first.
        std::thread::sleep(std::time::Duration::from_millis(100));
        let second = http(stage.address(), &whole_post(&sid, "6"));
        assert!(second.starts_with("HTTP/1.1 400 "), "{second}");
    });
    stage.end();
}

/// Polls that only wait cost a connection each and nobody's time; those whose clients vanish end their session.
#[test]
fn hundreds_of_polls_that_wait() {
    let stage = Stage::usual();
    let before = stage.dna.memory();
    let waiting: Vec<TcpStream> =
        (0..300).map(|_| send(&stage, &get(&format!("{PATH}&sid={}", session(&stage))))).collect();
    stage.until("all of them wait", || stage.metric("dna_connected") == 302);
    let grown = stage.dna.memory().saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes for 300 polls");
    drop(waiting);
    stage.until("all of them are gone", || stage.metric("dna_connected") == 2);
    stage.end();
}

/// Handshakes without end over one connection: each would leave a session behind for 45 s. The oldest that have
/// joined nothing go for the newest.
#[test]
fn sessions_by_the_thousand_over_one_connection() {
    for revision in ["4", "3"] {
        let stage = Stage::set("waiting_connections = 100\n", "");
        let before = stage.dna.memory();
        let request = format!("GET /socket.io/?EIO={revision}&transport=polling HTTP/1.1\r\nHost: x\r\n\r\n");
        let mut stream = TcpStream::connect(stage.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut buffer = vec![0; 64 << 10];
        // Somebody honest who has joined before.
        let sid = session(&stage);
        for _ in 0..2_000 {
            stream.write_all(request.as_bytes()).unwrap();
            let length = stream.read(&mut buffer).unwrap();
            assert!(buffer[..length].starts_with(b"HTTP/1.1 200 "));
        }
        let gone = stage.metric(&closed("too_many_newcomers"));
        assert!((1_890..=1_901).contains(&gone), "revision {revision}: {gone}");
        assert!(stage.metric("dna_connected") <= 110, "{}", stage.metric("dna_connected"));
        let grown = stage.dna.memory().saturating_sub(before);
        assert!(grown < 16 << 20, "revision {revision}: {grown} bytes more than before");
        let answer = http(stage.address(), &whole_post(&sid, r#"420["nonsense"]"#));
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        stage.end();
    }
}

/// Sessions that join as well are limited by their address, which a single connection would not be.
#[test]
fn sessions_of_one_address() {
    let stage = Stage::set("exempt_loopback = false\nconnections_per_address = 20\n", "");
    let sids: Vec<String> = (0..20).map(|_| session(&stage)).collect();
    stage.counted("one too many", &fault("too_many_sessions"), || {
        let answer = http(stage.address(), &get(PATH));
        assert!(answer.starts_with("HTTP/1.1 429 "), "{answer}");
    });
    // One that ends makes room for another.
    assert!(http(stage.address(), &whole_post(&sids[0], "1")).starts_with("HTTP/1.1 200 "));
    session(&stage);
    assert!(http(stage.address(), &get(PATH)).starts_with("HTTP/1.1 429 "));
    stage.end();
}

/// Bodies that promise much and bring almost all of it: together they may hold what `input_bytes` says; beyond,
/// 503, and small ones are taken all the same.
#[test]
fn unfinished_bodies_hold_a_bounded_amount() {
    let stage = Stage::set("", "input_bytes = 8000000\nmessage_ms = 60000");
    let sids: Vec<String> = (0..40).map(|_| session(&stage)).collect();
    let before = stage.dna.memory();
    let almost = "4".repeat(899_000);
    let bodies: Vec<TcpStream> = sids
        .iter()
        .map(|sid| {
            let mut stream = TcpStream::connect(stage.address()).unwrap();
            // Refused bodies are not read to their end.
            let _ = stream.write_all(&post(sid, "Content-Length: 900000\r\n", &almost));
            stream
        })
        .collect();
    stage.until("most of them are refused", || (31..=36).contains(&stage.metric(&fault("bodies_full"))));
    let grown = stage.dna.memory().saturating_sub(before);
    assert!(grown < 48 << 20, "{grown} bytes for 36 MB of unfinished bodies");
    let sid = session(&stage);
    let answer = http(stage.address(), &whole_post(&sid, r#"420["nonsense"]"#));
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    drop(bodies);
    stage.until("all of them are gone", || stage.metric("dna_connected") <= 3);
    stage.end();
}

/// A WebSocket that claims a session and does not prove itself; the session goes on polling.
#[test]
fn upgrades_that_do_not_come_through() {
    let stage = Stage::usual();
    for (name, frame) in [
        ("a message in place of the probe", masked(0x81, br#"42["save_msg"]"#)),
        ("a giant in place of the probe", masked(0x81, &[b'2'; 100_000])),
        ("a broken frame", masked(0xc1, b"2probe")),
        ("binary", masked(0x82, b"2probe")),
        ("the end without the probe", masked(0x81, b"5")),
    ] {
        let sid = session(&stage);
        let stream = TcpStream::connect(stage.address()).unwrap();
        let mut client = Client::upgrade(stream, &format!("EIO=4&transport=websocket&sid={sid}"));
        client.raw(&frame);
        assert_eq!(end_of(&mut client), Got::Close(Some(1008)), "{name}");
        let answer = http(stage.address(), &whole_post(&sid, r#"421["nonsense"]"#));
        assert!(answer.starts_with("HTTP/1.1 200 "), "{name}: {answer}");
        let answer = http(stage.address(), &get(&format!("{PATH}&sid={sid}")));
        assert!(answer.contains("10404"), "{name}: {answer}");
    }
    stage.end();
}

/// Whoever is written to and does not poll is a slow reader.
#[test]
fn a_hearer_that_does_not_poll() {
    let stage = Stage::set("", "outbox_bytes = 300000");
    let sid = session(&stage);
    let (lng, lat) = crate::support::HERE;
    let store = format!(r#"42["store",{{"position":[{lng},{lat}],"radius":500}}]"#);
    assert!(http(stage.address(), &whole_post(&sid, &store)).starts_with("HTTP/1.1 200 "));
    let mut speaker = stage.attacker();
    stage.until("it has heard too much", || {
        crate::slow::say_much(&mut speaker);
        stage.metric(&closed("outbox_bytes")) == 1
    });
    let answer = http(stage.address(), &get(&format!("{PATH}&sid={sid}")));
    // A poll that ends empty, then an unknown session: it comes back by itself.
    assert!(answer.ends_with("\r\n\r\n6") || answer.starts_with("HTTP/1.1 400 "), "{answer}");
    let answer = http(stage.address(), &get(&format!("{PATH}&sid={sid}")));
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    stage.end();
}
