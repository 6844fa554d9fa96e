//! When the server was not there, said no, said nothing, or stood still.

use super::super::loaded::Slice;
use super::super::units::{count, duration, latency, percent, sum_of, thousands};
use super::facts::{Facts, clock, median};
use super::{Finding, Kind, share_of};
use crate::outcome::{CheckKind, ErrorGroup, TargetChangeKind, names};

/// From this share on what failed is the outcome, and no exception to it.
const WORTH_NAMING: f64 = 0.05;
/// A pause shorter than this may be anybody's.
const SHORTEST_STALL_MS: f64 = 500.0;
/// One that happens once must be longer to be more than an accident.
const SHORTEST_SINGLE_STALL_MS: f64 = 1000.0;

const REFUSED: &str = "ECONNREFUSED";

fn answers(slice: &Slice) -> bool {
    slice.counter("http.responses") > 0
        || slice.answered.is_some()
        || slice.summary(names::CONNECT_TOTAL).is_some()
}

fn refused_rows(facts: &Facts<'_>) -> (u64, Option<(f64, f64)>) {
    let rows = facts.errors().iter().filter(|e| e.code.contains(REFUSED) || e.cause.contains(REFUSED));
    let span = rows.fold(None, |span: Option<(f64, f64)>, e| {
        Some(span.map_or((e.first_s, e.last_s), |(from, to)| (from.min(e.first_s), to.max(e.last_s))))
    });
    (facts.errors_like(REFUSED), span)
}

/// Nobody listened, all the time.
pub(super) fn down(facts: &Facts<'_>) -> Option<Finding> {
    let (refused, span) = refused_rows(facts);
    let launched = facts.total.launched();
    if refused == 0 || answers(facts.total) || facts.total.counter("socketio.emit") > 0 {
        return None;
    }
    if (refused as f64) < launched as f64 * 0.5 {
        return None;
    }
    let at = facts.run.map_or_else(|| "the target".to_owned(), |run| run.meta.target.clone());
    let all = if refused >= launched { "all" } else { "nearly all" };
    let when = span.map_or_else(String::new, |(from, to)| format!(" from {} to {}", clock(from), clock(to)));
    Some(
        Finding::bad(
            Kind::TargetDown,
            format!(
                "nobody listens at {at}: {all} {} were refused ({REFUSED}){when}",
                count(refused, "connect", "connects")
            ),
        )
        .with(["so no figure says anything of a server".to_owned()])
        .because(["Start the server, or mend `config.target`.".to_owned()]),
    )
}

/// It was there, and then nobody listened; perhaps it came back.
pub(super) fn went_down(facts: &Facts<'_>) -> Option<Finding> {
    let (refused, span) = refused_rows(facts);
    let target = facts.run.and_then(|run| run.target.as_ref());
    let changes = target.map_or(&[][..], |target| &target.changes);
    let gone = changes.iter().find(|change| change.kind == TargetChangeKind::Gone);
    let launched = facts.total.launched();
    if down(facts).is_some() || gone.is_none() && (refused == 0 || (refused as f64) < launched as f64 * 0.01)
    {
        return None;
    }
    let from_s = gone.map(|gone| gone.at_s).or(span.map(|(from, _)| from))?;
    let last_refused = span.map_or(from_s, |(_, to)| to);
    if gone.is_none() {
        // Some were refused and others answered at the same time: somebody did listen.
        let inside =
            |slice: &&Slice| slice.start_s >= from_s && slice.start_s + slice.length_s <= last_refused;
        let (answered, silent): (Vec<&Slice>, Vec<&Slice>) =
            facts.slices.iter().filter(inside).partition(|slice| answers(slice));
        if answered.len() > silent.len() / 4 {
            return None;
        }
    }
    let back = changes
        .iter()
        .find(|change| change.kind == TargetChangeKind::Found && change.at_s >= from_s)
        .map(|change| change.at_s)
        .or_else(|| {
            facts
                .slices
                .iter()
                .find(|slice| slice.start_s > last_refused && answers(slice))
                .map(|slice| slice.start_s)
        });
    let kind = if back.is_some() { Kind::TargetRestarted } else { Kind::TargetWentDown };
    let who = match (gone, target) {
        (Some(gone), Some(target)) => {
            format!(
                "the server's process ended at {} ({}, pid {})",
                clock(from_s),
                super::story::program(&target.command),
                gone.pid
            )
        }
        _ => format!("from {} nobody listened on the target's port", clock(from_s)),
    };
    let mut with = Vec::new();
    match back {
        Some(back) => with.push(format!("it was back at {}", clock(back))),
        None => with.push("it did not come back before the end of the run".to_owned()),
    }
    if refused > 0 {
        with.push(format!("{} were refused ({REFUSED})", count(refused, "connect", "connects")));
    }
    let lost = facts.errors_like("disconnect").saturating_add(facts.errors_like("ECONNRESET"));
    if lost > 0 {
        with.push(format!("{} broke off", count(lost, "connection", "connections")));
    }
    Some(Finding::bad(kind, who).with(with))
}

/// Whatever is to be thought of the figures: its process was seen to end.
pub(super) fn ended_process(facts: &Facts<'_>) -> Option<Finding> {
    let changes = &facts.run?.target.as_ref()?.changes;
    changes.iter().find(|change| change.kind == TargetChangeKind::Gone)?;
    let found = went_down(facts)?;
    let lead = std::iter::once(found.lead).chain(found.with).collect::<Vec<_>>().join("; ");
    Some(Finding {
        lead: format!("certain all the same: {lead}"),
        with: Vec::new(),
        ..Finding::bad(found.kind, String::new())
    })
}

/// Whether the server answered, and said no.
fn is_refusal(error: &ErrorGroup) -> bool {
    let says_no = error.cause.starts_with("exception")
        || error.cause.starts_with("ack ")
        || error.cause.contains("connect_error")
        || error.cause.starts_with("connect ") && !error.cause.contains("timeout");
    says_no
        || error.cause.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| {
            word.len() == 3 && word.starts_with(['4', '5']) && word.bytes().all(|b| b.is_ascii_digit())
        })
}

pub(super) fn refusing(facts: &Facts<'_>) -> Option<Finding> {
    let total = facts.total;
    let http: Vec<(&str, u64)> = total
        .codes
        .iter()
        .filter(|(code, _)| code.parse::<u16>().is_ok_and(|code| (400..600).contains(&code)))
        .map(|(code, n)| (code.as_str(), *n))
        .collect();
    let by_code = sum_of(http.iter().map(|(_, n)| *n));
    let groups: Vec<&ErrorGroup> = facts.errors().iter().filter(|error| is_refusal(error)).collect();
    let by_words = sum_of(groups.iter().map(|group| group.count));
    let asked = total.requests_started.max(total.launched());
    if asked == 0 || ((by_code.saturating_add(by_words)) as f64) < asked as f64 * WORTH_NAMING {
        return None;
    }
    let (lead, from_s) = if by_code >= by_words {
        let requests = total.counter("http.requests").max(by_code);
        let mut codes = http;
        codes.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        let told: Vec<String> = if codes.len() == 1 {
            vec![format!("HTTP {}", codes[0].0)]
        } else {
            codes.iter().take(3).map(|(code, n)| format!("HTTP {code} {} times", thousands(*n))).collect()
        };
        let of_code = |slice: &&Slice| {
            slice
                .codes
                .iter()
                .any(|(code, n)| *n > 0 && code.parse::<u16>().is_ok_and(|code| (400..600).contains(&code)))
        };
        let from_s = facts.slices.iter().find(of_code).map_or(0.0, |slice| slice.start_s);
        let only = only_endpoint(facts).map_or_else(String::new, |only| format!(" at {only}"));
        (
            if codes.iter().all(|(code, _)| *code == "404") {
                format!(
                    "{} asked for what is not there: HTTP 404{only}",
                    share_of(by_code, requests, "requests")
                )
            } else {
                format!(
                    "the server refused {}: {}{only}",
                    share_of(by_code, requests, "requests"),
                    told.join(", ")
                )
            },
            from_s,
        )
    } else {
        let most = groups.iter().max_by_key(|group| group.count)?;
        let emits = total.counter("socketio.emit");
        let of = if most.step.starts_with("emit") && emits >= by_words {
            emits
        } else {
            total.launched().max(by_words)
        };
        let what = if most.step.starts_with("emit") { "messages" } else { "users" };
        (
            format!(
                "the server refused {}: “{}” at {}",
                share_of(by_words, of, what),
                super::super::plain::one_line(&most.cause, 100),
                most.step
            ),
            most.first_s,
        )
    };
    let when = if from_s < 1.5 { "from the start".to_owned() } else { format!("from {}", clock(from_s)) };
    let rows = groups.iter().take(3).map(|group| row(group)).collect::<Vec<_>>();
    Some(Finding::bad(Kind::Refusing, format!("{lead}, {when}")).with(facts.circumstances()).because(rows))
}

/// Where those codes came from, when that is known: nothing else was asked for, or only there another was expected.
fn only_endpoint<'a>(facts: &'a Facts<'_>) -> Option<&'a str> {
    let mut endpoints =
        facts.total.summaries.keys().filter_map(|name| name.strip_prefix(super::super::loaded::ENDPOINTS));
    if let (Some(only), None) = (endpoints.next(), endpoints.next()) {
        return Some(only);
    }
    let mut unexpected = facts
        .run?
        .checks
        .iter()
        .filter(|check| check.kind == CheckKind::Expect && !check.passed)
        .filter_map(|check| Some(check.expression.split_once(": statusCode")?.0));
    let only = unexpected.next()?;
    unexpected.next().is_none().then_some(only)
}

fn is_silence(error: &ErrorGroup) -> bool {
    let cause = &error.cause;
    cause.starts_with("no ") && cause.contains(" within ")
        || cause.contains("timeout")
        || error.code == "ETIMEDOUT"
}

pub(super) fn no_answers(facts: &Facts<'_>) -> Option<Finding> {
    let groups: Vec<&ErrorGroup> = facts.errors().iter().filter(|error| is_silence(error)).collect();
    let silent = sum_of(groups.iter().map(|group| group.count));
    let launched = facts.total.launched().max(silent);
    if silent == 0 || (silent as f64) < launched as f64 * WORTH_NAMING {
        return None;
    }
    let most = groups.iter().max_by_key(|group| group.count)?;
    let from_s = groups.iter().map(|group| group.first_s).fold(f64::MAX, f64::min);
    Some(
        Finding::bad(
            Kind::NoAnswers,
            format!(
                "{} got no answer: “{}” at {}, from {}",
                share_of(silent, launched, "users"),
                super::super::plain::one_line(&most.cause, 100),
                most.step,
                clock(from_s)
            ),
        )
        .with(facts.circumstances())
        .because(groups.iter().take(3).map(|group| row(group))),
    )
}

/// `43 times “handshake: ECONNRESET” at connect, from 0:03 to 0:17.`
fn row(group: &ErrorGroup) -> String {
    format!(
        "{} “{}” at {}, from {} to {}.",
        if group.count == 1 { "Once".to_owned() } else { format!("{} times", thousands(group.count)) },
        super::super::plain::one_line(&group.cause, 100),
        super::super::plain::one_line(&group.step, 100),
        clock(group.first_s),
        clock(group.last_s)
    )
}

fn failures(facts: &Facts<'_>, kind: Kind) -> Option<Finding> {
    let errors = facts.total.error_count();
    let launched = facts.total.launched();
    let lead = match facts.errors().iter().max_by_key(|group| group.count) {
        Some(most) => {
            let mostly = if most.count < errors { "most often " } else { "" };
            format!(
                "{} ({} of {}), {mostly}“{}” at {}, from {} to {}",
                count(errors, "error", "errors"),
                percent(errors, launched.max(errors)),
                count(launched, "user", "users"),
                super::super::plain::one_line(&most.cause, 100),
                super::super::plain::one_line(&most.step, 100),
                clock(most.first_s),
                clock(most.last_s)
            )
        }
        None => {
            let (name, n) = facts.total.errors().max_by_key(|(_, n)| *n)?;
            let mostly = if n < errors { ", most often" } else { ":" };
            format!(
                "{} ({} of {}){mostly} “{}”",
                count(errors, "error", "errors"),
                percent(errors, launched.max(errors)),
                count(launched, "user", "users"),
                super::super::plain::one_line(name, 100)
            )
        }
    };
    let with = if facts.run.is_some() { facts.circumstances() } else { Vec::new() };
    Some(Finding::bad(kind, lead).with(with).because(facts.errors().iter().take(3).map(row)))
}

fn failed_share(facts: &Facts<'_>) -> f64 {
    let errors = facts.total.error_count();
    if errors == 0 { 0.0 } else { errors as f64 / facts.total.launched().max(errors) as f64 }
}

pub(super) fn many_errors(facts: &Facts<'_>) -> Option<Finding> {
    // Those that have a name of their own are told under it.
    if failed_share(facts) < WORTH_NAMING || refusing(facts).is_some() || no_answers(facts).is_some() {
        return None;
    }
    if down(facts).is_some() || went_down(facts).is_some() {
        return None;
    }
    failures(facts, Kind::Errors)
}

pub(super) fn few_errors(facts: &Facts<'_>) -> Option<Finding> {
    let share = failed_share(facts);
    if share <= 0.0 || share >= WORTH_NAMING {
        return None;
    }
    failures(facts, Kind::FewErrors)
}

// ------------------------------------------------------------------------------------------------------- stalls

/// A stretch in which nothing came back.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Stall {
    from_s: f64,
    length_ms: f64,
}

/// The longest anything took that came back in this slice, from the instant it was due where that is known.
fn longest_ms(slice: &Slice) -> f64 {
    [slice.answered.as_ref(), slice.summary(names::RESPONSE_FROM_DUE), slice.summary(names::DELIVERY)]
        .into_iter()
        .flatten()
        .map(|times| times.max)
        .filter(|max| max.is_finite())
        .fold(0.0, f64::max)
}

/// Stretches in which seconds come back late at once, between seconds in which they do not.
fn find_stalls(facts: &Facts<'_>) -> Vec<Stall> {
    let slices: Vec<&Slice> = facts.slices.iter().filter(|slice| slice.length_s <= 1.5).collect();
    let usual: Vec<f64> =
        slices.iter().filter(|slice| Facts::came_back(slice) > 0.0).map(|s| longest_ms(s)).collect();
    if usual.len() < 5 {
        return Vec::new();
    }
    let Some(usual) = median(usual) else { return Vec::new() };
    let least = SHORTEST_STALL_MS.max(usual * 5.0);
    let mut stalls: Vec<Stall> = Vec::new();
    let mut last_late = f64::MIN;
    for slice in slices {
        let length_ms = longest_ms(slice);
        if length_ms < least {
            continue;
        }
        // The tester was late itself: whatever held it up may have held up the server, too.
        let lateness = slice.summary(names::START_LATENESS).map_or(0.0, |late| late.max);
        if lateness > length_ms * 0.25 {
            continue;
        }
        let ended = slice.start_s + slice.length_s / 2.0;
        match stalls.last_mut().filter(|_| slice.start_s - last_late < 1.5) {
            // The same one: what waited came back over more than a second.
            Some(known) => known.length_ms = known.length_ms.max(length_ms),
            None => stalls.push(Stall { from_s: (ended - length_ms / 1000.0).max(0.0), length_ms }),
        }
        last_late = slice.start_s;
    }
    let usual =
        median(facts.slices.iter().map(Facts::came_back).filter(|n| *n > 0.0).collect()).unwrap_or(0.0);
    stalls.retain(|stall| {
        // Whole seconds in it must have been still; where things went on coming back they had only queued up.
        let until = stall.from_s + stall.length_ms / 1000.0;
        let inside =
            facts.slices.iter().filter(|s| s.start_s >= stall.from_s && s.start_s + s.length_s <= until);
        let (still, moving): (Vec<&Slice>, Vec<&Slice>) =
            inside.partition(|s| Facts::came_back(s) <= usual * 0.2);
        still.len() >= moving.len()
    });
    stalls
}

pub(super) fn stalls(facts: &Facts<'_>) -> Option<Finding> {
    let stalls = find_stalls(facts);
    let first = stalls.first()?;
    let seconds = facts.slices.len().max(1);
    // In most of the time: that is slow, not still.
    let stood: f64 = stalls.iter().map(|stall| stall.length_ms / 1000.0).sum();
    if stood > seconds as f64 * 0.6 {
        return None;
    }
    let longest = stalls.iter().map(|stall| stall.length_ms).fold(0.0, f64::max);
    if stalls.len() == 1 && longest < SHORTEST_SINGLE_STALL_MS {
        return None;
    }
    // Only the beginning: a server that warms up.
    if stalls.len() == 1 && first.from_s < 1.0 {
        return None;
    }
    let usual = median(stalls.iter().map(|stall| stall.length_ms).collect()).unwrap_or(longest);
    let about = duration((usual / 100.0).round() / 10.0);
    let gaps: Vec<f64> = stalls.windows(2).map(|pair| pair[1].from_s - pair[0].from_s).collect();
    let every =
        median(gaps.clone()).filter(|every| gaps.iter().all(|gap| (gap - every).abs() <= every * 0.25 + 1.0));
    let when: Vec<String> = stalls.iter().take(6).map(|stall| clock(stall.from_s)).collect();
    let more = if stalls.len() > 6 { format!(" and {} more", stalls.len() - 6) } else { String::new() };
    let lead = match (stalls.len(), every) {
        (1, _) => format!("the server stood still once, for {about} from {}", clock(first.from_s)),
        (n, Some(every)) => format!(
            "the server stood still every {every:.0} s for about {about} ({n} times: {}{more})",
            when.join(", ")
        ),
        (n, None) => {
            format!("the server stood still {n} times, for about {about} ({}{more})", when.join(", "))
        }
    };
    let mut with = Vec::new();
    if let Some(times) = facts.total.summary(names::RESPONSE_FROM_DUE) {
        let sent = facts.total.answered.as_ref().map_or(times.median, |sent| sent.median);
        with.push(format!(
            "from the instant users were due 99 % were answered within {}, though half the answers took {} or less",
            latency(times.p99),
            latency(sent)
        ));
    } else if let Some((what, times)) = facts.main_times()
        && let Some(times) = times(facts.total)
    {
        with.push(format!(
            "{what} p99 was {}, though half came within {}",
            latency(times.p99),
            latency(times.median)
        ));
    }
    with.extend(facts.circumstances());
    let empty = facts
        .slices
        .iter()
        .filter(|slice| {
            stalls.iter().any(|stall| {
                slice.start_s + 0.01 >= stall.from_s
                    && slice.start_s < stall.from_s + stall.length_ms / 1000.0
            })
        })
        .filter(|slice| slice.requests_started > 0 && Facts::came_back(slice) == 0.0)
        .count();
    let mut because = Vec::new();
    if empty > 0 {
        because.push(format!(
            "In {} something was sent and nothing came back.",
            count(empty as u64, "whole second", "whole seconds")
        ));
    }
    Some(Finding::bad(Kind::Stalls, lead).with(with).because(because))
}
