//! docs/events.md says what the server does: every event, field, code and default, and no other.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chat_server::config::Config;
use chat_server::event::{
    ClientEvent, MAX_AVATAR_BYTES, MAX_CONTENTS_BYTES, MAX_CURSOR_BYTES, MESSAGE_DATA_FIELDS, MessageKind,
    SAVE_MSG_FIELDS, STORE_FIELDS,
};
use chat_server::limits::Rate;
use chat_server::privacy::GRID_M;
use chat_server::refusal::RefusalKind;
use chat_server::token::{Claims, MAX_NICKNAME_CHARS, MAX_TOKEN_BYTES, now_s};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use support::{Dna, HERE, Person, SlowStorage, config, message, request, sign};

const DOCUMENT: &str = include_str!("../../../docs/events.md");

/// A `##` part of the page.
fn part(title: &str) -> &'static str {
    let start = format!("\n## {title}\n");
    let (_, rest) = DOCUMENT.split_once(&start).unwrap_or_else(|| panic!("no part {title:?}"));
    rest.split("\n## ").next().unwrap()
}

/// The `###` sections of a part, by the words of their heading without backticks.
fn sections(title: &str) -> BTreeMap<String, &'static str> {
    let mut sections = part(title).split("\n### ");
    sections.next();
    sections
        .map(|section| {
            let (heading, body) = section.split_once('\n').unwrap();
            (heading.replace('`', ""), body)
        })
        .collect()
}

/// The rows of the first table, cells trimmed, backticks around a whole cell removed.
fn rows(text: &'static str) -> Vec<Vec<&'static str>> {
    text.lines()
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'))
        .skip(2)
        .map(|line| line.trim_matches('|').split(" | ").map(|cell| cell.trim()).collect())
        .collect()
}

fn bare(cell: &str) -> &str {
    cell.strip_prefix('`').and_then(|cell| cell.strip_suffix('`')).unwrap_or(cell)
}

fn fields(text: &'static str) -> BTreeSet<String> {
    let rows = rows(text);
    let fields: BTreeSet<String> = rows.iter().map(|row| bare(row[0]).to_owned()).collect();
    assert_eq!(fields.len(), rows.len(), "a field stands twice");
    fields
}

fn parse(name: &str, args: &[Value]) -> Result<ClientEvent, chat_server::refusal::Refusal> {
    let raw: Vec<Box<RawValue>> =
        args.iter().map(|value| RawValue::from_string(value.to_string()).unwrap()).collect();
    ClientEvent::parse(name, &raw.iter().map(AsRef::as_ref).collect::<Vec<_>>())
}

#[test]
fn the_events_and_fields_a_client_may_send() {
    let documented = sections("Events in");
    let known: BTreeSet<String> = ClientEvent::names().map(str::to_owned).collect();
    assert_eq!(documented.keys().cloned().collect::<BTreeSet<_>>(), known);

    let store: BTreeSet<String> = STORE_FIELDS.iter().map(|&field| field.to_owned()).collect();
    assert_eq!(fields(documented["store"]), store);
    assert_eq!(fields(documented["update"]), store);
    let inner = MESSAGE_DATA_FIELDS.iter().map(|field| format!("messageData.{field}"));
    let save_msg: BTreeSet<String> =
        SAVE_MSG_FIELDS.iter().map(|&field| field.to_owned()).chain(inner).collect();
    assert_eq!(fields(documented["save_msg"]), save_msg);
    for (name, body) in &documented {
        let is_built = !matches!(parse(name, &[]), Ok(ClientEvent::NotBuilt(_)));
        assert_eq!(is_built, !body.contains("Not built"), "{name}");
    }
}

/// What stands in the document is read: a wrong type in each field is refused by its name.
#[test]
fn every_documented_field_is_read() {
    let documented = sections("Events in");
    for name in ["store", "update"] {
        for field in fields(documented[name]) {
            let mut object = json!({ "position": [1, 2], "radius": 3 });
            assert!(parse(name, &[object.clone()]).is_ok());
            object[&field] = json!([]);
            let refusal = parse(name, &[object]).unwrap_err();
            assert_eq!(refusal.errors.keys().collect::<Vec<_>>(), [&field], "{name}");
        }
    }
    for field in fields(documented["save_msg"]) {
        let mut object = json!({ "messageData": { "lng": 1, "lat": 2, "contents": "x" } });
        assert!(parse("save_msg", &[object.clone()]).is_ok());
        match field.split_once('.') {
            Some((outer, inner)) => object[outer][inner] = json!([]),
            None => object[&field] = json!([]),
        }
        let refusal = parse("save_msg", &[object]).unwrap_err();
        assert_eq!(refusal.errors.keys().collect::<Vec<_>>(), [&field]);
    }
}

/// The cells of `field`'s row in an event's table.
fn row(event: &str, field: &str) -> String {
    let row = rows(sections("Events in")[event]).into_iter().find(|row| bare(row[0]) == field);
    row.unwrap_or_else(|| panic!("{event} {field}")).join(" | ")
}

#[test]
fn limits_of_fields_and_the_kinds_of_messages() {
    for (event, field, limit) in [
        ("store", "token", format!("{MAX_TOKEN_BYTES} bytes")),
        ("store", "nickname", format!("{MAX_NICKNAME_CHARS} characters")),
        ("store", "avatar", format!("{MAX_AVATAR_BYTES} bytes")),
        ("store", "since", format!("{MAX_CURSOR_BYTES} bytes")),
        ("save_msg", "messageData.contents", format!("1 to {MAX_CONTENTS_BYTES} bytes")),
    ] {
        assert!(row(event, field).contains(&limit), "{event} {field}: {limit}");
    }
    let kinds = row("save_msg", "messageData.type");
    for kind in MessageKind::ALL {
        assert!(kinds.contains(&format!("`{}`", kind.name())), "{kinds}");
    }
    assert!(part("Privacy").contains(&format!("grid of {GRID_M} m")));
}

#[test]
fn every_refusal() {
    let documented: BTreeSet<(String, String, String)> = rows(part("Refusals"))
        .iter()
        .map(|row| (row[0].to_owned(), row[1].to_owned(), row[2].to_owned()))
        .collect();
    let known: BTreeSet<(String, String, String)> = RefusalKind::ALL
        .iter()
        .map(|kind| {
            let (status, code) = kind.numbers();
            (status.to_string(), code.to_string(), kind.message().to_owned())
        })
        .collect();
    assert_eq!(documented, known);
    // Codes named elsewhere on the page are codes.
    let codes: BTreeSet<u32> = RefusalKind::ALL.iter().map(|kind| kind.numbers().1).collect();
    for word in DOCUMENT.split(|c: char| !c.is_ascii_digit()) {
        if let Ok(number @ 10_400..=19_999) = word.parse::<u32>() {
            assert!(codes.contains(&number), "{number} is no code");
        }
    }
}

#[test]
fn every_default() {
    let documented: BTreeMap<&str, &str> =
        rows(part("Limits")).iter().map(|row| (bare(row[0]), row[1])).collect();
    let rate = |rate: Rate| format!("{}/s, burst {}", rate.per_second, rate.burst);
    let Config { limits, chat, retention, sockets, .. } = Config::default();
    let known = BTreeMap::from([
        ("limits.per_connection", rate(limits.per_connection)),
        ("limits.per_user", rate(limits.per_user)),
        ("limits.per_place", rate(limits.per_place)),
        ("limits.per_address", rate(limits.per_address)),
        ("limits.connections_per_address", limits.connections_per_address.to_string()),
        ("limits.waiting_connections", limits.waiting_connections.to_string()),
        ("chat.max_radius_m", chat.max_radius_m.to_string()),
        ("chat.default_reach_m", chat.default_reach_m.to_string()),
        ("chat.alert_interval_ms", chat.alert_interval_ms.to_string()),
        ("retention.live_hours", retention.live_hours.to_string()),
        ("retention.test_hours", retention.test_hours.to_string()),
        ("sockets.ping_interval_ms", sockets.ping_interval_ms.to_string()),
        ("sockets.ping_timeout_ms", sockets.ping_timeout_ms.to_string()),
        ("sockets.polling", sockets.polling.to_string()),
        ("sockets.max_payload", sockets.max_payload.to_string()),
        ("sockets.outbox_bytes", sockets.outbox_bytes.to_string()),
        ("sockets.outbox_age_ms", sockets.outbox_age_ms.to_string()),
        ("sockets.connect_ms", sockets.connect_ms.to_string()),
        ("sockets.head_ms", sockets.head_ms.to_string()),
        ("sockets.message_ms", sockets.message_ms.to_string()),
        ("sockets.input_bytes", sockets.input_bytes.to_string()),
    ]);
    let known: BTreeMap<&str, &str> = known.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(documented, known);
}

#[test]
fn the_claims_of_a_token() {
    let claims = Claims {
        idx: 1,
        exp: 2,
        nickname: Some("n".into()),
        avatar: Some("a".into()),
        anonymity: Some(true),
        test: true,
    };
    let known: BTreeSet<String> =
        serde_json::to_value(claims).unwrap().as_object().unwrap().keys().cloned().collect();
    assert_eq!(fields(part("Who somebody is")), known);
}

/// Every path in a payload: `result.user.idx`; rows of arrays as `[]`, names under `errors` as `*`.
fn paths(value: &Value, at: &str, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let key = if at == "errors" { "*" } else { key };
                let path = if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") };
                into.insert(path.clone());
                paths(value, &path, into);
            }
        }
        Value::Array(rows) => {
            for row in rows.iter().filter(|row| row.is_object()) {
                paths(row, &format!("{at}[]"), into);
            }
        }
        _ => {}
    }
}

fn seen<'a>(values: impl IntoIterator<Item = &'a Value>) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for value in values {
        paths(value, "", &mut all);
    }
    all
}

/// Plays everything a server has to say and compares it, event by event, with the page.
#[tokio::test]
async fn what_a_running_server_sends() {
    let storage = SlowStorage::new();
    let dna = Dna::on(&storage);
    let mut near = dna.person_at(1, HERE, 500.0).await;
    let cursor = near.cursor.clone().unwrap();
    let anonymous = sign(&Claims {
        idx: 2,
        exp: now_s() + 3600,
        nickname: Some("Ann".into()),
        avatar: Some("https://example.org/a.png".into()),
        anonymity: Some(true),
        test: false,
    });
    let mut hidden = Person::connect(dna.address, &anonymous).await;
    hidden.join(HERE, 500.0, None).await;
    let mut acks = BTreeMap::<&str, Vec<Value>>::new();

    // Messages of both, an alert, the people, a refusal by ack and by event.
    let mut loud = message("loud");
    loud["messageData"]["type"] = "LoudSpeaker".into();
    let id = hidden.emit("save_msg", &[loud]).await;
    acks.entry("ack of save_msg").or_default().push(hidden.ack(id).await);
    let id = near.say("plain").await;
    acks.entry("ack of save_msg").or_default().push(near.ack(id).await);
    let place = json!({ "position": [HERE.0, HERE.1], "radius": 500 });
    let id = near.emit("update", &["geo".into(), place.clone()]).await;
    acks.entry("ack of update").or_default().push(near.ack(id).await);
    near.emit_without_ack("save_msg", &[json!({ "messageData": {} })]).await;
    near.until("every event", |near| {
        ["new_msg", "speaker", "geo", "exception"].iter().all(|name| near.first_event(name).is_some())
    })
    .await;
    near.until_heard(2).await;
    let id = near.send_join(HERE, 500.0, None).await;
    acks.entry("ack of store").or_default().push(near.ack(id).await);
    let id = near.send_join(HERE, 500.0, Some(&cursor)).await;
    acks.entry("ack of store").or_default().push(near.ack(id).await);

    let mut sent = BTreeMap::<String, Vec<Value>>::new();
    for (name, body) in near.events.iter().chain(&hidden.events) {
        sent.entry(name.clone()).or_default().push(body.clone());
    }
    let events = sections("Events out");
    assert_eq!(sent.keys().collect::<Vec<_>>(), events.keys().collect::<Vec<_>>());
    let new_msg = fields(events["new_msg"]);
    let result: BTreeSet<String> =
        new_msg.iter().filter_map(|path| Some(path.strip_prefix("result.")?.to_owned())).collect();
    for (name, bodies) in &sent {
        let mut documented = fields(events[name]);
        match name.as_str() {
            "speaker" => documented.extend(result.iter().cloned()),
            "geo" => assert!(bodies.iter().all(|rows| rows.as_array().unwrap().len() == 2), "{bodies:?}"),
            _ => {}
        }
        assert_eq!(documented, seen(bodies), "{name}");
    }

    let documented = sections("Acks");
    assert_eq!(acks.keys().copied().collect::<Vec<_>>(), documented.keys().collect::<Vec<_>>());
    for (name, bodies) in &acks {
        let expected = match *name {
            "ack of save_msg" => new_msg.clone(),
            "ack of store" => {
                let missed = result.iter().map(|path| format!("result.missed[].{path}"));
                fields(documented[*name]).into_iter().chain(missed).collect()
            }
            _ => fields(documented[*name]),
        };
        assert_eq!(expected, seen(bodies), "{name}");
    }
    // A refusal in an ack has the body of `exception`.
    let id = near.emit("save_msg", &[json!({})]).await;
    assert_eq!(seen([&near.ack(id).await]), fields(events["exception"]));
    let id = near.emit("no such thing", &[]).await;
    assert_eq!(near.verdict(id).await, (404, 10404));

    // An anonymous author is nobody: neither number, name nor picture anywhere.
    let author = &near.first_event("speaker").unwrap()["user"];
    let handle = author["idx"].as_str().unwrap();
    assert!(handle.len() == 21 && handle.starts_with('a') && author["avatar"].is_null(), "{author}");
    for (_, body) in &near.events {
        let text = body.to_string();
        assert!(!text.contains("Ann\"") && !text.contains("a.png"), "{text}");
    }
    let geo = near.first_event("geo").unwrap();
    assert!(geo.as_array().unwrap().iter().any(|row| row["idx"] == handle), "the same handle: {geo}");
}

#[tokio::test]
async fn every_http_route() {
    let dna = Dna::start(&config(), Arc::new(SlowStorage::new()), Arc::new(SlowStorage::new()));
    for row in rows(part("HTTP")) {
        let (method, path) = bare(row[0]).split_once(' ').unwrap();
        let body = if method == "POST" { "{}" } else { "" };
        let length = body.len();
        let (status, answer) = request(
            dna.address,
            &format!(
                "{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\
                 content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
            ),
        )
        .await;
        assert_eq!(status, 200, "{method} {path}: {answer}");
    }
    assert_eq!(dna.get("/no-such-page").await.0, 404);
}
