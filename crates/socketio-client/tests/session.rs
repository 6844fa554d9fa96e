//! Socket.IO sessions, packet by packet, in both revisions.

mod common;

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{Server, client, frame, reset, text_frame};
use socketio_client::{Closed, Incoming, Kind, Options, Stage, Timeouts, connect};
use tokio::time::timeout;
use tungstenite::Message;
use tungstenite::protocol::CloseFrame;

#[tokio::test]
async fn revision_4_from_connect_to_goodbye() {
    let server = Server::websocket(|mut peer| {
        assert_eq!(peer.target, "/socket.io/?EIO=4&transport=websocket&room=%EB%B0%A9&x=a+b");
        assert_eq!(peer.header("x-test"), Some("yes"));
        peer.open(25_000, 20_000);
        peer.expect(r#"40{"token":"t"}"#);
        peer.send(r#"40{"sid":"socket"}"#);
        peer.expect(r#"42["plain"]"#);
        peer.expect(r#"420["with \"quotes\"",1,{"a":[]}]"#);
        peer.send(r#"430[{"status":201}]"#);
        peer.send(r#"421["question","how?"]"#);
        peer.expect(r#"431["so"]"#);
        peer.expect_goodbye();
    });
    let mut options = Options::new(&format!("{}?room=방&x=a%20b", server.url())).unwrap();
    options.headers.push(("X-Test".into(), "yes".into()));
    options.auth = Some(r#"{"token":"t"}"#.into());
    let connected = connect(&options).await.unwrap();
    assert_eq!(connected.sid, "engine");
    assert_eq!(connected.namespace_data, r#"{"sid":"socket"}"#);
    let stages = connected.stages;
    for stage in [Stage::Tcp, Stage::Upgrade, Stage::Handshake, Stage::Namespace] {
        assert!(stages.get(stage) > Duration::ZERO, "{stage} in {stages:?}");
    }
    assert_eq!((stages.dns, stages.tls), (Duration::ZERO, Duration::ZERO), "neither was needed");

    let mut client = connected.client;
    client.emit("/", "plain", "").await.unwrap();
    let before = Instant::now();
    let id = client.emit_with_ack("/", r#"with "quotes""#, r#"1,{"a":[]}"#).await.unwrap();
    let ack = client.next().await.unwrap();
    assert_eq!((ack.kind, ack.ack, ack.data.as_str()), (Kind::Ack, Some(id), r#"[{"status":201}]"#));
    assert!(ack.received >= before && ack.received <= Instant::now());
    let question = client.next().await.unwrap();
    assert_eq!((question.kind, question.ack), (Kind::Event, Some(1)));
    client.send_ack("/", 1, r#""so""#).await.unwrap();
    assert_eq!(client.close().await, Closed::Local);
    server.join();
}

#[tokio::test]
async fn revision_3_is_connected_unasked_and_pings_itself() {
    let server = Server::websocket(|mut peer| {
        assert_eq!(peer.target, "/socket.io/?EIO=3&transport=websocket");
        peer.open(40, 5_000);
        peer.send("40");
        peer.expect("2");
        peer.send("3");
        peer.expect("2");
        peer.send("3");
        peer.send(r#"42["end"]"#);
        peer.expect_goodbye();
    });
    let began = Instant::now();
    let mut client = connect(&server.options_v3()).await.unwrap().client;
    let end = client.next().await.unwrap();
    assert_eq!(end.data, r#"["end"]"#);
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(80), "two intervals, not {took:?}");
    assert!(took < Duration::from_secs(4), "a pong brings the next ping forward, not {took:?}");
    client.close().await;
    server.join();
}

#[tokio::test]
async fn revision_3_pings_also_when_there_is_always_something_to_read() {
    let (go, wait) = std::sync::mpsc::channel();
    let (sent, was_sent) = std::sync::mpsc::channel();
    let server = Server::websocket(move |mut peer| {
        peer.open(50, 5_000);
        peer.send("40");
        for n in 0..2 {
            wait.recv().unwrap();
            peer.send(&format!(r#"42["n",{n}]"#));
            sent.send(()).unwrap();
        }
        peer.expect("2");
    });
    let mut client = connect(&server.options_v3()).await.unwrap().client;
    // Sets the timer.
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(client.poll_for_each_ready(&mut context, |_| ControlFlow::Continue(())).is_pending());
    go.send(()).unwrap();
    client.next().await.unwrap();
    // The next event is there before the runtime can notice that the ping is due as well.
    go.send(()).unwrap();
    was_sent.iter().nth(1).unwrap();
    std::thread::sleep(Duration::from_millis(60));
    client.next().await.unwrap();
    // Nobody polls any more: the ping has to be out.
    server.join();
}

#[tokio::test]
async fn revision_3_connects_a_namespace_with_its_query() {
    let server = Server::websocket(|mut peer| {
        peer.greet_v3();
        peer.send(r#"42["early"]"#);
        peer.expect("40/custom?token=a%26b,");
        peer.send("40/custom,");
        peer.expect(r#"42/custom,["hi"]"#);
        peer.until_gone();
    });
    let mut options = server.options_v3();
    options.namespace = "/custom".into();
    options.query.push(("token".into(), "a&b".into()));
    let mut connected = connect(&options).await.unwrap();
    let early: Vec<_> = connected.early.iter().map(|message| (message.kind, &*message.data)).collect();
    assert_eq!(early, [(Kind::Connect, ""), (Kind::Event, r#"["early"]"#)]);
    connected.client.emit("/custom", "hi", "").await.unwrap();
    drop(connected);
    server.join();
}

#[tokio::test]
async fn further_namespaces_come_and_go_on_one_connection() {
    let server = Server::websocket(|mut peer| {
        peer.greet();
        peer.expect(r#"40/a,{"k":1}"#);
        peer.send(r#"42["meanwhile"]"#);
        peer.send(r#"40/a,{"sid":"a"}"#);
        peer.expect("40/b,");
        peer.send(r#"44/b,{"message":"no entry","data":{"code":7}}"#);
        peer.expect("41/a,");
        peer.expect("40/c,");
        peer.send(r#"40/c,{"sid":"c"}"#);
        peer.expect("41");
        peer.expect("41/c,");
        assert_eq!(peer.ws.read().unwrap(), Message::Close(None));
        peer.until_gone();
    });
    let mut client = client(&server).await;
    let mut others = Vec::new();
    let reply = client
        .connect_namespace("/a", Some(r#"{"k":1}"#), |incoming| others.push(incoming.data.to_owned()))
        .await
        .unwrap();
    assert_eq!((reply.as_str(), &others[..]), (r#"{"sid":"a"}"#, &[r#"["meanwhile"]"#.to_owned()][..]));
    let error = client.connect_namespace("/b", None, |_| ()).await.unwrap_err();
    assert_eq!(error.to_string(), "namespace: refused: no entry");
    assert_eq!(error.sample(), Some(r#"{"message":"no entry","data":{"code":7}}"#));
    client.disconnect_namespace("/a").await.unwrap();
    client.connect_namespace("/c", None, |_| ()).await.unwrap();
    client.close().await;
    server.join();
}

#[tokio::test]
async fn one_visit_takes_all_that_is_there_and_a_break_leaves_the_rest() {
    let server = Server::websocket(|mut peer| {
        peer.greet();
        let burst: Vec<u8> = (0..100).flat_map(|n| text_frame(&format!(r#"42["n",{n}]"#))).collect();
        peer.raw(&burst);
        peer.until_gone();
    });
    let mut client = client(&server).await;
    let seen = client
        .visit(|incoming| match incoming.data {
            r#"["n",2]"# => ControlFlow::Break(incoming.event_name().map(str::to_owned)),
            _ => ControlFlow::Continue(()),
        })
        .await
        .unwrap();
    assert_eq!(seen.as_deref(), Some("n"));
    let (mut next, mut reads) = (3, Vec::new());
    while next < 100 {
        let visited = client
            .for_each_ready(|incoming| {
                assert_eq!(incoming.data, format!(r#"["n",{next}]"#));
                next += 1;
                reads.push(incoming.received);
                ControlFlow::Continue(())
            })
            .await
            .unwrap();
        assert!(visited >= 1);
    }
    reads.dedup();
    assert!(reads.len() < 10, "97 messages took {} reads", reads.len());
    assert_eq!(client.buffered_bytes(), 0);
    drop(client);
    server.join();
}

#[tokio::test]
async fn frames_in_pieces_survive_cancelled_waits() {
    let server = Server::websocket(|mut peer| {
        peer.greet();
        // The greeting's reply, a ping and two events, one byte at a time, each waiting to be asked for.
        let mut bytes = text_frame(r#"42["a","길"]"#);
        bytes.extend(frame(0x89, b"ping"));
        bytes.extend(text_frame(&format!(r#"42["b","{}"]"#, "x".repeat(300))));
        let mut pongs = 0;
        for byte in bytes {
            peer.raw(&[byte]);
            let mut answer = peer.ws.read().unwrap();
            if answer == Message::Pong("ping".into()) {
                pongs += 1;
                answer = peer.ws.read().unwrap();
            }
            assert_eq!(answer.to_text().unwrap(), r#"42["more"]"#);
        }
        assert_eq!(pongs, 1);
        peer.until_gone();
    });
    let mut client = client(&server).await;
    let mut events = Vec::new();
    while events.len() < 2 {
        // Far shorter than a message takes to arrive.
        if let Ok(message) = timeout(Duration::from_micros(200), client.next()).await {
            events.push(message.unwrap().data);
        }
        client.emit("/", "more", "").await.unwrap();
    }
    assert_eq!(events[0], r#"["a","길"]"#);
    assert_eq!(events[1].len(), 308);
    assert_eq!(client.buffered_bytes(), 0);
    drop(client);
    server.join();
}

#[tokio::test]
async fn large_and_fragmented_messages_arrive_whole() {
    let server = Server::websocket(|mut peer| {
        peer.greet();
        peer.send(&format!(r#"42["big","{}"]"#, "y".repeat(3_000_000)));
        let middle = "한".as_bytes();
        peer.raw(&frame(0x01, b"42[\"frag\",\""));
        peer.raw(&frame(0x00, &middle[..1]));
        peer.raw(&frame(0x89, b"between"));
        peer.raw(&frame(0x00, &middle[1..]));
        peer.raw(&frame(0x80, b"\"]"));
        assert_eq!(peer.ws.read().unwrap(), Message::Pong("between".into()));
        peer.until_gone();
    });
    let mut client = client(&server).await;
    assert_eq!(client.next().await.unwrap().data.len(), 3_000_010);
    assert_eq!(client.next().await.unwrap().data, r#"["frag","한"]"#);
    assert_eq!(client.buffered_bytes(), 0);
    drop(client);
    server.join();
}

#[tokio::test]
async fn attachments_travel_both_ways_in_both_revisions() {
    let server = Server::websocket(|mut peer| {
        peer.greet();
        peer.expect(r#"451-7["up",{"_placeholder":true,"num":0}]"#);
        peer.expect_binary(&[1, 2]);
        peer.send(r#"461-7[{"_placeholder":true,"num":0}]"#);
        peer.send_binary(&[3]);
        peer.send(r#"452-["down",{"_placeholder":true,"num":1},{"_placeholder":true,"num":0}]"#);
        peer.send_binary(&[4]);
        peer.send_binary(&[5, 6]);
        peer.until_gone();
    });
    let mut client = client(&server).await;
    exchange_attachments(&mut client).await;
    drop(client);
    server.join();

    let server = Server::websocket(|mut peer| {
        peer.greet_v3();
        peer.expect(r#"451-7["up",{"_placeholder":true,"num":0}]"#);
        peer.expect_binary(&[4, 1, 2]);
        peer.send(r#"461-7[{"_placeholder":true,"num":0}]"#);
        peer.send_binary(&[4, 3]);
        peer.send(r#"452-["down",{"_placeholder":true,"num":1},{"_placeholder":true,"num":0}]"#);
        peer.send_binary(&[4, 4]);
        peer.send_binary(&[4, 5, 6]);
        peer.until_gone();
    });
    let mut client = connect(&server.options_v3()).await.unwrap().client;
    exchange_attachments(&mut client).await;
    drop(client);
    server.join();
}

async fn exchange_attachments(client: &mut socketio_client::Client) {
    let data = r#"["up",{"_placeholder":true,"num":0}]"#;
    client.emit_binary("/", Some(7), data, &[Bytes::from_static(&[1, 2])]).await.unwrap();
    let ack = client.next().await.unwrap();
    assert_eq!(
        (ack.kind, ack.ack, &ack.attachments[..]),
        (Kind::Ack, Some(7), &[Bytes::from_static(&[3])][..])
    );
    let down = client.next().await.unwrap();
    assert_eq!(down.kind, Kind::Event);
    assert_eq!(down.attachments, [Bytes::from_static(&[4]), Bytes::from_static(&[5, 6])]);
}

#[tokio::test]
async fn revision_4_pings_are_answered_while_visiting() {
    let server = Server::websocket(|mut peer| {
        peer.greet();
        peer.send("2");
        peer.expect("3");
        peer.send("2probe");
        peer.expect("3probe");
        peer.send(r#"42["end"]"#);
        peer.until_gone();
    });
    let mut client = client(&server).await;
    let mut seen = 0;
    let (done, end) = tokio::sync::oneshot::channel();
    let mut done = Some(done);
    client
        .visit_while(end, |incoming| {
            assert_eq!(incoming.event_name(), Some("end"));
            seen += 1;
            done.take().unwrap().send(()).unwrap();
        })
        .await
        .unwrap()
        .unwrap();
    assert_eq!(seen, 1);
    drop(client);
    server.join();
}

#[tokio::test]
async fn silence_is_a_ping_timeout_in_both_revisions() {
    let server = Server::websocket(|mut peer| {
        peer.open(60, 40);
        peer.expect("40");
        peer.send(r#"40{"sid":"s"}"#);
        peer.until_gone();
    });
    let mut client = client(&server).await;
    let began = Instant::now();
    assert_eq!(client.next().await.unwrap_err(), Closed::PingTimeout);
    assert!(began.elapsed() > Duration::from_millis(90), "{:?}", began.elapsed());
    assert_eq!(client.emit("/", "late", "").await, Err(Closed::PingTimeout), "the reason stays");
    drop(client);
    server.join();

    let server = Server::websocket(|mut peer| {
        peer.open(30, 40);
        peer.send("40");
        peer.expect("2");
        peer.until_gone();
    });
    let mut client = connect(&server.options_v3()).await.unwrap().client;
    assert_eq!(client.next().await.unwrap_err(), Closed::PingTimeout);
    drop(client);
    server.join();
}

#[tokio::test]
async fn every_end_has_its_reason() {
    let close = |code: u16| {
        move |peer: &mut common::Peer| {
            let frame = CloseFrame { code: code.into(), reason: "too slow".into() };
            peer.ws.close(Some(frame)).unwrap();
            assert_eq!(close_code(peer), Some(code), "the code is echoed");
        }
    };
    let server = |code| Closed::Server { code: Some(code), reason: "too slow".into() };
    check_end(close(4008), &server(4008)).await;
    check_end(close(1012), &server(1012)).await;
    check_end(|peer| peer.raw(&[0x88, 0]), &Closed::Server { code: None, reason: String::new() }).await;
    check_end(|peer| peer.send("1"), &Closed::Engine).await;
    check_end(|_| (), &Closed::Eof).await;
    check_end(
        |peer| reset(peer.ws.get_ref()),
        &Closed::Transport { kind: std::io::ErrorKind::ConnectionReset, text: "ECONNRESET".into() },
    )
    .await;

    let protocol = |text: &str| Closed::Protocol(text.into());
    let refuses = |bytes: &'static [u8], code: u16| {
        move |peer: &mut common::Peer| {
            peer.raw(bytes);
            assert_eq!(close_code(peer), Some(code));
        }
    };
    check_end(refuses(&[0x81, 0x80, 0, 0, 0, 0], 1002), &protocol("frame of a server with a mask")).await;
    check_end(refuses(&[0x81, 1, 0xff], 1007), &protocol("text is not UTF-8")).await;
    check_end(
        refuses(&[0x82, 127, 0, 0, 1, 0, 0, 0, 0, 0], 1009),
        &protocol("message of more than 16777216 bytes"),
    )
    .await;
    check_end(
        |peer| peer.send("9"),
        &protocol(r#"Engine.IO packet: unknown packet type (at byte 0) in "9""#),
    )
    .await;
    check_end(
        |peer| peer.send(r#"42{"not":"an array"}"#),
        &protocol(
            r#"Socket.IO packet: invalid data, expected a JSON array (at byte 1) in "2{\"not\":\"an array\"}""#,
        ),
    )
    .await;
    check_end(
        |peer| {
            peer.send(r#"451-["x",{"_placeholder":true,"num":0}]"#);
            peer.send(r#"42["y"]"#);
        },
        &protocol(
            r#"Socket.IO packet: text arrived where a binary attachment was due (at byte 0) in "2[\"y\"]""#,
        ),
    )
    .await;
}

/// The code of the close frame that has to be next.
fn close_code(peer: &mut common::Peer) -> Option<u16> {
    match peer.ws.read().unwrap() {
        Message::Close(frame) => frame.map(|frame| frame.code.into()),
        other => panic!("{other:?}"),
    }
}

/// What comes before the end is visited, the end has its reason, and the reason stays.
async fn check_end(act: impl FnOnce(&mut common::Peer) + Send + 'static, expected: &Closed) {
    let reset = matches!(expected, Closed::Transport { .. });
    let server = Server::websocket(move |mut peer| {
        peer.greet();
        peer.send(r#"42["before"]"#);
        if reset {
            // A reset takes along what the client has not read yet.
            peer.expect(r#"42["read"]"#);
        }
        act(&mut peer);
    });
    let mut client = client(&server).await;
    let mut before = 0;
    let closed = client
        .visit(|incoming| {
            before += usize::from(incoming.event_name() == Some("before"));
            if reset { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .await;
    let closed = if reset {
        client.emit("/", "read", "").await.unwrap();
        client.next().await.unwrap_err()
    } else {
        closed.unwrap_err()
    };
    assert_eq!((before, &closed), (1, expected));
    assert_eq!(client.next().await.unwrap_err(), *expected);
    assert_eq!(client.close().await, *expected);
    server.join();
}

#[tokio::test]
async fn a_failed_send_tells_why_the_server_left() {
    let (left, gone) = std::sync::mpsc::channel();
    let server = Server::websocket(move |mut peer| {
        peer.greet();
        peer.raw(&frame(0x88, &[[0x0f, 0xa8].as_slice(), b"slow"].concat()));
        drop(peer);
        left.send(()).unwrap();
    });
    let mut client = client(&server).await;
    gone.recv().unwrap();
    // The first send may still be taken by the system; its answer, a reset, makes a later one fail.
    let closed = loop {
        if let Err(closed) = client.emit("/", "hello", "").await {
            break closed;
        }
        tokio::task::yield_now().await;
    };
    // The reset may have taken the close frame along, depending on the kernel; never is it anything else.
    match closed {
        Closed::Server { code: Some(4008), ref reason } => assert_eq!(reason, "slow"),
        Closed::Transport { ref text, .. } => assert!(text == "EPIPE" || text == "ECONNRESET", "{text}"),
        other => panic!("{other:?}"),
    }
    server.join();
}

#[tokio::test]
async fn what_a_slow_server_does_not_take_waits_and_arrives_in_order() {
    const MESSAGES: usize = 400;
    let (start, started) = std::sync::mpsc::channel();
    let server = Server::websocket(move |mut peer| {
        peer.greet();
        started.recv().unwrap();
        for n in 0..MESSAGES {
            let message = peer.ws.read().unwrap();
            let text = message.to_text().unwrap();
            assert!(text.starts_with(&format!(r#"42["m",{n},"#)), "{n}: {}", &text[..20]);
        }
        peer.send(r#"42["all"]"#);
        peer.until_gone();
    });
    let mut client = client(&server).await;
    let filler = "z".repeat(50_000);
    for n in 0..MESSAGES {
        client.submit_raw(format!(r#"42["m",{n},"{filler}"]"#).as_bytes()).unwrap();
    }
    assert!(client.buffered_bytes() > 0, "20 MB do not fit into a socket");
    start.send(()).unwrap();
    assert_eq!(client.next().await.unwrap().data, r#"["all"]"#);
    assert_eq!(client.buffered_bytes(), 0);
    drop(client);
    server.join();
}

#[tokio::test]
async fn a_server_that_never_reads_is_a_send_timeout() {
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let server = Server::websocket(move |mut peer| {
        peer.greet();
        let _ = ended.recv();
    });
    let mut options = server.options();
    options.timeouts.send = Duration::from_millis(50);
    let mut client = connect(&options).await.unwrap().client;
    let packet = format!(r#"42["m","{}"]"#, "z".repeat(1_000_000));
    let closed = loop {
        if let Err(closed) = client.send_raw(packet.as_bytes()).await {
            break closed;
        }
    };
    assert_eq!(closed.to_string(), "send timeout");
    drop(end);
    server.join();
}

#[tokio::test]
async fn close_visits_what_still_arrives_and_does_not_wait_for_ever() {
    let server = Server::websocket(|mut peer| {
        peer.greet();
        peer.expect("41");
        peer.send(r#"42["last words"]"#);
        peer.until_gone();
    });
    let mut last = Vec::new();
    let closed = client(&server).await.close_visiting(|incoming| last.push(incoming.to_message().data)).await;
    assert_eq!((closed, last), (Closed::Local, vec![r#"["last words"]"#.to_owned()]));
    server.join();

    // A server that resets instead of answering is not the client's failure.
    let server = Server::websocket(|mut peer| {
        peer.greet();
        peer.expect("41");
        reset(peer.ws.get_ref());
    });
    assert_eq!(client(&server).await.close().await, Closed::Local);
    server.join();

    let (end, ended) = std::sync::mpsc::channel::<()>();
    let server = Server::websocket(move |mut peer| {
        peer.greet();
        let _ = ended.recv();
    });
    let timeouts = Timeouts { close: Duration::from_millis(50), ..Timeouts::default() };
    let client = connect(&Options { timeouts, ..server.options() }).await.unwrap().client;
    let began = Instant::now();
    assert_eq!(client.close().await, Closed::Local);
    assert!(began.elapsed() >= Duration::from_millis(50) && began.elapsed() < common::LONG);
    drop(end);
    server.join();
}

#[tokio::test]
async fn abort_is_a_reset_and_drop_is_not() {
    for abort in [true, false] {
        let server = Server::websocket(move |mut peer| {
            peer.greet();
            let error = peer.ws.read().unwrap_err();
            let reset = matches!(&error, tungstenite::Error::Io(io) if io.kind() == std::io::ErrorKind::ConnectionReset);
            assert_eq!(reset, abort, "{error:?}");
        });
        let client = client(&server).await;
        if abort {
            client.abort();
        } else {
            drop(client);
        }
        server.join();
    }
}

#[tokio::test]
async fn reading_another_client_inside_a_visit_is_safe() {
    let two = [0, 1].map(|n| {
        Server::websocket(move |mut peer| {
            peer.greet();
            peer.send(&format!(r#"42["from",{n}]"#));
            peer.until_gone();
        })
    });
    let mut first = client(&two[0]).await;
    let mut second = client(&two[1]).await;
    second.next().await.unwrap();
    let waker = std::task::Waker::noop();
    first
        .visit(|incoming: Incoming<'_>| {
            let polled = second.poll_for_each_ready(&mut std::task::Context::from_waker(waker), |_| {
                ControlFlow::Continue(())
            });
            assert!(polled.is_pending());
            assert_eq!(incoming.data, r#"["from",0]"#);
            ControlFlow::Break(())
        })
        .await
        .unwrap();
    drop((first, second));
    two.into_iter().for_each(Server::join);
}

#[tokio::test]
async fn an_idle_client_is_small() {
    let server = Server::websocket(|mut peer| {
        peer.greet();
        peer.until_gone();
    });
    let options = server.options();
    let connecting = connect(&options);
    let size = size_of_val(&connecting);
    assert!(size <= 64, "the connect future keeps {size} bytes in each task that awaits it");
    let mut client = connecting.await.unwrap().client;
    let size = size_of_val(&client);
    assert!(size <= 512, "a client is {size} bytes");
    let size = size_of_val(&client.next());
    assert!(size <= 256, "waiting takes {size} bytes");
    drop(client);
    server.join();
}
