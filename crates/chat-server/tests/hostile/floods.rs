//! Many at once: connections of one address, connections that say nothing, pings, events, sessions.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr, TcpStream};

use crate::raw::{Client, Got, masked};
use crate::stage::{Stage, ack, closed, end_of, fault, read_all, refused};

/// A connection from this loopback address.
fn from(address: &str, to: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(address.parse::<IpAddr>().unwrap(), 0).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(crate::raw::PATIENCE)).unwrap();
    stream
}

#[test]
fn connections_of_one_address() {
    let stage = Stage::set("exempt_loopback = false\nconnections_per_address = 20\n", "");
    let attackers: Vec<Client> = (0..20)
        .map(|_| Client::upgrade(from("127.0.0.2", stage.address()), "EIO=4&transport=websocket"))
        .collect();
    let sample = "dna_addresses_refused_total{limit=\"connections\"}";
    stage.counted("one too many", sample, || {
        let answer = read_all(&mut from("127.0.0.2", stage.address()));
        assert!(answer.starts_with("HTTP/1.1 429 ") && answer.ends_with("soon"), "{answer}");
    });
    // Another address is not concerned, and neither is this one when the others have gone.
    Client::upgrade(from("127.0.0.3", stage.address()), "EIO=4&transport=websocket");
    drop(attackers);
    stage.until("their places are free", || stage.metric("dna_connected") <= 3);
    Client::upgrade(from("127.0.0.2", stage.address()), "EIO=4&transport=websocket");
    assert_eq!(stage.metric(sample), 1);
    stage.end();
}

#[test]
fn connections_faster_than_allowed() {
    let limits = "exempt_loopback = false\nper_address = { per_second = 1.0, burst = 30.0 }\n";
    let stage = Stage::set(limits, "");
    let answers: Vec<String> =
        (0..100).map(|_| read_all(&mut from_and_ask("127.0.0.2", stage.address()))).collect();
    let served = answers.iter().filter(|answer| answer.starts_with("HTTP/1.1 200 ")).count();
    let refused = answers.iter().filter(|answer| !answer.starts_with("HTTP/1.1 200 ")).count();
    assert!((30..70).contains(&served), "{served} of 100 were served");
    assert!(answers.iter().any(|answer| answer.starts_with("HTTP/1.1 429 ")));
    // Asked from another address: this one has its own bucket, and so has the bystander's.
    let metrics = read_all(&mut ask(from("127.0.0.3", stage.address()), "/metrics"));
    assert!(
        metrics.contains(&format!("dna_addresses_refused_total{{limit=\"rate\"}} {refused}\n")),
        "{metrics}"
    );
    stage.end();
}

fn ask(mut stream: TcpStream, path: &str) -> TcpStream {
    // Refused at accept, it may be gone already.
    let _ = write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream
}

fn from_and_ask(address: &str, to: SocketAddr) -> TcpStream {
    ask(from(address, to), "/healthz")
}

/// Silent connections and half heads by the hundred: the oldest go, newcomers with a request get in.
#[test]
fn half_open_connections() {
    let stage = Stage::set("waiting_connections = 100\n", "head_ms = 60000");
    let before = stage.dna.memory();
    let mut waiting: Vec<TcpStream> = Vec::new();
    for n in 0..500 {
        let mut stream = TcpStream::connect(stage.address()).unwrap();
        if n % 2 == 0 {
            stream.write_all(b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\nX:").unwrap();
        }
        waiting.push(stream);
        if n % 100 == 99 {
            // Somebody honest in the middle of it.
            let mut client = stage.attacker();
            client.send(r#"421["nonsense"]"#);
            assert_eq!(ack(&mut client, 1)["code"], 10404);
        }
    }
    stage.until("all but a hundred are closed", || stage.metric(&fault("too_many_waiting")) >= 400);
    let is_closed = |stream: &TcpStream| {
        stream.set_nonblocking(true).unwrap();
        let closed =
            !matches!(stream.peek(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock);
        stream.set_nonblocking(false).unwrap();
        closed
    };
    let first = waiting[..300].iter().filter(|stream| is_closed(stream)).count();
    let last = waiting[450..].iter().filter(|stream| is_closed(stream)).count();
    assert_eq!((first, last), (300, 0), "the oldest go first");
    let grown = stage.dna.memory().saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes more than before");
    stage.end();
}

/// Sessions that come and go leave nothing behind.
#[test]
fn a_thousand_sessions_that_come_and_go() {
    let stage = Stage::usual();
    (0..100).for_each(|_| drop(stage.attacker()));
    let before = stage.dna.memory();
    (0..1_000).for_each(|_| drop(stage.attacker()));
    stage.until("they are gone", || stage.metric("dna_connected") == 2);
    let grown = stage.dna.memory().saturating_sub(before);
    assert!(grown < 8 << 20, "{grown} bytes more than before");
    stage.end();
}

/// Pings whose answers nobody reads: the same as any slow reader.
#[test]
fn pings_without_end() {
    let stage = Stage::set("", "outbox_bytes = 20000");
    stage.counted("pings", &closed("outbox_bytes"), || {
        let mut client = stage.hearer(4 << 10);
        let pings: Vec<u8> = (0..500).flat_map(|_| masked(0x89, &[b'p'; 100])).collect();
        while client.stream.write_all(&pings).is_ok() && stage.metric(&closed("outbox_bytes")) == 0 {}
        assert_eq!(end_of(&mut client), Got::Close(Some(4008)));
    });
    stage.end();
}

/// Events beyond the connection's rate: each is answered with its refusal, and none reaches the store.
#[test]
fn events_faster_than_allowed() {
    let stage = Stage::set("per_connection = { per_second = 100.0, burst = 300.0 }\n", "");
    let mut client = stage.attacker();
    let flood: Vec<u8> =
        (0..3_000).flat_map(|id| masked(0x81, format!(r#"42{id}["nonsense"]"#).as_bytes())).collect();
    client.raw(&flood);
    let codes: Vec<u64> = (0..3_000).map(|id| ack(&mut client, id)["code"].as_u64().unwrap()).collect();
    let refused_count = codes.iter().filter(|code| **code == 10429).count() as u64;
    assert!(codes[..300].iter().all(|code| *code == 10404));
    assert!((2_000..=2_700).contains(&refused_count), "{refused_count}");
    assert_eq!(stage.metric(&refused(10429)), refused_count);
    stage.end();
}
