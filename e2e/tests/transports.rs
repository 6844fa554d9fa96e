//! Long polling and the change to WebSocket: our client and `drumfire` against the official servers of both
//! generations, against `dna` and against the example `protocol-echo`.

use std::ops::ControlFlow;
use std::time::Duration;

use e2e::echo::Echo;
use e2e::lines::LineProgram;
use e2e::stage::Stage;
use e2e::{Dna, alone, drumfire, read_json, sqlite_number};
use futures_util::future::join_all;
use serde_json::Value;
use socketio_client::{Closed, Kind, Options, Revision, Transport, connect, detect_revision};
use tokio::time::timeout;

const LONG: Duration = Duration::from_secs(30);
const TRANSPORTS: [Transport; 3] =
    [Transport::WebSocket, Transport::Polling, Transport::PollingThenWebSocket];

/// An official server, which counts what it hears.
struct Node {
    program: LineProgram,
    url: String,
}

impl Node {
    fn start(version: &str) -> Self {
        let program = LineProgram::node("server.mjs", &[version]);
        let url = format!("http://127.0.0.1:{}", program.line(LONG)["port"]);
        Self { program, url }
    }

    /// What it counted.
    fn end(mut self) -> Value {
        self.program.close_input();
        self.program.line(LONG)
    }
}

/// Text and binary both ways, enough to fill several polls, then nothing for `silence`; over every transport.
async fn echo(url: &str, revision: Option<Revision>, silence: Duration) {
    join_all(TRANSPORTS.map(|transport| echo_over(transport, url, revision, silence))).await;
}

async fn echo_over(transport: Transport, url: &str, revision: Option<Revision>, silence: Duration) {
    let mut options = Options::new(url).unwrap();
    options.transport = transport;
    options.revision = match revision {
        Some(revision) => revision,
        None => detect_revision(&options).await.unwrap(),
    };
    let mut client = connect(&options).await.unwrap().client;
    let echoed = timeout(LONG, async {
        const MESSAGES: usize = 300;
        for n in 0..MESSAGES {
            client.emit("/", "message", &format!(r#"{n},"길 𝄞""#)).await.unwrap();
        }
        let mut n = 0;
        client
            .visit(|incoming| {
                if incoming.event_name() == Some("message-back") {
                    assert_eq!(incoming.data, format!(r#"["message-back",{n},"길 𝄞"]"#));
                    n += 1;
                }
                if n == MESSAGES { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })
            .await
            .unwrap();
        let bytes = [vec![0, 1, 2, 255].into(), vec![7; 100_000].into()];
        let data = r#"["message-with-ack",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#;
        let id = client.next_ack_id();
        client.emit_binary("/", Some(id), data, &bytes).await.unwrap();
        let back = client
            .visit(|incoming| match incoming.kind {
                Kind::Ack => ControlFlow::Break(incoming.to_message()),
                _ => ControlFlow::Continue(()),
            })
            .await
            .unwrap();
        assert_eq!((back.ack, &*back.attachments), (Some(id), &bytes[..]));
        client.visit_while(tokio::time::sleep(silence), |_| ()).await.unwrap();
    });
    echoed.await.unwrap_or_else(|_| panic!("{transport:?} at {url}"));
    let expected = match transport {
        Transport::Polling => Transport::Polling,
        _ => Transport::WebSocket,
    };
    assert_eq!(client.transport(), expected);
    match client.take_upgrade() {
        Some(upgrade) => {
            assert_eq!(transport, Transport::PollingThenWebSocket);
            upgrade.outcome.unwrap();
        }
        None => assert_ne!(transport, Transport::PollingThenWebSocket),
    }
    assert_eq!(client.close().await, Closed::Local);
}

#[tokio::test]
async fn our_client_with_the_official_servers_over_every_transport() {
    for (version, revision) in [("2", Revision::V3), ("4", Revision::V4)] {
        let server = Node::start(version);
        echo(&server.url, None, Duration::ZERO).await;
        let mut options = Options::new(&server.url).unwrap();
        options.transport = Transport::Polling;
        assert_eq!(detect_revision(&options).await.unwrap(), revision);
        let counted = server.end();
        assert_eq!(counted["upgrades"], 1, "{counted}");
    }
}

#[tokio::test]
async fn our_client_with_our_server_over_every_transport() {
    let (ping_interval, ping_timeout) = (Duration::from_millis(300), Duration::from_secs(5));
    let server = Echo::start(ping_interval, ping_timeout);
    for revision in [Revision::V3, Revision::V4] {
        // Longer than the server's heartbeat allows silence.
        let silence = ping_interval + ping_timeout + Duration::from_secs(1);
        echo(&server.url, Some(revision), silence).await;
    }
}

const USERS: u64 = 200;

fn script(socketio: &str) -> String {
    format!(
        r#"
config:
  target: "http://127.0.0.1:1"
  socketio: {{{socketio}}}
  payload: {{path: tokens.csv, fields: [token], order: sequence}}
  phases: [{{duration: 2, arrivalRate: {}}}]
scenarios:
  - engine: socketio
    flow:
      - emit: {{channel: save_msg, data: {{token: "{{{{ token }}}}", messageData: {{lng: 127.0276, lat: 37.4979, contents: hello, type: Message}}}}}}
        acknowledge: true
      - think: 2
      - emit: {{channel: save_msg, data: {{token: "{{{{ token }}}}", messageData: {{lng: 127.0276, lat: 37.4979, contents: bye, type: Message}}}}}}
        acknowledge: true
"#,
        USERS / 2
    )
}

/// Runs the script and answers how many changed to WebSocket; nobody fails, every message is acknowledged.
fn fire(stage: &Stage, target: &str, socketio: &str, polls: bool) -> u64 {
    stage.write("transports.yml", &script(socketio));
    drumfire(
        &["run", "-o", "out.json", "-t", target, "transports.yml"],
        stage.dir(),
        Duration::from_secs(120),
    )
    .expect_code(0);
    let result = read_json(&stage.path("out.json"));
    let errors = &result["drumfire"]["errors"];
    assert_eq!(errors.as_array().map(Vec::len), Some(0), "{socketio}: {errors:#}");
    let counters = &result["aggregate"]["counters"];
    assert_eq!(counters["vusers.completed"], USERS, "{socketio}: {counters:#}");
    let summaries = &result["aggregate"]["summaries"];
    assert_eq!(summaries["socketio.response_time"]["count"], 2 * USERS, "{socketio}");
    assert_eq!(
        summaries["socketio.connect.polling"]["count"].as_u64().unwrap_or(0),
        if polls { USERS } else { 0 }
    );
    counters["socketio.upgrades"].as_u64().unwrap_or(0)
}

const KINDS: [(&str, bool, u64); 3] =
    [(r#"transports: ["websocket"]"#, false, 0), (r#"transports: ["polling"]"#, true, 0), ("", true, USERS)];

fn drumfire_against_node(version: &str) {
    let _alone = alone();
    let server = Node::start(version);
    let stage = Stage::empty();
    stage.write("tokens.csv", &(1..=USERS).map(|n| format!("token-{n}\n")).collect::<String>());
    for (socketio, polls, upgrades) in KINDS {
        assert_eq!(fire(&stage, &server.url, socketio, polls), upgrades, "{version}: {socketio}");
    }
    let counted = server.end();
    assert_eq!(counted["save_msg"], 3 * 2 * USERS, "{counted}");
    assert_eq!(counted["upgrades"], USERS, "{counted}");
}

#[test]
fn drumfire_polls_and_changes_with_socket_io_2_5() {
    drumfire_against_node("2");
}

#[test]
fn drumfire_polls_and_changes_with_socket_io_4_8() {
    drumfire_against_node("4");
}

#[test]
fn drumfire_polls_and_changes_with_dna() {
    let _alone = alone();
    let data = tempfile::tempdir().unwrap();
    let dna = Dna::start(data.path(), &["--no-limits"]);
    let stage = Stage::set(&dna, USERS, 1);
    for protocol in ["protocol: 4", "protocol: 3"] {
        for (socketio, polls, upgrades) in KINDS {
            let socketio = format!("{protocol}, {socketio}");
            assert_eq!(
                fire(&stage, &dna.url(), socketio.trim_end_matches(", "), polls),
                upgrades,
                "{socketio}"
            );
        }
    }
    let stored = sqlite_number(&data.path().join("dna-test.db"), "SELECT count(*) FROM message");
    assert_eq!(stored, 2 * 3 * 2 * USERS as i64);
}
