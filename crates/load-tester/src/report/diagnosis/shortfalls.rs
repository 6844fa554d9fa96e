//! What should have happened and did not.

use super::super::loaded::Slice;
use super::super::story;
use super::super::units::{count, duration, latency, percent, sum_of, thousands};
use super::facts::{Facts, clock};
use super::{Finding, Kind};
use crate::outcome::{CheckKind, Delivery, counters, names};

fn delivery<'a>(facts: &'a Facts<'_>) -> Option<&'a Delivery> {
    facts.run?.delivery.as_ref()
}

/// First and last second in which this was counted; `None` when the file counts it nowhere.
fn span_of(facts: &Facts<'_>, counter: &str) -> Option<(f64, f64)> {
    let mut with = facts.slices.iter().filter(|slice| slice.counter(counter) > 0);
    let first = with.next()?;
    let last: &Slice = with.next_back().unwrap_or(first);
    Some((first.start_s, last.start_s + last.length_s))
}

pub(super) fn lost(facts: &Facts<'_>) -> Option<Finding> {
    let delivery = delivery(facts)?;
    let expected = delivery.expected.filter(|expected| *expected > 0)?;
    let missing = delivery.missing.min(expected);
    if missing == 0 {
        return None;
    }
    let heard = expected - missing;
    let lead = format!(
        "{} of the deliveries were lost: {} of {} were heard ({})",
        percent(missing, expected),
        thousands(heard),
        thousands(expected),
        percent(heard, expected)
    );
    let mut with = Vec::new();
    with.extend(spread(facts, delivery));
    if let Some((from, to)) = span_of(facts, counters::MISSING) {
        with.push(if from < 1.5 && facts.loaded.duration_s - to < 2.5 {
            "from start to end".to_owned()
        } else {
            format!("sent between {} and {}", clock(from), clock(to))
        });
    }
    with.extend(facts.circumstances());
    let mut because = Vec::new();
    for class in delivery.classes.iter().filter(|class| class.missing > 0 && delivery.classes.len() > 1) {
        let of = class.expected.map_or_else(String::new, |of| {
            format!(" of {}, {} heard", thousands(of), percent(of.saturating_sub(class.missing), of))
        });
        because.push(format!("Class “{}”: {} missing{of}.", class.name, thousands(class.missing)));
    }
    let worst: Vec<String> = delivery
        .worst
        .iter()
        .take(5)
        .map(|one| {
            let heard = one.expected.saturating_sub(one.missing);
            format!(
                "listener {} heard {} ({} missing)",
                one.listener,
                percent(heard, one.expected),
                thousands(one.missing)
            )
        })
        .collect();
    if !worst.is_empty() {
        because.push(format!("Those that missed most: {}.", worst.join(", ")));
    }
    because.extend(delivery.samples.iter().take(3).map(|row| format!("E.g. {row}.")));
    Some(Finding::bad(Kind::DeliveriesLost, lead).with(with).because(because))
}

/// Over how many listeners it is spread.
fn spread(facts: &Facts<'_>, delivery: &Delivery) -> Option<String> {
    let short = delivery.listeners_short;
    let listeners = facts.run?.meta.listeners as u64;
    if short == 0 || listeners == 0 {
        return None;
    }
    let of_worst = sum_of(delivery.worst.iter().map(|one| one.missing));
    let few = delivery.worst.len() as u64;
    if short <= few && short.saturating_mul(5) <= listeners {
        return Some(format!(
            "all of it at {} of {}",
            thousands(short),
            count(listeners, "listener", "listeners")
        ));
    }
    if few.saturating_mul(5) <= listeners && of_worst as f64 >= delivery.missing as f64 * 0.8 {
        return Some(format!(
            "{} of it at {} of {}",
            percent(of_worst.min(delivery.missing), delivery.missing),
            thousands(few),
            count(listeners, "listener", "listeners")
        ));
    }
    if short == listeners {
        return Some(format!("spread over all {}", count(listeners, "listener", "listeners")));
    }
    Some(format!("spread over {} of {}", thousands(short), count(listeners, "listener", "listeners")))
}

fn flaw(facts: &Facts<'_>, kind: Kind, n: u64, counter: &str, words: &str) -> Option<Finding> {
    if n == 0 {
        return None;
    }
    let when = span_of(facts, counter)
        .map_or_else(String::new, |(from, to)| format!(", between {} and {}", clock(from), clock(to)));
    Some(
        Finding::bad(kind, format!("{} {words}{when}", count(n, "delivery", "deliveries")))
            .with(facts.circumstances()),
    )
}

pub(super) fn unexpected(facts: &Facts<'_>) -> Option<Finding> {
    let n = delivery(facts)?.unexpected;
    flaw(
        facts,
        Kind::DeliveriesUnexpected,
        n,
        counters::UNEXPECTED,
        "reached listeners that should not have heard",
    )
}

pub(super) fn doubled(facts: &Facts<'_>) -> Option<Finding> {
    flaw(facts, Kind::DeliveriesDoubled, delivery(facts)?.duplicates, counters::DUPLICATES, "came twice")
}

pub(super) fn out_of_order(facts: &Facts<'_>) -> Option<Finding> {
    flaw(
        facts,
        Kind::DeliveriesOutOfOrder,
        delivery(facts)?.out_of_order,
        "",
        "came out of the order they were sent in",
    )
}

pub(super) fn not_all_back(facts: &Facts<'_>) -> Option<Finding> {
    let (lost, back) =
        (facts.total.counter(counters::CONNECTIONS_LOST), facts.total.counter(counters::CONNECTIONS_BACK));
    if lost == 0 {
        return None;
    }
    let within = facts
        .total
        .summary(names::RECONNECT)
        .map(|times| format!("half within {}, 99 % within {}", latency(times.median), latency(times.p99)));
    let from = span_of(facts, counters::CONNECTIONS_LOST)
        .map_or_else(String::new, |(from, _)| format!(" from {}", clock(from)));
    let lost_words = count(lost, "connection was", "connections were");
    if back >= lost {
        let within = within.map_or_else(String::new, |within| format!(", {within}"));
        let all = if lost == 1 { "" } else { "all " };
        let lead = format!("{lost_words} lost{from} and {all}came back{within}");
        let with = facts.deliveries_clause().into_iter().chain(facts.circumstances());
        return Some(Finding::note(Kind::NotAllBack, lead).with(with));
    }
    if back == 0 {
        let lead =
            format!("{lost_words} lost{from} and {} came back", if lost == 1 { "never" } else { "none" });
        return Some(Finding::bad(Kind::NotAllBack, lead).with(facts.circumstances()));
    }
    let within = within.map_or_else(String::new, |within| format!("; of those that did {within}"));
    let lead = format!("{lost_words} lost{from} and {} did not come back{within}", thousands(lost - back));
    Some(Finding::bad(Kind::NotAllBack, lead).with(facts.circumstances()))
}

pub(super) fn unfinished(facts: &Facts<'_>) -> Option<Finding> {
    let total = facts.total;
    // Artillery 1 counts nobody as failed: whom an error ended did not finish because of it.
    let ended = if facts.run.is_some() { total.failed() } else { total.failed().max(total.error_count()) };
    let left = total.launched().saturating_sub(total.completed().saturating_add(ended));
    if left == 0 || facts.run.is_some_and(|run| run.interrupted.is_some() || run.ended_after_s.is_some()) {
        return None;
    }
    let lead = format!("{} of {} did not finish", thousands(left), count(total.launched(), "user", "users"));
    Some(Finding::bad(Kind::Unfinished, lead).with(facts.circumstances()))
}

pub(super) fn limit_broken(facts: &Facts<'_>) -> Option<Finding> {
    let checks = &facts.run?.checks;
    let broken: Vec<_> = checks.iter().filter(|check| !check.passed).collect();
    let first = broken.iter().find(|check| check.strict).or(broken.first())?;
    let kind = match first.kind {
        CheckKind::Ensure => "the limit",
        CheckKind::Expect => "the expectation",
    };
    let more = broken.len() - 1;
    let others =
        if more > 0 { format!(" and {}", count(more as u64, "other", "others")) } else { String::new() };
    let lead = format!("{kind} “{}”{others} did not hold: observed {}", first.expression, first.observed);
    let finding = if first.strict { Finding::bad } else { Finding::note };
    Some(finding(Kind::LimitBroken, lead).with(facts.circumstances()))
}

pub(super) fn nothing_confirmed(facts: &Facts<'_>) -> Option<Finding> {
    let meta = &facts.run?.meta;
    if meta.confirmed_emits > 0 || delivery(facts).is_some_and(|d| d.heard > 0) {
        return None;
    }
    let lead = story::unconfirmed(facts.loaded)?;
    Some(
        Finding::note(Kind::NothingConfirmed, lead)
            .with(["nobody knows whether they arrived, and they have no latency".to_owned()]),
    )
}

pub(super) fn ended_early(facts: &Facts<'_>) -> Option<Finding> {
    let run = facts.run?;
    let lead = match (&run.interrupted, run.ended_after_s) {
        (Some(signal), _) => {
            format!("{signal} ended the run early, after {}", duration(facts.loaded.duration_s))
        }
        (None, Some(seconds)) => {
            format!("the longest duration ended the arrivals after {}", duration(seconds))
        }
        (None, None) => return None,
    };
    // Of a closed phase nobody knows how many would have come.
    let arrived = match facts.loaded.planned() {
        Some(planned) => format!("{} of {} users", thousands(facts.total.launched()), thousands(planned)),
        None => count(facts.total.launched(), "user", "users"),
    };
    let so_far = format!("{arrived} had arrived, and what was due later did not run");
    let total = facts.total;
    let left = total.launched().saturating_sub(total.completed().saturating_add(total.failed()));
    let cut_off = (left > 0 && run.interrupted.is_none())
        .then(|| format!("{} had not ended and were cut off", count(left, "user", "users")));
    Some(Finding::note(Kind::EndedEarly, lead).with([so_far]).with(cut_off).with(facts.circumstances()))
}
