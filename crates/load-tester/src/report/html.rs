//! The report as one page that needs nothing else: no network, no library, and no script to be read (a small one adds
//! a common cursor and zoom).

use std::collections::{BTreeMap, BTreeSet};

use askama::Template;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::loaded::{Loaded, Origin, Run, Slice, Summary};
use super::story::{self, Bottleneck};
use super::svg::{self, Chart, Mark, Series, Span};
use super::terms::{Term, terms};
use super::units::{bytes, count, duration, figure, instant, latency, percent, rate, thousands};
use crate::outcome::{CheckKind, PhaseInfo, ProcessSample, names};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
/// Series of one chart beyond this many are drawn together as the rest.
const MOST_SERIES: usize = 6;
/// Rows of one table.
const MOST_ROWS: usize = 200;
const ENDPOINTS: &str = "plugins.metrics-by-endpoint.response_time.";

/// The page. Clock times are shown in the machine's time zone.
pub fn render(loaded: &Loaded) -> String {
    render_in_zone(loaded, &TimeZone::system())
}

pub fn render_in_zone(loaded: &Loaded, zone: &TimeZone) -> String {
    let page = Page::of(loaded, zone);
    // Writing to a String cannot fail.
    page.render().unwrap_or_default()
}

#[derive(Template)]
#[template(path = "page.html")]
struct Page {
    style: &'static str,
    script: &'static str,
    title: String,
    subtitle: Vec<String>,
    /// The first sentence, and those that follow it.
    verdict: String,
    more: Vec<String>,
    mood: &'static str,
    status: &'static str,
    banners: Vec<Banner>,
    tiles: Vec<Tile>,
    terms: Vec<Term>,
    phases: Vec<PhaseBox>,
    charts: Vec<Drawn>,
    x_ticks: Vec<(f64, String)>,
    errors: Option<ErrorTable>,
    distributions: Vec<Table>,
    delivery: Vec<(String, String)>,
    delivery_samples: Vec<String>,
    server_events: Vec<(String, String)>,
    scenarios: Vec<(String, String, String)>,
    checks: Vec<CheckRow>,
    metadata: Vec<(&'static str, String)>,
    /// Safe inside a script element.
    chart_data: String,
    result_json: Option<String>,
    result_name: String,
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

struct Drawn {
    id: String,
    title: String,
    unit: &'static str,
    note: String,
    log: bool,
    svg: String,
    ticks: Vec<(f64, String)>,
    legend: Vec<(u8, &'static str, String, String)>,
    tall: bool,
}

struct ErrorTable {
    total: String,
    detailed: bool,
    rows: Vec<ErrorRow>,
    more: String,
}

struct ErrorRow {
    count: String,
    step: String,
    endpoint: String,
    cause: String,
    first: String,
    last: String,
    sample: String,
}

struct Table {
    title: &'static str,
    note: &'static str,
    rows: Vec<[String; 9]>,
}

struct CheckRow {
    kind: &'static str,
    expression: String,
    observed: String,
    verdict: &'static str,
    mood: &'static str,
}

/// What the script of the page needs to show values under the cursor.
#[derive(Serialize)]
struct ChartData {
    id: String,
    unit: &'static str,
    /// Start of each point, seconds.
    x: Vec<f64>,
    s: Vec<Vec<Option<f64>>>,
}

impl Page {
    fn of(loaded: &Loaded, zone: &TimeZone) -> Self {
        let axis = axis(loaded);
        let boundaries: Vec<f64> = loaded.phases.iter().map(|p| p.start_s).filter(|s| *s > 0.0).collect();
        let charts = charts(loaded);
        let data: Vec<ChartData> = charts
            .iter()
            .enumerate()
            .map(|(i, c)| ChartData {
                id: format!("c{i}"),
                unit: c.unit,
                x: c.spans.iter().map(|s| s.from_s).collect(),
                s: c.series.iter().map(|s| s.values.iter().map(|v| v.map(rounded)).collect()).collect(),
            })
            .collect();
        let chart_data = serde_json::json!({ "from": axis.from_s, "to": axis.to_s, "charts": data });
        let mut sentences = story::outcome(loaded).into_iter().map(|s| unbroken(&s));
        let (status, mood) = status(loaded);
        Self {
            style: STYLE,
            script: SCRIPT,
            title: loaded.short_name().to_owned(),
            subtitle: subtitle(loaded, zone),
            verdict: sentences.next().unwrap_or_default(),
            more: sentences.collect(),
            mood,
            status,
            banners: banners(loaded),
            tiles: tiles(loaded),
            terms: terms(loaded),
            phases: loaded.phases.iter().map(|p| PhaseBox::of(p, axis)).collect(),
            charts: charts.iter().enumerate().map(|(i, c)| Drawn::of(i, c, axis, &boundaries)).collect(),
            x_ticks: x_ticks(axis),
            errors: error_table(loaded),
            distributions: distributions(&loaded.total),
            delivery: delivery_rows(loaded),
            delivery_samples: loaded
                .run
                .as_ref()
                .and_then(|r| r.delivery.as_ref())
                .map_or_else(Vec::new, |d| d.samples.clone()),
            server_events: server_events(loaded),
            scenarios: scenarios(loaded),
            checks: checks(loaded),
            metadata: metadata(loaded, zone),
            chart_data: inside_script(&chart_data.to_string()),
            result_json: loaded.json.as_deref().map(inside_script),
            result_name: file_name(loaded),
        }
    }
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

fn rounded(value: f64) -> f64 {
    let digits = if value.abs() >= 100.0 { 10.0 } else { 1000.0 };
    (value * digits).round() / digits
}

fn clock(ms: u64, zone: &TimeZone, form: &str) -> String {
    let at = i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    at.map_or_else(String::new, |at| at.to_zoned(zone.clone()).strftime(form).to_string())
}

fn axis(loaded: &Loaded) -> Span {
    let last = loaded.slices.iter().map(|s| s.start_s + s.length_s).fold(loaded.duration_s, f64::max);
    let last = loaded.phases.iter().map(|p| p.start_s + p.duration_s).fold(last, f64::max);
    Span { from_s: 0.0, to_s: last.max(1.0) }
}

fn x_ticks(axis: Span) -> Vec<(f64, String)> {
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
fn status(loaded: &Loaded) -> (&'static str, &'static str) {
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
    } else {
        ("no errors", "good")
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

fn banners(loaded: &Loaded) -> Vec<Banner> {
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
        .map(|r| (r.what.clone(), r.measured.clone(), r.limit.clone(), r.held))
        .collect();
    let mut validity = if run.validity.valid {
        Banner {
            mood: "good",
            head: "Valid run".to_owned(),
            text: "The tester kept to its schedule, so the figures speak of the target.".to_owned(),
            rules,
        }
    } else {
        Banner {
            mood: "bad",
            head: "Invalid run".to_owned(),
            text: "The tester did not do what was asked of it; do not trust these figures.".to_owned(),
            rules,
        }
    };
    if let Bottleneck::Tester { .. } = story::bottleneck(loaded) {
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

fn tiles(loaded: &Loaded) -> Vec<Tile> {
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
        mood: if total.completed() < total.launched() { "bad" } else { "" },
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
    if let Some(run) = &loaded.run {
        if let Some(delivery) = &run.delivery {
            let p99 = total
                .summary(names::DELIVERY)
                .map_or_else(String::new, |s| format!(" · p99 {}", latency(s.p99)));
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
    tiles.push(Tile {
        label: "Errors",
        value: thousands(errors),
        unit: "",
        below: if errors == 0 { "none".to_owned() } else { count(kinds as u64, "kind", "kinds") },
        mood: if errors > 0 { "bad" } else { "" },
    });
    if let Some(target) = loaded.run.as_ref().and_then(|r| r.target.as_ref()) {
        if let Some((mean, _, peak)) = story::cpu(&target.samples) {
            let memory = target.samples.iter().map(|s| s.rss_bytes).max().unwrap_or(0);
            tiles.push(Tile {
                label: "Target CPU",
                value: format!("{mean:.2}"),
                unit: "cores",
                below: format!("busiest thread {:.0} % · {}", peak * 100.0, bytes(memory)),
                mood: if peak >= 0.95 { "bad" } else { "" },
            });
        }
    }
    tiles
}

fn error_table(loaded: &Loaded) -> Option<ErrorTable> {
    let groups = loaded.run.as_ref().map_or(&[][..], |r| &r.errors);
    if groups.is_empty() {
        let mut errors: Vec<_> = loaded.total.errors().collect();
        errors.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        let rows: Vec<_> = errors
            .iter()
            .take(MOST_ROWS)
            .map(|(name, n)| ErrorRow {
                count: thousands(*n),
                cause: (*name).to_owned(),
                step: String::new(),
                endpoint: String::new(),
                first: String::new(),
                last: String::new(),
                sample: String::new(),
            })
            .collect();
        return (!rows.is_empty()).then(|| ErrorTable {
            total: thousands(loaded.total.error_count()),
            detailed: false,
            rows,
            more: String::new(),
        });
    }
    let rows = groups
        .iter()
        .take(MOST_ROWS)
        .map(|g| ErrorRow {
            count: thousands(g.count),
            step: g.step.clone(),
            endpoint: g.endpoint.clone(),
            cause: g.cause.clone(),
            first: instant(g.first_s),
            last: instant(g.last_s),
            sample: g.sample.clone(),
        })
        .collect();
    let more = groups.len().saturating_sub(MOST_ROWS);
    Some(ErrorTable {
        total: thousands(groups.iter().map(|g| g.count).sum()),
        detailed: true,
        rows,
        more: if more > 0 { format!("{more} more kinds stand in the result file.") } else { String::new() },
    })
}

fn distributions(total: &Slice) -> Vec<Table> {
    let row = |name: &str, s: &Summary| {
        let optional = |v: Option<f64>| v.map_or_else(|| "–".to_owned(), figure);
        [
            name.to_owned(),
            s.count.map_or_else(|| "–".to_owned(), thousands),
            figure(s.min),
            optional(s.mean),
            figure(s.median),
            figure(s.p95),
            figure(s.p99),
            optional(s.p999),
            figure(s.max),
        ]
    };
    let (mut answers, mut endpoints, mut connect, mut delivery, mut other) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (name, s) in &total.summaries {
        if let Some(endpoint) = name.strip_prefix(ENDPOINTS) {
            endpoints.push(row(endpoint, s));
        } else if name.starts_with("plugins.metrics-by-endpoint.") {
            // Counted by other names above.
        } else if name.contains(".connect") {
            connect.push(row(name, s));
        } else if name.starts_with(names::DELIVERY) {
            delivery.push(row(name, s));
        } else if name.contains("response") || name == "latency" || name == "http.total" {
            answers.push(row(name, s));
        } else {
            other.push(row(name, s));
        }
    }
    // In the order in which a connection is made, not of the alphabet.
    connect.sort_by_key(|row| {
        names::CONNECT_STAGES.iter().position(|stage| *stage == row[0]).unwrap_or(names::CONNECT_STAGES.len())
    });
    endpoints.truncate(MOST_ROWS);
    [
        ("Answers", "From sending a request to its answer; from_due counts from the instant the user was to start.", answers),
        ("By endpoint", "From sending a request to the first byte of its answer.", endpoints),
        ("Delivery", "From sending a message to a listener hearing it, each pair; first, median and last hearer of each message.", delivery),
        ("Connecting", "Each stage of a socket connection.", connect),
        ("Sessions and schedule", "How long scenarios took, and how late users were started.", other),
    ]
    .into_iter()
    .filter(|(.., rows)| !rows.is_empty())
    .map(|(title, note, rows)| Table { title, note, rows })
    .collect()
}

fn delivery_rows(loaded: &Loaded) -> Vec<(String, String)> {
    let Some(d) = loaded.run.as_ref().and_then(|r| r.delivery.as_ref()) else { return Vec::new() };
    let mut rows = vec![
        (format!("Messages sent (“{}”)", d.event), thousands(d.messages)),
        ("Deliveries heard".to_owned(), thousands(d.heard)),
    ];
    match (&d.expectation, d.expected) {
        (Some(rule), Some(expected)) => {
            rows.push((format!("Expected ({rule})"), thousands(expected)));
            rows.push((
                "Missing".to_owned(),
                format!("{} ({})", thousands(d.missing), percent(d.missing, expected)),
            ));
            rows.push(("Heard by the wrong listener".to_owned(), thousands(d.unexpected)));
            if d.undecided > 0 {
                rows.push(("Undecided: the listener was moving".to_owned(), thousands(d.undecided)));
            }
        }
        _ => rows.push(("Expected".to_owned(), "nothing was said, so nothing is called complete".to_owned())),
    }
    rows.push(("Heard twice".to_owned(), thousands(d.duplicates)));
    rows.push(("Out of order".to_owned(), thousands(d.out_of_order)));
    if d.not_sent > 0 {
        rows.push(("Messages not sent".to_owned(), thousands(d.not_sent)));
    }
    rows
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
    let all: u64 = loaded.scenario_counts.values().sum();
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
    if let Some(Run { meta, interrupted, target, .. }) = &loaded.run {
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
                phase.load,
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
            quiet: phase.planned == 0,
        }
    }
}

// ----------------------------------------------------------------------------------------------------------- charts

impl Drawn {
    fn of(index: usize, chart: &Chart, axis: Span, boundaries: &[f64]) -> Self {
        let plot = svg::draw(chart, axis, boundaries);
        let legend = chart
            .series
            .iter()
            .map(|s| {
                let swatch = match s.mark {
                    Mark::Bars => "block",
                    Mark::Step => "dash",
                    Mark::Line | Mark::Faint => "stroke",
                };
                (s.colour, swatch, s.name.clone(), s.overall.clone())
            })
            .collect();
        Self {
            id: format!("c{index}"),
            title: chart.title.clone(),
            unit: chart.unit,
            note: chart.note.clone(),
            log: plot.log,
            svg: plot.svg,
            ticks: plot.ticks,
            legend,
            tall: chart.may_be_log,
        }
    }
}

fn charts(loaded: &Loaded) -> Vec<Chart> {
    let slices = &loaded.slices;
    if slices.is_empty() {
        return Vec::new();
    }
    let mut charts = vec![arrivals(loaded)];
    let answers = percentiles(
        slices,
        "Latency, from sending",
        "Service time: from sending each request to its answer, answered requests only.",
        |s| s.answered.as_ref(),
        loaded.total.answered.as_ref(),
    );
    let due = percentiles(
        slices,
        "Latency, from when it was due",
        "Response time: from the instant a user was to start to the first answer it got, so waiting in line counts.",
        |s| s.summary(names::RESPONSE_FROM_DUE),
        loaded.total.summary(names::RESPONSE_FROM_DUE),
    );
    charts.extend(answers);
    charts.extend(due);
    if let Some(target) = loaded.run.as_ref().and_then(|r| r.target.as_ref()) {
        charts.extend(cpu(
            &format!("Target CPU, {}", target.command),
            "Each thread of the target, stacked; 1 is one core busy all the time.",
            &target.samples,
        ));
        charts.extend(memory("Target memory", "Resident memory of the target.", &target.samples));
    }
    charts.extend(percentiles(
        slices,
        "Delivery, every hearer",
        "From sending a message to each listener hearing it.",
        |s| s.summary(names::DELIVERY),
        loaded.total.summary(names::DELIVERY),
    ));
    charts.extend(hearers(loaded));
    charts.extend(users(loaded));
    charts.push(throughput(loaded));
    charts.extend(errors(loaded));
    charts.extend(connect(loaded));
    if let Some(run) = &loaded.run {
        charts.extend(cpu(
            "Tester CPU",
            "Each thread of drumfire, stacked; a thread near 1 would distort what it measures.",
            &run.tester,
        ));
        charts.extend(memory("Tester memory", "Resident memory of drumfire.", &run.tester));
    }
    charts.extend(lateness(loaded));
    charts
}

fn spans(slices: &[Slice]) -> Vec<Span> {
    slices.iter().map(|s| Span { from_s: s.start_s, to_s: s.start_s + s.length_s }).collect()
}

/// Events a second of a counter.
fn per_second(slices: &[Slice], counter: impl Fn(&Slice) -> u64) -> Vec<Option<f64>> {
    slices.iter().map(|s| (s.length_s > 0.0).then(|| counter(s) as f64 / s.length_s)).collect()
}

fn series(name: &str, colour: u8, mark: Mark, values: Vec<Option<f64>>, overall: String) -> Series {
    Series { name: name.to_owned(), colour, mark, values, overall }
}

fn arrivals(loaded: &Loaded) -> Chart {
    let slices = &loaded.slices;
    let total = &loaded.total;
    let mut all = vec![series(
        "started",
        1,
        Mark::Bars,
        per_second(slices, Slice::launched),
        count(total.launched(), "user", "users"),
    )];
    if total.skipped() > 0 {
        all.push(series(
            "skipped",
            3,
            Mark::Line,
            per_second(slices, Slice::skipped),
            thousands(total.skipped()),
        ));
    }
    if let Some(planned) = loaded.planned() {
        let values = spans(slices)
            .iter()
            .map(|span| {
                Some(
                    planned_between(&loaded.phases, span.from_s, span.to_s)
                        / (span.to_s - span.from_s).max(1e-9),
                )
            })
            .collect();
        all.push(series("planned", 8, Mark::Step, values, thousands(planned)));
    }
    Chart {
        title: "Arrivals".to_owned(),
        note: "Users the plan asked for, and users started.".to_owned(),
        unit: "users/s",
        spans: spans(slices),
        series: all,
        stacked: false,
        may_be_log: false,
        at_least: None,
    }
}

/// Users due in a stretch of time, from the load of each phase in words.
fn planned_between(phases: &[PhaseInfo], from_s: f64, to_s: f64) -> f64 {
    phases
        .iter()
        .map(|phase| {
            let (a, b) = ((from_s - phase.start_s).max(0.0), (to_s - phase.start_s).min(phase.duration_s));
            if b <= a || phase.duration_s <= 0.0 || phase.planned == 0 {
                return 0.0;
            }
            let ramp = phase.load.trim_end_matches("/s").split_once("->").and_then(|(from, to)| {
                let number = |text: &str| text.trim().trim_end_matches("/s").parse::<f64>().ok();
                Some((number(from)?, number(to)?))
            });
            match ramp {
                Some((from, to)) => {
                    let slope = (to - from) / phase.duration_s;
                    from * (b - a) + slope * (b * b - a * a) / 2.0
                }
                None => phase.planned as f64 / phase.duration_s * (b - a),
            }
        })
        .sum()
}

fn percentiles<'a>(
    slices: &'a [Slice],
    title: &str,
    note: &str,
    of: impl Fn(&'a Slice) -> Option<&'a Summary>,
    total: Option<&Summary>,
) -> Option<Chart> {
    let total = total?;
    let values = |pick: fn(&Summary) -> f64| slices.iter().map(|s| of(s).map(pick)).collect();
    Some(Chart {
        title: title.to_owned(),
        note: note.to_owned(),
        unit: "ms",
        spans: spans(slices),
        series: vec![
            series("max", 6, Mark::Faint, values(|s| s.max), figure(total.max)),
            series("p99", 3, Mark::Line, values(|s| s.p99), figure(total.p99)),
            series("p95", 2, Mark::Line, values(|s| s.p95), figure(total.p95)),
            series("p50", 1, Mark::Line, values(|s| s.median), figure(total.median)),
        ],
        stacked: false,
        may_be_log: true,
        at_least: None,
    })
}

fn hearers(loaded: &Loaded) -> Option<Chart> {
    let total = loaded.total.summary(names::DELIVERY_LAST)?;
    let overall = |name: &str| loaded.total.summary(name).map_or_else(String::new, |s| figure(s.median));
    let values = |name: &str| loaded.slices.iter().map(|s| s.summary(name).map(|s| s.median)).collect();
    Some(Chart {
        title: "Delivery, first to last hearer".to_owned(),
        note: "Of a usual (median) message: when its first, its middle and its last hearer had it."
            .to_owned(),
        unit: "ms",
        spans: spans(&loaded.slices),
        series: vec![
            series("last", 3, Mark::Line, values(names::DELIVERY_LAST), figure(total.median)),
            series("middle", 2, Mark::Line, values(names::DELIVERY_MEDIAN), overall(names::DELIVERY_MEDIAN)),
            series("first", 1, Mark::Line, values(names::DELIVERY_FIRST), overall(names::DELIVERY_FIRST)),
        ],
        stacked: false,
        may_be_log: true,
        at_least: None,
    })
}

fn users(loaded: &Loaded) -> Option<Chart> {
    let slices = &loaded.slices;
    let values =
        |of: fn(&Slice) -> Option<u64>| slices.iter().map(|s| of(s).map(|n| n as f64)).collect::<Vec<_>>();
    let users = values(|s| s.concurrent_users);
    let connections = values(|s| s.connections);
    users.iter().flatten().next()?;
    let most = |values: &[Option<f64>]| {
        format!("{} at most", figure(values.iter().flatten().copied().fold(0.0, f64::max)))
    };
    let mut all = Vec::new();
    if connections.iter().flatten().any(|n| *n > 0.0) {
        all.push(series("connections", 4, Mark::Line, connections.clone(), most(&connections)));
    }
    all.push(series("users", 1, Mark::Line, users.clone(), most(&users)));
    Some(Chart {
        title: "Concurrent users and connections".to_owned(),
        note: "Alive at the end of each second; connections are the sockets of users and listeners."
            .to_owned(),
        unit: "open",
        spans: spans(slices),
        series: all,
        stacked: false,
        may_be_log: false,
        at_least: None,
    })
}

fn throughput(loaded: &Loaded) -> Chart {
    let (_, _, requests, completed) = story::rates(loaded);
    let slices = &loaded.slices;
    Chart {
        title: "Requests and completed scenarios".to_owned(),
        note: "HTTP requests and socket messages sent (RPS), and scenarios walked to their end (TPS)."
            .to_owned(),
        unit: "per second",
        spans: spans(slices),
        series: vec![
            series(
                "requests",
                8,
                Mark::Line,
                per_second(slices, |s| s.requests_started),
                format!("{}/s", rate(requests)),
            ),
            series(
                "completed",
                5,
                Mark::Line,
                per_second(slices, Slice::completed),
                format!("{}/s", rate(completed)),
            ),
        ],
        stacked: false,
        may_be_log: false,
        at_least: None,
    }
}

/// Stacked by kind, the most frequent first, the rest together.
fn errors(loaded: &Loaded) -> Option<Chart> {
    let mut kinds: Vec<_> = loaded.total.errors().collect();
    kinds.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    if kinds.is_empty() {
        return None;
    }
    let colours = [3, 2, 4, 7, 8];
    let mut all: Vec<Series> = kinds
        .iter()
        .zip(colours)
        .map(|((name, n), colour)| {
            let counter = format!("errors.{name}");
            series(
                name,
                colour,
                Mark::Bars,
                per_second(&loaded.slices, |s| s.counter(&counter)),
                thousands(*n),
            )
        })
        .collect();
    if kinds.len() > colours.len() {
        let shown: BTreeSet<&str> = kinds[..colours.len()].iter().map(|(name, _)| *name).collect();
        let rest = |s: &Slice| s.errors().filter(|(name, _)| !shown.contains(name)).map(|(_, n)| n).sum();
        let n = kinds[colours.len()..].iter().map(|(_, n)| n).sum();
        all.push(series("others", 6, Mark::Bars, per_second(&loaded.slices, rest), thousands(n)));
    }
    Some(Chart {
        title: "Errors by kind".to_owned(),
        note: "Failures in each second, stacked.".to_owned(),
        unit: "errors/s",
        spans: spans(&loaded.slices),
        series: all,
        stacked: true,
        may_be_log: false,
        at_least: None,
    })
}

fn connect(loaded: &Loaded) -> Option<Chart> {
    let stages: Vec<_> = names::CONNECT_STAGES
        .iter()
        .zip([6, 8, 4, 1, 2, 5])
        // Stages nobody went through (name lookup of an address, TLS of plain HTTP) only fill the legend.
        .filter(|(stage, _)| loaded.total.summary(stage).is_some_and(|s| s.max > 0.0))
        .map(|(stage, colour)| {
            let values = loaded.slices.iter().map(|s| s.summary(stage).and_then(|s| s.mean)).collect();
            let overall = loaded.total.summary(stage).and_then(|s| s.mean).map_or_else(String::new, figure);
            series(stage.trim_start_matches("socketio.connect."), colour, Mark::Bars, values, overall)
        })
        .collect();
    (!stages.is_empty()).then(|| Chart {
        title: "Connecting, stage by stage".to_owned(),
        note: "Mean time in each stage of a socket connection, stacked.".to_owned(),
        unit: "ms",
        spans: spans(&loaded.slices),
        series: stages,
        stacked: true,
        may_be_log: false,
        at_least: None,
    })
}

fn lateness(loaded: &Loaded) -> Option<Chart> {
    let total = loaded.total.summary(names::START_LATENESS)?;
    let values = |pick: fn(&Summary) -> f64| {
        loaded.slices.iter().map(|s| s.summary(names::START_LATENESS).map(pick)).collect()
    };
    Some(Chart {
        title: "Start lateness of the tester".to_owned(),
        note: "How long after the planned instant users were started.".to_owned(),
        unit: "ms",
        spans: spans(&loaded.slices),
        series: vec![
            series("p99", 3, Mark::Line, values(|s| s.p99), figure(total.p99)),
            series("p50", 1, Mark::Line, values(|s| s.median), figure(total.median)),
        ],
        stacked: false,
        may_be_log: false,
        at_least: None,
    })
}

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
    let step = super::loaded::seconds_per_slice(samples.len());
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

fn cpu(title: &str, note: &str, samples: &[ProcessSample]) -> Option<Chart> {
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
    let kept = if threads.len() > MOST_SERIES { MOST_SERIES - 1 } else { threads.len() };
    let mut all: Vec<Series> = threads[..kept]
        .iter()
        .zip([1, 8, 5, 2, 4, 7])
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
    Some(Chart {
        title: title.to_owned(),
        note: note.to_owned(),
        unit: "cores",
        spans: sample_spans(&samples),
        series: all,
        stacked: true,
        may_be_log: false,
        at_least: Some(1.0),
    })
}

fn memory(title: &str, note: &str, samples: &[ProcessSample]) -> Option<Chart> {
    let samples = thinned(samples);
    let most = samples.iter().map(|s| s.rss_bytes).max().filter(|n| *n > 0)?;
    let values = samples.iter().map(|s| Some(s.rss_bytes as f64 / 1e6)).collect();
    Some(Chart {
        title: title.to_owned(),
        note: note.to_owned(),
        unit: "MB",
        spans: sample_spans(&samples),
        series: vec![series("resident", 4, Mark::Bars, values, format!("{} at most", bytes(most)))],
        stacked: false,
        may_be_log: false,
        at_least: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phase(start_s: f64, duration_s: f64, load: &str, planned: u64) -> PhaseInfo {
        PhaseInfo { name: String::new(), start_s, duration_s, load: load.to_owned(), planned }
    }

    #[test]
    fn what_was_planned_follows_the_words_of_a_phase() {
        let phases = [
            phase(0.0, 10.0, "10 -> 30/s", 200),
            phase(10.0, 5.0, "pause", 0),
            phase(15.0, 10.0, "20 users", 20),
        ];
        for (from, to, expected) in [
            (0.0, 1.0, 11.0),
            (9.0, 10.0, 29.0),
            (0.0, 10.0, 200.0),
            (10.0, 15.0, 0.0),
            (14.0, 16.0, 2.0),
            (24.0, 30.0, 2.0),
        ] {
            let planned = planned_between(&phases, from, to);
            assert!((planned - expected).abs() < 1e-9, "{from}..{to}: {planned}");
        }
    }

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

    #[test]
    fn milliseconds_keep_three_digits_for_the_cursor() {
        assert_eq!(rounded(0.12345), 0.123);
        assert_eq!(rounded(1234.56), 1234.6);
    }
}
