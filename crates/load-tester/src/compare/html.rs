//! A comparison as one page, in the style of the report and with its charts; no script in it.

use askama::Template;

use super::{Comparison, Row, Side, Verdict, text};
use crate::metric::{Unit, cpu_ms};
use crate::outcome::names;
use crate::report::charts_of::{Chart, Mark, Series, Span, draw, x_ticks};
use crate::report::units::{count, figure, thousands};
use crate::report::{Loaded, Slice};

/// Colours of the report's palette.
const A: u8 = 2;
const B: u8 = 1;
/// Rows of the table of errors.
const MOST_ERRORS: usize = 100;
/// Points of a chart.
const MOST_POINTS: usize = 600;

#[derive(Template)]
#[template(path = "compare.html")]
struct Page {
    style: &'static str,
    sentence: String,
    status: &'static str,
    mood: &'static str,
    sides: Vec<(&'static str, String)>,
    refusals: Vec<String>,
    tiles: Vec<Tile>,
    tables: Vec<Table>,
    charts: Vec<Drawn>,
    differences: Vec<(String, String, String, bool)>,
    errors: Vec<(String, String, String)>,
    more_errors: String,
    left_out: Vec<String>,
    method: String,
    rules: String,
}

struct Tile {
    label: String,
    value: String,
    below: String,
    mood: &'static str,
}

struct Table {
    title: &'static str,
    parts: Vec<Part>,
}

struct Part {
    /// What stands in place of rows that neither decide nor differ; empty: they are shown.
    folded: String,
    rows: Vec<Cells>,
}

struct Cells {
    name: String,
    key: bool,
    a: String,
    b: String,
    change: String,
    noise: String,
    verdict: &'static str,
    mood: &'static str,
    band: String,
}

struct Drawn {
    title: &'static str,
    unit: &'static str,
    note: &'static str,
    log: bool,
    svg: String,
    ticks: Vec<(f64, String)>,
    x_ticks: Vec<(f64, String)>,
    legend: Vec<(u8, String, String)>,
}

/// The page.
pub fn render(comparison: &Comparison) -> String {
    let (status, mood) = status(comparison);
    let refused = comparison.refusal().is_some();
    let errors = text::errors(comparison);
    let more = errors.len().saturating_sub(MOST_ERRORS);
    let page = Page {
        style: crate::report::STYLE,
        sentence: unbroken(&comparison.sentence().replace("->", "→")),
        status,
        mood,
        sides: vec![("A", text::describe(&comparison.a)), ("B", text::describe(&comparison.b))],
        refusals: comparison.invalid.clone(),
        tiles: comparison
            .rows
            .iter()
            .filter(|row| row.key)
            .take(8)
            .map(|row| Tile::of(row, refused))
            .collect(),
        tables: tables(comparison),
        charts: charts(comparison),
        differences: comparison
            .differences
            .iter()
            .map(|d| (d.what.clone(), d.a.clone(), d.b.clone(), d.grave))
            .collect(),
        errors: errors
            .iter()
            .take(MOST_ERRORS)
            .map(|(name, a, b)| (name.clone(), thousands(*a), thousands(*b)))
            .collect(),
        more_errors: if more > 0 {
            format!("and {} more", count(more as u64, "kind", "kinds"))
        } else {
            String::new()
        },
        left_out: text::left_out(comparison),
        method: comparison.method_text(),
        rules: text::rules(comparison).replace("a figure marked *", "a figure that decides"),
    };
    // Writing to a String cannot fail.
    page.render().unwrap_or_default()
}

/// A figure stays in one line with its unit.
fn unbroken(text: &str) -> String {
    let units = [" %", " pp", " ms", " µs", " s", " MB", " CPU"];
    let ends = [",", ")", ".", ";", " ", ""];
    let mut joined = format!("{text}\n");
    for (unit, end) in units.iter().flat_map(|unit| ends.iter().map(move |end| (unit, end))) {
        let end = if end.is_empty() { "\n" } else { end };
        joined = joined.replace(&format!("{unit}{end}"), &format!("\u{a0}{}{end}", &unit[1..]));
    }
    joined.trim_end_matches('\n').to_owned()
}

fn status(comparison: &Comparison) -> (&'static str, &'static str) {
    let any = |verdict| comparison.rows.iter().any(|row| row.key && row.verdict == verdict);
    if comparison.refusal().is_some() {
        ("no verdict", "note")
    } else if comparison.rows.iter().any(|row| row.fails) {
        ("worse", "bad")
    } else if any(Verdict::Worse) {
        ("worse, allowed", "note")
    } else if any(Verdict::Better) {
        ("better", "good")
    } else if any(Verdict::CannotTell) {
        ("too noisy", "note")
    } else {
        ("same", "good")
    }
}

impl Verdict {
    fn mood(self) -> &'static str {
        match self {
            Self::Better => "good",
            Self::Worse => "bad",
            Self::Different | Self::CannotTell => "note",
            Self::Same => "",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::Different => "differs",
            Self::Same => "same",
            Self::CannotTell => "cannot tell",
        }
    }
}

impl Tile {
    fn of(row: &Row, refused: bool) -> Self {
        Self {
            label: row.metric.name.clone(),
            value: row.change_text(),
            below: unbroken(&format!(
                "{} → {} · noise {}",
                row.metric.text(row.a),
                row.metric.text(row.b),
                row.band_text()
            )),
            mood: match row.verdict {
                _ if refused => "",
                Verdict::Worse => "bad",
                Verdict::Better => "good",
                _ => "",
            },
        }
    }
}

impl Cells {
    /// Where nothing may be claimed, no figure has a verdict.
    fn of(row: &Row, refused: bool) -> Self {
        let mut shown = row.clone();
        if refused {
            shown.verdict = Verdict::Same;
        }
        Self {
            name: row.metric.name.clone(),
            key: row.key,
            a: row.metric.text(row.a),
            b: row.metric.text(row.b),
            change: row.change_text(),
            noise: row.band_text(),
            verdict: if refused { "–" } else { row.verdict.words() },
            mood: shown.verdict.mood(),
            band: band(&shown),
        }
    }
}

/// The change as a bar from the middle, over the noise as a grey band; the scale ends at 100 % (1 point for shares).
fn band(row: &Row) -> String {
    let Some(change) = row.change() else { return String::new() };
    let scale = if row.metric.unit == Unit::Percent { 1.0 } else { 100.0 };
    // Small changes are seen beside large ones: the root of the share.
    let x = |value: f64| {
        let share = (value.abs() / scale).min(1.0).sqrt();
        50.0 + share.copysign(value) * 48.0
    };
    let mut svg = String::from(
        r#"<svg class="band" viewBox="0 0 100 16" preserveAspectRatio="none" aria-hidden="true">"#,
    );
    if let Some(noise) = row.band() {
        let (from, to) = (x(-noise), x(noise));
        svg += &format!(r#"<rect class="noise" x="{from:.1}" y="2" width="{:.1}" height="12"/>"#, to - from);
    }
    let (from, to) = (x(change).min(50.0), x(change).max(50.0));
    svg += &format!(
        r#"<rect class="change {}" x="{from:.1}" y="5" width="{:.1}" height="6"/><path class="zero" d="M50 0V16"/></svg>"#,
        row.verdict.mood(),
        (to - from).max(0.6)
    );
    svg
}

fn tables(comparison: &Comparison) -> Vec<Table> {
    let group = |row: &Row| {
        let name = row.metric.name.as_str();
        if row.key {
            0
        } else if name.starts_with("delivery") || name == "rate.deliveries" {
            1
        } else if name.starts_with("connect")
            || name.starts_with("websocket.connect")
            || name.starts_with("listener_connect")
            || name.starts_with("reconnect")
        {
            3
        } else if name.starts_with("target") {
            4
        } else if name.starts_with("tester") || name.starts_with("start_lateness") {
            5
        } else {
            2
        }
    };
    let refused = comparison.refusal().is_some();
    let titles =
        ["What decides", "Delivery", "Load and answers", "Connecting", "The target", "The tester itself"];
    titles
        .into_iter()
        .enumerate()
        .map(|(number, title)| {
            let all = comparison.rows.iter().filter(|row| group(row) == number);
            let all = all.filter(|row| row.key || row.a != 0.0 || row.b != 0.0);
            let (shown, more): (Vec<&Row>, Vec<&Row>) =
                all.partition(|row| text::worth_showing(row, &comparison.rows));
            let part = |folded, rows: &[&Row]| Part {
                folded,
                rows: rows.iter().map(|row| Cells::of(row, refused)).collect(),
            };
            let folded = count(more.len() as u64, "figure more", "figures more");
            let parts = [part(String::new(), &shown), part(folded, &more)];
            Table { title, parts: parts.into_iter().filter(|part| !part.rows.is_empty()).collect() }
        })
        .filter(|table| !table.parts.is_empty())
        .collect()
}

// ------------------------------------------------------------------------------------------------------------- charts

fn charts(comparison: &Comparison) -> Vec<Drawn> {
    let p99 = |name: &'static str| {
        move |loaded: &Loaded, slice: &Slice| {
            let _ = loaded;
            slice.summary(name).map(|summary| summary.p99)
        }
    };
    let mut all = Vec::new();
    let mut add = |title, note, unit, log, of: &dyn Fn(&Loaded, &Slice) -> Option<f64>| {
        all.extend(over_time(comparison, title, note, unit, log, of));
    };
    add(
        "Delivery, p99",
        "From sending a message to a listener hearing it.",
        "ms",
        true,
        &p99(names::DELIVERY),
    );
    add(
        "Response from due, p99",
        "From the instant a user was due to the first answer.",
        "ms",
        true,
        &p99(names::RESPONSE_FROM_DUE),
    );
    add(
        "HTTP response time, p99",
        "From sending a request to its first byte.",
        "ms",
        true,
        &p99(names::HTTP_RESPONSE_TIME),
    );
    add("Users started", "Arrivals a second.", "/s", false, &|_, slice| {
        Some(slice.launched() as f64 / slice.length_s.max(0.001))
    });
    add("Errors", "All kinds, a second.", "/s", false, &|loaded, slice| {
        (loaded.total.error_count() > 0).then(|| slice.error_count() as f64 / slice.length_s.max(0.001))
    });
    add("HTTP answers with 5xx", "No errors to Artillery, a second.", "/s", false, &|loaded, slice| {
        (loaded.total.server_errors() > 0).then(|| slice.server_errors() as f64 / slice.length_s.max(0.001))
    });
    add(
        "The target's processor",
        "All threads together; 1 is one core.",
        "cores",
        false,
        &|loaded, slice| {
            let samples = &loaded.run.as_ref()?.target.as_ref()?.samples;
            let inside = samples.iter().filter(|sample| {
                sample.at_s > slice.start_s && sample.at_s <= slice.start_s + slice.length_s + 1e-6
            });
            let inside: Vec<_> = inside.cloned().collect();
            let (used_ms, watched_s) = cpu_ms(&inside)?;
            Some(used_ms / 1000.0 / watched_s)
        },
    );
    for (title, name) in [
        ("Delivery by percentile", names::DELIVERY),
        ("Response from due by percentile", names::RESPONSE_FROM_DUE),
    ] {
        all.extend(percentiles(comparison, title, name));
    }
    all
}

/// Both sides over time: the first run of each drawn full, others thin.
fn over_time(
    comparison: &Comparison,
    title: &'static str,
    note: &'static str,
    unit: &'static str,
    may_be_log: bool,
    of: &dyn Fn(&Loaded, &Slice) -> Option<f64>,
) -> Option<Drawn> {
    let runs = || comparison.a.runs.iter().chain(&comparison.b.runs);
    let end = runs().map(|run| run.loaded.end_s()).fold(1.0, f64::max);
    // The coarsest of all steps, so that nothing is drawn that was not measured.
    let step = runs()
        .filter_map(|run| run.loaded.slices.iter().map(|slice| slice.length_s).max_by(f64::total_cmp))
        .fold((end / MOST_POINTS as f64).ceil().max(1.0), f64::max);
    let spans: Vec<Span> = (0..(end / step).ceil() as usize)
        .map(|i| Span { from_s: i as f64 * step, to_s: (i + 1) as f64 * step })
        .collect();
    let values = |loaded: &Loaded| -> Vec<Option<f64>> {
        let at = |span: &Span| {
            let inside = loaded.slices.iter().filter(|slice| {
                let middle = slice.start_s + slice.length_s / 2.0;
                middle >= span.from_s && middle < span.to_s
            });
            inside.filter_map(|slice| of(loaded, slice)).max_by(f64::total_cmp)
        };
        spans.iter().map(at).collect()
    };
    let series = lines(comparison, |loaded| values(loaded));
    let has = |colour: u8| series.iter().any(|s| s.colour == colour && s.values.iter().any(Option::is_some));
    if !has(A) && !has(B) {
        return None;
    }
    let axis = Span { from_s: 0.0, to_s: end };
    let chart = Chart { may_be_log, ..Chart::new(title, note, unit, spans.clone(), series) };
    let plot = draw(&chart, axis, &[]);
    Some(Drawn {
        title,
        unit,
        note,
        log: plot.log,
        svg: plot.svg,
        ticks: plot.ticks,
        x_ticks: x_ticks(axis),
        legend: legend(comparison),
    })
}

fn lines(comparison: &Comparison, values: impl Fn(&Loaded) -> Vec<Option<f64>>) -> Vec<Series> {
    let of = |side: &Side, name: &str, colour| -> Vec<Series> {
        // The first one last, on top of the others.
        side.runs
            .iter()
            .enumerate()
            .rev()
            .map(|(index, run)| Series {
                name: name.to_owned(),
                colour,
                mark: if index == 0 { Mark::Line } else { Mark::Faint },
                values: values(&run.loaded),
                floor: Vec::new(),
                overall: String::new(),
            })
            .collect()
    };
    let mut all = of(&comparison.a, "A", A);
    all.extend(of(&comparison.b, "B", B));
    all
}

fn legend(comparison: &Comparison) -> Vec<(u8, String, String)> {
    let several = |side: &Side| match side.runs.len() {
        1 => String::new(),
        n => format!("{n} runs"),
    };
    vec![(A, "A".to_owned(), several(&comparison.a)), (B, "B".to_owned(), several(&comparison.b))]
}

/// Latency by percentile, the tail drawn out: each decade to the right is a tenth of what is left.
fn percentiles(comparison: &Comparison, title: &'static str, name: &str) -> Option<Drawn> {
    const STEPS: usize = 120;
    let histograms = |loaded: &Loaded| loaded.run.as_ref().and_then(|run| run.histograms.get(name)).cloned();
    let any = comparison.a.runs.iter().chain(&comparison.b.runs).filter_map(|run| histograms(&run.loaded));
    let most = any.map(|histogram| histogram.len()).max().filter(|n| *n > 1)?;
    // No further than one in so many as there were.
    let decades = (most as f64).log10().clamp(2.0, 5.0);
    let left = |i: usize| 10f64.powf(-(i as f64) / STEPS as f64 * decades);
    let values = |loaded: &Loaded| -> Vec<Option<f64>> {
        let histogram = histograms(loaded).filter(|histogram| !histogram.is_empty());
        let Some(histogram) = histogram else { return vec![None; STEPS] };
        let max = histogram.max();
        (0..STEPS)
            .map(|i| {
                let enough = left(i) * histogram.len() as f64 >= 1.0;
                enough.then(|| histogram.value_at_quantile(1.0 - left(i)).min(max) as f64 / 1000.0)
            })
            .collect()
    };
    let spans = (0..STEPS).map(|i| Span { from_s: i as f64, to_s: (i + 1) as f64 }).collect();
    let axis = Span { from_s: 0.0, to_s: STEPS as f64 };
    let note = "Half of all are below the value over 50 %, 999 of 1,000 below that over 99.9 %.";
    let chart = Chart { may_be_log: true, ..Chart::new(title, note, "ms", spans, lines(comparison, values)) };
    let plot = draw(&chart, axis, &[]);
    let ticks =
        [(0.0, "0"), (50.0, "50 %"), (90.0, "90 %"), (99.0, "99 %"), (99.9, "99.9 %"), (99.99, "99.99 %")];
    let x_ticks = ticks
        .into_iter()
        .map(|(percent, label)| ((1.0 - percent / 100.0_f64).log10().abs() / decades, label.to_owned()))
        .filter(|(at, _)| *at <= 0.97)
        .collect();
    let of = |side: &Side| {
        let p99 = |histogram: hdrhistogram::Histogram<u64>| histogram.value_at_quantile(0.99) as f64 / 1000.0;
        let all: Vec<f64> = side.runs.iter().filter_map(|run| histograms(&run.loaded).map(p99)).collect();
        let (least, most) =
            all.iter().fold((f64::INFINITY, 0.0_f64), |(low, high), p99| (low.min(*p99), high.max(*p99)));
        match all.len() {
            0 => String::new(),
            1 => format!("p99 {}", figure(most)),
            _ => format!("p99 {} to {}", figure(least), figure(most)),
        }
    };
    Some(Drawn {
        title,
        unit: "ms",
        note,
        log: plot.log,
        svg: plot.svg,
        ticks: plot.ticks,
        x_ticks,
        legend: vec![(A, "A".to_owned(), of(&comparison.a)), (B, "B".to_owned(), of(&comparison.b))],
    })
}
