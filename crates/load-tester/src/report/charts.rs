//! Which charts a report has, in which order, from which figures.

use std::collections::{BTreeMap, BTreeSet};

use super::loaded::{Loaded, Origin, Slice, Summary};
use super::story;
use super::svg::{Chart, Mark, Series, Span};
use super::units::{bytes, count, figure, rate, sum_of, thousands};
use crate::outcome::{PhaseInfo, ProcessSample, names};

/// Series of one chart beyond this many are drawn together as the rest.
const MOST_SERIES: usize = 6;

/// All charts of a run; none when it has no time line.
pub(crate) fn charts(loaded: &Loaded) -> Vec<Chart> {
    let slices = &loaded.slices;
    if slices.is_empty() {
        return Vec::new();
    }
    let mut charts = vec![arrivals(loaded)];
    let answers = percentiles(
        slices,
        "Latency, from sending",
        match loaded.origin {
            Origin::Drumfire => {
                "Service time: from sending each request to its answer, answered requests only."
            }
            _ => "From sending each request to its answer, as the file gives it.",
        },
        |s| s.answered.as_ref(),
        loaded.total.answered.as_ref(),
    );
    let due = percentiles(
        slices,
        "Latency, from when it was due",
        "Response time: from the instant a user was to start to the first answer it got, so waiting in line counts.",
        |s| s.summary(names::RESPONSE_FROM_DUE),
        loaded.total.summary(names::RESPONSE_FROM_DUE),
    );
    charts.extend(answers);
    charts.extend(due);
    if let Some(target) = loaded.run.as_ref().and_then(|r| r.target.as_ref()) {
        charts.extend(cpu(
            &format!("Target CPU, {}", story::program(&target.command)),
            "Each thread of the target, stacked; 1 is one core busy all the time.",
            &target.samples,
        ));
        charts.extend(memory("Target memory", "Resident memory of the target.", &target.samples));
    }
    charts.extend(percentiles(
        slices,
        "Delivery, every hearer",
        "From sending a message to each listener hearing it.",
        |s| s.summary(names::DELIVERY),
        loaded.total.summary(names::DELIVERY),
    ));
    charts.extend(hearers(loaded));
    charts.extend(users(loaded));
    charts.push(throughput(loaded));
    charts.extend(errors(loaded));
    charts.extend(connect(loaded));
    if let Some(run) = &loaded.run {
        charts.extend(cpu(
            "Tester CPU",
            "Each thread of drumfire, stacked; a thread near 1 would distort what it measures.",
            &run.tester,
        ));
        charts.extend(memory("Tester memory", "Resident memory of drumfire.", &run.tester));
    }
    charts.extend(lateness(loaded));
    charts
}

fn spans(slices: &[Slice]) -> Vec<Span> {
    slices.iter().map(|s| Span { from_s: s.start_s, to_s: s.start_s + s.length_s }).collect()
}

/// Events a second of a counter.
fn per_second(slices: &[Slice], counter: impl Fn(&Slice) -> u64) -> Vec<Option<f64>> {
    slices.iter().map(|s| (s.length_s > 0.0).then(|| counter(s) as f64 / s.length_s)).collect()
}

fn series(name: &str, colour: u8, mark: Mark, values: Vec<Option<f64>>, overall: String) -> Series {
    Series { name: name.to_owned(), colour, mark, values, overall }
}

fn arrivals(loaded: &Loaded) -> Chart {
    let slices = &loaded.slices;
    let total = &loaded.total;
    let mut all = vec![series(
        "started",
        1,
        Mark::Bars,
        per_second(slices, Slice::launched),
        count(total.launched(), "user", "users"),
    )];
    if total.skipped() > 0 {
        all.push(series(
            "skipped",
            3,
            Mark::Line,
            per_second(slices, Slice::skipped),
            thousands(total.skipped()),
        ));
    }
    if let Some(planned) = loaded.planned() {
        let values = spans(slices)
            .iter()
            .map(|span| {
                Some(
                    planned_between(&loaded.phases, span.from_s, span.to_s)
                        / (span.to_s - span.from_s).max(1e-9),
                )
            })
            .collect();
        all.push(series("planned", 8, Mark::Step, values, thousands(planned)));
    }
    Chart {
        title: "Arrivals".to_owned(),
        note: "Users the plan asked for, and users started.".to_owned(),
        unit: "users/s",
        spans: spans(slices),
        series: all,
        stacked: false,
        may_be_log: false,
        at_least: None,
    }
}

/// Users due in a stretch of time, from the load of each phase in words.
fn planned_between(phases: &[PhaseInfo], from_s: f64, to_s: f64) -> f64 {
    phases
        .iter()
        .map(|phase| {
            let (a, b) = ((from_s - phase.start_s).max(0.0), (to_s - phase.start_s).min(phase.duration_s));
            if b <= a || phase.duration_s <= 0.0 || phase.planned == 0 {
                return 0.0;
            }
            let ramp = phase.load.trim_end_matches("/s").split_once("->").and_then(|(from, to)| {
                let number = |text: &str| text.trim().trim_end_matches("/s").parse::<f64>().ok();
                Some((number(from)?, number(to)?))
            });
            match ramp {
                Some((from, to)) => {
                    let slope = (to - from) / phase.duration_s;
                    from * (b - a) + slope * (b * b - a * a) / 2.0
                }
                None => phase.planned as f64 / phase.duration_s * (b - a),
            }
        })
        .sum()
}

fn percentiles<'a>(
    slices: &'a [Slice],
    title: &str,
    note: &str,
    of: impl Fn(&'a Slice) -> Option<&'a Summary>,
    total: Option<&Summary>,
) -> Option<Chart> {
    let total = total?;
    let values = |pick: fn(&Summary) -> f64| slices.iter().map(|s| of(s).map(pick)).collect();
    Some(Chart {
        title: title.to_owned(),
        note: note.to_owned(),
        unit: "ms",
        spans: spans(slices),
        series: vec![
            series("max", 6, Mark::Faint, values(|s| s.max), figure(total.max)),
            series("p99", 3, Mark::Line, values(|s| s.p99), figure(total.p99)),
            series("p95", 2, Mark::Line, values(|s| s.p95), figure(total.p95)),
            series("p50", 1, Mark::Line, values(|s| s.median), figure(total.median)),
        ],
        stacked: false,
        may_be_log: true,
        at_least: None,
    })
}

fn hearers(loaded: &Loaded) -> Option<Chart> {
    let total = loaded.total.summary(names::DELIVERY_LAST)?;
    let overall = |name: &str| loaded.total.summary(name).map_or_else(String::new, |s| figure(s.median));
    let values = |name: &str| loaded.slices.iter().map(|s| s.summary(name).map(|s| s.median)).collect();
    Some(Chart {
        title: "Delivery, first to last hearer".to_owned(),
        note: "Of a usual (median) message: when its first, its middle and its last hearer had it."
            .to_owned(),
        unit: "ms",
        spans: spans(&loaded.slices),
        series: vec![
            series("last", 3, Mark::Line, values(names::DELIVERY_LAST), figure(total.median)),
            series("middle", 2, Mark::Line, values(names::DELIVERY_MEDIAN), overall(names::DELIVERY_MEDIAN)),
            series("first", 1, Mark::Line, values(names::DELIVERY_FIRST), overall(names::DELIVERY_FIRST)),
        ],
        stacked: false,
        may_be_log: true,
        at_least: None,
    })
}

fn users(loaded: &Loaded) -> Option<Chart> {
    let slices = &loaded.slices;
    let values =
        |of: fn(&Slice) -> Option<u64>| slices.iter().map(|s| of(s).map(|n| n as f64)).collect::<Vec<_>>();
    let users = values(|s| s.concurrent_users);
    let connections = values(|s| s.connections);
    users.iter().flatten().next()?;
    let most = |values: &[Option<f64>]| {
        format!("{} at most", thousands(values.iter().flatten().copied().fold(0.0, f64::max) as u64))
    };
    let mut all = Vec::new();
    if connections.iter().flatten().any(|n| *n > 0.0) {
        all.push(series("connections", 4, Mark::Line, connections.clone(), most(&connections)));
    }
    all.push(series("users", 1, Mark::Line, users.clone(), most(&users)));
    Some(Chart {
        title: "Concurrent users and connections".to_owned(),
        note: "Alive at the end of each step of time; connections are the sockets of users and listeners."
            .to_owned(),
        unit: "open",
        spans: spans(slices),
        series: all,
        stacked: false,
        may_be_log: false,
        at_least: None,
    })
}

fn throughput(loaded: &Loaded) -> Chart {
    let (_, _, requests, completed) = story::rates(loaded);
    let slices = &loaded.slices;
    Chart {
        title: "Requests and completed scenarios".to_owned(),
        note: "HTTP requests and socket messages sent (RPS), and scenarios walked to their end (TPS)."
            .to_owned(),
        unit: "per second",
        spans: spans(slices),
        series: vec![
            series(
                "requests",
                8,
                Mark::Line,
                per_second(slices, |s| s.requests_started),
                format!("{}/s", rate(requests)),
            ),
            series(
                "completed",
                5,
                Mark::Line,
                per_second(slices, Slice::completed),
                format!("{}/s", rate(completed)),
            ),
        ],
        stacked: false,
        may_be_log: false,
        at_least: None,
    }
}

/// Stacked by kind, the most frequent first, the rest together.
fn errors(loaded: &Loaded) -> Option<Chart> {
    let mut kinds: Vec<_> = loaded.total.errors().collect();
    kinds.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    if kinds.is_empty() {
        return None;
    }
    let colours = [3, 2, 4, 7, 8];
    let mut all: Vec<Series> = kinds
        .iter()
        .zip(colours)
        .map(|((name, n), colour)| {
            let counter = format!("errors.{name}");
            series(
                name,
                colour,
                Mark::Bars,
                per_second(&loaded.slices, |s| s.counter(&counter)),
                thousands(*n),
            )
        })
        .collect();
    if kinds.len() > colours.len() {
        let shown: BTreeSet<&str> = kinds[..colours.len()].iter().map(|(name, _)| *name).collect();
        let rest = |s: &Slice| sum_of(s.errors().filter(|(name, _)| !shown.contains(name)).map(|(_, n)| n));
        let n = sum_of(kinds[colours.len()..].iter().map(|(_, n)| *n));
        all.push(series("others", 6, Mark::Bars, per_second(&loaded.slices, rest), thousands(n)));
    }
    Some(Chart {
        title: "Errors by kind".to_owned(),
        note: "Failures a second, stacked.".to_owned(),
        unit: "errors/s",
        spans: spans(&loaded.slices),
        series: all,
        stacked: true,
        may_be_log: false,
        at_least: None,
    })
}

fn connect(loaded: &Loaded) -> Option<Chart> {
    let stages: Vec<_> = names::CONNECT_STAGES
        .iter()
        .zip([6, 8, 4, 3, 1, 2, 7, 5])
        // Stages nobody went through (name lookup of an address, TLS of plain HTTP) only fill the legend.
        .filter(|(stage, _)| loaded.total.summary(stage).is_some_and(|s| s.max > 0.0))
        .map(|(stage, colour)| {
            let values = loaded.slices.iter().map(|s| s.summary(stage).and_then(|s| s.mean)).collect();
            let overall = loaded.total.summary(stage).and_then(|s| s.mean).map_or_else(String::new, figure);
            series(stage.trim_start_matches("socketio.connect."), colour, Mark::Bars, values, overall)
        })
        .collect();
    (!stages.is_empty()).then(|| Chart {
        title: "Connecting, stage by stage".to_owned(),
        note: "Mean time in each stage of a socket connection, stacked.".to_owned(),
        unit: "ms",
        spans: spans(&loaded.slices),
        series: stages,
        stacked: true,
        may_be_log: false,
        at_least: None,
    })
}

fn lateness(loaded: &Loaded) -> Option<Chart> {
    let total = loaded.total.summary(names::START_LATENESS)?;
    let values = |pick: fn(&Summary) -> f64| {
        loaded.slices.iter().map(|s| s.summary(names::START_LATENESS).map(pick)).collect()
    };
    Some(Chart {
        title: "Start lateness of the tester".to_owned(),
        note: "How long after the planned instant users were started.".to_owned(),
        unit: "ms",
        spans: spans(&loaded.slices),
        series: vec![
            series("p99", 3, Mark::Line, values(|s| s.p99), figure(total.p99)),
            series("p50", 1, Mark::Line, values(|s| s.median), figure(total.median)),
        ],
        stacked: false,
        may_be_log: false,
        at_least: None,
    })
}

/// Each sample stands for the time since the one before.
fn sample_spans(samples: &[ProcessSample]) -> Vec<Span> {
    let mut before = samples.first().map_or(0.0, |s| (s.at_s - 1.0).max(0.0));
    samples
        .iter()
        .map(|s| {
            let span = Span { from_s: before, to_s: s.at_s.max(before) };
            before = span.to_s;
            span
        })
        .collect()
}

/// At most as many samples as slices are drawn: neighbours averaged.
fn thinned(samples: &[ProcessSample]) -> Vec<ProcessSample> {
    let step = super::loaded::seconds_per_slice(samples.len());
    if step == 1 {
        return samples.to_vec();
    }
    samples
        .chunks(step)
        .filter_map(|chunk| {
            let last = chunk.last()?;
            let mut threads: BTreeMap<String, f64> = BTreeMap::new();
            for sample in chunk {
                for (name, cpu) in story::numbered(&sample.threads) {
                    *threads.entry(name).or_default() += cpu / chunk.len() as f64;
                }
            }
            Some(ProcessSample { threads: threads.into_iter().collect(), ..last.clone() })
        })
        .collect()
}

fn cpu(title: &str, note: &str, samples: &[ProcessSample]) -> Option<Chart> {
    let samples = thinned(samples);
    let by_thread: Vec<BTreeMap<String, f64>> =
        samples.iter().map(|s| story::numbered(&s.threads).into_iter().collect()).collect();
    let mut use_of: BTreeMap<&str, f64> = BTreeMap::new();
    for sample in &by_thread {
        for (name, cpu) in sample {
            *use_of.entry(name).or_default() += cpu;
        }
    }
    let mut threads: Vec<_> = use_of.into_iter().collect();
    threads.sort_by(|a, b| b.1.total_cmp(&a.1));
    if threads.is_empty() {
        return None;
    }
    let n = samples.len() as f64;
    // Threads that hardly ever ran would only fill the legend.
    let all_use: f64 = threads.iter().map(|t| t.1).sum();
    let busy = threads.iter().take_while(|t| t.1 >= all_use * 0.01).count().max(1);
    let kept = if busy > MOST_SERIES { MOST_SERIES - 1 } else { busy };
    let mut all: Vec<Series> = threads[..kept]
        .iter()
        .zip([1, 8, 5, 2, 4, 7])
        .map(|((name, sum), colour)| {
            let values = by_thread.iter().map(|s| Some(s.get(*name).copied().unwrap_or(0.0))).collect();
            series(name, colour, Mark::Bars, values, figure(sum / n))
        })
        .collect();
    if kept < threads.len() {
        let shown: BTreeSet<&str> = threads[..kept].iter().map(|t| t.0).collect();
        let rest = |s: &BTreeMap<String, f64>| {
            Some(s.iter().filter(|(name, _)| !shown.contains(name.as_str())).map(|(_, cpu)| cpu).sum())
        };
        let sum: f64 = threads[kept..].iter().map(|t| t.1).sum();
        let name = count((threads.len() - kept) as u64, "other", "others");
        all.push(series(&name, 6, Mark::Bars, by_thread.iter().map(rest).collect(), figure(sum / n)));
    }
    Some(Chart {
        title: title.to_owned(),
        note: note.to_owned(),
        unit: "cores",
        spans: sample_spans(&samples),
        series: all,
        stacked: true,
        may_be_log: false,
        at_least: Some(1.0),
    })
}

fn memory(title: &str, note: &str, samples: &[ProcessSample]) -> Option<Chart> {
    let samples = thinned(samples);
    let most = samples.iter().map(|s| s.rss_bytes).max().filter(|n| *n > 0)?;
    let values = samples.iter().map(|s| Some(s.rss_bytes as f64 / 1e6)).collect();
    Some(Chart {
        title: title.to_owned(),
        note: note.to_owned(),
        unit: "MB",
        spans: sample_spans(&samples),
        series: vec![series("resident", 4, Mark::Bars, values, format!("{} at most", bytes(most)))],
        stacked: false,
        may_be_log: false,
        at_least: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phase(start_s: f64, duration_s: f64, load: &str, planned: u64) -> PhaseInfo {
        PhaseInfo { name: String::new(), start_s, duration_s, load: load.to_owned(), planned }
    }

    #[test]
    fn what_was_planned_follows_the_words_of_a_phase() {
        let phases = [
            phase(0.0, 10.0, "10 -> 30/s", 200),
            phase(10.0, 5.0, "pause", 0),
            phase(15.0, 10.0, "20 users", 20),
        ];
        for (from, to, expected) in [
            (0.0, 1.0, 11.0),
            (9.0, 10.0, 29.0),
            (0.0, 10.0, 200.0),
            (10.0, 15.0, 0.0),
            (14.0, 16.0, 2.0),
            (24.0, 30.0, 2.0),
        ] {
            let planned = planned_between(&phases, from, to);
            assert!((planned - expected).abs() < 1e-9, "{from}..{to}: {planned}");
        }
    }
}
