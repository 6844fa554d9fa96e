//! What pages are made of: sections of figures, tables and short lists, as `section.html` writes them.
//!
//! Text is escaped by the template; only [`Drawn::svg`] and [`Cell::svg`] are markup, and both are drawn here.

use serde::Serialize;

use super::shapes::{Curve, CurveLine, QUANTILES, at_quantile, curve};
use super::svg::{self, Chart, Mark, SHADES, Span};
use super::units::{figure, instant, thousands};

pub(crate) struct Section {
    /// The anchor of its heading.
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    /// One line below the heading; may be empty.
    pub(crate) note: String,
    pub(crate) blocks: Vec<Block>,
}

impl Section {
    pub(crate) fn new(id: &'static str, title: &'static str, blocks: Vec<Block>) -> Self {
        Self { id, title, note: String::new(), blocks }
    }
}

pub(crate) enum Block {
    /// Side by side where there is room.
    Figures(Vec<Drawn>),
    /// Small ones, several in a row.
    Multiples(Vec<Drawn>),
    Table(DataTable),
    Pairs(Vec<(String, String)>),
    Samples(Vec<String>),
    Nothing(&'static str),
}

// ---------------------------------------------------------------------------------------------------------- figures

/// A figure with everything around its drawing.
pub(crate) struct Drawn {
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) unit: &'static str,
    pub(crate) note: String,
    pub(crate) log: bool,
    pub(crate) svg: String,
    /// (per cent from the top, label)
    pub(crate) ticks: Vec<(f64, String)>,
    /// (share of the width, label); `None`: the time axis of the page.
    pub(crate) own_ticks: Option<Vec<(f64, String)>>,
    pub(crate) legend: Vec<LegendItem>,
    /// Classes of its plot.
    pub(crate) shape: &'static str,
    /// The same in figures.
    pub(crate) table: FigureTable,
    pub(crate) data: Option<ChartData>,
}

pub(crate) struct LegendItem {
    pub(crate) colour: u8,
    /// Class of the swatch.
    pub(crate) swatch: &'static str,
    pub(crate) name: String,
    pub(crate) overall: String,
}

/// A chart's alternative as text.
pub(crate) struct FigureTable {
    pub(crate) caption: String,
    pub(crate) head: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

/// What the page's script needs to show values under the cursor.
#[derive(Serialize)]
pub(crate) struct ChartData {
    id: String,
    /// Start of each point, seconds.
    x: Vec<f64>,
    s: Vec<Vec<Option<f64>>>,
}

/// Rows of a figure's table; all points stand in the result file.
const MOST_TABLE_ROWS: usize = 16;

impl Drawn {
    /// A chart over the time `axis`; `id` is unique in its page.
    pub(crate) fn chart(id: String, chart: &Chart, axis: Span, boundaries: &[f64]) -> Self {
        let plot = svg::draw(chart, axis, boundaries);
        let legend = chart
            .series
            .iter()
            .map(|s| LegendItem {
                colour: s.colour,
                swatch: match s.mark {
                    Mark::Bars => "block",
                    Mark::Step => "dash",
                    Mark::Band if s.name == "p99" => "band pale",
                    Mark::Band => "band",
                    Mark::Faint => "stroke thin",
                    Mark::Line => "stroke",
                },
                name: s.name.clone(),
                overall: s.overall.clone(),
            })
            .collect();
        let points = chart.spans.len();
        let shown = points.min(MOST_TABLE_ROWS);
        let rows = (0..shown)
            .map(|i| if shown > 1 { i * (points - 1) / (shown - 1) } else { 0 })
            .map(|i| {
                let value =
                    |v: Option<&Option<f64>>| v.copied().flatten().map_or_else(|| "–".to_owned(), figure);
                let values = chart.series.iter().map(|s| value(s.values.get(i)));
                std::iter::once(instant(chart.spans[i].from_s)).chain(values).collect()
            })
            .collect();
        let caption = if shown < points {
            format!(
                "{shown} of {} steps of time; all of them stand in the result file.",
                thousands(points as u64)
            )
        } else {
            "Each step of time.".to_owned()
        };
        let name = |name: &str| if name.is_empty() { "value".to_owned() } else { name.to_owned() };
        let head = std::iter::once("from".to_owned()).chain(chart.series.iter().map(|s| name(&s.name)));
        Self {
            title: chart.title.clone(),
            unit: chart.unit,
            note: chart.note.clone(),
            log: plot.log,
            svg: plot.svg,
            ticks: plot.ticks,
            own_ticks: None,
            legend,
            shape: match (chart.tall, chart.heat.is_some()) {
                (_, true) => "tall heat",
                (true, false) => "tall",
                (false, false) => "",
            },
            table: FigureTable { caption, head: head.collect(), rows },
            data: Some(ChartData {
                id: id.clone(),
                x: chart.spans.iter().map(|s| rounded(s.from_s)).collect(),
                s: chart.series.iter().map(|s| s.values.iter().map(|v| v.map(rounded)).collect()).collect(),
            }),
            id,
        }
    }

    /// Percentile curves laid over each other; `None` when nothing was recorded.
    pub(crate) fn curve(id: String, title: &str, note: &str, lines: &[CurveLine<'_>]) -> Option<Self> {
        let Curve { svg, x_ticks, y_ticks, log } = curve(title, lines)?;
        let lines: Vec<_> = lines.iter().filter(|l| !l.histogram.is_empty()).collect();
        let rows = QUANTILES
            .iter()
            .map(|(label, quantile)| {
                let values = lines.iter().map(|l| figure(at_quantile(l.histogram, *quantile)));
                std::iter::once((*label).to_owned()).chain(values).collect()
            })
            .collect();
        Some(Self {
            id,
            title: title.to_owned(),
            unit: "ms",
            note: note.to_owned(),
            log,
            svg,
            ticks: y_ticks,
            own_ticks: Some(x_ticks),
            legend: lines
                .iter()
                .map(|l| LegendItem {
                    colour: l.colour,
                    swatch: "stroke",
                    name: l.name.to_owned(),
                    overall: format!("p99 {}", figure(at_quantile(l.histogram, 0.99))),
                })
                .collect(),
            shape: "tall",
            table: FigureTable {
                caption: "Milliseconds within which so many lie.".to_owned(),
                head: std::iter::once("share".to_owned())
                    .chain(lines.iter().map(|l| l.name.to_owned()))
                    .collect(),
                rows,
            },
            data: None,
        })
    }

    pub(crate) fn is_heat(&self) -> bool {
        self.shape.contains("heat")
    }

    /// Shades of a heat map, from few to many.
    #[allow(clippy::unused_self, reason = "called by the template")]
    pub(crate) fn shades(&self) -> std::ops::RangeInclusive<usize> {
        1..=SHADES
    }
}

pub(crate) fn rounded(value: f64) -> f64 {
    let digits = if value.abs() >= 100.0 { 10.0 } else { 1000.0 };
    (value * digits).round() / digits
}

// ----------------------------------------------------------------------------------------------------------- tables

/// A table whose columns a reader can sort by, on a phone one block per row.
pub(crate) struct DataTable {
    /// Unique in its page.
    pub(crate) id: String,
    /// Heading above it; may be empty.
    pub(crate) title: String,
    pub(crate) note: String,
    pub(crate) columns: Vec<Column>,
    pub(crate) rows: Vec<Vec<Cell>>,
    /// A line below it; may be empty.
    pub(crate) foot: String,
    /// On a phone each row becomes a block; else the table scrolls beneath its first column.
    pub(crate) stacks: bool,
}

pub(crate) struct Column {
    pub(crate) label: &'static str,
    pub(crate) numeric: bool,
    /// Drawings cannot be sorted by.
    pub(crate) sortable: bool,
}

pub(crate) fn words(label: &'static str) -> Column {
    Column { label, numeric: false, sortable: true }
}

pub(crate) fn number(label: &'static str) -> Column {
    Column { label, numeric: true, sortable: true }
}

pub(crate) fn drawing(label: &'static str) -> Column {
    Column { label, numeric: false, sortable: false }
}

#[derive(Default)]
pub(crate) struct Cell {
    pub(crate) text: String,
    /// What it is sorted by, when that is not its text.
    pub(crate) sort: Option<f64>,
    /// Markup of ours.
    pub(crate) svg: String,
    /// Below the text, as it was sent.
    pub(crate) sample: String,
    /// `good`, `bad`, `note`: shown as a pill; `strong`, `wrap`; or nothing.
    pub(crate) mood: &'static str,
}

impl Cell {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    pub(crate) fn count(n: u64) -> Self {
        Self { text: thousands(n), sort: Some(n as f64), ..Self::default() }
    }

    pub(crate) fn figure(value: Option<f64>) -> Self {
        Self { text: value.map_or_else(|| "–".to_owned(), figure), sort: value, ..Self::default() }
    }

    pub(crate) fn sorted(text: String, by: f64) -> Self {
        Self { text, sort: Some(by), ..Self::default() }
    }

    pub(crate) fn drawing(svg: String) -> Self {
        Self { svg, ..Self::default() }
    }

    pub(crate) fn mood(self, mood: &'static str) -> Self {
        Self { mood, ..self }
    }

    pub(crate) fn is_pill(&self) -> bool {
        matches!(self.mood, "good" | "bad" | "note")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_keep_three_digits_for_the_cursor() {
        assert_eq!(rounded(0.12345), 0.123);
        assert_eq!(rounded(1234.56), 1234.6);
    }

    #[test]
    fn a_figures_table_goes_from_its_first_to_its_last_point() {
        let spans = (0..100).map(|i| Span { from_s: f64::from(i), to_s: f64::from(i + 1) }).collect();
        let values = (0..100).map(|i| Some(f64::from(i))).collect();
        let line = super::super::charts::series("a", 1, Mark::Line, values, String::new());
        let chart = Chart::new("T", "N", "ms", spans, vec![line]);
        let drawn = Drawn::chart("x".to_owned(), &chart, Span { from_s: 0.0, to_s: 100.0 }, &[]);
        assert_eq!(drawn.table.rows.len(), MOST_TABLE_ROWS);
        assert_eq!(drawn.table.rows[0], ["0.0 s", "0"]);
        assert_eq!(drawn.table.rows[15], ["99.0 s", "99.0"]);
        assert!(drawn.table.caption.starts_with("16 of 100"), "{}", drawn.table.caption);
    }
}
