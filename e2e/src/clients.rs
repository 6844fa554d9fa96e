//! Official Socket.IO clients in three languages, all spoken through in the same lines (e2e/clients/README.md).

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::lines::LineProgram;
use crate::{root, target};

/// How long anything asked of a client may take, on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(20);

/// An official client.
#[derive(Debug, Clone, Copy)]
pub enum Client {
    /// socket.io-client of that generation.
    JavaScript(&'static str),
    /// python-socketio.
    Python,
    /// io.socket:socket.io-client of that version.
    Java(&'static str),
}

impl Client {
    /// The program that drives it.
    fn driver(self) -> Command {
        up_to_date();
        let home = root().join("e2e/clients");
        let installed = target().join("clients");
        match self {
            Self::JavaScript(generation) => {
                let mut node = Command::new("node");
                node.arg(home.join("js/driver.mjs")).arg(generation);
                node
            }
            Self::Python => python("driver.py"),
            Self::Java(version) => {
                let home = installed.join(format!("java-{version}"));
                let mut java = Command::new("java");
                // Started often and living briefly.
                java.args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"]);
                java.arg(format!("{0}/classes:{0}/lib/*", home.display())).arg("Driver");
                java
            }
        }
    }
}

/// Installs what is not there or has changed since; once in a run, nothing to do as a rule.
fn up_to_date() {
    static DONE: OnceLock<()> = OnceLock::new();
    DONE.get_or_init(|| xtask::install_clients().expect("the official clients"));
}

/// Runs `e2e/clients/python/<script>` with python-socketio.
pub(crate) fn python(script: &str) -> Command {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    let program = PYTHON.get_or_init(|| xtask::install_python().expect("python-socketio"));
    let mut python = Command::new(program);
    python.arg(root().join("e2e/clients/python").join(script));
    python
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Polling,
    WebSocket,
    /// Polling first, a WebSocket as soon as may be.
    Upgrade,
}

impl Transport {
    /// What the client is told.
    fn asked(self) -> &'static [&'static str] {
        match self {
            Self::Polling => &["polling"],
            Self::WebSocket => &["websocket"],
            Self::Upgrade => &["polling", "websocket"],
        }
    }

    /// What the client says in the end.
    fn reached(self) -> &'static str {
        if self == Self::Polling { "polling" } else { "websocket" }
    }
}

/// Some connections of one official client, each by its name.
///
/// What a connection hears is kept in order, and taken in order: who takes what comes next also says that
/// nothing came before it.
#[derive(Debug)]
pub struct Connections {
    driver: LineProgram,
    transport: Transport,
    heard: HashMap<String, VecDeque<Value>>,
    last_ack: u64,
    /// All that was said and heard, for whom a failure puzzles.
    transcript: Vec<String>,
}

impl Connections {
    pub fn of(client: Client, transport: Transport) -> Self {
        Self {
            driver: LineProgram::start(&mut client.driver()),
            transport,
            heard: HashMap::new(),
            last_ack: 0,
            transcript: Vec::new(),
        }
    }

    /// Begins to connect; `connect` is heard when it is done.
    #[track_caller]
    pub fn open(&mut self, name: &str, url: &str, events: &[&str]) {
        let transports = self.transport.asked();
        self.say(&json!({
            "action": "open", "name": name, "url": url, "transports": transports, "events": events,
        }));
    }

    #[track_caller]
    pub fn emit(&mut self, name: &str, event: &str, args: &Value) {
        self.say(&json!({"action": "emit", "name": name, "event": event, "args": args}));
    }

    /// Emits and takes the ack's arguments, which must be what comes next.
    #[track_caller]
    pub fn ask(&mut self, name: &str, event: &str, args: &Value) -> Value {
        self.last_ack += 1;
        let ack = self.last_ack;
        self.say(&json!({"action": "emit", "name": name, "event": event, "args": args, "ack": ack}));
        let line = self.next(name);
        assert_eq!((&line["on"], &line["ack"]), (&json!("ack"), &json!(ack)), "instead of an ack: {line}");
        line["args"].clone()
    }

    /// Takes the arguments of an event, which must be what comes next.
    #[track_caller]
    pub fn hear(&mut self, name: &str, event: &str) -> Value {
        let line = self.next(name);
        assert_eq!(
            (&line["on"], &line["event"]),
            (&json!("event"), &json!(event)),
            "{name}, instead of {event}: {line}"
        );
        line["args"].clone()
    }

    /// `connect` or `disconnect` must be what comes next.
    #[track_caller]
    pub fn expect(&mut self, name: &str, on: &str) {
        let line = self.next(name);
        assert_eq!(line["on"], on, "{name}, instead of {on}: {line}");
    }

    /// Waits until the client itself says that it uses the transport asked for.
    #[track_caller]
    pub fn expect_transport(&mut self, name: &str) {
        let wanted = self.transport.reached();
        let start = Instant::now();
        loop {
            self.say(&json!({"action": "transport", "name": name}));
            let said = loop {
                let line = self.read(PATIENCE);
                if line["on"] == "transport" {
                    break line["transport"].clone();
                }
                self.keep(line);
            };
            if said == wanted {
                return;
            }
            assert!(
                self.transport == Transport::Upgrade && start.elapsed() < PATIENCE,
                "{name} says it uses {said}, not {wanted}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Everything heard so far has been taken.
    #[track_caller]
    pub fn expect_nothing_else(&mut self) {
        while let Ok(line) = self.driver.next(Duration::ZERO) {
            self.transcript.push(format!("< {line}"));
            self.keep(line);
        }
        let left: Vec<_> = self.heard.values().flatten().collect();
        assert!(left.is_empty(), "heard and not called for: {left:?}");
    }

    #[track_caller]
    fn next(&mut self, name: &str) -> Value {
        loop {
            if let Some(line) = self.heard.get_mut(name).and_then(VecDeque::pop_front) {
                return line;
            }
            let line = self.read(PATIENCE);
            self.keep(line);
        }
    }

    #[track_caller]
    fn read(&mut self, limit: Duration) -> Value {
        let line = self.driver.next(limit).unwrap_or_else(|error| panic!("waited for the client: {error}"));
        self.transcript.push(format!("< {line}"));
        line
    }

    fn keep(&mut self, line: Value) {
        let name = line["name"].as_str().unwrap_or_default().to_owned();
        self.heard.entry(name).or_default().push_back(line);
    }

    #[track_caller]
    fn say(&mut self, line: &Value) {
        self.transcript.push(format!("> {line}"));
        self.driver.say(line);
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- what was said (>) and heard (<) ----");
            for line in &self.transcript {
                eprintln!("{}", line.chars().take(400).collect::<String>());
            }
        }
    }
}
