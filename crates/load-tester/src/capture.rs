//! What a step takes from an answer: JSON paths, regular expressions, headers.
//!
//! The JSON paths are Goessner's as jsonpath-plus reads them, which is what scripts were written for: the `$` may be
//! missing, `.length` and `[(@.length-1)]` work, filters compare loosely typed paths with literals.

use std::borrow::Cow;
use std::cell::Cell;
use std::cmp::Ordering;
use std::sync::Arc;

use http::HeaderMap;
use serde_json::Value;

use crate::script::model::{Capture, CaptureSource, Match};
use crate::script::template::{Template, text_of};
use crate::script::vars::Vars;

/// Where to look.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer<'a> {
    /// Parsed when it is JSON.
    pub(crate) json: Option<&'a Value>,
    pub(crate) text: &'a str,
    pub(crate) headers: Option<&'a HeaderMap>,
}

/// The captures and matches of one step, compiled.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rules {
    captures: Vec<CaptureRule>,
    matches: Vec<MatchRule>,
}

#[derive(Debug, Clone)]
struct CaptureRule {
    from: Extractor,
    save_as: Arc<str>,
    strict: bool,
}

#[derive(Debug, Clone)]
struct MatchRule {
    from: Extractor,
    value: Template,
    strict: bool,
}

#[derive(Debug, Clone)]
enum Extractor {
    Json(JsonPath, String),
    Regexp { regexp: regex::Regex, group: Group },
    Header(String),
}

#[derive(Debug, Clone)]
enum Group {
    Number(usize),
    Name(String),
}

impl Rules {
    /// Compiles; an expression that cannot be read is named in the error.
    pub(crate) fn new(captures: &[Capture], matches: &[Match]) -> Result<Self, String> {
        let captures = captures.iter().map(|capture| {
            Ok(CaptureRule {
                from: Extractor::new(&capture.source)?,
                save_as: capture.save_as.as_str().into(),
                strict: capture.strict,
            })
        });
        let matches = matches.iter().map(|one| {
            Ok(MatchRule { from: Extractor::new(&one.source)?, value: one.value.clone(), strict: one.strict })
        });
        Ok(Self {
            captures: captures.collect::<Result<_, String>>()?,
            matches: matches.collect::<Result<_, String>>()?,
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.captures.is_empty() && self.matches.is_empty()
    }

    /// True when only headers are looked at.
    pub(crate) fn need_body(&self) -> bool {
        let body = |from: &Extractor| !matches!(from, Extractor::Header(_));
        self.captures.iter().any(|rule| body(&rule.from)) || self.matches.iter().any(|rule| body(&rule.from))
    }

    /// Checks the matches, then sets the variables; when a match fails nothing is set. `Err` says which rule failed.
    pub(crate) fn apply(
        &self,
        answer: &Answer<'_>,
        vars: &mut Vars,
        rng: &mut fastrand::Rng,
    ) -> Result<(), String> {
        for rule in &self.matches {
            let expected = rule.value.render(vars, rng);
            let found =
                rule.from.find(answer, rng).map_err(|why| format!("match {}: {why}", rule.from.name()))?;
            if found.as_ref() != Some(&expected) && rule.strict {
                let found =
                    found.map_or_else(|| rule.from.nothing(answer).to_owned(), |value| value.to_string());
                return Err(format!("match {}: expected {expected}, found {found}", rule.from.name()));
            }
        }
        let mut captured = Vec::with_capacity(self.captures.len());
        for rule in &self.captures {
            let name = || format!("capture {} as {}", rule.from.name(), rule.save_as);
            match rule.from.find(answer, rng).map_err(|why| format!("{}: {why}", name()))? {
                Some(value) if !rule.strict || !is_empty(&value) => captured.push((rule, value)),
                _ if rule.strict => {
                    return Err(format!("{}: {} there", name(), rule.from.nothing(answer)));
                }
                _ => {}
            }
        }
        for (rule, value) in captured {
            vars.set(Arc::clone(&rule.save_as), value);
        }
        Ok(())
    }
}

/// Artillery calls an empty string empty too.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

impl Extractor {
    fn new(source: &CaptureSource) -> Result<Self, String> {
        Ok(match source {
            CaptureSource::Json(path) => {
                Self::Json(JsonPath::parse(path).map_err(|why| format!("json {path}: {why}"))?, path.clone())
            }
            CaptureSource::Regexp { pattern, flags, group } => {
                let regexp = regexp(pattern, flags).map_err(|why| format!("regexp /{pattern}/: {why}"))?;
                let group = match group.as_deref() {
                    None => Group::Number(0),
                    Some(group) => {
                        group.parse().map_or_else(|_| Group::Name(group.to_owned()), Group::Number)
                    }
                };
                Self::Regexp { regexp, group }
            }
            CaptureSource::Header(name) => Self::Header(name.to_ascii_lowercase()),
        })
    }

    fn name(&self) -> Cow<'_, str> {
        match self {
            Self::Json(_, path) => path.as_str().into(),
            Self::Regexp { regexp, .. } => format!("/{regexp}/").into(),
            Self::Header(name) => format!("header {name}").into(),
        }
    }

    /// What to call it when nothing was found.
    fn nothing(&self, answer: &Answer<'_>) -> &'static str {
        match self {
            Self::Json(..) if answer.json.is_none() => "no JSON (or nested deeper than 128)",
            _ => "nothing",
        }
    }

    /// Of several results one at random, as Artillery does.
    fn find(&self, answer: &Answer<'_>, rng: &mut fastrand::Rng) -> Result<Option<Value>, TooMuch> {
        Ok(match self {
            Self::Json(path, _) => {
                let Some(json) = answer.json else { return Ok(None) };
                let mut found = path.find(json)?;
                match found.len() {
                    0 => None,
                    1 => Some(found.remove(0).into_owned()),
                    several => Some(found.swap_remove(rng.usize(..several)).into_owned()),
                }
            }
            Self::Regexp { regexp, group } => {
                let captures = regexp.captures(answer.text);
                let found = captures.and_then(|captures| match group {
                    Group::Number(number) => captures.get(*number),
                    Group::Name(name) => captures.name(name),
                });
                found.map(|found| found.as_str().into())
            }
            Self::Header(name) => {
                let value = answer.headers.and_then(|headers| headers.get(name));
                value.and_then(|value| value.to_str().ok()).map(Value::from)
            }
        })
    }
}

/// Compiled, a regular expression takes no more.
const MOST_REGEXP_BYTES: usize = 1 << 20;

/// A regular expression of a script, with JavaScript's flags.
///
/// # Errors
/// When it is none, or one too large.
pub(crate) fn regexp(pattern: &str, flags: &str) -> Result<regex::Regex, regex::Error> {
    regex::RegexBuilder::new(pattern)
        .case_insensitive(flags.contains('i'))
        .multi_line(flags.contains('m'))
        .dot_matches_new_line(flags.contains('s'))
        .size_limit(MOST_REGEXP_BYTES)
        .build()
}

/// A path into JSON.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct JsonPath {
    steps: Vec<PathStep>,
}

#[derive(Debug, Clone, PartialEq)]
enum PathStep {
    One(Select),
    /// `..`: this selection at every depth.
    Anywhere(Select),
}

#[derive(Debug, Clone, PartialEq)]
enum Select {
    Name(String),
    Index(i64),
    All,
    /// `[from:to:step]`
    Slice(Option<i64>, Option<i64>, i64),
    Union(Vec<Select>),
    /// `[(@.length-1)]`: an index counted from the end.
    FromEnd(i64),
    Filter(Box<Condition>),
}

#[derive(Debug, Clone, PartialEq)]
enum Condition {
    Or(Box<Condition>, Box<Condition>),
    And(Box<Condition>, Box<Condition>),
    Not(Box<Condition>),
    Exists(Operand),
    Compare(Operand, Comparison, Operand),
}

#[derive(Debug, Clone, PartialEq)]
enum Operand {
    /// From `@`.
    Path(JsonPath),
    Literal(Value),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Longer paths and deeper conditions are refused.
const MAX_STEPS: usize = 256;
const MAX_NESTING: usize = 32;
/// `..` in a huge answer stops collecting here.
const MAX_RESULTS: usize = 100_000;
/// Filters within filters look at the same places again and again; the thread has other users.
const MAX_VISITS: usize = 5_000_000;

/// A path that looks at more places than [`MAX_VISITS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this path looks at more than {MAX_VISITS} places of the answer: write one with fewer `..` and filters"
)]
pub(crate) struct TooMuch;

/// Places that may still be looked at.
struct Visits(Cell<usize>);

impl Visits {
    fn one(&self) -> Result<(), TooMuch> {
        let left = self.0.get().checked_sub(1).ok_or(TooMuch)?;
        self.0.set(left);
        Ok(())
    }
}

impl JsonPath {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut parser = Parser { text, at: 0, nesting: 0 };
        parser.skip("$");
        let path = parser.steps(true)?;
        if parser.at < text.len() {
            return Err(format!("cannot read {:?}", &text[parser.at..]));
        }
        Ok(path)
    }

    pub(crate) fn find<'v>(&self, root: &'v Value) -> Result<Vec<Cow<'v, Value>>, TooMuch> {
        self.find_within(root, &Visits(Cell::new(MAX_VISITS)))
    }

    fn find_within<'v>(&self, root: &'v Value, visits: &Visits) -> Result<Vec<Cow<'v, Value>>, TooMuch> {
        let mut found: Vec<&'v Value> = vec![root];
        for (index, step) in self.steps.iter().enumerate() {
            let mut next = Vec::new();
            for value in found {
                visits.one()?;
                match step {
                    PathStep::One(select) => select.apply(value, &mut next, visits)?,
                    PathStep::Anywhere(select) => descend(value, select, &mut next, visits)?,
                }
                if next.len() > MAX_RESULTS {
                    break;
                }
            }
            // `.length` of a list is no member of it, so it can only stand last.
            if next.is_empty()
                && index + 1 == self.steps.len()
                && let PathStep::One(Select::Name(name)) = step
                && name == "length"
            {
                return self.length(root, visits);
            }
            found = next;
        }
        Ok(found.into_iter().map(Cow::Borrowed).collect())
    }

    fn length<'v>(&self, root: &'v Value, visits: &Visits) -> Result<Vec<Cow<'v, Value>>, TooMuch> {
        let before = JsonPath { steps: self.steps[..self.steps.len() - 1].to_vec() };
        let length = |value: Cow<'v, Value>| match &*value {
            Value::Array(items) => Some(Cow::Owned(Value::from(items.len()))),
            Value::String(text) => Some(Cow::Owned(Value::from(text.encode_utf16().count()))),
            _ => None,
        };
        Ok(before.find_within(root, visits)?.into_iter().filter_map(length).collect())
    }
}

fn descend<'v>(
    value: &'v Value,
    select: &Select,
    out: &mut Vec<&'v Value>,
    visits: &Visits,
) -> Result<(), TooMuch> {
    if out.len() > MAX_RESULTS {
        return Ok(());
    }
    visits.one()?;
    select.apply(value, out, visits)?;
    match value {
        Value::Array(items) => items.iter().try_for_each(|item| descend(item, select, out, visits)),
        Value::Object(map) => map.values().try_for_each(|item| descend(item, select, out, visits)),
        _ => Ok(()),
    }
}

impl Select {
    fn apply<'v>(&self, value: &'v Value, out: &mut Vec<&'v Value>, visits: &Visits) -> Result<(), TooMuch> {
        let mut filter = |condition: &Condition, item: &'v Value| {
            if condition.holds(item, visits)? {
                out.push(item);
            }
            Ok(())
        };
        match (self, value) {
            (Self::Name(name), Value::Object(map)) => out.extend(map.get(name)),
            // `$.0` is how many scripts write the first element.
            (Self::Name(name), Value::Array(items)) => {
                out.extend(name.parse().ok().and_then(|index: usize| items.get(index)));
            }
            (Self::Index(index), Value::Array(items)) => out.extend(at(items, *index)),
            (Self::Index(index), Value::Object(map)) => out.extend(map.get(&index.to_string())),
            (Self::FromEnd(back), Value::Array(items)) => {
                out.extend(
                    usize::try_from(*back).ok().and_then(|back| items.get(items.len().checked_sub(back)?)),
                );
            }
            (Self::All, Value::Array(items)) => out.extend(items),
            (Self::All, Value::Object(map)) => out.extend(map.values()),
            (Self::Slice(from, to, step), Value::Array(items)) => slice(items, *from, *to, *step, out),
            (Self::Union(several), value) => {
                several.iter().try_for_each(|one| one.apply(value, out, visits))?;
            }
            (Self::Filter(condition), Value::Array(items)) => {
                items.iter().try_for_each(|item| filter(condition, item))?;
            }
            (Self::Filter(condition), Value::Object(map)) => {
                map.values().try_for_each(|item| filter(condition, item))?;
            }
            _ => {}
        }
        Ok(())
    }
}

fn at(items: &[Value], index: i64) -> Option<&Value> {
    let length = i64::try_from(items.len()).ok()?;
    let index = if index < 0 { index.checked_add(length)? } else { index };
    items.get(usize::try_from(index).ok()?)
}

fn slice<'v>(items: &'v [Value], from: Option<i64>, to: Option<i64>, step: i64, out: &mut Vec<&'v Value>) {
    let length = i64::try_from(items.len()).unwrap_or(i64::MAX);
    let bound = |index: i64| if index < 0 { index.saturating_add(length).max(0) } else { index.min(length) };
    let (from, to) = (bound(from.unwrap_or(0)), bound(to.unwrap_or(length)));
    let step = usize::try_from(step.max(1)).unwrap_or(1);
    out.extend((from..to).step_by(step).filter_map(|index| items.get(usize::try_from(index).ok()?)));
}

impl Condition {
    fn holds(&self, value: &Value, visits: &Visits) -> Result<bool, TooMuch> {
        Ok(match self {
            Self::Or(a, b) => a.holds(value, visits)? || b.holds(value, visits)?,
            Self::And(a, b) => a.holds(value, visits)? && b.holds(value, visits)?,
            Self::Not(a) => !a.holds(value, visits)?,
            Self::Exists(operand) => operand.value(value, visits)?.is_some_and(|found| truthy(&found)),
            Self::Compare(a, how, b) => {
                let (a, b) = (a.value(value, visits)?, b.value(value, visits)?);
                match how {
                    Comparison::Equal => loosely_equal(a.as_deref(), b.as_deref()),
                    Comparison::NotEqual => !loosely_equal(a.as_deref(), b.as_deref()),
                    _ => {
                        let Some(order) = a.zip(b).and_then(|(a, b)| order(&a, &b)) else { return Ok(false) };
                        match how {
                            Comparison::Less => order == Ordering::Less,
                            Comparison::LessOrEqual => order != Ordering::Greater,
                            Comparison::Greater => order == Ordering::Greater,
                            _ => order != Ordering::Less,
                        }
                    }
                }
            }
        })
    }
}

impl Operand {
    fn value<'v>(&'v self, current: &'v Value, visits: &Visits) -> Result<Option<Cow<'v, Value>>, TooMuch> {
        Ok(match self {
            Self::Literal(value) => Some(Cow::Borrowed(value)),
            Self::Path(path) => path.find_within(current, visits)?.into_iter().next(),
        })
    }
}

fn truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(yes) => *yes,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(_) | Value::Object(_) => true,
    }
}

fn loosely_equal(a: Option<&Value>, b: Option<&Value>) -> bool {
    match (a, b) {
        (Some(Value::Number(a)), Some(Value::Number(b))) => a.as_f64() == b.as_f64(),
        (Some(a), Some(b)) => a == b,
        // A missing member is `undefined`, which equals null loosely.
        (None, other) | (other, None) => other.is_none_or(Value::is_null),
    }
}

fn order(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        _ => number(a)?.partial_cmp(&number(b)?),
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        other => text_of(other).parse().ok(),
    }
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
    nesting: usize,
}

impl<'t> Parser<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn skip(&mut self, what: &str) -> bool {
        let found = self.rest().starts_with(what);
        if found {
            self.at += what.len();
        }
        found
    }

    fn space(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    /// `whole`: the path is the whole text, so a name may stand bare at its beginning.
    fn steps(&mut self, whole: bool) -> Result<JsonPath, String> {
        let mut steps = Vec::new();
        let mut bare = whole;
        loop {
            if steps.len() > MAX_STEPS {
                return Err("too long".into());
            }
            if self.skip("..") {
                let select = if self.skip("[") { self.bracket()? } else { self.name()? };
                steps.push(PathStep::Anywhere(select));
            } else if self.skip(".") {
                let select = if self.skip("[") { self.bracket()? } else { self.name()? };
                steps.push(PathStep::One(select));
            } else if self.skip("[") {
                steps.push(PathStep::One(self.bracket()?));
            } else if bare && !self.rest().is_empty() {
                steps.push(PathStep::One(self.name()?));
            } else {
                return Ok(JsonPath { steps });
            }
            bare = false;
        }
    }

    fn name(&mut self) -> Result<Select, String> {
        if self.skip("*") {
            return Ok(Select::All);
        }
        // Inside a filter a name ends where an operator may begin.
        let ends = |c: char| {
            if self.nesting > 0 {
                !(c.is_alphanumeric() || matches!(c, '_' | '$'))
            } else {
                matches!(c, '.' | '[' | ']' | '^' | '~')
            }
        };
        let end = self.rest().find(ends).unwrap_or(self.rest().len());
        let name = &self.rest()[..end];
        if name.is_empty() {
            return Err(format!("a name is missing before {:?}", self.rest()));
        }
        self.at += end;
        Ok(Select::Name(name.to_owned()))
    }

    /// After `[`, up to and with `]`.
    fn bracket(&mut self) -> Result<Select, String> {
        self.space();
        let first = if self.skip("?(") {
            self.nesting += 1;
            let condition = self.or(0)?;
            self.nesting -= 1;
            self.expect(")")?;
            Select::Filter(Box::new(condition))
        } else if self.skip("(@.length") {
            self.space();
            self.expect("-")?;
            self.space();
            let back = self.integer().ok_or("a number is missing after (@.length-")?;
            self.space();
            self.expect(")")?;
            Select::FromEnd(back)
        } else {
            let mut several = vec![self.item()?];
            self.space();
            while self.skip(",") {
                self.space();
                several.push(self.item()?);
                self.space();
            }
            if several.len() == 1 { several.remove(0) } else { Select::Union(several) }
        };
        self.space();
        self.expect("]")?;
        Ok(first)
    }

    fn item(&mut self) -> Result<Select, String> {
        if self.skip("*") {
            return Ok(Select::All);
        }
        if let Some(text) = self.quoted()? {
            return Ok(Select::Name(text));
        }
        let from = self.integer();
        if self.skip(":") {
            let to = self.integer();
            let step = if self.skip(":") { self.integer().unwrap_or(1) } else { 1 };
            if step < 1 {
                return Err("a slice's step must be at least 1".into());
            }
            return Ok(Select::Slice(from, to, step));
        }
        match from {
            Some(index) => Ok(Select::Index(index)),
            None => {
                let end = self.rest().find([',', ']']).unwrap_or(self.rest().len());
                let name = self.rest()[..end].trim();
                if name.is_empty() || name.contains(['(', '?', '@']) {
                    return Err(format!("cannot read {:?}", self.rest()));
                }
                self.at += end;
                Ok(Select::Name(name.to_owned()))
            }
        }
    }

    fn integer(&mut self) -> Option<i64> {
        let rest = self.rest();
        let digits = rest.strip_prefix('-').unwrap_or(rest);
        let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        let end = if end == 0 { 0 } else { end + (rest.len() - digits.len()) };
        let number = rest[..end].parse().ok()?;
        self.at += end;
        Some(number)
    }

    fn quoted(&mut self) -> Result<Option<String>, String> {
        let Some(quote) = self.rest().chars().next().filter(|c| matches!(c, '\'' | '"')) else {
            return Ok(None);
        };
        let mut text = String::new();
        let mut escaped = false;
        for (index, c) in self.rest().char_indices().skip(1) {
            if escaped {
                text.push(c);
                escaped = false;
            } else if c == '\\' {
                escaped = true;
            } else if c == quote {
                self.at += index + 1;
                return Ok(Some(text));
            } else {
                text.push(c);
            }
        }
        Err(format!("a quote is not closed: {}", self.rest()))
    }

    fn expect(&mut self, what: &str) -> Result<(), String> {
        if self.skip(what) { Ok(()) } else { Err(format!("{what:?} is missing before {:?}", self.rest())) }
    }

    fn or(&mut self, depth: usize) -> Result<Condition, String> {
        if depth > MAX_NESTING {
            return Err("nested too deeply".into());
        }
        let mut condition = self.and(depth)?;
        while self.skip("||") {
            condition = Condition::Or(Box::new(condition), Box::new(self.and(depth)?));
        }
        Ok(condition)
    }

    fn and(&mut self, depth: usize) -> Result<Condition, String> {
        let mut condition = self.comparison(depth)?;
        while self.skip("&&") {
            condition = Condition::And(Box::new(condition), Box::new(self.comparison(depth)?));
        }
        Ok(condition)
    }

    fn comparison(&mut self, depth: usize) -> Result<Condition, String> {
        self.space();
        if self.skip("(") {
            let condition = self.or(depth + 1)?;
            self.expect(")")?;
            self.space();
            return Ok(condition);
        }
        if self.rest().starts_with('!') && !self.rest().starts_with("!=") {
            self.at += 1;
            if depth > MAX_NESTING {
                return Err("nested too deeply".into());
            }
            return Ok(Condition::Not(Box::new(self.comparison(depth + 1)?)));
        }
        let left = self.operand()?;
        self.space();
        let operators = [
            ("===", Comparison::Equal),
            ("!==", Comparison::NotEqual),
            ("==", Comparison::Equal),
            ("!=", Comparison::NotEqual),
            ("<=", Comparison::LessOrEqual),
            (">=", Comparison::GreaterOrEqual),
            ("<", Comparison::Less),
            (">", Comparison::Greater),
        ];
        for (sign, comparison) in operators {
            if self.skip(sign) {
                self.space();
                let right = self.operand()?;
                self.space();
                return Ok(Condition::Compare(left, comparison, right));
            }
        }
        Ok(Condition::Exists(left))
    }

    fn operand(&mut self) -> Result<Operand, String> {
        if self.skip("@") {
            return Ok(Operand::Path(self.steps(false)?));
        }
        if let Some(text) = self.quoted()? {
            return Ok(Operand::Literal(text.into()));
        }
        let end = self
            .rest()
            .find(|c: char| !(c.is_alphanumeric() || matches!(c, '.' | '-' | '+')))
            .unwrap_or(self.rest().len());
        let literal = serde_json::from_str(&self.rest()[..end])
            .map_err(|_| format!("cannot read {:?}", self.rest()))?;
        self.at += end;
        Ok(Operand::Literal(literal))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Each `..` in a filter multiplies the places that are looked at.
    #[test]
    fn filters_within_filters_end_soon() {
        let mut deep = json!({"a": 1});
        for _ in 0..120 {
            deep = json!([deep, {"b": 2}]);
        }
        let bomb = |levels: usize| format!("$..[?({}@..x{})]", "@..[?(".repeat(levels), ")]".repeat(levels));
        assert_eq!(JsonPath::parse("$..b").unwrap().find(&deep).unwrap().len(), 120);
        for levels in [4, 12] {
            assert_eq!(JsonPath::parse(&bomb(levels)).unwrap().find(&deep), Err(TooMuch), "{levels}");
        }
    }

    /// Each expected list is what jsonpath-plus answers for the same path.
    #[test]
    fn paths_find_what_scripts_expect() {
        let shop = json!({
            "store": {
                "book": [
                    {"title": "A", "price": 8.95, "tags": ["x"]},
                    {"title": "B", "price": 12.99},
                    {"title": "C", "price": 8.99, "isbn": "0-553"},
                    {"title": "D", "price": 22.99, "isbn": "0-395"}
                ],
                "bicycle": {"color": "red", "price": 19.95}
            },
            "a-b": 1,
            "odd name": 2
        });
        let rows: &[(&str, Value)] = &[
            ("$", json!([shop])),
            ("$.store.book[0].title", json!(["A"])),
            ("store.book[0].title", json!(["A"])),
            ("$['store']['book'][1]['title']", json!(["B"])),
            ("$.store.book[*].title", json!(["A", "B", "C", "D"])),
            ("$..title", json!(["A", "B", "C", "D"])),
            ("$.store..price", json!([8.95, 12.99, 8.99, 22.99, 19.95])),
            ("$.store.book[(@.length-1)].title", json!(["D"])),
            ("$.store.book[-1:].title", json!(["D"])),
            ("$.store.book[-1].title", json!(["D"])),
            ("$.store.book[0,2].title", json!(["A", "C"])),
            ("$.store.book[:2].title", json!(["A", "B"])),
            ("$.store.book[0:4:2].title", json!(["A", "C"])),
            ("$.store.book.length", json!([4])),
            ("$.store.book[?(@.isbn)].title", json!(["C", "D"])),
            ("$.store.book[?(@.price < 10)].title", json!(["A", "C"])),
            ("$.store.book[?(@.price < 10 && @.isbn)].title", json!(["C"])),
            ("$.store.book[?(@.title == 'B' || @.title === \"D\")].price", json!([12.99, 22.99])),
            ("$.store.book[?(!@.isbn)].title", json!(["A", "B"])),
            ("$.a-b", json!([1])),
            ("$['odd name']", json!([2])),
            ("$.store.bicycle.*", json!(["red", 19.95])),
            ("$.nothing.here", json!([])),
            ("$.store.book[9]", json!([])),
        ];
        for (path, expected) in rows {
            let compiled = JsonPath::parse(path).unwrap_or_else(|why| panic!("{path}: {why}"));
            let found: Vec<Value> = compiled.find(&shop).unwrap().into_iter().map(Cow::into_owned).collect();
            assert_eq!(&Value::Array(found), expected, "{path}");
        }
    }

    #[test]
    fn the_argument_list_is_indexed_by_name_or_number() {
        let arguments = json!([{"id": 7}, "second"]);
        for path in ["$.0.id", "$[0].id", "0.id"] {
            assert_eq!(*JsonPath::parse(path).unwrap().find(&arguments).unwrap()[0], json!(7), "{path}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for path in
            ["$.", "$[", "$['a", "$[?(@.a ==)]", "$[0", "$.a[?(@.b === c)]", "$[::0]", "$[(@.length)]"]
        {
            assert!(JsonPath::parse(path).is_err(), "{path} was read");
        }
        assert!(JsonPath::parse(&format!("$[?({}@.a)]", "(".repeat(1000))).is_err());
        assert!(JsonPath::parse(&format!("$[?({}@.a)]", "!".repeat(100_000))).is_err());
    }

    fn rules(captures: &[(&str, bool)], matches: &[(&str, Value)]) -> Rules {
        let json = |path: &str| CaptureSource::Json(path.into());
        let captures: Vec<_> = captures
            .iter()
            .map(|(path, strict)| Capture { source: json(path), save_as: "found".into(), strict: *strict })
            .collect();
        let matches: Vec<_> = matches
            .iter()
            .map(|(path, value)| Match {
                source: json(path),
                value: Template::constant(value.clone()),
                strict: true,
            })
            .collect();
        Rules::new(&captures, &matches).unwrap()
    }

    #[test]
    fn a_failed_match_stores_nothing_and_an_empty_capture_fails() {
        let answer = json!({"id": 1, "empty": ""});
        let answer = Answer { json: Some(&answer), text: "", headers: None };
        let mut vars = Vars::empty();
        let mut rng = fastrand::Rng::with_seed(1);
        let failed = rules(&[("$.id", true)], &[("$.id", json!("1"))]).apply(&answer, &mut vars, &mut rng);
        assert_eq!(failed.unwrap_err(), "match $.id: expected \"1\", found 1");
        assert_eq!(vars.get("found"), None);
        assert!(rules(&[("$.empty", true)], &[]).apply(&answer, &mut vars, &mut rng).is_err());
        rules(&[("$.missing", false)], &[]).apply(&answer, &mut vars, &mut rng).unwrap();
        rules(&[("$.id", true)], &[("$.id", json!(1))]).apply(&answer, &mut vars, &mut rng).unwrap();
        assert_eq!(vars.get("found"), Some(&json!(1)));
    }

    #[test]
    fn regexps_take_flags_and_groups() {
        let source = CaptureSource::Regexp {
            pattern: "token=(?<t>\\w+)".into(),
            flags: "i".into(),
            group: Some("t".into()),
        };
        let capture = Capture { source, save_as: "t".into(), strict: true };
        let mut vars = Vars::empty();
        let answer = Answer { json: None, text: "x TOKEN=abc y", headers: None };
        let mut rng = fastrand::Rng::with_seed(1);
        Rules::new(&[capture], &[]).unwrap().apply(&answer, &mut vars, &mut rng).unwrap();
        assert_eq!(vars.get("t"), Some(&json!("abc")));
    }
}
