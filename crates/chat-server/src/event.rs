//! The closed list of client events, parsed and validated whole before anything happens.
//!
//! An object argument may also arrive as a JSON string holding the object, as the original's Android
//! client sends it. Field rules stand in docs/events.md; a wrong field is named by its path.

use geo_index::Position;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::refusal::{Refusal, RefusalKind};
use crate::token::{MAX_NICKNAME_CHARS, MAX_TOKEN_BYTES};

/// Longest `contents`, in bytes of UTF-8.
pub const MAX_CONTENTS_BYTES: usize = 4096;
/// Longest `avatar`, in bytes: a URL.
pub const MAX_AVATAR_BYTES: usize = 2048;
/// Longest `since` cursor, in bytes.
pub const MAX_CURSOR_BYTES: usize = 64;

/// What a client asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum ClientEvent {
    Store(Store),
    Update {
        answer: UpdateAnswer,
        store: Store,
    },
    SaveMsg(SaveMsg),
    /// The original's, not built yet: `like`, `save_dm`.
    NotBuilt(&'static str),
    Unknown(String),
}

/// Which event answers an `update`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpdateAnswer {
    /// People in my circle.
    Geo,
    /// Friends who are here: not built yet.
    Direct,
    /// `update({...})` without a kind: moves only.
    Nothing,
}

/// `store` and the payload of `update`.
#[derive(Debug, Clone, PartialEq)]
pub struct Store {
    pub token: Option<String>,
    pub position: Position,
    /// Metres as asked; clamped by the settings later.
    pub radius_m: f64,
    pub nickname: Option<String>,
    pub avatar: Option<String>,
    pub anonymity: Option<bool>,
    pub test: Option<bool>,
    /// The cursor of the last thing seen.
    pub since: Option<String>,
}

/// `save_msg`.
#[derive(Debug, Clone, PartialEq)]
pub struct SaveMsg {
    pub token: Option<String>,
    pub position: Position,
    pub contents: String,
    pub kind: MessageKind,
    /// How far a LoudSpeaker reaches, in metres, as asked.
    pub radius_m: Option<f64>,
    /// `testing` or `messageData.test`.
    pub test: Option<bool>,
}

/// `type` of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MessageKind {
    Message,
    LoudSpeaker,
    Image,
    Location,
    Share,
}

impl MessageKind {
    pub const ALL: [MessageKind; 5] =
        [Self::Message, Self::LoudSpeaker, Self::Image, Self::Location, Self::Share];

    pub fn name(self) -> &'static str {
        match self {
            Self::Message => "Message",
            Self::LoudSpeaker => "LoudSpeaker",
            Self::Image => "Image",
            Self::Location => "Location",
            Self::Share => "Share",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// Reads an event's arguments, raw JSON without the name.
type Parse = fn(&[&RawValue]) -> Result<ClientEvent, Refusal>;

/// Every event a client may send: the list that docs/events.md is held against.
const EVENTS: [(&str, Parse); 5] = [
    ("store", |args| Ok(ClientEvent::Store(parse_store(&object(args, 0, "store")?)?))),
    ("update", parse_update),
    ("save_msg", |args| Ok(ClientEvent::SaveMsg(parse_save_msg(&object(args, 0, "save_msg")?)?))),
    ("like", |_| Ok(ClientEvent::NotBuilt("like"))),
    ("save_dm", |_| Ok(ClientEvent::NotBuilt("save_dm"))),
];

/// The fields of `store` and of `update`'s object.
pub const STORE_FIELDS: &[&str] =
    &["token", "position", "radius", "nickname", "avatar", "anonymity", "test", "since"];
/// The fields of `save_msg`.
pub const SAVE_MSG_FIELDS: &[&str] = &["token", "messageData", "radius", "testing"];
/// The fields of its `messageData`.
pub const MESSAGE_DATA_FIELDS: &[&str] = &["lng", "lat", "contents", "type", "test"];

impl ClientEvent {
    /// `args` are the event's arguments as raw JSON, without the name.
    ///
    /// # Errors
    /// A [`Refusal`] naming every wrong field.
    pub fn parse(name: &str, args: &[&RawValue]) -> Result<ClientEvent, Refusal> {
        match EVENTS.iter().find(|(known, _)| *known == name) {
            Some((_, parse)) => parse(args),
            None => Ok(Self::Unknown(name.chars().take(64).collect())),
        }
    }

    /// The names of all events a client may send.
    pub fn names() -> impl Iterator<Item = &'static str> {
        EVENTS.iter().map(|(name, _)| *name)
    }
}

fn parse_update(args: &[&RawValue]) -> Result<ClientEvent, Refusal> {
    let first: Option<Value> = args.first().and_then(|raw| serde_json::from_str(raw.get()).ok());
    let (answer, at) = match first.as_ref().and_then(Value::as_str) {
        Some("geo") => (UpdateAnswer::Geo, 1),
        Some("direct") => (UpdateAnswer::Direct, 1),
        Some(text) if !text.trim_start().starts_with('{') => {
            return Err(Refusal::field("0", "must be \"geo\", \"direct\" or the object itself"));
        }
        _ => (UpdateAnswer::Nothing, 0),
    };
    Ok(ClientEvent::Update { answer, store: parse_store(&object(args, at, "update")?)? })
}

/// The object at `at`, or inside the JSON string at `at`.
fn object(args: &[&RawValue], at: usize, event: &str) -> Result<Map<String, Value>, Refusal> {
    let raw = args.get(at).ok_or_else(|| {
        Refusal::with_message(RefusalKind::Validation, format!("{event}: argument {at} must be an object"))
    })?;
    let parsed: Result<Value, _> = serde_json::from_str(raw.get());
    let value = match parsed {
        Ok(Value::String(text)) => serde_json::from_str(&text),
        other => other,
    };
    match value {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(Refusal::with_message(
            RefusalKind::Validation,
            format!("{event}: argument {at} must be an object"),
        )),
        Err(error) => Err(Refusal::with_message(
            RefusalKind::Validation,
            format!("{event}: argument {at} is not readable JSON: {error}"),
        )),
    }
}

fn parse_store(map: &Map<String, Value>) -> Result<Store, Refusal> {
    let mut fields = Fields::new(map, STORE_FIELDS);
    let token = fields.token();
    let position = fields.position_pair();
    let radius_m = fields.radius("radius").or_else(|| {
        fields.missing("radius", "must be a number of metres, 0 or more");
        None
    });
    let nickname = fields.text("nickname", MAX_NICKNAME_CHARS * 4).inspect(|name| {
        if name.chars().count() > MAX_NICKNAME_CHARS {
            fields.wrong("nickname", format!("must have at most {MAX_NICKNAME_CHARS} characters"));
        }
    });
    let avatar = fields.text("avatar", MAX_AVATAR_BYTES);
    let anonymity = fields.flag("anonymity");
    let test = fields.flag("test");
    let since = fields.text("since", MAX_CURSOR_BYTES);
    match (position, radius_m, fields.finish()) {
        (Some(position), Some(radius_m), None) => {
            Ok(Store { token, position, radius_m, nickname, avatar, anonymity, test, since })
        }
        (_, _, refusal) => Err(refusal.unwrap_or_else(|| RefusalKind::Validation.into())),
    }
}

fn parse_save_msg(map: &Map<String, Value>) -> Result<SaveMsg, Refusal> {
    let mut fields = Fields::new(map, SAVE_MSG_FIELDS);
    let token = fields.token();
    let radius_m = fields.radius("radius");
    let testing = fields.flag("testing");
    let empty = Map::new();
    let data = match fields.value("messageData") {
        Some(Value::Object(data)) => data,
        _ => {
            fields.missing("messageData", "must be an object with lng, lat, contents");
            &empty
        }
    };
    let errors = std::mem::take(&mut fields.errors);
    let mut inner = Fields { map: data, known: MESSAGE_DATA_FIELDS, prefix: "messageData.", errors };
    let (mut position, mut contents, mut kind, mut test) = (None, None, MessageKind::Message, None);
    if !data.is_empty() || inner.errors.is_empty() {
        position = inner.position_fields();
        contents = inner.contents();
        kind = inner.kind();
        test = inner.flag("test");
    }
    match (position, contents, inner.finish()) {
        (Some(position), Some(contents), None) => Ok(SaveMsg {
            token,
            position,
            contents,
            kind,
            radius_m,
            // Said anywhere, it is said; contradicting itself counts as test.
            test: match (testing, test) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), _) | (_, Some(false)) => Some(false),
                (None, None) => None,
            },
        }),
        (_, _, refusal) => Err(refusal.unwrap_or_else(|| RefusalKind::Validation.into())),
    }
}

/// Reads fields of one object and gathers what is wrong with them.
struct Fields<'a> {
    map: &'a Map<String, Value>,
    /// The names it may ask for: a new one has to be in the list, hence in the document.
    known: &'static [&'static str],
    /// Put before a field's name in errors, e.g. `messageData.`.
    prefix: &'static str,
    errors: Vec<(String, String)>,
}

impl<'a> Fields<'a> {
    fn new(map: &'a Map<String, Value>, known: &'static [&'static str]) -> Self {
        Self { map, known, prefix: "", errors: Vec::new() }
    }

    fn wrong(&mut self, field: &str, why: impl Into<String>) {
        self.errors.push((format!("{}{field}", self.prefix), why.into()));
    }

    /// Like `wrong`, unless the field already has an error.
    fn missing(&mut self, field: &str, why: &str) {
        let path = format!("{}{field}", self.prefix);
        if !self.errors.iter().any(|(known, _)| *known == path) {
            self.errors.push((path, why.to_owned()));
        }
    }

    /// Absent and `null` are the same.
    fn value(&self, field: &str) -> Option<&'a Value> {
        debug_assert!(self.known.contains(&field), "{field} is not in its list");
        self.map.get(field).filter(|value| !value.is_null())
    }

    fn text(&mut self, field: &str, max_bytes: usize) -> Option<String> {
        match self.value(field)? {
            Value::String(text) if text.len() <= max_bytes => Some(text.clone()),
            Value::String(_) => {
                self.wrong(field, format!("must have at most {max_bytes} bytes"));
                None
            }
            _ => {
                self.wrong(field, "must be a string");
                None
            }
        }
    }

    fn token(&mut self) -> Option<String> {
        self.text("token", MAX_TOKEN_BYTES)
    }

    fn flag(&mut self, field: &str) -> Option<bool> {
        match self.value(field)? {
            Value::Bool(flag) => Some(*flag),
            // Form-minded clients of the original send these.
            Value::Number(number) if number.as_u64() == Some(0) => Some(false),
            Value::Number(number) if number.as_u64() == Some(1) => Some(true),
            Value::String(text) if text == "true" => Some(true),
            Value::String(text) if text == "false" => Some(false),
            _ => {
                self.wrong(field, "must be true or false");
                None
            }
        }
    }

    fn number(&mut self, field: &str, value: Option<&Value>, low: f64, high: f64) -> Option<f64> {
        match value.and_then(Value::as_f64) {
            Some(number) if number.is_finite() && (low..=high).contains(&number) => Some(number),
            Some(_) => {
                self.wrong(field, format!("must be between {low} and {high}"));
                None
            }
            None => {
                self.wrong(field, format!("must be a number between {low} and {high}"));
                None
            }
        }
    }

    /// Absent: `None` without an error.
    fn radius(&mut self, field: &str) -> Option<f64> {
        let value = self.value(field)?;
        match value.as_f64() {
            Some(metres) if metres.is_finite() && metres >= 0.0 => Some(metres),
            _ => {
                self.wrong(field, "must be a number of metres, 0 or more");
                None
            }
        }
    }

    /// `position: [lng, lat]`.
    fn position_pair(&mut self) -> Option<Position> {
        let Some(Value::Array(pair)) = self.value("position") else {
            self.wrong("position", "must be [lng, lat]");
            return None;
        };
        if pair.len() != 2 {
            self.wrong("position", "must be [lng, lat]");
            return None;
        }
        let lng = self.number("position.0", pair.first(), -180.0, 180.0);
        let lat = self.number("position.1", pair.get(1), -90.0, 90.0);
        self.position("position", lng?, lat?)
    }

    /// `lng` and `lat`.
    fn position_fields(&mut self) -> Option<Position> {
        let lng = self.number("lng", self.value("lng"), -180.0, 180.0);
        let lat = self.number("lat", self.value("lat"), -90.0, 90.0);
        self.position("lng", lng?, lat?)
    }

    fn position(&mut self, field: &str, lng: f64, lat: f64) -> Option<Position> {
        match Position::new(lng, lat) {
            Ok(position) => Some(position),
            Err(error) => {
                self.wrong(field, error.to_string());
                None
            }
        }
    }

    fn contents(&mut self) -> Option<String> {
        let contents = self.text("contents", MAX_CONTENTS_BYTES);
        match &contents {
            Some(text) if text.is_empty() => self.missing("contents", "must not be empty"),
            Some(_) => {}
            None => self.missing("contents", "must be a string"),
        }
        contents
    }

    fn kind(&mut self) -> MessageKind {
        let Some(value) = self.value("type") else { return MessageKind::Message };
        value.as_str().and_then(MessageKind::from_name).unwrap_or_else(|| {
            self.wrong("type", "must be Message, LoudSpeaker, Image, Location or Share");
            MessageKind::Message
        })
    }

    fn finish(self) -> Option<Refusal> {
        if self.errors.is_empty() {
            return None;
        }
        let message = self.errors.iter().map(|(field, why)| format!("{field}: {why}")).collect::<Vec<_>>();
        let mut refusal = Refusal::with_message(RefusalKind::Validation, message.join("; "));
        refusal.errors.extend(self.errors);
        Some(refusal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(name: &str, args: &[&str]) -> Result<ClientEvent, Refusal> {
        let raw: Vec<Box<RawValue>> =
            args.iter().map(|text| RawValue::from_string((*text).to_owned()).unwrap()).collect();
        let borrowed: Vec<&RawValue> = raw.iter().map(AsRef::as_ref).collect();
        ClientEvent::parse(name, &borrowed)
    }

    #[track_caller]
    fn wrong(name: &str, args: &[&str], fields: &[&str]) {
        let refusal = parse(name, args).unwrap_err();
        assert_eq!(refusal.errors.keys().map(String::as_str).collect::<Vec<_>>(), fields, "{refusal:?}");
    }

    const MESSAGE: &str =
        r#"{"token":"t","messageData":{"lng":127.0276,"lat":37.4979,"contents":"hi"},"radius":500}"#;

    #[test]
    fn the_journals_message() {
        let ClientEvent::SaveMsg(save) = parse("save_msg", &[MESSAGE]).unwrap() else { panic!() };
        assert_eq!(save.contents, "hi");
        assert_eq!(save.kind, MessageKind::Message);
        assert_eq!(save.radius_m, Some(500.0));
        assert_eq!(save.test, None);
    }

    #[test]
    fn an_object_may_come_as_a_string() {
        let as_string = serde_json::to_string(MESSAGE).unwrap();
        assert_eq!(parse("save_msg", &[&as_string]), parse("save_msg", &[MESSAGE]));
    }

    #[test]
    fn longitude_zero_is_a_place() {
        let event = r#"{"messageData":{"lng":0,"lat":0,"contents":"x"}}"#;
        assert!(parse("save_msg", &[event]).is_ok());
        assert!(parse("store", &[r#"{"position":[0,0],"radius":0}"#]).is_ok());
    }

    #[test]
    fn wrong_fields_are_named() {
        let lng = |v: &str| format!(r#"{{"messageData":{{"lng":{v},"lat":37,"contents":"x"}}}}"#);
        for bad in ["\"127.???????\"", "181", "-180.5", "null", "1e999", "[]", "true"] {
            if bad == "1e999" {
                // Out of an f64's range: the JSON itself is refused.
                assert!(parse("save_msg", &[&lng(bad)]).is_err());
            } else {
                wrong("save_msg", &[&lng(bad)], &["messageData.lng"]);
            }
        }
        wrong(
            "save_msg",
            &[r#"{"messageData":{}}"#],
            &["messageData.contents", "messageData.lat", "messageData.lng"],
        );
        wrong("save_msg", &["{}"], &["messageData"]);
        wrong(
            "save_msg",
            &[
                r#"{"messageData":{"lng":1,"lat":2,"contents":"x","type":"Shout","test":"maybe"},"radius":-1}"#,
            ],
            &["messageData.test", "messageData.type", "radius"],
        );
        wrong("store", &[r#"{"position":[1],"radius":5}"#], &["position"]);
        wrong("store", &[r#"{"position":[1,91]}"#], &["position.1", "radius"]);
        wrong("store", &[r#"{"position":[1,2],"radius":"5"}"#], &["radius"]);
        wrong("update", &[r#""near""#, "{}"], &["0"]);
        for not_an_object in ["[]", "5", "\"\"", "\"[1]\"", "null"] {
            let refusal = parse("store", &[not_an_object]).unwrap_err();
            assert_eq!(refusal.kind, RefusalKind::Validation);
            assert!(refusal.message.starts_with("store: argument 0"), "{refusal:?}");
        }
    }

    #[test]
    fn update_in_three_spellings() {
        let place = r#"{"position":[127,37],"radius":500}"#;
        let kind = |args: &[&str]| match parse("update", args).unwrap() {
            ClientEvent::Update { answer, .. } => answer,
            other => panic!("{other:?}"),
        };
        assert_eq!(kind(&["\"geo\"", place]), UpdateAnswer::Geo);
        assert_eq!(kind(&["\"direct\"", place]), UpdateAnswer::Direct);
        assert_eq!(kind(&[place]), UpdateAnswer::Nothing);
        assert_eq!(kind(&[&serde_json::to_string(place).unwrap()]), UpdateAnswer::Nothing);
    }

    #[test]
    fn either_flag_means_test() {
        let with = |outer: &str, inner: &str| {
            let text = format!(
                r#"{{"testing":{outer},"messageData":{{"lng":1,"lat":2,"contents":"x","test":{inner}}}}}"#
            );
            match parse("save_msg", &[&text]).unwrap() {
                ClientEvent::SaveMsg(save) => save.test,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(with("null", "null"), None);
        assert_eq!(with("true", "null"), Some(true));
        assert_eq!(with("false", "true"), Some(true));
        assert_eq!(with("false", "null"), Some(false));
    }

    #[test]
    fn deep_json_is_refused_not_crashed() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        if let Ok(raw) = RawValue::from_string(deep) {
            assert!(ClientEvent::parse("store", &[&raw]).is_err());
        }
    }

    #[test]
    fn unknown_names_are_kept_short() {
        let ClientEvent::Unknown(name) = parse(&"x".repeat(1000), &[]).unwrap() else { panic!() };
        assert_eq!(name.len(), 64);
    }
}
