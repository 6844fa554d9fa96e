//! Coming back after a lost connection, with waits in between.

mod common;

use std::net::TcpListener;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use common::{Peer, Server, accept};
use socketio_client::{Attempt, Backoff, Closed, Ended, Lost, Options, Reconnecting};
use tokio::time::timeout;

/// 20 ms, 40 ms, 80 ms, 80 ms, ...
fn backoff() -> Backoff {
    Backoff::between(Duration::from_millis(20), Duration::from_millis(80), 0.0, 1)
}

/// An attempt without what differs from run to run.
fn told(attempt: &Attempt<'_>) -> String {
    match attempt {
        Attempt::Connected { number, connected } => format!("{number} connected {}", connected.sid),
        other => other.to_string(),
    }
}

#[tokio::test]
async fn what_was_lost_is_connected_again_and_says_its_place_again() {
    let server = Server::listen(|listener| {
        let mut peer = Peer::accept(accept(listener));
        peer.greet();
        peer.expect(r#"42["store"]"#);
        peer.send(r#"42["news",1]"#);
        drop(peer);
        // The first attempt meets a server that is not ready.
        drop(accept(listener));
        let mut peer = Peer::accept(accept(listener));
        peer.greet();
        peer.expect(r#"42["store"]"#);
        peer.send(r#"42["news",2]"#);
        peer.send("41");
        // And then for good: the client closes and stays away.
        peer.until_gone();
        listener.set_nonblocking(true).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        assert!(listener.accept().is_err());
    });
    let mut link = Reconnecting::new(server.options(), backoff());
    assert_eq!(link.visit(|_| ControlFlow::<()>::Continue(())).await, Err(Lost::NotConnected));
    let (mut attempts, mut news, mut lost) = (Vec::new(), Vec::new(), Vec::new());
    let ended = loop {
        let client = match link.connected(|attempt| attempts.push(told(&attempt))).await {
            Ok(client) => client,
            Err(ended) => break ended,
        };
        client.emit("/", "store", "").await.unwrap();
        let visit = link.visit(|incoming| {
            news.extend(incoming.event_name().map(|_| incoming.data.to_owned()));
            ControlFlow::<()>::Continue(())
        });
        lost.push(visit.await.unwrap_err());
    };
    assert_eq!(news, [r#"["news",1]"#, r#"["news",2]"#]);
    assert_eq!(lost, [Lost::Closed(Closed::Eof), Lost::Disconnected]);
    assert!(matches!(ended, Ended::Disconnected), "{ended}");
    assert_eq!(attempts[..2], ["0 connected engine", "attempt 1 in 0.0 s"]);
    assert!(attempts[2].starts_with("attempt 1: upgrade: "), "{attempts:?}");
    // A success ends the row of attempts.
    assert_eq!(attempts[3..], ["attempt 2 in 0.0 s", "2 connected engine"]);
    assert!(link.client().is_none());
    server.join();
}

#[tokio::test]
async fn a_first_connect_that_fails_is_tried_again_and_given_up_when_told() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let options = Options::new(&format!("http://{address}")).unwrap();
    let mut link = Reconnecting::new(options, backoff()).with_attempts(3);
    let began = Instant::now();
    let mut attempts = Vec::new();
    let ended = link.connected(|attempt| attempts.push(told(&attempt))).await.unwrap_err();
    assert_eq!(ended.to_string(), "gave up: tcp: ECONNREFUSED");
    assert!(began.elapsed() >= Duration::from_millis(20 + 40 + 80), "{:?}", began.elapsed());
    assert_eq!(
        attempts,
        [
            "attempt 0: tcp: ECONNREFUSED",
            "attempt 1 in 0.0 s",
            "attempt 1: tcp: ECONNREFUSED",
            "attempt 2 in 0.0 s",
            "attempt 2: tcp: ECONNREFUSED",
            "attempt 3 in 0.1 s",
            "attempt 3: tcp: ECONNREFUSED",
        ]
    );
    // It stays so, and asks nobody.
    let ended = link.connected(|_| panic!("an attempt")).await.unwrap_err();
    assert!(matches!(ended, Ended::GaveUp(_)), "{ended}");
    assert_eq!(link.close().await, None);
}

#[tokio::test]
async fn a_cancelled_wait_is_taken_up_again_and_not_begun_anew() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let options = Options::new(&format!("http://{address}")).unwrap();
    let slow = Backoff::between(Duration::from_millis(200), Duration::from_millis(200), 0.0, 1);
    let mut link = Reconnecting::new(options, slow).with_attempts(1);
    let began = Instant::now();
    let mut waits = 0;
    let ended = loop {
        let tried = link.connected(|attempt| waits += u32::from(matches!(attempt, Attempt::Waiting { .. })));
        if let Ok(outcome) = timeout(Duration::from_millis(15), tried).await {
            break outcome.unwrap_err();
        }
        assert!(began.elapsed() < common::LONG);
    };
    assert!(matches!(ended, Ended::GaveUp(_)) && waits == 1, "{ended} after {waits} waits");
    assert!(began.elapsed() >= Duration::from_millis(200));
}

#[tokio::test]
async fn a_refusal_is_not_repeated_until_the_user_says_so() {
    let server = Server::listen(|listener| {
        for token in ["old", "new"] {
            let mut peer = Peer::accept(accept(listener));
            peer.open(25_000, 20_000);
            peer.expect(&format!(r#"40{{"token":"{token}"}}"#));
            if token == "old" {
                peer.send(r#"44{"message":"expired"}"#);
            } else {
                peer.send(r#"40{"sid":"s"}"#);
                peer.expect_goodbye();
            }
        }
    });
    let mut options = server.options();
    options.auth = Some(r#"{"token":"old"}"#.into());
    let mut link = Reconnecting::new(options, backoff());
    let ended =
        link.connected(|attempt| assert_eq!(told(&attempt), "attempt 0: namespace: refused: expired")).await;
    assert!(matches!(ended, Err(Ended::Refused(_))), "{ended:?}");
    link.options_mut().auth = Some(r#"{"token":"new"}"#.into());
    link.connected(|_| ()).await.unwrap();
    assert_eq!(link.close().await, Some(Closed::Local));
    server.join();
}
