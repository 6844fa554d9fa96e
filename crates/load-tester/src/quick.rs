//! `drumfire quick`: a load without a script. The flags become the script a person would write, which is then run (or
//! printed, to go on from).

use std::fmt::Write as _;

use serde_json::Value;

/// What the flags say.
#[derive(Debug, Clone, Default)]
pub struct Quick {
    pub url: String,
    pub emit: Option<String>,
    /// JSON, or text that is none.
    pub data: Option<String>,
    pub ack: bool,
    pub response: Option<String>,
    pub listen: Option<String>,
    /// How many stand; `None` without listeners, or [`LISTENERS`] of them.
    pub listeners: Option<u64>,
    pub join: Option<String>,
    pub join_data: Option<String>,
    pub rate: f64,
    pub duration: f64,
    pub stay: Option<f64>,
    pub namespace: Option<String>,
    pub auth: Option<String>,
    pub headers: Vec<String>,
    pub stamp: Option<String>,
    pub read: Option<String>,
    pub expect: Option<String>,
    pub polling: bool,
    pub get: Vec<String>,
    pub post: Option<String>,
    pub json: Option<String>,
    pub send: Option<String>,
    pub reply: bool,
}

/// Users stay a second, so that what they said can come back.
const STAY_S: f64 = 1.0;
/// Stand and listen, unless told otherwise.
const LISTENERS: u64 = 100;

impl Quick {
    /// The script as YAML.
    ///
    /// # Errors
    /// In words, with what to type instead.
    pub fn script(&self) -> Result<String, String> {
        let engine = self.engine()?;
        let texts = [
            ("--data", &self.data),
            ("--send", &self.send),
            ("--join", &self.join.clone().filter(|_| engine == "ws")),
            ("--join-data", &self.join_data),
        ];
        for (flag, text) in texts {
            meant_as_text(flag, text.as_deref().unwrap_or_default())?;
        }
        self.no_strangers(engine)?;
        let mut text = String::from("config:\n");
        let _ = writeln!(text, "  target: {}", quoted(self.url.trim_end_matches('/')));
        if engine == "socketio" {
            text.push_str("  socketio:\n");
            let transport = if self.polling { "polling" } else { "websocket" };
            let _ = writeln!(text, "    transports: [{transport}]");
            if let Some(auth) = &self.auth {
                let auth = object(auth, "--auth")?;
                let _ = writeln!(text, "    auth: {auth}");
            }
            self.headers(&mut text, "    extraHeaders:", 6)?;
        } else if engine == "ws" && !self.headers.is_empty() {
            text.push_str("  ws:\n");
            self.headers(&mut text, "    headers:", 6)?;
        }
        if (engine == "http" || self.has_http()) && !self.headers.is_empty() {
            text.push_str("  http:\n    defaults:\n");
            self.headers(&mut text, "      headers:", 8)?;
        }
        let _ =
            writeln!(text, "  phases:\n    - {{duration: {}, arrivalRate: {}}}", self.duration, self.rate);
        self.listeners(&mut text, engine)?;
        let _ = writeln!(text, "scenarios:\n  - engine: {engine}\n    flow:");
        self.requests(&mut text)?;
        if let Some(event) = &self.emit {
            self.emit(&mut text, event)?;
        }
        if let Some(send) = &self.send {
            let data = value(send);
            if self.reply {
                // Any frame, but none from before, as a greeting would be.
                let _ =
                    writeln!(text, "      - send: {{payload: {data}, capture: {{json: \"$\", as: reply}}}}");
            } else {
                let _ = writeln!(text, "      - send: {}", frame(&data));
            }
        }
        if engine != "http" {
            let stay = self.stay.unwrap_or(STAY_S);
            // A fraction means different things to different Artilleries; milliseconds do not.
            let pause =
                if stay.fract() == 0.0 { stay.to_string() } else { format!("{}ms", (stay * 1000.0).round()) };
            let _ = writeln!(text, "      - think: {pause}");
        }
        Ok(text)
    }

    fn engine(&self) -> Result<&'static str, String> {
        let scheme = self.url.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
        let socketio = self.emit.is_some() || self.listen.is_some();
        if self.url.split_once("://").is_some_and(|(_, rest)| rest.trim_start_matches('/').is_empty()) {
            return Err(format!("{}: this URL names no host", self.url));
        }
        match (scheme.as_deref(), socketio, &self.send) {
            (Some("http" | "https" | "ws" | "wss"), true, Some(_)) => {
                Err("--send is for plain WebSocket, whose frames have no names, --emit and --listen for Socket.IO: use \
                     one of them; those who hear a --send are --listeners N"
                    .to_owned())
            }
            (Some("http" | "https" | "ws" | "wss"), true, None) => Ok("socketio"),
            (Some("ws" | "wss"), false, Some(_)) => Ok("ws"),
            (Some("ws" | "wss"), false, None) => {
                Err("what should be said? --send TEXT for plain WebSocket, --emit EVENT for Socket.IO"
                    .to_owned())
            }
            (Some("http" | "https"), false, Some(_)) => {
                Err("--send speaks plain WebSocket: give a ws:// or wss:// URL".to_owned())
            }
            (Some("http" | "https"), false, None) => Ok("http"),
            _ => Err(format!("{}: a URL begins with http://, https://, ws:// or wss://", self.url)),
        }
    }

    /// A flag that would change nothing is a mistake.
    fn no_strangers(&self, engine: &str) -> Result<(), String> {
        let socketio = [
            ("--namespace", self.namespace.is_some()),
            ("--auth", self.auth.is_some()),
            ("--polling", self.polling),
            ("--ack", self.ack),
        ];
        if let Some((flag, _)) = socketio.iter().find(|(_, given)| *given && engine != "socketio") {
            return Err(format!("{flag} is about Socket.IO: add --emit EVENT or --listen EVENT"));
        }
        if self.reply && engine != "ws" {
            return Err(
                "--reply is about --send; the answer to an --emit is its --ack or --response".to_owned()
            );
        }
        if self.stay.is_some() && engine == "http" {
            return Err(
                "--stay is how long a connection is kept: add --emit EVENT, --listen EVENT or --send TEXT"
                    .to_owned(),
            );
        }
        if engine == "ws" && self.join_data.is_some() {
            return Err(
                "--join-data is the data of an event: over plain WebSocket --join TEXT is all".to_owned()
            );
        }
        let hearing = [
            ("--listeners", self.listeners.is_some()),
            ("--join", self.join.is_some()),
            ("--stamp", self.stamp.is_some()),
            ("--read", self.read.is_some()),
            ("--expect", self.expect.is_some()),
        ];
        let stand = self.listen.is_some() || (engine == "ws" && self.listeners.is_some());
        match hearing.iter().find(|(_, given)| *given && !stand) {
            Some((flag, _)) if engine == "ws" => Err(format!("{flag} is about listeners: add --listeners N")),
            Some((flag, _)) => Err(format!("{flag} is about listeners: add --listen EVENT, which they hear")),
            None => Ok(()),
        }
    }

    fn has_http(&self) -> bool {
        !self.get.is_empty() || self.post.is_some()
    }

    fn headers(&self, text: &mut String, title: &str, indent: usize) -> Result<(), String> {
        if self.headers.is_empty() {
            return Ok(());
        }
        let _ = writeln!(text, "{title}");
        for header in &self.headers {
            let (name, content) =
                header.split_once(':').ok_or_else(|| format!("--header {header:?}: write 'Name: value'"))?;
            let _ = writeln!(text, "{:indent$}{}: {}", "", quoted(name.trim()), quoted(content.trim()));
        }
        Ok(())
    }

    fn requests(&self, text: &mut String) -> Result<(), String> {
        if self.json.is_some() && self.post.is_none() {
            return Err("--json is the body of --post PATH".to_owned());
        }
        let alone = self.emit.is_none() && self.listen.is_none() && self.send.is_none() && !self.has_http();
        let root = alone.then(|| "/".to_owned());
        for path in self.get.iter().chain(&root) {
            let _ = writeln!(text, "      - get: {{url: {}}}", quoted(path));
        }
        if let Some(path) = &self.post {
            let body = match &self.json {
                Some(body) => format!(", json: {}", parsed(body, "--json")?),
                None => String::new(),
            };
            let _ = writeln!(text, "      - post: {{url: {}{body}}}", quoted(path));
        }
        Ok(())
    }

    fn emit(&self, text: &mut String, event: &str) -> Result<(), String> {
        let _ = writeln!(text, "      - emit:");
        let _ = writeln!(text, "          channel: {}", quoted(event));
        let data = self.data();
        let _ = writeln!(text, "          data: {data}");
        if let Some(namespace) = &self.namespace {
            let _ = writeln!(text, "          namespace: {}", quoted(namespace));
        }
        if let Some(event) = &self.response {
            let _ = writeln!(text, "          response: {{channel: {}}}", quoted(event));
        }
        if self.ack {
            text.push_str("        acknowledge: true\n");
        }
        Ok(())
    }

    fn data(&self) -> Value {
        match &self.data {
            Some(text) => value(text),
            None => serde_json::json!({"text": "drumfire"}),
        }
    }

    /// Those who stand and hear, and how a delivery is known.
    fn listeners(&self, text: &mut String, engine: &str) -> Result<(), String> {
        let event = match (&self.listen, self.listeners) {
            (Some(event), _) => event.as_str(),
            // Frames have no names; every one with a mark in it counts.
            (None, Some(_)) => "frame",
            (None, None) => return Ok(()),
        };
        let count = self.listeners.unwrap_or(LISTENERS);
        if count == 0 {
            return Err("--listeners is at least 1".to_owned());
        }
        let _ = writeln!(text, "  listeners:\n    - count: {count}");
        if engine == "ws" {
            text.push_str("      engine: ws\n");
        }
        let namespace = |before: &str| {
            self.namespace
                .as_ref()
                .map_or_else(String::new, |name| format!("{before}namespace: {}", quoted(name)))
        };
        match &self.join {
            Some(join) if engine == "ws" => {
                let _ = writeln!(text, "      flow:\n        - send: {}", frame(&value(join)));
            }
            Some(join) => {
                let data = self.join_data.as_deref().map_or(Value::Null, value);
                let data = if data.is_null() { String::new() } else { format!(", data: {data}") };
                let namespace = namespace(", ");
                let _ = writeln!(
                    text,
                    "      flow:\n        - emit: {{channel: {}{data}{namespace}}}",
                    quoted(join)
                );
                if self.ack {
                    text.push_str("          acknowledge: true\n");
                }
            }
            // Who says nothing in a namespace is not in it.
            None if self.namespace.is_some() => {
                let namespace = namespace(", ");
                let _ =
                    writeln!(text, "      flow:\n        - listen: {{for: {}{namespace}}}", quoted(event));
            }
            None => text.push_str("      flow: []\n"),
        }
        let (data, flag) = match (&self.emit, &self.send) {
            (Some(_), _) => (self.data(), "--data"),
            (None, Some(send)) => (value(send), "--send"),
            (None, None) => return Ok(()),
        };
        let stamp = match &self.stamp {
            Some(stamp) => stamp.clone(),
            None => first_text(&data).ok_or_else(|| {
                format!(
                    "no text in {flag} to mark, so nobody could tell one message from another: give {flag} an object \
                     with a text in it, e.g. '{{\"text\": \"hi\"}}', and --stamp its path"
                )
            })?,
        };
        if !data.pointer(&format!("/{}", stamp.replace('.', "/"))).is_some_and(Value::is_string) {
            return Err(format!("--stamp {stamp}: {flag} has no text there"));
        }
        let read = self.read.as_ref().unwrap_or(&stamp);
        let _ = writeln!(
            text,
            "  delivery:\n    event: {}\n    stamp: {}\n    read: {}",
            quoted(event),
            quoted(&stamp),
            quoted(read)
        );
        let _ = writeln!(text, "    expect: {}", self.expect.as_deref().unwrap_or("all"));
        Ok(())
    }
}

/// As a `send` says it: a mapping with `payload` would be its options.
fn frame(data: &Value) -> String {
    if data.get("payload").is_some() { format!("{{payload: {data}}}") } else { data.to_string() }
}

/// Path of the first text in an object, the shallowest way down.
fn first_text(data: &Value) -> Option<String> {
    let Value::Object(fields) = data else { return None };
    let here = fields.iter().find(|(_, field)| field.is_string()).map(|(name, _)| name.clone());
    here.or_else(|| fields.iter().find_map(|(name, field)| Some(format!("{name}.{}", first_text(field)?))))
}

/// JSON, or text as it stands.
fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::from(text))
}

/// Nearly JSON is a mistake in quoting rather than a text.
fn meant_as_text(flag: &str, text: &str) -> Result<(), String> {
    match serde_json::from_str::<serde::de::IgnoredAny>(text) {
        Err(error) if text.trim_start().starts_with(['{', '[']) => Err(format!(
            "{flag} begins like JSON and is none: {error}; to say it as it stands make it a text: {}",
            Value::from(text)
        )),
        _ => Ok(()),
    }
}

fn parsed(text: &str, flag: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("{flag} is no JSON: {error}"))
}

fn object(text: &str, flag: &str) -> Result<Value, String> {
    let value = parsed(text, flag)?;
    if value.is_object() {
        Ok(value)
    } else {
        Err(format!("{flag} takes a JSON object, e.g. '{{\"token\": \"x\"}}'"))
    }
}

/// JSON's quotes are YAML's.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::{self, LoadOptions, model::DeliveryExpectation};

    fn heard() -> Quick {
        Quick {
            url: "http://127.0.0.1:9013/".to_owned(),
            emit: Some("save_msg".to_owned()),
            data: Some(r#"{"token": "t", "messageData": {"lng": 127.1, "contents": "hi"}}"#.to_owned()),
            ack: true,
            listen: Some("new_msg".to_owned()),
            listeners: Some(1000),
            join: Some("store".to_owned()),
            join_data: Some(r#"{"position": [127.1, 37.4], "radius": 500}"#.to_owned()),
            stamp: Some("messageData.contents".to_owned()),
            read: Some("result.contents".to_owned()),
            rate: 100.0,
            duration: 10.0,
            namespace: Some("/chat".to_owned()),
            auth: Some(r#"{"token": "t"}"#.to_owned()),
            headers: vec!["X-A: b: c".to_owned()],
            ..Quick::default()
        }
    }

    fn load(quick: &Quick) -> script::model::Script {
        let text = quick.script().unwrap();
        let options = LoadOptions { strict: true, ..LoadOptions::default() };
        script::parse_str(&text, &options).unwrap_or_else(|error| panic!("{text}\n{error}"))
    }

    #[test]
    fn flags_become_the_script_a_person_would_write() {
        let text = heard().script().unwrap();
        assert_eq!(
            text,
            r#"config:
  target: "http://127.0.0.1:9013"
  socketio:
    transports: [websocket]
    auth: {"token":"t"}
    extraHeaders:
      "X-A": "b: c"
  phases:
    - {duration: 10, arrivalRate: 100}
  listeners:
    - count: 1000
      flow:
        - emit: {channel: "store", data: {"position":[127.1,37.4],"radius":500}, namespace: "/chat"}
          acknowledge: true
  delivery:
    event: "new_msg"
    stamp: "messageData.contents"
    read: "result.contents"
    expect: all
scenarios:
  - engine: socketio
    flow:
      - emit:
          channel: "save_msg"
          data: {"token":"t","messageData":{"lng":127.1,"contents":"hi"}}
          namespace: "/chat"
        acknowledge: true
      - think: 1
"#
        );
        let script = load(&heard());
        assert_eq!(script.config.listeners[0].count, 1000);
        let delivery = script.config.delivery.unwrap();
        assert_eq!((delivery.event.as_str(), delivery.expect), ("new_msg", Some(DeliveryExpectation::All)));
    }

    #[test]
    fn little_is_enough() {
        let least = |url: &str| Quick { url: url.to_owned(), rate: 10.0, duration: 10.0, ..Quick::default() };
        let script = load(&least("http://127.0.0.1:1"));
        assert_eq!(script.scenarios[0].engine, script::model::Engine::Http);
        let emit = Quick { emit: Some("say".to_owned()), ..least("http://127.0.0.1:1") };
        assert!(load(&emit).config.delivery.is_none());
        let heard = Quick { listen: Some("said".to_owned()), listeners: Some(5), ..emit.clone() };
        assert_eq!(load(&heard).config.delivery.unwrap().stamp, ["text"]);
        let nested = Quick { data: Some(r#"{"n": 1, "in": {"it": "x"}}"#.to_owned()), ..heard };
        assert_eq!(load(&nested).config.delivery.unwrap().stamp, ["in", "it"]);
        let post = Quick { post: Some("/login".to_owned()), json: Some(r#"{"a": [1]}"#.to_owned()), ..emit };
        assert_eq!(load(&post).scenarios[0].flow.len(), 3);
        assert!(least("ws://h").script().unwrap_err().contains("--send"));
    }

    #[test]
    fn plain_websockets_speak_and_hear() {
        let send = |text: &str| Quick {
            url: "ws://127.0.0.1:1".to_owned(),
            rate: 10.0,
            duration: 10.0,
            send: Some(text.to_owned()),
            ..Quick::default()
        };
        let script = load(&send("hi"));
        assert_eq!(script.scenarios[0].engine, script::model::Engine::WebSocket);
        assert!(script.config.delivery.is_none());
        let text = Quick { reply: true, ..send("hi") }.script().unwrap();
        let expected = r#"      - send: {payload: "hi", capture: {json: "$", as: reply}}"#;
        assert!(text.contains(expected), "{text}");
        load(&Quick { reply: true, ..send("hi") });
        // A mapping with `payload` would be options.
        let text = send(r#"{"payload": 1}"#).script().unwrap();
        assert!(text.contains(r#"send: {payload: {"payload":1}}"#), "{text}");
        let heard = Quick {
            listeners: Some(3),
            join: Some(r#"{"type": "join"}"#.to_owned()),
            read: Some("heard".to_owned()),
            headers: vec!["X-A: b".to_owned()],
            ..send(r#"{"type": "say", "text": "hi"}"#)
        };
        let text = Quick { stamp: Some("text".to_owned()), ..heard.clone() }.script().unwrap();
        assert!(
            text.contains(
                "    - count: 3\n      engine: ws\n      flow:\n        - send: {\"type\":\"join\"}\n"
            ),
            "{text}"
        );
        let script = load(&Quick { stamp: Some("text".to_owned()), ..heard });
        let delivery = script.config.delivery.unwrap();
        assert_eq!((delivery.event.as_str(), &delivery.stamp[..]), ("frame", &["text".to_owned()][..]));
        assert_eq!(delivery.expect, Some(DeliveryExpectation::All));
    }

    #[test]
    fn listeners_without_a_word_of_their_own_are_in_the_namespace_too() {
        let quick = Quick { join: None, join_data: None, ..heard() };
        let text = quick.script().unwrap();
        assert!(
            text.contains("      flow:\n        - listen: {for: \"new_msg\", namespace: \"/chat\"}\n"),
            "{text}"
        );
        load(&quick);
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_a_way_out() {
        let least = |url: &str| Quick { url: url.to_owned(), rate: 10.0, duration: 10.0, ..Quick::default() };
        let send = |text: &str| Quick { send: Some(text.to_owned()), ..least("ws://h") };
        let rows: [(Quick, &str); 16] = [
            (
                Quick { listeners: Some(9), ..least("http://h") },
                "--listeners is about listeners: add --listen EVENT",
            ),
            (
                Quick { auth: Some("{}".to_owned()), ..least("http://h") },
                "--auth is about Socket.IO: add --emit",
            ),
            (Quick { stay: Some(2.0), ..least("http://h") }, "--stay is how long a connection is kept"),
            (Quick { ack: true, ..send("hi") }, "--ack is about Socket.IO"),
            (Quick { reply: true, ..heard() }, "--reply is about --send"),
            (Quick { listeners: Some(3), ..send("hi") }, "no text in --send to mark"),
            (Quick { expect: Some("all".to_owned()), ..send("hi") }, "add --listeners N"),
            (
                Quick { listeners: Some(3), join_data: Some("1".to_owned()), ..send("hi") },
                "--join TEXT is all",
            ),
            (Quick { listeners: Some(0), ..heard() }, "at least 1"),
            (Quick { url: "127.0.0.1:1".to_owned(), ..heard() }, "begins with http://"),
            (Quick { data: Some("7".to_owned()), stamp: None, ..heard() }, "no text in --data"),
            (Quick { stamp: Some("messageData.lng".to_owned()), ..heard() }, "--data has no text there"),
            (Quick { auth: Some("x".to_owned()), ..heard() }, "--auth is no JSON"),
            (Quick { headers: vec!["x".to_owned()], ..heard() }, "write 'Name: value'"),
            (Quick { listen: None, ..heard() }, "add --listen EVENT"),
            (Quick { send: Some("x".to_owned()), ..heard() }, "use one of them"),
        ];
        for (quick, expected) in rows {
            let error = quick.script().unwrap_err();
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }
}
