//! What of a run is told in the same words everywhere: deliveries, rates, CPU, what the reader must know before believing a
//! figure. What came of it and why is in `diagnosis.rs`.

use std::collections::BTreeMap;

use super::loaded::{Loaded, Origin, RPS, Run};
use super::units::{count, figure, latency, percent, thousands};
use crate::outcome::{ClassDelivery, Delivery, ProcessSample, Rule, names};

/// The program's name out of a command line: `/usr/bin/node server.js` is `node`.
pub(crate) fn program(command: &str) -> &str {
    let first = command.split_whitespace().next().unwrap_or(command);
    first.rsplit('/').next().unwrap_or(first)
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
    if delivery.undecided > 0 {
        let why = if run.interrupted.is_some() || run.ended_after_s.is_some() {
            "under way at the end, or their listeners moving or away"
        } else {
            "their listeners were moving or away"
        };
        flaws.push(format!("{} more undecided ({why})", thousands(delivery.undecided)));
    }
    let flaws = if flaws.is_empty() { String::new() } else { format!("; {}", flaws.join(", ")) };
    Some(if expected == 0 && delivery.missing == 0 {
        let none = if delivery.undecided > 0 { "could be judged" } else { "was expected" };
        let heard = count(delivery.heard, "was", "were");
        format!("No delivery {none}, and {heard} heard{flaws}{}.", spread_after("; "))
    } else if delivery.missing == 0 {
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

/// Classes of listeners in no figure but their own: slow on purpose, so that nothing is expected of them while it is of
/// others.
pub(crate) fn slow_classes(delivery: &Delivery) -> Vec<&str> {
    if delivery.classes.iter().all(|class| class.expected.is_none()) {
        return Vec::new();
    }
    delivery.classes.iter().filter(|class| class.expected.is_none()).map(|class| &*class.name).collect()
}

/// What each class heard, beside the account of all of them; nothing where there is but one.
pub(crate) fn classes(delivery: &Delivery) -> Vec<String> {
    if delivery.classes.len() < 2 {
        return Vec::new();
    }
    let slow = slow_classes(delivery);
    let row = |class: &ClassDelivery| {
        let listeners = count(class.listeners, "listener", "listeners");
        let mut parts = vec![format!("“{}”, {listeners}: {} heard", class.name, thousands(class.heard))];
        if let Some(expected) = class.expected {
            let came = expected - class.missing.min(expected);
            parts.push(format!(
                "{} missing of {} ({} complete)",
                thousands(class.missing),
                thousands(expected),
                percent(came, expected)
            ));
        }
        if class.late > 0 {
            parts.push(format!("{} late", thousands(class.late)));
        }
        if slow.contains(&&*class.name) {
            parts.push("slow on purpose, so in no other figure".to_owned());
        }
        parts.join(", ")
    };
    delivery.classes.iter().map(row).collect()
}

/// Told whenever messages were sent that nothing confirmed, and when no frame of plain WebSockets was answered or heard.
pub(crate) fn unconfirmed(loaded: &Loaded) -> Option<String> {
    let run = loaded.run.as_ref()?;
    let (unconfirmed, confirmed) = (run.meta.unconfirmed_emits, run.meta.confirmed_emits);
    if unconfirmed > 0 {
        return Some(format!(
            "{} sent, {} confirmed: add acknowledge: true, or run with --ack",
            count(unconfirmed + confirmed, "message", "messages"),
            thousands(confirmed)
        ));
    }
    let total = &loaded.total;
    let frames = total.counter("websocket.messages_sent");
    let answered = total.summary("websocket.response_time").is_some()
        || total.error_count() > 0
        || run.delivery.as_ref().is_some_and(|delivery| delivery.heard > 0);
    (frames > 0 && !answered).then(|| {
        let frames = count(frames, "frame", "frames");
        format!("{frames} sent, 0 answered: give a send that is answered a match, or a capture")
    })
}

/// Valid or not, and why, each rule with what was measured and its limit.
pub(crate) fn validity(run: &Run) -> String {
    let told =
        |rules: &mut dyn Iterator<Item = &Rule>| rules.map(Rule::to_string).collect::<Vec<_>>().join("; ");
    if run.validity.valid {
        format!("valid run: {}", told(&mut run.validity.rules.iter()))
    } else {
        let broken = told(&mut run.validity.broken());
        format!("INVALID RUN, do not trust these figures: {broken}")
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
