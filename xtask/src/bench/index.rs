//! Who hears a place, who is in a circle, what a move costs: `geo-index` beside a linear scan, an R*-tree and Redis.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::Result;
use serde_json::Value;

use super::chart::{self, Bar};
use super::figure::{Figure, thousands};
use super::goal::{Bound, Goal};
use super::report::{Section, Table};
use super::{Ground, Options, locked_version};
use crate::command::logged;
use crate::{server_2018, tree};

const OURS: &str = "geo-index";
/// For a quick look; the largest takes a minute to fill.
const QUICK_MOST: u64 = 1_000_000;
/// A Redis with more would be filled for minutes.
const REDIS_MOST: u64 = 1_000_000;

/// What is asked, as the bench of geo-index names it, and in words.
const QUESTIONS: [(&str, &str); 2] = [
    ("who_hears, us", "Whose circle holds a place"),
    ("who_is_in, us", "Who is in a circle that holds 90 people"),
];
const MOVES: [(&str, &str); 2] =
    [("step, us", "A step of up to 10 m"), ("jump, us", "A jump to anywhere on the land")];

/// (people, what, who).
type Values = BTreeMap<(u64, String, String), Figure>;

pub(super) fn run(options: &Options, ground: &Ground) -> Result<Section> {
    server_2018::need_programs()?;
    let folder = ground.part("index")?;
    let (mut redis, listen) = server_2018::start_redis(Command::new("redis-server"), &folder)?;

    let mut command = tree::cargo();
    command.args(["bench", "--locked", "-p", "geo-index", "--bench", "who_hears", "--"]);
    command.args(["--json", "--mixed", "--rounds", &options.rounds().to_string()]);
    command.args(["--redis", &listen.to_string(), "--redis-most", &REDIS_MOST.to_string()]);
    if options.quick {
        command.args(["--most", &QUICK_MOST.to_string()]);
    }
    let mut runs = Vec::new();
    let measured = logged("who hears", &mut command, |line| {
        runs.extend(serde_json::from_str::<Value>(line).ok().filter(Value::is_object));
    });
    redis.stop()?;
    measured?;

    let values = values(&runs)?;
    let mut section = Section {
        title: "Geo index: who hears, who is where, and moves".to_owned(),
        text: words(),
        goals: goals(&values),
        versions: vec![
            ("rstar".to_owned(), locked_version("Cargo.lock", "rstar")?),
            ("Redis".to_owned(), super::version("redis-server", &["--version"])?),
        ],
        notes: vec![
            "Tile38 is left out: its module could not be had when this was made.".to_owned(),
            format!(
                "Redis with more than {} people is left out: it is filled for minutes.",
                thousands(REDIS_MOST as f64)
            ),
        ],
        commands: vec!["cargo xtask bench index".to_owned(), super::words(&command)],
        runs,
        ..Section::default()
    };
    for (what, title) in QUESTIONS.iter().chain(&MOVES) {
        section.tables.push(table(&values, what, title));
        section.charts.push(picture(&values, what, title));
    }
    for people in sizes(&values) {
        for what in [QUESTIONS[0].0, MOVES[0].0] {
            if figure(&values, people, what, OURS).is_none()
                || figure(&values, people, what, "rstar").is_none()
            {
                section.lacks.push(format!(
                    "{what} at {} people: geo-index or rstar is missing",
                    thousands(people as f64)
                ));
            }
        }
    }
    Ok(section)
}

fn words() -> Vec<String> {
    vec![
        "People stand evenly on a square of land, equally dense at every size: 90 hear an average place, as radii from 100 m to \
         20 km (evenly by logarithm) lie over each other. One thread; microseconds a call, the median over short series of random \
         calls; in each round all take their turn, and the figure is the median of the rounds beside it."
            .to_owned(),
        "`scan` compares squared chords of everybody. `rstar` is an R*-tree of the circles' boxes, bulk loaded (its best case), \
         whose moves are a removal and an insertion. Neither looks at the geodesic at the rim, which `geo-index` does."
            .to_owned(),
        "Redis cannot answer whose circle holds a place, only who is in one circle (`GEOSEARCH`), so it is held against that \
         question alone. Its figure is the processor time of its process by the operating system's account, for 32 questions \
         sent at once; reading the question and writing the names is in it, as it would be in use."
            .to_owned(),
    ]
}

fn values(runs: &[Value]) -> Result<Values> {
    let mut values = Values::new();
    for run in runs {
        let word = |key: &str| run[key].as_str().map(str::to_owned);
        let (people, value) = (run["people"].as_u64(), run["value"].as_f64());
        let (Some(people), Some(what), Some(who), Some(value)) = (people, word("what"), word("who"), value)
        else {
            anyhow::bail!("a line of the bench that is none: {run}");
        };
        values.entry((people, what, who)).or_default().rounds.push(Some(value));
    }
    Ok(values)
}

fn figure<'a>(values: &'a Values, people: u64, what: &str, who: &str) -> Option<&'a Figure> {
    values.get(&(people, what.to_owned(), who.to_owned()))
}

fn sizes(values: &Values) -> Vec<u64> {
    let mut sizes: Vec<_> = values.keys().map(|(people, ..)| *people).collect();
    sizes.dedup();
    sizes
}

fn goals(values: &Values) -> Vec<Goal> {
    let ours = |people, what| figure(values, people, what, OURS).and_then(Figure::median);
    let mut goals = vec![
        Goal {
            what: "who hears, 1,000,000 people".to_owned(),
            at: Bound::Most(12.0),
            measured: ours(1_000_000, QUESTIONS[0].0),
            unit: "us",
            decimals: 2,
        },
        Goal {
            what: "who hears, 10,000,000 people".to_owned(),
            at: Bound::Most(30.0),
            measured: ours(10_000_000, QUESTIONS[0].0),
            unit: "us",
            decimals: 2,
        },
        Goal {
            what: "a step, 1,000,000 people".to_owned(),
            at: Bound::Most(0.5),
            measured: ours(1_000_000, MOVES[0].0),
            unit: "us",
            decimals: 3,
        },
    ];
    goals.extend([10_000, 100_000, 1_000_000, 10_000_000].map(|people| {
        let of = |who| figure(values, people, QUESTIONS[0].0, who);
        let times = of("rstar").zip(of(OURS)).and_then(|(rstar, ours)| rstar.over(ours).median());
        Goal {
            what: format!("who hears, times faster than rstar, {} people", thousands(people as f64)),
            at: Bound::Least(5.0),
            measured: times,
            unit: "",
            decimals: 1,
        }
    }));
    goals
}

/// Everybody who answers `what`, at each size.
fn rows<'a>(values: &'a Values, what: &str) -> Vec<(u64, &'a str, &'a Figure)> {
    let mut rows: Vec<_> = values
        .iter()
        .filter(|((_, which, _), _)| which == what)
        .map(|((people, _, who), figure)| (*people, who.as_str(), figure))
        .collect();
    // Ours first.
    rows.sort_by_key(|(people, who, _)| (*people, *who != OURS));
    rows
}

fn table(values: &Values, what: &str, title: &str) -> Table {
    let rows = rows(values, what).into_iter().map(|(people, who, own)| {
        let ratio = figure(values, people, what, OURS).map(|ours| own.over(ours)).unwrap_or_default();
        let decimals = if own.median() < Some(10.0) { 3 } else { 1 };
        vec![
            format!("{} {who}", thousands(people as f64)),
            own.text(decimals),
            own.rounds_text(decimals),
            ratio.text(1),
        ]
    });
    Table {
        caption: format!("## {title}"),
        columns: ["people", "us", "rounds", "to geo-index"].map(str::to_owned).to_vec(),
        rows: rows.collect(),
    }
}

fn picture(values: &Values, what: &str, title: &str) -> chart::Chart {
    // A scan of everybody would leave nothing to be seen of the others.
    let bars: Vec<_> = rows(values, what)
        .into_iter()
        .filter(|(_, who, _)| *who != "scan")
        .map(|(people, who, figure)| Bar {
            label: format!("{} {who}", thousands(people as f64)),
            parts: figure.median().into_iter().collect(),
            text: format!("{} us", figure.text(2)),
            is_ours: who == OURS,
        })
        .collect();
    let name = what.split(',').next().unwrap_or(what).replace('_', "-");
    chart::bars(&name, &format!("{title}, us"), &bars)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ratios_are_medians_of_pairs() {
        let run = |who: &str, value: f64| json!({"people": 10_000, "what": "who_hears, us", "who": who, "value": value});
        let runs = [
            ("rstar", 12.0),
            ("geo-index", 2.0),
            ("rstar", 9.0),
            ("geo-index", 3.0),
            ("rstar", 8.0),
            ("geo-index", 2.0),
        ];
        let values = values(&runs.map(|(who, value)| run(who, value))).expect("values");
        assert_eq!(sizes(&values), [10_000]);
        let table = table(&values, "who_hears, us", "t");
        assert_eq!(table.rows[0][..2], ["10,000 geo-index", "2.000"]);
        assert_eq!(table.rows[1][..2], ["10,000 rstar", "9.000"]);
        assert_eq!(table.rows[1][3], "4.0");
        let goals = goals(&values);
        assert_eq!(goals[3].is_reached(), Some(false));
        assert_eq!(goals[0].is_reached(), None);
    }
}
