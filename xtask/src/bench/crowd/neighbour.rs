//! A city twenty kilometres from the crowd, which hears nothing of it, and shall feel nothing of it.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::measured::{Measured, Rows, Said, none};
use super::{IN_ONE_PLACE, RATES, Stage};
use crate::bench::fanout::{self, FROM, Load, Peer};
use crate::bench::figure::thousands;
use crate::bench::goal::{Bound, Goal};
use crate::bench::load::{self, Fired};
use crate::bench::report::Section;
use crate::bench::{Options, in_turn};
use crate::stage;

pub(super) const LOAD: Load = Load { listeners: 1_000, rate: 100, hearers: 50, ..fanout::JOURNAL };
pub(super) const SECONDS: u64 = 8;
/// For the neighbours to come in, and to be judged.
const CROWD_LONGER_S: u64 = 5;

const ALONE: &str = "the neighbours alone";
const BESIDE: &str = "beside the crowd";
const CROWD: &str = "the crowd meanwhile";

pub(super) fn words() -> String {
    format!(
        "Last a city of its own ({LOAD}), alone and while {} people stand in one place twenty kilometres away, where {} messages a second are \
         said to all of them. Each of the two is judged by a `drumfire` of its own; that of the crowd gets what the others leave of the \
         processors (`nice`), for the two would not be on one machine, so the crowd's own times are worth nothing here.",
        thousands(IN_ONE_PLACE as f64),
        RATES[0],
    )
}

pub(super) fn measure(stage: &Stage, options: &Options, section: &mut Section) -> Result<()> {
    let seconds = options.seconds_or(SECONDS);
    let (mut rows, mut crowd) = (Rows::default(), Rows::default());
    println!("\nneighbours of a crowd: {LOAD}");
    in_turn(options.few_rounds(), &[ALONE, BESIDE], |round, who| {
        let (measured, meanwhile) = run(stage, seconds, *who == BESIDE, round)?;
        let mut tell = |who: &str, measured: &Measured| {
            println!("  {who:<20} round {}: {}", round + 1, measured.line());
            section.runs.push(measured.json(who, round));
        };
        tell(who, &measured);
        rows.add(who, measured);
        if let Some(meanwhile) = meanwhile {
            tell(CROWD, &meanwhile);
            crowd.add(CROWD, meanwhile);
        }
        Ok(())
    })?;
    let mut table = rows.table(&format!("## Neighbours of a crowd, {seconds} s"), "who");
    table.rows.extend(crowd.table("", "").rows);
    section.tables.push(table);
    section.notes.extend(rows.notes("neighbours"));
    section.commands.push(crate::bench::words(&command(stage, seconds, "127.0.0.1:PORT")));
    let p99 = |who: &str| rows.figure(who, |run| run.p99_ms);
    section.goals.extend([
        Goal {
            what: "the neighbours' delivery p99 beside a crowd, above that alone".to_owned(),
            at: Bound::Most(5.0),
            measured: p99(BESIDE).above(&p99(ALONE)).median(),
            unit: "ms",
            decimals: 2,
        },
        rows.none_lost("among the neighbours"),
        crowd.none_lost("in the crowd beside them"),
        none(
            "connections closed by `dna` beside the neighbours, and late heartbeats",
            rows.sum(|run| run.closed_by_dna + run.late_pings) + crowd.sum(|run| run.late_pings),
        ),
    ]);
    Ok(())
}

fn command(stage: &Stage, seconds: u64, listen: impl std::fmt::Display) -> Command {
    fanout::command(&stage.neighbour, Peer::Dna, LOAD, seconds, listen)
}

/// The neighbours', and the crowd's where there was one.
fn run(stage: &Stage, seconds: u64, has_crowd: bool, round: usize) -> Result<(Measured, Option<Measured>)> {
    let name = format!("{}-{round}", if has_crowd { "beside" } else { "alone" });
    stage.beside_dna(&stage.neighbour.join(format!("{name}-dna.log")), |listen, dna| {
        let neighbours = || load::fire(&mut command(stage, seconds, listen), &[dna], &stage.neighbour, &name);
        if !has_crowd {
            let run = neighbours()?;
            return Ok((Measured::of(&run, seconds, &Said::of(listen, dna)?)?, None));
        }
        let crowd_seconds = FROM + seconds + CROWD_LONGER_S;
        let crowd = begin_crowd(stage, crowd_seconds, listen, &name)?;
        let run = load::until_all_stand(listen, IN_ONE_PLACE)
            .and_then(|stood| stood.context("the crowd did not come to stand in time"))
            .and_then(|_| neighbours());
        if run.is_err() {
            crowd.terminate();
        }
        let crowd = crowd.end();
        let (run, crowd, said) = (run?, crowd?, Said::of(listen, dna)?);
        let mut measured = Measured::of(&run, seconds, &said)?;
        let from = crowd.started().zip(run.started()).map(|(crowd, run)| run - crowd);
        if !from.is_some_and(|from| from + ((FROM + seconds) as f64) < crowd_seconds as f64) {
            measured.doubt.get_or_insert_with(|| "the crowd fell silent before they did".to_owned());
        }
        Ok((measured, Some(Measured::of(&crowd, crowd_seconds, &said)?)))
    })
}

fn begin_crowd(stage: &Stage, seconds: u64, listen: SocketAddr, name: &str) -> Result<Fired> {
    let command = stage.crowd(RATES[0], seconds, listen);
    let mut behind = stage::nice(command.get_program());
    behind.args(command.get_args());
    Fired::begin(&mut behind, &[], &stage.crowd, &format!("beside-{name}"))
}
