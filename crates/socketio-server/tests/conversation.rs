//! What is said in an ordinary life: handshake, namespaces, events, acks, attachments, goodbye.

#[allow(unreachable_pub)] // shared by several test programs
mod support;

use std::io::{Read, Write};
use std::net::TcpStream;

use socketio_server::{CloseCode, Config, Frame, Mode};
use support::{Client, Got, PATIENCE, Server, config};

#[test]
fn the_open_packet_names_times_and_limits() {
    let server = Server::start(config());
    for revision in [3, 4] {
        let mut client = server.websocket(&format!("EIO={revision}&transport=websocket"));
        let open = client.text();
        let open: serde_json::Value = serde_json::from_str(open.strip_prefix('0').unwrap()).unwrap();
        assert_eq!(open["pingInterval"], 300_000);
        assert_eq!(open["pingTimeout"], 300_000);
        assert_eq!(open["upgrades"], serde_json::json!([]));
        assert_eq!(open["sid"].as_str().unwrap().len(), 20);
        let max_payload = (revision == 4).then_some(1_000_000);
        assert_eq!(open.get("maxPayload").and_then(serde_json::Value::as_i64), max_payload);
    }
}

#[test]
fn refused_requests_get_the_official_code() {
    let server = Server::start(config());
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let bad_key = upgrade.replace("bm9uY2U", "!");
    let bad_key = bad_key.replace("Key: dGhl", "Key: ");
    let old = upgrade.replace("Version: 13", "Version: 8");
    let close = "Connection: close\r\n";
    let unknown = r#"{"code":0,"message":"Transport unknown"}"#;
    let bad = r#"{"code":3,"message":"Bad request"}"#;
    let version = r#"{"code":5,"message":"Unsupported protocol version"}"#;
    let nobody = r#"{"code":1,"message":"Session ID unknown"}"#;
    let rows = [
        ("POST /socket.io/?EIO=4&transport=polling&sid=x", close, 400, nobody),
        ("GET /socket.io/?EIO=4", close, 400, unknown),
        ("GET /socket.io/?EIO=4&transport=abc", close, 400, unknown),
        ("GET /socket.io/", close, 400, unknown),
        ("GET /socket.io/?EIO=4&transport=websocket&sid=nobody", upgrade, 400, nobody),
        (
            "POST /socket.io/?EIO=4&transport=websocket",
            close,
            400,
            r#"{"code":2,"message":"Bad handshake method"}"#,
        ),
        ("GET /socket.io/?EIO=4&transport=websocket", close, 400, bad),
        ("GET /socket.io/?EIO=4&transport=websocket", &bad_key, 400, bad),
        ("GET /socket.io/?EIO=4&transport=websocket", &old, 426, bad),
        ("GET /socket.io/?transport=websocket", upgrade, 400, version),
        ("GET /socket.io/?EIO=5&transport=websocket", upgrade, 400, version),
        ("GET /elsewhere", close, 404, "not found\n"),
    ];
    for (line, headers, status, body) in rows {
        // Requests that asked for an upgrade leave the connection open: have it closed by the next one.
        let closing = format!("GET /last HTTP/1.1\r\nHost: x\r\n{close}\r\n");
        let then = if headers == close { "" } else { &closing };
        let (got, answer) = server.http(&format!("{line} HTTP/1.1\r\nHost: x\r\n{headers}\r\n{then}"));
        let answer = answer.split("HTTP/1.1").next().unwrap();
        assert_eq!((got, answer), (status, body), "{line}");
    }
    assert!(server.told_nothing());
}

#[test]
fn revision_4_asks_for_its_namespace_and_is_answered_before_anything_else() {
    let server = Server::start(config());
    let mut client = server.websocket("EIO=4&transport=websocket");
    client.text();
    client.send(r#"40{"token":"t"}"#);
    let answer = client.text();
    let answer: serde_json::Value = serde_json::from_str(answer.strip_prefix("40").unwrap()).unwrap();
    assert_eq!(answer["sid"].as_str().unwrap().len(), 20);
    client.expect(r#"42["hello","/"]"#);
    server.expect(r#"connect / auth={"token":"t"} query="#);
}

#[test]
fn revision_3_is_in_the_default_namespace_from_the_start() {
    let server = Server::start(config());
    let mut client = server.websocket("EIO=3&transport=websocket");
    client.text();
    client.expect("40");
    client.expect(r#"42["hello","/"]"#);
    server.expect("connect / auth= query=");
    client.send("40/room?token=a%20b,");
    client.expect("40/room,");
    client.expect(r#"42/room,["hello","/room"]"#);
    server.expect("connect /room auth= query=token=a%20b");
}

#[test]
fn a_refused_namespace_is_told_why_and_hears_nothing_else() {
    let server = Server::start(config());
    let rows = [
        (4, "40/refused,{}", r#"44/refused,{"message":"no","data":{"code":7}}"#),
        (4, "40/unknown,", r#"44/unknown,{"message":"Invalid namespace"}"#),
        (3, "40/refused", r#"44/refused,{"code":7}"#),
        (3, "40/unknown", r#"44/unknown,"Invalid namespace""#),
    ];
    for (revision, request, answer) in rows {
        let mut client = server.client(revision);
        client.send(request);
        client.expect(answer);
        assert!(server.told().starts_with("connect "));
        // The session lives on.
        client.send(r#"42["echo",1]"#);
        client.expect(r#"42["echo",1]"#);
        assert!(server.told().starts_with("event echo 1"));
        drop(client);
        assert_eq!(server.told(), "disconnect / transport_close", "{request}");
    }
}

#[test]
fn events_and_acks_keep_their_arguments_and_numbers() {
    let server = Server::start(config());
    for revision in [3, 4] {
        let mut client = server.client(revision);
        client.send(r#"42["echo",1,"2",{"3":[true]}]"#);
        client.expect(r#"42["echo",1,"2",{"3":[true]}]"#);
        server.expect(r#"event echo 1,"2",{"3":[true]} attachments=[] ack=None"#);
        client.send(r#"42456["echo",{"a":"한"}]"#);
        client.expect(r#"43456[{"a":"한"}]"#);
        assert!(server.told().ends_with("ack=Some(AckId(456))"));
        client.send(r#"420["echo"]"#);
        client.expect("430[]");
        server.told();
        client.send(r#"42["ask"]"#);
        client.expect(r#"420["question",1]"#);
        server.told();
        client.send(r#"430["yes"]"#);
        server.expect(r#"acknowledged 0 "yes" attachments=[]"#);
        client.send(r#"42["ask"]"#);
        client.expect(r#"421["question",1]"#);
        server.told();
        drop(client);
        server.expect("disconnect / transport_close");
    }
}

#[test]
fn attachments_travel_both_ways_in_both_revisions() {
    let server = Server::start(config());
    let two = r#"{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}"#;
    for (revision, prefix) in [(3, &[4_u8][..]), (4, &[])] {
        let mut client = server.client(revision);
        let (first, second) = ([prefix, &[1, 2, 3]].concat(), [prefix, &[]].concat());
        for (sent, answered) in [
            (format!(r#"452-["echo",{two}]"#), format!(r#"452-["echo",{two}]"#)),
            (format!(r#"452-7["echo",{two}]"#), format!("462-7[{two}]")),
        ] {
            client.send(&sent);
            client.send_binary(&first);
            client.send_binary(&second);
            client.expect(&answered);
            assert_eq!(client.next(), Got::Binary(first.clone()));
            assert_eq!(client.next(), Got::Binary(second.clone()));
            assert!(server.told().contains(r#"attachments=[b"\x01\x02\x03", b""]"#));
        }
        drop(client);
        server.expect("disconnect / transport_close");
    }
}

#[test]
fn namespaces_share_a_session_and_leave_it_one_by_one() {
    let server = Server::start(config());
    let mut client = server.client(4);
    client.send("40/room,");
    assert!(client.text().starts_with(r#"40/room,{"sid":""#));
    client.expect(r#"42/room,["hello","/room"]"#);
    server.expect("connect /room auth= query=");
    client.send(r#"42/room,1["echo","x"]"#);
    client.expect(r#"43/room,1["x"]"#);
    server.told();
    client.send("41/room,");
    server.expect("disconnect /room client_disconnect");
    client.send(r#"42["echo",1]"#);
    client.expect(r#"42["echo",1]"#);
    server.told();

    // And back again.
    client.send("40/room,");
    assert!(client.text().starts_with("40/room,"));
    client.expect(r#"42/room,["hello","/room"]"#);
    server.told();
    assert_eq!(server.run(|worker| (worker.connections(), worker.sockets().len())), (1, 2));
    drop(client);
    let mut ends = [server.told(), server.told()];
    ends.sort();
    assert_eq!(ends, ["disconnect / transport_close", "disconnect /room transport_close"]);
}

#[test]
fn a_server_disconnect_leaves_the_session_and_forgives_what_was_under_way() {
    let server = Server::start(config());
    let mut client = server.client(4);
    client.raw(
        &[support::masked(0x81, br#"42["leave"]"#), support::masked(0x81, br#"42["echo","late"]"#)].concat(),
    );
    client.expect("41");
    assert!(server.told().starts_with("event leave"));
    server.expect("disconnect / server_disconnect");
    client.send("40");
    assert!(client.text().starts_with("40{"));
    client.expect(r#"42["hello","/"]"#);
    server.expect("connect / auth= query=");
}

#[test]
fn an_application_close_comes_after_what_is_queued_and_without_a_disconnect() {
    let server = Server::start(config());
    let mut client = server.client(4);
    server.run(|worker| {
        let socket = worker.sockets().remove(0);
        socket.emit("last", "1");
        socket.close(CloseCode(4000), "because");
        assert!(!socket.is_connected());
        socket.emit("too late", "2");
    });
    client.expect(r#"42["last",1]"#);
    client.expect_close(4000);
    server.expect("disconnect / server_close (4000)");
}

#[test]
fn clients_close_in_three_ways() {
    let server = Server::start(config());
    let mut client = server.client(4);
    client.send("1");
    client.expect_close(1000);
    server.expect("disconnect / client_close");

    let mut client = server.client(4);
    client.frame(0x88, &[0x03, 0xe9, b'b', b'y', b'e']);
    client.expect_close(1001);
    server.expect("disconnect / client_close (1001)");

    let mut client = server.client(4);
    client.frame(0x88, &[]);
    assert_eq!(client.next(), Got::Close(None));
    assert_eq!(client.next(), Got::Eof);
    server.expect("disconnect / client_close");

    // A close and the end of the stream at once: the answer still comes.
    let mut client = server.client(4);
    client.frame(0x88, &[0x03, 0xe8]);
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    client.expect_close(1000);
    server.expect("disconnect / client_close (1000)");
}

#[test]
fn a_shared_frame_reaches_many_and_an_id_never_comes_back() {
    let server = Server::start(config());
    let mut clients: Vec<Client> = (0..20).map(|n| server.client(3 + n % 2)).collect();
    let ids = server.run(|worker| {
        let frame = Frame::event("all", r#"{"n":1}"#);
        let sockets = worker.sockets();
        sockets.iter().for_each(|socket| socket.push(&frame));
        sockets.iter().map(|socket| socket.id()).collect::<Vec<_>>()
    });
    for client in &mut clients {
        client.expect(r#"42["all",{"n":1}]"#);
    }
    drop(clients);
    for _ in 0..20 {
        server.expect("disconnect / transport_close");
    }
    let _again = server.client(4);
    server.run(move |worker| {
        let socket = worker.sockets().remove(0);
        assert!(ids.iter().all(|id| worker.get(*id).is_none() && *id != socket.id()));
        assert!(worker.get(socket.id()).is_some());
    });
}

#[test]
fn bare_engine_messages_come_and_go() {
    let server = Server::start(Config { mode: Mode::EngineIo, ..config() });
    for (revision, binary) in [(3, &[4_u8, 1, 2][..]), (4, &[1, 2])] {
        let mut client = server.websocket(&format!("EIO={revision}&transport=websocket"));
        assert!(client.text().starts_with('0'));
        client.send("4hello");
        client.expect("4hello");
        client.send_binary(binary);
        assert_eq!(client.next(), Got::Binary(binary.to_vec()));
        assert_eq!(server.told(), "connect  auth= query=");
        server.expect(r#"message Text("hello")"#);
        server.expect("message Binary([1, 2])");
        drop(client);
        server.expect("disconnect  transport_close");
    }
}

#[test]
fn one_connection_may_ask_for_a_page_first_and_then_upgrade() {
    let server = Server::start(config());
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"not found\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    let mut client = Client::upgrade(stream, "EIO=4&transport=websocket");
    assert!(client.text().starts_with("0{"));
}

#[test]
fn frames_sent_together_with_the_request_are_not_lost() {
    let server = Server::start(config());
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = b"GET /socket.io?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\n\
        Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        .to_vec();
    bytes.extend(support::masked(0x81, br#"40{"early":true}"#));
    let next = support::masked(0x81, br#"42["echo","whole"]"#);
    bytes.extend(&next[..5]);
    stream.write_all(&bytes).unwrap();
    server.expect(r#"connect / auth={"early":true} query="#);
    stream.write_all(&next[5..]).unwrap();
    assert!(server.told().starts_with(r#"event echo "whole""#));
}
