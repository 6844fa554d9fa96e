//! When something came to its limit, or took long.

use super::super::loaded::Slice;
use super::super::units::{bytes, latency, percent, rate, thousands};
use super::facts::{BUSY, BUSY_SAMPLES, Facts, clock, median};
use super::{Finding, Kind, where_the_time_went};
use crate::outcome::{ProcessSample, names};

/// An answer that takes longer is slow to whoever waits for it.
const SLOW_MS: f64 = 200.0;
const SLOW_CONNECT_MS: f64 = 1000.0;
/// A stage shorter than this holds nobody up.
const SLOW_STAGE_S: f64 = 0.1;

fn target<'a>(facts: &'a Facts<'_>) -> &'a [ProcessSample] {
    facts.run.and_then(|run| run.target.as_ref()).map_or(&[], |target| &target.samples)
}

pub(super) fn one_thread_at_its_limit(facts: &Facts<'_>) -> Option<Finding> {
    let hot = facts.hot.as_ref()?;
    let (rise, shortfall) = (facts.rise_clause(hot.from_s), shortfall(facts));
    let harmless = shortfall.is_none() && !rise.as_ref().is_some_and(|rise| rise.contains(" rose "));
    let mut with = vec![facts.arrivals_clause()];
    with.extend(rise);
    with.extend(shortfall);
    with.push(facts.tester_clause());
    with.retain(|clause| !clause.is_empty());
    let command = facts.run.and_then(|run| run.target.as_ref()).map_or("", |target| &target.command);
    // At its limit and nobody notices yet.
    let finding = if harmless { Finding::note } else { Finding::bad };
    Some(finding(Kind::TargetCpu, facts.target_clause()).with(with).because([format!(
        "{}'s thread “{}” was busy without a pause for {} s from {}.",
        super::story::program(command),
        hot.thread,
        hot.seconds,
        clock(hot.from_s)
    )]))
}

/// What did not get done for it, in a clause.
fn shortfall(facts: &Facts<'_>) -> Option<String> {
    let delivery = facts.run?.delivery.as_ref();
    if let Some(delivery) = delivery
        && let Some(expected) = delivery.expected.filter(|_| delivery.missing > 0)
    {
        return Some(format!("{} of the deliveries are missing", percent(delivery.missing, expected)));
    }
    let errors = facts.total.error_count();
    (errors > 0)
        .then(|| format!("{} of the users failed", percent(errors, facts.total.launched().max(errors))))
}

/// No core was left, though no single thread of the server stood at its limit.
pub(super) fn machine_full(facts: &Facts<'_>) -> Option<Finding> {
    let cores = facts.run?.target.as_ref()?.cores;
    if facts.hot.is_some() || cores == 0 {
        return None;
    }
    let (mut row, mut best, mut from_s) = (0, 0, 0.0);
    let (mut server, mut tester) = (0.0, 0.0);
    for sample in target(facts) {
        let (theirs, ours) = facts.both_at(sample);
        row = if theirs + ours >= BUSY * f64::from(cores) { row + 1 } else { 0 };
        if row > best {
            (best, server, tester) = (row, theirs, ours);
            from_s = (sample.at_s - row as f64).max(0.0);
        }
    }
    let (rise, shortfall) = (facts.rise_clause(from_s), shortfall(facts));
    // Used and not overdrawn: how little room is left is told with the rest.
    let harmless = shortfall.is_none() && !rise.as_ref().is_some_and(|rise| rise.contains(" rose "));
    if best < BUSY_SAMPLES || harmless {
        return None;
    }
    let mut with = vec![format!("the server used {server:.1} of them, the tester {tester:.1}")];
    with.extend(rise);
    with.extend(shortfall);
    if tester > server * 0.25 {
        with.push("the two took from each other, so give the tester a machine of its own".to_owned());
    }
    let lead = format!("from {} all {cores} cores of the machine were taken for {best} s", clock(from_s));
    Some(Finding::bad(Kind::MachineFull, lead).with(with))
}

pub(super) fn descriptors(facts: &Facts<'_>) -> Option<Finding> {
    let limit = facts.run?.target.as_ref()?.open_files_limit.filter(|limit| *limit > 0)?;
    let at = target(facts).iter().find(|sample| sample.open_files as f64 >= limit as f64 * 0.95)?;
    let lead = format!(
        "the server reached its limit of open files at {}: {} of {}",
        clock(at.at_s),
        thousands(at.open_files),
        thousands(limit)
    );
    Some(Finding::bad(Kind::DescriptorsAtLimit, lead).with(shortfall(facts)).because([
        "Raise it (`ulimit -n`, `LimitNOFILE=`) before its connections are called slow.".to_owned(),
    ]))
}

/// Half-way time of what came back, slice by slice, of those in which anything did.
fn medians(facts: &Facts<'_>) -> Vec<(f64, f64, f64)> {
    let Some((_, times)) = facts.main_times() else { return Vec::new() };
    let of = |slice: &Slice| {
        let times = times(slice)?;
        Some((slice.start_s, times.median, times.count? as f64 / slice.length_s.max(0.001)))
    };
    facts.slices.iter().filter_map(of).collect()
}

pub(super) fn queueing(facts: &Facts<'_>) -> Option<Finding> {
    let series = medians(facts);
    if series.len() < 8 || facts.hot.is_some() {
        return None;
    }
    let quarter = series.len() / 4;
    let middle = |part: &[(f64, f64, f64)]| median(part.iter().map(|point| point.1).collect());
    let (early, late) = (middle(&series[..quarter])?, middle(&series[series.len() - quarter..])?);
    if late < early * 5.0 || late < early + 100.0 {
        return None;
    }
    // The last from which it stayed above.
    let calm = series.iter().rposition(|point| point.1 < early * 3.0).map_or(0, |at| at + 1);
    let (from_s, ..) = *series.get(calm)?;
    let flow = |part: &[(f64, f64, f64)]| median(part.iter().map(|point| point.2).collect());
    let (what, _) = facts.main_times()?;
    let plural = if what == "delivery" { "deliveries" } else { "answers" };
    let mut with: Vec<String> = facts.rise_clause(from_s).into_iter().collect();
    if let Some(flow) = flow(&series[calm..]) {
        with.push(format!("no more than {} {plural} a second came out", rate(flow)));
    }
    with.extend(facts.circumstances());
    with.push(match slowest_stage(facts) {
        Some(stage) => stage,
        None if facts.target_peak().is_some() => {
            "so it waits for something other than its processor".to_owned()
        }
        None => String::new(),
    });
    with.retain(|clause| !clause.is_empty());
    Some(Finding::bad(Kind::Queueing, format!("from {} {plural} queued up", clock(from_s))).with(with))
}

/// The stage that took most of the time, when it is long enough to matter.
fn slowest_stage(facts: &Facts<'_>) -> Option<String> {
    let stages = where_the_time_went(facts.run?);
    let most = stages.into_iter().max_by(|a, b| a.share.total_cmp(&b.share))?;
    let p99 = most.worst_p99_s.filter(|p99| *p99 >= SLOW_STAGE_S)?;
    (most.share >= 0.5).then(|| {
        format!(
            "its stage “{}” took {:.0} % of the time (p99 {} in its slowest second)",
            most.name,
            most.share * 100.0,
            latency(p99 * 1000.0)
        )
    })
}

pub(super) fn stage_slow(facts: &Facts<'_>) -> Option<Finding> {
    let words = slowest_stage(facts)?;
    let stages = where_the_time_went(facts.run?);
    let most = stages.into_iter().max_by(|a, b| a.share.total_cmp(&b.share))?;
    let help = if most.help.is_empty() {
        Vec::new()
    } else {
        vec![format!("{}: {}.", most.name, most.help.trim_end_matches('.'))]
    };
    // Once or twice is no habit, and what nobody waits for holds nobody up.
    most.p99_s.filter(|p99| *p99 >= SLOW_STAGE_S / 2.0)?;
    let (_, times) = facts.main_times()?;
    times(facts.total).filter(|times| times.p99 >= SLOW_STAGE_S * 1000.0)?;
    Some(
        Finding::bad(Kind::StageSlow, words.replacen("its stage", "the server's stage", 1))
            .with(facts.circumstances())
            .because(help),
    )
}

pub(super) fn slow(facts: &Facts<'_>) -> Option<Finding> {
    let (what, times) = facts.main_times()?;
    let all = times(facts.total)?;
    if all.median < SLOW_MS {
        return None;
    }
    let plural = if what == "delivery" { "deliveries" } else { "answers" };
    let lead = format!(
        "{plural} were slow: half took {} or longer, 99 % came within {}",
        latency(all.median),
        latency(all.p99)
    );
    let mut with = facts.circumstances();
    match (slowest_stage(facts), facts.target_peak()) {
        (Some(stage), _) => with.push(stage),
        (None, Some(peak)) if peak < 0.8 => {
            with.push("so the server waits for something other than its processor".to_owned());
        }
        _ => {}
    }
    Some(Finding::bad(Kind::Slow, lead).with(with))
}

pub(super) fn connects_slow(facts: &Facts<'_>) -> Option<Finding> {
    facts.run?;
    let all = facts.total.summary(names::CONNECT_TOTAL)?;
    if all.median < SLOW_MS && all.p99 < SLOW_CONNECT_MS {
        return None;
    }
    let longest = names::CONNECT_STAGES
        .iter()
        .filter_map(|name| Some((name.rsplit('.').next()?, facts.total.summary(name)?)))
        .max_by(|a, b| a.1.p99.total_cmp(&b.1.p99));
    let most = longest.map_or_else(String::new, |(stage, times)| {
        format!(", most of it in the stage “{stage}” (p99 {})", latency(times.p99))
    });
    let lead = format!(
        "connecting was slow: half within {}, 99 % within {}{most}",
        latency(all.median),
        latency(all.p99)
    );
    Some(Finding::bad(Kind::ConnectsSlow, lead).with(facts.circumstances()))
}

pub(super) fn memory_growing(facts: &Facts<'_>) -> Option<Finding> {
    let samples = target(facts);
    if samples.len() < 20 {
        return None;
    }
    let quarter = samples.len() / 4;
    let middle = |part: &[ProcessSample]| median(part.iter().map(|sample| sample.rss_bytes as f64).collect());
    let quarters: Vec<f64> = samples.chunks(quarter).take(4).filter_map(middle).collect();
    let [first, second, third, last] = quarters[..] else { return None };
    let grows = first < second && second < third && third < last;
    // What fills up grows less and less.
    let steadily = last - third > (second - first) * 0.5;
    if !grows || !steadily || last < first * 1.5 || last - first < 64e6 {
        return None;
    }
    let span_s = samples[samples.len() - 1].at_s - samples[0].at_s;
    let per_minute = (last - first) / (span_s * 0.75).max(1.0) * 60.0;
    let lead = format!(
        "the server's memory grew from {} to {} ({} a minute) and had not levelled off",
        bytes(first as u64),
        bytes(last as u64),
        bytes(per_minute.max(0.0) as u64)
    );
    Some(Finding::note(Kind::MemoryGrowing, lead).with(facts.circumstances()))
}

pub(super) fn slow_start(facts: &Facts<'_>) -> Option<Finding> {
    let (what, times) = facts.main_times()?;
    let p99: Vec<(f64, f64)> =
        facts.slices.iter().filter_map(|slice| Some((slice.start_s, times(slice)?.p99))).collect();
    if p99.len() < 8 {
        return None;
    }
    let usual = median(p99[3..].iter().map(|point| point.1).collect())?;
    let warm = p99.iter().take(3).take_while(|point| point.1 >= (usual * 10.0).max(100.0)).count();
    let worst = p99.iter().take(warm).map(|point| point.1).fold(0.0, f64::max);
    if warm == 0 || p99[3..].iter().any(|point| point.1 >= worst * 0.5) {
        return None;
    }
    let first_s = p99[0].0;
    let lead = format!(
        "the first {warm} s were slow: {what} p99 {} at {}, {} after it",
        latency(worst),
        clock(first_s),
        latency(usual)
    );
    Some(Finding::note(Kind::SlowStart, lead).with(facts.circumstances()))
}
