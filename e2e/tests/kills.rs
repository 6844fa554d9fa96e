//! `kill -9` under load: what was acknowledged or heard is in the database, and no number is given twice.
//!
//! Ten rounds; `DNA_KILLS=1000 cargo test -p e2e --test kills` is a soak.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use e2e::{Dna, alone, lasting_port, sqlite};
use socketio_client::{Client, Kind, Options, connect};
use std::ops::ControlFlow;

const SENDERS: usize = 8;
/// Messages each sender has on the way at a time.
const WINDOW: usize = 32;
const ACKED_BEFORE_KILL: usize = 1_000;
const IN_FLIGHT_AT_KILL: usize = 100;

/// What the outside world knows after a kill.
#[derive(Default)]
struct Known {
    /// idx -> contents, from acks.
    acked: HashMap<u64, String>,
    /// idx -> contents, from `new_msg`.
    heard: HashMap<u64, String>,
    sent: usize,
}

async fn client(url: &str) -> Client {
    let options = Options::new(url).expect("a URL");
    connect(&options).await.expect("connecting").client
}

/// Sends with a window until the connection dies.
async fn send(url: String, token: String, name: String, known: &std::cell::RefCell<Known>) {
    let mut client = client(&url).await;
    let mut next = 0usize;
    let mut waiting: HashMap<u64, String> = HashMap::new();
    loop {
        while waiting.len() < WINDOW {
            let contents = format!("{name}-{next}");
            next += 1;
            let body = format!(
                r#"{{"token":"{token}","messageData":{{"lng":127.0276,"lat":37.4979,"contents":"{contents}"}}}}"#
            );
            known.borrow_mut().sent += 1;
            match client.emit_with_ack("/", "save_msg", &body).await {
                Ok(id) => waiting.insert(id, contents),
                Err(_) => return,
            };
        }
        let ready = client
            .for_each_ready(|incoming| {
                if matches!(incoming.kind, Kind::Ack)
                    && let Some(contents) = incoming.ack.and_then(|id| waiting.remove(&id))
                {
                    let answer: serde_json::Value = serde_json::from_str(incoming.data).expect("JSON");
                    assert_eq!(answer[0]["status"], 201, "{answer}");
                    let idx = answer[0]["result"]["idx"].as_u64().expect("idx");
                    let before = known.borrow_mut().acked.insert(idx, contents);
                    assert_eq!(before, None, "{idx} acknowledged twice");
                }
                ControlFlow::Continue(())
            })
            .await;
        if ready.is_err() {
            return;
        }
    }
}

async fn listen(
    url: String,
    token: String,
    known: &std::cell::RefCell<Known>,
    ready: tokio::sync::oneshot::Sender<()>,
) {
    let mut client = client(&url).await;
    let body = format!(r#"{{"token":"{token}","position":[127.0276,37.4979],"radius":500}}"#);
    client.emit_with_ack("/", "store", &body).await.expect("store");
    let mut ready = Some(ready);
    loop {
        let result = client
            .for_each_ready(|incoming| {
                match incoming.event_name() {
                    Some("new_msg") => {
                        let event: serde_json::Value = serde_json::from_str(incoming.data).expect("JSON");
                        let result = &event[1]["result"];
                        let idx = result["idx"].as_u64().expect("idx");
                        let contents = result["contents"].as_str().expect("contents").to_owned();
                        let before = known.borrow_mut().heard.insert(idx, contents);
                        assert_eq!(before, None, "{idx} heard twice");
                    }
                    _ if matches!(incoming.kind, Kind::Ack) => {
                        if let Some(ready) = ready.take() {
                            let _ = ready.send(());
                        }
                    }
                    _ => {}
                }
                ControlFlow::Continue(())
            })
            .await;
        if result.is_err() {
            return;
        }
    }
}

#[test]
fn nothing_acknowledged_or_heard_is_lost_and_no_number_comes_twice() {
    let _alone = alone();
    let rounds: usize = std::env::var("DNA_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(10);
    let data = tempfile::tempdir().unwrap();
    let database = data.path().join("dna.db");
    let port = lasting_port();
    let mut everything: HashMap<u64, String> = HashMap::new();
    let (mut acked, mut heard) = (0, 0);
    let mut fewest_in_flight = usize::MAX;
    for round in 0..rounds {
        let mut dna = Dna::start_on(port, data.path(), &["--no-limits", "--workers", "2"]);
        let tokens = dna.tokens(1, SENDERS as u64 + 1, false);
        let known = std::cell::RefCell::new(Known::default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let in_flight = runtime.block_on(async {
            let (standing, stands) = tokio::sync::oneshot::channel();
            let senders = async {
                stands.await.expect("the listener stands");
                let sending = (0..SENDERS).map(|number| {
                    send(dna_url(port), tokens[number].clone(), format!("r{round}s{number}"), &known)
                });
                futures_util::future::join_all(sending).await;
            };
            let killer = async {
                let more = fastrand::usize(0..500);
                loop {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    let (acked, sent) = (known.borrow().acked.len(), known.borrow().sent);
                    if acked >= ACKED_BEFORE_KILL + more && sent - acked >= IN_FLIGHT_AT_KILL {
                        e2e::signal(dna.pid(), libc::SIGKILL);
                        return sent - acked;
                    }
                }
            };
            let listener = listen(dna_url(port), tokens[SENDERS].clone(), &known, standing);
            let ((), (), in_flight) = tokio::join!(senders, listener, killer);
            in_flight
        });
        dna.kill();
        fewest_in_flight = fewest_in_flight.min(in_flight);
        let known = known.into_inner();
        acked += known.acked.len();
        heard += known.heard.len();

        let stored: HashMap<u64, String> = sqlite(&database, "SELECT idx, contents FROM message")
            .iter()
            .map(|row| {
                row.split_once('|').map(|(idx, text)| (idx.parse().unwrap(), text.to_owned())).unwrap()
            })
            .collect();
        for (idx, contents) in known.acked.iter().chain(&known.heard) {
            assert_eq!(stored.get(idx), Some(contents), "round {round}: {idx} is not what was told");
            if let Some(before) = everything.get(idx) {
                assert_eq!(before, contents, "round {round}: {idx} was given twice");
            }
        }
        everything.extend(known.acked);
        everything.extend(known.heard);
        let distinct: HashSet<&String> = stored.values().collect();
        assert_eq!(distinct.len(), stored.len(), "round {round}: a message is stored twice");
    }
    println!(
        "{rounds} kills: {acked} acknowledged, {heard} heard, at least {fewest_in_flight} in flight each"
    );
}

fn dna_url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}
