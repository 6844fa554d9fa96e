//! Clients that break rules: each is closed with the rule's code, and nobody else notices.

#[allow(unreachable_pub)] // shared by several test programs
mod support;

use std::time::Duration;

use socketio_server::{Config, HttpFault, Mode};
use support::{Client, Got, Server, config, masked};

#[test]
fn bad_frames_close_with_the_websocket_codes() {
    let server = Server::start(Config { max_payload: 1_000, ..config() });
    let mut unmasked = masked(0x81, b"2");
    unmasked[1] &= 0x7f;
    let rows: &[(&str, Vec<u8>, u16)] = &[
        ("no mask", unmasked, 1002),
        ("reserved bit", masked(0xc1, b"42[]"), 1002),
        ("reserved opcode", masked(0x83, b""), 1002),
        ("reserved control opcode", masked(0x8b, b""), 1002),
        ("fragmented ping", masked(0x09, b""), 1002),
        ("long ping", masked(0x89, &[0; 126]), 1002),
        ("continuation of nothing", masked(0x80, b"x"), 1002),
        ("message inside a message", [masked(0x01, b"4"), masked(0x81, b"4")].concat(), 1002),
        ("half a close code", masked(0x88, &[3]), 1002),
        ("close code nobody may send", masked(0x88, &1005_u16.to_be_bytes()), 1002),
        ("bad UTF-8", masked(0x81, b"42[\"\xff\"]"), 1007),
        ("bad UTF-8 over fragments", [masked(0x01, b"4\xed"), masked(0x80, b"\xa0\x80")].concat(), 1007),
        ("bad UTF-8 in a close", masked(0x88, b"\x03\xe8\xff"), 1007),
        ("too large", masked(0x81, &[b'4'; 1_001]), 1009),
        ("too large in its header alone", vec![0x82, 0xff, 0, 0, 0, 0, 0, 0, 4, 0, 1, 2, 3, 4], 1009),
        ("too large over fragments", [masked(0x01, &[b'4'; 600]), masked(0x80, &[b'4'; 600])].concat(), 1009),
    ];
    let mut bystander = server.client(4);
    for (name, bytes, code) in rows {
        let mut client = server.client(4);
        client.raw(bytes);
        assert_eq!(client.next(), Got::Close(Some(*code)), "{name}");
        assert_eq!(client.next(), Got::Eof, "{name}");
        assert!(
            server.told().starts_with(if *code == 1000 { "" } else { "disconnect / violation" }),
            "{name}"
        );
        bystander.send(r#"420["echo"]"#);
        bystander.expect("430[]");
        server.told();
    }
    let violations = server.stats.closed_by_reason().find(|(name, _)| *name == "violation").unwrap().1;
    assert_eq!(violations, rows.len() as u64);
}

#[test]
fn bad_packets_close_as_the_official_server_closes() {
    let server = Server::start(config());
    let placeholder = r#"451-["echo",{"_placeholder":true,"num":0}]"#;
    let rows: &[(&str, u8, &[&str])] = &[
        ("unknown engine packet", 4, &["abc"]),
        ("empty message", 4, &[""]),
        ("ping from a revision 4 client", 4, &["2"]),
        ("pong from a revision 3 client", 3, &["3"]),
        ("unknown packet type", 4, &["4abc"]),
        ("payload that is no array", 4, &["42{}"]),
        ("no payload", 4, &["42"]),
        ("bad ack id", 4, &[r#"42abc["echo"]"#]),
        ("ack id beyond 2^53", 4, &[r#"429007199254740993["echo"]"#]),
        ("broken JSON", 4, &[r#"42["echo",]"#]),
        ("no name", 4, &["42[]"]),
        ("name of the protocol's own", 4, &[r#"42["disconnect"]"#]),
        ("unknown namespace", 4, &[r#"42/room,["echo"]"#]),
        ("connected twice", 4, &["40"]),
        ("CONNECT with broken JSON", 4, &["40/room,{"]),
        ("CONNECT_ERROR", 4, &["44"]),
        ("text where an attachment is due", 4, &[placeholder, r#"42["echo"]"#]),
        ("placeholder without attachment", 4, &[r#"451-["echo",{"_placeholder":true,"num":1}]"#]),
        ("too many attachments", 4, &[r#"4565-["echo"]"#]),
        ("too many attachments, old", 3, &[r#"4565-["echo"]"#]),
    ];
    for (name, revision, texts) in rows {
        let mut client = server.client(*revision);
        for text in *texts {
            client.send(text);
        }
        assert_eq!(client.next(), Got::Close(Some(1008)), "{name}");
        assert_eq!(client.next(), Got::Eof, "{name}");
        assert!(server.told().starts_with("disconnect / violation: "), "{name}");
    }
    let mut client = server.client(4);
    client.send_binary(b"nobody asked");
    client.expect_close(1008);
}

#[test]
fn packets_before_the_connect_close() {
    let server = Server::start(config());
    let mut client = server.websocket("EIO=4&transport=websocket");
    client.text();
    client.send(r#"42["echo"]"#);
    client.expect_close(1008);
    assert!(server.told_nothing());
}

#[test]
fn a_session_holds_a_limited_number_of_namespaces() {
    let server = Server::start(Config { max_namespaces: 3, ..config() });
    let mut client = server.client(4);
    for n in 0..2 {
        client.send(&format!("40/{n},"));
        client.text();
        client.text();
    }
    client.send("40/2,");
    client.expect_close(1008);
}

#[test]
fn a_message_may_come_in_any_cut() {
    let server = Server::start(config());
    let mut client = server.client(4);
    let text = format!(r#"42["echo","{}"]"#, "긴 글 ".repeat(40));
    let mut bytes = masked(0x81, text.as_bytes());
    let (begin, end) = text.as_bytes().split_at(101);
    // Fragmented in the middle of a character, a ping between the parts.
    bytes.extend(masked(0x01, begin));
    bytes.extend(masked(0x89, b"alive"));
    bytes.extend(masked(0x80, end));
    for step in [1, 2, 3, 7, 50] {
        for piece in bytes.chunks(step) {
            client.raw(piece);
        }
        // A pong goes before what is queued, so its place depends on what was read together.
        let got = [client.next(), client.next(), client.next()];
        assert_eq!(got.iter().filter(|got| **got == Got::Text(text.clone())).count(), 2, "step {step}");
        assert!(got.contains(&Got::Pong(b"alive".to_vec())), "step {step}: {got:?}");
    }
    let large = format!(r#"42["echo","{}"]"#, "x".repeat(900_000));
    client.send(&large);
    client.expect(&large);
}

#[test]
fn attachments_together_obey_the_limit() {
    let server = Server::start(Config { max_payload: 1_000, ..config() });
    let mut client = server.client(4);
    client.send(r#"452-["echo",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#);
    client.send_binary(&[0; 600]);
    client.send_binary(&[0; 600]);
    client.expect_close(1008);
}

#[test]
fn a_request_that_does_not_come_is_not_waited_for() {
    let server = Server::start(Config { header_timeout: Duration::from_millis(50), ..config() });
    for (beginning, expected) in [("", 0), ("GET /socket.io/ HTTP/1.1\r\nHos", 408)] {
        assert_eq!(server.http(beginning).0, expected, "{beginning:?}");
    }
    assert_eq!(server.stats.http_fault(HttpFault::HeadTimeout), 2);
}

#[test]
fn a_head_has_limits() {
    let server = Server::start(config());
    let many = |count: usize| -> String { (0..count).map(|n| format!("X-{n}: y\r\n")).collect() };
    let long = |length: usize| format!("X-Long: {}\r\n", "y".repeat(length));
    for (headers, fits) in [(many(60), true), (many(65), false), (long(12_000), true), (long(20_000), false)]
    {
        let request = format!("GET /socket.io/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
        let (status, _) = server.http(&request);
        assert_eq!(status, if fits { 400 } else { 431 });
    }
}

#[test]
fn a_refused_engine_session_closes() {
    // In this mode the application may only close; here a text message that is too large does it.
    let server = Server::start(Config { mode: Mode::EngineIo, max_payload: 10, ..config() });
    let mut client: Client = server.websocket("EIO=4&transport=websocket");
    client.text();
    client.send("4 far too long");
    client.expect_close(1009);
    server.told();
    assert!(server.told().starts_with("disconnect  violation: "));
}

/// Runs itself once more as a child, where a handler panics: the process must end, not go on without a worker.
#[test]
fn a_panic_in_the_application_ends_the_process() {
    if std::env::var_os("PANIC_CHILD").is_some() {
        let server = Server::start(config());
        let mut client = server.client(4);
        client.send(r#"42["panic"]"#);
        client.next();
        // Outlived only when the panic was swallowed.
        std::thread::park_timeout(support::PATIENCE);
        std::process::exit(0);
    }
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_panic_in_the_application_ends_the_process", "--nocapture"])
        .env("PANIC_CHILD", "1")
        .output()
        .unwrap();
    assert!(!child.status.success());
    let said = String::from_utf8_lossy(&child.stderr);
    assert!(said.contains("asked to") && said.contains("aborting"), "{said}");
}
