//! YAML (and so JSON) as a tree in which every key and value knows its place.
//!
//! Plain scalars mean what Artillery's parser (js-yaml) makes of them: `0755` is 493 and `12:30` is 750, with a
//! warning, `yes` and `on` are text, `127.???????` is text. Size, depth and what aliases expand to are bounded.

use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle, Span, StrInput, options};
use serde_json::{Number, Value};

/// Where something stands: a source's index, 1-based line and column (in characters).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    pub source: u16,
    /// 0: not known.
    pub line: u32,
    pub column: u32,
    pub width: u32,
}

#[derive(Debug, Clone)]
pub struct Node {
    pub place: Place,
    pub kind: Kind,
}

#[derive(Debug, Clone)]
pub enum Kind {
    /// Null, boolean, number or string.
    Scalar(Value),
    List(Vec<Node>),
    /// In the file's order; keys are unique.
    Map(Vec<(Key, Node)>),
}

type Entries = Vec<(Key, Node)>;

#[derive(Debug, Clone)]
pub struct Key {
    pub name: String,
    pub place: Place,
}

/// A text that is no YAML of ours, and where it stops being it.
#[derive(Debug, Clone)]
pub struct YamlError {
    pub place: Place,
    pub message: String,
    pub help: Option<String>,
}

/// A file larger than this is refused.
pub const MAX_BYTES: usize = 8 << 20;
const MAX_DEPTH: usize = 100;
/// 64 per node plus the length of its text, aliases counted as often as they are used.
const MAX_WEIGHT: usize = 64 << 20;

impl Node {
    pub fn get(&self, name: &str) -> Option<&Node> {
        self.entries().iter().find(|(key, _)| key.name == name).map(|(_, node)| node)
    }

    pub fn get_mut(&mut self, name: &str) -> Option<&mut Node> {
        match &mut self.kind {
            Kind::Map(entries) => entries.iter_mut().find(|(key, _)| key.name == name).map(|(_, node)| node),
            _ => None,
        }
    }

    /// The entries of a map; none for anything else.
    pub fn entries(&self) -> &[(Key, Node)] {
        match &self.kind {
            Kind::Map(entries) => entries,
            _ => &[],
        }
    }

    pub fn as_str(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    pub fn is_null(&self) -> bool {
        matches!(self.kind, Kind::Scalar(Value::Null))
    }

    pub fn to_value(&self) -> Value {
        match &self.kind {
            Kind::Scalar(value) => value.clone(),
            Kind::List(items) => items.iter().map(Node::to_value).collect(),
            Kind::Map(entries) => {
                Value::Object(entries.iter().map(|(key, node)| (key.name.clone(), node.to_value())).collect())
            }
        }
    }

    pub fn empty_map() -> Self {
        Self { place: Place::default(), kind: Kind::Map(Vec::new()) }
    }

    /// A mapping of one entry.
    pub fn map(place: Place, name: &str, value: Node) -> Self {
        Self { place, kind: Kind::Map(vec![(Key { name: name.to_owned(), place }, value)]) }
    }

    /// What it is, for messages.
    pub fn noun(&self) -> &'static str {
        match &self.kind {
            Kind::Scalar(Value::Null) => "nothing",
            Kind::Scalar(Value::Bool(_)) => "a boolean",
            Kind::Scalar(Value::Number(_)) => "a number",
            Kind::Scalar(_) => "text",
            Kind::List(_) => "a list",
            Kind::Map(_) => "a mapping",
        }
    }
}

/// How lists meet in [`merge`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lists {
    /// Element by element, surplus ones of the base stay (environments, several files).
    ByIndex,
    /// `--overrides`.
    Replaced,
}

/// Lays `over` over `base`, mappings deeply.
pub fn merge(base: &mut Node, over: Node, lists: Lists) {
    match (&mut base.kind, over.kind) {
        (Kind::Map(entries), Kind::Map(new)) => {
            for (key, node) in new {
                match entries.iter_mut().find(|(old, _)| old.name == key.name) {
                    Some((old, value)) => {
                        old.place = key.place;
                        merge(value, node, lists);
                    }
                    None => entries.push((key, node)),
                }
            }
        }
        (Kind::List(items), Kind::List(new)) if lists == Lists::ByIndex => {
            for (index, node) in new.into_iter().enumerate() {
                match items.get_mut(index) {
                    Some(old) => merge(old, node, lists),
                    None => items.push(node),
                }
            }
        }
        (_, kind) => {
            base.kind = kind;
            base.place = over.place;
        }
    }
}

/// Reads one document. `source` goes into every place. Returns the tree and remarks about scalars that mean
/// something else than they look like.
pub fn parse(text: &str, source: u16) -> Result<(Node, Vec<(Place, String)>), YamlError> {
    let error = |message: &str, help: Option<&str>| YamlError {
        place: Place { source, ..Place::default() },
        message: message.to_owned(),
        help: help.map(str::to_owned),
    };
    if text.len() > MAX_BYTES {
        return Err(error(
            "the file is larger than 8 MiB",
            Some("keep large data in a CSV file (`config.payload`)"),
        ));
    }
    let options = options! {
        emit_comments: false,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    let mut builder = Builder {
        parser: Parser::new_from_str_with_options(text, options),
        text,
        source,
        anchors: HashMap::new(),
        weight: 0,
        remarks: Vec::new(),
    };
    let mut root = None;
    loop {
        let (event, span) = builder.next()?;
        match event {
            Event::StreamStart | Event::DocumentEnd => {}
            Event::DocumentStart(..) => {
                if root.is_some() {
                    let place = builder.place(&span);
                    return Err(YamlError {
                        place,
                        message: "a second document starts here".into(),
                        help: Some("a script is one document: remove the `---`".into()),
                    });
                }
                let (event, span) = builder.next()?;
                root = Some(builder.node(event, &span, 0)?.0);
            }
            Event::StreamEnd => break,
            _ => return Err(error("the file is not YAML", None)),
        }
    }
    match root {
        Some(node) => Ok((node, builder.remarks)),
        None => Err(error("the file is empty", None)),
    }
}

struct Builder<'t> {
    parser: Parser<'t, StrInput<'t>>,
    text: &'t str,
    source: u16,
    /// Each with its weight and its height.
    anchors: HashMap<usize, (Node, usize, usize)>,
    weight: usize,
    remarks: Vec<(Place, String)>,
}

impl<'t> Builder<'t> {
    fn next(&mut self) -> Result<(Event<'t>, Span), YamlError> {
        match self.parser.next_event() {
            Some(Ok(next)) => Ok(next),
            Some(Err(error)) => {
                let marker = error.marker();
                let place = Place {
                    source: self.source,
                    line: marker.line() as u32,
                    column: marker.col() as u32 + 1,
                    width: 1,
                };
                // A tab in the indentation is the mistake most often met, and its message the least helpful.
                let tab = self
                    .text
                    .lines()
                    .enumerate()
                    .skip(marker.line().saturating_sub(1))
                    .take(2)
                    .find(|(_, line)| line.chars().take_while(|c| c.is_whitespace()).any(|c| c == '\t'));
                if let Some((index, line)) = tab {
                    let column = line.chars().take_while(|c| *c != '\t').count() as u32 + 1;
                    let place = Place { line: index as u32 + 1, column, ..place };
                    let help = Some("indent with spaces".to_owned());
                    return Err(YamlError { place, message: "a tab where YAML wants spaces".into(), help });
                }
                let help = None;
                Err(YamlError { place, message: format!("not YAML: {}", error.info()), help })
            }
            None => Err(YamlError {
                place: Place { source: self.source, ..Place::default() },
                message: "the file ends in the middle".into(),
                help: None,
            }),
        }
    }

    fn place(&self, span: &Span) -> Place {
        let (start, end) = (&span.start, &span.end);
        let width = if start.line() == end.line() { end.col().saturating_sub(start.col()) } else { 1 };
        Place {
            source: self.source,
            line: start.line() as u32,
            column: start.col() as u32 + 1,
            width: width.max(1) as u32,
        }
    }

    fn spend(&mut self, weight: usize, place: Place) -> Result<(), YamlError> {
        self.weight = self.weight.saturating_add(weight);
        if self.weight > MAX_WEIGHT {
            return Err(YamlError {
                place,
                message: "the file grows too large here: aliases are counted as often as they are used"
                    .into(),
                help: None,
            });
        }
        Ok(())
    }

    /// The node an event begins, its weight and its height.
    fn node(
        &mut self,
        event: Event<'t>,
        span: &Span,
        depth: usize,
    ) -> Result<(Node, usize, usize), YamlError> {
        let place = self.place(span);
        if depth > MAX_DEPTH {
            return Err(YamlError { place, message: format!("nested deeper than {MAX_DEPTH}"), help: None });
        }
        let (node, anchor, weight, height) = match event {
            Event::Alias(id) => {
                let Some((node, weight, height)) = self.anchors.get(&id).cloned() else {
                    return Err(YamlError {
                        place,
                        message: "an alias inside its own anchor".into(),
                        help: None,
                    });
                };
                // The copy above is bounded by what was already paid for once; the budget bounds how often.
                self.spend(weight, place)?;
                if depth + height > MAX_DEPTH {
                    return Err(YamlError {
                        place,
                        message: format!("nested deeper than {MAX_DEPTH}"),
                        help: None,
                    });
                }
                return Ok((node, weight, height));
            }
            Event::Scalar(text, style, anchor, tag) => {
                let weight = 64 + text.len();
                self.spend(weight, place)?;
                let value =
                    match tag.as_deref().map(|tag| (tag.core_suffix().map(str::to_owned), tag.to_string())) {
                        None if style == ScalarStyle::Plain => {
                            let (value, remark) = resolve(&text);
                            if let Some(remark) = remark {
                                self.remarks.push((place, remark));
                            }
                            value
                        }
                        None => Value::String(text.into_owned()),
                        Some((core, shown)) => match core.as_deref() {
                            Some("str") => Value::String(text.into_owned()),
                            Some("int" | "float" | "bool" | "null") => resolve(&text).0,
                            _ => {
                                return Err(YamlError {
                                    place,
                                    message: format!("the tag `{shown}` means nothing here"),
                                    help: Some("remove it".into()),
                                });
                            }
                        },
                    };
                (Node { place, kind: Kind::Scalar(value) }, anchor, weight, 0)
            }
            Event::SequenceStart(_, anchor, _) => {
                self.spend(64, place)?;
                let (mut items, mut weight, mut height) = (Vec::new(), 64, 0);
                loop {
                    let (event, span) = self.next()?;
                    if matches!(event, Event::SequenceEnd) {
                        break;
                    }
                    let (item, item_weight, item_height) = self.node(event, &span, depth + 1)?;
                    weight += item_weight;
                    height = height.max(item_height + 1);
                    items.push(item);
                }
                (Node { place, kind: Kind::List(items) }, anchor, weight, height)
            }
            Event::MappingStart(_, anchor, _) => {
                self.spend(64, place)?;
                let (entries, weight, height) = self.mapping(depth)?;
                (Node { place, kind: Kind::Map(entries) }, anchor, weight + 64, height)
            }
            _ => return Err(YamlError { place, message: "not YAML".into(), help: None }),
        };
        if anchor > 0 {
            self.spend(weight, place)?;
            self.anchors.insert(anchor, (node.clone(), weight, height));
        }
        Ok((node, weight, height))
    }

    /// The entries, their weight and their height.
    fn mapping(&mut self, depth: usize) -> Result<(Entries, usize, usize), YamlError> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        let mut seen: HashMap<String, u32> = HashMap::new();
        let mut merged: Vec<(Key, Node)> = Vec::new();
        let (mut weight, mut height) = (0, 0);
        loop {
            let (event, span) = self.next()?;
            let place = self.place(&span);
            let name = match event {
                Event::MappingEnd => break,
                Event::Scalar(text, ..) => text.into_owned(),
                Event::Alias(id) => match self.anchors.get(&id) {
                    Some((node, ..)) if node.as_str().is_some() => {
                        node.as_str().unwrap_or_default().to_owned()
                    }
                    _ => return Err(YamlError { place, message: "a key must be text".into(), help: None }),
                },
                _ => {
                    return Err(YamlError {
                        place,
                        message: "a key must be text, not a list or mapping".into(),
                        help: Some("if this is a template, quote it: \"{{ name }}\"".into()),
                    });
                }
            };
            self.spend(name.len(), place)?;
            weight += name.len();
            let (event, span) = self.next()?;
            let (node, node_weight, node_height) = self.node(event, &span, depth + 1)?;
            weight += node_weight;
            height = height.max(node_height + 1);
            if name == "<<" {
                let sources = match node.kind {
                    Kind::Map(_) => vec![node],
                    Kind::List(items) if items.iter().all(|item| matches!(item.kind, Kind::Map(_))) => items,
                    _ => {
                        let message = "`<<` takes a mapping or a list of mappings".to_owned();
                        return Err(YamlError { place, message, help: None });
                    }
                };
                for source in sources {
                    if let Kind::Map(inner) = source.kind {
                        merged.extend(inner);
                    }
                }
                continue;
            }
            if let Some(line) = seen.insert(name.clone(), place.line) {
                return Err(YamlError {
                    place,
                    message: format!("`{name}` stands twice in this mapping, first in line {line}"),
                    help: Some("keep one of them".into()),
                });
            }
            entries.push((Key { name, place }, node));
        }
        // What the mapping says itself wins over what it merges, earlier merges over later ones.
        for (key, node) in merged {
            if seen.insert(key.name.clone(), key.place.line).is_none() {
                entries.push((key, node));
            }
        }
        Ok((entries, weight, height))
    }
}

/// What a plain scalar means, and a remark where that surprises.
fn resolve(text: &str) -> (Value, Option<String>) {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return (Value::Null, None),
        "true" | "True" | "TRUE" => return (Value::Bool(true), None),
        "false" | "False" | "FALSE" => return (Value::Bool(false), None),
        _ => {}
    }
    if let Some((value, surprising)) = number(text) {
        let remark = surprising
            .then(|| format!("`{text}` is read as {value}, as Artillery does; quote it to keep the text"));
        return (value, remark);
    }
    let date = text.len() >= 10
        && text.is_char_boundary(10)
        && text
            .bytes()
            .take(10)
            .enumerate()
            .all(|(i, b)| if i == 4 || i == 7 { b == b'-' } else { b.is_ascii_digit() });
    let remark =
        date.then(|| format!("`{text}` stays text; Artillery would make a date of it: quote it to be clear"));
    (Value::String(text.to_owned()), remark)
}

/// js-yaml's integers and floats; the flag says whether they look like something else.
fn number(text: &str) -> Option<(Value, bool)> {
    let (negative, digits) = match text.as_bytes() {
        [b'-', ..] => (true, &text[1..]),
        [b'+', ..] => (false, &text[1..]),
        _ => (false, text),
    };
    let first = *digits.as_bytes().first()?;
    if !(first.is_ascii_digit() || first == b'.' && digits.as_bytes().get(1).is_some_and(u8::is_ascii_digit))
    {
        return None;
    }
    if digits.ends_with('_') {
        return None;
    }
    let plain: String = digits.chars().filter(|c| *c != '_').collect();
    let whole = |value: u64, surprising| {
        let value = if negative {
            i64::try_from(value).map_or_else(|_| float(-(value as f64)), |value| Some((-value).into()))
        } else {
            Some(value.into())
        };
        value.map(|value| (value, surprising))
    };
    for (prefix, radix) in [("0b", 2), ("0x", 16)] {
        if let Some(rest) = plain.strip_prefix(prefix) {
            return u64::from_str_radix(rest, radix).ok().and_then(|value| whole(value, false));
        }
    }
    if plain.len() > 1 && plain.starts_with('0') && plain.bytes().all(|b| b.is_ascii_digit()) {
        // 08 and 09 are no octal numbers, so they are text.
        return u64::from_str_radix(&plain, 8).ok().and_then(|value| whole(value, true));
    }
    if plain.contains(':') {
        let mut total: u64 = 0;
        for (index, part) in plain.split(':').enumerate() {
            let value: u64 = part.parse().ok()?;
            let fits = if index == 0 { !part.starts_with('0') } else { part.len() <= 2 && value < 60 };
            if !fits {
                return None;
            }
            total = total.checked_mul(60)?.checked_add(value)?;
        }
        return whole(total, true);
    }
    if plain.bytes().all(|b| b.is_ascii_digit()) {
        return match plain.parse::<u64>() {
            Ok(value) => whole(value, false),
            Err(_) => float(plain.parse().ok()?).map(|value| (value, false)),
        };
    }
    let mantissa = plain.split(['e', 'E']).next().unwrap_or("");
    let (before, after) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let leading_zero = before.len() > 1 && before.starts_with('0');
    if leading_zero || !before.bytes().chain(after.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    let value: f64 = plain.parse().ok()?;
    float(if negative { -value } else { value }).map(|value| (value, false))
}

/// A float as JavaScript writes it: `127.0` is 127.
fn float(value: f64) -> Option<Value> {
    if value.fract() == 0.0 && value.abs() <= (1_u64 << 53) as f64 {
        return Some((value as i64).into());
    }
    Number::from_f64(value).map(Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(text: &str) -> Value {
        parse(text, 0).map_or_else(|error| json!({"error": error.message}), |(node, _)| node.to_value())
    }

    #[test]
    fn plain_scalars() {
        let rows = [
            ("127.???????", json!("127.???????")),
            ("127.0", json!(127)),
            ("127.", json!(127)),
            ("37.4979", json!(37.4979)),
            ("-0.5", json!(-0.5)),
            (".5", json!(0.5)),
            ("1e3", json!(1000)),
            ("1_000", json!(1000)),
            ("0x1f", json!(31)),
            ("0b101", json!(5)),
            ("0755", json!(493)),
            ("089", json!("089")),
            ("12:30", json!(750)),
            ("-42", json!(-42)),
            ("+42", json!(42)),
            ("18446744073709551615", json!(18_446_744_073_709_551_615_u64)),
            ("2018-09-01", json!("2018-09-01")),
            ("yes", json!("yes")),
            ("on", json!("on")),
            ("True", json!(true)),
            ("~", Value::Null),
            ("\"42\"", json!("42")),
            ("!!str 42", json!("42")),
            ("확성기", json!("확성기")),
            ("1.2.3", json!("1.2.3")),
            ("1-2", json!("1-2")),
            ("-", json!([null])),
            ("- 1\n- 2", json!([1, 2])),
        ];
        for (text, expected) in rows {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn surprising_scalars_are_remarked() {
        let (_, remarks) = parse("a: 0755\nb: 12:30\nc: 2018-09-01\nd: \"0755\"\ne: 10\n", 0).unwrap();
        let lines: Vec<u32> = remarks.iter().map(|(place, _)| place.line).collect();
        assert_eq!(lines, [1, 2, 3]);
    }

    #[test]
    fn merges_and_aliases() {
        let text = "base: &b {a: 1, b: 2}\nother: &o {b: 3, c: 4}\nuse: {<<: [*b, *o], a: 9}\nagain: *b\n";
        assert_eq!(read(text)["use"], json!({"a": 9, "b": 2, "c": 4}));
        assert_eq!(read(text)["again"], json!({"a": 1, "b": 2}));
    }

    #[test]
    fn what_is_refused() {
        let laughs = |n: usize| {
            let mut text = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x]\n");
            for i in 1..n {
                let alias = format!("*a{}", i - 1);
                text += &format!("a{i}: &a{i} [{}]\n", vec![alias; 9].join(","));
            }
            text
        };
        let deep = format!("{}1{}", "[".repeat(99), "]".repeat(99));
        let deep_alias = format!("a: &a {deep}\nb: [[[[*a]]]]");
        let rows = [
            ("a: 1\na: 2".to_owned(), "`a` stands twice in this mapping, first in line 1"),
            ("---\na: 1\n---\nb: 1".to_owned(), "a second document starts here"),
            (String::new(), "the file is empty"),
            ("a: &a [*a]".to_owned(), "an alias inside its own anchor"),
            ("a: {<<: 3}".to_owned(), "`<<` takes a mapping or a list of mappings"),
            ("? [a]\n: b".to_owned(), "a key must be text, not a list or mapping"),
            ("a: !ruby/object x".to_owned(), "the tag `!ruby/object` means nothing here"),
            (laughs(12), "the file grows too large here: aliases are counted as often as they are used"),
            (deep_alias, "nested deeper than 100"),
        ];
        for (text, expected) in rows {
            assert_eq!(read(&text), json!({"error": expected}), "{}", &text[..text.len().min(60)]);
        }
        let bad = parse("a:\n\t- b", 0).unwrap_err();
        assert_eq!(bad.place.line, 2);
        assert!(bad.help.unwrap().contains("spaces"));
        assert!(parse(&"[".repeat(200_000), 0).is_err());
        assert!(parse(&"a: ".repeat(MAX_BYTES), 0).unwrap_err().message.contains("8 MiB"));
    }

    #[test]
    fn places_are_of_characters() {
        let (node, _) = parse("이름: [가, 나다]\n", 0).unwrap();
        let Kind::List(items) = &node.entries()[0].1.kind else { panic!("{node:?}") };
        assert_eq!((items[1].place.line, items[1].place.column, items[1].place.width), (1, 9, 2));
        assert_eq!(node.entries()[0].0.place.column, 1);
    }
}
