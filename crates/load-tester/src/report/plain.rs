//! Our own text, for logs and terminals alike: what was asked, what came of it, what failed and where, whether the
//! figures may be believed. No colour, no cursor movement; every figure has its unit.

use std::fmt::Write as _;

use super::diagnosis::diagnose;
use super::loaded::{ENDPOINTS, Loaded, Run, Slice, Summary};
use super::story;
use super::units::{bytes, count, duration, figure, instant, milliseconds, percent, rate, sum_of, thousands};
use crate::outcome::{CheckKind, PhaseInfo, names};

/// Rows of a table shown before the rest is only counted.
const ROWS: usize = 20;
const SAMPLES: usize = 5;

pub(super) fn phase_started(index: usize, phase: &PhaseInfo) -> String {
    let name = if phase.name.is_empty() { String::new() } else { format!(" “{}”", phase.name) };
    format!(
        "{:>7}  phase {}{name}: {} for {}\n",
        instant(phase.start_s),
        index + 1,
        phase.load,
        duration(phase.duration_s)
    )
}

/// One line a window.
pub(super) fn window(slice: &Slice) -> String {
    let length = slice.length_s.max(f64::MIN_POSITIVE);
    let mut parts = vec![format!(
        "+{} ({}/s)",
        count(slice.launched(), "user", "users"),
        rate(slice.launched() as f64 / length)
    )];
    if let Some(users) = slice.concurrent_users {
        parts.push(format!("{} live", thousands(users)));
    }
    parts.push(format!("{} requests/s", rate(slice.requests_started as f64 / length)));
    parts.push(slice.answered.as_ref().map_or_else(
        || "no answers".to_owned(),
        |s| format!("p50 {}, p99 {}", milliseconds(s.median), milliseconds(s.p99)),
    ));
    if let Some(heard) = slice.summary(names::DELIVERY) {
        parts.push(format!(
            "{} deliveries/s, p99 {}",
            rate(heard.count.unwrap_or(0) as f64 / length),
            milliseconds(heard.p99)
        ));
    }
    if slice.skipped() > 0 {
        parts.push(format!("{} skipped", thousands(slice.skipped())));
    }
    parts.push(match slice.error_count() {
        0 => "no errors".to_owned(),
        n => count(n, "ERROR", "ERRORS"),
    });
    format!("{:>7}  {}\n", instant(slice.start_s + slice.length_s), parts.join("  "))
}

pub(super) fn summary(loaded: &Loaded) -> String {
    let mut text = String::new();
    let out = &mut text;
    let _ = writeln!(out);
    let diagnosis = diagnose(loaded);
    let _ = writeln!(out, "{}", diagnosis.first);
    for row in &diagnosis.evidence {
        let _ = writeln!(out, "- {}", one_line(row, 500));
    }
    let _ = writeln!(out);
    load(out, loaded);
    latencies(out, &loaded.total);
    if let Some(run) = &loaded.run {
        delivery(out, run);
    }
    codes(out, &loaded.total);
    errors(out, loaded);
    if let Some(run) = &loaded.run {
        server_events(out, run);
        machines(out, run);
        checks(out, run);
    }
    text
}

fn row(out: &mut String, label: &str, text: &str) {
    let _ = writeln!(out, "{label:<12}{text}");
}

fn load(out: &mut String, loaded: &Loaded) {
    let total = &loaded.total;
    let (asked, started, requests, completed) = story::rates(loaded);
    if let (Some(planned), Some(asked)) = (loaded.planned(), asked) {
        row(out, "asked", &format!("{}, {}/s", count(planned, "user", "users"), rate(asked)));
    }
    let mut text = format!("{}, {}/s", count(total.launched(), "user", "users"), rate(started));
    if let Some(late) = total.summary(names::START_LATENESS) {
        let _ = write!(text, "; late by {} (p99)", milliseconds(late.p99));
    }
    if total.skipped() > 0 {
        let arrivals = total.launched() + total.skipped();
        let _ =
            write!(text, "; {} skipped ({})", thousands(total.skipped()), percent(total.skipped(), arrivals));
    }
    row(out, "started", &text);
    let failed =
        if total.failed() == 0 { String::new() } else { format!("; {} failed", thousands(total.failed())) };
    row(
        out,
        "completed",
        &format!("{}, TPS {}/s{failed}", count(total.completed(), "scenario", "scenarios"), rate(completed)),
    );
    row(
        out,
        "requests",
        &format!(
            "{} sent, {}/s; {} completed",
            thousands(total.requests_started),
            rate(requests),
            thousands(total.requests_completed)
        ),
    );
    if let Some(peak) = loaded.peak_users() {
        let listeners = loaded.run.as_ref().map_or(0, |r| r.meta.listeners);
        let beside = if listeners > 0 {
            format!(", beside {}", count(listeners as u64, "listener", "listeners"))
        } else {
            String::new()
        };
        row(out, "at once", &format!("{} at most{beside}", count(peak, "user", "users")));
    }
    if loaded.scenario_counts.len() > 1 {
        let all = sum_of(loaded.scenario_counts.values().copied());
        for (name, n) in &loaded.scenario_counts {
            row(out, "scenario", &format!("{name}: {} ({})", thousands(*n), percent(*n, all)));
        }
    }
}

fn latencies(out: &mut String, total: &Slice) {
    if total.answered.is_none() {
        let _ = writeln!(out, "\nno request was answered, so there is no latency");
    }
    // Stages nobody went through (name lookup of an address, TLS of plain HTTP) are all zero.
    let shown = || total.summaries.iter().filter(|(name, s)| s.max > 0.0 || !name.contains(".connect."));
    let label = |name: &str| match name.strip_prefix(ENDPOINTS) {
        Some(endpoint) => format!("endpoint {}", one_line(endpoint, 60)),
        None => one_line(name, 60),
    };
    let or_blank = |v: Option<f64>| v.map_or_else(|| "-".to_owned(), figure);
    let head = ["count", "min", "mean", "p50", "p95", "p99", "p99.9", "max"].map(str::to_owned);
    let mut rows = vec![("times in ms".to_owned(), head)];
    rows.extend(shown().map(|(name, s)| {
        let Summary { count, min, max, mean, median, p95, p99, p999, .. } = *s;
        let count = count.map_or_else(|| "-".to_owned(), thousands);
        let cells = [
            count,
            figure(min),
            or_blank(mean),
            figure(median),
            figure(p95),
            figure(p99),
            or_blank(p999),
            figure(max),
        ];
        (label(name), cells)
    }));
    if rows.len() == 1 {
        return;
    }
    let _ = writeln!(out);
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    for (name, cells) in rows {
        let _ = write!(out, "{name:<width$} ");
        for (cell, width) in cells.iter().zip([11, 9, 9, 9, 9, 9, 9, 9]) {
            let _ = write!(out, "{cell:>width$}");
        }
        let _ = writeln!(out);
    }
}

fn delivery(out: &mut String, run: &Run) {
    let Some(d) = &run.delivery else { return };
    let _ = writeln!(out);
    row(
        out,
        "delivery",
        &format!(
            "{} of “{}”, {} heard",
            count(d.messages, "message", "messages"),
            d.event,
            thousands(d.heard)
        ),
    );
    match (&d.expectation, d.expected) {
        (Some(rule), Some(expected)) => row(
            out,
            "",
            &format!(
                "expected ({rule}) {}: {} missing, {} twice, {} uncalled for, {} out of order",
                thousands(expected),
                thousands(d.missing),
                thousands(d.duplicates),
                thousands(d.unexpected),
                thousands(d.out_of_order)
            ),
        ),
        _ => row(
            out,
            "",
            &format!(
                "no expectation was given; {} twice, {} out of order",
                thousands(d.duplicates),
                thousands(d.out_of_order)
            ),
        ),
    }
    if d.undecided > 0 {
        row(
            out,
            "",
            &format!(
                "{} undecided: the listener was moving or away, or the run ended",
                thousands(d.undecided)
            ),
        );
    }
    for class in story::classes(d) {
        row(out, "", &format!("class {}", one_line(&class, 200)));
    }
    if d.late > 0 {
        row(out, "", &format!("{} heard after the deadline, late or once more", thousands(d.late)));
    }
    if d.not_sent > 0 {
        row(
            out,
            "",
            &format!("{} not sent, so nobody was to hear them", count(d.not_sent, "message", "messages")),
        );
    }
    for sample in d.samples.iter().take(SAMPLES) {
        row(out, "", &format!("- {}", one_line(sample, 200)));
    }
    if d.samples.len() > SAMPLES {
        row(out, "", &format!("- and {} more, in the result file", d.samples.len() - SAMPLES));
    }
}

fn codes(out: &mut String, total: &Slice) {
    let http: Vec<_> = total.codes.iter().filter(|(code, _)| code.as_str() != "0").collect();
    if !http.is_empty() {
        let text: Vec<_> = http.iter().map(|(code, n)| format!("{code}: {}", thousands(**n))).collect();
        let _ = writeln!(out);
        row(out, "HTTP codes", &text.join(", "));
    }
}

fn errors(out: &mut String, loaded: &Loaded) {
    let groups = loaded.run.as_ref().map_or(&[][..], |r| &r.errors);
    if groups.is_empty() {
        let mut errors: Vec<_> = loaded.total.errors().collect();
        errors.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        if !errors.is_empty() {
            let _ = writeln!(out, "\nerrors");
        }
        for (name, n) in errors {
            let _ = writeln!(out, "{:>9}  {name}", thousands(n));
        }
        return;
    }
    let all = sum_of(groups.iter().map(|g| g.count));
    let _ = writeln!(out, "\nerrors: {}, {}", thousands(all), count(groups.len() as u64, "kind", "kinds"));
    for group in groups.iter().take(ROWS) {
        let _ = writeln!(
            out,
            "{:>9}  {} at {}, {}",
            thousands(group.count),
            group.cause,
            group.step,
            group.endpoint
        );
        let when = if group.count == 1 {
            format!("at {}", instant(group.first_s))
        } else {
            format!("from {} to {}", instant(group.first_s), instant(group.last_s))
        };
        let sample = one_line(&group.sample, 200);
        let sample = if sample.is_empty() { String::new() } else { format!("; first: {sample}") };
        let _ = writeln!(out, "{:>9}  {when}{sample}", "");
    }
    if groups.len() > ROWS {
        let rest = sum_of(groups[ROWS..].iter().map(|g| g.count));
        let _ = writeln!(
            out,
            "{:>9}  of {} more, in the result file",
            thousands(rest),
            count((groups.len() - ROWS) as u64, "kind", "kinds")
        );
    }
}

fn server_events(out: &mut String, run: &Run) {
    if run.server_events.is_empty() {
        return;
    }
    let mut events: Vec<_> = run.server_events.iter().collect();
    events.sort_by_key(|(_, n)| std::cmp::Reverse(**n));
    let mut text: Vec<_> =
        events.iter().take(ROWS).map(|(name, n)| format!("{name}: {}", thousands(**n))).collect();
    if events.len() > ROWS {
        text.push(format!("and {} more names", events.len() - ROWS));
    }
    let _ = writeln!(out);
    row(out, "events in", &text.join(", "));
}

fn machines(out: &mut String, run: &Run) {
    let memory = |samples: &[crate::outcome::ProcessSample]| {
        let peak = samples.iter().map(|s| s.rss_bytes).max().unwrap_or(0);
        format!("memory {} at most", bytes(peak))
    };
    let _ = writeln!(out);
    if let Some(target) = &run.target
        && let Some(cpu) = story::cpu_text(&target.samples)
    {
        row(
            out,
            "target",
            &format!(
                "{} (pid {}): {cpu}; {}",
                story::program(&target.command),
                target.pid,
                memory(&target.samples)
            ),
        );
    }
    if let Some(cpu) = story::cpu_text(&run.tester) {
        row(out, "tester", &format!("{cpu}; {}", memory(&run.tester)));
    }
}

fn checks(out: &mut String, run: &Run) {
    for check in &run.checks {
        let kind = match check.kind {
            CheckKind::Ensure => "ensure",
            CheckKind::Expect => "expect",
        };
        let verdict = match (check.passed, check.strict) {
            (true, _) => "ok",
            (false, true) => "FAILED",
            (false, false) => "failed (not strict)",
        };
        row(out, kind, &format!("{verdict}: {} (observed {})", check.expression, check.observed));
    }
}

/// Control characters and line breaks as spaces, cut to `most` characters.
pub(crate) fn one_line(text: &str, most: usize) -> String {
    let mut line = String::new();
    for (i, c) in text.trim().chars().enumerate() {
        if i == most {
            line.push('…');
            break;
        }
        line.push(if c.is_control() { ' ' } else { c });
    }
    line
}
