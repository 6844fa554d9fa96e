//! When the figures say nothing of the target, because the tester did not do what was asked.

use super::super::units::count;
use super::facts::{Facts, clock, longest_hot};
use super::{Finding, Kind};
use crate::outcome::Rule;

/// The rule about arrivals that were dropped because too many users were alive: the target may have a part in that.
fn is_skipping(rule: &Rule) -> bool {
    rule.what.contains("skipped")
}

fn broken<'a>(facts: &'a Facts<'_>) -> impl Iterator<Item = &'a Rule> {
    facts.run.into_iter().flat_map(|run| run.validity.broken())
}

fn words(rule: &Rule) -> String {
    format!("{} {} (limit {})", rule.what, rule.measured, rule.limit)
}

pub(super) fn nothing_ran(facts: &Facts<'_>) -> Option<Finding> {
    if facts.total.launched() > 0 || facts.total.skipped() > 0 {
        return None;
    }
    Some(Finding::note(Kind::NothingRan, "no user was started, so nothing was measured".to_owned()))
}

/// Sockets the tester could not open for want of descriptors or ports.
pub(super) fn out_of_sockets(facts: &Facts<'_>) -> Option<Finding> {
    let rows = [
        ("EMFILE", "open files", "raise the limit (`ulimit -n`)"),
        ("EADDRNOTAVAIL", "ports", "give it more source addresses"),
    ];
    let (failed, code, what, remedy) = rows
        .into_iter()
        .map(|(code, what, remedy)| (facts.errors_like(code), code, what, remedy))
        .max_by_key(|(failed, ..)| *failed)
        .filter(|(failed, ..)| *failed > 0)?;
    Some(Finding::bad(
        Kind::TesterOutOfSockets,
        format!(
            "not to be believed: the tester ran out of {what}, so {} failed with {code} before reaching the server; {remedy}",
            count(failed, "connect", "connects")
        ),
    ))
}

/// Reads whichever rules of validity were broken.
pub(super) fn bound_or_starved(facts: &Facts<'_>) -> Option<Finding> {
    let run = facts.run?;
    let rules: Vec<&Rule> = broken(facts).filter(|rule| !is_skipping(rule)).collect();
    if rules.is_empty() {
        return None;
    }
    let worker = |thread: &str| thread.starts_with(crate::validity::WORKER_THREAD);
    let hot = longest_hot(&run.tester, worker).or_else(|| longest_hot(&run.tester, |_| true));
    // A long run's samples are coarser than what its rules were judged by.
    let limited = hot.is_some() || rules.iter().any(|rule| rule.what.contains("CPU"));
    let because = rules.iter().map(|rule| words(rule)).collect::<Vec<_>>().join(", ");
    let lead = match &hot {
        Some(hot) => format!(
            "not to be believed: the tester was the bottleneck, its thread “{}” at {:.0} % for {} s from {}",
            hot.thread,
            hot.mean * 100.0,
            hot.seconds,
            clock(hot.from_s)
        ),
        None if limited => "not to be believed: the tester was the bottleneck".to_owned(),
        None => "not to be believed: the tester was starved of processor time".to_owned(),
    };
    let mut with = vec![because];
    if !limited && let Some(peak) = facts.tester_peak() {
        with.push(format!(
            "its busiest thread got {:.0} % of a core at most, so something else on this machine took the rest",
            peak * 100.0
        ));
    }
    with.push("nothing is concluded about the target".to_owned());
    let kind = if limited { Kind::TesterBound } else { Kind::TesterStarved };
    let remedy = if limited {
        "Give the tester more cores or workers, or ask for less.".to_owned()
    } else {
        "End what else runs on the tester's machine, or run the tester on another.".to_owned()
    };
    Some(Finding::bad(kind, lead).with(with).because([remedy]))
}

/// Goes before whatever else was found.
pub(super) fn skipped(facts: &Facts<'_>) -> Option<String> {
    let rule = broken(facts).find(|rule| is_skipping(rule))?;
    Some(format!(
        "not the load that was asked for: {}, because too many users were alive at once",
        words(rule)
    ))
}
