//! Sessions over long polling, request by request, in both revisions.

mod common;

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::Server;
use common::polling::{Requests, open_packet, response, server};
use socketio_client::{Client, Closed, Connected, Kind, Method, Options, Stage, Transport, connect};
use tokio::time::timeout;

fn polling(server: &Server) -> Options {
    Options { transport: Transport::Polling, ..server.options() }
}

fn polling_v3(server: &Server) -> Options {
    Options { transport: Transport::Polling, ..server.options_v3() }
}

async fn client(server: &Server) -> Client {
    connect(&polling(server)).await.unwrap().client
}

#[tokio::test]
async fn revision_4_from_connect_to_goodbye() {
    let server = server(|mut requests| {
        let first = requests.get();
        assert_eq!(first.target, "/socket.io/?EIO=4&transport=polling&x=a+b&t=1");
        assert_eq!(first.header("x-test"), Some("yes"));
        // Polling alone was asked for: the offer is not taken.
        first.answer(open_packet(r#"["websocket"]"#, 25_000, 20_000));
        let join = requests.post();
        assert_eq!(join.text(), r#"40{"token":"t"}"#);
        assert_eq!(join.header("content-type"), Some("text/plain;charset=UTF-8"));
        assert!(join.target.starts_with("/socket.io/?EIO=4&transport=polling&x=a+b&t="), "{}", join.target);
        assert!(join.target.ends_with("&sid=engine%2F1"), "{}", join.target);
        let poll = requests.get();
        assert_eq!((poll.connection, join.connection), (0, 1), "polls keep one connection, posts another");
        join.answer("ok");
        poll.answer("40{\"sid\":\"socket\"}\x1e42[\"a\",\"길\"]\x1e42[\"b\"]");
        let emitted = requests.post();
        assert_eq!((emitted.connection, emitted.text()), (1, r#"420["ask",1]"#));
        emitted.answer("ok");
        let poll = requests.get();
        assert_eq!(poll.connection, 0);
        poll.answer(r#"430["so"]"#);
        requests.expect_goodbye("41\x1e1");
    });
    let mut options = polling(&server);
    options.query.push(("x".into(), "a b".into()));
    options.headers.push(("X-Test".into(), "yes".into()));
    options.auth = Some(r#"{"token":"t"}"#.into());
    let Connected { mut client, stages, sid, namespace_data, early, .. } = connect(&options).await.unwrap();
    assert_eq!((sid.as_str(), namespace_data.as_str(), early.len()), ("engine/1", r#"{"sid":"socket"}"#, 0));
    assert!(
        stages.tcp > Duration::ZERO && stages.polling > Duration::ZERO && stages.namespace > Duration::ZERO
    );
    assert_eq!((stages.upgrade, stages.handshake, stages.probe), Default::default(), "{stages:?}");
    assert_eq!(client.next().await.unwrap().data, r#"["a","길"]"#);
    let before = Instant::now();
    let id = client.emit_with_ack("/", "ask", "1").await.unwrap();
    assert_eq!(client.next().await.unwrap().data, r#"["b"]"#);
    let ack = client.next().await.unwrap();
    assert_eq!((ack.kind, ack.ack, ack.data.as_str()), (Kind::Ack, Some(id), r#"["so"]"#));
    assert!(ack.received >= before && ack.received <= Instant::now());
    assert_eq!(client.transport(), Transport::Polling);
    assert!(client.take_upgrade().is_none());
    assert_eq!(client.addresses().unwrap().1, server.addr);
    assert_eq!(client.buffered_bytes(), 0);
    assert_eq!(client.close().await, Closed::Local);
    server.join();
}

#[tokio::test]
async fn revision_3_from_connect_to_goodbye() {
    let server = server(|mut requests| {
        let first = requests.get();
        assert_eq!(first.target, "/socket.io/?EIO=3&transport=polling&t=1");
        let open = open_packet("[]", 25_000, 5_000);
        first.answer(format!("{}:{open}2:40", open.len()));
        requests.expect_post("13:42[\"a\",\"길𝄞\"]");
        requests.get().answer("13:42[\"b\",\"길𝄞\"]7:42[\"c\"]");
        requests.expect_post("2:411:1");
        requests.get().answer("1:6");
    });
    let mut client = connect(&polling_v3(&server)).await.unwrap().client;
    client.emit("/", "a", r#""길𝄞""#).await.unwrap();
    assert_eq!(client.next().await.unwrap().data, r#"["b","길𝄞"]"#);
    assert_eq!(client.next().await.unwrap().data, r#"["c"]"#);
    assert_eq!(client.close().await, Closed::Local);
    server.join();
}

/// As [`exchange_attachments`] wants it; the requests differ by revision.
const UP: &str = r#"451-7["up",{"_placeholder":true,"num":0}]"#;
const DOWN: [&str; 2] = [
    r#"461-7[{"_placeholder":true,"num":0}]"#,
    r#"452-["down",{"_placeholder":true,"num":1},{"_placeholder":true,"num":0}]"#,
];

async fn exchange_attachments(mut client: Client) {
    let data = r#"["up",{"_placeholder":true,"num":0}]"#;
    client.emit_binary("/", Some(7), data, &[Bytes::from_static(&[1, 2])]).await.unwrap();
    let ack = client.next().await.unwrap();
    assert_eq!((ack.kind, ack.ack, &*ack.attachments), (Kind::Ack, Some(7), &[Bytes::from_static(&[3])][..]));
    let down = client.next().await.unwrap();
    assert_eq!(down.attachments, [Bytes::from_static(&[4]), Bytes::from_static(&[5, 6])]);
}

#[tokio::test]
async fn attachments_travel_both_ways_in_revision_4() {
    let server = server(|mut requests| {
        requests.greet("[]");
        requests.expect_post(&format!("{UP}\x1ebAQI="));
        // A packet may come apart between two polls.
        requests.get().answer(format!("{}\x1ebAw==\x1e{}\x1ebBA==", DOWN[0], DOWN[1]));
        requests.get().answer("bBQY=");
    });
    exchange_attachments(client(&server).await).await;
    server.join();
}

#[tokio::test]
async fn attachments_travel_both_ways_in_revision_3() {
    for octets in [true, false] {
        let server = server(move |mut requests| {
            requests.greet_v3("[]");
            let post = requests.post();
            assert_eq!(post.header("content-type"), Some("application/octet-stream"));
            let length = [0, (UP.len() / 10) as u8, (UP.len() % 10) as u8, 255];
            assert_eq!(post.body, [&length, UP.as_bytes(), &[1, 3, 255, 4, 1, 2]].concat());
            post.answer("ok");
            if octets {
                let text = |text: &str| {
                    let digits = text.len().to_string().bytes().map(|digit| digit - b'0').collect::<Vec<_>>();
                    [&[0], &digits[..], &[255], text.as_bytes()].concat()
                };
                let all = [text(DOWN[0]), vec![1, 2, 255, 4, 3], text(DOWN[1]), vec![1, 2, 255, 4, 4]];
                requests.get().answer_bytes(&all.concat());
                requests.get().answer_bytes(&[1, 3, 255, 4, 5, 6]);
            } else {
                let [ack, down] = DOWN.map(|text| format!("{}:{text}", text.len()));
                requests.get().answer(format!("{ack}6:b4Aw=={down}6:b4BA==6:b4BQY="));
            }
        });
        exchange_attachments(connect(&polling_v3(&server)).await.unwrap().client).await;
        server.join();
    }
}

#[tokio::test]
async fn what_is_said_during_a_post_gathers_for_the_next_within_the_servers_limit() {
    let server = server(|mut requests| {
        let open = open_packet("[]", 25_000, 20_000).replace("1000000", "40");
        requests.get().answer(open);
        requests.expect_post("40");
        requests.get().answer(r#"40{"sid":"s"}"#);
        let first = requests.post();
        assert_eq!(first.text(), r#"42["n",0]"#);
        let poll = requests.get();
        poll.answer(r#"42["go"]"#);
        // The poll is taken, so whatever the client had to say by then is waiting.
        let poll = requests.get();
        assert!(requests.is_empty());
        first.answer("ok");
        requests.expect_post("42[\"n\",1]\x1e42[\"n\",2]\x1e42[\"n\",3]\x1e42[\"n\",4]");
        requests.expect_post("42[\"n\",5]\x1e42[\"n\",6]");
        // More than the limit in one: the server has the last word.
        requests.expect_post(&format!("42[\"big\",\"{}\"]", "x".repeat(100)));
        requests.expect_post("42[\"n\",7]");
        poll.answer(r#"42["done"]"#);
    });
    let mut client = client(&server).await;
    for n in 0..7 {
        client.emit("/", "n", &n.to_string()).await.unwrap();
    }
    client.emit("/", "big", &format!("\"{}\"", "x".repeat(100))).await.unwrap();
    client.emit("/", "n", "7").await.unwrap();
    assert_eq!(client.next().await.unwrap().data, r#"["go"]"#);
    assert_eq!(client.next().await.unwrap().data, r#"["done"]"#);
    drop(client);
    server.join();
}

#[tokio::test]
async fn too_much_behind_a_post_is_waited_for() {
    let (go, gone) = std::sync::mpsc::channel();
    let server = server(move |mut requests| {
        requests.get().answer(open_packet("[]", 25_000, 20_000).replace("1000000", "150000"));
        requests.expect_post("40");
        requests.get().answer(r#"40{"sid":"s"}"#);
        let first = requests.post();
        gone.recv().unwrap();
        first.answer("ok");
        for _ in 0..2 {
            let post = requests.post();
            assert_eq!(post.body.len(), 100_008);
            post.answer("ok");
        }
    });
    let mut client = client(&server).await;
    let big = format!("\"{}\"", "x".repeat(100_000 - 2));
    client.emit("/", "first", "").await.unwrap();
    let blocked = timeout(Duration::from_millis(50), client.emit("/", "b", &big)).await;
    assert!(blocked.is_err(), "100 kB behind a post that is not answered");
    assert!(client.buffered_bytes() > 100_000, "cancelled, and not lost");
    go.send(()).unwrap();
    client.emit("/", "b", &big).await.unwrap();
    server.join();
}

#[tokio::test]
async fn cookies_of_a_load_balancer_come_back() {
    let server = server(|mut requests| {
        let mut first = requests.get();
        assert_eq!(first.header("cookie"), Some("mine=1"));
        let open = open_packet("[]", 25_000, 20_000);
        first.raw(format!(
            "HTTP/1.1 200 OK\r\nSet-Cookie: AWSALB=one; Path=/; Expires=Wed, 02 Dec 2026 10:00:00 GMT\r\nset-cookie: other=x; Path=/elsewhere\r\nContent-Length: {}\r\n\r\n{open}",
            open.len()
        ));
        let mut join = requests.post();
        assert_eq!(join.header("cookie"), Some("mine=1; AWSALB=one"));
        join.raw("HTTP/1.1 200 OK\r\nSet-Cookie: AWSALB=two; Path=/\r\nContent-Length: 2\r\n\r\nok");
        let poll = requests.get();
        assert_eq!(poll.header("cookie"), Some("mine=1; AWSALB=one"));
        poll.answer(r#"40{"sid":"s"}"#);
        let poll = requests.get();
        assert_eq!(poll.header("cookie"), Some("mine=1; AWSALB=two"));
        poll.answer("1");
    });
    let mut options = polling(&server);
    options.headers.push(("Cookie".into(), "mine=1".into()));
    let mut client = connect(&options).await.unwrap().client;
    let _ = client.next().await.unwrap_err();
    server.join();
}

#[tokio::test]
async fn bodies_in_chunks_and_byte_by_byte_survive_cancelled_waits() {
    let server = server(|mut requests| {
        requests.greet("[]");
        for body in [r#"42["first","길"]"#, "2\x1e42[\"second\"]\x1e6"] {
            let mut poll = requests.get();
            let (front, back) = body.as_bytes().split_at(body.len() / 2);
            let mut bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            for chunk in [front, back] {
                bytes.extend(format!("{:x}\r\n", chunk.len()).as_bytes());
                bytes.extend(chunk);
                bytes.extend(b"\r\n");
            }
            bytes.extend(b"0\r\n\r\n");
            for byte in bytes {
                poll.raw([byte]);
                std::thread::sleep(Duration::from_micros(300));
            }
        }
        requests.expect_post("3");
        requests.get().answer("42[\"third\"]");
    });
    let mut client = client(&server).await;
    let mut events = Vec::new();
    let mut cancelled = 0;
    while events.len() < 3 {
        match timeout(Duration::from_micros(200), client.next()).await {
            Ok(message) => events.push(message.unwrap().data),
            Err(_) => cancelled += 1,
        }
    }
    assert_eq!(events, [r#"["first","길"]"#, r#"["second"]"#, r#"["third"]"#]);
    assert!(cancelled > 10, "{cancelled}");
    assert_eq!(client.buffered_bytes(), 0);
    drop(client);
    server.join();
}

#[tokio::test]
async fn a_break_leaves_the_rest_for_the_next_visit() {
    let server = server(|mut requests| {
        requests.greet("[]");
        let burst: Vec<String> = (0..5_000).map(|n| format!(r#"42["n",{n}]"#)).collect();
        requests.get().answer(burst.join("\x1e"));
        let poll = requests.get();
        poll.answer(r#"42["end"]"#);
    });
    let mut client = client(&server).await;
    for n in 0..1_000 {
        assert_eq!(client.next().await.unwrap().data, format!(r#"["n",{n}]"#));
    }
    assert!(client.buffered_bytes() > 0);
    let mut n = 1_000;
    let visited = client.for_each_ready(|incoming| {
        assert_eq!(incoming.data, format!(r#"["n",{n}]"#));
        n += 1;
        ControlFlow::Continue(())
    });
    assert_eq!(visited.await.unwrap(), 4_000);
    assert_eq!(client.next().await.unwrap().data, r#"["end"]"#);
    drop(client);
    server.join();
}

#[tokio::test]
async fn connections_that_are_not_kept_are_opened_anew() {
    let server = server(|mut requests| {
        let closing = |body: &str| {
            format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        };
        let mut first = requests.get();
        first.raw(closing(&open_packet("[]", 25_000, 20_000)));
        let mut seen = vec![first.connection];
        drop(first);
        let mut join = requests.post();
        join.raw(closing("ok"));
        seen.push(join.connection);
        let mut poll = requests.get();
        // HTTP/1.0: ends with its connection.
        poll.raw("HTTP/1.0 200 OK\r\n\r\n40{\"sid\":\"s\"}");
        poll.stream.shutdown(std::net::Shutdown::Both).unwrap();
        seen.push(poll.connection);
        let mut post = requests.post();
        // Given up at once: the server says so.
        post.raw("HTTP/1.1 200 OK\r\nKeep-Alive: timeout=1\r\nContent-Length: 2\r\n\r\nok");
        seen.push(post.connection);
        let poll = requests.get();
        seen.push(poll.connection);
        poll.answer("42[\"next\"]");
        let post = requests.post();
        seen.push(post.connection);
        post.answer("ok");
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 6, "each had a connection of its own: {seen:?}");
    });
    let mut client = client(&server).await;
    client.emit("/", "a", "").await.unwrap();
    client.next().await.unwrap();
    client.emit("/", "b", "").await.unwrap();
    server.join();
}

#[tokio::test]
async fn a_poll_that_crosses_the_servers_farewell_is_asked_again() {
    let server = server(|mut requests| {
        requests.greet("[]");
        let poll = requests.get();
        assert_eq!(poll.connection, 0);
        poll.stream.shutdown(std::net::Shutdown::Both).unwrap();
        let poll = requests.get();
        assert_ne!(poll.connection, 0);
        poll.answer(r#"42["again"]"#);
        // With a part of an answer there, nobody knows what was lost.
        let mut poll = requests.get();
        poll.raw("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n42");
        poll.stream.shutdown(std::net::Shutdown::Both).unwrap();
    });
    let mut client = client(&server).await;
    assert_eq!(client.next().await.unwrap().data, r#"["again"]"#);
    let closed = client.next().await.unwrap_err();
    assert_eq!(closed.to_string(), "poll: connection closed before an answer");
    server.join();
}

#[tokio::test]
async fn heartbeats_in_both_revisions() {
    let server = server(|mut requests| {
        requests.greet("[]");
        requests.get().answer("2");
        requests.expect_post("3");
        requests.get().answer("2probe\x1e42[\"end\"]");
        requests.expect_post("3probe");
    });
    let mut client = client(&server).await;
    assert_eq!(client.next().await.unwrap().data, r#"["end"]"#);
    let _ = timeout(Duration::from_millis(20), client.next()).await;
    server.join();

    let server = common::polling::server(|mut requests| {
        let open = open_packet("[]", 40, 5_000);
        requests.get().answer(format!("{}:{open}2:40", open.len()));
        requests.expect_post("1:2");
        requests.get().answer("1:3");
        requests.expect_post("1:2");
        requests.get().answer("1:39:42[\"end\"]");
    });
    let began = Instant::now();
    let mut client = connect(&polling_v3(&server)).await.unwrap().client;
    assert_eq!(client.next().await.unwrap().data, r#"["end"]"#);
    assert!(began.elapsed() >= Duration::from_millis(80), "two intervals, not {:?}", began.elapsed());
    server.join();
}

#[tokio::test]
async fn silence_is_a_ping_timeout_in_both_revisions() {
    let server = server(move |mut requests| {
        requests.get().answer(open_packet("[]", 60, 40));
        requests.expect_post("40");
        requests.get().answer(r#"40{"sid":"s"}"#);
        // The next poll gets no answer.
        drop(requests.get());
    });
    let began = Instant::now();
    let mut client = client(&server).await;
    assert_eq!(client.next().await.unwrap_err(), Closed::PingTimeout);
    assert!(began.elapsed() >= Duration::from_millis(100));
    assert_eq!(client.emit("/", "late", "").await, Err(Closed::PingTimeout), "the reason stays");
    assert_eq!(client.close().await, Closed::PingTimeout);
    server.join();

    let server = common::polling::server(move |mut requests| {
        let open = open_packet("[]", 30, 40);
        requests.get().answer(format!("{}:{open}2:40", open.len()));
        requests.expect_post("1:2");
        // The next poll gets no answer.
        drop(requests.get());
    });
    let mut client = connect(&polling_v3(&server)).await.unwrap().client;
    assert_eq!(client.next().await.unwrap_err(), Closed::PingTimeout);
    drop(client);
    server.join();
}

/// What comes before the end is visited, the end has its reason, and the reason stays.
async fn check_end(act: impl FnOnce(&mut Requests) + Send + 'static, expected: &Closed) {
    let server = server(move |mut requests| {
        requests.greet("[]");
        requests.get().answer(r#"42["before"]"#);
        act(&mut requests);
    });
    let mut client = client(&server).await;
    assert_eq!(client.next().await.unwrap().data, r#"["before"]"#);
    let closed = client.visit(|_| ControlFlow::<()>::Continue(())).await.unwrap_err();
    assert_eq!(closed, *expected);
    assert_eq!(client.next().await.unwrap_err(), *expected);
    assert_eq!(client.close().await, *expected);
    server.join();
}

#[tokio::test]
async fn every_end_has_its_reason() {
    let answered = |text: &'static str| {
        move |requests: &mut Requests| {
            let mut poll = requests.get();
            poll.raw(text);
        }
    };
    let status = |request, code, reason: &str, body: &str| Closed::Status {
        request,
        code,
        reason: reason.into(),
        body: body.into(),
    };
    let unknown = r#"{"code":1,"message":"Session ID unknown"}"#;
    let closed = status(Method::Poll, 400, "Bad Request", unknown);
    check_end(
        answered("HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: 41\r\n\r\n{\"code\":1,\"message\":\"Session ID unknown\"}"),
        &closed,
    )
    .await;
    assert_eq!(closed.to_string(), "poll: 400 Bad Request (Session ID unknown)");

    // A page that dawdles: the status is told without it.
    let closed = status(Method::Poll, 502, "Bad Gateway", "<html>");
    check_end(answered("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 999\r\n\r\n<html>"), &closed).await;
    assert_eq!(closed.to_string(), "poll: 502 Bad Gateway");
    // And one without end.
    check_end(
        |requests| {
            let mut poll = requests.get();
            poll.raw("HTTP/1.1 500 \r\n\r\n");
            poll.raw([b'x'; 100_000]);
        },
        &status(Method::Poll, 500, "", &"x".repeat(512)),
    )
    .await;
    check_end(
        answered("HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n"),
        &status(Method::Poll, 302, "Found", ""),
    )
    .await;

    check_end(|requests| requests.get().answer("1"), &Closed::Engine).await;
    check_end(|requests| requests.get().answer("6\x1e1"), &Closed::Engine).await;

    let protocol = |text: &str| Closed::Protocol(text.into());
    check_end(
        |requests| requests.get().answer("9"),
        &protocol("a poll's answer: unknown packet type (at byte 0)"),
    )
    .await;
    check_end(
        |requests| requests.get().answer(""),
        &protocol("a poll's answer: empty packet, expected a packet type (at byte 0)"),
    )
    .await;
    check_end(
        |requests| requests.get().answer([b'4', b'2', 0xff]),
        &protocol("a poll's answer is not UTF-8"),
    )
    .await;
    check_end(
        |requests| requests.get().answer(r#"42{"not":"an array"}"#),
        &protocol(
            r#"Socket.IO packet: invalid data, expected a JSON array (at byte 1) in "2{\"not\":\"an array\"}""#,
        ),
    )
    .await;
    check_end(
        answered("SSH-2.0\r\n"),
        &protocol("not an HTTP answer (invalid HTTP version): \"SSH-2.0\\r\\n\""),
    )
    .await;
    check_end(
        answered("HTTP/1.1 200 OK\r\nContent-Length: 16777217\r\n\r\n"),
        &protocol("an answer's body of more than 16777216 bytes"),
    )
    .await;
    check_end(
        answered("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx"),
        &protocol("a poll's answer in the encoding \"gzip\", which was not asked for"),
    )
    .await;
    check_end(
        |requests| {
            let mut poll = requests.get();
            poll.raw("HTTP/1.1 200 OK\r\nX: ");
            poll.raw([b'x'; 20_000]);
        },
        &protocol("an answer's head of more than 16384 bytes"),
    )
    .await;
    check_end(
        |requests| {
            let mut poll = requests.get();
            poll.raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            for _ in 0..17 {
                poll.raw("100000\r\n");
                poll.raw(vec![b'4'; 0x10_0000]);
                poll.raw("\r\n");
            }
        },
        &protocol("an answer's body of more than 16777216 bytes"),
    )
    .await;
}

#[tokio::test]
async fn a_post_that_is_refused_ends_the_session_and_what_was_heard_counts() {
    let server = server(|mut requests| {
        requests.greet("[]");
        let mut post = requests.post();
        let poll = requests.get();
        poll.answer(r#"42["before"]"#);
        // Too large, said before all of it has come, and the connection is gone.
        post.raw("HTTP/1.1 413 Payload Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    });
    let mut client = client(&server).await;
    client.emit("/", "a", "").await.unwrap();
    assert_eq!(client.next().await.unwrap().data, r#"["before"]"#);
    let closed = client.next().await.unwrap_err();
    assert_eq!(closed.to_string(), "post: 413 Payload Too Large");
    assert_eq!(client.emit("/", "b", "").await, Err(closed));
    server.join();
}

#[tokio::test]
async fn an_answer_before_the_whole_request_is_heard() {
    let server = Server::listen(|listener| {
        let mut poll = common::accept(listener);
        common::read_head(&mut poll);
        let open = open_packet("[]", 25_000, 20_000);
        std::io::Write::write_all(
            &mut poll,
            &response("text/plain", format!("{}:{open}2:40", open.len()).as_bytes()),
        )
        .unwrap();
        let mut post = common::accept(listener);
        common::read_head(&mut post);
        let answer = b"HTTP/1.1 413 Payload Too Large\r\nContent-Length: 5\r\n\r\nlarge";
        std::io::Write::write_all(&mut post, answer).unwrap();
        // Not read on, and not closed either: 20 MB do not fit into a socket.
        common::read_head(&mut poll);
        let _ = std::io::Read::read(&mut poll, &mut [0; 1]);
    });
    let mut client = connect(&polling_v3(&server)).await.unwrap().client;
    let big = format!("\"{}\"", "x".repeat(20_000_000));
    let closed = client.emit("/", "a", &big).await.unwrap_err();
    assert_eq!(closed.to_string(), "post: 413 Payload Too Large");
    drop(client);
    server.join();
}

#[tokio::test]
async fn a_post_without_an_answer_is_a_timeout() {
    let server = server(|mut requests| {
        requests.greet("[]");
        requests.post();
        // Until then no connection ends.
        requests.take("END");
    });
    let mut options = polling(&server);
    options.timeouts.send = Duration::from_millis(60);
    let mut client = connect(&options).await.unwrap().client;
    client.emit("/", "a", "").await.unwrap();
    assert_eq!(client.next().await.unwrap_err().to_string(), "post: timeout");
    drop(client);
    server.join();
}

#[tokio::test]
async fn a_connect_that_fails_names_its_stage() {
    let rows: [(&str, &str); 5] = [
        (
            "HTTP/1.1 400 Bad Request\r\nContent-Length: 41\r\n\r\n{\"code\":0,\"message\":\"Transport unknown\"}x",
            "polling: 400 Bad Request",
        ),
        (
            "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy",
            "polling: 503 Service Unavailable",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n40",
            r#"polling: expected the Engine.IO open packet, got "40""#,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n4:0{}2x",
            r#"polling: expected the Engine.IO open packet, got "4:0{}2x""#,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n0{}",
            r#"polling: expected the Engine.IO open packet, got "0{}" (invalid handshake"#,
        ),
    ];
    for (answer, expected) in rows {
        let server = server(move |mut requests| requests.get().raw(answer));
        let error = connect(&polling(&server)).await.unwrap_err();
        assert_eq!(error.stage(), Stage::Polling);
        assert!(error.to_string().starts_with(expected), "{error}");
        assert!(error.stages().polling > Duration::ZERO);
        server.join();
    }
    let server = server(|mut requests| {
        requests.get().answer(open_packet("[]", 25_000, 20_000));
        requests.expect_post("40");
        requests.get().answer(r#"44{"message":"bad token"}"#);
    });
    let error = connect(&polling(&server)).await.unwrap_err();
    assert_eq!(error.to_string(), "namespace: refused: bad token");
    server.join();

    let server = common::polling::server(|mut requests| drop(requests.get()));
    let mut options = polling(&server);
    options.timeouts.stage = Duration::from_millis(50);
    assert_eq!(connect(&options).await.unwrap_err().to_string(), "polling: timeout");
    server.join();
}

#[tokio::test]
async fn close_visits_what_still_arrives_and_does_not_wait_for_ever() {
    let server = server(|mut requests| {
        requests.greet("[]");
        let poll = requests.get();
        let first = requests.post();
        assert_eq!(first.text(), r#"42["a"]"#);
        first.answer("ok");
        requests.expect_post("42[\"b\"]\x1e41\x1e1");
        poll.answer("42[\"last words\"]\x1e6");
        assert!(requests.is_empty());
    });
    let mut open = client(&server).await;
    open.emit("/", "a", "").await.unwrap();
    open.emit("/", "b", "").await.unwrap();
    let mut last = Vec::new();
    let closed = open.close_visiting(|incoming| last.push(incoming.to_message().data)).await;
    assert_eq!((closed, last), (Closed::Local, vec![r#"["last words"]"#.to_owned()]));
    server.join();

    let server = common::polling::server(|mut requests| {
        requests.greet("[]");
        drop((requests.get(), requests.post()));
    });
    let mut options = polling(&server);
    options.timeouts.close = Duration::from_millis(50);
    let client = connect(&options).await.unwrap().client;
    let began = Instant::now();
    assert_eq!(client.close().await, Closed::Local);
    assert!(began.elapsed() >= Duration::from_millis(50) && began.elapsed() < common::LONG);
    server.join();
}

#[tokio::test]
async fn what_was_said_last_and_not_taken_is_told_at_the_close() {
    for (answered, refused) in [(false, false), (true, false), (false, true)] {
        let server = server(move |mut requests| {
            requests.greet("[]");
            let poll = requests.get();
            let mut first = requests.post();
            assert_eq!(first.text(), r#"42["a"]"#);
            match (answered, refused) {
                (_, true) => first.raw("HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n"),
                (true, _) => first.answer("ok"),
                _ => {
                    requests.take("END");
                }
            }
            if answered {
                requests.expect_post("42[\"b\"]\x1e41\x1e1");
                poll.answer("6");
            }
        });
        let mut options = polling(&server);
        options.timeouts.close = Duration::from_millis(100);
        if answered {
            options.timeouts.close = common::LONG;
        }
        let mut open = connect(&options).await.unwrap().client;
        open.emit("/", "a", "").await.unwrap();
        open.emit("/", "b", "").await.unwrap();
        // The CONNECT is the first.
        assert_eq!(open.posted(), Some((3, 1)));
        let closed = open.close().await;
        match (answered, refused) {
            (true, _) => assert_eq!(closed, Closed::Local),
            (_, true) => {
                assert_eq!(closed, Closed::Unsent { packets: 2, text: "post: 500 Oops".into() });
            }
            _ => {
                assert_eq!(closed, Closed::Unsent { packets: 2, text: "no answer within 0.1 s".into() });
                assert_eq!(
                    closed.to_string(),
                    "closed by the client with posts unanswered: no answer within 0.1 s"
                );
            }
        }
        server.join();
    }
}

#[tokio::test]
async fn abort_is_a_reset_and_drop_is_not() {
    for abort in [true, false] {
        let server = server(move |mut requests| {
            requests.greet("[]");
            let mut poll = requests.get();
            poll.raw("HTTP/1.1 200 OK\r\n");
            assert_eq!(requests.take("END").text(), if abort { "ConnectionReset" } else { "UnexpectedEof" });
        });
        let mut client = client(&server).await;
        let _ = timeout(Duration::from_millis(20), client.next()).await;
        if abort {
            client.abort();
        } else {
            drop(client);
        }
        server.join();
    }
}

#[tokio::test]
async fn an_idle_client_is_small() {
    let server = server(|mut requests| {
        requests.greet("[]");
        drop(requests.get());
    });
    let mut client = client(&server).await;
    let _ = timeout(Duration::from_millis(20), client.next()).await;
    assert_eq!(client.buffered_bytes(), 0, "a poll that waits holds nothing");
    assert!(size_of_val(&client) <= 512);
    drop(client);
    server.join();
}
