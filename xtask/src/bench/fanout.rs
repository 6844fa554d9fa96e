//! Server CPU per delivery: `dna`, others, and the floor under all of them, the same people and messages for each.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::centrifugo;
use super::chart::{self, Bar};
use super::cpu::Usage;
use super::figure::{Figure, thousands};
use super::goal::{Bound, Goal};
use super::load::{self, MIDDLE, Run};
use super::report::{Section, Table};
use super::stages::{self, Spent, Told};
use super::{Ground, Options, in_turn, locked_version};
use crate::demo::FIRST_LISTENER_IDX;
use crate::program::Program;
use crate::server_2018::{self, Server2018};
use crate::{stage, tree, web};

pub(super) const PART: &str = "fanout";
const TITLE: &str = "Fan-out: server CPU per delivery";
const SCRIPT: &str = "bench/fanout.yml";
const CENTRIFUGO_SCRIPT: &str = "bench/centrifugo.yml";
const SECONDS: u64 = 6;
/// Everybody has come within the first second; one more, so that nobody's first message is in what is measured.
pub(super) const FROM: u64 = 2;
/// So that no run meets the closing sockets of the one before.
const PAUSE: Duration = Duration::from_millis(500);
/// Of those expected. Beyond, a server does not hold the load, and its cost per delivery means nothing.
const MOST_MISSING: f64 = 0.01;
const HOPELESS: f64 = 0.05;

const MOST_WRITERS: u64 = 300;
const RADII_M: (f64, f64) = (100.0, 1_000.0);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    Bare,
    Dna,
    /// `dna` with `batch = "on"`: what goes to many leaves in one call.
    DnaBatched,
    Socketioxide,
    Node,
    Centrifugo,
    Y2018,
}

impl Peer {
    pub(super) const ALL: [Self; 7] = [
        Self::Bare,
        Self::Dna,
        Self::DnaBatched,
        Self::Socketioxide,
        Self::Node,
        Self::Centrifugo,
        Self::Y2018,
    ];
    /// Without one of them there is nothing to be held against.
    const REQUIRED: [Self; 4] = [Self::Bare, Self::Dna, Self::Socketioxide, Self::Node];

    /// For `--only` and files.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Dna => "dna",
            Self::DnaBatched => "dna-batched",
            Self::Socketioxide => "socketioxide",
            Self::Node => "node",
            Self::Centrifugo => "centrifugo",
            Self::Y2018 => "2018",
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bare => "bare send",
            Self::Dna => "dna",
            Self::DnaBatched => "dna, io_uring",
            Self::Socketioxide => "socketioxide",
            Self::Node => "Node, socket.io 4",
            Self::Centrifugo => "Centrifugo, channels",
            Self::Y2018 => "the server of 2018",
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) listeners: u64,
    /// Messages a second.
    pub(super) rate: u64,
    /// Of each message, in the mean.
    pub(super) hearers: u64,
    pub(super) is_loud: bool,
    /// In what is said; `None`: as the script has it.
    pub(super) letters: Option<usize>,
}

/// What the server of 2018 holds with ease, so that it has figures too.
const GENTLE: Load = Load { rate: 30, ..JOURNAL };
/// Ten times the journal's.
const TENFOLD: Load = Load { rate: 3_000, ..JOURNAL };
/// The journal's.
pub(super) const JOURNAL: Load =
    Load { listeners: 2_000, rate: 300, hearers: 90, is_loud: false, letters: None };

const LOADS: [Load; 7] = [
    JOURNAL,
    GENTLE,
    Load { hearers: 20, ..JOURNAL },
    Load { rate: 1_000, hearers: 50, ..JOURNAL },
    TENFOLD,
    Load { listeners: 15_000, ..JOURNAL },
    Load { is_loud: true, ..JOURNAL },
];

impl Load {
    /// The gentle load is there for the server of 2018, which holds no other; Centrifugo, which knows nothing of who stands
    /// where, is there for the journal's, as is the other way to send.
    fn is_for(self, peer: Peer) -> bool {
        match peer {
            Peer::Centrifugo | Peer::DnaBatched => self == JOURNAL,
            Peer::Socketioxide | Peer::Node => self != GENTLE,
            Peer::Bare | Peer::Dna | Peer::Y2018 => true,
        }
    }

    /// All of them where something is to be reached.
    fn rounds(self, options: &Options) -> usize {
        if [JOURNAL, TENFOLD].contains(&self) { options.rounds() } else { options.few_rounds() }
    }

    /// Channels of Centrifugo, so that each has as many who hear it.
    fn cells(self) -> u64 {
        self.listeners / self.hearers
    }

    /// For files.
    pub(super) fn name(self) -> String {
        let loud = if self.is_loud { "-loud" } else { "" };
        format!("{}-{}x{}{loud}", self.listeners, self.rate, self.hearers)
    }

    /// Each says one thing a second, or several where so many more connections would be a load of their own.
    fn writers(self) -> u64 {
        self.rate.min(MOST_WRITERS)
    }

    /// Between two messages of a writer, seconds.
    fn pause(self) -> f64 {
        self.writers() as f64 / self.rate as f64
    }

    /// Of the crowd, metres, so that as many hear a message as shall: circles of radius r, evenly between both ends, cover
    /// the mean of r² / R² of it.
    fn within(self) -> f64 {
        let (least, most) = RADII_M;
        let mean_square = (least * least + least * most + most * most) / 3.0;
        (self.listeners as f64 * mean_square / self.hearers as f64).sqrt()
    }

    /// From the middle to where the last people speak, metres: so far inside that no circle that matters reaches beyond
    /// the crowd.
    fn reach(self) -> f64 {
        self.within() - RADII_M.1
    }

    /// Where people speak.
    pub(super) fn places(self) -> String {
        self.spots(self.writers())
    }

    /// So many places among those where people speak.
    pub(super) fn spots(self, count: u64) -> String {
        let reach = self.reach();
        let (east, north) = (111_319.5 * MIDDLE.1.to_radians().cos(), 110_990.0);
        let mut chance = Chance(20_180_901 + self.rate);
        let place = |_| {
            let away = reach * chance.next().sqrt();
            let (y, x) = (chance.next() * std::f64::consts::TAU).sin_cos();
            format!("{:.7},{:.7}\n", MIDDLE.0 + away * x / east, MIDDLE.1 + away * y / north)
        };
        (0..count).map(place).collect()
    }

    /// At a place where people speak, the radius in metres within which one hears as much as the listeners do in the mean.
    pub(super) fn mean_radius_m(self) -> f64 {
        self.reach() * (self.hearers as f64 / self.listeners as f64).sqrt()
    }

    /// What of the script's configuration this load replaces.
    fn overrides(self, peer: Peer, seconds: u64) -> Value {
        let phases = json!([{"duration": 1, "arrivalCount": self.writers()}, {"pause": seconds + FROM - 1}]);
        if peer == Peer::Centrifugo {
            let answered = |id: u8, what: &str, how: Value| {
                json!({"send": {
                    "payload": {"id": id, what: how}, "match": {"json": "$.id", "value": id},
                }})
            };
            return json!({"config": {
                "phases": phases,
                "delivery": {"event": "push", "stamp": "publish.data.contents", "read": "push.pub.data.contents",
                    "expect": self.hearers, "deadline": "2s"},
                "listeners": [{
                    "count": self.cells() * self.hearers,
                    "engine": "ws",
                    "payload": {"path": "cells.csv", "fields": ["cell"], "order": "sequence"},
                    "flow": [
                        {"connect": "/connection/websocket"},
                        answered(1, "connect", json!({})),
                        answered(2, "subscribe", json!({"channel": "cell-{{ cell }}"})),
                    ],
                }],
            }});
        }
        json!({"config": {
            "phases": phases,
            "listeners": load::people(self.listeners, MIDDLE, self.within().round(), RADII_M),
        }})
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (listeners, rate) = (thousands(self.listeners as f64), thousands(self.rate as f64));
        write!(f, "{listeners} listeners, {rate} messages a second to {} each", self.hearers)?;
        if let Some(letters) = self.letters {
            write!(f, ", each of {} letters", thousands(letters as f64))?;
        }
        f.write_str(if self.is_loud { ", by LoudSpeaker" } else { "" })
    }
}

/// The same places each time (a linear congruential generator with the constants of Knuth's MMIX).
struct Chance(u64);

impl Chance {
    /// From 0 to below 1.
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Script and tokens of all loads.
pub(super) struct Stage {
    folder: PathBuf,
    seconds: u64,
}

/// A server that runs.
pub(super) enum Server {
    Dna(Child),
    Y2018(Server2018),
    Program(Program),
}

impl Stage {
    pub(super) fn set(ground: &Ground, name: &str, loads: &[Load], seconds: u64) -> Result<Self> {
        let folder = ground.part(name)?;
        let most = |of: fn(&Load) -> u64| loads.iter().map(of).max().unwrap_or(1);
        stage::make_tokens(&folder.join("users.csv"), 1, most(|load| load.writers()), &ground.data)?;
        let listeners = most(|load| load.listeners);
        stage::make_tokens(&folder.join("listeners.csv"), FIRST_LISTENER_IDX, listeners, &ground.data)?;
        for script in [SCRIPT, CENTRIFUGO_SCRIPT].map(|script| tree::root().join(script)) {
            let copy = folder.join(script.file_name().context("a script")?);
            fs::copy(&script, copy).with_context(|| format!("cannot copy {}", script.display()))?;
        }
        Ok(Self { folder, seconds })
    }

    /// One run of one server, begun anew for it.
    pub(super) fn run(&self, ground: &Ground, peer: Peer, load: Load, round: usize) -> Result<Measured> {
        let cells: String = (0..load.cells()).map(|cell| format!("{cell}\n")).collect();
        for (file, text) in [("places.csv", load.places()), ("cells.csv", cells)] {
            fs::write(self.folder.join(file), text).with_context(|| format!("cannot write {file}"))?;
        }
        let listen = super::free_port()?;
        let (server, pids) = Server::start(ground, peer, listen, &self.folder)?;
        let mut command = command(&self.folder, peer, load, self.seconds, listen);
        let name = format!("{}-{}-{round}", load.name(), peer.name());
        let run = load::fire(&mut command, &pids, &self.folder, &name);
        server.stop()?;
        thread::sleep(PAUSE);
        Measured::of(&run?, peer, load, self.seconds)
    }
}

/// drumfire's run of the peer's script and the tables in `folder`.
pub(super) fn command(
    folder: &Path,
    peer: Peer,
    load: Load,
    seconds: u64,
    listen: impl fmt::Display,
) -> Command {
    let (scheme, script) = match peer {
        Peer::Centrifugo => ("ws", "centrifugo.yml"),
        _ => ("http", "fanout.yml"),
    };
    let kind = if load.is_loud { "LoudSpeaker" } else { "Message" };
    let times = ((seconds + FROM) as f64 / load.pause()).round() as u64;
    let mut variables = json!({"times": times, "pause": load.pause(), "type": kind});
    if let Some(letters) = load.letters {
        variables["contents"] = "x".repeat(letters).into();
    }
    let target = format!("{scheme}://{listen}");
    load::script(&folder.join(script), &target, &variables, &load.overrides(peer, seconds))
}

/// How they are started.
const SERVERS: [&str; 7] = [
    "target/bench-peers/release/bare-fanout PORT",
    "DNA_NO_LIMITS=true target/release/dna serve --listen 127.0.0.1:PORT --data target/bench/data",
    "DNA_BATCH=on DNA_NO_LIMITS=true target/release/dna serve --listen 127.0.0.1:PORT --data target/bench/data",
    "JWT_SECRET=... target/bench-peers/release/socketioxide-grid PORT",
    "JWT_SECRET=... PORT=PORT node bench/node/server.js",
    "target/bench-centrifugo/v6.9.1/centrifugo --config target/bench/fanout/centrifugo.json",
    "JWT_SECRET=... PORT=PORT REDIS_PORT=PORT node bench/2018/server.js",
];

impl Server {
    pub(super) fn start(
        ground: &Ground,
        peer: Peer,
        listen: std::net::SocketAddr,
        logs: &Path,
    ) -> Result<(Self, Vec<u32>)> {
        let secret = stage::secret(&ground.data)?;
        if let Peer::Dna | Peer::DnaBatched = peer {
            let mut dna = Command::new(tree::binary("dna"));
            // The others have none.
            dna.env("DNA_NO_LIMITS", "true");
            if peer == Peer::DnaBatched {
                dna.env("DNA_BATCH", "on");
            }
            let dna = stage::serve_as(dna, listen, &ground.data, &logs.join("dna.log"))?;
            let pid = dna.id();
            return Ok((Self::Dna(dna), vec![pid]));
        }
        if peer == Peer::Y2018 {
            let server = Server2018::start(listen, &secret, logs)?;
            let pids = server.pids().to_vec();
            return Ok((Self::Y2018(server), pids));
        }
        if peer == Peer::Centrifugo {
            let program = centrifugo::start(listen, logs)?;
            let pid = program.pid();
            return Ok((Self::Program(program), vec![pid]));
        }
        let port = listen.port().to_string();
        let mut command = match peer {
            Peer::Bare => Command::new(super::peer("bare-fanout")),
            Peer::Socketioxide => Command::new(super::peer("socketioxide-grid")),
            _ => Command::new("node"),
        };
        if peer == Peer::Node {
            command.arg(tree::root().join("bench/node/server.js"));
        } else {
            command.arg(&port);
        }
        command.env("PORT", &port).env("JWT_SECRET", &secret);
        let mut program = Program::start(peer.name(), &mut command, logs)?;
        program.wait_for(listen)?;
        let pid = program.pid();
        Ok((Self::Program(program), vec![pid]))
    }

    pub(super) fn stop(self) -> Result<()> {
        match self {
            Self::Dna(mut dna) => stage::end(&mut dna),
            Self::Y2018(server) => server.stop(),
            Self::Program(mut program) => program.stop(),
        }
    }
}

/// What one run gave.
#[derive(Debug, Clone)]
pub(super) struct Measured {
    /// `new_msg` to listeners and to writers, over the seconds measured.
    deliveries: f64,
    /// `speaker`, over the same.
    alerts: f64,
    messages: f64,
    usage: Usage,
    missing: f64,
    expected: f64,
    twice: f64,
    uncalled: f64,
    p50_ms: f64,
    p99_ms: f64,
    p999_ms: f64,
    /// Where its time went, as it tells itself.
    spent: Option<Spent>,
    /// Why the load side is not to be believed.
    doubt: Option<String>,
    /// Why the server did not hold the load.
    failure: Option<String>,
}

impl Measured {
    fn of(run: &Run, peer: Peer, load: Load, seconds: u64) -> Result<Self> {
        let usage = run.usage(FROM, seconds).context("drumfire ended before what is measured was over")?;
        let heard = run.counted("drumfire.delivery.heard", FROM, seconds);
        let sent = ["socketio.emit", "websocket.messages_sent"];
        let messages = sent.map(|counter| run.counted(counter, FROM, seconds)).iter().sum();
        // Events are counted over the whole run: so many for each message.
        let each = |event: &str| run.heard(event) / run.account("messages").max(1.0);
        let (missing, expected) = (run.account("missing"), run.account("expected"));
        let failure = if missing > expected * MOST_MISSING || expected == 0.0 {
            Some(format!("{:.1} % of the deliveries are missing", missing / expected.max(1.0) * 100.0))
        } else {
            run.errors()
        };
        Ok(Self {
            // Each writer hears itself, which no listener does.
            deliveries: heard + messages,
            alerts: if load.is_loud { each("speaker") * messages } else { 0.0 },
            messages,
            doubt: run.doubts(&usage),
            spent: Spent::of(run, peer, seconds, messages, &usage.servers),
            usage,
            missing,
            expected,
            twice: run.account("duplicates"),
            uncalled: run.account("unexpected"),
            p50_ms: run.time("drumfire.delivery", "p50").unwrap_or(f64::NAN),
            p99_ms: run.time("drumfire.delivery", "p99").unwrap_or(f64::NAN),
            p999_ms: run.time("drumfire.delivery", "p999").unwrap_or(f64::NAN),
            failure,
        })
    }

    fn frames(&self) -> f64 {
        self.deliveries + self.alerts
    }

    fn server_cores(&self) -> f64 {
        self.usage.servers.iter().sum()
    }

    /// Microseconds of the server's processor time for each frame to a hearer.
    fn cost(&self, seconds: u64) -> f64 {
        self.server_cores() * seconds as f64 / self.frames().max(1.0) * 1e6
    }

    fn tester_cost(&self, seconds: u64) -> f64 {
        self.usage.load * seconds as f64 / self.frames().max(1.0) * 1e6
    }

    fn is_valid(&self) -> bool {
        self.doubt.is_none() && self.failure.is_none()
    }

    fn json(&self, load: Load, peer: Peer, round: usize, seconds: u64) -> Value {
        json!({
            "load": load.to_string(), "server": peer.to_string(), "round": round + 1, "seconds": seconds,
            "messages": self.messages, "deliveries": self.deliveries, "alerts": self.alerts,
            "server_cores": self.usage.servers, "drumfire_cores": self.usage.load,
            "drumfire_busiest_thread": self.usage.busiest_load_thread,
            "us_per_delivery": self.cost(seconds),
            "expected": self.expected, "missing": self.missing, "twice": self.twice, "uncalled_for": self.uncalled,
            "p50_ms": self.p50_ms, "p99_ms": self.p99_ms, "p999_ms": self.p999_ms,
            "load_side_doubted": self.doubt, "not_held": self.failure,
        })
    }
}

/// All runs of one server under one load.
#[derive(Default)]
struct Row {
    runs: Vec<Option<Measured>>,
}

impl Row {
    fn set(&mut self, round: usize, run: Measured) {
        self.runs.resize(round, None);
        self.runs.push(Some(run));
    }

    fn figure(&self, of: impl Fn(&Measured) -> f64) -> Figure {
        let valid = |run: &Option<Measured>| run.as_ref().filter(|run| run.is_valid()).map(&of);
        Figure { rounds: self.runs.iter().map(valid).collect() }
    }

    /// Where the time went, under the loads that both servers which tell it are told by.
    fn told(&self, peer: Peer, load: Load) -> Option<Told> {
        let rounds: Vec<_> = self.runs.iter().flatten().filter(|run| run.is_valid()).collect();
        let rounds = rounds.into_iter().filter_map(|run| run.spent.clone()).collect::<Vec<_>>();
        ([GENTLE, JOURNAL].contains(&load) && !rounds.is_empty()).then_some(Told { peer, load, rounds })
    }

    /// It did not hold the load, by its own doing.
    fn failed(&self) -> bool {
        self.runs.iter().flatten().any(|run| run.failure.is_some() && (run.doubt.is_none() || run.is_full()))
    }

    /// So far from holding it that there is no use in trying again.
    fn is_hopeless(&self) -> bool {
        let far = |run: &Measured| run.is_full() || run.missing > run.expected * HOPELESS;
        self.failed() && self.runs.iter().flatten().all(|run| run.failure.is_some() && far(run))
    }
}

impl Measured {
    /// One of its processes has a core to itself and uses all of it: when the tester is late too, it is the server's doing.
    fn is_full(&self) -> bool {
        self.usage.servers.iter().any(|cores| *cores > 0.9)
    }
}

pub(super) fn run(options: &Options, ground: &Ground) -> Result<Section> {
    let mut peers: Vec<_> = Peer::ALL.into_iter().filter(|peer| options.wants(peer.name())).collect();
    if peers.is_empty() {
        // Asked for may be those of another part.
        let lacks = vec![format!("none of its servers is called {}", options.only.join(" or "))];
        return Ok(Section { title: TITLE.to_owned(), lacks, ..Section::default() });
    }
    if peers.contains(&Peer::Y2018) {
        server_2018::need_programs()?;
        server_2018::install()?;
    }
    let mut notes = Vec::new();
    if peers.contains(&Peer::Centrifugo)
        && let Err(error) = centrifugo::install()
    {
        peers.retain(|peer| *peer != Peer::Centrifugo);
        notes.push(format!("Centrifugo {} could not be installed: {error}", centrifugo::VERSION));
    }
    web::install(&tree::root().join("bench/node"), "node packages")?;
    super::build_peers()?;
    let seconds = options.seconds_or(SECONDS);
    let stage = Stage::set(ground, PART, &LOADS, seconds)?;

    let mut section = Section {
        title: TITLE.to_owned(),
        text: words(seconds),
        versions: versions()?,
        notes,
        commands: ["cargo xtask bench fanout"].iter().chain(&SERVERS).map(|&line| line.to_owned()).collect(),
        ..Section::default()
    };
    let mut told = Vec::new();
    for required in Peer::REQUIRED.iter().filter(|required| !peers.contains(required)) {
        section.lacks.push(format!("{required} did not run"));
    }
    for load in LOADS {
        println!("\n{load}");
        let peers: Vec<_> = peers.iter().copied().filter(|peer| load.is_for(*peer)).collect();
        let mut rows: Vec<(Peer, Row)> = peers.iter().map(|peer| (*peer, Row::default())).collect();
        in_turn(load.rounds(options), &peers, |round, peer| {
            let (_, row) = rows.iter_mut().find(|(other, _)| other == peer).context("a row for each")?;
            if row.is_hopeless() {
                return Ok(());
            }
            let run = stage.run(ground, *peer, load, round)?;
            println!("  {}", run.line(*peer, round, seconds));
            section.runs.push(run.json(load, *peer, round, seconds));
            row.set(round, run);
            Ok(())
        })?;
        add(&mut section, load, &rows, seconds);
        section.goals.extend(goals_of(load, &rows, seconds));
        told.extend(rows.iter().filter_map(|(peer, row)| row.told(*peer, load)));
        section.commands.push(super::words(&command(
            &stage.folder,
            Peer::Dna,
            load,
            seconds,
            "127.0.0.1:PORT",
        )));
    }
    stages::add(&mut section, &told);
    Ok(section)
}

impl Measured {
    fn line(&self, peer: Peer, round: usize, seconds: u64) -> String {
        let why = [&self.failure, &self.doubt].into_iter().flatten().map(|why| format!("; {why}"));
        format!(
            "{:<20} round {}: {:>6.2} us a delivery, {:>7}/s, missing {:.0}, twice {:.0}, p99 {:.1} ms, server {:.2} and drumfire {:.2} cores{}",
            peer.to_string(),
            round + 1,
            self.cost(seconds),
            thousands(self.frames() / seconds as f64),
            self.missing,
            self.twice,
            self.p99_ms,
            self.server_cores(),
            self.usage.load,
            why.collect::<String>()
        )
    }
}

fn words(seconds: u64) -> Vec<String> {
    vec![
        format!(
            "Processor time of the server for each frame it hands to one hearer. The crowd stands before the measurement begins, \
             each of the writers (at most {MOST_WRITERS}) speaks at a place of their own, and nobody connects during the {seconds} s \
             that are measured. CPU is read from `/proc/<pid>/stat` of all of a server's processes, deliveries are counted by `drumfire`, \
             the writer's own copy included. Medians of the rounds beside them, at most three \
             where nothing is to be reached; in each round all servers run in turn."
        ),
        "`dna` stores every message, on disk, before anybody sees it, and looks at each token; bare send stores nothing and \
         looks at no token; socketioxide and Node keep nothing but a grid of people in memory and verify a token once a connection; \
         the server of 2018 keeps messages in a Redis in memory, whose processor time is counted with it. \
         `dna` runs without its limits, which the others do not have."
            .to_owned(),
        format!(
            "A round counts when `drumfire` kept its own time and none of its threads took more than 80 % of a core, and when \
             not more than {:.0} % of the deliveries are missing. A server that is far from holding a load is not tried again. Messages by LoudSpeaker also alert those who stand near: `speaker`, \
             counted apart; `dna` folds alerts to one in two seconds for each of them, the others send every one.",
            MOST_MISSING * 100.0
        ),
        "`dna, io_uring` hands what goes to many to the kernel in one call (`batch = \"on\"`; by default `dna` measures at its start what \
         that is worth). Look at the sum of both CPU columns there: when a reader on the same machine is woken within such a call and \
         takes the processor at its end, Linux counts the rest of the call as the reader's."
            .to_owned(),
        "Centrifugo is told another load, since it knows no circles: each listener joins one channel, each message goes to one, \
         and as many hear it. It looks at no token, and keeps nothing."
            .to_owned(),
        "The server of 2018 measures on a sphere: what it misses, or delivers uncalled for, stands on the rim between that and the \
         ellipsoid (bench/2018/README.md)."
            .to_owned(),
    ]
}

pub(super) fn versions() -> Result<Vec<(String, String)>> {
    Ok(vec![
        ("Centrifugo".to_owned(), centrifugo::VERSION.to_owned()),
        ("socketioxide".to_owned(), locked_version("bench/peers/Cargo.lock", "socketioxide")?),
        ("socket.io".to_owned(), locked_version("bench/node/package-lock.json", "socket.io")?),
        ("socket.io of 2018".to_owned(), locked_version("bench/2018/package-lock.json", "socket.io")?),
        (
            "Redis of 2018".to_owned(),
            super::version("redis-server", &["--version"]).unwrap_or_else(|_| "not installed".to_owned()),
        ),
    ])
}

const COLUMNS: [&str; 15] = [
    "server",
    "us per delivery",
    "rounds",
    "to bare send",
    "rounds",
    "frames/s",
    "missing",
    "twice",
    "uncalled for",
    "p50, ms",
    "p99, ms",
    "p99.9, ms",
    "server, cores",
    "drumfire, us per delivery",
    "its busiest thread",
];

fn add(section: &mut Section, load: Load, rows: &[(Peer, Row)], seconds: u64) {
    let floor =
        rows.iter().find(|(peer, _)| *peer == Peer::Bare).map(|(_, row)| row.figure(|run| run.cost(seconds)));
    let mut columns: Vec<_> = COLUMNS.map(str::to_owned).to_vec();
    if load.is_loud {
        columns.push("of them alerts/s".to_owned());
    }
    let mut table = Table { caption: format!("## {load}"), columns, rows: Vec::new() };
    let mut bars = Vec::new();
    for (peer, row) in rows {
        let cost = row.figure(|run| run.cost(seconds));
        let ratio = floor.as_ref().map(|floor| cost.over(floor)).unwrap_or_default();
        let sum = |of: fn(&Measured) -> f64| thousands(row.runs.iter().flatten().map(of).sum());
        let each_second = |of: fn(&Measured) -> f64| {
            row.figure(|run| of(run) / seconds as f64).median().map_or_else(String::new, thousands)
        };
        let verdict = match (cost.median(), row.failed()) {
            (Some(_), _) => None,
            (None, true) => Some("does not hold it"),
            (None, false) => Some("no valid run"),
        };
        let mut cells = vec![
            peer.to_string(),
            verdict.map_or_else(|| cost.text(2), str::to_owned),
            cost.rounds_text(2),
            ratio.median().map_or_else(String::new, |_| ratio.text(2)),
            ratio.rounds_text(2),
            each_second(Measured::frames),
            sum(|run| run.missing),
            sum(|run| run.twice),
            sum(|run| run.uncalled),
        ];
        let middle = |decimals, of: &dyn Fn(&Measured) -> f64| {
            let figure = row.figure(of);
            figure.median().map_or_else(String::new, |_| figure.text(decimals))
        };
        cells.extend([
            middle(2, &|run| run.p50_ms),
            middle(1, &|run| run.p99_ms),
            middle(1, &|run| run.p999_ms),
            middle(2, &Measured::server_cores),
            middle(2, &|run| run.tester_cost(seconds)),
        ]);
        let busiest = row.figure(|run| run.usage.busiest_load_thread * 100.0).median();
        cells.push(busiest.map_or_else(String::new, |share| format!("{share:.0} %")));
        if load.is_loud {
            cells.push(each_second(|run| run.alerts));
        }
        table.rows.push(cells);
        bars.push(Bar {
            label: peer.to_string(),
            parts: cost.median().into_iter().collect(),
            text: verdict.map_or_else(|| format!("{} us", cost.text(1)), str::to_owned),
            is_ours: *peer == Peer::Dna,
        });
        notes(section, load, *peer, row);
        if load == JOURNAL && Peer::REQUIRED.contains(peer) && verdict == Some("no valid run") {
            section.lacks.push(format!("{load}: {peer} has no valid run"));
        }
    }
    section.show(PART, chart::bars(&load.name(), &format!("CPU per delivery: {load}"), &bars), table);
}

/// What `dna` is to reach under this load.
fn goals_of(load: Load, rows: &[(Peer, Row)], seconds: u64) -> Vec<Goal> {
    let row = |peer: Peer| rows.iter().find(|(other, _)| *other == peer).map(|(_, row)| row);
    let (Some(bare), Some(dna)) = (row(Peer::Bare), row(Peer::Dna)) else { return Vec::new() };
    let cost = |row: &Row| row.figure(|run| run.cost(seconds));
    let goal = |what: &str, most: f64, measured: &Figure, unit| Goal {
        what: format!("{load}: {what}"),
        at: Bound::Most(most),
        measured: measured.median(),
        unit,
        decimals: 2,
    };
    let lost = dna.runs.iter().flatten().map(|run| run.missing + run.twice).sum();
    let none_lost = Figure { rounds: vec![Some(lost)] };
    match load {
        JOURNAL => {
            let above_commit = |run: &Measured| run.p50_ms - run.spent.as_ref().map_or(0.0, Spent::commit_ms);
            vec![
                goal("CPU per delivery to bare send", 1.5, &cost(dna).over(&cost(bare)), ""),
                goal("p50 above the mean commit", 1.0, &dna.figure(above_commit), "ms"),
                goal("p99.9", 10.0, &dna.figure(|run| run.p999_ms), "ms"),
                goal("missing or twice, all rounds", 0.0, &none_lost, ""),
            ]
        }
        TENFOLD => vec![
            goal("CPU per delivery to bare send", 1.2, &cost(dna).over(&cost(bare)), ""),
            goal("p99", 20.0, &dna.figure(|run| run.p99_ms), "ms"),
            goal("missing or twice, all rounds", 0.0, &none_lost, ""),
        ],
        _ => Vec::new(),
    }
}

fn notes(section: &mut Section, load: Load, peer: Peer, row: &Row) {
    for (round, run) in row.runs.iter().enumerate() {
        let Some(run) = run else { continue };
        let why: Vec<_> = [&run.failure, &run.doubt].into_iter().flatten().cloned().collect();
        if !why.is_empty() {
            let busiest = run.usage.servers.iter().copied().fold(0.0, f64::max);
            section.notes.push(format!(
                "{load}: {peer}, round {}: {} (its busiest process used {busiest:.2} cores)",
                round + 1,
                why.join("; ")
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_says_what_is_replaced() {
        let text = fs::read_to_string(tree::root().join(SCRIPT)).expect("the script");
        let first = LOADS[0];
        for line in [
            format!("around: [{}, {}]", MIDDLE.0, MIDDLE.1),
            format!("within: {}", first.within().round()),
            format!("radius: [{}, {}]", RADII_M.0, RADII_M.1),
            format!("count: {}", first.listeners),
            format!("arrivalCount: {}", first.writers()),
            format!("times: {}", SECONDS + FROM),
            format!("pause: {}", SECONDS + FROM - 1),
        ] {
            assert!(text.contains(&line), "{SCRIPT} lacks `{line}`");
        }
    }

    #[test]
    fn places_lie_where_circles_do_not_reach_beyond_the_crowd() {
        for load in LOADS {
            let places = load.places();
            assert_eq!(places.lines().count() as u64, load.writers());
            for place in places.lines() {
                let (lng, lat) = place.split_once(',').expect("two numbers");
                let (lng, lat): (f64, f64) = (lng.parse().expect("lng"), lat.parse().expect("lat"));
                let east = (lng - MIDDLE.0) * 111_319.5 * MIDDLE.1.to_radians().cos();
                let away = east.hypot((lat - MIDDLE.1) * 110_990.0);
                assert!(away < load.within() - RADII_M.1 + 1.0, "{load}: {place}");
            }
        }
    }
}
