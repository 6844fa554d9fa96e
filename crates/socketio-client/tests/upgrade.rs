//! The change from polling to WebSocket, and what keeps a session polling.

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::polling::{Replay, open_packet, server};
use common::{Peer, Server};
use socketio_client::{Client, Closed, Options, Stage, Transport, connect};
use tokio::time::timeout;
use tungstenite::Message;

const OFFERED: &str = r#"["websocket"]"#;

fn options(server: &Server) -> Options {
    Options { transport: Transport::PollingThenWebSocket, ..server.options() }
}

/// Visits until the event `end`, and answers the data of all events.
async fn until_end(client: &mut Client) -> Vec<String> {
    let mut events = Vec::new();
    loop {
        let message = client.next().await.unwrap();
        if message.data == r#"["end"]"# {
            return events;
        }
        events.push(message.data);
    }
}

#[tokio::test]
async fn a_session_changes_to_websocket_and_nothing_is_lost_on_the_way() {
    let server = server(|mut requests| {
        let mut first = requests.get();
        let open = open_packet(OFFERED, 25_000, 20_000);
        first.raw(format!(
            "HTTP/1.1 200 OK\r\nSet-Cookie: AWSALB=one\r\nContent-Length: {}\r\n\r\n{open}",
            open.len()
        ));
        requests.expect_post("40");
        requests.get().answer(r#"40{"sid":"s"}"#);
        let upgrade = requests.websocket();
        assert_eq!(upgrade.target, "/socket.io/?EIO=4&transport=websocket&sid=engine%2F1");
        assert_eq!(upgrade.header("cookie"), Some("AWSALB=one"));
        // Said before the probe gets through: by post.
        let first = requests.post();
        assert_eq!(first.text(), r#"42["n",0]"#);
        let poll = requests.get();
        let mut peer = upgrade.into_websocket();
        peer.expect("2probe");
        peer.send("3probe");
        // Paused: what is under way is waited for, and nothing new is begun.
        std::thread::sleep(Duration::from_millis(50));
        assert!(requests.is_empty());
        poll.answer(r#"42["by poll"]"#);
        std::thread::sleep(Duration::from_millis(50));
        assert!(requests.is_empty());
        first.answer("ok");
        peer.expect("5");
        peer.expect(r#"42["n",1]"#);
        peer.expect(r#"451-["n",{"_placeholder":true,"num":0}]"#);
        peer.expect_binary(&[2]);
        peer.expect(r#"42["n",3]"#);
        assert!(requests.is_empty());
        peer.send(r#"42["by websocket"]"#);
        peer.send("2");
        peer.expect("3");
        peer.send(r#"42["end"]"#);
        peer.expect_goodbye();
    });
    let mut client = connect(&options(&server)).await.unwrap().client;
    assert_eq!(client.transport(), Transport::Polling);
    for n in [0, 1] {
        client.emit("/", "n", &n.to_string()).await.unwrap();
    }
    let placeholder = r#"["n",{"_placeholder":true,"num":0}]"#;
    client.emit_binary("/", None, placeholder, &[Bytes::from_static(&[2])]).await.unwrap();
    client.emit("/", "n", "3").await.unwrap();
    assert!(client.take_upgrade().is_none(), "under way");
    assert_eq!(until_end(&mut client).await, [r#"["by poll"]"#, r#"["by websocket"]"#]);
    assert_eq!(client.transport(), Transport::WebSocket);
    let upgrade = client.take_upgrade().unwrap();
    let stages = upgrade.outcome.unwrap();
    assert!(stages.upgrade > Duration::ZERO && stages.probe > Duration::ZERO, "{stages:?}");
    assert!(upgrade.took >= Duration::from_millis(100), "both waits lie in it: {:?}", upgrade.took);
    assert!(client.take_upgrade().is_none(), "told once");
    assert_eq!(client.buffered_bytes(), 0);
    assert_eq!(client.close().await, Closed::Local);
    server.join();
}

#[tokio::test]
async fn revision_3_changes_too() {
    let server = server(|mut requests| {
        let open = open_packet(OFFERED, 60, 5_000);
        requests.get().answer(format!("{}:{open}2:40", open.len()));
        let mut peer = requests.websocket().into_websocket();
        peer.expect("2probe");
        peer.send("3probe");
        requests.get().answer("1:6");
        peer.expect("5");
        peer.expect("2");
        peer.send("3");
        peer.send_binary(&[4, 9]);
    });
    let mut options = options(&server);
    options.revision = socketio_client::Revision::V3;
    let mut client = connect(&options).await.unwrap().client;
    let closed = client.next().await.unwrap_err();
    assert_eq!(
        closed.to_string(),
        "binary message: a binary attachment arrived where none was due (at byte 0)"
    );
    assert_eq!(client.transport(), Transport::WebSocket);
    server.join();
}

#[tokio::test]
async fn waits_may_be_cancelled_at_any_point_of_the_change() {
    let server = server(|mut requests| {
        requests.greet(OFFERED);
        let upgrade = requests.websocket();
        std::thread::sleep(Duration::from_millis(5));
        let mut peer = upgrade.into_websocket();
        peer.expect("2probe");
        std::thread::sleep(Duration::from_millis(5));
        peer.send("3probe");
        let poll = requests.get();
        std::thread::sleep(Duration::from_millis(5));
        poll.answer(r#"42["a"]"#);
        peer.expect("5");
        std::thread::sleep(Duration::from_millis(5));
        peer.send(r#"42["b"]"#);
        peer.expect(r#"42["thanks"]"#);
    });
    let mut client = connect(&options(&server)).await.unwrap().client;
    let mut heard = Vec::new();
    while heard.len() < 2 {
        if let Ok(message) = timeout(Duration::from_micros(200), client.next()).await {
            heard.push(message.unwrap().data);
        }
    }
    assert_eq!(heard, [r#"["a"]"#, r#"["b"]"#]);
    client.emit("/", "thanks", "").await.unwrap();
    server.join();
}

/// The session goes on by polling, and the failure has this stage and text.
async fn check_stays(
    break_it: impl FnOnce(common::polling::Request) + Send + 'static,
    stage: Stage,
    text: &str,
) {
    let (failed, has_failed) = std::sync::mpsc::channel();
    let server = server(move |mut requests| {
        requests.greet(OFFERED);
        break_it(requests.websocket());
        // A client that has begun to pause polls again.
        requests.get().answer(r#"42["still"]"#);
        has_failed.recv().unwrap();
        requests.expect_post(r#"42["here"]"#);
        requests.get().answer(r#"42["end"]"#);
        requests.expect_goodbye("41\x1e1");
    });
    let mut options = options(&server);
    options.timeouts.stage = Duration::from_millis(300);
    let mut client = connect(&options).await.unwrap().client;
    let mut upgrade = client.take_upgrade();
    let mut heard = Vec::new();
    while upgrade.is_none() {
        if let Ok(message) = timeout(Duration::from_millis(5), client.next()).await {
            heard.push(message.unwrap().data);
        }
        upgrade = client.take_upgrade();
    }
    let error = upgrade.unwrap().outcome.unwrap_err();
    assert_eq!((error.stage(), error.to_string().as_str()), (stage, text));
    assert_eq!(error.endpoint(), server.addr.to_string());
    failed.send(()).unwrap();
    client.emit("/", "here", "").await.unwrap();
    heard.extend(until_end(&mut client).await);
    assert_eq!(heard, [r#"["still"]"#]);
    assert_eq!(client.transport(), Transport::Polling);
    assert_eq!(client.close().await, Closed::Local);
    server.join();
}

#[tokio::test]
async fn an_upgrade_that_is_refused_keeps_the_session_polling() {
    check_stays(
        |mut request| request.raw("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy"),
        Stage::Upgrade,
        "upgrade: 503 Service Unavailable",
    )
    .await;
    // A proxy that knows no WebSocket.
    check_stays(
        |mut request| request.raw("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        Stage::Upgrade,
        "upgrade: 200 OK",
    )
    .await;
    check_stays(
        |request| request.stream.shutdown(std::net::Shutdown::Both).unwrap(),
        Stage::Upgrade,
        "upgrade: connection closed before an answer",
    )
    .await;
}

#[tokio::test]
async fn a_probe_that_fails_keeps_the_session_polling() {
    let peer = |act: fn(Peer<Replay>)| {
        move |request: common::polling::Request| {
            let mut peer = request.into_websocket();
            peer.expect("2probe");
            act(peer);
        }
    };
    let silent = peer(|peer| {
        // Open, and silent, until the client gives up.
        std::thread::spawn(move || {
            let mut peer = peer;
            while peer.ws.read().is_ok() {}
        });
    });
    check_stays(silent, Stage::Probe, "probe: timeout").await;
    check_stays(
        peer(|mut peer| peer.send("3nonsense")),
        Stage::Probe,
        r#"probe: expected "3probe", got "3nonsense""#,
    )
    .await;
    check_stays(
        peer(|mut peer| peer.send_binary(&[1])),
        Stage::Probe,
        r#"probe: expected "3probe", got a binary message"#,
    )
    .await;
    check_stays(
        peer(|peer| peer.ws.get_ref().stream.shutdown(std::net::Shutdown::Both).unwrap()),
        Stage::Probe,
        "probe: connection ended without a close frame",
    )
    .await;
    check_stays(
        peer(|mut peer| {
            peer.send("3probe");
            peer.send(r#"42["too soon"]"#);
        }),
        Stage::Probe,
        "probe: a message before the change",
    )
    .await;
    // After the answer and before the change.
    check_stays(
        peer(|mut peer| {
            peer.send("3probe");
            peer.ws.close(None).unwrap();
            assert!(matches!(peer.ws.read(), Ok(Message::Close(_))));
        }),
        Stage::Probe,
        "probe: closed by the server without a code",
    )
    .await;
}

#[tokio::test]
async fn without_an_offer_none_is_tried() {
    let server = server(|mut requests| {
        requests.greet("[]");
        let poll = requests.get();
        std::thread::sleep(Duration::from_millis(30));
        assert!(requests.is_empty());
        poll.answer(r#"42["end"]"#);
        drop(requests.get());
    });
    let mut client = connect(&options(&server)).await.unwrap().client;
    assert_eq!(until_end(&mut client).await, [""; 0]);
    assert!(client.take_upgrade().is_none());
    let _ = timeout(Duration::from_millis(20), client.next()).await;
    server.join();
}

#[tokio::test]
async fn leaving_in_the_midst_of_the_change_is_leaving() {
    for probed in [false, true] {
        let (ready, is_ready) = std::sync::mpsc::channel();
        let server = server(move |mut requests| {
            requests.greet(OFFERED);
            let mut peer = requests.websocket().into_websocket();
            peer.expect("2probe");
            if probed {
                peer.send("3probe");
            }
            let poll = requests.get();
            ready.send(()).unwrap();
            requests.expect_post("41\x1e1");
            poll.answer("6");
            assert!(peer.ws.read().is_err(), "not changed to");
        });
        let mut client = connect(&options(&server)).await.unwrap().client;
        while is_ready.try_recv().is_err() {
            assert!(timeout(Duration::from_millis(5), client.next()).await.is_err());
        }
        let _ = timeout(Duration::from_millis(20), client.next()).await;
        assert_eq!(client.close().await, Closed::Local);
        server.join();
    }
}

/// A client that is paused for the change: the probe has got through and a poll is still under way.
async fn until_paused(client: &mut Client) {
    for _ in 0..10 {
        assert!(timeout(Duration::from_millis(10), client.next()).await.is_err());
    }
}

#[tokio::test]
async fn a_flood_during_the_change_is_posted_and_does_not_gather_without_bound() {
    let server = server(|mut requests| {
        requests.greet(OFFERED);
        let mut peer = requests.websocket().into_websocket();
        peer.expect("2probe");
        peer.send("3probe");
        let poll = requests.get();
        // At most 64 kB, six of them, stay for the change.
        let mut posted = 0;
        while posted < 94 {
            let post = requests.post();
            posted += post.text().split('\u{1e}').count();
            post.answer("ok");
        }
        poll.answer("6");
        peer.expect("5");
        for _ in posted..100 {
            assert!(peer.ws.read().unwrap().to_text().unwrap().starts_with(r#"42["n""#));
        }
    });
    let mut client = connect(&options(&server)).await.unwrap().client;
    until_paused(&mut client).await;
    let big = format!("\"{}\"", "x".repeat(10_000));
    for _ in 0..100 {
        client.emit("/", "n", &big).await.unwrap();
        assert!(client.buffered_bytes() < 200_000, "{}", client.buffered_bytes());
    }
    let _ = timeout(Duration::from_millis(300), client.next()).await;
    assert_eq!(client.transport(), Transport::WebSocket);
    server.join();
}

#[tokio::test]
async fn a_poll_that_goes_stale_during_the_change_does_not_hold_it_up() {
    let server = server(|mut requests| {
        requests.greet(OFFERED);
        let mut peer = requests.websocket().into_websocket();
        peer.expect("2probe");
        let poll = requests.get();
        peer.send("3probe");
        std::thread::sleep(Duration::from_millis(50));
        poll.stream.shutdown(std::net::Shutdown::Both).unwrap();
        peer.expect("5");
        peer.send(r#"42["end"]"#);
    });
    let mut client = connect(&options(&server)).await.unwrap().client;
    assert_eq!(timeout(common::LONG, until_end(&mut client)).await.unwrap(), [""; 0]);
    assert_eq!(client.transport(), Transport::WebSocket);
    server.join();
}

#[tokio::test]
async fn the_last_sign_of_life_goes_along_with_the_change() {
    let server = server(|mut requests| {
        requests.get().answer(open_packet(OFFERED, 100, 300));
        requests.expect_post("40");
        requests.get().answer(r#"40{"sid":"s"}"#);
        let mut peer = requests.websocket().into_websocket();
        peer.expect("2probe");
        peer.send("3probe");
        let poll = requests.get();
        std::thread::sleep(Duration::from_millis(300));
        poll.answer("6");
        peer.expect("5");
        // Beyond what the probe's answer allows, within what the last poll's does.
        std::thread::sleep(Duration::from_millis(200));
        peer.send(r#"42["end"]"#);
    });
    let mut client = connect(&options(&server)).await.unwrap().client;
    assert_eq!(until_end(&mut client).await, [""; 0]);
    server.join();
}
