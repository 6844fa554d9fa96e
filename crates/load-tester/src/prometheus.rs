//! What a server says of itself at `/metrics`: the text format of Prometheus, classic and OpenMetrics.
//!
//! ```text
//! line       = "" | "# HELP" name text | "# TYPE" name kind | "# EOF" | "#" anything | sample
//! sample     = (name [ labels ] | labels) value [ timestamp ] [ " # " exemplar ]
//! labels     = "{" [ label *("," label) [","] ] "}"
//! label      = name "=" quoted | quoted "=" quoted | quoted    ; the last one is the metric's own name
//! ```
//!
//! Nothing is copied but what is asked for: names and labels stay slices of the text. A document that breaks the grammar
//! is refused whole, as Prometheus does: half of it could not be told from all of it.

use std::borrow::Cow;
use std::collections::BTreeMap;

/// A longer text is not asked for and not read.
pub const MOST_BYTES: usize = 8 << 20;
const MOST_SAMPLES: usize = 200_000;
const MOST_LINE_BYTES: usize = 64 << 10;
const MOST_LABELS: usize = 64;

/// Why a text is no exposition, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct Error {
    /// From 1.
    pub line: usize,
    pub what: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FamilyKind {
    Counter,
    Gauge,
    Histogram,
    Summary,
    /// Everything else: unknown, untyped, info, stateset.
    Other,
}

/// Metrics of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Family {
    pub kind: FamilyKind,
    /// Empty when the text says nothing.
    pub help: String,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Sample<'a> {
    /// As exposed, with `_total`, `_bucket`, `_sum`, ...
    pub name: Cow<'a, str>,
    /// As written between the braces, without them.
    pub labels: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    pub value: f64,
}

impl Sample<'_> {
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }

    /// Metric and labels as one text: `http_requests_total{code="200"}`.
    pub fn series(&self) -> String {
        let mut text = self.name.clone().into_owned();
        for (index, (name, value)) in self.labels.iter().enumerate() {
            text.push(if index == 0 { '{' } else { ',' });
            text.push_str(name);
            text.push_str("=\"");
            for c in value.chars() {
                match c {
                    '\\' => text.push_str("\\\\"),
                    '"' => text.push_str("\\\""),
                    '\n' => text.push_str("\\n"),
                    c => text.push(c),
                }
            }
            text.push('"');
        }
        if !self.labels.is_empty() {
            text.push('}');
        }
        text
    }
}

/// One answer of an endpoint.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Exposition<'a> {
    /// By the name in `# TYPE` and `# HELP`.
    pub families: BTreeMap<&'a str, Family>,
    /// In the order they stand.
    pub samples: Vec<Sample<'a>>,
}

/// Endings that a sample's name may have beside its family's.
const ENDINGS: [&str; 5] = ["_total", "_bucket", "_sum", "_count", "_created"];

impl<'a> Exposition<'a> {
    /// The family a sample belongs to, by its name.
    pub fn family_of(&self, name: &str) -> Option<(&'a str, &Family)> {
        let stem = ENDINGS.iter().find_map(|ending| name.strip_suffix(ending));
        [Some(name), stem]
            .into_iter()
            .flatten()
            .find_map(|name| self.families.get_key_value(name))
            .map(|(name, family)| (*name, family))
    }

    /// Only ever grows while the process lives, so that what counts is by how much.
    pub fn is_counter(&self, name: &str) -> bool {
        match self.family_of(name) {
            Some((family, Family { kind: FamilyKind::Counter, .. })) => {
                name == family || name.ends_with("_total")
            }
            Some((_, Family { kind: FamilyKind::Histogram | FamilyKind::Summary, .. })) => {
                ["_bucket", "_sum", "_count"].iter().any(|ending| name.ends_with(ending))
            }
            Some((_, Family { kind: FamilyKind::Gauge, .. })) => false,
            _ => name.ends_with("_total"),
        }
    }
}

/// Reads a whole answer.
///
/// # Errors
/// With the line that is not of the grammar or beyond a limit (length of a line, number of labels and samples).
pub fn parse(text: &str) -> Result<Exposition<'_>, Error> {
    let mut all = Exposition::default();
    for (index, line) in text.split('\n').enumerate() {
        let failed = |what| Error { line: index + 1, what };
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.len() > MOST_LINE_BYTES {
            return Err(failed("longer than 64 KiB"));
        }
        let line = line.trim_matches([' ', '\t']);
        if let Some(comment) = line.strip_prefix('#') {
            if comment.trim() == "EOF" {
                break;
            }
            describe(comment, &mut all.families);
        } else if !line.is_empty() {
            if all.samples.len() == MOST_SAMPLES {
                return Err(failed("more than 200,000 samples"));
            }
            all.samples.push(Cursor(line).sample().map_err(failed)?);
        }
    }
    Ok(all)
}

/// `HELP name text`, `TYPE name kind`; other comments mean nothing.
fn describe<'a>(comment: &'a str, families: &mut BTreeMap<&'a str, Family>) {
    let mut words = comment.trim_start().splitn(3, [' ', '\t']);
    let (Some(what), Some(name), Some(rest)) = (words.next(), words.next(), words.next()) else { return };
    if !matches!(what, "HELP" | "TYPE") {
        return;
    }
    let name = name.trim_matches('"');
    let family =
        families.entry(name).or_insert_with(|| Family { kind: FamilyKind::Other, help: String::new() });
    if what == "HELP" {
        family.help = unescaped(rest).into_owned();
        crate::metrics::cut(&mut family.help, 200);
        return;
    }
    family.kind = match rest.trim() {
        "counter" => FamilyKind::Counter,
        "gauge" => FamilyKind::Gauge,
        "histogram" => FamilyKind::Histogram,
        "summary" => FamilyKind::Summary,
        _ => FamilyKind::Other,
    };
}

fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            (_, true) => match chars.next() {
                Some('n') => plain.push('\n'),
                Some(c @ ('\\' | '"')) => plain.push(c),
                // Not an escape, so it stays what it is.
                Some(c) => plain.extend(['\\', c]),
                None => plain.push('\\'),
            },
            (c, false) => plain.push(c),
        }
    }
    Cow::Owned(plain)
}

/// The rest of a line.
struct Cursor<'a>(&'a str);

impl<'a> Cursor<'a> {
    fn sample(&mut self) -> Result<Sample<'a>, &'static str> {
        let mut name = self.name(true).map(Cow::Borrowed);
        let mut labels = Vec::new();
        self.blanks();
        if self.take('{') {
            loop {
                self.blanks();
                if self.take('}') {
                    break;
                }
                if labels.len() == MOST_LABELS {
                    return Err("more than 64 labels");
                }
                let label = match self.name(false) {
                    Some(label) => Cow::Borrowed(label),
                    None => self.quoted()?,
                };
                self.blanks();
                if self.take('=') {
                    self.blanks();
                    labels.push((label, self.quoted()?));
                } else if name.is_none() && labels.is_empty() {
                    name = Some(label);
                } else {
                    return Err("a label without a value");
                }
                self.blanks();
                if !self.take(',') && !self.0.starts_with('}') {
                    return Err("labels are separated by commas and end with `}`");
                }
            }
        }
        let name = name.filter(|name| !name.is_empty()).ok_or("a sample begins with the name of a metric")?;
        self.blanks();
        let word = self.word();
        let value = word.parse().map_err(|_| {
            if word.is_empty() { "a sample without a value" } else { "a value that is no number" }
        })?;
        self.blanks();
        // An exemplar is a sample of its own and not asked for.
        if !self.0.is_empty() && !self.0.starts_with('#') {
            self.word().parse::<f64>().map_err(|_| "a timestamp that is no number")?;
            self.blanks();
            if !self.0.is_empty() && !self.0.starts_with('#') {
                return Err("more than a value and a timestamp");
            }
        }
        Ok(Sample { name, labels, value })
    }

    fn name(&mut self, colons: bool) -> Option<&'a str> {
        let part = |c: char| c.is_ascii_alphanumeric() || c == '_' || (colons && c == ':');
        if self.0.starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        let length = self.0.find(|c| !part(c)).unwrap_or(self.0.len());
        let (name, rest) = self.0.split_at(length);
        self.0 = rest;
        (!name.is_empty()).then_some(name)
    }

    fn quoted(&mut self) -> Result<Cow<'a, str>, &'static str> {
        let inner = self.0.strip_prefix('"').ok_or("a label's value stands in quotes")?;
        let mut escaped = false;
        for (at, byte) in inner.bytes().enumerate() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => {
                    self.0 = &inner[at + 1..];
                    return Ok(unescaped(&inner[..at]));
                }
                _ => {}
            }
        }
        Err("a label's value without its closing quote")
    }

    fn word(&mut self) -> &'a str {
        let length = self.0.find([' ', '\t']).unwrap_or(self.0.len());
        let (word, rest) = self.0.split_at(length);
        self.0 = rest;
        word
    }

    fn take(&mut self, c: char) -> bool {
        let rest = self.0.strip_prefix(c);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn blanks(&mut self) {
        self.0 = self.0.trim_start_matches([' ', '\t']);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLASSIC: &str = "\
# A comment that means nothing.
# HELP http_requests_total Requests \\\\ by code.
# TYPE http_requests_total counter
http_requests_total{method=\"post\",code=\"200\",} 1027 1395066363000
http_requests_total{method=\"a\\\"b\\n\"}\t3
# TYPE rpc_seconds summary
rpc_seconds{quantile=\"0.5\"} 4.77e-3
rpc_seconds_sum 17.6
rpc_seconds_count 2693
# TYPE load gauge
load -Inf
something_weird{problem=\"division by zero\"} +Inf -3982045
untyped_total NaN
";

    #[test]
    fn the_classic_format() {
        let all = parse(CLASSIC).unwrap();
        assert_eq!(all.samples.len(), 8);
        let first = &all.samples[0];
        assert_eq!((first.value, first.label("code"), first.label("no")), (1027.0, Some("200"), None));
        assert_eq!(first.series(), "http_requests_total{method=\"post\",code=\"200\"}");
        assert_eq!(all.samples[1].series(), "http_requests_total{method=\"a\\\"b\\n\"}");
        assert_eq!(all.families["http_requests_total"].help, "Requests \\ by code.");
        assert_eq!(all.samples[5].value, f64::NEG_INFINITY);
        let counters = all.samples.iter().map(|sample| all.is_counter(&sample.name));
        assert_eq!(
            counters.collect::<Vec<_>>(),
            [true, true, false, true, true, false, false, true],
            "quantiles and gauges are no counters"
        );
    }

    #[test]
    fn openmetrics() {
        let text = "# TYPE a counter\n# UNIT a seconds\n# HELP a What a is\na_total{x=\"1\"} 5 # {trace=\"t\"} 0.3 1.5\na_created 1e9\n\
                    # TYPE h histogram\nh_bucket{le=\"0.1\"} 1 # {} 0.01\nh_bucket{le=\"+Inf\"} 2\nh_count 2\nh_sum 0.5\n\
                    {\"with.dots\",\"la.bel\"=\"v\"} 7 1.25\n# EOF\nnothing after it is read";
        let all = parse(text).unwrap();
        assert_eq!(all.samples.len(), 7);
        assert_eq!(
            all.family_of("h_bucket").map(|(name, family)| (name, family.kind)),
            Some(("h", FamilyKind::Histogram))
        );
        assert!(all.is_counter("a_total") && !all.is_counter("a_created") && all.is_counter("h_sum"));
        assert_eq!((&*all.samples[6].name, all.samples[6].value), ("with.dots", 7.0));
        assert_eq!(all.samples[6].label("la.bel"), Some("v"));
    }

    #[test]
    fn what_is_no_exposition_says_where_and_why() {
        let long = format!("a {}", "1".repeat(70_000));
        let labels = format!("a{{{}}} 1", "b=\"c\",".repeat(65));
        let many = "a 1\n".repeat(MOST_SAMPLES + 1);
        for (text, line, what) in [
            ("<!doctype html>", 1, "begins with the name"),
            ("a 1\n\n{\"error\": 404}", 3, "separated by commas"),
            ("a 1\nb", 2, "without a value"),
            ("a one", 1, "no number"),
            ("a 1 soon", 1, "timestamp"),
            ("a 1 2 3", 1, "more than a value"),
            ("a{b=\"c} 1", 1, "closing quote"),
            ("a{b=c} 1", 1, "in quotes"),
            ("a{b} 1", 1, "without a value"),
            ("a{b=\"c\" d=\"e\"} 1", 1, "separated by commas"),
            ("{} 1", 1, "begins with the name"),
            ("1a 1", 1, "begins with the name"),
            (&long, 1, "64 KiB"),
            (&labels, 1, "64 labels"),
            (&many, MOST_SAMPLES + 1, "samples"),
        ] {
            let error = parse(text).expect_err(text.get(..20).unwrap_or(text));
            assert_eq!(error.line, line, "{error}");
            assert!(error.to_string().contains(what), "{error}");
        }
        assert_eq!(parse("").unwrap(), Exposition::default());
    }
}
