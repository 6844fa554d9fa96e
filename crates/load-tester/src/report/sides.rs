//! Charts of both sides: the target's process, its own stages, chosen series of anybody's endpoint, and the tester.

use std::collections::{BTreeMap, BTreeSet};

use super::charts::series;
use super::loaded::seconds_per_slice;
use super::story;
use super::svg::{Chart, Mark, Series, Span};
use super::units::{bytes, count, figure, latency, thousands};
use crate::outcome::{Monitored, MonitoredKind, ProcessSample, StagePoint, StageUse};

/// Series of one chart beyond this many are drawn together as the rest.
const MOST_SERIES: usize = 6;
/// Chosen series drawn; the others stand in the result file.
pub(crate) const MOST_MONITORED: usize = 40;
const STAGE_COLOURS: [u8; 8] = [8, 2, 1, 4, 3, 5, 7, 6];

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
    let step = seconds_per_slice(samples.len());
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

pub(crate) fn cpu(title: &str, note: &str, samples: &[ProcessSample]) -> Option<Chart> {
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
        .zip([1, 2, 5, 4, 7, 8])
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
    let chart = Chart::new(title, note, "cores", sample_spans(&samples), all);
    Some(Chart { stacked: true, at_least: Some(1.0), ..chart })
}

pub(crate) fn memory(title: &str, note: &str, samples: &[ProcessSample]) -> Option<Chart> {
    let samples = thinned(samples);
    let most = samples.iter().map(|s| s.rss_bytes).max().filter(|n| *n > 0)?;
    let values = samples.iter().map(|s| Some(s.rss_bytes as f64 / 1e6)).collect();
    let resident = series("resident", 4, Mark::Bars, values, format!("{} at most", bytes(most)));
    Some(Chart::new(title, note, "MB", sample_spans(&samples), vec![resident]))
}

pub(crate) fn open_files(title: &str, note: &str, samples: &[ProcessSample]) -> Option<Chart> {
    let samples = thinned(samples);
    let most = samples.iter().map(|s| s.open_files).max().filter(|n| *n > 0)?;
    let values = samples.iter().map(|s| Some(s.open_files as f64)).collect();
    let open = series("open", 8, Mark::Line, values, format!("{} at most", thousands(most)));
    Some(Chart::new(title, note, "descriptors", sample_spans(&samples), vec![open]))
}

/// Instants as spans: each point stands for the time since the one before.
fn spans_until(instants: &[f64]) -> Vec<Span> {
    let mut before = match instants {
        [first, second, ..] => (first - (second - first)).max(0.0),
        [first] => (first - 1.0).max(0.0),
        [] => 0.0,
    };
    instants
        .iter()
        .map(|at| {
            let span = Span { from_s: before, to_s: at.max(before) };
            before = span.to_s;
            span
        })
        .collect()
}

/// Points of one stage, neighbours added up where there are too many to be drawn.
fn stage_points(stage: &StageUse) -> Vec<StagePoint> {
    stage
        .points
        .chunks(seconds_per_slice(stage.points.len()))
        .filter_map(|chunk| {
            Some(StagePoint {
                at_s: chunk.last()?.at_s,
                count: chunk.iter().map(|p| p.count).fold(0, u64::saturating_add),
                sum_s: chunk.iter().map(|p| p.sum_s).sum(),
                p99_s: chunk.iter().filter_map(|p| p.p99_s).reduce(f64::max),
            })
        })
        .collect()
}

/// Did anything pass it?
pub(crate) fn was_used(stage: &StageUse) -> bool {
    stage.points.iter().any(|point| point.count > 0)
}

/// Where the time went: seconds spent in each stage per second, and the 99th percentile of each.
pub(crate) fn stages(stages: &[StageUse]) -> Vec<Chart> {
    let points: Vec<(&StageUse, Vec<StagePoint>)> =
        stages.iter().filter(|s| was_used(s)).map(|s| (s, stage_points(s))).collect();
    // All come from the same scrapes; the longest says when those were.
    let Some((_, longest)) = points.iter().max_by_key(|(_, p)| p.len()) else { return Vec::new() };
    let spans = spans_until(&longest.iter().map(|p| p.at_s).collect::<Vec<_>>());
    let at = |points: &[StagePoint], span: &Span| {
        points.iter().find(|p| (p.at_s - span.to_s).abs() < 1e-6).copied()
    };
    let mut work = Vec::new();
    let mut tail = Vec::new();
    for ((stage, points), colour) in points.iter().zip(STAGE_COLOURS.iter().cycle()) {
        let mean = {
            let n: u64 = points.iter().map(|p| p.count).fold(0, u64::saturating_add);
            let sum: f64 = points.iter().map(|p| p.sum_s).sum();
            if n > 0 { format!("{} each", latency(sum / n as f64 * 1000.0)) } else { "never".to_owned() }
        };
        let values = spans
            .iter()
            .map(|span| at(points, span).map(|p| p.sum_s.max(0.0) / (span.to_s - span.from_s).max(1e-3)))
            .collect();
        work.push(series(&stage.name, *colour, Mark::Bars, values, mean));
        let highest = points.iter().filter_map(|p| p.p99_s).reduce(f64::max);
        let values = spans.iter().map(|span| at(points, span)?.p99_s.map(|p99| p99 * 1000.0)).collect();
        let overall = highest.map_or_else(String::new, |p99| format!("{} at most", figure(p99 * 1000.0)));
        tail.push(series(&stage.name, *colour, Mark::Line, values, overall));
    }
    let work = Chart::new(
        "Where the time went",
        "Seconds spent in each stage per second of the run, stacked, waiting included: above 1 several wait or work at once.",
        "s per s",
        spans.clone(),
        work,
    );
    let tail = Chart::new(
        "Stages, p99",
        "99 % passed each stage within this time: the upper edge of the bucket the target counted it in.",
        "ms",
        spans,
        tail,
    );
    [Chart { stacked: true, ..work }, Chart { may_be_log: true, ..tail }]
        .into_iter()
        .filter(|c| !c.is_empty())
        .collect()
}

/// One small chart for each chosen series.
pub(crate) fn monitored(all: &[Monitored]) -> Vec<Chart> {
    all.iter()
        .take(MOST_MONITORED)
        .enumerate()
        .filter_map(|(i, one)| {
            // As Prometheus wants times to be named.
            let family = one.name.split('{').next().unwrap_or_default();
            let seconds = one.kind == MonitoredKind::Mean && family.ends_with("_seconds");
            let scale = if seconds { 1000.0 } else { 1.0 };
            let points: Vec<(f64, f64)> = one
                .points
                .chunks(seconds_per_slice(one.points.len()))
                .filter_map(|chunk| {
                    let mean = chunk.iter().map(|p| p.1).sum::<f64>() / chunk.len() as f64;
                    Some((chunk.last()?.0, mean * scale))
                })
                .collect();
            let last = points.iter().rev().map(|p| p.1).find(|v| v.is_finite())?;
            let (unit, words) = match one.kind {
                MonitoredKind::Counter => ("per second", "counted per second"),
                MonitoredKind::Gauge => ("", "as exposed"),
                MonitoredKind::Mean if seconds => ("ms", "mean of what was added"),
                MonitoredKind::Mean => ("", "mean of what was added"),
            };
            let spans = spans_until(&points.iter().map(|p| p.0).collect::<Vec<_>>());
            let values = points.iter().map(|p| p.1.is_finite().then_some(p.1)).collect();
            let line =
                series("", [1, 8, 5, 2, 4, 7][i % 6], Mark::Line, values, format!("last {}", figure(last)));
            Some(Chart::new(&one.name, &format!("{}, {words}.", one.source), unit, spans, vec![line]))
        })
        .collect()
}
