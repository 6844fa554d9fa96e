//! Drawings that are no time chart: percentile curves, bars inside tables, and lines the size of a word.

use std::fmt::Write as _;

use hdrhistogram::Histogram;

use super::svg::{escape, nice_step, short};
use super::units::figure;

/// One line of a percentile curve.
pub(crate) struct CurveLine<'a> {
    pub(crate) name: &'static str,
    /// 1 to 8: a colour of the page's palette.
    pub(crate) colour: u8,
    /// In microseconds.
    pub(crate) histogram: &'a Histogram<u64>,
}

/// A drawn curve: the SVG element and what HTML places beside it.
pub(crate) struct Curve {
    pub(crate) svg: String,
    /// (share of the width, label)
    pub(crate) x_ticks: Vec<(f64, String)>,
    /// (per cent from the top, label)
    pub(crate) y_ticks: Vec<(f64, String)>,
    pub(crate) log: bool,
}

/// The quantiles a curve's table names.
pub(crate) const QUANTILES: [(&str, f64); 9] = [
    ("p50", 0.5),
    ("p75", 0.75),
    ("p90", 0.9),
    ("p95", 0.95),
    ("p99", 0.99),
    ("p99.9", 0.999),
    ("p99.99", 0.9999),
    ("p99.999", 0.99999),
    ("max", 1.0),
];

/// Milliseconds below which a share of all values lies; never above the highest recorded.
pub(crate) fn at_quantile(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    histogram.value_at_quantile(quantile).min(histogram.max()) as f64 / 1000.0
}

/// HdrHistogram's percentile curve: each further nine takes the same width, so the tail is as wide as the middle.
/// `None` when nothing was recorded.
pub(crate) fn curve(title: &str, lines: &[CurveLine<'_>]) -> Option<Curve> {
    let most = lines.iter().map(|l| l.histogram.len()).max().filter(|n| *n > 0)?;
    // A curve ends where one value in a histogram this large is left.
    let decades = (most as f64).log10().clamp(1.0, 6.0);
    let highest = lines.iter().map(|l| at_quantile(l.histogram, 1.0)).fold(0.0, f64::max).max(0.001);
    let lowest = lines
        .iter()
        .filter(|l| !l.histogram.is_empty())
        .map(|l| at_quantile(l.histogram, 0.0))
        .fold(f64::MAX, f64::min)
        .max(0.001);
    let log = highest / lowest > 40.0;
    let (low, high) = if log {
        (10f64.powf(lowest.log10().floor()), nice_step(highest))
    } else {
        let step = nice_step(highest / 3.2);
        (0.0, (highest / step - 1e-9).ceil() * step)
    };
    let y = |value: f64| {
        let share = if log {
            (value.max(low) / low).log10() / (high / low).log10()
        } else {
            (value - low) / (high - low)
        };
        100.0 * (1.0 - share.clamp(0.0, 1.0))
    };
    let y_at: Vec<f64> = if log {
        let (first, last) = (low.log10().round() as i32, (high.log10() + 1e-9).floor() as i32);
        let every = usize::try_from((last - first) / 5 + 1).unwrap_or(1);
        (first..=last).step_by(every).map(|power| 10f64.powi(power)).collect()
    } else {
        let step = nice_step(highest / 3.2);
        (0..=(high / step).round() as usize).map(|i| i as f64 * step).collect()
    };
    let x_at: Vec<(f64, &str)> = [
        (0.0, "0"),
        (std::f64::consts::LOG10_2, "50 %"),
        (1.0, "90 %"),
        (2.0, "99 %"),
        (3.0, "99.9 %"),
        (4.0, "99.99 %"),
        (5.0, "99.999 %"),
    ]
    .into_iter()
    .filter(|(at, _)| *at <= decades * 0.95)
    .map(|(at, label)| (at / decades, label))
    .collect();

    let mut svg = format!(
        r#"<svg viewBox="0 0 1000 100" preserveAspectRatio="none" role="img" aria-label="{}">"#,
        escape(title)
    );
    let grid: String = y_at.iter().map(|v| format!("M0 {}H1000", short(y(*v)))).collect();
    let upright: String = x_at.iter().map(|(at, _)| format!("M{} 0V100", short(at * 1000.0))).collect();
    let _ = write!(svg, r#"<path class="grid" d="{grid}"/><path class="phase" d="{upright}"/>"#);
    for line in lines.iter().filter(|l| !l.histogram.is_empty()) {
        let own = (line.histogram.len() as f64).log10().clamp(0.3, decades);
        let mut d = String::new();
        let mut before = String::new();
        for i in 0..=240 {
            let at = f64::from(i) / 240.0 * own;
            let value = y(at_quantile(line.histogram, 1.0 - 10f64.powf(-at)));
            let value = short(value);
            // A level stretch needs only its ends.
            if value == before && i < 240 {
                continue;
            }
            let _ = write!(d, "{}{} {value}", if i == 0 { 'M' } else { 'L' }, short(at / decades * 1000.0));
            before = value;
        }
        let _ = write!(svg, r#"<path class="l{}" d="{d}"/>"#, line.colour);
    }
    svg.push_str("</svg>");
    Some(Curve {
        svg,
        x_ticks: x_at.into_iter().map(|(at, label)| (at, label.to_owned())).collect(),
        y_ticks: y_at.iter().map(|v| (y(*v), figure_of_axis(*v))).collect(),
        log,
    })
}

fn figure_of_axis(value: f64) -> String {
    if value >= 1000.0 {
        super::units::thousands(value.round() as u64)
    } else {
        let text = format!("{value:.6}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}

/// A bar of a waterfall, in milliseconds: solid to the median, pale to the 99th percentile.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Bar {
    pub(crate) from: f64,
    pub(crate) median: f64,
    pub(crate) p99: f64,
}

/// The scale all bars of one waterfall share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct BarScale {
    low: f64,
    high: f64,
    pub(crate) log: bool,
}

impl BarScale {
    pub(crate) fn of(bars: &[Bar]) -> Self {
        let high = bars.iter().map(|b| b.p99.max(b.median)).fold(0.0, f64::max).max(0.001);
        let low = bars.iter().map(|b| b.median).filter(|m| *m > 0.0).fold(high, f64::min).max(0.001);
        let log = high / low > 25.0;
        Self { low: if log { 10f64.powf(low.log10().floor()) } else { 0.0 }, high, log }
    }

    fn x(&self, ms: f64) -> f64 {
        let share = if self.log {
            (ms.max(self.low) / self.low).log10() / (self.high / self.low).log10()
        } else {
            ms / self.high
        };
        share.clamp(0.0, 1.0) * 1000.0
    }
}

pub(crate) fn bar(bar: Bar, scale: BarScale, colour: u8) -> String {
    let (from, median, p99) = (scale.x(bar.from), scale.x(bar.median), scale.x(bar.p99.max(bar.median)));
    // What is too short to be seen is a hairline all the same.
    let median_end = median.max(from + 3.0);
    format!(
        r#"<svg class="hbar" viewBox="0 0 1000 100" preserveAspectRatio="none" role="img" aria-label="half within {} ms, 99 % within {} ms"><path class="f{colour} pale" d="M{a} 26H{c}V74H{a}Z"/><path class="f{colour} full" d="M{a} 10H{b}V90H{a}Z"/></svg>"#,
        figure(bar.median),
        figure(bar.p99),
        a = short(from),
        b = short(median_end),
        c = short(p99.max(median_end)),
    )
}

/// A share between 0 and 1 as a bar.
pub(crate) fn share_bar(share: f64, colour: u8) -> String {
    let end = short((share.clamp(0.0, 1.0) * 1000.0).max(4.0));
    format!(
        r#"<svg class="hbar share" viewBox="0 0 1000 100" preserveAspectRatio="none" aria-hidden="true"><path class="f{colour} full" d="M0 25H{end}V75H0Z"/></svg>"#
    )
}

/// A line the size of a word; empty when there are no two points.
pub(crate) fn spark(values: &[Option<f64>], colour: u8) -> String {
    const MOST_POINTS: usize = 80;
    let together = values.len().div_ceil(MOST_POINTS).max(1);
    // The highest of neighbours: a peak must not vanish.
    let values: Vec<Option<f64>> =
        values.chunks(together).map(|c| c.iter().flatten().copied().reduce(f64::max)).collect();
    let highest = values.iter().flatten().copied().fold(0.0, f64::max);
    if highest <= 0.0 || values.iter().flatten().count() < 2 {
        return String::new();
    }
    let mut d = String::new();
    let mut pen = 'M';
    for (i, value) in values.iter().enumerate() {
        let Some(value) = value else {
            pen = 'M';
            continue;
        };
        let x = i as f64 / (values.len() - 1) as f64 * 1000.0;
        let _ = write!(d, "{pen}{} {}", short(x), short(94.0 - value / highest * 88.0));
        if pen == 'M' && values.get(i + 1).is_none_or(Option::is_none) {
            d.push_str("h0");
        }
        pen = 'L';
    }
    format!(
        r#"<svg class="spark" viewBox="0 0 1000 100" preserveAspectRatio="none" aria-hidden="true"><path class="l{colour}" d="{d}"/></svg>"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(values: impl Iterator<Item = u64>) -> Histogram<u64> {
        let mut histogram = Histogram::new(3).expect("3 digits");
        values.for_each(|v| histogram.record(v).expect("grows"));
        histogram
    }

    #[test]
    fn each_nine_takes_the_same_width() {
        let even = histogram((1..=10_000).map(|i| i * 10));
        let curve = curve("T", &[CurveLine { name: "a", colour: 1, histogram: &even }]).expect("recorded");
        let ticks: Vec<String> =
            curve.x_ticks.iter().map(|(at, text)| format!("{text} at {at:.2}")).collect();
        assert_eq!(ticks, ["0 at 0.00", "50 % at 0.08", "90 % at 0.25", "99 % at 0.50", "99.9 % at 0.75"]);
        assert!(curve.log, "from 0.01 to 100 ms");
        assert!(super::curve("T", &[]).is_none());
    }

    #[test]
    fn bars_share_a_scale_that_turns_logarithmic() {
        let near = [Bar { from: 0.0, median: 2.0, p99: 4.0 }];
        let far = [near[0], Bar { from: 0.0, median: 3.0, p99: 5000.0 }];
        assert!(!BarScale::of(&near).log && BarScale::of(&far).log);
        let drawn = bar(near[0], BarScale::of(&near), 1);
        assert!(drawn.contains("M0 10H500V90H0Z") && drawn.contains("M0 26H1000V74H0Z"), "{drawn}");
    }

    #[test]
    fn a_spark_line_keeps_peaks_and_says_nothing_of_one_point() {
        assert_eq!(spark(&[Some(1.0)], 1), "");
        let mut values = vec![Some(1.0); 400];
        values[201] = Some(50.0);
        let drawn = spark(&values, 1);
        assert!(drawn.contains(" 6L") && drawn.len() < 1200, "{drawn}");
    }
}
