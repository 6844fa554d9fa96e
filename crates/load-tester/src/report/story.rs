//! The run in words: what came of it, who was at its limit, what the reader must know before believing a figure.

use std::collections::BTreeMap;

use super::loaded::{Loaded, Origin, RPS, Run};
use super::units::{count, duration, figure, latency, percent, thousands};
use crate::outcome::{ProcessSample, counters, names};

/// From here on a thread counts as busy all the time.
const BUSY: f64 = 0.95;
/// Below this on both sides nobody was short of processor time.
const IDLE: f64 = 0.8;
/// A thread must be busy for that many samples in a row (one a second).
const BUSY_SAMPLES: usize = 5;

/// Whose processor time ran out.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Bottleneck {
    /// The tester itself: its figures say little about the target.
    Tester {
        thread: String,
        seconds: usize,
    },
    Target {
        command: String,
        thread: String,
        seconds: usize,
    },
    /// Both were watched and neither came near.
    Neither,
    Unknown,
}

pub(crate) fn bottleneck(loaded: &Loaded) -> Bottleneck {
    let Some(run) = &loaded.run else { return Bottleneck::Unknown };
    if let Some((thread, seconds)) = longest_busy(&run.tester) {
        return Bottleneck::Tester { thread, seconds };
    }
    let Some(target) = &run.target else { return Bottleneck::Unknown };
    if let Some((thread, seconds)) = longest_busy(&target.samples) {
        return Bottleneck::Target { command: program(&target.command).to_owned(), thread, seconds };
    }
    let busiest = |samples: &[ProcessSample]| {
        samples.iter().flat_map(|s| s.threads.iter().map(|t| t.1)).fold(0.0, f64::max)
    };
    if run.validity.valid
        && !run.tester.is_empty()
        && !target.samples.is_empty()
        && busiest(&run.tester) < IDLE
        && busiest(&target.samples) < IDLE
    {
        Bottleneck::Neither
    } else {
        Bottleneck::Unknown
    }
}

/// The program's name out of a command line: `/usr/bin/node server.js` is `node`.
pub(crate) fn program(command: &str) -> &str {
    let first = command.split_whitespace().next().unwrap_or(command);
    first.rsplit('/').next().unwrap_or(first)
}

/// The thread that was busy longest without a pause, and for how many seconds, if that is long enough to matter.
fn longest_busy(samples: &[ProcessSample]) -> Option<(String, usize)> {
    let mut running: BTreeMap<String, usize> = BTreeMap::new();
    let mut longest: Option<(String, usize)> = None;
    for sample in samples {
        let mut now = BTreeMap::new();
        for (thread, cpu) in numbered(&sample.threads) {
            if cpu >= BUSY {
                let length = running.get(&thread).copied().unwrap_or(0) + 1;
                if length >= BUSY_SAMPLES && longest.as_ref().is_none_or(|(_, l)| length > *l) {
                    longest = Some((thread.clone(), length));
                }
                now.insert(thread, length);
            }
        }
        running = now;
    }
    longest
}

/// Threads of the same name told apart by their order: `worker`, `worker 2`, ...
pub(crate) fn numbered(threads: &[(String, f64)]) -> Vec<(String, f64)> {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    threads
        .iter()
        .map(|(name, cpu)| {
            let n = seen.entry(name).or_default();
            *n += 1;
            (if *n == 1 { name.clone() } else { format!("{name} {n}") }, *cpu)
        })
        .collect()
}

/// What the run came to, in one to four short sentences.
pub(crate) fn outcome(loaded: &Loaded) -> Vec<String> {
    let total = &loaded.total;
    let (launched, completed, failed) = (total.launched(), total.completed(), total.failed());
    let mut sentences = Vec::new();

    let all = if launched == 0 {
        "No user was started".to_owned()
    } else if completed == launched {
        format!("All {} completed", count(launched, "user", "users"))
    } else {
        let mut text = format!("{} of {} completed", thousands(completed), count(launched, "user", "users"));
        let unfinished = launched.saturating_sub(completed + failed);
        match (failed, unfinished) {
            (0, 0) => {}
            (f, 0) => text += &format!(", {} failed", thousands(f)),
            (0, u) => text += &format!(", {} did not finish", thousands(u)),
            (f, u) => text += &format!(", {} failed, {} did not finish", thousands(f), thousands(u)),
        }
        text
    };
    let errors = total.error_count();
    sentences.push(match main_cause(loaded) {
        Some((cause, n)) if errors > 0 => {
            let mostly = if n < errors { ", most often " } else { ": " };
            let counted = count(errors, "error", "errors");
            format!("{all}. {counted} in {}{mostly}{cause}.", duration(loaded.duration_s))
        }
        _ if launched > 0 && completed == launched => {
            format!("{all} in {} without an error.", duration(loaded.duration_s))
        }
        _ => format!("{all} in {}.", duration(loaded.duration_s)),
    });

    if let Some(run) = &loaded.run {
        if let Some(signal) = &run.interrupted {
            sentences
                .push(format!("The run was ended early by {signal}; what was due after it did not run."));
        }
        if let Some(seconds) = run.ended_after_s {
            sentences.push(format!(
                "The longest duration ended the arrivals after {}; what was due after it did not run.",
                duration(seconds)
            ));
        }
        if let Some(text) = delivery(run) {
            sentences.push(text);
        }
    }
    let replaced = total.counters.get(counters::USERS_REPLACED).copied().unwrap_or(0);
    if replaced > 0 {
        sentences.push(format!(
            "{} came in a closed phase when another had ended: a slow target slowed the load too, and of them the time from due \
             is service time.",
            count(replaced, "user", "users")
        ));
    }
    match bottleneck(loaded) {
        Bottleneck::Tester { thread, seconds } => sentences.push(format!(
            "The tester was the bottleneck: its thread “{thread}” was at its limit for {seconds} s, so the figures say little \
             about the target."
        )),
        Bottleneck::Target { command, thread, seconds } => sentences.push(format!(
            "The target was at its limit: {command}'s thread “{thread}” was busy without a pause for {seconds} s."
        )),
        Bottleneck::Neither => sentences.push("Neither side ran short of processor time.".to_owned()),
        Bottleneck::Unknown => {}
    }
    sentences
}

/// The most frequent cause in words, and how often it came.
fn main_cause(loaded: &Loaded) -> Option<(String, u64)> {
    if let Some(group) = loaded.run.as_ref().and_then(|r| r.errors.iter().max_by_key(|e| e.count)) {
        return Some((format!("“{}” at {}", group.cause, group.step), group.count));
    }
    loaded.total.errors().max_by_key(|(_, n)| *n).map(|(name, n)| (format!("“{name}”"), n))
}

/// Delivery in a sentence; completeness only against an expectation.
pub(crate) fn delivery(run: &Run) -> Option<String> {
    let delivery = run.delivery.as_ref()?;
    let spread = run.histograms.get(names::DELIVERY).filter(|h| !h.is_empty()).map(|h| {
        let at = |q: f64| latency(h.value_at_quantile(q) as f64 / 1000.0);
        format!("half within {}, 99 % within {}", at(0.5), at(0.99))
    });
    let spread_after = |words: &str| spread.as_ref().map_or_else(String::new, |s| format!("{words}{s}"));
    let Some(expected) = delivery.expected else {
        return Some(format!(
            "{} heard by the listeners{}; nothing was expected, so nothing is said of completeness.",
            count(delivery.heard, "delivery", "deliveries"),
            spread_after(", ")
        ));
    };
    let mut flaws = Vec::new();
    if delivery.duplicates > 0 {
        flaws.push(format!("{} twice", thousands(delivery.duplicates)));
    }
    if delivery.late > 0 {
        flaws.push(format!("{} heard after the deadline", thousands(delivery.late)));
    }
    if delivery.unexpected > 0 {
        flaws.push(format!("{} to listeners that should not have heard", thousands(delivery.unexpected)));
    }
    if delivery.out_of_order > 0 {
        flaws.push(format!("{} out of order", thousands(delivery.out_of_order)));
    }
    let flaws = if flaws.is_empty() { String::new() } else { format!("; {}", flaws.join(", ")) };
    Some(if delivery.missing == 0 {
        let all = count(expected, "expected delivery", "expected deliveries");
        format!("All {all} arrived{}{flaws}.", spread_after(", "))
    } else {
        format!(
            "{} of {} are missing ({}){flaws}{}.",
            thousands(delivery.missing),
            count(expected, "expected delivery", "expected deliveries"),
            percent(delivery.missing, expected),
            spread_after("; of those heard, ")
        )
    })
}

/// Told whenever messages were sent that nothing confirmed.
pub(crate) fn unconfirmed(loaded: &Loaded) -> Option<String> {
    let meta = &loaded.run.as_ref()?.meta;
    (meta.unconfirmed_emits > 0).then(|| {
        format!(
            "{} sent, {} confirmed: add acknowledge: true, or run with --ack",
            count(meta.unconfirmed_emits + meta.confirmed_emits, "message", "messages"),
            thousands(meta.confirmed_emits)
        )
    })
}

/// Valid or not, and why, each rule with what was measured and its limit.
pub(crate) fn validity(run: &Run) -> String {
    let rule = |r: &crate::outcome::Rule| format!("{} {} (limit {})", r.what, r.measured, r.limit);
    let broken: Vec<_> = run.validity.rules.iter().filter(|r| !r.held).map(rule).collect();
    if run.validity.valid {
        format!("valid run: {}", run.validity.rules.iter().map(rule).collect::<Vec<_>>().join("; "))
    } else {
        format!("INVALID RUN, do not trust these figures: {}", broken.join("; "))
    }
}

/// What every reader of an Artillery file should know of its figures.
pub(crate) fn foreign_note(loaded: &Loaded) -> Option<&'static str> {
    match loaded.origin {
        Origin::Drumfire => None,
        Origin::ArtilleryV1 => Some(
            "Written by Artillery 1: its response times hold socket messages nobody answered (the time of a local call), and \
             HTTP times include connecting. Times are in milliseconds.",
        ),
        Origin::ArtilleryV2 => Some(
            "Written by Artillery 2: socketio.response_time may hold messages nobody answered (the time of a local call); \
             percentiles are within 1 % and HTTP times are whole milliseconds.",
        ),
    }
}

/// A second: users asked for, users started, requests, completed scenarios. Artillery 1 gives its own requests a second.
pub(crate) fn rates(loaded: &Loaded) -> (Option<f64>, f64, f64, f64) {
    let elapsed = loaded.elapsed_s().max(f64::MIN_POSITIVE);
    let per_second = |n: u64| if n == 0 { 0.0 } else { n as f64 / elapsed };
    let requests =
        loaded.total.rates.get(RPS).copied().unwrap_or_else(|| per_second(loaded.total.requests_started));
    (loaded.asked_rate(), per_second(loaded.total.launched()), requests, per_second(loaded.total.completed()))
}

/// CPU of all threads together: mean over the samples, and the busiest single thread with its name.
pub(crate) fn cpu(samples: &[ProcessSample]) -> Option<(f64, String, f64)> {
    if samples.is_empty() {
        return None;
    }
    let sum: f64 = samples.iter().map(|s| s.threads.iter().map(|t| t.1).sum::<f64>()).sum();
    let (thread, peak) = samples
        .iter()
        .flat_map(|s| numbered(&s.threads))
        .fold((String::new(), 0.0), |best, t| if t.1 > best.1 { t } else { best });
    Some((sum / samples.len() as f64, thread, peak))
}

/// `1.42 cores on average; busiest thread worker-0 at 99 %`.
pub(crate) fn cpu_text(samples: &[ProcessSample]) -> Option<String> {
    let (mean, thread, peak) = cpu(samples)?;
    Some(format!("{} cores on average; busiest thread {thread} at {:.0} %", figure(mean), peak * 100.0))
}
