//! The report's views: which sections it has, in which order, and what stands in each. A view appears only where
//! there is data for it.

use super::blocks::{Block, Drawn, Section};
use super::loaded::{Loaded, answered};
use super::shapes::CurveLine;
use super::svg::{Chart, Span};
use super::{charts, sides, story, tables};
use crate::outcome::names;

/// Numbers figures, and draws them over one time axis.
struct Easel<'a> {
    loaded: &'a Loaded,
    axis: Span,
    boundaries: Vec<f64>,
}

impl Easel<'_> {
    fn draw(&self, section: &str, charts: impl IntoIterator<Item = Chart>) -> Vec<Drawn> {
        let draw = |(i, chart): (usize, Chart)| {
            Drawn::chart(format!("{section}-{i}"), &chart, self.axis, &self.boundaries)
        };
        charts.into_iter().enumerate().map(draw).collect()
    }

    fn figures(&self, section: &str, charts: impl IntoIterator<Item = Chart>) -> Option<Block> {
        let drawn = self.draw(section, charts);
        (!drawn.is_empty()).then_some(Block::Figures(drawn))
    }
}

/// All sections with something in them.
pub(crate) fn sections(loaded: &Loaded, axis: Span) -> Vec<Section> {
    let boundaries = loaded.phases.iter().map(|p| p.start_s).filter(|s| *s > 0.0 && *s < axis.to_s).collect();
    let easel = Easel { loaded, axis, boundaries };
    [
        load(&easel),
        response(&easel),
        endpoints(&easel),
        errors(&easel),
        delivery(&easel),
        connecting(&easel),
        target(&easel),
        tester(&easel),
        distributions(&easel),
    ]
    .into_iter()
    .filter(|section| !section.blocks.is_empty())
    .collect()
}

fn load(easel: &Easel<'_>) -> Section {
    let loaded = easel.loaded;
    let all = [
        charts::arrivals(loaded),
        charts::users(loaded),
        charts::lateness(loaded),
        charts::throughput(loaded),
    ];
    Section {
        note: "What was asked of the target, and whether the tester kept to its schedule.".to_owned(),
        ..Section::new("load", "Load", easel.figures("load", all.into_iter().flatten()).into_iter().collect())
    }
}

fn response(easel: &Easel<'_>) -> Section {
    let loaded = easel.loaded;
    let responses = charts::responses(loaded);
    let both = responses.len() == 2;
    let mut drawn = easel.draw("response", responses.into_iter().chain(charts::response_heat(loaded)));
    if let Some(run) = &loaded.run {
        let service = answered(&run.histograms);
        let due = run.histograms.get(names::RESPONSE_FROM_DUE);
        let lines: Vec<_> = [(due, "from due", 1), (service.as_deref(), "from sending", 2)]
            .into_iter()
            .filter_map(|(histogram, name, colour)| Some(CurveLine { name, colour, histogram: histogram? }))
            .collect();
        let note = "How far the tail reaches: each further nine is as wide as the one before.";
        drawn.extend(Drawn::curve("response-curve".to_owned(), "By percentile", note, &lines));
    }
    let note = if both {
        "Response time counts from the instant a user was due, service time from sending: what lies between them was \
         waiting. Both are drawn on one scale."
    } else {
        ""
    };
    let blocks = if drawn.is_empty() { Vec::new() } else { vec![Block::Figures(drawn)] };
    Section { note: note.to_owned(), ..Section::new("response", "Response time", blocks) }
}

fn endpoints(easel: &Easel<'_>) -> Section {
    let blocks = tables::endpoints(easel.loaded).map(Block::Table);
    Section::new("endpoints", "By endpoint", blocks.into_iter().collect())
}

fn errors(easel: &Easel<'_>) -> Section {
    let loaded = easel.loaded;
    let all = [charts::errors(loaded), charts::status_codes(loaded)];
    let mut blocks: Vec<Block> = easel.figures("errors", all.into_iter().flatten()).into_iter().collect();
    match tables::errors(loaded) {
        Some(table) => blocks.push(Block::Table(table)),
        None => blocks.push(Block::Nothing("None.")),
    }
    blocks.extend(tables::status_codes(loaded).map(Block::Table));
    Section::new("errors", "Errors", blocks)
}

fn delivery(easel: &Easel<'_>) -> Section {
    let loaded = easel.loaded;
    let mut blocks = Vec::new();
    let account = tables::delivery_account(loaded);
    if !account.is_empty() {
        blocks.push(Block::Pairs(account));
    }
    blocks.extend(tables::waterfall(loaded).map(Block::Table));
    let all = [
        charts::delivery(loaded),
        charts::hearers(loaded),
        charts::completeness(loaded),
        charts::delivery_rate(loaded),
        charts::delivery_heat(loaded),
    ];
    let mut drawn = easel.draw("delivery", all.into_iter().flatten());
    if let Some(run) = &loaded.run {
        let lines: Vec<_> = [(names::DELIVERY_FROM_DUE, "from due", 1), (names::DELIVERY, "from sending", 4)]
            .into_iter()
            .filter_map(|(key, name, colour)| {
                Some(CurveLine { name, colour, histogram: run.histograms.get(key)? })
            })
            .collect();
        let note = "Every (listener, message) pair that was heard.";
        drawn.extend(Drawn::curve("delivery-curve".to_owned(), "Delivery by percentile", note, &lines));
    }
    if !drawn.is_empty() {
        blocks.push(Block::Figures(drawn));
    }
    blocks.extend(tables::classes(loaded).map(Block::Table));
    blocks.extend(tables::worst(loaded).map(Block::Table));
    if let Some(delivery) = loaded.run.as_ref().and_then(|r| r.delivery.as_ref())
        && !delivery.samples.is_empty()
    {
        blocks.push(Block::Samples(delivery.samples.clone()));
    }
    Section {
        note: "From the instant a message was due to those who heard it.".to_owned(),
        ..Section::new("delivery", "Delivery", blocks)
    }
}

fn connecting(easel: &Easel<'_>) -> Section {
    let loaded = easel.loaded;
    let mut all: Vec<Chart> = charts::connect_stages(loaded).into_iter().collect();
    all.extend(charts::connect_times(loaded));
    all.extend(charts::storms(loaded));
    all.extend(charts::heartbeats(loaded));
    let mut blocks: Vec<Block> = easel.figures("connecting", all).into_iter().collect();
    blocks.extend(tables::connect_stages(loaded).map(Block::Table));
    Section::new("connecting", "Connecting", blocks)
}

fn target(easel: &Easel<'_>) -> Section {
    let Some(run) = &easel.loaded.run else { return Section::new("target", "The target's side", Vec::new()) };
    let mut all = sides::stages(&run.stages);
    if let Some(target) = &run.target {
        let program = story::program(&target.command);
        all.extend(sides::cpu(
            &format!("Target CPU, {program}"),
            "Each thread of the target, stacked; 1 is one core busy all the time.",
            &target.samples,
        ));
        all.extend(sides::memory("Target memory", "Resident memory of the target.", &target.samples));
        all.extend(sides::open_files(
            "Target descriptors",
            "Open files and sockets of the target.",
            &target.samples,
        ));
    }
    let mut blocks: Vec<Block> = easel.figures("target", all).into_iter().collect();
    blocks.extend(tables::stages(&run.stages).map(Block::Table));
    let monitored = easel.draw("monitored", sides::monitored(&run.monitored));
    if !monitored.is_empty() {
        blocks.push(Block::Multiples(monitored));
    }
    if run.monitored.len() > sides::MOST_MONITORED {
        blocks.push(Block::Nothing(
            "More series than are drawn were chosen; the others stand in the result file.",
        ));
    }
    Section::new("target", "The target's side", blocks)
}

fn tester(easel: &Easel<'_>) -> Section {
    let Some(run) = &easel.loaded.run else { return Section::new("tester", "The tester's side", Vec::new()) };
    let all = [
        sides::cpu(
            "Tester CPU",
            "Each thread of drumfire, stacked; a thread near 1 would distort what it measures.",
            &run.tester,
        ),
        charts::loop_lag(easel.loaded),
        sides::memory("Tester memory", "Resident memory of drumfire.", &run.tester),
        sides::open_files("Tester descriptors", "Open files and sockets of drumfire.", &run.tester),
    ];
    let blocks = easel.figures("tester", all.into_iter().flatten());
    Section::new("tester", "The tester's side", blocks.into_iter().collect())
}

fn distributions(easel: &Easel<'_>) -> Section {
    let blocks = tables::distributions(&easel.loaded.total).into_iter().map(Block::Table).collect();
    Section {
        note: "Whole run, in milliseconds.".to_owned(),
        ..Section::new("distributions", "Distributions", blocks)
    }
}
