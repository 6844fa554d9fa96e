//! Text and data with holes: `{{ name }}`, filled for each virtual user.
//!
//! A string that is exactly one hole keeps the variable's type; a hole inside text becomes text, objects as JSON.
//! A variable nobody set is dropped from an object, `null` in a list and the word `undefined` inside text,
//! as in Artillery. Parts without holes keep the JSON they were encoded to when the script was loaded.

use std::borrow::Cow;
use std::fmt;

use serde_json::Value;

use super::vars::Vars;

/// A value whose strings (and object keys) may have holes.
#[derive(Clone)]
pub struct Template {
    node: Node,
}

/// Why a string cannot be a template; the text of the hole stands in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error(
        "there is no template function `{0}`; known are `$randomNumber(from, to)` and `$randomString(length)`"
    )]
    UnknownFunction(String),
    #[error("`{0}` needs {1}")]
    Arguments(String, &'static str),
    #[error("`{0}` is nested too deeply")]
    TooDeep(String),
}

/// A name a template asks for, as written: `user.id`, `$loopCount`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The variable, e.g. `user`.
    pub root: String,
    /// All of it, e.g. `user.id`.
    pub path: String,
}

#[derive(Debug, Clone)]
enum Node {
    Constant(Box<Constant>),
    Hole(Hole),
    Text(Vec<Piece>),
    List(Vec<Node>),
    Object(Vec<Member>),
}

#[derive(Debug, Clone)]
struct Constant {
    value: Value,
    json: Box<str>,
    text: Box<str>,
}

#[derive(Debug, Clone)]
enum Piece {
    Literal(Box<str>),
    Hole(Hole),
}

#[derive(Debug, Clone)]
struct Member {
    key: Key,
    value: Node,
}

#[derive(Debug, Clone)]
enum Key {
    /// The key, and its JSON with the colon.
    Constant(Box<str>, Box<str>),
    Text(Vec<Piece>),
}

#[derive(Debug, Clone)]
enum Hole {
    Variable { path: Box<str>, root: Box<str>, rest: Vec<Segment> },
    RandomNumber(i64, i64),
    RandomString(usize),
}

#[derive(Debug, Clone)]
enum Segment {
    Name(Box<str>),
    Index(usize),
}

/// Deeper data than this is refused.
const MAX_DEPTH: usize = 128;
/// `$randomString(n)` makes at most this many characters.
const MAX_RANDOM_STRING: usize = 1 << 20;

impl Template {
    /// Compiles every string and key in `value`.
    pub fn new(value: &Value) -> Result<Self, TemplateError> {
        Ok(Self { node: Node::compile(value, 0)? })
    }

    /// Compiles one string.
    pub fn text(text: &str) -> Result<Self, TemplateError> {
        Ok(Self { node: Node::compile_text(text)? })
    }

    /// Exactly this value; braces in it mean nothing.
    pub fn constant(value: Value) -> Self {
        Self { node: Node::constant(value) }
    }

    pub fn is_constant(&self) -> bool {
        matches!(self.node, Node::Constant(_))
    }

    /// The value when there is no hole in it.
    pub fn as_constant(&self) -> Option<&Value> {
        match &self.node {
            Node::Constant(constant) => Some(&constant.value),
            _ => None,
        }
    }

    /// Fills the holes. What nobody set is `null`, or absent in an object.
    pub fn render(&self, vars: &Vars, rng: &mut fastrand::Rng) -> Value {
        self.node.render(vars, rng).unwrap_or(Value::Null)
    }

    /// As text: strings bare, everything else as JSON; what nobody set is `undefined`.
    pub fn render_text<'a>(&'a self, vars: &'a Vars, rng: &mut fastrand::Rng) -> Cow<'a, str> {
        match &self.node {
            Node::Constant(constant) => Cow::Borrowed(&constant.text),
            Node::Hole(hole) => hole.text(vars, rng),
            Node::Text(pieces) => Cow::Owned(join(pieces, vars, rng)),
            node => {
                let mut out = Vec::new();
                node.write_json(vars, rng, &mut out);
                Cow::Owned(String::from_utf8(out).expect("JSON is UTF-8"))
            }
        }
    }

    /// Appends the filled value as JSON.
    pub fn write_json(&self, vars: &Vars, rng: &mut fastrand::Rng, out: &mut Vec<u8>) {
        if !self.node.write_json(vars, rng, out) {
            out.extend_from_slice(b"null");
        }
    }

    /// Every variable it asks for, in order of appearance.
    pub fn references(&self) -> Vec<Reference> {
        let mut found = Vec::new();
        self.node.collect(&mut found);
        found
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.node {
            Node::Constant(constant) => write!(f, "Template({})", constant.json),
            node => write!(f, "Template({node:?})"),
        }
    }
}

impl Node {
    fn constant(value: Value) -> Self {
        let json = value.to_string().into_boxed_str();
        let text = text_of(&value).into_owned().into_boxed_str();
        Self::Constant(Box::new(Constant { value, json, text }))
    }

    fn compile(value: &Value, depth: usize) -> Result<Self, TemplateError> {
        if depth > MAX_DEPTH {
            return Err(TemplateError::TooDeep("data".into()));
        }
        Ok(match value {
            Value::String(text) => Self::compile_text(text)?,
            Value::Array(items) => {
                let nodes: Vec<Node> =
                    items.iter().map(|item| Self::compile(item, depth + 1)).collect::<Result<_, _>>()?;
                if nodes.iter().all(Node::is_constant) {
                    Self::constant(value.clone())
                } else {
                    Self::List(nodes)
                }
            }
            Value::Object(map) => {
                let mut members = Vec::with_capacity(map.len());
                let mut constant = true;
                for (name, value) in map {
                    let key = match Self::compile_text(name)? {
                        Self::Constant(_) => Key::constant(name),
                        Self::Hole(hole) => Key::Text(vec![Piece::Hole(hole)]),
                        Self::Text(pieces) => Key::Text(pieces),
                        Self::List(_) | Self::Object(_) => unreachable!("text compiles to text"),
                    };
                    let value = Self::compile(value, depth + 1)?;
                    constant &= matches!(key, Key::Constant(..)) && value.is_constant();
                    members.push(Member { key, value });
                }
                if constant { Self::constant(value.clone()) } else { Self::Object(members) }
            }
            plain => Self::constant(plain.clone()),
        })
    }

    fn compile_text(text: &str) -> Result<Self, TemplateError> {
        let mut pieces = parse(text)?;
        Ok(match pieces.len() {
            0 => Self::constant(Value::String(String::new())),
            1 => match pieces.remove(0) {
                Piece::Literal(_) => Self::constant(Value::String(text.to_owned())),
                Piece::Hole(hole) => Self::Hole(hole),
            },
            _ => Self::Text(pieces),
        })
    }

    fn is_constant(&self) -> bool {
        matches!(self, Self::Constant(_))
    }

    /// `None`: a variable nobody set.
    fn render(&self, vars: &Vars, rng: &mut fastrand::Rng) -> Option<Value> {
        Some(match self {
            Self::Constant(constant) => constant.value.clone(),
            Self::Hole(hole) => return hole.value(vars, rng).map(Cow::into_owned),
            Self::Text(pieces) => Value::String(join(pieces, vars, rng)),
            Self::List(nodes) => {
                nodes.iter().map(|node| node.render(vars, rng).unwrap_or(Value::Null)).collect()
            }
            Self::Object(members) => Value::Object(
                members
                    .iter()
                    .filter_map(|member| Some((member.key.text(vars, rng), member.value.render(vars, rng)?)))
                    .collect(),
            ),
        })
    }

    /// False (and nothing written): a variable nobody set.
    fn write_json(&self, vars: &Vars, rng: &mut fastrand::Rng, out: &mut Vec<u8>) -> bool {
        match self {
            Self::Constant(constant) => out.extend_from_slice(constant.json.as_bytes()),
            Self::Hole(hole) => match hole.value(vars, rng) {
                Some(value) => write_value(&value, out),
                None => return false,
            },
            Self::Text(pieces) => write_string(&join(pieces, vars, rng), out),
            Self::List(nodes) => {
                out.push(b'[');
                for (index, node) in nodes.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    if !node.write_json(vars, rng, out) {
                        out.extend_from_slice(b"null");
                    }
                }
                out.push(b']');
            }
            Self::Object(members) => {
                out.push(b'{');
                let mut first = true;
                for member in members {
                    let before = out.len();
                    if !first {
                        out.push(b',');
                    }
                    match &member.key {
                        Key::Constant(_, json) => out.extend_from_slice(json.as_bytes()),
                        Key::Text(pieces) => {
                            write_string(&join(pieces, vars, rng), out);
                            out.push(b':');
                        }
                    }
                    if member.value.write_json(vars, rng, out) {
                        first = false;
                    } else {
                        out.truncate(before);
                    }
                }
                out.push(b'}');
            }
        }
        true
    }

    fn collect(&self, found: &mut Vec<Reference>) {
        let mut add = |hole: &Hole| {
            if let Hole::Variable { path, root, .. } = hole {
                found.push(Reference { root: root.to_string(), path: path.to_string() });
            }
        };
        match self {
            Self::Constant(_) => {}
            Self::Hole(hole) => add(hole),
            Self::Text(pieces) => pieces.iter().filter_map(Piece::hole).for_each(add),
            Self::List(nodes) => nodes.iter().for_each(|node| node.collect(found)),
            Self::Object(members) => {
                for member in members {
                    if let Key::Text(pieces) = &member.key {
                        for hole in pieces.iter().filter_map(Piece::hole) {
                            if let Hole::Variable { path, root, .. } = hole {
                                found.push(Reference { root: root.to_string(), path: path.to_string() });
                            }
                        }
                    }
                    member.value.collect(found);
                }
            }
        }
    }
}

impl Piece {
    fn hole(&self) -> Option<&Hole> {
        match self {
            Self::Hole(hole) => Some(hole),
            Self::Literal(_) => None,
        }
    }
}

impl Key {
    fn constant(name: &str) -> Self {
        let mut json = Vec::new();
        write_string(name, &mut json);
        json.push(b':');
        let json = String::from_utf8(json).expect("JSON is UTF-8");
        Self::Constant(name.into(), json.into_boxed_str())
    }

    fn text(&self, vars: &Vars, rng: &mut fastrand::Rng) -> String {
        match self {
            Self::Constant(name, _) => name.to_string(),
            Self::Text(pieces) => join(pieces, vars, rng),
        }
    }
}

impl Hole {
    fn value<'a>(&self, vars: &'a Vars, rng: &mut fastrand::Rng) -> Option<Cow<'a, Value>> {
        match self {
            Self::Variable { path, root, rest } => {
                if rest.is_empty() {
                    return vars.get(root).map(Cow::Borrowed);
                }
                // A variable may itself be called `a.b` (a CSV field, say); it goes first.
                if let Some(value) = vars.get(path) {
                    return Some(Cow::Borrowed(value));
                }
                let mut value = vars.get(root)?;
                for segment in rest {
                    value = match (segment, value) {
                        (Segment::Name(name), Value::Object(map)) => map.get(&**name)?,
                        (Segment::Index(index), Value::Array(items)) => items.get(*index)?,
                        (Segment::Index(index), Value::Object(map)) => map.get(&index.to_string())?,
                        (Segment::Name(name), Value::Array(items)) if &**name == "length" => {
                            return Some(Cow::Owned(items.len().into()));
                        }
                        _ => return None,
                    };
                }
                Some(Cow::Borrowed(value))
            }
            Self::RandomNumber(from, to) => Some(Cow::Owned(rng.i64(*from..=*to).into())),
            Self::RandomString(length) => {
                Some(Cow::Owned(Value::String((0..*length).map(|_| rng.alphanumeric()).collect())))
            }
        }
    }

    fn text<'a>(&self, vars: &'a Vars, rng: &mut fastrand::Rng) -> Cow<'a, str> {
        match self.value(vars, rng) {
            None => Cow::Borrowed("undefined"),
            Some(Cow::Borrowed(value)) => text_of(value),
            Some(Cow::Owned(value)) => Cow::Owned(text_of(&value).into_owned()),
        }
    }
}

fn join(pieces: &[Piece], vars: &Vars, rng: &mut fastrand::Rng) -> String {
    let mut text = String::new();
    for piece in pieces {
        match piece {
            Piece::Literal(literal) => text.push_str(literal),
            Piece::Hole(hole) => text.push_str(&hole.text(vars, rng)),
        }
    }
    text
}

/// A value inside text: strings bare, the rest as JSON.
pub fn text_of(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => Cow::Borrowed(text),
        other => Cow::Owned(other.to_string()),
    }
}

fn write_value(value: &Value, out: &mut Vec<u8>) {
    serde_json::to_writer(out, value).expect("a Vec takes everything");
}

fn write_string(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("a Vec takes everything");
}

/// Splits text at its holes. What stands in braces and is neither a path nor a function stays text, as in Artillery.
fn parse(text: &str) -> Result<Vec<Piece>, TemplateError> {
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(open) = rest.find("{{") {
        let brace = if rest[open..].starts_with("{{{") { 3 } else { 2 };
        let inner = &rest[open + brace..];
        let Some(close) = inner.find("}}") else { break };
        let hole = parse_hole(inner[..close].trim())?;
        let mut after = open + brace + close + 2;
        if brace == 3 && rest[after..].starts_with('}') {
            after += 1;
        }
        match hole {
            Some(hole) => {
                literal.push_str(&rest[..open]);
                if !literal.is_empty() {
                    pieces.push(Piece::Literal(std::mem::take(&mut literal).into_boxed_str()));
                }
                pieces.push(Piece::Hole(hole));
                rest = &rest[after..];
            }
            None => {
                literal.push_str(&rest[..open + 2]);
                rest = &rest[open + 2..];
            }
        }
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        pieces.push(Piece::Literal(literal.into_boxed_str()));
    }
    Ok(pieces)
}

/// `None`: not an expression of the template language.
fn parse_hole(text: &str) -> Result<Option<Hole>, TemplateError> {
    if let Some((name, arguments)) = text.strip_suffix(')').and_then(|call| call.split_once('(')) {
        let name = name.trim();
        let is_name = name.starts_with('$') && name[1..].chars().all(|c| c.is_alphanumeric() || c == '_');
        return if is_name { parse_call(text, name, arguments).map(Some) } else { Ok(None) };
    }
    Ok(parse_path(text))
}

fn parse_call(text: &str, name: &str, arguments: &str) -> Result<Hole, TemplateError> {
    let arguments: Vec<&str> = arguments.split(',').map(str::trim).filter(|a| !a.is_empty()).collect();
    let wrong = |what| TemplateError::Arguments(text.to_owned(), what);
    match name {
        "$randomNumber" => {
            let [from, to] = arguments[..] else { return Err(wrong("two whole numbers")) };
            let from: i64 = from.parse().map_err(|_| wrong("two whole numbers"))?;
            let to: i64 = to.parse().map_err(|_| wrong("two whole numbers"))?;
            Ok(Hole::RandomNumber(from.min(to), from.max(to)))
        }
        "$randomString" => {
            let length = match arguments[..] {
                [] => 10,
                [length] => length.parse().map_err(|_| wrong("a length"))?,
                _ => return Err(wrong("one length")),
            };
            if length > MAX_RANDOM_STRING {
                return Err(wrong("a length of at most 1048576"));
            }
            Ok(Hole::RandomString(length))
        }
        _ => Err(TemplateError::UnknownFunction(name.to_owned())),
    }
}

/// `name`, `name.part`, `name[0]`, `name['part']`.
fn parse_path(text: &str) -> Option<Hole> {
    let is_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$' | '-');
    let root_end = text.find(|c: char| !is_name(c)).unwrap_or(text.len());
    let (root, mut rest) = text.split_at(root_end);
    if root.is_empty() {
        return None;
    }
    let mut segments = Vec::new();
    while !rest.is_empty() {
        let name = if let Some(inner) = rest.strip_prefix('[') {
            let end = inner.find(']')?;
            rest = &inner[end + 1..];
            inner[..end].trim().trim_matches(['\'', '"'])
        } else {
            let inner = rest.strip_prefix('.')?;
            let end = inner.find(|c: char| !is_name(c)).unwrap_or(inner.len());
            rest = &inner[end..];
            &inner[..end]
        };
        if name.is_empty() || segments.len() > MAX_DEPTH {
            return None;
        }
        segments.push(name.parse().map_or_else(|_| Segment::Name(name.into()), Segment::Index));
    }
    Some(Hole::Variable { path: text.into(), root: root.into(), rest: segments })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn vars() -> Vars {
        let mut vars = Vars::empty();
        for (name, value) in [
            ("n", json!(7)),
            ("f", json!(0.5)),
            ("text", json!("a\"b")),
            ("flag", json!(true)),
            ("none", Value::Null),
            ("user", json!({"id": 9, "tags": ["x", {"y": 1}]})),
            ("a.b", json!("dotted")),
            ("이름", json!("값")),
        ] {
            vars.set(name, value);
        }
        vars
    }

    #[test]
    fn holes() {
        let rows = [
            // A string that is one hole keeps the type.
            (json!("{{ n }}"), json!(7)),
            (json!("{{n}}"), json!(7)),
            (json!("{{{ n }}}"), json!(7)),
            (json!("{{ user }}"), json!({"id": 9, "tags": ["x", {"y": 1}]})),
            (json!("{{ none }}"), Value::Null),
            (json!("{{ user.id }}"), json!(9)),
            (json!("{{ user.tags[1].y }}"), json!(1)),
            (json!("{{ user['tags'][0] }}"), json!("x")),
            (json!("{{ user.tags.length }}"), json!(2)),
            (json!("{{ a.b }}"), json!("dotted")),
            (json!("{{ 이름 }}"), json!("값")),
            // Inside text it becomes text.
            (json!("<{{ n }}>"), json!("<7>")),
            (json!("{{ n }}{{ flag }}"), json!("7true")),
            (json!("={{ user.tags }}"), json!("=[\"x\",{\"y\":1}]")),
            (json!("={{ text }}"), json!("=a\"b")),
            (json!("={{ f }} {{ none }}"), json!("=0.5 null")),
            // Nobody set it.
            (json!("{{ who }}"), Value::Null),
            (json!("={{ who }}"), json!("=undefined")),
            (json!("={{ user.who.x }}"), json!("=undefined")),
            (json!({"a": "{{ who }}", "b": 1, "c": "{{ n }}"}), json!({"b": 1, "c": 7})),
            (json!(["{{ who }}", 1]), json!([null, 1])),
            // Keys too.
            (json!({"k-{{ n }}": "{{ n }}", "z": 1}), json!({"k-7": 7, "z": 1})),
            // Not of the template language.
            (json!("{{ a + b }}"), json!("{{ a + b }}")),
            (json!("{{ }}"), json!("{{ }}")),
            (json!("{{ n"), json!("{{ n")),
            (json!("{ n }"), json!("{ n }")),
            (json!("{{ a + b }} {{ n }}"), json!("{{ a + b }} 7")),
            (json!(""), json!("")),
        ];
        let vars = vars();
        let mut rng = fastrand::Rng::with_seed(1);
        for (written, expected) in rows {
            let template = Template::new(&written).unwrap();
            assert_eq!(template.render(&vars, &mut rng), expected, "{written}");
            let mut json = Vec::new();
            template.write_json(&vars, &mut rng, &mut json);
            assert_eq!(serde_json::from_slice::<Value>(&json).unwrap(), expected, "{written} as JSON");
            let text = template.render_text(&vars, &mut rng);
            match written.as_str() {
                Some("{{ who }}") => assert_eq!(text, "undefined"),
                _ => assert_eq!(text, text_of(&expected), "{written} as text"),
            }
        }
    }

    #[test]
    fn random_functions() {
        let mut rng = fastrand::Rng::with_seed(5);
        let vars = vars();
        let number = Template::text("{{ $randomNumber(-2, 2) }}").unwrap();
        let seen: std::collections::BTreeSet<i64> =
            (0..200).map(|_| number.render(&vars, &mut rng).as_i64().unwrap()).collect();
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [-2, -1, 0, 1, 2]);
        for (written, length) in
            [("{{ $randomString() }}", 10), ("{{$randomString(3)}}", 3), ("{{ $randomString(0) }}", 0)]
        {
            let text = Template::text(written).unwrap().render(&vars, &mut rng);
            assert_eq!(text.as_str().map(str::len), Some(length), "{written}");
        }
        let again = |seed| number.render(&vars, &mut fastrand::Rng::with_seed(seed));
        assert_eq!(again(9), again(9));
        for wrong in [
            "{{ $fake() }}",
            "{{ $randomNumber(1) }}",
            "{{ $randomNumber(a, b) }}",
            "{{ $randomString(99999999) }}",
        ] {
            assert!(Template::text(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn references_are_found() {
        let template =
            Template::new(&json!({"a{{ k.x }}": ["{{ n }}", "-{{ user.id }}-{{ $randomString(2) }}"]}))
                .unwrap();
        let found: Vec<_> = template.references().into_iter().map(|r| (r.root, r.path)).collect();
        let expected = [("k", "k.x"), ("n", "n"), ("user", "user.id")];
        assert_eq!(found, expected.map(|(root, path)| (root.to_owned(), path.to_owned())));
    }
}
