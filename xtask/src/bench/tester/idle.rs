//! Memory of Socket.IO users who say nothing, and what a tester is before the first of them.

use anyhow::Result;
use serde_json::json;

use super::cost::Costs;
use super::{Stage, Tester, unfinished};
use crate::bench::fanout::{Peer, Server};
use crate::bench::figure::Figure;
use crate::bench::goal::{Bound, Goal};
use crate::bench::report::Section;
use crate::bench::{free_port, in_turn};

const SCRIPT: &str = "idle";
/// As the script says.
const USERS: u64 = 2_000;

const TESTERS: [Tester; 3] = [Tester::Drumfire, Tester::Artillery1, Tester::Artillery2];

/// Processor seconds of a run with one user: a tester's start and end.
pub(super) struct Starts {
    seconds: Vec<(Tester, Figure)>,
}

impl Starts {
    pub(super) fn of(&self, tester: Tester) -> f64 {
        let row = self.seconds.iter().find(|(other, _)| *other == tester);
        row.and_then(|(_, figure)| figure.median()).unwrap_or(0.0)
    }
}

pub(super) fn measure(stage: &Stage<'_>, section: &mut Section) -> Result<Starts> {
    let testers = stage.wanted(&TESTERS);
    let mut floor = Costs::new("Memory with one user", "floor", "MB", &testers);
    floor.decimals = 1;
    let mut each = Costs::new("Memory for each idle Socket.IO user", "idle", "kB", &testers);
    let mut starts = Starts { seconds: testers.iter().map(|tester| (*tester, Figure::default())).collect() };
    let one = json!({
        "config": {"phases": [{"duration": 1, "arrivalCount": 1}]},
        "scenarios": [{"engine": "socketio", "flow": [{"think": 1}]}],
    });
    let listen = free_port()?;
    let (server, _) = Server::start(stage.ground, Peer::Dna, listen, &stage.folder)?;
    let target = format!("http://{listen}");
    let measured = in_turn(stage.options.few_rounds(), &testers, |round, tester| {
        let (alone, _) = stage.script(*tester, SCRIPT, &target, &one, &format!("one-{round}"))?;
        floor.add(*tester, alone.peak_rss as f64 / 1e6, None, section)?;
        if let Some((_, figure)) = starts.seconds.iter_mut().find(|(other, _)| other == tester) {
            figure.rounds.push(Some(alone.cpu_s));
        }
        let (many, result) = stage.script(*tester, SCRIPT, &target, &json!({}), &format!("many-{round}"))?;
        let doubt = unfinished(&result, USERS);
        let more = many.peak_rss as f64 - alone.peak_rss as f64;
        each.add(*tester, more / (USERS - 1) as f64 / 1e3, doubt.as_deref(), section)
    });
    server.stop()?;
    measured?;
    section.goals.push(Goal {
        what: "memory with one user".to_owned(),
        at: Bound::Most(20.0),
        measured: floor.of(Tester::Drumfire).median(),
        unit: "MB",
        decimals: 1,
    });
    section.goals.push(Goal {
        what: "memory for each idle Socket.IO user".to_owned(),
        at: Bound::Most(12.0),
        measured: each.of(Tester::Drumfire).median(),
        unit: "kB",
        decimals: 1,
    });
    let caption = "Memory is much the same in each round, so there are at most three. Two thousand users connect to `dna` within 4 s and stay for 6 s (`bench/idle.yml`). The most that process and \
                   children had, less what they had with one user, shared among them.";
    each.tell(Tester::Drumfire, caption, section);
    floor.tell(Tester::Drumfire, "One user who stays for a second.", section);
    section.commands.push(stage.shown(Tester::Drumfire, SCRIPT, &json!({}))?);
    Ok(starts)
}
