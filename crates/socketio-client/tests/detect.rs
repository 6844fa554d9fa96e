//! Which revision a server speaks, from what it answers.

mod common;

use std::io::Write;

use common::{Peer, Server, accept, read_head};
use socketio_client::{ConnectError, Revision, Stage, detect_revision};

/// The answer, how the client has to end the session, the revision.
type Row = (&'static [u8], Option<(&'static str, &'static str)>, Revision);

/// Answers the polling handshake with `answer`; `closes` is how the client then has to end the session.
async fn polled(
    answer: &'static [u8],
    closes: Option<(&'static str, &'static str)>,
) -> Result<Revision, ConnectError> {
    let server = Server::listen(move |listener| {
        let mut stream = accept(listener);
        let head = read_head(&mut stream);
        assert!(head.starts_with("GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\n"), "{head}");
        stream.write_all(answer).unwrap();
        drop(stream);
        if let Some((line, body)) = closes {
            let mut stream = accept(listener);
            let head = read_head(&mut stream);
            assert!(head.starts_with(line), "{head}");
            let mut sent = vec![0; body.len()];
            std::io::Read::read_exact(&mut stream, &mut sent).unwrap();
            assert_eq!(String::from_utf8(sent).unwrap(), body);
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
        }
    });
    let revision = detect_revision(&server.options()).await;
    server.join();
    revision
}

#[tokio::test]
async fn by_the_shape_of_a_polling_answer() {
    let closes_v3 = Some(("POST /socket.io/?EIO=3&transport=polling&sid=abc HTTP/1.1\r\n", "1:1"));
    let closes_v4 = Some(("POST /socket.io/?EIO=4&transport=polling&sid=abc HTTP/1.1\r\n", "1"));
    let rows: [Row; 4] = [
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 65\r\n\r\n0{\"sid\":\"abc\",\"upgrades\":[],\"pingInterval\":25000,\"pingTimeout\":5}",
            closes_v4,
            Revision::V4,
        ),
        (
            b"HTTP/1.1 200 OK\r\n\r\n64:0{\"sid\":\"abc\",\"upgrades\":[],\"pingInterval\":25000,\"pingTimeout\":5}2:40",
            closes_v3,
            Revision::V3,
        ),
        (
            b"HTTP/1.1 200 OK\r\n\r\n\x00\x01\x03\xff0{\"sid\":\"abc\"}\x00\x02\xff40",
            closes_v3,
            Revision::V3,
        ),
        (
            b"HTTP/1.1 400 Bad Request\r\n\r\n{\"code\":5,\"message\":\"Unsupported protocol version\"}",
            None,
            Revision::V3,
        ),
    ];
    for (answer, closes, expected) in rows {
        let shown = answer.escape_ascii();
        assert_eq!(polled(answer, closes).await.unwrap(), expected, "{shown}");
    }
}

#[tokio::test]
async fn neither_is_an_error_with_a_sample() {
    let error = polled(b"HTTP/1.1 200 OK\r\n\r\n<html>hello</html>", None).await.unwrap_err();
    assert_eq!(error.stage(), Stage::Handshake);
    assert!(error.to_string().contains("<html>hello</html>"), "{error}");
    let error = polled(b"HTTP/1.1 404 Not Found\r\n\r\nnothing here", None).await.unwrap_err();
    assert_eq!((error.status(), error.sample()), (Some(404), Some("nothing here")));
}

#[tokio::test]
async fn by_websocket_where_polling_is_refused() {
    for (unasked, expected) in [(true, Revision::V3), (false, Revision::V4)] {
        let server = Server::listen(move |listener| {
            let mut stream = accept(listener);
            read_head(&mut stream);
            let refusal = "HTTP/1.1 400 Bad Request\r\n\r\n{\"code\":0,\"message\":\"Transport unknown\"}";
            stream.write_all(refusal.as_bytes()).unwrap();
            drop(stream);
            let mut peer = Peer::accept(accept(listener));
            assert_eq!(peer.target, "/socket.io/?EIO=4&transport=websocket");
            peer.open(25_000, 20_000);
            if unasked {
                peer.send("40");
            }
            assert!(peer.ws.read().unwrap().is_close());
            peer.until_gone();
        });
        assert_eq!(detect_revision(&server.options()).await.unwrap(), expected);
        server.join();
    }
}
