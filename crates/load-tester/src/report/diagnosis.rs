//! What came of a run and why, in words: rules over the figures, the gravest first.
//!
//! Each rule looks for one outcome and answers with a [`Finding`]. The first that answers gives the report its first
//! sentence; what the others found is evidence beside it. What is not known is not said.

mod facts;
mod outages;
mod shortfalls;
mod strains;
mod tester;

use serde::Serialize;

use super::loaded::{Loaded, Run};
use super::story;
use super::units::{count, duration, latency, percent, sum_of, thousands};
use crate::outcome::{counters, names};
use facts::{Facts, clock};

/// A run in words.
#[derive(Debug, Clone, PartialEq)]
pub struct Diagnosis {
    /// The outcome and its cause in one sentence.
    pub first: String,
    /// What supports it, each with figures and times, and what else is worth knowing.
    pub evidence: Vec<String>,
    pub mood: Mood,
    pub kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mood {
    Good,
    /// Nothing is wrong, but something is to be known.
    Note,
    Bad,
}

/// What the first sentence is about, in the order in which they are looked for. The names in result files are these in
/// kebab-case and stay as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    NothingRan,
    TesterOutOfSockets,
    TesterBound,
    TesterStarved,
    ArrivalsSkipped,
    TargetDown,
    TargetWentDown,
    TargetRestarted,
    TargetCpu,
    MachineFull,
    Refusing,
    NoAnswers,
    Errors,
    Stalls,
    DeliveriesLost,
    DescriptorsAtLimit,
    Queueing,
    StageSlow,
    DeliveriesUnexpected,
    DeliveriesDoubled,
    DeliveriesOutOfOrder,
    NotAllBack,
    FewErrors,
    Unfinished,
    Slow,
    ConnectsSlow,
    LimitBroken,
    MemoryGrowing,
    SlowStart,
    NothingConfirmed,
    EndedEarly,
    AllWell,
}

impl Kind {
    pub const ALL: [Self; 32] = [
        Self::NothingRan,
        Self::TesterOutOfSockets,
        Self::TesterBound,
        Self::TesterStarved,
        Self::ArrivalsSkipped,
        Self::TargetDown,
        Self::TargetWentDown,
        Self::TargetRestarted,
        Self::TargetCpu,
        Self::MachineFull,
        Self::Refusing,
        Self::NoAnswers,
        Self::Errors,
        Self::Stalls,
        Self::DeliveriesLost,
        Self::DescriptorsAtLimit,
        Self::Queueing,
        Self::StageSlow,
        Self::DeliveriesUnexpected,
        Self::DeliveriesDoubled,
        Self::DeliveriesOutOfOrder,
        Self::NotAllBack,
        Self::FewErrors,
        Self::Unfinished,
        Self::Slow,
        Self::ConnectsSlow,
        Self::LimitBroken,
        Self::MemoryGrowing,
        Self::SlowStart,
        Self::NothingConfirmed,
        Self::EndedEarly,
        Self::AllWell,
    ];

    /// When it is said.
    pub fn rule(self) -> &'static str {
        match self {
            Self::NothingRan => "no user was started",
            Self::TesterOutOfSockets => "a connect failed for want of the tester's own open files or ports",
            Self::TesterBound => {
                "a rule of validity is broken, and a thread of the tester was at 95 % or more for 5 s"
            }
            Self::TesterStarved => {
                "a rule of validity is broken, and no thread of the tester was at its limit"
            }
            Self::ArrivalsSkipped => {
                "more arrivals were skipped than a valid run may; what else was found follows"
            }
            Self::TargetDown => "half of the users or more met ECONNREFUSED and nobody was ever answered",
            Self::TargetWentDown => {
                "its process ended, or 1 % of the users met ECONNREFUSED, after others were answered"
            }
            Self::TargetRestarted => "the same, and it was back before the end",
            Self::TargetCpu => "one thread of the server was at 95 % or more for 5 s in a row",
            Self::MachineFull => "server and tester together took 95 % of all cores for 5 s in a row",
            Self::Refusing => {
                "5 % or more were answered with HTTP 4xx or 5xx, an exception, a refusing ack or a refused connect"
            }
            Self::NoAnswers => "5 % of the users or more waited for an answer in vain",
            Self::Errors => "5 % of the users or more failed in other ways",
            Self::Stalls => {
                "what came back was late at once (500 ms, and five times what is usual) twice, or once by a second, while the tester was on time"
            }
            Self::DeliveriesLost => "an expected delivery was not heard",
            Self::DescriptorsAtLimit => "the server's open files came within 5 % of its limit",
            Self::Queueing => {
                "times grew fivefold and by 100 ms from the first quarter to the last, with no thread at its limit"
            }
            Self::StageSlow => {
                "one stage took half of the server's time or more, its p99 reached 100 ms, and so did that of answers or deliveries"
            }
            Self::DeliveriesUnexpected => "somebody heard what was not meant for them",
            Self::DeliveriesDoubled => "somebody heard the same twice",
            Self::DeliveriesOutOfOrder => "one sender's messages were heard in another order",
            Self::NotAllBack => "connections were lost; bad when not all came back",
            Self::FewErrors => "fewer than 5 % of the users failed",
            Self::Unfinished => "users did not finish, without an error",
            Self::Slow => "half of the answers or deliveries took 200 ms or longer",
            Self::ConnectsSlow => "half of the connects took 200 ms, or 1 % took a second",
            Self::LimitBroken => "a limit of `ensure` or an expectation of `expect` did not hold",
            Self::MemoryGrowing => "the server's memory grew by half and 64 MB, in every quarter of the run",
            Self::SlowStart => "only the first seconds were slow: ten times what is usual, and 100 ms",
            Self::NothingConfirmed => "messages were sent and none was confirmed or heard",
            Self::EndedEarly => "a signal ended the run, and nothing else was found",
            Self::AllWell => "none of the above",
        }
    }
}

/// What a rule found.
#[derive(Debug)]
struct Finding {
    kind: Kind,
    mood: Mood,
    /// The outcome, as the beginning of the first sentence.
    lead: String,
    /// What else belongs into the first sentence when it is this finding's.
    with: Vec<String>,
    evidence: Vec<String>,
}

impl Finding {
    fn bad(kind: Kind, lead: String) -> Self {
        Self { kind, mood: Mood::Bad, lead, with: Vec::new(), evidence: Vec::new() }
    }

    fn note(kind: Kind, lead: String) -> Self {
        Self { mood: Mood::Note, ..Self::bad(kind, lead) }
    }

    fn with(mut self, clauses: impl IntoIterator<Item = String>) -> Self {
        self.with.extend(clauses);
        self
    }

    fn because(mut self, evidence: impl IntoIterator<Item = String>) -> Self {
        self.evidence.extend(evidence);
        self
    }
}

type Rule = fn(&Facts<'_>) -> Option<Finding>;

/// The gravest first: who cannot be believed, who was not there, who was at a limit, what was not done, what was slow.
const RULES: [Rule; 28] = [
    tester::nothing_ran,
    tester::out_of_sockets,
    tester::bound_or_starved,
    outages::down,
    outages::went_down,
    strains::one_thread_at_its_limit,
    strains::machine_full,
    outages::refusing,
    outages::no_answers,
    outages::many_errors,
    outages::stalls,
    shortfalls::lost,
    strains::descriptors,
    strains::queueing,
    strains::stage_slow,
    shortfalls::unexpected,
    shortfalls::doubled,
    shortfalls::out_of_order,
    shortfalls::not_all_back,
    outages::few_errors,
    shortfalls::unfinished,
    strains::slow,
    strains::connects_slow,
    shortfalls::limit_broken,
    strains::memory_growing,
    strains::slow_start,
    shortfalls::nothing_confirmed,
    shortfalls::ended_early,
];

/// Finds the outcome of a run and its cause.
pub fn diagnose(loaded: &Loaded) -> Diagnosis {
    let facts = Facts::of(loaded);
    let mut findings: Vec<Finding> = Vec::new();
    for rule in RULES {
        let found = rule(&facts);
        let certain = found.as_ref().is_some_and(|found| {
            // What the tester did not do says nothing of the target.
            matches!(
                found.kind,
                Kind::NothingRan | Kind::TesterBound | Kind::TesterStarved | Kind::TesterOutOfSockets
            )
        });
        findings.extend(found);
        if certain {
            break;
        }
    }
    let mut findings = findings.into_iter();
    let lead = findings.next().unwrap_or_else(|| all_well(&facts));
    let mut rest: Vec<Finding> = findings.collect();
    if matches!(lead.kind, Kind::TesterBound | Kind::TesterStarved) {
        // No lateness of the tester ends a process.
        rest.extend(outages::ended_process(&facts));
    }

    let (mut kind, mut mood) = (lead.kind, lead.mood);
    let lead_kind = kind;
    let mut clauses = Vec::new();
    if let Some(skipped) = tester::skipped(&facts).filter(|_| !is_testers(kind)) {
        (kind, mood) = (Kind::ArrivalsSkipped, Mood::Bad);
        clauses.push(skipped);
    }
    clauses.push(lead.lead);
    clauses.extend(lead.with);
    if let Some(signal) =
        facts.run.and_then(|run| run.interrupted.as_ref()).filter(|_| kind != Kind::EndedEarly)
    {
        clauses.push(format!("{signal} ended the run at {}", clock(loaded.duration_s)));
    }
    let mut evidence = lead.evidence;
    evidence.extend(rest.into_iter().filter(|f| f.kind != Kind::EndedEarly).map(|f| sentence(&[f.lead])));
    evidence.extend(account(&facts, kind));
    if !clauses.iter().chain(&evidence).any(|row| row.contains("error")) {
        evidence.extend(errors(facts.total));
    }
    let sides: Vec<String> = [facts.target_clause(), facts.tester_clause()]
        .into_iter()
        .filter(|side| !side.is_empty() && clauses.iter().all(|told| !told.contains(side.as_str())))
        .collect();
    // Beside a tester that could not be believed, who was idle says nothing.
    if !sides.is_empty() && facts.run.is_some() && !is_testers(lead_kind) {
        evidence.push(sentence(&sides));
    }
    // A rule may find what another has told.
    let mut told: Vec<String> = Vec::new();
    evidence.retain(|row| {
        let new = !told.contains(row);
        told.push(row.clone());
        new
    });
    Diagnosis { first: sentence(&clauses), evidence, mood, kind }
}

fn is_testers(kind: Kind) -> bool {
    matches!(kind, Kind::TesterBound | Kind::TesterStarved | Kind::TesterOutOfSockets | Kind::NothingRan)
}

/// Clauses as one sentence.
fn sentence(clauses: &[String]) -> String {
    let mut text = clauses.join("; ");
    let first = text.chars().next().map(|c| (c.len_utf8(), c.to_uppercase().to_string()));
    if let Some((length, upper)) = first {
        text.replace_range(..length, &upper);
    }
    text.push('.');
    text
}

fn all_well(facts: &Facts<'_>) -> Finding {
    let total = facts.total;
    let ran = format!(
        "all well: all {} completed without an error in {}",
        count(total.launched(), "user", "users"),
        duration(facts.loaded.duration_s)
    );
    let mut with = Vec::new();
    if facts.run.is_some()
        && let Some(answers) = &total.answered
    {
        with.push(format!("99 % of the answers came within {}", latency(answers.p99)));
    }
    with.extend(facts.deliveries_clause());
    with.push(headroom(facts));
    Finding { kind: Kind::AllWell, mood: Mood::Good, lead: ran, with, evidence: Vec::new() }
}

/// How much more might fit, from the highest use of one thread.
fn headroom(facts: &Facts<'_>) -> String {
    let Some(peak) = facts.target_peak() else { return facts.target_clause() };
    let machine = facts.machine_peak().unwrap_or(0.0);
    let room = 0.9 / peak.max(machine).max(0.01);
    let at = if machine > peak {
        format!("server and tester together took {:.0} % of the machine's cores at most", machine * 100.0)
    } else {
        format!("the server's busiest thread was at {:.0} % at most", peak * 100.0)
    };
    if room >= 10.0 {
        format!("{at}, so there is room for ten times this and more")
    } else if room >= 1.5 {
        format!("{at}, so there is room for about {room:.1} times this")
    } else {
        format!("{at}, so there is little room for more")
    }
}

/// What every reader wants to see, whatever was found.
fn account(facts: &Facts<'_>, kind: Kind) -> Vec<String> {
    // The first sentence of a good run says so.
    let mut rows: Vec<String> = (kind != Kind::AllWell).then(|| users(facts)).into_iter().collect();
    let Some(run) = facts.run else { return rows };
    rows.extend(closed(facts));
    rows.extend(story::delivery(run));
    rows.extend(answers(facts));
    rows.extend(where_the_time_went_words(run));
    rows
}

/// Told whenever users came because others had gone.
fn closed(facts: &Facts<'_>) -> Option<String> {
    let replaced = facts.total.counter(counters::USERS_REPLACED);
    (replaced > 0).then(|| {
        format!(
            "{} came in a closed phase when another had ended: a slow target slowed the load too, and of them the time from \
             due is service time.",
            count(replaced, "user", "users")
        )
    })
}

/// `14,224 of 14,887 users completed, 315 failed, 348 did not finish.`
fn users(facts: &Facts<'_>) -> String {
    let total = facts.total;
    let (launched, completed, failed) = (total.launched(), total.completed(), total.failed());
    let within = duration(facts.loaded.duration_s);
    if launched == 0 {
        return format!("No user was started in {within}.");
    }
    if completed == launched {
        return format!("All {} completed in {within}.", count(launched, "user", "users"));
    }
    let mut text = format!("{} of {} completed", thousands(completed), count(launched, "user", "users"));
    let unfinished = launched.saturating_sub(completed.saturating_add(failed));
    if failed > 0 {
        text += &format!(", {} failed", thousands(failed));
    }
    if unfinished > 0 {
        text += &format!(", {} did not finish", thousands(unfinished));
    }
    if total.skipped() > 0 {
        text += &format!(", {} were skipped", thousands(total.skipped()));
    }
    format!("{text} in {within}.")
}

/// `103 errors: 103 × ECONNREFUSED.`, also those that ended nobody.
fn errors(total: &super::loaded::Slice) -> Option<String> {
    let all = total.error_count();
    let mut kinds: Vec<_> = total.errors().collect();
    kinds.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    let more = kinds.len().saturating_sub(3);
    let mut told: Vec<String> = kinds
        .iter()
        .take(3)
        .map(|(name, n)| format!("{} × {}", thousands(*n), super::plain::one_line(name, 60)))
        .collect();
    if more > 0 {
        told.push(format!("and {}", count(more as u64, "other kind", "other kinds")));
    }
    (all > 0).then(|| format!("{}: {}.", count(all, "error", "errors"), told.join(", ")))
}

/// From sending, and from due where the two differ: what waited before it was sent waited for the same server.
fn answers(facts: &Facts<'_>) -> Option<String> {
    let sent = facts.total.answered.as_ref()?;
    let mut text = format!(
        "Answers, from sending: half within {}, 99 % within {}",
        latency(sent.median),
        latency(sent.p99)
    );
    if let Some(due) = facts.total.summary(names::RESPONSE_FROM_DUE) {
        text += &format!(
            "; each user's first answer, from the instant the user was due: half within {}, 99 % within {}",
            latency(due.median),
            latency(due.p99)
        );
    }
    Some(text + ".")
}

// ------------------------------------------------------------------------------------------- where the time went

/// One stage of the target's work over the whole run.
#[derive(Debug, Clone, PartialEq)]
pub struct StageShare {
    pub name: String,
    pub help: String,
    pub count: u64,
    /// Of the time of all stages together, 0 to 1.
    pub share: f64,
    pub mean_s: f64,
    /// The median of the seconds' p99, and the highest; `None` when no bucket held one.
    pub p99_s: Option<f64>,
    pub worst_p99_s: Option<f64>,
}

/// Where the target's time went, stage by stage in the order a message passes them; empty when it told nothing.
pub fn where_the_time_went(run: &Run) -> Vec<StageShare> {
    let sum_s = |stage: &crate::outcome::StageUse| {
        stage.points.iter().map(|point| point.sum_s).filter(|sum| sum.is_finite() && *sum > 0.0).sum::<f64>()
    };
    let all: f64 = run.stages.iter().map(sum_s).sum();
    let share = |stage: &crate::outcome::StageUse| {
        let count = sum_of(stage.points.iter().map(|point| point.count));
        let spent = sum_s(stage);
        let mut p99: Vec<f64> = stage.points.iter().filter_map(|point| point.p99_s).collect();
        p99.sort_by(f64::total_cmp);
        StageShare {
            name: stage.name.clone(),
            help: stage.help.clone(),
            count,
            share: if all > 0.0 { spent / all } else { 0.0 },
            mean_s: if count > 0 { spent / count as f64 } else { 0.0 },
            p99_s: p99.get(p99.len() / 2).copied(),
            worst_p99_s: p99.last().copied(),
        }
    };
    run.stages.iter().map(share).collect()
}

fn where_the_time_went_words(run: &Run) -> Option<String> {
    let mut stages = where_the_time_went(run);
    stages.retain(|stage| stage.share >= 0.005);
    if stages.is_empty() {
        return None;
    }
    let told: Vec<String> = stages
        .iter()
        .map(|stage| {
            let p99 = stage.p99_s.map_or_else(String::new, |p99| format!(" (p99 {})", latency(p99 * 1000.0)));
            format!("{} {:.0} %{p99}", stage.name, stage.share * 100.0)
        })
        .collect();
    Some(format!("Where the server's time went, as it tells itself: {}.", told.join(", ")))
}

/// A count and its share: `43 of 9,000 users (0.5 %)`.
fn share_of(part: u64, whole: u64, what: &str) -> String {
    format!("{} of {} {what} ({})", thousands(part), thousands(whole), percent(part, whole))
}
