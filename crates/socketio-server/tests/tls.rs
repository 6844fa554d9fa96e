//! The same server over TLS: what is said arrives, whoever reads slowly or breaks rules is ended as over TCP.

#[path = "support/tls.rs"]
mod ends;
#[allow(unreachable_pub)] // shared by several test programs
mod support;

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use socketio_client::{Closed, Kind, Options, connect, tls};
use socketio_server::{Config, Frame, Reason, seats};
use support::{Client, Got, PATIENCE, Server, config};

type TlsClient = Client<ends::TlsStream>;

/// A server with a certificate of its own, made now.
fn start(config: Config) -> Server {
    Server::start_with(config, accept())
}

fn accept() -> support::Accept {
    let tls = ends::server_config();
    Box::new(move |worker, stream, peer| worker.accept_tls(stream, peer, tls.clone()))
}

fn tls_stream(tcp: TcpStream, config: Arc<ClientConfig>) -> ends::TlsStream {
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    tcp.set_nodelay(true).unwrap();
    ends::client_stream(tcp, config)
}

fn connected(server: &Server, tcp: TcpStream) -> TlsClient {
    let mut client = Client::over(tls_stream(tcp, tls::insecure()), "EIO=4&transport=websocket");
    assert!(client.text().starts_with("0{"));
    client.send("40");
    assert!(client.text().starts_with("40"));
    client.expect(r#"42["hello","/"]"#);
    server.expect("connect / auth= query=");
    client
}

fn client(server: &Server) -> TlsClient {
    connected(server, TcpStream::connect(server.address).unwrap())
}

/// A client whose kernel takes little, so that a server notices soon that it does not read.
fn narrow(server: &Server) -> TlsClient {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4 << 10).unwrap();
    socket.connect(&server.address.into()).unwrap();
    connected(server, socket.into())
}

/// What a bystander does while others misbehave.
fn echoes(server: &Server, bystander: &mut TlsClient) {
    bystander.send(r#"420["echo",1]"#);
    bystander.expect("430[1]");
    assert!(server.told().starts_with("event echo"));
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[tokio::test]
async fn socketio_client_is_answered_over_wss_however_long_its_messages() {
    let server = start(config());
    let mut options = Options::new(&format!("https://localhost:{}", server.address.port())).unwrap();
    options.tls = Some(tls::insecure());
    let mut client = connect(&options).await.unwrap().client;
    assert_eq!(client.next().await.unwrap().data, r#"["hello","/"]"#);
    // Less than a record, exactly one, several, more than any socket buffer takes at once.
    for length in [5, (16 << 10) - 30, 16 << 10, 40_000, 900_000] {
        let argument = format!(r#""{}""#, "t".repeat(length));
        let id = client.emit_with_ack("/", "echo", &argument).await.unwrap();
        let answer = client.next().await.unwrap();
        assert_eq!((answer.kind, answer.ack), (Kind::Ack, Some(id)));
        assert_eq!(answer.data, format!("[{argument}]"), "{length} characters");
    }
    let attachment = vec![7; 500_000];
    let event = r#"["echo",{"_placeholder":true,"num":0}]"#;
    client.emit_binary("/", None, event, &[attachment.clone().into()]).await.unwrap();
    let answer = client.next().await.unwrap();
    assert_eq!(answer.data, event);
    assert_eq!(answer.attachments, [attachment]);
    assert_eq!(client.close().await, Closed::Local);
}

/// One request on a connection of its own; the answer's body.
fn body(server: &Server, request: &str) -> String {
    let mut stream = tls_stream(TcpStream::connect(server.address).unwrap(), tls::insecure());
    write!(stream, "{request}").unwrap();
    // An end without `close_notify` would be an error.
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

#[test]
fn a_session_changes_from_polling_to_a_websocket_that_arrived_on_another_thread() {
    let mut seats = seats(2).into_iter();
    let owner = Server::start_accepting(seats.next().unwrap(), config(), accept());
    let other = Server::start_accepting(seats.next().unwrap(), config(), accept());
    let get = |server: &Server, query: &str| {
        body(server, &format!("GET /socket.io/?{query} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
    };
    let open = get(&owner, "EIO=4&transport=polling");
    let sid = open.split('"').nth(3).expect("a session id");
    let session = format!("EIO=4&transport=polling&sid={sid}");
    let connect = format!(
        "POST /socket.io/?{session} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\n40"
    );
    assert_eq!(body(&other, &connect), "ok");
    assert!(get(&other, &session).starts_with("40{"));
    owner.expect("connect / auth= query=");

    let tcp = TcpStream::connect(other.address).unwrap();
    let query = session.replace("polling", "websocket");
    let mut client = Client::over(tls_stream(tcp, tls::insecure()), &query);
    client.send("2probe");
    client.expect("3probe");
    client.send("5");
    for length in [1, 100_000] {
        let text = "t".repeat(length);
        client.send(&format!(r#"421["echo","{text}"]"#));
        client.expect(&format!(r#"431["{text}"]"#));
        assert!(owner.told().starts_with("event echo"));
    }
    assert!(other.told_nothing());
    client.frame(0x88, &1000_u16.to_be_bytes());
    client.expect_close(1000);
    owner.expect("disconnect / client_close (1000)");
}

#[test]
fn bytes_arrive_whatever_the_records() {
    let server = start(config());
    let mut client = client(&server);
    let one = support::masked(0x81, br#"420["echo","one"]"#);
    // A record for each byte, then many frames in one record, then a frame over many records.
    one.iter().for_each(|byte| client.raw(&[*byte]));
    client.expect(r#"430["one"]"#);
    client.raw(&one.repeat(200));
    (0..200).for_each(|_| client.expect(r#"430["one"]"#));
    let long = "l".repeat(300_000);
    client.send(&format!(r#"420["echo","{long}"]"#));
    client.expect(&format!(r#"430["{long}"]"#));
}

#[test]
fn a_long_burst_keeps_its_order() {
    let server = start(config());
    let mut client = client(&server);
    let frames = 10_000;
    server.run(move |worker| {
        let socket = worker.sockets().remove(0);
        tokio::task::spawn_local({
            let worker = worker.clone();
            async move {
                for n in 0..frames {
                    socket.push(&Frame::event("n", &n.to_string()));
                    if n % 1_000 == 0 {
                        worker.flushed().await;
                    }
                }
            }
        });
    });
    for n in 0..frames {
        client.expect(&format!(r#"42["n",{n}]"#));
    }
}

#[test]
fn a_slow_reader_is_closed_with_4008_and_its_neighbour_hears_everything() {
    let bound = 200_000;
    let server = start(Config { outbox_bytes: bound, ..config() });
    let mut slow = narrow(&server);
    let mut bystander = client(&server);
    let padding = "x".repeat(2_000);
    let mut sent = 0;
    while server.stats.closed(&Reason::OutboxBytes) == 0 {
        let frame = Frame::event("flood", &format!(r#"{sent},"{padding}""#));
        server.run(move |worker| worker.sockets().iter().for_each(|socket| socket.push(&frame)));
        assert!(bystander.text().starts_with(&format!(r#"42["flood",{sent},"#)));
        sent += 1;
        assert!(sent < 5_000, "the bound never bit: {} bytes are somewhere", sent * 2_000);
    }
    server.expect("disconnect / outbox_bytes");
    // Whole frames in order, then the reason, then TLS's own end.
    let mut heard = 0;
    let end = loop {
        match slow.next() {
            Got::Text(text) => assert!(text.starts_with(&format!(r#"42["flood",{heard},"#))),
            other => break other,
        }
        heard += 1;
    };
    assert_eq!(end, Got::Close(Some(4008)));
    assert_eq!(slow.next(), Got::Eof);
    // What it did not get waited in the outbox and was dropped there: TLS kept no queue of its own.
    let dropped = server.stats.frames_dropped.load(Relaxed) as usize;
    assert_eq!(heard + dropped, sent, "every frame is counted");
    assert!(dropped * 2_000 > bound / 2, "only {dropped} of {sent} frames had waited in the outbox");
    echoes(&server, &mut bystander);
}

#[test]
fn one_that_never_reads_again_is_reset() {
    let server = start(Config {
        outbox_age: Duration::from_millis(200),
        close_timeout: Duration::from_millis(200),
        ..config()
    });
    let _slow = narrow(&server);
    let frame = Frame::event("flood", &format!(r#""{}""#, "x".repeat(500_000)));
    server.run(move |worker| (0..2).for_each(|_| worker.sockets()[0].push(&frame)));
    server.expect("disconnect / outbox_age");
    until("the session is still there", || server.run(|worker| worker.connections()) == 0);
}

#[test]
fn half_a_handshake_ends_in_time_and_is_counted() {
    let server = start(Config { header_timeout: Duration::from_millis(200), ..config() });
    // Nothing; a record's header and no more; a record that promises a hello and brings its beginning.
    let rows: [&[u8]; 3] = [b"", b"\x16\x03\x01", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"];
    for (number, bytes) in rows.iter().enumerate() {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let start = Instant::now();
        stream.write_all(bytes).unwrap();
        ended(&mut stream);
        assert!(start.elapsed() >= Duration::from_millis(190), "row {number}: not before its time");
        until("counted", || server.stats.tls_failed.load(Relaxed) == number as u64 + 1);
    }
}

#[test]
fn handshakes_that_wait_are_bounded_in_number() {
    let server = start(Config { max_waiting: 2, ..config() });
    let mut bystander = client(&server);
    let mut silent: Vec<TcpStream> = Vec::new();
    for count in 1..=3 {
        silent.push(TcpStream::connect(server.address).unwrap());
        // In this order, so that it is known who has waited longest.
        until("accepted", || server.stats.accepted.load(Relaxed) == 1 + count);
        echoes(&server, &mut bystander);
    }
    silent[0].set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(ended(&mut silent[0]), b"");
    silent[1].set_nonblocking(true).unwrap();
    let waits = silent[1].read(&mut [0]).unwrap_err();
    assert_eq!(waits.kind(), ErrorKind::WouldBlock, "the second may still wait");
    assert_eq!(server.stats.tls_failed.load(Relaxed), 0, "nothing was wrong with it");
    echoes(&server, &mut bystander);
}

/// Reads to the end, which may be a reset, and gives what came before.
fn ended(stream: &mut impl std::io::Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => bytes,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => bytes,
        Err(error) => panic!("the connection goes on: {error}"),
    }
}

#[test]
fn what_is_no_tls_gets_a_clear_end() {
    let server = start(config());
    let mut bystander = client(&server);
    let request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    let rows: [(&str, &[u8], &[u8]); 4] = [
        ("plain HTTP", request, b"HTTP/1.1 400 Bad Request\r\n"),
        ("plain HTTP with a body", &[&request[..], &[b'b'; 9_000]].concat(), b"HTTP/1.1 400 Bad Request\r\n"),
        // Alert records: 0x15, the version, two bytes that say which.
        ("a record too long", b"\x16\x03\x01\xff\xff\x01", b"\x15\x03"),
        ("no hello in the record", b"\x16\x03\x01\x00\x04\x09\x00\x00\x00", b"\x15\x03"),
    ];
    for (number, (name, bytes, expected)) in rows.iter().enumerate() {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(bytes).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let answer = ended(&mut stream);
        assert!(answer.starts_with(expected), "{name}: {}", String::from_utf8_lossy(&answer));
        if expected.starts_with(b"HTTP") {
            let (head, body) = std::str::from_utf8(&answer).unwrap().split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())) && body.contains("https"));
        }
        until(name, || server.stats.tls_failed.load(Relaxed) == number as u64 + 1);
        echoes(&server, &mut bystander);
    }
    assert_eq!(server.stats.sessions.load(Relaxed), 1);
}

#[test]
fn http_11_is_the_only_protocol_offered() {
    let server = start(config());
    for (offered, expected) in
        [(&[b"h2".to_vec(), b"http/1.1".to_vec()][..], true), (&[b"h2".to_vec()], false)]
    {
        let mut client_config = ClientConfig::clone(&tls::insecure());
        client_config.alpn_protocols = offered.to_vec();
        let tcp = TcpStream::connect(server.address).unwrap();
        let mut stream = tls_stream(tcp, Arc::new(client_config));
        // Twice on one connection: HTTP goes on behind the handshake.
        let mut asked = || -> std::io::Result<String> {
            stream.write_all(b"GET /elsewhere HTTP/1.1\r\nHost: x\r\n\r\n")?;
            let mut answer = String::new();
            while !answer.ends_with("not found\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte)?;
                answer.push(byte[0].into());
            }
            Ok(answer)
        };
        for _ in 0..2 {
            match asked() {
                Ok(answer) => assert!(expected && answer.starts_with("HTTP/1.1 404 "), "{answer}"),
                Err(error) => assert!(!expected, "{error}"),
            }
        }
        let chosen = stream.conn.alpn_protocol();
        assert_eq!(chosen, expected.then_some(&b"http/1.1"[..]));
    }
    until("counted", || server.stats.tls_failed.load(Relaxed) == 1);
}

#[test]
fn broken_records_end_their_own_connection_alone() {
    let server = start(config());
    let mut bystander = client(&server);
    for (bytes, reason) in [
        // Application data that no key made.
        (
            &[
                0x17, 3, 3, 0, 32, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9,
                9, 9, 9, 9, 9, 9, 9,
            ][..],
            "disconnect / transport_error: invalid data",
        ),
        // The end without `close_notify`, which whoever cuts a cable can bring about as well.
        (&[], "disconnect / transport_close"),
    ] {
        let mut client = client(&server);
        client.stream.sock.write_all(bytes).unwrap();
        client.stream.sock.shutdown(Shutdown::Write).unwrap();
        server.expect(reason);
        echoes(&server, &mut bystander);
    }
}
