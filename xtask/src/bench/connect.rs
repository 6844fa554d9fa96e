//! Connections: how fast they are taken, what they hold while idle, how long all need to be back after a restart.

mod rejoin; // everybody loses their server, and comes back

use std::fmt;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::chart::{self, Bar};
use super::fanout::{Peer, Server as Other};
use super::figure::{Figure, thousands};
use super::goal::{Bound, Goal};
use super::report::{Section, Table};
use super::{
    Ground, MOST_LATE_MS, MOST_OF_A_CORE, Options, build_peers, child, cpu, free_port, in_turn, peer,
    start_bare_accept,
};
use crate::demo::FIRST_LISTENER_IDX;
use crate::program::Program;
use crate::soak::watch::Process;
use crate::{stage, tree, web};

/// As many as the journal's author once had.
const CONNECTIONS: u64 = 15_000;
/// At an even rate that leaves the load side time.
const RATE: u64 = 3_000;
const QUICK_CONNECTIONS: u64 = 3_000;
/// Until what was allocated for connecting is given back.
const SETTLE: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Bare,
    Dna,
    Socketioxide,
    Node,
}

impl Who {
    const ALL: [Self; 4] = [Self::Bare, Self::Dna, Self::Socketioxide, Self::Node];

    fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Dna => "dna",
            Self::Socketioxide => "socketioxide",
            Self::Node => "node",
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bare => "bare accept and 101",
            Self::Dna => "dna",
            Self::Socketioxide => "socketioxide",
            Self::Node => "Node, socket.io 4",
        })
    }
}

enum Server {
    Bare(Program),
    Other(Other),
}

impl Server {
    fn start(who: Who, ground: &Ground, folder: &Path) -> Result<(Self, std::net::SocketAddr, u32)> {
        let peer_of = match who {
            Who::Bare => {
                let (program, listen) = start_bare_accept(Command::new(peer("bare-accept")), folder)?;
                let pid = program.pid();
                return Ok((Self::Bare(program), listen, pid));
            }
            Who::Dna => Peer::Dna,
            Who::Socketioxide => Peer::Socketioxide,
            Who::Node => Peer::Node,
        };
        let listen = free_port()?;
        let (other, pids) = Other::start(ground, peer_of, listen, folder)?;
        let pid = *pids.first().context("a process")?;
        Ok((Self::Other(other), listen, pid))
    }

    fn stop(self) -> Result<()> {
        match self {
            Self::Bare(mut program) => program.stop(),
            Self::Other(other) => other.stop(),
        }
    }
}

/// What one server showed in one round.
struct Measured {
    /// Microseconds of the server's processor time for a connection, at an even rate.
    cost: f64,
    /// Connections a second, as many as go.
    rate: f64,
    /// Of a core, both sides, as many as go.
    shares: [f64; 2],
    /// User-space bytes of an idle connection; nothing joins the bare loop.
    idle: Option<f64>,
    doubt: Option<String>,
}

/// What `bare-connect` did, and what the server used meanwhile.
struct Opened {
    seconds: f64,
    late_ms: Option<f64>,
    load_share: f64,
    server_s: f64,
}

impl Measured {
    fn of(who: Who, ground: &Ground, folder: &Path, all: u64, round: usize) -> Result<Self> {
        let (server, listen, pid) = Server::start(who, ground, folder)?;
        let measure = || -> Result<Self> {
            let idle = match who {
                Who::Bare => None,
                _ => Some(hold(listen, pid, all)?),
            };
            let name = format!("{}-{round}", who.name());
            let even = open(listen, pid, all, RATE, folder, &name)?;
            let fast = open(listen, pid, all, 0, folder, &format!("{name}-fast"))?;
            let late = even.late_ms.filter(|late| *late > MOST_LATE_MS);
            let doubt = match late {
                Some(late) => Some(format!("the load side was late by {late:.0} ms (p99)")),
                None if even.load_share > MOST_OF_A_CORE => {
                    Some(format!("the load side took {:.0} % of a core", even.load_share * 100.0))
                }
                None => None,
            };
            Ok(Self {
                cost: even.server_s / all as f64 * 1e6,
                rate: all as f64 / fast.seconds,
                shares: [fast.server_s / fast.seconds, fast.load_share],
                idle,
                doubt,
            })
        };
        let measured = measure();
        server.stop()?;
        measured.with_context(|| who.to_string())
    }

    fn json(&self, who: Who, round: usize, all: u64) -> Value {
        json!({
            "server": who.to_string(), "round": round + 1, "connections": all,
            "us_per_connection": self.cost, "fastest_per_second": self.rate,
            "fastest_server_cores": self.shares[0], "fastest_load_cores": self.shares[1],
            "idle_bytes": self.idle, "load_side_doubted": self.doubt,
        })
    }
}

fn connect(listen: std::net::SocketAddr, all: u64) -> Command {
    let mut command = Command::new(peer("bare-connect"));
    command.args(["--target", &listen.to_string(), "--connections", &all.to_string()]);
    command
}

/// Opens `all`, each dropped at its 101.
fn open(
    listen: std::net::SocketAddr,
    pid: u32,
    all: u64,
    rate: u64,
    folder: &Path,
    name: &str,
) -> Result<Opened> {
    let used = || cpu::used(&cpu::process(pid)).context("the server has gone");
    let before = used()?;
    let mut command = connect(listen, all);
    let ended = child::succeed(command.args(["--rate", &rate.to_string()]), folder, name)?;
    let told: Value = serde_json::from_str(&ended.said)?;
    let seconds = told["seconds"].as_f64().context("how long it took")?;
    Ok(Opened {
        seconds,
        late_ms: told["start_lateness_p99_ms"].as_f64(),
        load_share: ended.cpu_s / seconds,
        server_s: used()? - before,
    })
}

/// User-space bytes of each of `all` connections that have joined and are idle.
fn hold(listen: std::net::SocketAddr, pid: u32, all: u64) -> Result<f64> {
    let anonymous = || {
        thread::sleep(SETTLE);
        Process::of(pid).map(|process| process.anonymous_bytes as f64).context("the server has gone")
    };
    let before = anonymous()?;
    let mut child = connect(listen, all)
        .arg("--hold")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start bare-connect")?;
    let mut line = String::new();
    let read = BufReader::new(child.stdout.take().context("no stdout")?).read_line(&mut line);
    let after = anonymous();
    // Its input ends: it drops all and ends, too.
    let status = child.wait()?;
    if read? == 0 || !status.success() {
        bail!("bare-connect did not get {all} connections to stand ({status})");
    }
    Ok((after? - before) / all as f64)
}

pub(super) fn run(options: &Options, ground: &Ground) -> Result<Section> {
    web::install(&tree::root().join("bench/node"), "node packages")?;
    build_peers()?;
    let folder = ground.part("connect")?;
    let who: Vec<_> = Who::ALL.into_iter().filter(|who| options.wants(who.name())).collect();
    let all = if options.quick { QUICK_CONNECTIONS } else { CONNECTIONS };
    stage::make_tokens(&folder.join("listeners.csv"), FIRST_LISTENER_IDX, all, &ground.data)?;
    let mut rows: Vec<(Who, Vec<Measured>)> = who.iter().map(|who| (*who, Vec::new())).collect();
    let mut runs = Vec::new();
    in_turn(options.rounds(), &who, |round, who| {
        let measured = Measured::of(*who, ground, &folder, all, round)?;
        println!("  {}", measured.line(*who, round));
        runs.push(measured.json(*who, round, all));
        let (_, row) = rows.iter_mut().find(|(other, _)| other == who).context("a row for each")?;
        row.push(measured);
        Ok(())
    })?;
    let mut section = Section {
        title: "Connections: taking them, holding them, taking all of them back".to_owned(),
        text: words(all),
        runs,
        commands: vec![
            "cargo xtask bench connect".to_owned(),
            super::words(&connect(([127, 0, 0, 1], 9013).into(), all)),
        ],
        ..Section::default()
    };
    let rejoin = if options.wants(Who::Dna.name()) {
        let rejoin = rejoin::measure(options, ground, &folder, all)?;
        section.runs.extend(rejoin.json());
        Some(rejoin)
    } else {
        None
    };
    tell(&mut section, &rows, rejoin.as_ref());
    Ok(section)
}

impl Measured {
    fn line(&self, who: Who, round: usize) -> String {
        let idle = self.idle.map_or_else(String::new, |idle| format!(", {idle:.0} bytes idle"));
        let doubt = self.doubt.as_ref().map_or_else(String::new, |doubt| format!("; {doubt}"));
        format!(
            "{:<20} round {}: {:.1} us a connection, at most {}/s (server {:.2}, load {:.2} cores){idle}{doubt}",
            who.to_string(),
            round + 1,
            self.cost,
            thousands(self.rate),
            self.shares[0],
            self.shares[1],
        )
    }
}

fn words(all: u64) -> Vec<String> {
    vec![
        format!(
            "A connection is TCP, the upgrade and its 101, and the end of it, dropped by the client as soon as the 101 is there; \
             a Socket.IO server's session begins and ends with it. {} a second come at an even rate, and the server's processor time \
             (`/proc/<pid>/stat`) is shared among {} of them. The bare loop does the same with one thread on epoll and answers with the \
             101 alone. Then as many as go, 64 at a time, which both sides share this machine for.",
            thousands(RATE as f64),
            thousands(all as f64)
        ),
        format!(
            "Memory: {} connections join Socket.IO's main namespace and stand idle; what the server's anonymous memory (`RssAnon`) \
             rose by since before the first of them, for each. What the kernel holds for a socket is not in it.",
            thousands(all as f64)
        ),
        "A round counts when the load side was on time (p99 within 50 ms) and took at most 80 % of a core at the even rate.".to_owned(),
    ]
}

fn figure(row: &[Measured], of: impl Fn(&Measured) -> Option<f64>) -> Figure {
    Figure { rounds: row.iter().map(|run| if run.doubt.is_none() { of(run) } else { None }).collect() }
}

fn tell(section: &mut Section, rows: &[(Who, Vec<Measured>)], rejoin: Option<&rejoin::Rejoined>) {
    let of = |who: Who| {
        rows.iter().find(|(other, _)| *other == who).map(|(_, row)| row.as_slice()).unwrap_or_default()
    };
    let cost = |who: Who| figure(of(who), |run| Some(run.cost));
    let rate = |who: Who| Figure { rounds: of(who).iter().map(|run| Some(run.rate)).collect() };
    let idle = |who: Who| Figure { rounds: of(who).iter().map(|run| run.idle).collect() };
    section.goals = vec![
        Goal {
            what: "connections a second of the server's processor time, to the bare loop".to_owned(),
            at: Bound::Least(0.7),
            measured: cost(Who::Bare).over(&cost(Who::Dna)).median(),
            unit: "",
            decimals: 2,
        },
        Goal {
            what: "connections a second, as many as go, to the bare loop".to_owned(),
            at: Bound::Least(0.7),
            measured: rate(Who::Dna).over(&rate(Who::Bare)).median(),
            unit: "",
            decimals: 2,
        },
        Goal {
            what: "user-space memory of an idle connection".to_owned(),
            at: Bound::Most(4.0),
            measured: idle(Who::Dna).median().map(|bytes| bytes / 1e3),
            unit: "kB",
            decimals: 2,
        },
    ];
    let mut taking = Table {
        caption: "## Taking connections".to_owned(),
        columns: [
            "server",
            "us each",
            "rounds",
            "a CPU second, to bare",
            "fastest/s",
            "rounds",
            "to bare",
            "server, cores",
            "load, cores",
        ]
        .map(str::to_owned)
        .to_vec(),
        rows: Vec::new(),
    };
    let mut holding = Table {
        caption: "## Holding them".to_owned(),
        columns: ["server", "bytes each", "rounds"].map(str::to_owned).to_vec(),
        rows: Vec::new(),
    };
    let (mut taken, mut held) = (Vec::new(), Vec::new());
    for (who, row) in rows {
        let share = |side: usize| Figure { rounds: row.iter().map(|run| Some(run.shares[side])).collect() };
        taking.rows.push(vec![
            who.to_string(),
            cost(*who).text(1),
            cost(*who).rounds_text(1),
            cost(Who::Bare).over(&cost(*who)).text(2),
            rate(*who).median().map_or_else(String::new, thousands),
            rate(*who).rounds_text(0),
            rate(*who).over(&rate(Who::Bare)).text(2),
            share(0).text(2),
            share(1).text(2),
        ]);
        let bar = |value: Option<f64>, text: String| Bar {
            label: who.to_string(),
            parts: value.into_iter().collect(),
            text,
            is_ours: *who == Who::Dna,
        };
        taken.push(bar(cost(*who).median(), format!("{} us", cost(*who).text(1))));
        if let Some(bytes) = idle(*who).median() {
            holding.rows.push(vec![who.to_string(), thousands(bytes), idle(*who).rounds_text(0)]);
            held.push(bar(Some(bytes), format!("{} bytes", thousands(bytes))));
        }
        for (round, run) in row.iter().enumerate() {
            if let Some(doubt) = &run.doubt {
                section.notes.push(format!("{who}, round {}: {doubt}", round + 1));
            }
        }
    }
    for required in Who::ALL {
        if cost(required).median().is_none() {
            section.lacks.push(format!("{required} has no valid run"));
        }
    }
    section.charts.push(chart::bars("taking", "Server CPU per connection", &taken));
    section.charts.push(chart::bars("holding", "User-space memory of an idle connection", &held));
    let mut tables = vec![taking, holding];
    match rejoin {
        Some(rejoin) => {
            section.goals.push(rejoin.goal());
            section.notes.extend(rejoin.notes());
            tables.push(rejoin.table());
        }
        None => section.lacks.push("nobody was restarted".to_owned()),
    }
    section.tables.extend(tables);
}
