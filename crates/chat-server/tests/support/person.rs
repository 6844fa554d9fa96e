//! One client with a memory: what it heard, what was answered, how it ended.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Instant;

use serde_json::{Value, json};
use socketio_client::{Client, Closed, Kind, Options, connect};

use super::LONG;

pub struct Person {
    client: Option<Client>,
    place: ((f64, f64), f64),
    /// Messages as they came, live or as `missed`.
    pub heard: Vec<Heard>,
    /// Every event: name and first argument.
    pub events: Vec<(String, Value)>,
    pub acks: HashMap<u64, Value>,
    /// The cursor of the last thing seen.
    pub cursor: Option<String>,
    pub closed: Option<Closed>,
}

#[derive(Debug, Clone)]
pub struct Heard {
    pub text: String,
    pub idx: u64,
    pub author: Value,
    pub at: Instant,
}

impl Person {
    pub async fn connect(address: SocketAddr, token: &str) -> Self {
        Self::connect_with(Options::new(&format!("http://{address}")).unwrap(), token).await
    }

    pub async fn connect_with(mut options: Options, token: &str) -> Self {
        options.auth = Some(json!({ "token": token }).to_string());
        let connected = connect(&options).await.unwrap_or_else(|error| panic!("{error:?}"));
        Self {
            client: Some(connected.client),
            place: (super::HERE, 500.0),
            heard: Vec::new(),
            events: Vec::new(),
            acks: HashMap::new(),
            cursor: None,
            closed: None,
        }
    }

    /// `store`; gives the `result` of its ack.
    pub async fn join(&mut self, place: (f64, f64), radius_m: f64, since: Option<&str>) -> Value {
        let id = self.send_join(place, radius_m, since).await;
        let ack = self.ack(id).await;
        assert_eq!(ack["status"], 200, "{ack}");
        ack["result"].clone()
    }

    /// `store`, its ack not awaited.
    pub async fn send_join(&mut self, place: (f64, f64), radius_m: f64, since: Option<&str>) -> u64 {
        self.place = (place, radius_m);
        let mut store = self.store();
        if let Some(since) = since {
            store["since"] = since.into();
        }
        self.emit("store", &[store]).await
    }

    fn store(&self) -> Value {
        let ((lng, lat), radius_m) = self.place;
        json!({ "position": [lng, lat], "radius": radius_m })
    }

    /// `save_msg` at [`super::HERE`]; gives the ack's id.
    pub async fn say(&mut self, text: &str) -> u64 {
        self.emit("save_msg", &[message(text)]).await
    }

    /// Sends an event that asks for an ack; gives its id.
    pub async fn emit(&mut self, event: &str, args: &[Value]) -> u64 {
        let client = self.client.as_mut().expect("still connected");
        client.emit_with_ack("/", event, &joined(args)).await.unwrap_or_else(|closed| panic!("{closed:?}"))
    }

    /// The same where the server may be gone: `None` when it is.
    pub async fn try_say(&mut self, text: &str) -> Option<u64> {
        let client = self.client.as_mut()?;
        client.emit_with_ack("/", "save_msg", &joined(&[message(text)])).await.ok()
    }

    pub async fn emit_without_ack(&mut self, event: &str, args: &[Value]) {
        let client = self.client.as_mut().expect("still connected");
        client.emit("/", event, &joined(args)).await.unwrap_or_else(|closed| panic!("{closed:?}"));
    }

    /// The answer to an emit.
    pub async fn ack(&mut self, id: u64) -> Value {
        self.until(&format!("ack {id}"), |person| person.acks.contains_key(&id)).await;
        self.acks[&id].clone()
    }

    /// (status, code) of the answer; code 0 when it is no refusal.
    pub async fn verdict(&mut self, id: u64) -> (u64, u64) {
        let ack = self.ack(id).await;
        (ack["status"].as_u64().unwrap(), ack["code"].as_u64().unwrap_or(0))
    }

    /// An event and its ack: everything this connection was sent before it has been heard afterwards.
    pub async fn round_trip(&mut self) {
        let store = self.store();
        let id = self.emit("update", &[store]).await;
        let ack = self.ack(id).await;
        assert_eq!(ack["status"], 200, "{ack}");
    }

    /// Takes what comes until `is_done`.
    pub async fn until(&mut self, what: &str, is_done: impl Fn(&Self) -> bool) {
        let waiting = async {
            while !is_done(self) {
                if let Some(closed) = &self.closed {
                    panic!("closed while waiting for {what}: {closed:?}");
                }
                self.take_next().await;
            }
        };
        if tokio::time::timeout(LONG, waiting).await.is_err() {
            let texts: Vec<&str> = self.heard.iter().map(|heard| heard.text.as_str()).collect();
            panic!("no {what} came; acks {:?}, heard {texts:?}", self.acks);
        }
    }

    pub async fn until_heard(&mut self, count: usize) {
        self.until(&format!("message number {count}"), |person| person.heard.len() >= count).await;
    }

    /// Takes what comes until the connection ends; gives the close code.
    pub async fn until_closed(&mut self) -> Option<u16> {
        let waiting = async {
            while self.closed.is_none() {
                self.take_next().await;
            }
        };
        tokio::time::timeout(LONG, waiting).await.expect("the connection to end");
        match &self.closed {
            Some(Closed::Server { code, .. }) => *code,
            _ => None,
        }
    }

    /// Takes what comes for this long.
    pub async fn listen_for(&mut self, time: std::time::Duration) {
        let listening = async {
            while self.closed.is_none() {
                self.take_next().await;
            }
        };
        let _ = tokio::time::timeout(time, listening).await;
    }

    /// Waits for one packet and remembers it.
    pub async fn take_next(&mut self) {
        let client = self.client.as_mut().expect("still connected");
        let message = match client.next().await {
            Ok(message) => message,
            Err(closed) => {
                self.closed = Some(closed);
                self.client = None;
                return;
            }
        };
        let data: Value = serde_json::from_str(&message.data).unwrap_or(Value::Null);
        match message.kind {
            Kind::Ack => {
                let id = message.ack.expect("acks have an id");
                let body = data[0].clone();
                for row in body["result"]["missed"].as_array().into_iter().flatten() {
                    self.hear(row, message.received);
                }
                if let Some(cursor) = body["result"]["cursor"].as_str().filter(|_| body["status"] == 200) {
                    self.cursor = Some(cursor.to_owned());
                }
                let before = self.acks.insert(id, body);
                assert!(before.is_none(), "two acks for {id}");
            }
            Kind::Event => {
                let name = data[0].as_str().unwrap_or_default().to_owned();
                if name == "new_msg" {
                    self.hear(&data[1]["result"], message.received);
                    self.cursor = data[1]["result"]["cursor"].as_str().map(str::to_owned);
                }
                self.events.push((name, data[1].clone()));
            }
            other => panic!("{other:?}: {}", message.data),
        }
    }

    fn hear(&mut self, result: &Value, at: Instant) {
        self.heard.push(Heard {
            text: result["contents"].as_str().unwrap_or_else(|| panic!("{result}")).to_owned(),
            idx: result["idx"].as_u64().unwrap(),
            author: result["user"]["idx"].clone(),
            at,
        });
    }

    pub fn texts(&self) -> Vec<&str> {
        self.heard.iter().map(|heard| heard.text.as_str()).collect()
    }

    pub fn first_event(&self, name: &str) -> Option<&Value> {
        self.events.iter().find(|(known, _)| known == name).map(|(_, body)| body)
    }

    /// Goes without a word.
    pub fn abort(mut self) -> Self {
        if let Some(client) = self.client.take() {
            client.abort();
        }
        self
    }

    /// The bare client, for those who count instead of remembering.
    pub fn into_client(self) -> Client {
        self.client.expect("still connected")
    }
}

pub fn message(text: &str) -> Value {
    let (lng, lat) = super::HERE;
    json!({ "messageData": { "lng": lng, "lat": lat, "contents": text } })
}

fn joined(args: &[Value]) -> String {
    args.iter().map(Value::to_string).collect::<Vec<_>>().join(",")
}
