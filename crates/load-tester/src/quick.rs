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
    pub listeners: u64,
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
}

/// Users stay a second, so that what they said can come back.
const STAY_S: f64 = 1.0;

impl Quick {
    /// The script as YAML.
    ///
    /// # Errors
    /// In words, with what to type instead.
    pub fn script(&self) -> Result<String, String> {
        let engine = self.engine()?;
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
        self.listeners(&mut text)?;
        let _ = writeln!(text, "scenarios:\n  - engine: {engine}\n    flow:");
        self.requests(&mut text)?;
        if let Some(event) = &self.emit {
            self.emit(&mut text, event)?;
        }
        if let Some(send) = &self.send {
            let _ = writeln!(text, "      - send: {}", value(send));
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
        match (scheme.as_deref(), socketio, &self.send) {
            (Some("http" | "https" | "ws" | "wss"), true, Some(_)) => {
                Err("--send is for plain WebSocket, --emit and --listen for Socket.IO: use one of them"
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
    fn listeners(&self, text: &mut String) -> Result<(), String> {
        let Some(event) = &self.listen else {
            return match (&self.join, &self.expect) {
                (None, None) => Ok(()),
                _ => Err("--join and --expect are about listeners: add --listen EVENT".to_owned()),
            };
        };
        if self.listeners == 0 {
            return Err("--listeners is at least 1".to_owned());
        }
        let _ = writeln!(text, "  listeners:\n    - count: {}", self.listeners);
        if let Some(join) = &self.join {
            let data = self.join_data.as_deref().map_or(Value::Null, value);
            let data = if data.is_null() { String::new() } else { format!(", data: {data}") };
            let namespace = self
                .namespace
                .as_ref()
                .map_or_else(String::new, |name| format!(", namespace: {}", quoted(name)));
            let _ =
                writeln!(text, "      flow:\n        - emit: {{channel: {}{data}{namespace}}}", quoted(join));
            if self.ack {
                text.push_str("          acknowledge: true\n");
            }
        } else {
            text.push_str("      flow: []\n");
        }
        if self.emit.is_none() {
            return Ok(());
        }
        let data = self.data();
        let stamp = match &self.stamp {
            Some(stamp) => stamp.clone(),
            None => first_text(&data).ok_or(
                "no text in --data to mark, so nobody could tell one message from another: give --data an object with \
                 a text in it, and --stamp its path",
            )?,
        };
        if !data.pointer(&format!("/{}", stamp.replace('.', "/"))).is_some_and(Value::is_string) {
            return Err(format!("--stamp {stamp}: --data has no text there"));
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
            listeners: 1000,
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
        let heard = Quick { listen: Some("said".to_owned()), listeners: 5, ..emit.clone() };
        assert_eq!(load(&heard).config.delivery.unwrap().stamp, ["text"]);
        let nested = Quick { data: Some(r#"{"n": 1, "in": {"it": "x"}}"#.to_owned()), ..heard };
        assert_eq!(load(&nested).config.delivery.unwrap().stamp, ["in", "it"]);
        let post = Quick { post: Some("/login".to_owned()), json: Some(r#"{"a": [1]}"#.to_owned()), ..emit };
        assert_eq!(load(&post).scenarios[0].flow.len(), 3);
        assert!(least("ws://h").script().unwrap_err().contains("--send"));
        let send = Quick { send: Some("hi".to_owned()), ..least("ws://h") };
        assert!(send.script().unwrap().contains("engine: ws\n    flow:\n      - send: \"hi\""));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_a_way_out() {
        let rows: [(Quick, &str); 7] = [
            (Quick { url: "127.0.0.1:1".to_owned(), ..heard() }, "begins with http://"),
            (Quick { data: Some("7".to_owned()), stamp: None, ..heard() }, "no text in --data"),
            (Quick { stamp: Some("messageData.lng".to_owned()), ..heard() }, "--data has no text there"),
            (Quick { auth: Some("x".to_owned()), ..heard() }, "--auth is no JSON"),
            (Quick { headers: vec!["x".to_owned()], ..heard() }, "write 'Name: value'"),
            (Quick { listen: None, ..heard() }, "add --listen"),
            (Quick { send: Some("x".to_owned()), ..heard() }, "use one of them"),
        ];
        for (quick, expected) in rows {
            let error = quick.script().unwrap_err();
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }
}
