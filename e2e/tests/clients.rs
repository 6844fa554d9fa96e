//! One conversation, the same through each official client over each transport; e2e/clients/README.md has its steps in words.

use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use e2e::clients::{Client, Connections, Transport};
use e2e::echo::Echo;
use e2e::{Dna, lasting_port, root};
use serde_json::{Value, json};

macro_rules! conversations {
    ($($client:ident = $is:expr;)*) => {$(
        mod $client {
            use super::{Client, Transport, converse};

            #[test]
            fn polling() {
                converse($is, Transport::Polling);
            }

            #[test]
            fn websocket() {
                converse($is, Transport::WebSocket);
            }

            #[test]
            fn upgrade() {
                converse($is, Transport::Upgrade);
            }
        }
    )*};
}

conversations! {
    socket_io_client_2 = Client::JavaScript("2");
    socket_io_client_3 = Client::JavaScript("3");
    socket_io_client_4 = Client::JavaScript("4");
    python_socketio_5 = Client::Python;
    java_client_1 = Client::Java("1.0.2");
    java_client_2 = Client::Java("2.1.2");
}

type Step = (&'static str, fn(&mut Conversation));

const STEPS: [Step; 9] = [
    ("connect", Conversation::connect),
    ("store", Conversation::store),
    ("save", Conversation::save),
    ("hear", Conversation::hear),
    ("move", Conversation::move_away),
    ("echo", Conversation::echo),
    ("restart", Conversation::restart),
    ("crash", Conversation::crash),
    ("idle", Conversation::idle),
];

fn converse(client: Client, transport: Transport) {
    let mut conversation = Conversation::begin(client, transport);
    for (name, step) in STEPS {
        println!("{name}");
        step(&mut conversation);
        conversation.connections.expect_nothing_else();
    }
}

/// The document lists the steps by the names that a failing test prints.
#[test]
fn the_document_has_every_step() {
    let document = std::fs::read_to_string(root().join("e2e/clients/README.md")).expect("the document");
    let table = document.lines().skip_while(|line| !line.starts_with("| step |")).skip(2);
    let listed: Vec<_> =
        table.map_while(|line| line.strip_prefix("| `")?.split_once('`')).map(|(name, _)| name).collect();
    assert_eq!(listed, STEPS.map(|(name, _)| name));
}

/// Gangnam, and somewhere out of its earshot.
const HERE: [f64; 2] = [127.0276, 37.4979];
const AWAY: [f64; 2] = [127.1276, 37.4979];

/// Both servers' in this conversation: as `e2e/clients/dna.toml` has them.
const PING_INTERVAL: Duration = Duration::from_millis(500);
const PING_TIMEOUT: Duration = Duration::from_millis(2000);

/// Ann, who is tested, and Bob, who speaks with her, on `dna`; `echo` and `idle` on the echo server.
struct Conversation {
    connections: Connections,
    dna: Option<Dna>,
    ann: String,
    bob: String,
    /// Of the last message Ann heard.
    cursor: Value,
    _echo: Echo,
    idle_since: Instant,
    _data: tempfile::TempDir,
}

impl Conversation {
    fn begin(client: Client, transport: Transport) -> Self {
        let data = tempfile::tempdir().expect("a temporary folder");
        let dna = serve(lasting_port(), data.path());
        let mut tokens = dna.tokens(1, 2, false).into_iter();
        let mut token = || tokens.next().expect("two tokens");
        let (ann, bob) = (token(), token());
        let echo = Echo::start(PING_INTERVAL, PING_TIMEOUT);
        let mut connections = Connections::of(client, transport);
        for name in ["ann", "bob"] {
            connections.open(name, &dna.url(), &["new_msg", "speaker", "exception"]);
        }
        for name in ["echo", "idle"] {
            connections.open(name, &echo.url, &["message-back"]);
        }
        let idle_since = Instant::now();
        Self {
            connections,
            dna: Some(dna),
            ann,
            bob,
            cursor: Value::Null,
            _echo: echo,
            idle_since,
            _data: data,
        }
    }

    fn connect(&mut self) {
        for name in ["ann", "bob", "echo", "idle"] {
            self.connections.expect(name, "connect");
        }
        for name in ["ann", "bob", "echo", "idle"] {
            self.connections.expect_transport(name);
        }
        self.idle_since = Instant::now();
    }

    fn store(&mut self) {
        for (name, idx) in [("ann", 1), ("bob", 2)] {
            let answer = self.stand(name, HERE);
            assert_eq!((&answer["status"], &answer["result"]["idx"]), (&json!(200), &json!(idx)), "{answer}");
            assert!(answer["result"]["cursor"].is_string(), "{answer}");
        }
    }

    /// The ack comes first, then one's own copy, which is the same.
    fn save(&mut self) {
        let said = self.say("ann", HERE, "안녕, Gangnam 🥁");
        assert_eq!(said["user"]["idx"], 1, "{said}");
        assert_eq!(self.heard_by("bob"), said);
        self.cursor = said["cursor"].clone();
    }

    fn hear(&mut self) {
        let said = self.say("bob", HERE, "héllo Ann");
        assert_eq!(said["user"]["idx"], 2, "{said}");
        assert_eq!(self.heard_by("ann"), said);
    }

    /// That nothing was heard is known by what comes after it: the sentinel must be the next thing she hears.
    fn move_away(&mut self) {
        let moved = json!([{"token": self.ann, "position": AWAY, "radius": 300}]);
        assert_eq!(self.connections.ask("ann", "update", &moved)[0]["status"], 200);
        self.say("bob", HERE, "unheard");
        let sentinel = self.say("bob", AWAY, "sentinel");
        assert_eq!(self.heard_by("ann"), sentinel);

        assert_eq!(self.stand("ann", HERE)["status"], 200);
        self.say("bob", AWAY, "unheard again");
        let sentinel = self.say("bob", HERE, "sentinel again");
        assert_eq!(self.heard_by("ann"), sentinel);
        self.cursor = sentinel["cursor"].clone();
    }

    fn echo(&mut self) {
        let bytes = |size: usize| {
            let bytes: Vec<u8> = (0..size).map(|n| (n * 7 % 251) as u8).collect();
            json!({"$bytes": BASE64.encode(bytes)})
        };
        let mut rows: Vec<Value> =
            [0, 1, 125, 126, 65_535, 65_536, 100_000].map(|size| json!([bytes(size)])).into();
        rows.push(json!([{"text": "안녕 🥁", "deep": [{"first": bytes(3), "empty": bytes(0)}, 7]}, bytes(1000), "last"]));
        rows.push(json!(["text alone", {"안녕": ["🥁", null, true, 1.5]}]));
        for row in &rows {
            self.connections.emit("echo", "message", row);
            assert!(self.connections.hear("echo", "message-back") == *row, "{}", start_of(row));
            assert!(self.connections.ask("echo", "message-with-ack", row) == *row, "{}", start_of(row));
        }
        // Many at once keep their order and their attachments.
        for row in &rows {
            self.connections.emit("echo", "message", row);
        }
        for row in &rows {
            assert!(self.connections.hear("echo", "message-back") == *row, "{}", start_of(row));
        }
    }

    fn restart(&mut self) {
        self.leave_and_return("while it was down", |dna| {
            assert!(dna.stop().success());
        });
    }

    fn crash(&mut self) {
        self.leave_and_return("after the crash", |mut dna| dna.kill());
    }

    /// Both come back by themselves; Ann is told what she missed, once, and hears on.
    fn leave_and_return(&mut self, missed: &str, end: impl FnOnce(Dna)) {
        let dna = self.dna.take().expect("it runs");
        let (port, data) = (dna.port, dna.data.clone());
        end(dna);
        self.dna = Some(serve(port, &data));
        for name in ["ann", "bob"] {
            self.connections.expect(name, "disconnect");
            self.connections.expect(name, "connect");
            self.connections.expect_transport(name);
        }
        let said = self.say("bob", HERE, missed);
        let back = json!([{"token": self.ann, "position": HERE, "radius": 300, "since": self.cursor}]);
        let answer = self.connections.ask("ann", "store", &back)[0].clone();
        assert_eq!(
            (&answer["status"], &answer["result"]["recovered"]),
            (&json!(200), &json!(true)),
            "{answer}"
        );
        assert_eq!(answer["result"]["missed"], json!([said]));
        let live = self.say("bob", HERE, "live again");
        assert_eq!(self.heard_by("ann"), live);
        self.cursor = live["cursor"].clone();
    }

    /// Nobody has said anything on that connection for longer than a silent one is kept.
    fn idle(&mut self) {
        let silence = (PING_INTERVAL + PING_TIMEOUT).mul_f64(1.2);
        std::thread::sleep(silence.saturating_sub(self.idle_since.elapsed()));
        let row = json!(["still there", {"$bytes": "AAEC"}]);
        assert_eq!(self.connections.ask("idle", "message-with-ack", &row), row);
        for name in ["ann", "bob", "echo", "idle"] {
            self.connections.expect_transport(name);
        }
    }

    /// `store` at a place; its ack.
    fn stand(&mut self, name: &str, place: [f64; 2]) -> Value {
        let token = if name == "ann" { &self.ann } else { &self.bob };
        let what = json!([{"token": token, "position": place, "radius": 300}]);
        self.connections.ask(name, "store", &what)[0].clone()
    }

    /// `save_msg` at a place: acknowledged, then heard by who said it. The message as stored.
    fn say(&mut self, name: &str, place: [f64; 2], contents: &str) -> Value {
        let token = if name == "ann" { &self.ann } else { &self.bob };
        let what = json!([{
            "token": token, "messageData": {"lng": place[0], "lat": place[1], "contents": contents, "type": "Message"},
        }]);
        let answer = self.connections.ask(name, "save_msg", &what)[0].clone();
        assert_eq!(
            (&answer["status"], &answer["result"]["contents"]),
            (&json!(201), &json!(contents)),
            "{answer}"
        );
        assert_eq!(self.heard_by(name), answer["result"]);
        answer["result"].clone()
    }

    /// The `result` of the `new_msg` that is the next thing somebody hears.
    fn heard_by(&mut self, name: &str) -> Value {
        self.connections.hear(name, "new_msg")[0]["result"].clone()
    }
}

fn start_of(row: &Value) -> String {
    row.to_string().chars().take(200).collect()
}

fn serve(port: u16, data: &Path) -> Dna {
    let config = root().join("e2e/clients/dna.toml");
    Dna::start_on(port, data, &["--config", config.to_str().expect("UTF-8")])
}
