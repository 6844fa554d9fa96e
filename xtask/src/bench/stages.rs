//! Where the time went: what the stages of a message cost `dna` and the server of 2018, and whether the journal's guess, that
//! choosing the recipients is the trouble, was right.

use super::chart::{self, Bar};
use super::fanout::{FROM, Load, PART, Peer};
use super::figure::{Figure, thousands};
use super::load::Run;
use super::report::{Section, Table};

/// Stages of a message in the order it passes them, by the clock; a message waits in `commit` and `queue`.
const WAY: [&str; 5] = ["parse", "commit", "queue", "match", "write"];
/// What processors do for a message; waiting takes none. `match` is choosing the recipients.
const WORK: [&str; 7] = ["parse", "commit", "queue", "match", "write", "Redis", "rest"];
const COMMIT: usize = 1;
const MATCH: usize = 3;
const WRITE: usize = 4;
const REDIS: usize = 5;
/// The thread of `dna` that commits test messages.
const COMMITS: &str = "store-test";

/// One run's, by the names of `WAY` and `WORK`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Spent {
    /// The way of a message to one of its hearers, microseconds, the mean.
    way: [f64; 5],
    /// Processor time for a message, all of its hearers together, microseconds.
    work: [f64; 7],
    /// The parts of `match` of the server of 2018: reading sessions, unpacking them, measuring distances.
    choosing: Option<[f64; 3]>,
}

/// What a stage took over the seconds measured: how often, and seconds together.
#[derive(Debug, Clone, Copy, Default)]
struct Stage {
    count: f64,
    sum: f64,
}

impl Stage {
    /// Microseconds each time.
    fn mean(self) -> f64 {
        if self.count > 0.0 { self.sum / self.count * 1e6 } else { 0.0 }
    }
}

impl Spent {
    /// From a message's reading until it is stored, milliseconds, the mean.
    pub(super) fn commit_ms(&self) -> f64 {
        self.way[1] / 1e3
    }

    /// `None` of servers that do not tell their stages. `cores`: what each of the server's processes used.
    pub(super) fn of(run: &Run, peer: Peer, seconds: u64, messages: f64, cores: &[f64]) -> Option<Self> {
        let stage = |name: &str| stage(run, name, seconds);
        let each = |seconds_together: f64| seconds_together / messages.max(1.0) * 1e6;
        let process = |number: usize| each(cores.get(number).copied().unwrap_or(0.0) * seconds as f64);
        match peer {
            Peer::Dna => {
                let ways = ["parse", "commit", "queue", "match", "outbox"];
                let clocked = ["parse", "match", "write"].map(|name| each(stage(name).sum));
                let commit = each(thread_cpu(run, COMMITS, seconds));
                let (work, _) = work(clocked, commit, 0.0, process(0));
                Some(Self { way: ways.map(|name| stage(name).mean()), work, choosing: None })
            }
            Peer::Y2018 => {
                let [parse, commit, read, unpack, measure, write, replies] =
                    ["parse", "commit", "read", "unpack", "match", "write", "replies"].map(stage);
                let choosing = [replies, unpack, measure].map(|stage| each(stage.sum));
                let clocked = [each(parse.sum), choosing.iter().sum(), each(write.sum)];
                // What Node does to have a message stored is in the rest, what Redis does is by itself.
                let (work, part) = work(clocked, 0.0, process(1), process(0) + process(1));
                let match_way = read.mean() + unpack.mean() + measure.mean();
                let way = [parse.mean(), commit.mean(), 0.0, match_way, write.mean()];
                Some(Self { way, work, choosing: Some(choosing.map(|stage| stage * part)) })
            }
            _ => None,
        }
    }
}

/// By the names of `WORK`: parse, match and write as the clock tells them, two that are processor time, and what no stage tells
/// of (reading sockets, acks, heartbeats, the runtime). Where the clock tells more than the server used in all, because
/// the system took the processor in between, the second value is what part of it is true.
fn work([parse, choose, write]: [f64; 3], commit: f64, redis: f64, all: f64) -> ([f64; 7], f64) {
    let clocked = parse + choose + write;
    let left = (all - commit - redis).max(0.0);
    let part = if clocked > left { left / clocked } else { 1.0 };
    let rest = (left - clocked).max(0.0);
    ([parse * part, commit, 0.0, choose * part, write * part, redis, rest], part)
}

fn stage(run: &Run, name: &str, seconds: u64) -> Stage {
    let stages = run.result["drumfire"]["stages"].as_array();
    let points = stages.into_iter().flatten().find(|stage| stage["name"] == name);
    let points = points.and_then(|stage| stage["points"].as_array()).into_iter().flatten();
    points.filter(|point| is_measured(point["at_s"].as_f64(), seconds)).fold(
        Stage::default(),
        |all, point| {
            let number = |key: &str| point[key].as_f64().unwrap_or(0.0);
            Stage { count: all.count + number("count"), sum: all.sum + number("sum_s") }
        },
    )
}

/// Seconds of processor time of the target's thread, as `drumfire` sees them once a second.
fn thread_cpu(run: &Run, name: &str, seconds: u64) -> f64 {
    let samples = run.result["drumfire"]["target"]["samples"].as_array().into_iter().flatten();
    samples
        .filter(|sample| is_measured(sample["at_s"].as_f64(), seconds))
        .flat_map(|sample| sample["threads"].as_array().into_iter().flatten())
        .filter(|thread| thread[0] == name)
        .filter_map(|thread| thread[1].as_f64())
        .sum()
}

/// Looks are taken at the end of each second.
fn is_measured(at: Option<f64>, seconds: u64) -> bool {
    at.is_some_and(|at| (FROM as f64 + 0.5..(FROM + seconds) as f64 + 0.5).contains(&at))
}

/// One of the bars: who under which load, and what each round gave.
pub(super) struct Told {
    pub(super) peer: Peer,
    pub(super) load: Load,
    pub(super) rounds: Vec<Spent>,
}

impl Told {
    fn name(&self) -> String {
        format!("{}, {} messages/s", if self.peer == Peer::Dna { "dna" } else { "2018" }, self.load.rate)
    }

    fn medians<const N: usize>(&self, of: impl Fn(&Spent) -> [f64; N]) -> [f64; N] {
        std::array::from_fn(|part| {
            let rounds = self.rounds.iter().map(|spent| Some(of(spent)[part])).collect();
            Figure { rounds }.median().unwrap_or(0.0)
        })
    }
}

/// The charts, tables and the answer, into the section of the fan-out.
pub(super) fn add(section: &mut Section, told: &[Told]) {
    let told: Vec<_> = told.iter().filter(|told| !told.rounds.is_empty()).collect();
    if told.is_empty() {
        return;
    }
    let work: Vec<_> = told.iter().map(|told| (told.name(), told.medians(|spent| spent.work))).collect();
    let way: Vec<_> = told.iter().map(|told| (told.name(), told.medians(|spent| spent.way))).collect();
    let answer: Vec<_> = told.iter().filter_map(|told| answer(told)).collect();
    section.text.push(format!(
        "**Where the time went.** The journal guesses that choosing the recipients is what costs.{} {} \
         `match` is choosing the recipients; with the server of 2018 that is reading, unpacking and measuring every session. \
         Stages are told by the servers themselves, by the clock; where that is more than the processor time used in all, because the \
         system took the processor in between, they are scaled down to it. `commit` of `dna` is the processor time of the thread that \
         stores, `rest` what no stage tells of.",
        verdict(&told),
        answer.join(" ")
    ));
    let chart = stacked("work", "Where the time went: processor time of a message, shares", &WORK, &work);
    let figures = table("## Where the time went: processor time of a message, us", &WORK, &work);
    section.show(PART, chart, figures);
    let chart = stacked("way", "Where the time went: a message's way to a hearer, shares", &WAY, &way);
    let figures =
        table("## Where the time went: a message's way to one hearer, us, by the clock", &WAY, &way);
    section.show(PART, chart, figures);
}

/// Whether the server of 2018 spends more on choosing the recipients, what Redis does for it included, than on all the rest.
fn verdict(told: &[&Told]) -> &'static str {
    let Some(then) = told.iter().find(|told| told.peer == Peer::Y2018) else { return "" };
    let work = then.medians(|spent| spent.work);
    let choosing = work[MATCH] + work[REDIS];
    if choosing > work.iter().sum::<f64>() - choosing {
        " With the server of 2018 it is more than everything else together."
    } else if choosing > work[WRITE] {
        " With the server of 2018 it is the largest part."
    } else {
        " With the server of 2018 it is not the largest part."
    }
}

/// What share of the work is choosing the recipients.
fn answer(told: &Told) -> Option<String> {
    let work = told.medians(|spent| spent.work);
    let all: f64 = work.iter().sum();
    if all <= 0.0 {
        return None;
    }
    let share = |part: f64| part / all * 100.0;
    let detail = told.rounds.iter().all(|spent| spent.choosing.is_some()).then(|| {
        let [replies, unpack, measure] = told.medians(|spent| spent.choosing.unwrap_or_default());
        format!(
            " ({:.0} % taking every session from Redis's replies, {:.0} % unpacking them, {:.0} % measuring them; \
             Redis itself takes another {:.0} %, most of it to say them)",
            share(replies),
            share(unpack),
            share(measure),
            share(work[REDIS])
        )
    });
    // What storing costs the server of 2018 is Redis's, and told with it.
    let storing = detail.is_none().then(|| format!(", storing {:.0} %", share(work[COMMIT])));
    Some(format!(
        "{}: choosing takes {:.0} % of the processor time of a message{}, telling the hearers {:.0} %{}.",
        told.name(),
        share(work[MATCH]),
        detail.unwrap_or_default(),
        share(work[WRITE]),
        storing.unwrap_or_default()
    ))
}

/// Shares, since one bar may be a hundred times as long as the other.
fn stacked<const N: usize>(
    name: &str,
    title: &str,
    parts: &[&str; N],
    rows: &[(String, [f64; N])],
) -> chart::Chart {
    let bars: Vec<_> = rows
        .iter()
        .map(|(label, values)| {
            let all: f64 = values.iter().sum();
            Bar {
                label: label.clone(),
                parts: values.iter().map(|value| value / all.max(f64::MIN_POSITIVE) * 100.0).collect(),
                text: format!("{} us in all", thousands(all)),
                is_ours: false,
            }
        })
        .collect();
    chart::stacked(name, title, parts, &bars)
}

fn table<const N: usize>(caption: &str, parts: &[&str; N], rows: &[(String, [f64; N])]) -> Table {
    let columns = std::iter::once("server").chain(parts.iter().copied()).chain(["in all"]);
    let row = |(name, values): &(String, [f64; N])| {
        let all: f64 = values.iter().sum();
        let figures = values.iter().chain([&all]).map(|value| format!("{value:.1}"));
        std::iter::once(name.clone()).chain(figures).collect()
    };
    Table {
        caption: caption.to_owned(),
        columns: columns.map(str::to_owned).collect(),
        rows: rows.iter().map(row).collect(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_seconds_measured_count_and_what_no_stage_tells_is_the_rest() {
        let points = |count: f64, sum: f64| {
            let point = |at: f64| json!({"at_s": at, "count": count, "sum_s": sum, "p99_s": 1.0});
            // Before, twice while, and after what is measured.
            json!([point(1.0), point(3.01), point(4.02), point(5.0)])
        };
        let stage = |name: &str, count: f64, sum: f64| json!({"name": name, "points": points(count, sum)});
        let look = |at: f64| json!({"at_s": at, "threads": [["dna", 0.5], [COMMITS, 0.01]]});
        let run = Run::for_tests(json!({"drumfire": {
            "stages": [
                stage("parse", 100.0, 0.001), stage("commit", 100.0, 0.2), stage("queue", 200.0, 0.02),
                stage("match", 200.0, 0.004), stage("write", 9_000.0, 0.05), stage("outbox", 9_000.0, 0.9),
            ],
            "target": {"samples": [look(1.0), look(3.0), look(4.0), look(5.0)]},
        }}));
        let spent = Spent::of(&run, Peer::Dna, 2, 200.0, &[0.1]).expect("stages");
        assert_eq!(spent.way.map(f64::round), [10.0, 2_000.0, 100.0, 20.0, 100.0]);
        assert_eq!(spent.work.map(f64::round), [10.0, 100.0, 0.0, 40.0, 500.0, 0.0, 350.0]);
        let busy = Spent::of(&run, Peer::Dna, 2, 200.0, &[0.0375]).expect("stages").work;
        assert_eq!(
            busy.map(f64::round),
            [5.0, 100.0, 0.0, 20.0, 250.0, 0.0, 0.0],
            "half of what the clock tells"
        );
        assert!(Spent::of(&run, Peer::Bare, 2, 200.0, &[0.1]).is_none());
    }
}
