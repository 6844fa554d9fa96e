//! Horizontal bars in SVG: one value a bar, or several parts one behind the other. They bring their own ground, so that
//! they are read on light and dark pages alike.

use std::fmt::Write as _;

pub(super) struct Chart {
    /// Part of the file's name.
    pub(super) name: String,
    pub(super) title: String,
    pub(super) svg: String,
    /// It stands above its table, not with those before all tables.
    pub(super) is_placed: bool,
}

impl Chart {
    /// In Markdown, on the page of a part.
    pub(super) fn link(&self, part: &str) -> String {
        format!("![{}]({part}-{}.svg)", self.title, self.name)
    }
}

pub(super) struct Bar {
    pub(super) label: String,
    /// One for each part; a single one draws a plain bar.
    pub(super) parts: Vec<f64>,
    /// What stands behind the bar, e.g. `5.4 us`.
    pub(super) text: String,
    /// Ours, or what ours is held against: told apart by colour.
    pub(super) is_ours: bool,
}

const WIDTH: f64 = 760.0;
const LABELS: f64 = 190.0;
const VALUES: f64 = 150.0;
const ROW: f64 = 28.0;
const BAR: f64 = 18.0;
const TOP: f64 = 46.0;
/// About what a letter of the legend takes.
const LETTER: f64 = 7.0;
/// Told apart without red against green (Okabe and Ito).
const PARTS: [&str; 7] = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8c8c8c"];

/// One bar a line, as long as its value; all in the same unit.
pub(super) fn bars(name: &str, title: &str, bars: &[Bar]) -> Chart {
    draw(name, title, &[], bars)
}

/// Bars of several parts, one for each name.
pub(super) fn stacked(name: &str, title: &str, parts: &[&str], bars: &[Bar]) -> Chart {
    draw(name, title, parts, bars)
}

fn draw(name: &str, title: &str, parts: &[&str], bars: &[Bar]) -> Chart {
    let top = if parts.is_empty() { TOP } else { TOP + 24.0 };
    let height = top + bars.len() as f64 * ROW + 12.0;
    let longest = bars.iter().map(|bar| bar.parts.iter().sum::<f64>()).fold(0.0, f64::max);
    let scale = if longest > 0.0 { (WIDTH - LABELS - VALUES) / longest } else { 0.0 };
    let mut svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img">
<title>{}</title>
<style>
text {{ font: 13px system-ui, sans-serif; fill: #1f2328 }}
.title {{ font-weight: 600; font-size: 14px }}
.ground {{ fill: #ffffff; stroke: #d0d7de }}
.ours {{ fill: #0072b2 }}
.theirs {{ fill: #8c96a0 }}
@media (prefers-color-scheme: dark) {{
text {{ fill: #e6edf3 }}
.ground {{ fill: #0d1117; stroke: #30363d }}
.ours {{ fill: #3b9ddd }}
.theirs {{ fill: #6e7681 }}
}}
</style>
<rect class="ground" x="0.5" y="0.5" width="{}" height="{}" rx="6"/>
<text class="title" x="16" y="28">{}</text>
"##,
        escaped(title),
        WIDTH - 1.0,
        height - 1.0,
        escaped(title)
    );
    let mut x = LABELS;
    for (part, name) in parts.iter().enumerate() {
        let colour = PARTS[part % PARTS.len()];
        let _ = writeln!(
            svg,
            r#"<rect x="{x:.1}" y="42" width="12" height="12" fill="{colour}"/><text x="{:.1}" y="53">{}</text>"#,
            x + 17.0,
            escaped(name)
        );
        x += 17.0 + name.chars().count() as f64 * LETTER + 16.0;
    }
    for (row, bar) in bars.iter().enumerate() {
        let y = top + row as f64 * ROW;
        let middle = y + BAR / 2.0 + 4.5;
        let _ = writeln!(
            svg,
            r#"<text x="{:.1}" y="{middle:.1}" text-anchor="end">{}</text>"#,
            LABELS - 10.0,
            escaped(&bar.label)
        );
        let mut x = LABELS;
        for (part, value) in bar.parts.iter().enumerate() {
            let width = value * scale;
            let paint = match parts.get(part) {
                Some(name) => format!(
                    r#"fill="{}"><title>{}: {value:.3}</title></rect>"#,
                    PARTS[part % PARTS.len()],
                    escaped(name)
                ),
                None => format!(r#"class="{}"/>"#, if bar.is_ours { "ours" } else { "theirs" }),
            };
            let _ = writeln!(svg, r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{BAR}" {paint}"#);
            x += width;
        }
        let _ = writeln!(svg, r#"<text x="{:.1}" y="{middle:.1}">{}</text>"#, x + 8.0, escaped(&bar.text));
    }
    svg.push_str("</svg>\n");
    Chart { name: name.to_owned(), title: title.to_owned(), svg, is_placed: false }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(label: &str, parts: &[f64]) -> Bar {
        Bar { label: label.into(), parts: parts.to_vec(), text: "t".into(), is_ours: false }
    }

    #[test]
    fn the_longest_bar_fills_the_width_and_the_others_are_in_proportion() {
        let chart = bars("x", "CPU", &[bar("a", &[2.0]), bar("b <1>", &[4.0]), bar("none", &[])]);
        let widths: Vec<_> = chart
            .svg
            .lines()
            .filter(|line| line.contains("class=\"theirs\""))
            .filter_map(|line| line.split("width=\"").nth(1)?.split('"').next()?.parse::<f64>().ok())
            .collect();
        assert_eq!(widths, [210.0, 420.0]);
        assert!(chart.svg.contains("b &lt;1&gt;"));
    }

    #[test]
    fn parts_stand_behind_each_other_and_are_named() {
        let chart = stacked("x", "where", &["parse", "write"], &[bar("dna", &[1.0, 3.0])]);
        assert!(chart.svg.contains(r#"x="190.0" y="70.0" width="105.0""#), "{}", chart.svg);
        assert!(chart.svg.contains(r#"x="295.0" y="70.0" width="315.0""#), "{}", chart.svg);
        assert!(chart.svg.contains(">parse</text>") && chart.svg.contains(">write</text>"));
    }
}
