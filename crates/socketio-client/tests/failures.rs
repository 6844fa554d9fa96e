//! Connects that fail: each names its stage, its cause and what the server said.

mod common;

use std::io::{ErrorKind, Write};
use std::net::TcpListener;
use std::time::Duration;

use common::{Peer, Server, read_head, reset};
use socketio_client::{Cause, ConnectError, Options, Stage, connect, tls};
use tungstenite::protocol::CloseFrame;

async fn failure(options: &Options) -> ConnectError {
    match connect(options).await {
        Ok(connected) => panic!("connected: {connected:?}"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn nobody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = failure(&Options::new(&format!("http://{address}")).unwrap()).await;
    assert_eq!((error.stage(), error.io_kind()), (Stage::Tcp, Some(ErrorKind::ConnectionRefused)));
    assert_eq!(error.to_string(), "tcp: ECONNREFUSED");
    assert_eq!(error.endpoint(), address.to_string());
    assert!(error.stages().tcp > Duration::ZERO);
}

#[tokio::test]
async fn a_name_nobody_has() {
    // RFC 6761: never a real name.
    let error = failure(&Options::new("http://nobody.invalid").unwrap()).await;
    assert_eq!((error.stage(), error.endpoint()), (Stage::Dns, "nobody.invalid:80"));
    assert!(matches!(error.cause(), Cause::Io(_)), "{error:?}");
}

#[tokio::test]
async fn the_next_address_is_tried() {
    let server = Server::websocket(|mut peer| {
        peer.greet();
        peer.until_gone();
    });
    let refused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut options = Options::new("http://example.invalid:1").unwrap();
    options.addresses = vec![refused, server.addr];
    let connected = connect(&options).await.unwrap();
    assert_eq!(connected.client.addresses().unwrap().1, server.addr);
    drop(connected);
    server.join();
}

#[cfg(target_os = "linux")] // where all of 127.0.0.0/8 is this machine
#[tokio::test]
async fn from_a_given_address() {
    let server = Server::websocket(|mut peer| {
        assert_eq!(peer.ws.get_ref().peer_addr().unwrap().ip().to_string(), "127.0.0.2");
        peer.greet();
        peer.until_gone();
    });
    let mut options = server.options();
    options.local_addr = Some("127.0.0.2".parse().unwrap());
    drop(connect(&options).await.unwrap());
    server.join();

    options.local_addr = Some("::1".parse().unwrap());
    let error = failure(&options).await;
    assert!(error.to_string().contains("can be reached from ::1"), "{error}");
    // TEST-NET-1, which no machine has.
    options.local_addr = Some("192.0.2.1".parse().unwrap());
    let error = failure(&options).await;
    assert_eq!((error.stage(), error.io_kind()), (Stage::Tcp, Some(ErrorKind::AddrNotAvailable)));
}

/// Answers the upgrade request with these bytes and ends the connection.
async fn answered(answer: &'static [u8]) -> ConnectError {
    let server = Server::tcp(move |mut stream| {
        read_head(&mut stream);
        stream.write_all(answer).unwrap();
    });
    let error = failure(&server.options()).await;
    server.join();
    assert!(error.stages().upgrade > Duration::ZERO);
    error
}

#[tokio::test]
async fn an_answer_that_is_no_upgrade_keeps_status_and_sample() {
    let error = answered(
        b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 9\r\nConnection: close\r\n\r\noverloadNOT PART",
    )
    .await;
    assert_eq!(error.to_string(), "upgrade: 503 Service Unavailable");
    assert_eq!(
        (error.stage(), error.status(), error.sample()),
        (Stage::Upgrade, Some(503), Some("overloadN"))
    );

    let error = answered(
        b"HTTP/1.1 400 Bad Request\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"cod\r\n4\r\ne\":5\r\n1\r\n}\r\n0\r\n\r\n",
    )
    .await;
    assert_eq!((error.status(), error.sample()), (Some(400), Some(r#"{"code":5}"#)));

    let error = answered(b"HTTP/1.1 204 \r\n\r\n").await;
    assert_eq!((error.to_string().as_str(), error.sample()), ("upgrade: 204", None));
}

#[tokio::test]
async fn a_body_without_end_is_cut() {
    let server = Server::tcp(|mut stream| {
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 502 Bad Gateway\r\n\r\n").unwrap();
        while stream.write_all(&[b'x'; 1000]).is_ok() {}
    });
    let error = failure(&server.options()).await;
    assert_eq!(error.sample().map(str::len), Some(512));
    server.join();
}

#[tokio::test]
async fn answers_that_make_no_sense() {
    let rows: [(&[u8], &str); 6] = [
        (b"", "upgrade: connection closed before an answer"),
        (b"SSH-2.0-OpenSSH\r\n", "upgrade: not an HTTP answer (invalid HTTP version): \"SSH-2.0-OpenSSH\\r\\n\""),
        (
            b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
            "upgrade: 101 without `Upgrade: websocket` and `Connection: Upgrade`",
        ),
        (
            b"HTTP/1.1 101 X\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n\r\n",
            "upgrade: 101 with a Sec-WebSocket-Accept that does not answer the key",
        ),
        (
            b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
            "upgrade: 101 with a Sec-WebSocket-Accept that does not answer the key",
        ),
        (b"HTTP/1.1 101", "upgrade: connection closed before an answer"),
    ];
    for (answer, expected) in rows {
        assert_eq!(answered(answer).await.to_string(), expected);
    }
}

#[tokio::test]
async fn a_head_without_end_is_refused() {
    let server = Server::tcp(|mut stream| {
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 101 X\r\nX: ").unwrap();
        while stream.write_all(&[b'x'; 1000]).is_ok() {}
    });
    let error = failure(&server.options()).await;
    assert_eq!(error.to_string(), "upgrade: an answer's head of more than 16384 bytes");
    server.join();
}

#[tokio::test]
async fn silence_times_out_in_its_own_stage() {
    let quick = |mut options: Options| {
        options.timeouts.stage = Duration::from_millis(60);
        options
    };
    let scripts: [(Stage, fn(Peer)); 2] = [
        (Stage::Handshake, |peer| peer.until_gone()),
        (Stage::Namespace, |mut peer| {
            peer.open(25_000, 20_000);
            peer.until_gone();
        }),
    ];
    for (stage, script) in scripts {
        let server = Server::websocket(script);
        let error = failure(&quick(server.options())).await;
        assert_eq!((error.stage(), error.to_string()), (stage, format!("{stage}: timeout")));
        assert_eq!(error.io_kind(), Some(ErrorKind::TimedOut));
        assert!(error.stages().get(stage) >= Duration::from_millis(60));
        server.join();
    }
    let server = Server::tcp(|mut stream| {
        read_head(&mut stream);
        read_head(&mut stream);
    });
    assert_eq!(failure(&quick(server.options())).await.stage(), Stage::Upgrade);
    server.join();

    let server = Server::websocket(|peer| peer.until_gone());
    let mut options = server.options();
    options.timeouts.connect = Duration::from_millis(60);
    assert_eq!(failure(&options).await.to_string(), "handshake: timeout", "the whole has a limit too");
    server.join();
}

#[tokio::test]
async fn a_reset_after_the_upgrade() {
    let server = Server::websocket(|peer| reset(peer.ws.get_ref()));
    let error = failure(&server.options()).await;
    assert_eq!((error.stage(), error.io_kind()), (Stage::Handshake, Some(ErrorKind::ConnectionReset)));
    assert_eq!(error.to_string(), "handshake: ECONNRESET");
    server.join();
}

#[tokio::test]
async fn an_http_answer_after_the_upgrade() {
    let server = Server::websocket(|mut peer| {
        peer.raw(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 24\r\n\r\n{\"code\":5,\"message\":\"x\"}");
        peer.until_gone();
    });
    let error = failure(&server.options()).await;
    assert_eq!(error.to_string(), "handshake: 400 Bad Request");
    assert_eq!((error.status(), error.sample()), (Some(400), Some(r#"{"code":5,"message":"x"}"#)));
    server.join();
}

#[tokio::test]
async fn a_close_during_the_handshake_keeps_its_code() {
    let server = Server::websocket(|mut peer| {
        let frame = CloseFrame { code: 1013.into(), reason: "full".into() };
        peer.ws.close(Some(frame)).unwrap();
        peer.until_gone();
    });
    assert_eq!(failure(&server.options()).await.to_string(), "handshake: closed by the server: 1013 full");
    server.join();
}

#[tokio::test]
async fn a_first_packet_that_does_not_open() {
    for (packet, expected) in [
        ("40", r#"handshake: expected the Engine.IO open packet, got "40""#),
        ("0{}", r#"handshake: expected the Engine.IO open packet, got "0{}" (invalid handshake"#),
    ] {
        let server = Server::websocket(move |mut peer| {
            peer.send(packet);
            peer.until_gone();
        });
        let error = failure(&server.options()).await.to_string();
        assert!(error.starts_with(expected), "{error}");
        server.join();
    }
}

#[tokio::test]
async fn a_refused_namespace_in_both_revisions() {
    let server = Server::websocket(|mut peer| {
        peer.open(25_000, 20_000);
        peer.expect("40");
        peer.send(r#"44{"message":"bad token","data":{"code":11400}}"#);
        peer.until_gone();
    });
    let error = failure(&server.options()).await;
    assert_eq!(error.to_string(), "namespace: refused: bad token");
    assert_eq!(error.sample(), Some(r#"{"message":"bad token","data":{"code":11400}}"#));
    server.join();

    let server = Server::websocket(|mut peer| {
        peer.open(25_000, 20_000);
        peer.send(r#"44"Authentication error""#);
        peer.until_gone();
    });
    let error = failure(&server.options_v3()).await;
    assert_eq!(error.to_string(), "namespace: refused: Authentication error");
    server.join();
}

#[tokio::test]
async fn options_that_cannot_be_used() {
    // The server is there, but none of these may reach it.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let good = Options::new(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let header =
        |name: &str, value: &str| Options { headers: vec![(name.into(), value.into())], ..good.clone() };
    let rows = [
        (
            header("X", "a\r\nEvil: yes"),
            "upgrade: options: the header X has a line break or NUL in its value",
        ),
        (header("X Y", "a"), "upgrade: options: \"X Y\" is not a header name"),
        (
            Options { path: "/a b".into(), ..good.clone() },
            "upgrade: options: \"/a b/?EIO=4&transport=websocket\" is not a request target",
        ),
        (
            Options { namespace: "chat".into(), ..good.clone() },
            "namespace: options: namespace \"chat\" has to begin with / and be without , and ?",
        ),
        (
            Options { auth: Some("nonsense".into()), ..good.clone() },
            "namespace: options: `auth` is not a JSON object",
        ),
        (
            Options { ..Options::new(&good_https(&good)).unwrap() },
            "tls: options: https and wss need `tls` to be set",
        ),
    ];
    for (options, expected) in rows {
        assert_eq!(failure(&options).await.to_string(), expected);
    }
    for url in ["ftp://x", "nonsense", "http://", "file:///path"] {
        assert!(Options::new(url).is_err(), "{url}");
    }
}

fn good_https(options: &Options) -> String {
    format!("https://{}", options.endpoint)
}

#[tokio::test]
async fn tls_with_a_server_that_has_none() {
    let server = Server::tcp(|mut stream| {
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        read_head(&mut stream);
    });
    let mut options = Options::new(&format!("https://{}", server.addr)).unwrap();
    options.tls = Some(tls::insecure());
    let error = failure(&options).await;
    assert_eq!(error.stage(), Stage::Tls);
    assert!(matches!(error.cause(), Cause::Tls(_)), "{error:?}");
    drop(server);
}
