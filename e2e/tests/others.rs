//! Other people's servers: what drumfire says was delivered is what an official client beside its listeners heard, and what
//! a server that drops deliveries on purpose says it dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use e2e::lines::LineProgram;
use e2e::stage::Stage;
use e2e::{Dna, alone, drumfire, free_port, read_json};
use serde_json::{Value, json};

const LONG: Duration = Duration::from_secs(60);

/// A server with a room, and the client that counts what is said there.
#[derive(Clone, Copy)]
enum Other {
    /// Socket.IO of that generation.
    Node(&'static str),
    /// Plain WebSockets, served and heard by `ws`.
    Ws,
    /// python-socketio.
    Python,
}

impl Other {
    fn start(self, script: &str, arguments: &[&str]) -> LineProgram {
        match self {
            Self::Node(kind) => LineProgram::node(&format!("{script}.mjs"), &[&[kind], arguments].concat()),
            Self::Ws => LineProgram::node(&format!("{script}.mjs"), &[&["ws"], arguments].concat()),
            Self::Python => LineProgram::python(&format!("{script}.py"), arguments),
        }
    }
}

/// How much is said, and how many listen.
#[derive(Clone, Copy)]
struct Load {
    listeners: usize,
    messages_per_s: usize,
    seconds: usize,
}

impl Load {
    fn messages(self) -> usize {
        self.messages_per_s * self.seconds
    }

    fn deliveries(self) -> usize {
        self.listeners * self.messages()
    }

    fn script(self, url: &str, other: Other) -> Value {
        let (engine, join, say) = match other {
            Other::Node(_) | Other::Python => (
                "socketio",
                json!([{"emit": ["join", "{{ name }}"], "acknowledge": true}]),
                json!([{"emit": ["say", {"text": "hello"}], "acknowledge": true}]),
            ),
            Other::Ws => (
                "ws",
                json!([
                    {"send": {"event": "join", "name": "{{ name }}"}},
                    {"wait": {"match": {"json": "$.event", "value": "joined"}}},
                ]),
                json!([{"send": {"event": "say", "text": "hello"}}]),
            ),
        };
        json!({
            "config": {
                "target": if engine == "ws" { url.replacen("http", "ws", 1) } else { url.to_owned() },
                "socketio": {"transports": ["websocket"]},
                "phases": [{"duration": self.seconds, "arrivalRate": self.messages_per_s}],
                "listeners": [{
                    "engine": engine,
                    "count": self.listeners,
                    "payload": {"path": "names.csv", "fields": ["name"], "order": "sequence"},
                    "flow": join,
                }],
                "delivery": {"event": "said", "stamp": "text", "read": "text", "expect": "all"},
            },
            "scenarios": [{"engine": engine, "flow": say}],
        })
    }
}

/// A run with a witness: drumfire's account and who heard what, the witness's count of each text, the server's sums.
struct Run {
    delivery: Value,
    /// (listener, message)
    heard: BTreeSet<(usize, usize)>,
    /// How often the witness heard each message.
    witnessed: BTreeMap<usize, u64>,
    server: Value,
}

impl Run {
    fn of(other: Other, load: Load, flags: &[&str]) -> Self {
        let _alone = alone();
        let mut server = other.start("room", flags);
        let url = format!("http://127.0.0.1:{}", server.line(LONG)["port"]);
        let mut witness = other.start("witness", &[&url]);
        assert_eq!(witness.line(LONG), json!({"ready": true}));

        let stage = Stage::empty();
        stage.write("names.csv", &(0..load.listeners).map(|n| format!("{n}\n")).collect::<String>());
        stage.write("room.json", &load.script(&url, other).to_string());
        drumfire(
            &["run", "-q", "-o", "result.json", "--pairs", "pairs.csv", "room.json"],
            stage.dir(),
            Duration::from_secs(120),
        )
        .expect_code(0);
        let result = read_json(&stage.path("result.json"));
        assert_eq!(result["drumfire"]["errors"], json!([]), "nothing else went wrong");

        witness.close_input();
        let witnessed = witness.line(LONG)["heard"]
            .as_object()
            .expect("what it heard")
            .iter()
            .map(|(text, count)| (message_of(text), count.as_u64().expect("a number")))
            .collect();
        server.close_input();
        let delivery = result["drumfire"]["delivery"].clone();
        Self { delivery, heard: pairs(&stage.path("pairs.csv")), witnessed, server: server.line(LONG) }
    }

    #[track_caller]
    fn expect_counts(&self, load: Load, lost: usize) {
        let deliveries = load.deliveries();
        for (what, count) in [
            ("messages", load.messages()),
            ("expected", deliveries),
            ("heard", deliveries - lost),
            ("missing", lost),
            ("duplicates", 0),
            ("unexpected", 0),
            ("late", 0),
            ("not_sent", 0),
        ] {
            assert_eq!(self.delivery[what], count, "{what}: {}", self.delivery);
        }
        // The witness's last word is one more.
        assert_eq!(self.server["said"], load.messages() + 1);
    }

    /// The official client heard the messages that drumfire's listeners heard, each once.
    #[track_caller]
    fn expect_the_same_witnessed(&self) {
        let messages: BTreeSet<_> = self.heard.iter().map(|(_, message)| *message).collect();
        assert_eq!(self.witnessed.keys().copied().collect::<BTreeSet<_>>(), messages);
        assert!(self.witnessed.values().all(|count| *count == 1), "{:?}", self.witnessed);
    }
}

/// The number in drumfire's mark, ` ~df:RUN:NUMBER` at the end of the text.
fn message_of(text: &str) -> usize {
    let number = text.split_once(" ~df:").and_then(|(_, mark)| mark.split_once(':'));
    number.and_then(|(_, number)| number.parse().ok()).unwrap_or_else(|| panic!("no mark: {text}"))
}

fn pairs(path: &Path) -> BTreeSet<(usize, usize)> {
    let text = std::fs::read_to_string(path).expect("pairs");
    let pair = |line: &str| {
        let mut cells = line.split(',').map(|cell| cell.parse().expect("a number"));
        (cells.next().expect("a listener"), cells.next().expect("a message"))
    };
    text.lines().skip(1).map(|line| pair(line.rsplitn(3, ',').last().expect("two cells"))).collect()
}

/// Everybody hears everything once.
fn all_is_heard(other: Other, load: Load) {
    let run = Run::of(other, load, &[]);
    run.expect_counts(load, 0);
    run.expect_the_same_witnessed();
    assert_eq!(run.witnessed.len(), load.messages());
    assert_eq!(run.server["lost"], json!([]));
}

/// Every hundredth delivery is dropped: drumfire misses those, and no other.
fn what_is_lost_is_missed(other: Other, load: Load) {
    let run = Run::of(other, load, &["lose"]);
    // Listeners are called by their numbers.
    let number = |value: &Value| value.as_u64().expect("a number") as usize;
    let lost: BTreeSet<(usize, usize)> = run.server["lost"]
        .as_array()
        .expect("a list")
        .iter()
        // The witness's last word has no mark, and drumfire's listeners have left before it.
        .filter(|row| row[1].as_str().is_some_and(|text| text.contains("~df:")))
        .map(|row| (number(&row[0]), message_of(row[1].as_str().expect("a text"))))
        .collect();
    assert_eq!(lost.len(), load.deliveries() / 100);
    run.expect_counts(load, lost.len());
    let missed: BTreeSet<_> = (0..load.listeners)
        .flat_map(|listener| (0..load.messages()).map(move |message| (listener, message)))
        .filter(|pair| !run.heard.contains(pair))
        .collect();
    assert_eq!(missed, lost);
    // Never dropped to the witness.
    run.expect_the_same_witnessed();
    assert_eq!(run.witnessed.len(), load.messages());
}

const ROOM: Load = Load { listeners: 1_000, messages_per_s: 20, seconds: 5 };
/// One by one costs the server more than a broadcast. No multiple of a hundred, so that it is not always the same ones
/// who miss something.
const LOSSY_ROOM: Load = Load { listeners: 250, messages_per_s: 20, seconds: 5 };
const PYTHON_ROOM: Load = Load { listeners: 200, messages_per_s: 10, seconds: 5 };
const LOSSY_PYTHON_ROOM: Load = Load { listeners: 150, messages_per_s: 10, seconds: 5 };

#[test]
fn socket_io_2_5_is_heard_as_its_client_hears_it() {
    all_is_heard(Other::Node("2"), ROOM);
}

#[test]
fn socket_io_4_8_is_heard_as_its_client_hears_it() {
    all_is_heard(Other::Node("4"), ROOM);
}

#[test]
fn python_socketio_is_heard_as_its_client_hears_it() {
    all_is_heard(Other::Python, PYTHON_ROOM);
}

#[test]
fn plain_websockets_are_heard_as_their_client_hears_them() {
    all_is_heard(Other::Ws, ROOM);
}

#[test]
fn what_plain_websockets_lose_is_missed() {
    what_is_lost_is_missed(Other::Ws, LOSSY_ROOM);
}

#[test]
fn what_socket_io_2_5_loses_is_missed() {
    what_is_lost_is_missed(Other::Node("2"), LOSSY_ROOM);
}

#[test]
fn what_socket_io_4_8_loses_is_missed() {
    what_is_lost_is_missed(Other::Node("4"), LOSSY_ROOM);
}

#[test]
fn what_python_socketio_loses_is_missed() {
    what_is_lost_is_missed(Other::Python, LOSSY_PYTHON_ROOM);
}

/// Under a load it can bear, the chat server of 2018 does what dna does: the demo compares the same thing.
#[test]
fn the_chat_server_of_2018_delivers_to_whom_dna_does() {
    let _alone = alone();
    let data = tempfile::tempdir().unwrap();
    // For its tokens alone.
    let dna = Dna::start(data.path(), &[]);
    let secret = std::fs::read_to_string(data.path().join("jwt-secret")).expect("dna's secret");
    let listen = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let server = xtask::Server2018::start(listen, &secret, data.path()).expect("the chat server of 2018");
    let stage = Stage::set(&dna, 50, 2_000);
    let phases = r#"{"config":{"phases":[{"duration":5,"arrivalRate":10}]}}"#;
    let run = |url: &str, result: &str| {
        drumfire(
            &[
                "run",
                "-q",
                "--seed",
                "901",
                "-t",
                url,
                "--overrides",
                phases,
                "-o",
                result,
                "journal-heard.yml",
            ],
            stage.dir(),
            Duration::from_secs(120),
        )
        .expect_code(0);
        let result = read_json(&stage.path(result));
        assert_eq!(result["drumfire"]["errors"], json!([]));
        assert_eq!(result["aggregate"]["counters"]["vusers.completed"], 50);
        let mut delivery = result["drumfire"]["delivery"].clone();
        for what in ["missing", "duplicates", "unexpected", "late", "undecided", "not_sent"] {
            assert_eq!(delivery[what], 0, "{what} at {url}: {delivery}");
        }
        (delivery["expected"].take(), delivery["heard"].take())
    };
    let before = run(&format!("http://{listen}"), "2018.json");
    server.stop().expect("it ends");
    assert_eq!(before, run(&dna.url(), "dna.json"));
}
