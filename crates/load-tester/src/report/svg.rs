//! Charts as SVG, drawn here so that a report needs no library and no script.
//!
//! A plot is stretched to whatever width the page has (`preserveAspectRatio="none"`): its shapes live in a box of
//! 1000 × 100, strokes keep their width, and all text stands beside it in HTML, placed by per cent. So one drawing
//! fits a desktop, a phone and paper, and zooming is a change of the view box.

use std::fmt::Write as _;

use super::loaded::spread;

/// Units of the drawing's box.
const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 100.0;

/// Where a stretch of time lies, seconds since the run's start.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Span {
    pub(crate) from_s: f64,
    pub(crate) to_s: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// From middle to middle of the spans; broken where there is no value.
    Line,
    /// The same, thin: present, but not what the eye should follow.
    Faint,
    /// One level for each span.
    Step,
    /// The same, filled to the ground.
    Bars,
    /// Filled between `floor` and `values`, from middle to middle of the spans.
    Band,
}

#[derive(Debug, Clone)]
pub(crate) struct Series {
    pub(crate) name: String,
    /// 1 to 8: a colour of the page's palette.
    pub(crate) colour: u8,
    pub(crate) mark: Mark,
    /// One for each span; `None` where nothing was measured.
    pub(crate) values: Vec<Option<f64>>,
    /// The lower edge of a `Band`; else empty.
    pub(crate) floor: Vec<Option<f64>>,
    /// Shown beside the name while nothing is pointed at.
    pub(crate) overall: String,
}

#[derive(Debug, Clone)]
pub(crate) struct Chart {
    pub(crate) title: String,
    /// What exactly is drawn, in one line.
    pub(crate) note: String,
    pub(crate) unit: &'static str,
    pub(crate) spans: Vec<Span>,
    pub(crate) series: Vec<Series>,
    /// Values stand on each other's shoulders (all as `Bars`).
    pub(crate) stacked: bool,
    /// A logarithmic scale is used where values lie far apart.
    pub(crate) may_be_log: bool,
    /// The scale reaches at least so far up, and a logarithmic one so far down, to make neighbours comparable.
    pub(crate) at_least: Option<f64>,
    pub(crate) down_to: Option<f64>,
    /// For each span, how often values fell into each bucket of `loaded::spread`; drawn as shades behind the series.
    pub(crate) heat: Option<Vec<Vec<u32>>>,
    /// Taller than others.
    pub(crate) tall: bool,
}

impl Chart {
    pub(crate) fn new(
        title: &str,
        note: &str,
        unit: &'static str,
        spans: Vec<Span>,
        series: Vec<Series>,
    ) -> Self {
        Self {
            title: title.to_owned(),
            note: note.to_owned(),
            unit,
            spans,
            series,
            stacked: false,
            may_be_log: false,
            at_least: None,
            down_to: None,
            heat: None,
            tall: false,
        }
    }

    /// Whether anything would be drawn.
    pub(crate) fn is_empty(&self) -> bool {
        self.spans.is_empty() || self.series.iter().all(|s| s.values.iter().all(Option::is_none))
    }
}

/// A drawn chart: the SVG element and what HTML places beside it.
#[derive(Debug, Clone)]
pub(crate) struct Plot {
    pub(crate) svg: String,
    /// (per cent from the top, label)
    pub(crate) ticks: Vec<(f64, String)>,
    pub(crate) log: bool,
}

/// Values on the vertical axis.
#[derive(Debug, Clone, PartialEq)]
struct Scale {
    low: f64,
    high: f64,
    log: bool,
    ticks: Vec<f64>,
}

impl Scale {
    fn linear(highest: f64) -> Self {
        let highest = if highest > 0.0 { highest } else { 1.0 };
        let step = nice_step(highest / 3.2);
        let high = (highest / step - 1e-9).ceil().max(1.0) * step;
        let ticks = (0..=(high / step).round() as usize).map(|i| i as f64 * step).collect();
        Self { low: 0.0, high, log: false, ticks }
    }

    fn log(lowest: f64, highest: f64) -> Self {
        let first = lowest.log10().floor() as i32;
        let low = 10f64.powi(first);
        let high = nice_step(highest).max(low * 10.0);
        let last = high.log10().floor() as i32;
        let every = usize::try_from((last - first) / 5 + 1).unwrap_or(1);
        let ticks = (first..=last).step_by(every).map(|power| 10f64.powi(power)).collect();
        Self { low, high, log: true, ticks }
    }

    /// Exactly from `low` to `high`, marked at the powers of ten between them.
    fn log_between(low: f64, high: f64) -> Self {
        let (first, last) = ((low.log10() - 1e-9).ceil() as i32, (high.log10() + 1e-9).floor() as i32);
        let every = usize::try_from((last - first) / 6 + 1).unwrap_or(1);
        let ticks = (first..=last).step_by(every).map(|power| 10f64.powi(power)).collect();
        Self { low, high, log: true, ticks }
    }

    /// Of the box's height, from the top.
    fn y(&self, value: f64) -> f64 {
        let share = if self.log {
            (value.max(self.low) / self.low).log10() / (self.high / self.low).log10()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        HEIGHT * (1.0 - share.clamp(0.0, 1.0))
    }
}

/// 1, 2 or 5 times a power of ten, at least `at_least`.
pub(crate) fn nice_step(at_least: f64) -> f64 {
    let power = 10f64.powf(at_least.log10().floor());
    let factor =
        [1.0, 2.0, 5.0, 10.0].into_iter().find(|f| f * power >= at_least * (1.0 - 1e-9)).unwrap_or(10.0);
    factor * power
}

/// Draws `chart` over the time `axis`; `boundaries` are instants marked through all charts.
pub(crate) fn draw(chart: &Chart, axis: Span, boundaries: &[f64]) -> Plot {
    let stacks = chart.stacked.then(|| stack(&chart.series, chart.spans.len()));
    let scale = scale_of(chart, stacks.as_deref());
    let x = |s: f64| (s - axis.from_s) / (axis.to_s - axis.from_s).max(f64::MIN_POSITIVE) * WIDTH;

    let mut svg = format!(
        r#"<svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" role="img" aria-label="{}">"#,
        escape(&format!("{} ({}). {}", chart.title, chart.unit, chart.note))
    );
    let grid: String =
        scale.ticks.iter().map(|tick| format!("M0 {}H{WIDTH}", short(scale.y(*tick)))).collect();
    let _ = write!(svg, r#"<path class="grid" d="{grid}"/>"#);
    let marks: String = boundaries.iter().map(|s| format!("M{} 0V{HEIGHT}", short(x(*s)))).collect();
    if !marks.is_empty() {
        let _ = write!(svg, r#"<path class="phase" d="{marks}"/>"#);
    }
    if let Some(heat) = &chart.heat {
        svg.push_str(&shades(&chart.spans, heat, &x, &scale));
    }
    match &stacks {
        Some(stacks) => {
            for (series, levels) in chart.series.iter().zip(stacks) {
                let d = band(&chart.spans, levels, &x, &scale);
                let _ = write!(svg, r#"<path class="f{}" d="{d}"/>"#, series.colour);
            }
        }
        None => {
            for series in &chart.series {
                let colour = series.colour;
                match series.mark {
                    Mark::Bars => {
                        let ground: Vec<_> = series.values.iter().map(|v| (0.0, v.unwrap_or(0.0))).collect();
                        let d = band(&chart.spans, &ground, &x, &scale);
                        let _ = write!(svg, r#"<path class="f{colour} soft" d="{d}"/>"#);
                    }
                    Mark::Step => {
                        let d = steps(&chart.spans, &series.values, &x, &scale);
                        let _ = write!(svg, r#"<path class="l{colour} planned" d="{d}"/>"#);
                    }
                    Mark::Band => {
                        let d = between(&chart.spans, &series.floor, &series.values, &x, &scale);
                        let _ = write!(svg, r#"<path class="b{colour}" d="{d}"/>"#);
                    }
                    Mark::Line | Mark::Faint => {
                        let d = line(&chart.spans, &series.values, &x, &scale);
                        let thin = if series.mark == Mark::Faint { " thin" } else { "" };
                        let _ = write!(svg, r#"<path class="l{colour}{thin}" d="{d}"/>"#);
                    }
                }
            }
        }
    }
    svg.push_str("</svg>");
    let ticks = scale.ticks.iter().map(|tick| (scale.y(*tick), label(*tick))).collect();
    Plot { svg, ticks, log: scale.log }
}

fn scale_of(chart: &Chart, stacks: Option<&[Vec<(f64, f64)>]>) -> Scale {
    let drawn =
        || chart.series.iter().flat_map(|s| s.values.iter().flatten().copied()).filter(|v| v.is_finite());
    let highest = match stacks {
        Some(stacks) => stacks.iter().flatten().map(|(_, top)| *top).fold(0.0, f64::max),
        None => drawn().fold(0.0, f64::max),
    }
    .max(chart.at_least.unwrap_or(0.0));
    if let Some((lowest, highest)) = chart.heat.as_ref().and_then(|heat| heated(heat)) {
        return Scale::log_between(spread::edge(lowest), spread::edge(highest + 1));
    }
    // The lowest line decides where a logarithmic scale begins: one quick answer among many must not stretch it.
    let lowest = chart
        .series
        .iter()
        .map(|s| s.values.iter().flatten().copied().filter(|v| *v > 0.0).collect::<Vec<_>>())
        .filter_map(|values| Some((median(values.clone())?, values)))
        .min_by(|a, b| a.0.total_cmp(&b.0))
        .and_then(|(_, values)| values.into_iter().min_by(f64::total_cmp));
    let lowest = lowest.map(|lowest| chart.down_to.map_or(lowest, |down_to| down_to.min(lowest)));
    match lowest {
        Some(lowest) if chart.may_be_log && highest / lowest > 40.0 => Scale::log(lowest, highest),
        _ => Scale::linear(highest),
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// (bottom, top) of each series in each span.
fn stack(series: &[Series], spans: usize) -> Vec<Vec<(f64, f64)>> {
    let mut ground = vec![0.0; spans];
    let mut stacks = Vec::new();
    for one in series {
        let mut levels = Vec::with_capacity(spans);
        for (floor, value) in ground.iter_mut().zip(&one.values) {
            let top = *floor + value.unwrap_or(0.0).max(0.0);
            levels.push((*floor, top));
            *floor = top;
        }
        stacks.push(levels);
    }
    stacks
}

/// A filled band with one level for each span.
fn band(spans: &[Span], levels: &[(f64, f64)], x: &dyn Fn(f64) -> f64, scale: &Scale) -> String {
    let mut d = String::new();
    // Stretches where nothing stands are left out, so that no hairline runs along the ground.
    let mut at = 0;
    while at < levels.len() {
        let flat = |i: usize| levels[i].1 - levels[i].0 <= 0.0;
        if flat(at) {
            at += 1;
            continue;
        }
        let end = (at..levels.len()).find(|i| flat(*i)).unwrap_or(levels.len());
        for (i, (span, (_, top))) in spans[at..end].iter().zip(&levels[at..end]).enumerate() {
            let command = if i == 0 { 'M' } else { 'L' };
            let _ = write!(
                d,
                "{command}{} {}H{}",
                short(x(span.from_s)),
                short(scale.y(*top)),
                short(x(span.to_s))
            );
        }
        for (span, (bottom, _)) in spans[at..end].iter().zip(&levels[at..end]).rev() {
            let _ =
                write!(d, "L{} {}H{}", short(x(span.to_s)), short(scale.y(*bottom)), short(x(span.from_s)));
        }
        d.push('Z');
        at = end;
    }
    d
}

fn steps(spans: &[Span], values: &[Option<f64>], x: &dyn Fn(f64) -> f64, scale: &Scale) -> String {
    let mut d = String::new();
    let mut pen = 'M';
    for (span, value) in spans.iter().zip(values) {
        let Some(value) = value else {
            pen = 'M';
            continue;
        };
        let _ =
            write!(d, "{pen}{} {}H{}", short(x(span.from_s)), short(scale.y(*value)), short(x(span.to_s)));
        pen = 'L';
    }
    d
}

fn line(spans: &[Span], values: &[Option<f64>], x: &dyn Fn(f64) -> f64, scale: &Scale) -> String {
    let mut d = String::new();
    let mut pen = 'M';
    for (i, (span, value)) in spans.iter().zip(values).enumerate() {
        let Some(value) = value else {
            pen = 'M';
            continue;
        };
        let (px, py) = (short(x((span.from_s + span.to_s) / 2.0)), short(scale.y(*value)));
        let _ = write!(d, "{pen}{px} {py}");
        // A lone point is a line of no length with round ends: a dot.
        if pen == 'M' && values.get(i + 1).is_none_or(Option::is_none) {
            d.push_str("h0");
        }
        pen = 'L';
    }
    d
}

/// Filled between two lines; broken where either is missing.
fn between(
    spans: &[Span],
    floor: &[Option<f64>],
    values: &[Option<f64>],
    x: &dyn Fn(f64) -> f64,
    scale: &Scale,
) -> String {
    let point = |i: usize| {
        let span = spans.get(i)?;
        let (low, high) = ((*floor.get(i)?)?, (*values.get(i)?)?);
        Some((short(x((span.from_s + span.to_s) / 2.0)), short(scale.y(low)), short(scale.y(high))))
    };
    let mut d = String::new();
    let mut at = 0;
    while at < spans.len() {
        let stretch: Vec<_> = (at..spans.len()).map_while(point).collect();
        at += stretch.len() + 1;
        // One point has no width.
        if stretch.len() < 2 {
            continue;
        }
        for (i, (x, _, high)) in stretch.iter().enumerate() {
            let _ = write!(d, "{}{x} {high}", if i == 0 { 'M' } else { 'L' });
        }
        for (x, low, _) in stretch.iter().rev() {
            let _ = write!(d, "L{x} {low}");
        }
        d.push('Z');
    }
    d
}

/// Lowest and highest bucket with anything in it.
fn heated(heat: &[Vec<u32>]) -> Option<(usize, usize)> {
    let met =
        || heat.iter().flat_map(|column| column.iter().enumerate()).filter(|(_, n)| **n > 0).map(|(i, _)| i);
    Some((met().min()?, met().max()?))
}

/// Shades of one colour; each is one path.
pub(crate) const SHADES: usize = 7;

/// A heat map's cells: the darker, the more (logarithmically, so that a single slow answer is seen).
fn shades(spans: &[Span], heat: &[Vec<u32>], x: &dyn Fn(f64) -> f64, scale: &Scale) -> String {
    // More columns than this would be narrower than a pixel.
    let together = spans.len().div_ceil(240).max(1);
    let columns: Vec<(Span, Vec<u64>)> = spans
        .chunks(together)
        .zip(heat.chunks(together))
        .filter_map(|(spans, columns)| {
            let span = Span { from_s: spans.first()?.from_s, to_s: spans.last()?.to_s };
            let mut sum = vec![0; spread::BUCKETS];
            for column in columns {
                for (sum, n) in sum.iter_mut().zip(column) {
                    *sum += u64::from(*n);
                }
            }
            Some((span, sum))
        })
        .collect();
    let most = columns.iter().flat_map(|(_, column)| column).copied().max().unwrap_or(0).max(1) as f64;
    let mut paths = vec![String::new(); SHADES];
    for (span, column) in &columns {
        for (bucket, n) in column.iter().enumerate().filter(|(_, n)| **n > 0) {
            let share = (*n as f64).ln_1p() / most.ln_1p();
            let shade = ((share * SHADES as f64).ceil() as usize).clamp(1, SHADES) - 1;
            let (left, right) = (x(span.from_s), x(span.to_s));
            let (top, bottom) = (scale.y(spread::edge(bucket + 1)), scale.y(spread::edge(bucket)));
            let _ = write!(
                paths[shade],
                "M{} {}H{}V{}H{}Z",
                short(left),
                short(top),
                short(right),
                short(bottom),
                short(left)
            );
        }
    }
    let mut svg = String::new();
    for (shade, d) in paths.iter().enumerate().filter(|(_, d)| !d.is_empty()) {
        let _ = write!(svg, r#"<path class="h{}" d="{d}"/>"#, shade + 1);
    }
    svg
}

/// At most two decimals, no trailing zeros.
pub(crate) fn short(value: f64) -> String {
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

fn label(value: f64) -> String {
    if value >= 1000.0 {
        super::units::thousands(value.round() as u64)
    } else {
        // Steps are 1, 2 or 5 times a power of ten.
        let text = format!("{value:.6}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}

pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(values: Vec<Option<f64>>, mark: Mark) -> Chart {
        let spans = (0..values.len()).map(|i| Span { from_s: i as f64, to_s: i as f64 + 1.0 }).collect();
        let series = Series {
            name: "a".to_owned(),
            colour: 1,
            mark,
            values,
            floor: Vec::new(),
            overall: String::new(),
        };
        Chart { may_be_log: true, ..Chart::new("T <1>", "", "ms", spans, vec![series]) }
    }

    #[test]
    fn a_gap_breaks_the_line_and_a_lone_point_is_a_dot() {
        let plot = draw(
            &chart(vec![Some(4.0), None, Some(2.0), Some(4.0)], Mark::Line),
            Span { from_s: 0.0, to_s: 4.0 },
            &[2.0],
        );
        assert!(plot.svg.contains(r#"class="l1" d="M125 0h0M625 50L875 0""#), "{}", plot.svg);
        assert!(plot.svg.contains(r#"class="phase" d="M500 0V100""#), "{}", plot.svg);
        assert!(plot.svg.contains("T &lt;1&gt;"), "{}", plot.svg);
    }

    #[test]
    fn bars_stand_on_the_ground_and_leave_gaps_out() {
        let plot = draw(
            &chart(vec![Some(1.0), Some(0.0), Some(4.0)], Mark::Bars),
            Span { from_s: 0.0, to_s: 3.0 },
            &[],
        );
        assert!(
            plot.svg.contains(r#"d="M0 75H333.33L333.33 100H0ZM666.67 0H1000L1000 100H666.67Z""#),
            "{}",
            plot.svg
        );
    }

    #[test]
    fn scales_end_on_a_round_figure_and_turn_logarithmic_when_values_lie_far_apart() {
        let ticks = |values: Vec<Option<f64>>| {
            let plot = draw(&chart(values, Mark::Line), Span { from_s: 0.0, to_s: 1.0 }, &[]);
            (plot.log, plot.ticks.into_iter().map(|t| t.1).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(ticks(vec![Some(290.0), Some(300.0)]), (false, "0 100 200 300".to_owned()));
        assert_eq!(ticks(vec![Some(0.07)]), (false, "0 0.05 0.1".to_owned()));
        assert_eq!(ticks(vec![]), (false, "0 0.5 1".to_owned()));
        let mut values = vec![Some(0.4); 9];
        values.push(Some(22_000.0));
        assert_eq!(ticks(values), (true, "0.1 10 1,000".to_owned()));
    }

    #[test]
    fn stacks_add_up() {
        let mut two = chart(vec![Some(1.0)], Mark::Bars);
        two.series.push(Series { colour: 2, values: vec![Some(3.0)], ..two.series[0].clone() });
        two.stacked = true;
        let plot = draw(&two, Span { from_s: 0.0, to_s: 1.0 }, &[]);
        assert!(plot.svg.contains(r#"class="f2" d="M0 0H1000L1000 75H0Z""#), "{}", plot.svg);
    }
}
