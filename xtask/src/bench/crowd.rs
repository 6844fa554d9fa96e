//! Readers that do not read, and 15,000 people in one place: what others feel of them, and what becomes of a server.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::fanout;
use super::figure::{Figure, thousands};
use super::goal::{self, Bound, Goal};
use super::load::{self, MIDDLE, Run};
use super::report::{Section, Table};
use super::{Ground, Options, free_port, in_turn};
use crate::demo::FIRST_LISTENER_IDX;
use crate::soak::watch::{Process, sample};
use crate::{command, stage, tree};

const SLOW_READERS: [u64; 3] = [0, 1, 1_000];
/// Long enough for what the kernel holds for a reader to fill, and for what waits in `dna` to be 10 s old.
const SLOW_SECONDS: u64 = 24;
/// They come within two seconds, and are there when the others begin.
const BEFORE_OTHERS: Duration = Duration::from_secs(4);
const FIRST_SLOW_IDX: u64 = 9_000_001;

const IN_ONE_PLACE: u64 = 15_000;
const RATES: [u64; 2] = [10, 50];
const CROWD_SECONDS: u64 = 15;
/// In which all of them are, well inside what each hears.
const CROWD_WITHIN_M: f64 = 50.0;
/// So that each of them is asked for a sign of life several times in a run.
const PING_INTERVAL_MS: u64 = 5_000;
/// What is late is heard all the same.
const CROWD_DEADLINE: &str = "60s";

const PAUSE: Duration = Duration::from_secs(1);

pub(super) fn run(options: &Options, ground: &Ground) -> Result<Section> {
    let stage = Stage::set(ground)?;
    let mut section = Section {
        title: "Slow readers, and a crowd in one place".to_owned(),
        text: vec![
            format!(
                "`dna` alone, every message stored. First the load of the fan-out (2,000 listeners, 300 messages a second to 90 each), beside \
                 people who have joined the map in the middle of them, hear more than a quarter of all that is said, and read nothing. \
                 Then {} people within {CROWD_WITHIN_M} m who all hear every message. `dna` asks for signs of life every \
                 {} s here, and every 25 s by default.",
                thousands(IN_ONE_PLACE as f64),
                PING_INTERVAL_MS / 1_000
            ),
            "A round counts when `drumfire` kept its own time. Memory is the most of a run, closes and dropped frames are `dna`'s own counts \
             at its end; everybody else leaves by themselves (`client_close`)."
                .to_owned(),
        ],
        commands: vec!["cargo xtask bench crowd".to_owned()],
        ..Section::default()
    };
    let mut runs = Vec::new();
    let mut goals = stage.slow_readers(options, &mut section, &mut runs)?;
    goals.extend(stage.one_place(options, &mut section, &mut runs)?);
    section.tables.insert(0, goal::table(&goals));
    section.runs = Value::Array(runs);
    Ok(section)
}

struct Stage {
    folder: PathBuf,
    data: PathBuf,
}

impl Stage {
    fn set(ground: &Ground) -> Result<Self> {
        // Its script, users and places.
        fanout::Stage::set(ground, "crowd", &[fanout::JOURNAL], SLOW_SECONDS)?;
        let folder = ground.part("crowd")?;
        stage::make_tokens(&folder.join("listeners.csv"), FIRST_LISTENER_IDX, IN_ONE_PLACE, &ground.data)?;
        let most = SLOW_READERS.into_iter().max().unwrap_or(1);
        stage::make_tokens(&folder.join("slow.csv"), FIRST_SLOW_IDX, most, &ground.data)?;
        fs::copy(tree::root().join("bench/slow-readers.yml"), folder.join("slow-readers.yml"))
            .context("cannot copy the slow readers' script")?;
        fs::write(folder.join("dna.toml"), format!("[sockets]\nping_interval_ms = {PING_INTERVAL_MS}\n"))
            .context("cannot write dna.toml")?;
        Ok(Self { folder, data: ground.data.clone() })
    }

    fn slow_readers(
        &self,
        options: &Options,
        section: &mut Section,
        runs: &mut Vec<Value>,
    ) -> Result<Vec<Goal>> {
        let seconds = if options.quick { 6 } else { options.seconds.unwrap_or(SLOW_SECONDS) };
        let load = fanout::JOURNAL;
        fs::write(self.folder.join("places.csv"), load.places()).context("cannot write places.csv")?;
        let mut rows: Vec<_> = SLOW_READERS.map(|slow| (slow, Row::default())).into();
        println!("\nslow readers beside {load}");
        in_turn(options.rounds(), &SLOW_READERS, |round, slow| {
            let name = format!("slow-{slow}-{round}");
            let command = |listen| fanout::command(&self.folder, fanout::Peer::Dna, load, seconds, listen);
            let measured = self.measure(&name, *slow, seconds, command)?;
            println!("  {slow:>5} slow readers, round {}: {}", round + 1, measured.line());
            runs.push(measured.json(&format!("{slow} slow readers"), round));
            put(&mut rows, *slow, measured);
            Ok(())
        })?;
        section.tables.push(table(&format!("## Beside slow readers, {seconds} s"), "slow readers", &rows));
        let p99 = |slow: u64| row(&rows, slow).figure(|run| run.p99_ms);
        let lost = |rows: &[(u64, Row)]| rows.iter().map(|(_, row)| row.lost()).sum::<f64>();
        let mut goals: Vec<_> = [1, 1_000]
            .into_iter()
            .map(|slow| Goal {
                what: format!("others' delivery p99 beside {slow} slow readers, to that without"),
                at: Bound::Most(2.0),
                measured: p99(slow).over(&p99(0)).median(),
                unit: "",
                decimals: 2,
            })
            .collect();
        goals.push(none_lost("missing or twice beside slow readers", lost(&rows)));
        Ok(goals)
    }

    fn begin_slow(&self, slow: u64, listen: SocketAddr, name: &str) -> Result<std::process::Child> {
        let phases = json!({"config": {"phases": [{"duration": 2, "arrivalCount": slow}]}});
        load::drumfire()
            .args(["run", "-q", "-t", &format!("http://{listen}"), "--overrides", &phases.to_string(), "-o"])
            .arg(self.folder.join(format!("{name}-readers.json")))
            .arg(self.folder.join("slow-readers.yml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start drumfire for the slow readers")
    }

    fn one_place(
        &self,
        options: &Options,
        section: &mut Section,
        runs: &mut Vec<Value>,
    ) -> Result<Vec<Goal>> {
        let seconds = options.seconds_or(CROWD_SECONDS);
        fs::write(self.folder.join("places.csv"), format!("{},{}\n", MIDDLE.0, MIDDLE.1))
            .context("cannot write places.csv")?;
        let mut rows: Vec<_> = RATES.map(|rate| (rate, Row::default())).into();
        println!("\n{} people in one place", thousands(IN_ONE_PLACE as f64));
        in_turn(options.rounds(), &RATES, |round, rate| {
            let name = format!("crowd-{rate}-{round}");
            let measured = self.measure(&name, 0, seconds, |listen| self.crowd(*rate, seconds, listen))?;
            println!("  {rate:>5} messages a second, round {}: {}", round + 1, measured.line());
            runs.push(measured.json(&format!("{rate} messages a second"), round));
            put(&mut rows, *rate, measured);
            Ok(())
        })?;
        let people = thousands(IN_ONE_PLACE as f64);
        section.tables.push(table(
            &format!("## {people} people in one place, {seconds} s"),
            "messages a second",
            &rows,
        ));
        section.commands.push(super::words(&self.crowd(RATES[0], seconds, ([127, 0, 0, 1], 9013).into())));
        let all =
            |of: fn(&Measured) -> f64| -> f64 { rows.iter().flat_map(|(_, row)| &row.runs).map(of).sum() };
        Ok(vec![
            Goal {
                what: format!("delivery p99 to {people}, 10 messages a second"),
                at: Bound::Most(150.0),
                measured: row(&rows, 10).figure(|run| run.p99_ms).median(),
                unit: "ms",
                decimals: 1,
            },
            none_lost("missing or twice in the crowd", rows.iter().map(|(_, row)| row.lost()).sum()),
            none_lost(
                "connections closed by `dna`, and late heartbeats",
                all(|run| run.closed_by_dna + run.late_pings),
            ),
        ])
    }

    fn crowd(&self, rate: u64, seconds: u64, listen: SocketAddr) -> Command {
        let overrides = json!({"config": {
            "timeout": 60,
            "phases": [{"duration": 1, "arrivalCount": rate}],
            "delivery": {"deadline": CROWD_DEADLINE},
            "listeners": load::people(IN_ONE_PLACE, CROWD_WITHIN_M, (500.0, 500.0)),
        }});
        let variables = json!({"times": seconds, "pause": 1, "type": "Message"});
        load::script(&self.folder.join("fanout.yml"), &format!("http://{listen}"), &variables, &overrides)
    }

    /// drumfire against a `dna` begun for it, which says at the end what it closed and dropped.
    fn measure(
        &self,
        name: &str,
        slow: u64,
        seconds: u64,
        load: impl FnOnce(SocketAddr) -> Command,
    ) -> Result<Measured> {
        let listen = free_port()?;
        let mut dna = Command::new(tree::binary("dna"));
        dna.env("DNA_NO_LIMITS", "true").env("DNA_CONFIG", self.folder.join("dna.toml"));
        let mut dna = stage::serve_as(dna, listen, &self.data, &self.folder.join(format!("{name}-dna.log")))?;
        let slow = (slow > 0).then(|| self.begin_slow(slow, listen, name)).transpose()?;
        thread::sleep(BEFORE_OTHERS);
        let run = load::fire(&mut load(listen), &[dna.id()], &self.folder, name);
        // Before the slow readers leave, so that only what dna closed by itself is told.
        let said = stage::get(listen, "/metrics");
        let most_memory = Process::most_memory(dna.id());
        if let Some(mut slow) = slow {
            command::terminate(&slow);
            slow.wait().context("the slow readers' drumfire is lost")?;
        }
        stage::end(&mut dna)?;
        thread::sleep(PAUSE);
        let said = said.context("dna does not tell its metrics")?;
        Measured::of(&run?, seconds, &said, most_memory.context("dna's memory cannot be read")?)
    }
}

#[derive(Debug, Clone)]
struct Measured {
    p50_ms: f64,
    p99_ms: f64,
    heard: f64,
    missing: f64,
    twice: f64,
    late_pings: f64,
    /// By reason; those who left by themselves are not among them.
    closed: Vec<(String, f64)>,
    closed_by_dna: f64,
    dropped_frames: u64,
    most_memory: u64,
    doubt: Option<String>,
}

impl Measured {
    fn of(run: &Run, seconds: u64, metrics: &str, most_memory: u64) -> Result<Self> {
        let usage = run.usage(0, seconds).context("drumfire ended before its messages were sent")?;
        let closed = closed(metrics);
        Ok(Self {
            p50_ms: run.time("drumfire.delivery", "p50").unwrap_or(f64::NAN),
            p99_ms: run.time("drumfire.delivery", "p99").unwrap_or(f64::NAN),
            heard: run.account("heard"),
            missing: run.account("missing"),
            twice: run.account("duplicates"),
            late_pings: run.counter("drumfire.heartbeats.late"),
            closed_by_dna: closed.iter().map(|(_, count)| count).sum(),
            closed,
            dropped_frames: sample(metrics, "dna_frames_dropped_total").unwrap_or(0),
            most_memory,
            doubt: run.doubts(&usage),
        })
    }

    fn line(&self) -> String {
        format!(
            "p50 {:.2} ms, p99 {:.2} ms, {} heard, missing {:.0}, twice {:.0}, closed {}, {:.0} MB{}",
            self.p50_ms,
            self.p99_ms,
            thousands(self.heard),
            self.missing,
            self.twice,
            self.closed_text(),
            self.most_memory as f64 / 1e6,
            self.doubt.as_ref().map(|why| format!("; {why}")).unwrap_or_default()
        )
    }

    fn closed_text(&self) -> String {
        if self.closed.is_empty() {
            return "none".to_owned();
        }
        let one = |(reason, count): &(String, f64)| format!("{} {reason}", thousands(*count));
        self.closed.iter().map(one).collect::<Vec<_>>().join(", ")
    }

    fn json(&self, what: &str, round: usize) -> Value {
        json!({
            "what": what, "round": round + 1, "p50_ms": self.p50_ms, "p99_ms": self.p99_ms, "heard": self.heard,
            "missing": self.missing, "twice": self.twice, "late_heartbeats": self.late_pings,
            "closed": self.closed_text(), "frames_dropped": self.dropped_frames, "memory_bytes": self.most_memory,
            "load_side_doubted": self.doubt,
        })
    }
}

/// Connections that `dna` closed, by reason.
fn closed(metrics: &str) -> Vec<(String, f64)> {
    let line = |line: &str| {
        let (reason, count) = line.strip_prefix("dna_closed_total{reason=\"")?.split_once("\"} ")?;
        let count = count.parse::<f64>().ok()?;
        (reason != "client_close" && count > 0.0).then(|| (reason.to_owned(), count))
    };
    metrics.lines().filter_map(line).collect()
}

#[derive(Default)]
struct Row {
    runs: Vec<Measured>,
}

impl Row {
    fn figure(&self, of: impl Fn(&Measured) -> f64) -> Figure {
        let valid = |run: &Measured| run.doubt.is_none().then(|| of(run));
        Figure { rounds: self.runs.iter().map(valid).collect() }
    }

    /// Whatever the load side's own time: a message is lost or it is not.
    fn lost(&self) -> f64 {
        self.runs.iter().map(|run| run.missing + run.twice).sum()
    }
}

fn put(rows: &mut [(u64, Row)], which: u64, run: Measured) {
    if let Some((_, row)) = rows.iter_mut().find(|(other, _)| *other == which) {
        row.runs.push(run);
    }
}

fn row(rows: &[(u64, Row)], which: u64) -> &Row {
    &rows.iter().find(|(other, _)| *other == which).expect("a row for each").1
}

fn none_lost(what: &str, measured: f64) -> Goal {
    Goal { what: what.to_owned(), at: Bound::Most(0.0), measured: Some(measured), unit: "", decimals: 0 }
}

fn table(caption: &str, what: &str, rows: &[(u64, Row)]) -> Table {
    let last = |row: &Row, of: fn(&Measured) -> String| row.runs.iter().last().map(of).unwrap_or_default();
    Table {
        caption: caption.to_owned(),
        columns: [
            what,
            "p50, ms",
            "p99, ms",
            "rounds",
            "heard",
            "missing",
            "twice",
            "late heartbeats",
            "closed by `dna`, last round",
            "frames dropped, last round",
            "memory, MB",
        ]
        .map(str::to_owned)
        .to_vec(),
        rows: rows
            .iter()
            .map(|(which, row)| {
                let sum = |of: fn(&Measured) -> f64| thousands(row.runs.iter().map(of).sum());
                vec![
                    thousands(*which as f64),
                    row.figure(|run| run.p50_ms).text(2),
                    row.figure(|run| run.p99_ms).text(2),
                    row.figure(|run| run.p99_ms).rounds_text(1),
                    sum(|run| run.heard),
                    sum(|run| run.missing),
                    sum(|run| run.twice),
                    sum(|run| run.late_pings),
                    last(row, Measured::closed_text),
                    last(row, |run| thousands(run.dropped_frames as f64)),
                    row.runs
                        .iter()
                        .map(|run| run.most_memory)
                        .max()
                        .map_or_else(String::new, |bytes| format!("{:.0}", bytes as f64 / 1e6)),
                ]
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closes_are_read_by_reason_without_those_who_left() {
        let metrics = "# TYPE dna_closed counter\ndna_closed_total{reason=\"client_close\"} 12\n\
            dna_closed_total{reason=\"outbox_age\"} 997\ndna_closed_total{reason=\"ping_timeout\"} 0\n\
            dna_frames_dropped_total 5\n";
        assert_eq!(closed(metrics), [("outbox_age".to_owned(), 997.0)]);
        assert_eq!(sample(metrics, "dna_frames_dropped_total"), Some(5));
        assert_eq!(sample(metrics, "dna_absent"), None);
    }
}
