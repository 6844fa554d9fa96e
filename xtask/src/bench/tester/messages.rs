//! WebSocket messages, there and back.

use anyhow::Result;
use serde_json::json;

use super::cost::Costs;
use super::idle::Starts;
use super::{Bare, Stage, Tester, doubts, unfinished, watched};
use crate::bench::in_turn;
use crate::bench::report::Section;

const SCRIPT: &str = "messages";
/// As the script says; each says 50 things a second.
const USERS: u64 = 50;
const A_SECOND: u64 = 50;
const SECONDS: u64 = 5;

const TESTERS: [Tester; 3] = [Tester::Drumfire, Tester::Artillery1, Tester::Artillery2];

pub(super) fn measure(stage: &Stage<'_>, starts: &Starts, section: &mut Section) -> Result<()> {
    let testers = stage.wanted(&TESTERS);
    let mut costs = Costs::new("CPU for each WebSocket message sent and echoed", "message", "us", &testers);
    costs.decimals = 1;
    let times = stage.options.seconds_or(SECONDS) * A_SECOND;
    let overrides = json!({"scenarios": [{"engine": "ws", "flow": [{
        "loop": [{"send": "about as many letters as people write to each other on a phone"}, {"think": 0.02}],
        "count": times,
    }]}]});
    let mut server = Bare::start(&stage.folder)?;
    let target = format!("ws://{}", server.listen);
    let measured = in_turn(stage.rounds(), &testers, |round, tester| {
        let run = || stage.script(*tester, SCRIPT, &target, &overrides, &round.to_string());
        let (ended, result, server_cores) = watched(server.program.pid(), run)?;
        let doubt = unfinished(&result, USERS).or_else(|| doubts(*tester, &result, server_cores));
        let cost = (ended.cpu_s - starts.of(*tester)) / (USERS * times) as f64 * 1e6;
        costs.add(*tester, cost, doubt.as_deref(), section)
    });
    server.program.stop()?;
    measured?;
    let caption = format!(
        "{USERS} users say about {A_SECOND} things a second each (`bench/messages.yml`, unchanged for all) to a server that sends \
         them back; the same number comes in. Without what the tester's start costs (a run with one user), for Artillery's \
         start takes longer than its run."
    );
    costs.tell(Tester::Drumfire, &caption, section);
    section.commands.push(stage.shown(Tester::Drumfire, SCRIPT, &overrides)?);
    Ok(())
}
