//! Limits judged after the run: Artillery's v1 keys, v2 `thresholds` and `conditions`, and the expressions of `ifTrue`.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde_json::Value;

use crate::compare::text::cut;
use crate::metric::{Figures, Metric, Totals};
use crate::outcome::{Check, CheckKind, counters};
use crate::script::model::Ensure;

/// Judges every limit; one that names an unknown figure fails and says so.
pub(crate) fn judge(ensure: &Ensure, figures: Totals<'_>) -> Vec<Check> {
    let mut checks = Vec::new();
    for (metric, &limit) in &ensure.thresholds {
        // v1's bare keys allow the limit itself, v2's thresholds stay below it.
        let v1 = !metric.contains('.');
        let sign = if v1 { "<=" } else { "<" };
        let (observed, passed) = match look_up(&figures, metric) {
            Ok((value, unit)) => {
                (format!("{}{unit}", plain(value)), if v1 { value <= limit } else { value < limit })
            }
            Err(why) => (why, false),
        };
        checks.push(Check {
            kind: CheckKind::Ensure,
            expression: format!("{metric} {sign} {}", plain(limit)),
            observed,
            passed,
            strict: true,
        });
    }
    for (text, strict) in &ensure.conditions {
        let (observed, passed) = match Expression::parse(text) {
            Err(why) => (format!("cannot be read: {why}"), false),
            Ok(expression) => expression.judge(&figures),
        };
        checks.push(Check {
            kind: CheckKind::Ensure,
            expression: text.clone(),
            observed,
            passed,
            strict: *strict,
        });
    }
    if let Some(limit) = ensure.max_error_rate {
        let count = |name: &str| figures.total.counters.get(name).copied().unwrap_or(0) as f64;
        // Whom the run's end cut off might have completed.
        let created = count("vusers.created") - count(counters::USERS_UNFINISHED);
        let rate = if created > 0.0 { (created - count("vusers.completed")) / created * 100.0 } else { 0.0 };
        checks.push(Check {
            kind: CheckKind::Ensure,
            expression: format!("maxErrorRate <= {}", plain(limit)),
            observed: format!("{} %", plain((rate * 100.0).round() / 100.0)),
            passed: rate <= limit,
            strict: true,
        });
    }
    checks
}

/// The figure of this name, or why there is none.
/// The figure of this name and its unit, or why there is none.
fn look_up(figures: &dyn Figures, name: &str) -> Result<(f64, &'static str), String> {
    // What was counted under any name can be asked for, also by names that only this run knows.
    if let Some(count) = figures.counter(name) {
        return Ok((count as f64, ""));
    }
    match Metric::named(name) {
        Ok(metric) => metric
            .of(figures)
            .map(|value| (value, metric.unit.after_figure()))
            .ok_or_else(|| format!("no samples: nothing was recorded under {name}")),
        Err(unknown) => Err(unknown.to_string()),
    }
}

/// At most three decimals; a number of many digits with its power of ten.
pub(crate) fn plain(value: f64) -> String {
    if value.abs() >= 1e15 {
        return format!("{value:e}");
    }
    let rounded = (value * 1000.0).round() / 1000.0;
    rounded.to_string()
}

/// A condition: comparisons and arithmetic over named figures, `and`, `or`, `not`, `? :`, brackets.
#[derive(Debug, Clone, PartialEq)]
pub struct Expression(Node);

#[derive(Debug, Clone, PartialEq)]
enum Node {
    Value(Value),
    /// In the unit of its kind, and the unit as written, which may be none.
    Number(f64, &'static str),
    Name(String),
    Not(Box<Node>),
    Negative(Box<Node>),
    Binary(Box<Node>, Operator, Box<Node>),
    Choice(Box<Node>, Box<Node>, Box<Node>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Or,
    And,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Power,
}

impl Operator {
    fn compares(self) -> bool {
        use Operator::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};
        matches!(self, Equal | NotEqual | Less | LessOrEqual | Greater | GreaterOrEqual)
    }
}

/// Loosest first; all of a row bind equally, from the left.
const BINDING: [&[(&str, Operator)]; 7] = [
    &[("||", Operator::Or), ("or", Operator::Or)],
    &[("&&", Operator::And), ("and", Operator::And)],
    &[("==", Operator::Equal), ("!=", Operator::NotEqual), ("=", Operator::Equal)],
    &[
        ("<=", Operator::LessOrEqual),
        (">=", Operator::GreaterOrEqual),
        ("<", Operator::Less),
        (">", Operator::Greater),
    ],
    &[("+", Operator::Add), ("-", Operator::Subtract)],
    &[
        ("*", Operator::Multiply),
        ("/", Operator::Divide),
        ("%", Operator::Remainder),
        ("mod", Operator::Remainder),
    ],
    &[("^", Operator::Power)],
];
const MAX_NESTING: usize = 64;
const MAX_LENGTH: usize = 10_000;
/// Signs between two values: a chain of them is walked as deep as it is long.
const MAX_OPERATORS: usize = 250;

impl Expression {
    /// # Errors
    /// In words, when it cannot be read, is longer than 10,000 bytes, nested too deeply or a chain of hundreds.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX_LENGTH {
            return Err(format!("longer than {MAX_LENGTH} bytes"));
        }
        let mut parser = Parser { text, at: 0, operators: 0 };
        let node = parser.choice(0)?;
        parser.space();
        if parser.at < text.len() {
            return Err(format!("cannot read {:?}", quote(parser.rest())));
        }
        Ok(Self(node))
    }

    /// Does it hold, and what was seen? One that names an unknown figure does not.
    pub(crate) fn judge(&self, figures: &dyn Figures) -> (String, bool) {
        let mut unknown = Vec::new();
        let mut seen = BTreeMap::new();
        self.names(&mut |name| match look_up(figures, name) {
            Ok((value, unit)) => drop(seen.insert(name.to_owned(), format!("{}{unit}", plain(value)))),
            Err(why) => unknown.push(why),
        });
        if !unknown.is_empty() {
            return (unknown.join("; "), false);
        }
        let observed: Vec<String> = seen.iter().map(|(name, value)| format!("{name} = {value}")).collect();
        match self.holds_for(&|name| look_up(figures, name).ok().map(|(value, _)| Value::from(value))) {
            Ok(held) => (observed.join(", "), held),
            Err(why) => (why, false),
        }
    }

    /// Calls `with` for every name in it.
    pub fn names(&self, with: &mut impl FnMut(&str)) {
        fn walk(node: &Node, with: &mut impl FnMut(&str)) {
            match node {
                Node::Value(_) | Node::Number(..) => {}
                Node::Name(name) => with(name),
                Node::Not(inner) | Node::Negative(inner) => walk(inner, with),
                Node::Binary(a, _, b) => {
                    walk(a, with);
                    walk(b, with);
                }
                Node::Choice(a, b, c) => {
                    walk(a, with);
                    walk(b, with);
                    walk(c, with);
                }
            }
        }
        walk(&self.0, with);
    }

    /// The first figure that is held against a number in a unit it is not measured in, in words.
    pub fn mismatch(&self) -> Option<String> {
        fn walk(node: &Node) -> Option<String> {
            match node {
                Node::Value(_) | Node::Number(..) | Node::Name(_) => None,
                Node::Not(inner) | Node::Negative(inner) => walk(inner),
                Node::Choice(a, b, c) => walk(a).or_else(|| walk(b)).or_else(|| walk(c)),
                Node::Binary(a, operator, b) => match (&**a, &**b) {
                    (Node::Name(name), Node::Number(_, unit)) | (Node::Number(_, unit), Node::Name(name))
                        if operator.compares() =>
                    {
                        let metric = Metric::named(name).ok()?;
                        let fits = unit.is_empty() || metric.unit.is_written(unit);
                        (!fits)
                            .then(|| format!("{} is {}, not `{unit}`", quote(name), metric.unit.in_words()))
                    }
                    _ => walk(a).or_else(|| walk(b)),
                },
            }
        }
        walk(&self.0)
    }

    /// Is it true?
    ///
    /// # Errors
    /// In words, when a name is unknown or a value cannot be calculated with.
    pub fn holds_for(&self, look_up: &dyn Fn(&str) -> Option<Value>) -> Result<bool, String> {
        Ok(truth(&self.0.value(look_up)?))
    }
}

fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(yes) => *yes,
        Value::Number(number) => number.as_f64().is_some_and(|number| number != 0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(_) | Value::Object(_) => true,
    }
}

fn number(value: &Value) -> Result<f64, String> {
    match value {
        Value::Number(number) => number.as_f64().ok_or_else(|| format!("{number} is out of range")),
        Value::Bool(yes) => Ok(f64::from(u8::from(*yes))),
        Value::String(text) => text.trim().parse().map_err(|_| format!("{:?} is no number", quote(text))),
        other => Err(format!("{} is no number", quote(&other.to_string()))),
    }
}

impl Node {
    fn value(&self, look_up: &dyn Fn(&str) -> Option<Value>) -> Result<Value, String> {
        Ok(match self {
            Self::Value(value) => value.clone(),
            Self::Number(number, _) => Value::from(*number),
            Self::Name(name) => look_up(name).ok_or_else(|| format!("no such name: {}", quote(name)))?,
            Self::Not(inner) => Value::Bool(!truth(&inner.value(look_up)?)),
            Self::Negative(inner) => Value::from(-number(&inner.value(look_up)?)?),
            Self::Choice(condition, yes, no) => {
                if truth(&condition.value(look_up)?) {
                    yes.value(look_up)?
                } else {
                    no.value(look_up)?
                }
            }
            Self::Binary(a, Operator::And, b) => {
                Value::Bool(truth(&a.value(look_up)?) && truth(&b.value(look_up)?))
            }
            Self::Binary(a, Operator::Or, b) => {
                Value::Bool(truth(&a.value(look_up)?) || truth(&b.value(look_up)?))
            }
            Self::Binary(a, operator, b) => {
                let (a, b) = (a.value(look_up)?, b.value(look_up)?);
                let order = || match (&a, &b) {
                    (Value::String(a), Value::String(b)) => Ok(Some(a.cmp(b))),
                    _ => Ok::<_, String>(number(&a)?.partial_cmp(&number(&b)?)),
                };
                let equal = || match (number(&a), number(&b)) {
                    (Ok(a), Ok(b)) => a == b,
                    _ => a == b,
                };
                match operator {
                    Operator::Equal => Value::Bool(equal()),
                    Operator::NotEqual => Value::Bool(!equal()),
                    Operator::Less => Value::Bool(order()? == Some(Ordering::Less)),
                    Operator::LessOrEqual => {
                        Value::Bool(matches!(order()?, Some(Ordering::Less | Ordering::Equal)))
                    }
                    Operator::Greater => Value::Bool(order()? == Some(Ordering::Greater)),
                    Operator::GreaterOrEqual => {
                        Value::Bool(matches!(order()?, Some(Ordering::Greater | Ordering::Equal)))
                    }
                    _ => {
                        let (a, b) = (number(&a)?, number(&b)?);
                        let (sign, result) = match operator {
                            Operator::Add => ("+", a + b),
                            Operator::Subtract => ("-", a - b),
                            Operator::Multiply => ("*", a * b),
                            Operator::Divide => ("/", a / b),
                            Operator::Remainder => ("mod", a % b),
                            _ => ("^", a.powf(b)),
                        };
                        // Zero divided by zero is no limit kept.
                        if !result.is_finite() {
                            return Err(format!("{} {sign} {} is no number", plain(a), plain(b)));
                        }
                        Value::from(result)
                    }
                }
            }
        })
    }
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
    operators: usize,
}

impl<'t> Parser<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn space(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    /// Takes a sign or a whole word.
    fn take(&mut self, what: &str) -> bool {
        self.space();
        let Some(after) = self.rest().strip_prefix(what) else { return false };
        let is_word = what.as_bytes()[0].is_ascii_alphabetic();
        if is_word && after.starts_with(in_name) {
            return false;
        }
        self.at += what.len();
        true
    }

    fn choice(&mut self, depth: usize) -> Result<Node, String> {
        if depth > MAX_NESTING {
            return Err("nested too deeply".into());
        }
        let condition = self.binary(0, depth)?;
        if !self.take("?") {
            return Ok(condition);
        }
        let yes = self.choice(depth + 1)?;
        if !self.take(":") {
            return Err(format!("\":\" is missing before {:?}", quote(self.rest())));
        }
        let no = self.choice(depth + 1)?;
        Ok(Node::Choice(Box::new(condition), Box::new(yes), Box::new(no)))
    }

    fn binary(&mut self, level: usize, depth: usize) -> Result<Node, String> {
        let Some(operators) = BINDING.get(level) else { return self.unary(depth) };
        let mut left = self.binary(level + 1, depth)?;
        while let Some((_, operator)) = operators.iter().find(|(sign, _)| self.take(sign)) {
            self.operators += 1;
            if self.operators > MAX_OPERATORS {
                return Err(format!("more than {MAX_OPERATORS} signs in one expression"));
            }
            let right = self.binary(level + 1, depth)?;
            left = Node::Binary(Box::new(left), *operator, Box::new(right));
        }
        Ok(left)
    }

    fn unary(&mut self, depth: usize) -> Result<Node, String> {
        if depth > MAX_NESTING {
            return Err("nested too deeply".into());
        }
        if self.take("not") || (!self.rest().trim_start().starts_with("!=") && self.take("!")) {
            return Ok(Node::Not(Box::new(self.unary(depth + 1)?)));
        }
        if self.take("-") {
            return Ok(Node::Negative(Box::new(self.unary(depth + 1)?)));
        }
        if self.take("(") {
            let inner = self.choice(depth + 1)?;
            if !self.take(")") {
                return Err(format!("\")\" is missing before {:?}", quote(self.rest())));
            }
            return Ok(inner);
        }
        self.space();
        let rest = self.rest();
        if let Some(mark) = rest.chars().next().filter(|c| matches!(c, '"' | '\'')) {
            let end =
                rest[1..].find(mark).ok_or_else(|| format!("a quote is not closed: {}", quote(rest)))?;
            self.at += end + 2;
            let inner = &rest[1..=end];
            // Quoted names hold what a bare one cannot, such as the space in `GET /`.
            let is_metric = inner.contains('.') && mark == '\'';
            return Ok(if is_metric { Node::Name(inner.to_owned()) } else { Node::Value(inner.into()) });
        }
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(rest.len());
        if rest.starts_with(|c: char| c.is_ascii_digit()) {
            let value = rest[..digits].parse().ok().filter(|value: &f64| value.is_finite());
            let value = value.ok_or_else(|| format!("cannot read {:?}", quote(&rest[..digits])))?;
            self.at += digits;
            let (unit, factor) = self.unit();
            return Ok(Node::Number(value * factor, unit));
        }
        let end = rest.find(|c: char| !in_name(c)).unwrap_or(rest.len());
        if end == 0 {
            return Err(if rest.is_empty() {
                "it ends too early".into()
            } else {
                format!("cannot read {:?}", quote(rest))
            });
        }
        // A hyphen belongs to a name only between letters, so that `a - b` and `a -b` subtract.
        let name = rest[..end].trim_end_matches('-');
        self.at += name.len();
        Ok(match name {
            "true" => Node::Value(true.into()),
            "false" => Node::Value(false.into()),
            name => Node::Name(name.to_owned()),
        })
    }
}

impl Parser<'_> {
    /// Takes the unit that stands at a number's end, and answers what it stands for: times are in milliseconds, memory in
    /// megabytes. `%` is one only where no remainder could be meant.
    fn unit(&mut self) -> (&'static str, f64) {
        const UNITS: [(&str, f64); 9] = [
            ("us", 0.001),
            ("µs", 0.001),
            ("ms", 1.0),
            ("s", 1000.0),
            ("min", 60_000.0),
            ("MB", 1.0),
            ("GB", 1000.0),
            ("/s", 1.0),
            ("%", 1.0),
        ];
        for (unit, factor) in UNITS {
            let Some(after) = self.rest().strip_prefix(unit) else { continue };
            let ends = if unit == "%" {
                let after = after.trim_start();
                after.is_empty()
                    || after.starts_with([')', '?', ':', '&', '|', '<', '>', '=', '!'])
                    || after.starts_with("and ")
                    || after.starts_with("or ")
            } else {
                !after.starts_with(in_name)
            };
            if ends {
                self.at += unit.len();
                return (unit, factor);
            }
        }
        ("", 1.0)
    }
}

/// What was typed, in an error: a whole page of it would hide the error.
pub(crate) fn quote(text: &str) -> String {
    cut(text, 60)
}

fn in_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '$' | '.' | '-')
}

#[cfg(test)]
mod tests {
    use hdrhistogram::Histogram;

    use super::*;
    use crate::outcome::{Window, names};

    fn window() -> Window {
        let mut times: Histogram<u64> = Histogram::new(3).unwrap();
        for ms in 1..=100 {
            times.record(ms * 1000).unwrap();
        }
        Window {
            start_s: 0.0,
            length_s: 10.0,
            counters: [
                ("vusers.created", 100),
                ("vusers.completed", 98),
                ("http.requests", 500),
                ("http.codes.200", 500),
            ]
            .map(|(name, count)| (name.to_owned(), count))
            .into(),
            histograms: [(names::HTTP_RESPONSE_TIME.to_owned(), times)].into(),
            concurrent_users: 3,
            connections: 3,
        }
    }

    #[test]
    fn expressions_are_read_as_filtrex_reads_them() {
        let values = |name: &str| match name {
            "a" => Some(Value::from(3)),
            "b.c-d" => Some(Value::from(4)),
            "role" => Some(Value::from("admin")),
            _ => None,
        };
        let rows = [
            ("a < 4", true),
            ("a = 3 and b.c-d >= 4", true),
            ("a == 3 && not (b.c-d > 4)", true),
            ("a + b.c-d * 2 == 11", true),
            ("a - 1 = 2", true),
            ("-a < 0", true),
            ("(a + 1) / 2 == 2", true),
            ("2 ^ a == 8", true),
            ("7 mod a == 1", true),
            ("role == \"admin\"", true),
            ("role != 'admin'", false),
            ("a > 5 ? 0 : 1", true),
            ("!(a > 5)", true),
            ("true and false or true", true),
            ("a < 4ms and a * 1000 = 3s", true),
            ("2 * a = 6% and (a < 5%)", true),
            ("a > 200us", true),
            ("7 % a == 1", true),
            ("7 %a == 1", true),
            ("a < 4/s", true),
            ("a * 2min = 360000", true),
        ];
        for (text, expected) in rows {
            let expression = Expression::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"));
            assert_eq!(expression.holds_for(&values), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_figure_is_not_held_against_another_kind_of_unit() {
        for (text, expected) in [
            ("errors.share <= 1%", None),
            ("delivery.p99 < 2s and target.memory < 1GB", None),
            ("rate.requests > 100/s and errors < 5", None),
            ("http.requests * 2ms < 5ms", None),
            ("errors.share < 5MB", Some("errors.share is in per cent, not `MB`")),
            ("errors < 3 or not (2% > delivery.p99)", Some("delivery.p99 is in milliseconds, not `%`")),
            ("errors = 3ms ? 1 : 0", Some("errors is a count, not `ms`")),
        ] {
            let expression = Expression::parse(text).unwrap();
            assert_eq!(expression.mismatch().as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_number_is_no_limit_kept() {
        let zero = |_: &str| Some(Value::from(0));
        for (text, expected) in [
            ("errors / vusers.created < 0.1", "0 / 0 is no number"),
            ("1 / errors > 5", "1 / 0 is no number"),
            ("7 mod errors = 0", "7 mod 0 is no number"),
            ("10 ^ 999 > 1", "10 ^ 999 is no number"),
            ("\"x\" * 2 > 1", "\"x\" is no number"),
        ] {
            let held = Expression::parse(text).unwrap().holds_for(&zero);
            assert_eq!(held, Err(expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        let long = "9".repeat(400);
        assert_eq!(Expression::parse(&long), Err(format!("cannot read {:?}", quote(&long))));
        let chain = format!("{}a", "1+".repeat(MAX_OPERATORS + 1));
        assert!(Expression::parse(&chain[2..]).is_ok() && Expression::parse(&chain).is_err());
        let nested = format!("{}a", "(".repeat(1000));
        for text in
            ["", "a <", "a < 1 )", "(a", "'a", "a ? 1", "1..2", nested.as_str(), &"!".repeat(9_000), "a b"]
        {
            assert!(Expression::parse(text).is_err(), "{text:?} was read");
        }
    }

    #[test]
    fn limits_are_judged_and_unknown_figures_fail_with_a_reason() {
        let total = window();
        let ensure = Ensure {
            thresholds: [
                ("http.response_time.p95", 95.1),
                ("http.response_time.p99", 50.0),
                ("p50", 50.1),
                ("socketio.response_time.p99", 10.0),
                ("http.respons_time.p99", 10.0),
            ]
            .map(|(name, limit)| (name.to_owned(), limit))
            .into(),
            conditions: vec![
                ("http.codes.404 < 1".into(), true),
                ("vusers.created - vusers.completed <= 2 and http.request_rate > 49".into(), true),
                ("http.codez.200 > 1".into(), false),
                ("vusers.created >".into(), true),
            ],
            max_error_rate: Some(1.0),
        };
        let checks = judge(
            &ensure,
            Totals { total: &total, users_before: 0, delivery: None, target: &[], tester: &[] },
        );
        let told: Vec<String> = checks
            .iter()
            .map(|check| format!("{} [{}] {}", check.passed, check.expression, check.observed))
            .collect();
        assert_eq!(
            told,
            [
                "false [http.respons_time.p99 < 10] no such metric: http.respons_time.p99 (did you mean http.response_time.p99?)",
                "true [http.response_time.p95 < 95.1] 95.039 ms",
                "false [http.response_time.p99 < 50] 99.007 ms",
                "true [p50 <= 50.1] 50.015 ms",
                "false [socketio.response_time.p99 < 10] no samples: nothing was recorded under socketio.response_time.p99",
                "true [http.codes.404 < 1] http.codes.404 = 0",
                "true [vusers.created - vusers.completed <= 2 and http.request_rate > 49] http.request_rate = 50/s, vusers.completed = 98, vusers.created = 100",
                "false [http.codez.200 > 1] no such metric: http.codez.200",
                "false [vusers.created >] cannot be read: it ends too early",
                "false [maxErrorRate <= 1] 2 %",
            ]
        );
        assert!(!checks[7].strict);

        let mut cut_off = total;
        cut_off.counters.insert(counters::USERS_UNFINISHED.to_owned(), 2);
        let ensure = Ensure { max_error_rate: Some(1.0), ..Ensure::default() };
        let figures = Totals { total: &cut_off, users_before: 0, delivery: None, target: &[], tester: &[] };
        assert_eq!(judge(&ensure, figures)[0].observed, "0 %");
    }
}
