//! The report as one page that needs nothing else: no network, no library, and no script to be read (a small one adds
//! a common cursor and zoom).

use askama::Template;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::blocks::{Block, Section};
use super::diagnosis::{self, Kind, Mood};
use super::loaded::{Loaded, Origin, Run};
use super::story;
use super::svg::Span;
use super::tables::MOST_ROWS;
use super::terms::{Term, terms};
use super::units::{bytes, count, duration, figure, instant, latency, percent, rate, sum_of, thousands};
use super::views;
use crate::outcome::{CheckKind, PhaseInfo, names};

pub(crate) const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
const LIVE_SCRIPT: &str = include_str!("live.js");

/// The page. Clock times are shown in the machine's time zone.
pub fn render(loaded: &Loaded) -> String {
    render_in_zone(loaded, &TimeZone::system())
}

pub fn render_in_zone(loaded: &Loaded, zone: &TimeZone) -> String {
    let page = Page::of(loaded, zone, Stage::Over);
    // Writing to a String cannot fail.
    page.render().unwrap_or_default()
}

/// The page of a run that `is_over` or goes on, as it is served while somebody watches: it asks for its successor.
pub fn render_live(loaded: &Loaded, is_over: bool) -> String {
    let stage = if is_over { Stage::JustOver } else { Stage::Running };
    Page::of(loaded, &TimeZone::system(), stage).render().unwrap_or_default()
}

/// Whether the run of a page goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Over,
    /// Served live, the final report.
    JustOver,
    Running,
}

#[derive(Template)]
#[template(path = "page.html")]
struct Page {
    style: &'static str,
    script: &'static str,
    live_script: Option<&'static str>,
    running: bool,
    title: String,
    subtitle: Vec<String>,
    diagnosis: Diagnosis,
    status: &'static str,
    banners: Vec<Banner>,
    checks: Vec<CheckRow>,
    tiles: Vec<Tile>,
    terms: Vec<Term>,
    phases: Vec<PhaseBox>,
    sections: Vec<Section>,
    x_ticks: Vec<(f64, String)>,
    server_events: Vec<(String, String)>,
    scenarios: Vec<(String, String, String)>,
    metadata: Vec<(&'static str, String)>,
    /// Safe inside a script element.
    chart_data: String,
    result_json: Option<String>,
    result_name: String,
}

/// What the run came to: one sentence, and what it rests on.
struct Diagnosis {
    first: String,
    evidence: Vec<String>,
    mood: &'static str,
}

fn diagnosis(found: &diagnosis::Diagnosis) -> Diagnosis {
    Diagnosis {
        first: unbroken(&found.first),
        evidence: found.evidence.iter().map(|row| unbroken(row)).collect(),
        mood: match found.mood {
            Mood::Good => "good",
            Mood::Note => "note",
            Mood::Bad => "bad",
        },
    }
}

struct Banner {
    /// `good`, `bad` or `note`.
    mood: &'static str,
    head: String,
    text: String,
    /// (what, measured, limit, held)
    rules: Vec<(String, String, String, bool)>,
}

struct Tile {
    label: &'static str,
    value: String,
    unit: &'static str,
    below: String,
    mood: &'static str,
}

struct PhaseBox {
    /// Shares of the time axis, 0 to 1.
    from: f64,
    to: f64,
    name: String,
    load: String,
    quiet: bool,
}

struct CheckRow {
    kind: &'static str,
    expression: String,
    observed: String,
    verdict: &'static str,
    mood: &'static str,
}

impl Page {
    fn of(loaded: &Loaded, zone: &TimeZone, stage: Stage) -> Self {
        let axis = axis(loaded);
        let sections = views::sections(loaded, axis);
        let figures = || {
            sections.iter().flat_map(|s| &s.blocks).flat_map(|block| match block {
                Block::Figures(figures) | Block::Multiples(figures) => &figures[..],
                _ => &[],
            })
        };
        let data: Vec<_> = figures().filter_map(|f| f.data.as_ref()).collect();
        let chart_data =
            serde_json::json!({ "from": axis.from_s, "to": axis.to_s, "charts": data }).to_string();
        let running = stage == Stage::Running;
        let found = diagnosis::diagnose(loaded);
        let (status, mood) = if running { ("running", "note") } else { status(loaded, found.mood) };
        Self {
            style: STYLE,
            script: SCRIPT,
            live_script: (stage != Stage::Over).then_some(LIVE_SCRIPT),
            running,
            title: loaded.short_name().to_owned(),
            subtitle: subtitle(loaded, zone),
            diagnosis: if running { so_far(loaded, mood) } else { diagnosis(&found) },
            status,
            banners: banners(loaded, running),
            checks: checks(loaded),
            tiles: tiles(loaded, running),
            terms: terms(loaded),
            phases: loaded
                .phases
                .iter()
                .filter(|phase| phase.start_s < axis.to_s)
                .map(|phase| PhaseBox::of(phase, axis))
                .collect(),
            x_ticks: x_ticks(axis),
            server_events: server_events(loaded),
            scenarios: scenarios(loaded),
            metadata: metadata(loaded, zone),
            chart_data: inside_script(&chart_data),
            result_json: loaded.json.as_deref().map(inside_script),
            result_name: file_name(loaded),
            sections,
        }
    }
}

/// In place of a diagnosis while the run goes on: nothing is judged before its end.
fn so_far(loaded: &Loaded, mood: &'static str) -> Diagnosis {
    let total = &loaded.total;
    let at = loaded.duration_s;
    let started = match loaded.planned() {
        Some(planned) => format!("{} of {} users started", thousands(total.launched()), thousands(planned)),
        None => format!("{} started", count(total.launched(), "user", "users")),
    };
    let errors = match total.error_count() {
        0 => "no error so far".to_owned(),
        n => count(n, "error", "errors"),
    };
    let first = format!(
        "Running for {}: {started}, {} completed, {errors}.",
        duration(at),
        thousands(total.completed())
    );
    let phase = loaded.phases.iter().enumerate().rfind(|(_, p)| p.start_s <= at).map(|(i, p)| {
        let name = if p.name.is_empty() { String::new() } else { format!(" “{}”", p.name) };
        let load = p.load.replace("->", "→");
        if at > p.start_s + p.duration_s {
            "All phases are over; the last users are at work.".to_owned()
        } else {
            let left = duration((p.start_s + p.duration_s - at).round());
            format!("Phase {} of {}{name}: {load}, {left} left.", i + 1, loaded.phases.len())
        }
    });
    let delivery = loaded.run.as_ref().and_then(|run| {
        let delivery = run.delivery.as_ref().filter(|d| d.heard > 0 || d.missing > 0)?;
        let mut text = story::delivery(run)?;
        // In the middle of a sentence.
        if let Some(first) = text.get_mut(..1) {
            first.make_ascii_lowercase();
        }
        Some(format!("Of {} judged so far: {text}", count(delivery.messages, "message", "messages")))
    });
    Diagnosis { first: unbroken(&first), evidence: phase.into_iter().chain(delivery).collect(), mood }
}

/// `</script>` and comments cannot occur in it; still the same JSON.
fn inside_script(json: &str) -> String {
    json.replace('<', "\\u003c")
}

fn file_name(loaded: &Loaded) -> String {
    match &loaded.run {
        Some(run) => format!("drumfire-{}.json", run.meta.run_id),
        None => loaded.short_name().to_owned(),
    }
}

fn clock(ms: u64, zone: &TimeZone, form: &str) -> String {
    let at = i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    at.map_or_else(String::new, |at| at.to_zoned(zone.clone()).strftime(form).to_string())
}

fn axis(loaded: &Loaded) -> Span {
    Span { from_s: 0.0, to_s: loaded.end_s().max(1.0) }
}

pub(crate) fn x_ticks(axis: Span) -> Vec<(f64, String)> {
    let length = axis.to_s - axis.from_s;
    let step = [1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0]
        .into_iter()
        .find(|step| length / step <= 8.0)
        .unwrap_or_else(|| (length / 8.0 / 3600.0).ceil() * 3600.0);
    let mut ticks = Vec::new();
    let mut at = 0.0;
    // A label at the very end would stand outside.
    while at <= length * 0.97 {
        ticks.push((at / length, seconds_label(at)));
        at += step;
    }
    ticks
}

fn seconds_label(at: f64) -> String {
    let whole = at as u64;
    if whole < 120 {
        format!("{whole} s")
    } else if whole < 3600 {
        format!("{}:{:02}", whole / 60, whole % 60)
    } else {
        format!("{}:{:02}:{:02}", whole / 3600, whole % 3600 / 60, whole % 60)
    }
}

// ------------------------------------------------------------------------------------------------ words and figures

fn subtitle(loaded: &Loaded, zone: &TimeZone) -> Vec<String> {
    let mut parts = Vec::new();
    if let Some(run) = &loaded.run {
        parts.push(run.meta.target.clone());
    }
    if let Some(ms) = loaded.started_at_ms {
        parts.push(clock(ms, zone, "%Y-%m-%d %H:%M:%S %:z"));
    }
    parts.push(duration(loaded.duration_s));
    parts.push(match (loaded.origin, &loaded.run) {
        (Origin::ArtilleryV1, _) => "measured by Artillery 1".to_owned(),
        (Origin::ArtilleryV2, _) => "measured by Artillery 2".to_owned(),
        (_, Some(run)) => format!("run {}", run.meta.run_id),
        _ => String::new(),
    });
    parts
}

/// In two words, and good or bad.
fn status(loaded: &Loaded, mood: Mood) -> (&'static str, &'static str) {
    let total = &loaded.total;
    let run = loaded.run.as_ref();
    let missing =
        run.and_then(|r| r.delivery.as_ref()).is_some_and(|d| d.expected.is_some() && d.missing > 0);
    if run.is_some_and(|r| !r.validity.valid) {
        ("invalid run", "bad")
    } else if run.is_some_and(|r| r.checks.iter().any(|c| c.strict && !c.passed)) {
        ("checks failed", "bad")
    } else if total.error_count() > 0 || total.failed() > 0 {
        ("with errors", "bad")
    } else if missing {
        ("deliveries missing", "bad")
    } else if run.is_some_and(|r| r.interrupted.is_some()) {
        ("ended early", "note")
    } else if total.launched() == 0 {
        ("nothing ran", "note")
    } else {
        match mood {
            Mood::Good => ("no errors", "good"),
            Mood::Note => ("no errors", "note"),
            Mood::Bad => ("no errors, but not well", "bad"),
        }
    }
}

/// A figure and its unit stay on one line.
fn unbroken(text: &str) -> String {
    let mut text = text.to_owned();
    for unit in ["%", "ms", "s", "min", "h", "users", "errors"] {
        for end in [" ", ",", ".", ";", ":", ")"] {
            text = text.replace(&format!(" {unit}{end}"), &format!("\u{a0}{unit}{end}"));
        }
    }
    text
}

fn banners(loaded: &Loaded, running: bool) -> Vec<Banner> {
    let mut banners = Vec::new();
    if let Some(note) = story::foreign_note(loaded) {
        banners.push(Banner {
            mood: "note",
            head: "About these figures".to_owned(),
            text: note.to_owned(),
            rules: Vec::new(),
        });
    }
    let Some(run) = &loaded.run else { return banners };
    let rules = run
        .validity
        .rules
        .iter()
        .map(|r| (r.what.clone(), r.measured.clone(), r.limit.replace(' ', "\u{a0}"), r.held))
        .collect();
    let mut validity = if run.validity.valid {
        Banner {
            mood: "good",
            head: if running { "Valid so far" } else { "Valid run" }.to_owned(),
            text: match loaded.total.launched() {
                0 => "The tester kept to its schedule; no user was due, so nothing is said of the target.",
                _ => "The tester kept to its schedule, so the figures speak of the target.",
            }
            .to_owned(),
            rules,
        }
    } else {
        Banner {
            mood: "bad",
            head: if running { "Invalid so far" } else { "Invalid run" }.to_owned(),
            text: "The tester did not do what was asked of it; do not trust these figures.".to_owned(),
            rules,
        }
    };
    if diagnosis::diagnose(loaded).kind == Kind::TesterBound {
        validity.text += " The tester itself was the bottleneck: give it more cores, or ask for less.";
    }
    banners.push(validity);
    if let Some(text) = story::unconfirmed(loaded) {
        let (head, remedy) = text.split_once(": ").unwrap_or((&text, ""));
        let mut remedy = remedy.to_owned();
        if let Some(first) = remedy.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        banners.push(Banner {
            mood: "note",
            head: format!("{head}."),
            text: format!(
                "{remedy}. Without it nobody knows whether they arrived, and they have no latency."
            ),
            rules: Vec::new(),
        });
    }
    banners
}

fn tiles(loaded: &Loaded, running: bool) -> Vec<Tile> {
    let total = &loaded.total;
    let (asked, started, requests, _) = story::rates(loaded);
    let mut tiles = vec![Tile {
        label: "Users",
        value: thousands(total.launched()),
        unit: "",
        below: match loaded.planned() {
            Some(planned) if planned != total.launched() => {
                format!("of {} planned · {}/s", thousands(planned), rate(started))
            }
            _ => asked.map_or_else(
                || format!("{}/s", rate(started)),
                |a| format!("{}/s asked · {}/s", rate(a), rate(started)),
            ),
        },
        mood: if total.skipped() > 0 { "bad" } else { "" },
    }];
    tiles.push(Tile {
        label: "Completed",
        value: percent(total.completed(), total.launched()).trim_end_matches(" %").to_owned(),
        unit: if total.launched() > 0 { "%" } else { "" },
        below: match (total.failed(), total.skipped()) {
            (0, 0) => count(total.completed(), "scenario", "scenarios"),
            (failed, 0) => format!("{} failed", thousands(failed)),
            (failed, skipped) => format!("{} failed · {} skipped", thousands(failed), thousands(skipped)),
        },
        // While the run goes on there is always somebody at work.
        mood: if total.failed() > 0 || (!running && total.completed() < total.launched()) {
            "bad"
        } else {
            ""
        },
    });
    tiles.push(Tile {
        label: "Requests",
        value: rate(requests),
        unit: "/s",
        below: format!("{} in all", thousands(total.requests_started)),
        mood: "",
    });
    let (value, unit, below) = match &total.answered {
        Some(s) => (figure(s.p99), "ms", format!("half within {}", latency(s.median))),
        None => ("n/a".to_owned(), "", "no request was answered".to_owned()),
    };
    tiles.push(Tile { label: "Latency, p99", value, unit, below, mood: "" });
    if let Some(due) = total.summary(names::RESPONSE_FROM_DUE) {
        tiles.push(Tile {
            label: "Response from due, p99",
            value: figure(due.p99),
            unit: "ms",
            below: format!("half within {}", latency(due.median)),
            mood: "",
        });
    }
    if let Some(delivery) = loaded.run.as_ref().and_then(|r| r.delivery.as_ref()) {
        let p99 = total
            .summary(names::DELIVERY)
            .map_or_else(String::new, |s| format!(" · p99\u{a0}{}", latency(s.p99).replace(' ', "\u{a0}")));
        tiles.push(match delivery.expected {
            Some(expected) => Tile {
                label: "Delivered",
                value: percent(expected - delivery.missing.min(expected), expected)
                    .trim_end_matches(" %")
                    .to_owned(),
                unit: if expected > 0 { "%" } else { "" },
                below: if delivery.missing == 0 {
                    format!("{} expected{p99}", thousands(expected))
                } else {
                    format!("{} missing{p99}", thousands(delivery.missing))
                },
                mood: if delivery.missing > 0 { "bad" } else { "" },
            },
            None => Tile {
                label: "Deliveries heard",
                value: thousands(delivery.heard),
                unit: "",
                below: format!("no expectation{p99}"),
                mood: "",
            },
        });
    }
    if let Some(peak) = loaded.peak_users() {
        let listeners = loaded.run.as_ref().map_or(0, |r| r.meta.listeners);
        tiles.push(Tile {
            label: "Users at once",
            value: thousands(peak),
            unit: "",
            below: if listeners > 0 {
                format!("at most · {} listeners", thousands(listeners as u64))
            } else {
                "at most".to_owned()
            },
            mood: "",
        });
    }
    let errors = total.error_count();
    let kinds = loaded.run.as_ref().map_or_else(|| total.errors().count(), |r| r.errors.len());
    let mut below = if errors == 0 { "none".to_owned() } else { count(kinds as u64, "kind", "kinds") };
    // Answers to Artillery, and not among its errors.
    let refused = total.server_errors();
    if refused > 0 {
        below += &format!(" · {} with HTTP 5xx", count(refused, "answer", "answers"));
    }
    tiles.push(Tile {
        label: "Errors",
        value: thousands(errors),
        unit: "",
        below,
        mood: if errors > 0 || refused > 0 { "bad" } else { "" },
    });
    if let Some(target) = loaded.run.as_ref().and_then(|r| r.target.as_ref())
        && let Some((mean, _, peak)) = story::cpu(&target.samples)
    {
        let memory = target.samples.iter().map(|s| s.rss_bytes).max().unwrap_or(0);
        tiles.push(Tile {
            label: "Target CPU",
            value: format!("{mean:.2}"),
            unit: "cores",
            below: format!("busiest thread {:.0} % · {}", peak * 100.0, bytes(memory)),
            mood: if peak >= 0.95 { "bad" } else { "" },
        });
    }
    tiles
}

fn server_events(loaded: &Loaded) -> Vec<(String, String)> {
    let Some(run) = &loaded.run else { return Vec::new() };
    let mut events: Vec<_> = run.server_events.iter().collect();
    events.sort_by_key(|(_, n)| std::cmp::Reverse(**n));
    let rest = events.len().saturating_sub(MOST_ROWS);
    let mut rows: Vec<_> =
        events.iter().take(MOST_ROWS).map(|(name, n)| ((*name).clone(), thousands(**n))).collect();
    if rest > 0 {
        rows.push((format!("{rest} more names"), String::new()));
    }
    rows
}

fn scenarios(loaded: &Loaded) -> Vec<(String, String, String)> {
    let all = sum_of(loaded.scenario_counts.values().copied());
    loaded
        .scenario_counts
        .iter()
        .take(MOST_ROWS)
        .map(|(name, n)| (name.clone(), thousands(*n), percent(*n, all)))
        .collect()
}

fn checks(loaded: &Loaded) -> Vec<CheckRow> {
    let checks = loaded.run.as_ref().map_or(&[][..], |r| &r.checks);
    checks
        .iter()
        .map(|c| {
            let (verdict, mood) = match (c.passed, c.strict) {
                (true, _) => ("ok", "good"),
                (false, true) => ("failed", "bad"),
                (false, false) => ("failed, not strict", "note"),
            };
            CheckRow {
                kind: match c.kind {
                    CheckKind::Ensure => "ensure",
                    CheckKind::Expect => "expect",
                },
                expression: c.expression.clone(),
                observed: c.observed.clone(),
                verdict,
                mood,
            }
        })
        .collect()
}

fn metadata(loaded: &Loaded, zone: &TimeZone) -> Vec<(&'static str, String)> {
    let mut rows = Vec::new();
    if let Some(ms) = loaded.started_at_ms {
        rows.push(("Started", clock(ms, zone, "%Y-%m-%d %H:%M:%S.%3f %:z")));
    }
    rows.push(("Length", duration(loaded.duration_s)));
    if let Some(Run { meta, interrupted, ended_after_s, target, .. }) = &loaded.run {
        rows.push(("Script", meta.script.clone()));
        rows.push(("Script SHA-256", meta.script_sha256.clone()));
        rows.push(("Target", meta.target.clone()));
        if let Some(target) = target {
            rows.push(("Target process", format!("{} (pid {})", target.command, target.pid)));
        }
        rows.push(("Command", meta.command_line.clone()));
        rows.push(("Seed", meta.seed.to_string()));
        rows.push(("Host", meta.host.clone()));
        rows.push(("Worker threads", meta.workers.to_string()));
        if let Some(revision) = meta.engine_revision {
            rows.push(("Engine.IO revision", revision.to_string()));
        }
        if meta.listeners > 0 {
            rows.push(("Listeners", thousands(meta.listeners as u64)));
        }
        rows.push(("Run", meta.run_id.clone()));
        rows.push(("Written by", format!("drumfire {}", meta.tool_version)));
        if let Some(signal) = interrupted {
            rows.push(("Ended early by", signal.clone()));
        }
        if let Some(seconds) = ended_after_s {
            rows.push(("Ended early by", format!("--max-duration, after {}", duration(*seconds))));
        }
    }
    for phase in &loaded.phases {
        let name = if phase.name.is_empty() { "unnamed" } else { &phase.name };
        let users = if phase.planned > 0 {
            format!(", {}", count(phase.planned, "user", "users"))
        } else {
            String::new()
        };
        rows.push((
            "Phase",
            format!(
                "{name}: {} for {} from {}{users}",
                phase.load.replace("->", "→"),
                duration(phase.duration_s),
                instant(phase.start_s)
            ),
        ));
    }
    rows
}

impl PhaseBox {
    fn of(phase: &PhaseInfo, axis: Span) -> Self {
        let share = |s: f64| ((s - axis.from_s) / (axis.to_s - axis.from_s)).clamp(0.0, 1.0);
        Self {
            from: share(phase.start_s),
            to: share(phase.start_s + phase.duration_s),
            name: phase.name.clone(),
            load: phase.load.replace("->", "→"),
            quiet: phase.is_quiet(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_inside_a_script_element_can_end_it() {
        assert_eq!(inside_script(r#"{"a":"</script><!--"}"#), r#"{"a":"\u003c/script>\u003c!--"}"#);
    }

    #[test]
    fn ticks_of_the_time_axis_are_round() {
        let labels =
            |to_s| x_ticks(Span { from_s: 0.0, to_s }).into_iter().map(|t| t.1).collect::<Vec<_>>().join(" ");
        assert_eq!(labels(31.0), "0 s 5 s 10 s 15 s 20 s 25 s 30 s");
        assert_eq!(labels(900.0), "0 s 2:00 4:00 6:00 8:00 10:00 12:00 14:00");
        assert_eq!(labels(4.0 * 3600.0), "0 s 30:00 1:00:00 1:30:00 2:00:00 2:30:00 3:00:00 3:30:00");
    }
}
