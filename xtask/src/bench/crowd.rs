//! Readers that do not read, and 15,000 people in one place: what others feel of them, and what becomes of a server.

mod measured; // what a run gave, beside the others of its table
mod neighbour; // a city that hears nothing of the crowd

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;

use super::fanout;
use super::figure::thousands;
use super::goal::{Bound, Goal};
use super::load::{self, Fired};
use super::report::Section;
use super::{Ground, Options, free_port, in_turn};
use crate::{stage, tree};
use measured::{Measured, Rows, Said, none};

const SLOW_READERS: [u64; 3] = [0, 1, 1_000];
/// So long messages that what the kernel holds for a reader fills in some seconds.
const AMONG_SLOW: fanout::Load = fanout::Load { letters: Some(1_500), ..fanout::JOURNAL };
/// Long enough for that, and for what waits in `dna` to be 10 s old.
const SLOW_SECONDS: u64 = 24;
/// They come within two seconds, and are there when the others begin.
const BEFORE_OTHERS: Duration = Duration::from_secs(4);
const FIRST_SLOW_IDX: u64 = 9_000_001;

const IN_ONE_PLACE: u64 = 15_000;
const RATES: [u64; 2] = [10, 50];
const CROWD_SECONDS: u64 = 12;
/// Twenty kilometres north of all other loads: no circle reaches from one to the other.
const PLACE: (f64, f64) = (127.0276, 37.6779);
/// In which all of them are, well inside what each hears.
const CROWD_WITHIN_M: f64 = 50.0;
const FIRST_OF_CROWD_IDX: u64 = 8_000_001;
const FIRST_WRITER_IDX: u64 = 7_000_001;
/// So that each of them is asked for a sign of life more than once in a run.
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
                "`dna` alone, every message stored. First the load of the fan-out ({AMONG_SLOW}), beside people who stand where it is \
                 said, are to hear as much as the others, and read nothing. Then {} people within {CROWD_WITHIN_M} m who all hear every message. `dna` asks for signs of life every \
                 {} s here, and every 25 s by default.",
                thousands(IN_ONE_PLACE as f64),
                PING_INTERVAL_MS / 1_000
            ),
            neighbour::words(),
            "At most three rounds, for they are long. A round counts when `drumfire` kept its own time. Memory is the most of a run, closes and dropped frames are `dna`'s own counts \
             at its end; everybody else leaves by themselves (`client_close`)."
                .to_owned(),
        ],
        commands: vec!["cargo xtask bench crowd".to_owned()],
        ..Section::default()
    };
    stage.slow_readers(options, &mut section)?;
    stage.one_place(options, &mut section)?;
    neighbour::measure(&stage, options, &mut section)?;
    Ok(section)
}

/// Script, users and places of each load, in a folder each.
struct Stage {
    slow: PathBuf,
    crowd: PathBuf,
    neighbour: PathBuf,
    /// `dna`'s settings.
    settings: PathBuf,
    data: PathBuf,
}

impl Stage {
    fn set(ground: &Ground) -> Result<Self> {
        let [slow, crowd, neighbour] = ["crowd/slow", "crowd/place", "crowd/neighbour"];
        fanout::Stage::set(ground, slow, &[AMONG_SLOW], SLOW_SECONDS)?;
        fanout::Stage::set(ground, neighbour, &[neighbour::LOAD], neighbour::SECONDS)?;
        let [slow, crowd, neighbour] = [ground.part(slow)?, ground.part(crowd)?, ground.part(neighbour)?];
        for (folder, load) in [(&slow, AMONG_SLOW), (&neighbour, neighbour::LOAD)] {
            fs::write(folder.join("places.csv"), load.places()).context("cannot write places.csv")?;
        }
        let most = |of: &[u64]| of.iter().copied().max().unwrap_or(1);
        fs::write(slow.join("slow-places.csv"), AMONG_SLOW.spots(most(&SLOW_READERS)))
            .context("cannot write slow-places.csv")?;
        fs::write(crowd.join("places.csv"), format!("{},{}\n", PLACE.0, PLACE.1))
            .context("cannot write places.csv")?;
        let copy = |script: &str, folder: &Path| {
            let script = tree::root().join("bench").join(script);
            fs::copy(&script, folder.join(script.file_name().unwrap_or_default()))
                .with_context(|| format!("cannot copy {}", script.display()))
        };
        copy("slow-readers.yml", &slow)?;
        copy("fanout.yml", &crowd)?;
        for (file, first, count) in [
            (slow.join("slow.csv"), FIRST_SLOW_IDX, most(&SLOW_READERS)),
            (crowd.join("users.csv"), FIRST_WRITER_IDX, most(&RATES)),
            (crowd.join("listeners.csv"), FIRST_OF_CROWD_IDX, IN_ONE_PLACE),
        ] {
            stage::make_tokens(&file, first, count, &ground.data)?;
        }
        let settings = ground.part("crowd")?.join("dna.toml");
        fs::write(&settings, format!("[sockets]\nping_interval_ms = {PING_INTERVAL_MS}\n"))
            .context("cannot write dna.toml")?;
        Ok(Self { slow, crowd, neighbour, settings, data: ground.data.clone() })
    }

    /// A `dna` of its own for one run, which is told where it listens and its process.
    fn beside_dna<T>(&self, log: &Path, run: impl FnOnce(SocketAddr, u32) -> Result<T>) -> Result<T> {
        let listen = free_port()?;
        let mut dna = Command::new(tree::binary("dna"));
        dna.env("DNA_NO_LIMITS", "true").env("DNA_CONFIG", &self.settings);
        let mut dna = stage::serve_as(dna, listen, &self.data, log)?;
        let ran = run(listen, dna.id());
        stage::end(&mut dna)?;
        thread::sleep(PAUSE);
        ran
    }

    fn slow_readers(&self, options: &Options, section: &mut Section) -> Result<()> {
        let seconds = if options.quick { 6 } else { options.seconds.unwrap_or(SLOW_SECONDS) };
        let mut rows = Rows::default();
        println!("\nslow readers beside {AMONG_SLOW}");
        in_turn(options.few_rounds(), &SLOW_READERS, |round, slow| {
            let measured = self.beside_slow(*slow, seconds, round)?;
            println!("  {slow:>5} slow readers, round {}: {}", round + 1, measured.line());
            section.runs.push(measured.json(&format!("{slow} slow readers"), round));
            rows.add(&thousands(*slow as f64), measured);
            Ok(())
        })?;
        section.tables.push(rows.table(&format!("## Beside slow readers, {seconds} s"), "slow readers"));
        section.notes.extend(rows.notes("slow readers"));
        let p99 = |slow: &str| rows.figure(slow, |run| run.p99_ms);
        section.goals.extend(["1", "1,000"].map(|slow| Goal {
            what: format!("others' delivery p99 beside {slow} slow readers, to that without"),
            at: Bound::Most(2.0),
            measured: p99(slow).over(&p99("0")).median(),
            unit: "",
            decimals: 2,
        }));
        section.goals.push(rows.none_lost("beside slow readers"));
        Ok(())
    }

    fn beside_slow(&self, slow: u64, seconds: u64, round: usize) -> Result<Measured> {
        let name = format!("{slow}-{round}");
        self.beside_dna(&self.slow.join(format!("{name}-dna.log")), |listen, dna| {
            let readers = (slow > 0).then(|| self.begin_slow(slow, listen, &name)).transpose()?;
            let mut others = fanout::command(&self.slow, fanout::Peer::Dna, AMONG_SLOW, seconds, listen);
            let run = load::fire(&mut others, &[dna], &self.slow, &name);
            // Before the slow readers leave, so that only what dna closed by itself is told.
            let said = Said::of(listen, dna);
            if let Some(readers) = readers {
                readers.terminate();
                readers.end()?;
            }
            Measured::of(&run?, seconds, &said?)
        })
    }

    fn begin_slow(&self, slow: u64, listen: SocketAddr, name: &str) -> Result<Fired> {
        let overrides = json!({"config": {
            "phases": [{"duration": 2, "arrivalCount": slow}],
            "variables": {"radius": AMONG_SLOW.mean_radius_m().round()},
        }});
        let mut command = load::drumfire();
        command.args(["run", "-q", "-t", &format!("http://{listen}"), "--overrides", &overrides.to_string()]);
        command.arg(self.slow.join("slow-readers.yml"));
        let readers = Fired::begin(&mut command, &[], &self.slow, &format!("{name}-readers"))?;
        thread::sleep(BEFORE_OTHERS);
        Ok(readers)
    }

    fn one_place(&self, options: &Options, section: &mut Section) -> Result<()> {
        let seconds = options.seconds_or(CROWD_SECONDS);
        let mut rows = Rows::default();
        println!("\n{} people in one place", thousands(IN_ONE_PLACE as f64));
        in_turn(options.few_rounds(), &RATES, |round, rate| {
            let name = format!("{rate}-{round}");
            let measured = self.beside_dna(&self.crowd.join(format!("{name}-dna.log")), |listen, dna| {
                let run = load::fire(&mut self.crowd(*rate, seconds, listen), &[dna], &self.crowd, &name)?;
                Measured::of(&run, seconds, &Said::of(listen, dna)?)
            })?;
            println!("  {rate:>5} messages a second, round {}: {}", round + 1, measured.line());
            section.runs.push(measured.json(&format!("{rate} messages a second"), round));
            rows.add(&thousands(*rate as f64), measured);
            Ok(())
        })?;
        let people = thousands(IN_ONE_PLACE as f64);
        let caption = format!("## {people} people in one place, {seconds} s");
        section.tables.push(rows.table(&caption, "messages a second"));
        section.notes.extend(rows.notes("messages a second"));
        section.commands.push(super::words(&self.crowd(RATES[0], seconds, ([127, 0, 0, 1], 9013).into())));
        section.goals.extend([
            Goal {
                what: format!("delivery p99 to {people}, 10 messages a second"),
                at: Bound::Most(150.0),
                measured: rows.figure("10", |run| run.p99_ms).median(),
                unit: "ms",
                decimals: 1,
            },
            rows.none_lost("in the crowd"),
            none(
                "connections closed by `dna`, and late heartbeats",
                rows.sum(|run| run.closed_by_dna + run.late_pings),
            ),
        ]);
        Ok(())
    }

    /// So many messages a second for so long, to everybody in the place.
    fn crowd(&self, rate: u64, seconds: u64, listen: SocketAddr) -> Command {
        let overrides = json!({"config": {
            "timeout": 60,
            "phases": [{"duration": 1, "arrivalCount": rate}],
            "delivery": {"deadline": CROWD_DEADLINE},
            "listeners": load::people(IN_ONE_PLACE, PLACE, CROWD_WITHIN_M, (500.0, 500.0)),
        }});
        let variables = json!({"times": seconds, "pause": 1, "type": "Message"});
        load::script(&self.crowd.join("fanout.yml"), &format!("http://{listen}"), &variables, &overrides)
    }
}
