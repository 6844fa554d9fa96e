//! The plain WebSocket connection, and TLS below it.

mod common;

use std::ops::ControlFlow;
use std::sync::Arc;

use common::{Peer, Server};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use socketio_client::websocket::{Connection, Message, OwnedMessage, Request};
use socketio_client::{Cause, Closed, Stage, tls};
use tungstenite::protocol::CloseFrame;

#[tokio::test]
async fn text_binary_ping_and_close() {
    let server = Server::websocket(|mut peer| {
        assert_eq!(peer.target, "/chat?room=1");
        assert_eq!(peer.header("sec-websocket-protocol"), Some("one, two"));
        assert_eq!(peer.header("origin"), Some("http://here"));
        peer.expect("hello");
        peer.expect_binary(&[0, 255]);
        peer.send("answer");
        peer.send_binary(&[7]);
        // Reading answers the ping; then comes the close frame.
        assert!(peer.ws.read().unwrap().is_ping());
        let bye = CloseFrame { code: 4000.into(), reason: "bye".into() };
        assert_eq!(peer.ws.read().unwrap(), tungstenite::Message::Close(Some(bye)));
        peer.until_gone();
    });
    let mut request = Request::new(&format!("ws://{}/chat?room=1", server.addr)).unwrap();
    request.subprotocols = vec!["one".into(), "two".into()];
    request.headers.push(("Origin".into(), "http://here".into()));
    let upgraded = Connection::connect(&request).await.unwrap();
    assert_eq!(upgraded.subprotocol.as_deref(), Some("two"));
    assert_eq!(upgraded.stages.total(), upgraded.stages.tcp + upgraded.stages.upgrade);
    let mut connection = upgraded.connection;
    connection.send_text("hello").await.unwrap();
    connection.send_binary(&[0, 255]).await.unwrap();
    assert_eq!(connection.next().await.unwrap(), OwnedMessage::Text("answer".into()));
    connection
        .for_each_ready(|message, _| {
            assert_eq!(message, Message::Binary(&[7]));
            ControlFlow::Continue(())
        })
        .await
        .unwrap();
    connection.send_ping(b"?").await.unwrap();
    assert_eq!(connection.next().await.unwrap(), OwnedMessage::Pong(b"?".into()));
    assert_eq!(connection.close(Some(4000), "bye").await, Closed::Local);
    server.join();
}

#[tokio::test]
async fn messages_right_behind_the_answer_are_kept() {
    // Answer, a whole message and half of the next in one write.
    let server = Server::tcp(|mut stream| {
        use std::io::Write;
        let head = common::read_head(&mut stream);
        let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
        let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
        let mut bytes = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
        )
        .into_bytes();
        bytes.extend(common::text_frame("whole"));
        let half = common::text_frame("half");
        bytes.extend(&half[..3]);
        stream.write_all(&bytes).unwrap();
        // The client's word that it has the first.
        let mut word = [0; 8];
        std::io::Read::read_exact(&mut stream, &mut word).unwrap();
        stream.write_all(&half[3..]).unwrap();
        common::read_head(&mut stream);
    });
    let request = Request::new(&server.url()).unwrap();
    let mut connection = Connection::connect(&request).await.unwrap().connection;
    assert_eq!(connection.next().await.unwrap(), OwnedMessage::Text("whole".into()));
    assert_eq!(connection.buffered_bytes(), 3);
    connection.send_text("ok").await.unwrap();
    assert_eq!(connection.next().await.unwrap(), OwnedMessage::Text("half".into()));
    assert_eq!(connection.buffered_bytes(), 0);
    drop(connection);
    server.join();
}

#[tokio::test]
async fn a_subprotocol_nobody_offered_is_refused() {
    let server = Server::tcp(|mut stream| {
        use std::io::Write;
        let head = common::read_head(&mut stream);
        let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
        let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: other\r\n\r\n"
        );
        stream.write_all(answer.as_bytes()).unwrap();
        common::read_head(&mut stream);
    });
    let error = Connection::connect(&Request::new(&server.url()).unwrap()).await.unwrap_err();
    assert_eq!(error.to_string(), "upgrade: 101 with the subprotocol \"other\", which was not offered");
    server.join();
}

fn certificate() -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(include_bytes!("certificate/cert.pem")).unwrap()
}

/// A WebSocket over TLS that sends back each text until it is told to end.
fn tls_echo() -> Server {
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("certificate/key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate()], key)
        .unwrap();
    Server::tcp(move |mut stream| {
        let mut session = rustls::ServerConnection::new(Arc::new(config)).unwrap();
        // A client that does not trust us ends the handshake, and the script with it.
        if session.complete_io(&mut stream).is_err() {
            return;
        }
        let mut peer = Peer::accept(rustls::StreamOwned::new(session, stream));
        while let Ok(message) = peer.ws.read() {
            if message.is_text() {
                peer.ws.send(message).unwrap();
            }
        }
    })
}

#[tokio::test]
async fn over_tls() {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate()).unwrap();
    for config in [tls::insecure(), tls::with_roots(roots)] {
        let server = tls_echo();
        let mut request = Request::new(&format!("wss://{}", server.addr)).unwrap();
        request.tls = Some(config);
        let upgraded = Connection::connect(&request).await.unwrap();
        assert!(upgraded.stages.tls > std::time::Duration::ZERO);
        let mut connection = upgraded.connection;
        // Longer than a TLS record, then longer than any socket buffer takes at once.
        for length in [5, 40_000, 2_000_000] {
            let text = "t".repeat(length);
            connection.send_text(&text).await.unwrap();
            assert_eq!(connection.next().await.unwrap(), OwnedMessage::Text(text));
        }
        assert_eq!(connection.close(None, "").await, Closed::Local);
        server.join();
    }
}

#[tokio::test]
async fn an_unknown_certificate_is_named() {
    let server = tls_echo();
    let mut request = Request::new(&format!("wss://{}", server.addr)).unwrap();
    request.tls = Some(tls::with_roots(rustls::RootCertStore::empty()));
    let error = Connection::connect(&request).await.unwrap_err();
    assert_eq!(error.stage(), Stage::Tls);
    assert!(matches!(error.cause(), Cause::Tls(text) if text.contains("UnknownIssuer")), "{error:?}");
    server.join();
}

#[tokio::test]
async fn a_slow_reader_leaves_the_rest_with_the_server() {
    // More than the kernel's buffers of both ends take, so that the server's writing stands still.
    const MESSAGE: usize = 64 * 1024;
    let (told, took) = std::sync::mpsc::channel();
    let server = Server::websocket(move |mut peer| {
        let text = "x".repeat(MESSAGE);
        for number in 0..400 {
            if peer.ws.send(tungstenite::Message::text(text.as_str())).is_err() || told.send(number).is_err()
            {
                return;
            }
        }
    });
    let mut request = Request::new(&server.url()).unwrap();
    request.timeouts.close = std::time::Duration::from_millis(50);
    let mut connection = Connection::connect(&request).await.unwrap().connection;
    connection.set_read_rate(std::num::NonZeroU32::new(100_000));
    let mut whole = 0;
    let reading = async {
        loop {
            whole += connection.for_each_ready(|_, _| ControlFlow::Continue(())).await.unwrap();
        }
    };
    assert!(tokio::time::timeout(std::time::Duration::from_millis(1500), reading).await.is_err());
    // 150 kB in 1.5 s: two messages, and never more than the rate allows.
    assert!((1..=3).contains(&whole), "{whole} messages");
    let sent = took.try_iter().last().unwrap();
    assert!(sent < 399, "the server got rid of everything");
    // At full speed everything comes.
    connection.set_read_rate(None);
    while whole < 400 {
        whole += connection.for_each_ready(|_, _| ControlFlow::Continue(())).await.unwrap();
    }
    server.join();
}
