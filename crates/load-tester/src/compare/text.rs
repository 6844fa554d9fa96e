//! A comparison for the terminal: the sentence, the figures, what differs. Readable at 80 columns.

use std::fmt::Write as _;

use super::{Comparison, Row, Side, Verdict};
use crate::report::units::{count, thousands};

const WIDTH: usize = 80;
/// Errors listed side by side.
const MOST_ERRORS: usize = 10;

/// `all`: every figure, not only those that decide or changed.
pub fn render(comparison: &Comparison, all: bool) -> String {
    let mut text = wrapped(&comparison.sentence(), "");
    for more in comparison.invalid.iter().skip(1) {
        text += &wrapped(&format!("{more}."), "");
    }
    text.push('\n');
    for (label, side) in [("A", &comparison.a), ("B", &comparison.b)] {
        text += &wrapped(&format!("{label}  {}", describe(side)), "   ");
    }
    let refused = comparison.refusal().is_some();
    let shown: Vec<&Row> =
        comparison.rows.iter().filter(|row| all || worth_showing(row, &comparison.rows)).collect();
    if !shown.is_empty() {
        let _ =
            writeln!(text, "\n  {:<26} {:>10} {:>10} {:>9} {:>9}  verdict", "", "A", "B", "change", "noise");
        for row in &shown {
            let _ = writeln!(
                text,
                "{} {:<26} {:>10} {:>10} {:>9} {:>9}  {}",
                if row.key { "*" } else { " " },
                cut(&row.metric.name, 26),
                row.metric.text(row.a),
                row.metric.text(row.b),
                row.change_text(),
                row.band_text(),
                if refused { "–" } else { row.verdict.short(row.fails) },
            );
        }
        let hidden = comparison.rows.len() - shown.len();
        text.push_str("* decides");
        if !refused && shown.iter().any(|row| row.verdict == Verdict::CannotTell) {
            text.push_str("; ? cannot be told");
        }
        if hidden > 0 {
            let _ = write!(text, "; {} more with --all", count(hidden as u64, "figure", "figures"));
        }
        text.push('\n');
    }
    if !comparison.differences.is_empty() {
        text.push_str("\nNot the same on both sides:\n");
        for difference in &comparison.differences {
            let mark = if difference.grave { "!" } else { " " };
            let line = format!("{mark} {}: {} -> {}", difference.what, difference.a, difference.b);
            text += &wrapped(&line, "    ");
        }
    }
    let errors = errors(comparison);
    if !errors.is_empty() {
        let _ = writeln!(text, "\nErrors{:>18} {:>10}", "A", "B");
        for (name, a, b) in errors.iter().take(MOST_ERRORS) {
            let _ = writeln!(text, "{:>24} {:>10}  {}", thousands(*a), thousands(*b), cut(name, 42));
        }
        if errors.len() > MOST_ERRORS {
            let _ =
                writeln!(text, "  and {} more", count((errors.len() - MOST_ERRORS) as u64, "kind", "kinds"));
        }
    }
    let left_out = left_out(comparison);
    if !left_out.is_empty() {
        text.push_str("\nNot compared:\n");
        for line in left_out {
            text += &wrapped(&format!("  {line}"), "    ");
        }
    }
    text.push('\n');
    text += &wrapped(&comparison.method_text(), "");
    text += &wrapped(&rules(comparison), "");
    text
}

/// What decides, in words.
pub(super) fn rules(comparison: &Comparison) -> String {
    match &comparison.rules {
        Some(_) => {
            "Exit code 1 when a figure marked * is worse beyond noise and beyond its --fail-if.".to_owned()
        }
        None => format!(
            "Exit code 1 when a figure marked * is worse beyond noise and by more than {} % (shares: by more than \
             {} percentage points); 3 when nothing can be claimed.",
            comparison.allow,
            comparison.allow.min(super::ALLOWED_POINTS)
        ),
    }
}

/// What decides or differs, and what everybody asks for. Of a distribution that differs one figure is enough.
pub(super) fn worth_showing(row: &Row, all: &[Row]) -> bool {
    let zero = row.a == 0.0 && row.b == 0.0;
    let name = row.metric.name.as_str();
    let stage = name.starts_with("connect.") && name.split('.').count() > 2 || name.starts_with("connect.t");
    let telling = match name.rsplit_once('.') {
        Some((_, "p99")) => true,
        Some((stem, "p50")) => !all.iter().any(|other| {
            other.differs() && other.metric.name.strip_prefix(stem).is_some_and(|rest| rest == ".p99")
        }),
        Some((_, "p95" | "9" | "max" | "mean")) => false,
        _ => true,
    };
    row.key
        || (row.differs() && !stage && telling)
        || (!zero && !stage && !name.contains('.'))
        || (!zero && chosen(name))
}

impl Row {
    fn differs(&self) -> bool {
        matches!(self.verdict, Verdict::Better | Verdict::Worse | Verdict::Different)
    }
}

fn chosen(name: &str) -> bool {
    [
        "rate.requests",
        "completed.share",
        "delivery.missing",
        "delivery.duplicates",
        "delivery.p99.9",
        "delivery.first.p99",
        "delivery.median.p99",
        "delivery.last.p99",
        "http.response_time.p99",
        "socketio.response_time.p99",
        "connect.p99",
        "reconnect.p99",
        "target.cpu_per_delivery",
        "target.cpu_per_request",
        "target.memory",
        "start_lateness.p99",
        "tester.cpu",
    ]
    .contains(&name)
}

impl Verdict {
    pub(super) fn short(self, fails: bool) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse if fails => "WORSE",
            Self::Worse => "worse",
            Self::Different => "differs",
            Self::Same => "same",
            Self::CannotTell => "?",
        }
    }
}

/// Files and when they ran.
pub(super) fn describe(side: &Side) -> String {
    let names: Vec<String> = side.runs.iter().map(super::Run::name).collect();
    let target =
        side.runs[0].loaded.run.as_ref().map(|run| format!(", {}", run.meta.target)).unwrap_or_default();
    match &names[..] {
        [one] => format!("{one}{target}"),
        [first, .., last] => {
            let places = if names.len() > 3 { format!("{first} ... {last}") } else { names.join(", ") };
            format!("{}{target}: {places}", count(names.len() as u64, "run", "runs"))
        }
        [] => String::new(),
    }
}

/// Errors by name, a mean over each side's runs, most frequent first.
pub(super) fn errors(comparison: &Comparison) -> Vec<(String, u64, u64)> {
    let mut all: std::collections::BTreeMap<String, (u64, u64)> = std::collections::BTreeMap::new();
    for (side, second) in [(&comparison.a, false), (&comparison.b, true)] {
        for run in &side.runs {
            let mut add = |name: String, n: u64| {
                let counts = all.entry(name).or_default();
                let count = if second { &mut counts.1 } else { &mut counts.0 };
                *count = count.saturating_add(n);
            };
            match run.loaded.run.as_ref().map(|run| &run.errors).filter(|errors| !errors.is_empty()) {
                Some(groups) => groups.iter().for_each(|g| add(format!("{}: {}", g.step, g.cause), g.count)),
                None => run.loaded.total.errors().for_each(|(name, n)| add(name.to_owned(), n)),
            }
            // To Artillery a 503 is an answer like any other, and no error.
            let codes = run.loaded.total.codes.iter().filter(|(code, _)| code.starts_with(['4', '5']));
            codes.for_each(|(code, n)| add(format!("HTTP {code}"), *n));
        }
    }
    let (a, b) = (comparison.a.runs.len() as u64, comparison.b.runs.len() as u64);
    let mut rows: Vec<_> =
        all.into_iter().map(|(name, (in_a, in_b))| (name, in_a.div_ceil(a), in_b.div_ceil(b))).collect();
    rows.sort_by(|x, y| y.1.max(y.2).cmp(&x.1.max(x.2)).then_with(|| x.0.cmp(&y.0)));
    rows
}

/// Names that share a reason in one line.
pub(super) fn left_out(comparison: &Comparison) -> Vec<String> {
    let mut by_reason: Vec<(&str, Vec<String>)> = Vec::new();
    for (name, why) in &comparison.left_out {
        let ends = [".p50", ".p95", ".p99", ".p99.9", ".max", ".mean"];
        let stem = ends.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name).to_owned();
        match by_reason.iter_mut().find(|(known, _)| known == why) {
            Some((_, names)) if names.contains(&stem) => {}
            Some((_, names)) => names.push(stem),
            None => by_reason.push((why, vec![stem])),
        }
    }
    by_reason.into_iter().map(|(why, names)| format!("{}: {why}", names.join(", "))).collect()
}

/// Its first so many characters, the last of them an ellipsis where more stood.
pub(crate) fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(most - 1).collect();
    short.push('…');
    short
}

/// Lines of at most 80 columns; those after the first begin with `indent`.
pub(crate) fn wrapped(text: &str, indent: &str) -> String {
    let mut lines = String::new();
    let mut line = String::new();
    let leading = text.len() - text.trim_start().len();
    line.push_str(&text[..leading]);
    let mut empty = true;
    for word in text.split_whitespace() {
        if !empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            let _ = writeln!(lines, "{}", line.trim_end());
            line = indent.to_owned();
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    let _ = writeln!(lines, "{}", line.trim_end());
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_wrapped_at_words() {
        let text = wrapped(&"word ".repeat(40), "    ");
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert!(text.lines().skip(1).all(|line| line.starts_with("    word")), "{text}");
        assert_eq!(wrapped("  ! a", "   "), "  ! a\n");
    }
}
