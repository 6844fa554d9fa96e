//! Whole runs of the ws engine against small servers of tungstenite, which shares no code with ours.

mod support;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use load_tester::outcome::{Outcome, names};
use load_tester::run::{RunOptions, run};
use load_tester::script::{self, LoadOptions};
use serde_json::{Value, json};
use support::{Manner, Server, counter, drumfire, drumfire_in_time};
use tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tungstenite::http::HeaderValue;
use tungstenite::{Message, WebSocket};

type Peer = WebSocket<TcpStream>;
type OnMessage = dyn Fn(&Plain, &Arc<Mutex<Peer>>, Message) + Send + Sync;

/// A WebSocket server, a thread for each connection. Reading polls, so that a peer can be written to meanwhile.
struct Plain {
    address: SocketAddr,
    /// Request lines and headers.
    handshakes: Mutex<Vec<String>>,
    peers: Mutex<Vec<Arc<Mutex<Peer>>>>,
    closed: AtomicUsize,
    on_message: Box<OnMessage>,
}

impl Plain {
    fn start(
        on_open: impl Fn(&mut Peer) + Send + Sync + 'static,
        on_message: impl Fn(&Plain, &Arc<Mutex<Peer>>, Message) + Send + Sync + 'static,
    ) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Arc::new(Self {
            address: listener.local_addr().unwrap(),
            handshakes: Mutex::default(),
            peers: Mutex::default(),
            closed: AtomicUsize::new(0),
            on_message: Box::new(on_message),
        });
        let (this, on_open) = (Arc::clone(&server), Arc::new(on_open));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (this, on_open) = (Arc::clone(&this), Arc::clone(&on_open));
                std::thread::spawn(move || this.serve(stream, &*on_open));
            }
        });
        server
    }

    #[allow(clippy::result_large_err)] // tungstenite's own type
    fn serve(&self, stream: TcpStream, on_open: &dyn Fn(&mut Peer)) -> Option<()> {
        let accept = |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
            let headers = request.headers();
            let text = |name: &str| headers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
            let told = ["x-token", "sec-websocket-protocol", "cookie"].map(text).join("|");
            self.handshakes.lock().unwrap().push(format!("{} {told}", request.uri()));
            if request.uri().path() == "/full" {
                let mut refusal = ErrorResponse::new(Some("no room".to_owned()));
                *refusal.status_mut() = tungstenite::http::StatusCode::SERVICE_UNAVAILABLE;
                return Err(refusal);
            }
            if text("sec-websocket-protocol").contains("json") {
                response.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static("json"));
            }
            Ok(response)
        };
        let mut peer = tungstenite::accept_hdr(stream, accept).ok()?;
        on_open(&mut peer);
        peer.get_ref().set_read_timeout(Some(std::time::Duration::from_millis(5))).unwrap();
        let peer = Arc::new(Mutex::new(peer));
        self.peers.lock().unwrap().push(Arc::clone(&peer));
        loop {
            let read = peer.lock().unwrap().read();
            match read {
                Ok(Message::Close(_)) => {
                    self.closed.fetch_add(1, Ordering::Relaxed);
                }
                Ok(message) => (self.on_message)(self, &peer, message),
                Err(tungstenite::Error::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    std::thread::yield_now();
                }
                Err(_) => return None,
            }
        }
    }

    fn drum(&self, yaml: &str) -> Outcome {
        let yaml = yaml.replace("{target}", &format!("ws://{}", self.address));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("script.yml");
        std::fs::write(&path, yaml).unwrap();
        let script =
            script::load(&LoadOptions { files: vec![path], seed: Some(7), ..LoadOptions::default() })
                .unwrap_or_else(|error| panic!("{error}"));
        run(&script, &RunOptions { workers: Some(2), ..RunOptions::default() }, &mut |_| {}).unwrap()
    }
}

fn echo(_: &Plain, peer: &Arc<Mutex<Peer>>, message: Message) {
    if message.is_text() || message.is_binary() {
        // The client may be gone, which is its right.
        let _ = peer.lock().unwrap().send(message);
    }
}

fn script(config: &str, flow: &str) -> String {
    format!(
        "
config:
  target: \"{{target}}\"
  timeout: 2
  phases: [{{duration: 0.1, arrivalCount: 2}}]
{config}
scenarios:
  - engine: ws
    flow:
{flow}
"
    )
}

#[track_caller]
fn completed(outcome: &Outcome) {
    assert_eq!(counter(outcome, "vusers.completed"), 2, "{:?}", outcome.errors);
    assert_eq!(outcome.errors, []);
}

#[test]
fn a_ws_user_sends_waits_and_captures() {
    let got = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&got);
    let server = Plain::start(
        |peer| peer.send(Message::text(r#"{"kind":"welcome","id":5}"#)).unwrap(),
        move |server, peer, message| {
            kept.lock().unwrap().push(message.clone());
            // Noise before the answer.
            let _ = peer.lock().unwrap().send(Message::text(r#"{"kind":"noise"}"#));
            echo(server, peer, message);
        },
    );
    let outcome = server.drum(&script(
        "",
        r#"
      - think: 0.05
      - wait: {match: {json: $.kind, value: welcome}, capture: {json: $.id, as: id}}
      - send: {ask: "{{ id }}"}
      - wait: {match: {json: $.ask, value: 5}}
      - send: {payload: "plain {{ id }}", match: {regexp: "plain 5", value: "plain 5"}}
      - send: {payload: AAEC/w==, encoding: base64, capture: {json: $, as: bytes}, match: {json: $, value: AAEC/w==}}
      - send: unanswered
      - think: 0.05
      - loop: [{send: again}, {wait: {timeout: 1}}]
        count: 2
      - log: "{{ bytes }}"
"#,
    ));
    completed(&outcome);
    let got = std::mem::take(&mut *got.lock().unwrap());
    for message in [
        Message::text(r#"{"ask":5}"#),
        Message::text("plain 5"),
        Message::binary(vec![0, 1, 2, 255]),
        Message::text("unanswered"),
    ] {
        assert_eq!(got.iter().filter(|one| **one == message).count(), 2, "{message}");
    }
    assert_eq!(counter(&outcome, "websocket.messages_sent"), 12);
    // Two for each frame, and the welcome; the last may cross the goodbye.
    let received = counter(&outcome, "websocket.messages_received");
    assert!((20..=26).contains(&received), "{received}");
    let times = &outcome.total.histograms["websocket.response_time"];
    // `ask`, `plain` and the bytes of both users. What the loop's waits took had come before it was asked for.
    assert_eq!(times.len(), 6, "an unanswered send has no latency");
    // One for the welcome, one for `ask` and two in the loop; an answer of a `send` is no wait.
    assert_eq!(outcome.total.histograms["drumfire.wait.frame"].len(), 8);
    assert!(!outcome.total.histograms.contains_key(names::SOCKETIO_RESPONSE_TIME));
    assert_eq!(outcome.meta.engine_revision, None);
    assert_eq!(server.closed.load(Ordering::Relaxed), 2, "users say goodbye");
}

#[test]
fn a_ws_user_connects_as_the_script_says() {
    let server = Plain::start(|_| {}, echo);
    let handshakes = || {
        let mut all = std::mem::take(&mut *server.handshakes.lock().unwrap());
        all.sort();
        all
    };
    let outcome = server.drum(&script(
        "  variables: {token: [t1]}\n  ws: {headers: {X-Token: \"{{ token }}\"}, subprotocols: [json, xml]}",
        "      - send: {payload: hi, match: {regexp: hi, value: hi}}",
    ));
    completed(&outcome);
    assert_eq!(handshakes(), ["/ t1|json, xml|"; 2]);
    for stage in ["tcp", "upgrade", "total"] {
        assert_eq!(outcome.total.histograms[&format!("websocket.connect.{stage}")].len(), 2, "{stage}");
    }
    assert!(!outcome.total.histograms.contains_key("websocket.connect.tls"));
    assert!(!outcome.total.histograms.contains_key(names::CONNECT_TOTAL), "that is Socket.IO's");

    // Each user has an address of its own; a path goes to the target.
    let flow = "      - connect: {target: \"/room/{{ room }}?a=1\", headers: {X-Token: \"{{ room }}\"}, subprotocols: [json]}
      - send: {payload: hi, match: {regexp: hi, value: hi}}";
    let config = "  variables: {room: [r1]}";
    completed(&server.drum(&script(config, flow)));
    assert_eq!(handshakes(), ["/room/r1?a=1 r1|json|"; 2]);
    let absolute = flow.replace("\"/room", "\"{{ target }}/room");
    completed(&server.drum(&script(config, &absolute)));
    assert_eq!(handshakes(), ["/room/r1?a=1 r1|json|"; 2]);

    // What goes wrong says where and why, under Node's names.
    let outcome = server.drum(&script("", "      - connect: /full\n      - send: never"));
    assert_eq!(counter(&outcome, "vusers.failed"), 2);
    let error = &outcome.errors[0];
    assert_eq!((error.count, error.code.as_str()), (2, "Unexpected server response: 503"));
    assert!(error.step.starts_with("connect (line ") && error.cause.contains("503"), "{error:?}");
    let outcome = server.drum(&script("", "      - connect: \"ws://127.0.0.1:1/\""));
    assert_eq!((outcome.errors[0].code.as_str(), outcome.errors[0].count), ("ECONNREFUSED", 2));
    let outcome = server.drum(&script("", "      - connect: \"nonsense\""));
    assert_eq!(outcome.errors[0].code, "Invalid URL");
}

#[test]
fn a_ws_wait_ends_with_a_name_and_so_does_a_lost_connection() {
    let server = Plain::start(
        |_| {},
        |server, peer, message| {
            if message == Message::text("close") {
                let _ = peer.lock().unwrap().close(None);
            } else {
                echo(server, peer, message);
            }
        },
    );
    let outcome = server.drum(&script(
        "",
        "      - send: a\n      - wait: {match: {regexp: b, value: b}, timeout: 0.2}\n      - send: never",
    ));
    let error = &outcome.errors[0];
    assert_eq!(
        (error.cause.as_str(), error.code.as_str()),
        ("no frame that fits within 0.2 s", "response timeout")
    );
    assert!(error.step.starts_with("wait (line ") && error.sample.contains("found nothing; a"), "{error:?}");
    assert_eq!((counter(&outcome, "vusers.failed"), counter(&outcome, "websocket.messages_sent")), (2, 2));
    assert!(!outcome.total.histograms.contains_key("websocket.response_time"));

    let outcome = server.drum(&script("", "      - send: close\n      - think: 0.2"));
    let error = &outcome.errors[0];
    assert_eq!((error.code.as_str(), error.count), ("disconnect", 2));
    assert_eq!(counter(&outcome, "drumfire.connections.lost"), 2);
    assert_eq!(counter(&outcome, "vusers.completed"), 2);
}

#[test]
fn a_login_comes_before_a_plain_websocket_too() {
    let login = |_: &str, _: &str| {
        let body = r#"{"token":"t-17"}"#;
        let length = body.len();
        let head = "HTTP/1.1 200 OK\r\nset-cookie: session=abc; Path=/";
        (format!("{head}\r\ncontent-length: {length}\r\n\r\n{body}"), true)
    };
    let web = Server::start(|_| Manner::Serve, |_, _, _, _, _| {}, login);
    let server = Plain::start(|_| {}, echo);
    // Cookies know hosts, not ports.
    let flow = format!(
        "      - post: {{url: \"http://{}/login\", capture: {{json: $.token, as: token}}}}
      - send: {{payload: hi, match: {{regexp: hi, value: hi}}}}",
        web.address
    );
    completed(&server.drum(&script("  ws: {headers: {X-Token: \"{{ token }}\"}}", &flow)));
    assert_eq!(*server.handshakes.lock().unwrap(), ["/ t-17||session=abc"; 2]);
}

/// Whatever is said goes to everybody, the speaker included, as many chats do.
#[test]
fn deliveries_over_a_plain_websocket() {
    let server = Plain::start(
        |_| {},
        |server, _, message| {
            let Message::Text(text) = &message else { return };
            let said: Value = serde_json::from_str(text).unwrap();
            if said["type"] == "say" {
                for peer in &*server.peers.lock().unwrap() {
                    let _ =
                        peer.lock().unwrap().send(Message::text(json!({"heard": said["text"]}).to_string()));
                }
            }
        },
    );
    let outcome = server.drum(&script(
        "  listeners: [{name: all, count: 3, engine: ws, flow: [{send: {type: join}}]}]
  delivery: {event: frame, stamp: text, read: heard, expect: all, deadline: 3s}",
        "      - send: {type: say, text: \"hi \"}\n      - send: {type: say, text: \"{{ $uuid }}\"}\n      - think: 0.2",
    ));
    completed(&outcome);
    let delivery = outcome.delivery.as_ref().unwrap();
    assert_eq!((delivery.messages, delivery.expected, delivery.heard), (4, Some(12), 12), "{delivery:?}");
    assert_eq!((delivery.missing, delivery.duplicates, delivery.unexpected), (0, 0, 0));
    assert_eq!(outcome.total.histograms[names::DELIVERY].len(), 12);
    assert_eq!(outcome.total.histograms[names::LISTENER_CONNECT].len(), 3);
}

/// As newline-delimited protocols do when several messages are due at once.
#[test]
fn several_messages_in_one_frame_are_all_heard() {
    let waiting = Arc::new(Mutex::new(Vec::new()));
    let server = Plain::start(
        |_| {},
        move |server, _, message| {
            let Message::Text(text) = &message else { return };
            let said: Value = serde_json::from_str(text).unwrap();
            if said["type"] != "say" {
                return;
            }
            let mut waiting = waiting.lock().unwrap();
            waiting.push(json!({"heard": said["text"]}).to_string());
            if waiting.len() == 2 {
                let frame = waiting.drain(..).collect::<Vec<_>>().join("\n");
                for peer in &*server.peers.lock().unwrap() {
                    let _ = peer.lock().unwrap().send(Message::text(frame.clone()));
                }
            }
        },
    );
    let outcome = server.drum(&script(
        "  listeners: [{name: all, count: 3, engine: ws, flow: [{send: {type: join}}]}]
  delivery: {event: frame, stamp: text, read: heard, expect: all, deadline: 3s}",
        "      - send: {type: say, text: \"hi \"}\n      - send: {type: say, text: \"ho \"}\n      - think: 0.2",
    ));
    completed(&outcome);
    let delivery = outcome.delivery.as_ref().unwrap();
    assert_eq!((delivery.messages, delivery.expected, delivery.heard), (4, Some(12), 12), "{delivery:?}");
    assert_eq!((delivery.missing, delivery.duplicates, delivery.unexpected), (0, 0, 0));
}

/// What users say in one room, heard by everybody in it.
fn room() -> Arc<Plain> {
    Plain::start(
        |peer| peer.send(Message::text("welcome")).unwrap(),
        |server, _, message| {
            if message.is_text() {
                for peer in &*server.peers.lock().unwrap() {
                    let _ = peer.lock().unwrap().send(message.clone());
                }
            }
        },
    )
}

#[test]
fn quick_speaks_and_hears_over_plain_websockets() {
    let server = room();
    let dir = tempfile::tempdir().unwrap();
    let url = format!("ws://{}", server.address);
    let load = ["--rate", "10", "--duration", "1", "--stay", "0.2", "--workers", "1", "-o", "r.json"];
    let quick = |words: &[&str]| {
        let words: Vec<&str> = ["quick", &url].iter().chain(words).chain(&load).copied().collect();
        let (code, out, err) = drumfire(dir.path(), &words);
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
        let text = std::fs::read_to_string(dir.path().join("r.json")).unwrap();
        serde_json::from_str::<Value>(&text).unwrap()
    };
    let said = quick(&["--send", "hi"]);
    assert_eq!(said["aggregate"]["counters"]["vusers.completed"], 10);
    assert_eq!(said["aggregate"]["counters"]["websocket.messages_sent"], 10);
    assert!(
        said["aggregate"]["summaries"]["websocket.response_time"].is_null(),
        "nobody asked for an answer"
    );
    // The greeting is none.
    let answered = quick(&["--send", "hi", "--reply"]);
    assert_eq!(answered["aggregate"]["summaries"]["websocket.response_time"]["count"], 10, "{answered}");
    let heard = quick(&["--send", r#"{"text": "hi"}"#, "--listeners", "4", "--join", r#"{"join": "room"}"#]);
    let delivery = &heard["drumfire"]["delivery"];
    assert_eq!(
        (&delivery["messages"], &delivery["heard"], &delivery["missing"]),
        (&json!(10), &json!(40), &json!(0)),
        "{delivery}"
    );
}

#[test]
fn a_script_for_plain_websockets_runs_as_it_stands() {
    let server = room();
    let dir = tempfile::tempdir().unwrap();
    let url = format!("ws://{}", server.address);
    let (code, _, err) = drumfire(dir.path(), &["init", "ws.yml", "--kind", "ws", "--target", &url]);
    assert_eq!((code, err.as_str()), (0, ""));
    let short = r#"{"config": {"phases": [{"duration": 1, "arrivalRate": 5}]}}"#;
    let words = ["run", "--strict", "-o", "r.json", "--overrides", short, "ws.yml"];
    let (code, out, err) = drumfire_in_time(dir.path(), &words);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    let result: Value =
        serde_json::from_str(&std::fs::read_to_string(dir.path().join("r.json")).unwrap()).unwrap();
    assert_eq!(result["aggregate"]["counters"]["vusers.completed"], 5, "{out}");
    assert_eq!(result["aggregate"]["summaries"]["websocket.response_time"]["count"], 5, "{out}");
}
