//! What stands inside an event: the connection stays, the event is refused with its code, nothing is stored.

use serde_json::Value;

use crate::stage::{Stage, ack, refused};
use crate::support::HERE;

/// `save_msg` whose `messageData` is this text.
fn save(data: &str) -> String {
    format!(r#"["save_msg",{{"messageData":{data}}}]"#)
}

#[test]
fn events_that_are_refused() {
    let stage = Stage::usual();
    let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
    let deep_objects = |levels: usize| r#"{"a":"#.repeat(levels) + "1" + &"}".repeat(levels);
    // An object may come as a JSON string, and only once so.
    let mut nested = r#"{"messageData":{"lng":1,"lat":2,"contents":"x"}}"#.to_owned();
    for _ in 0..8 {
        nested = Value::String(nested).to_string();
    }
    let at = |lng: &str, lat: &str| save(&format!(r#"{{"lng":{lng},"lat":{lat},"contents":"x"}}"#));
    let text = |contents: &str| save(&format!(r#"{{"lng":1,"lat":2,"contents":{contents}}}"#));
    let store =
        |position: &str, radius: &str| format!(r#"["store",{{"position":{position},"radius":{radius}}}]"#);
    let rows: Vec<(&str, String, u64)> = vec![
        ("arrays 129 deep", format!(r#"["save_msg",{}]"#, deep(129)), 15400),
        ("arrays 400,000 deep", format!(r#"["save_msg",{}]"#, deep(400_000)), 15400),
        ("objects 100,000 deep", format!(r#"["store",{}]"#, deep_objects(100_000)), 15400),
        ("deep in a field", save(&format!(r#"{{"lng":1,"lat":2,"contents":{}}}"#, deep(200_000))), 15400),
        ("deep in a string", format!(r#"["save_msg","{}"]"#, deep(200_000)), 15400),
        ("deep as a kind of update", format!(r#"["update",{}]"#, deep(200_000)), 15400),
        ("a string in a string in a string", format!(r#"["save_msg",{nested}]"#), 15400),
        ("messageData as a string", save(r#""{\"lng\":1,\"lat\":2,\"contents\":\"x\"}""#), 15400),
        ("NaN in a string", r#"["save_msg","{\"messageData\":{\"lng\":NaN}}"]"#.to_owned(), 15400),
        ("NaN as a text", at(r#""NaN""#, "2"), 15400),
        ("a number as a text", at(r#""1""#, "2"), 15400),
        ("1e999", at("1e999", "2"), 15400),
        ("-1e999", at("1", "-1e999"), 15400),
        ("longitude 180.0000001", at("180.0000001", "2"), 15400),
        ("latitude -90.0000001", at("1", "-90.0000001"), 15400),
        ("an integer beyond 64 bits", at("18446744073709551616", "2"), 15400),
        ("a number of 100,000 digits", at(&"9".repeat(100_000), "2"), 15400),
        (
            "a fraction of 100,000 digits that is far too large",
            at(&format!("999.{}", "9".repeat(100_000)), "2"),
            15400,
        ),
        ("a position of three", store("[1,2,3]", "500"), 15400),
        ("a position of one", store("[1]", "500"), 15400),
        ("a radius below zero", store("[1,2]", "-0.0001"), 15400),
        ("a radius of 1e999", store("[1,2]", "1e999"), 15400),
        ("a radius of null", store("[1,2]", "null"), 15400),
        ("half a surrogate", text(r#""\ud800""#), 15400),
        ("the other half", text(r#""\udc00x""#), 15400),
        ("surrogates in the wrong order", text(r#""\udc00\ud800""#), 15400),
        ("4,097 bytes of text", text(&format!("\"{}\"", "x".repeat(4_097))), 15400),
        ("no text", text(r#""""#), 15400),
        (
            "a kind of message nobody has",
            save(r#"{"lng":1,"lat":2,"contents":"x","type":"__proto__"}"#),
            15400,
        ),
        ("no argument", r#"["save_msg"]"#.to_owned(), 15400),
        ("null", r#"["save_msg",null]"#.to_owned(), 15400),
        ("the last of equal keys is wrong", save(r#"{"lng":1,"lat":2,"contents":"x","lat":200}"#), 15400),
        (
            "a token of 4,097 bytes",
            format!(r#"["store",{{"token":"{}","position":[1,2],"radius":1}}]"#, "x".repeat(4_097)),
            15400,
        ),
        (
            "a cursor of 65 bytes",
            format!(r#"["store",{{"since":"{}","position":[1,2],"radius":1}}]"#, "x".repeat(65)),
            15400,
        ),
        ("an event nobody has", r#"["__proto__"]"#.to_owned(), 10404),
        ("an event with a name of 100,000 bytes", format!(r#"["{}"]"#, "x".repeat(100_000)), 10404),
        ("a number as a name", "[12345678901234567890]".to_owned(), 10404),
    ];
    let mut client = stage.attacker();
    for (id, (name, event, code)) in rows.iter().enumerate() {
        let body = stage.counted(name, &refused(*code), || {
            client.send(&format!("42{id}{event}"));
            ack(&mut client, id as u64)
        });
        assert_eq!(body["code"], *code, "{name}: {body}");
        assert!(body.to_string().len() < 1_000, "{name}: the answer is no echo");
    }
    assert_eq!(stage.stored_by(666), 0);
    stage.end();
}

/// Odd, and allowed: what is heard says what was understood.
#[test]
fn events_that_are_odd_and_taken() {
    let stage = Stage::usual();
    let (lng, lat) = HERE;
    let rows: &[(&str, String, &str)] = &[
        (
            "a key twice: the last counts",
            format!(r#"{{"lng":0,"lng":{lng},"lat":{lat},"contents":"no","contents":"twice"}}"#),
            "twice",
        ),
        (
            "keys nobody has",
            format!(r#"{{"lng":{lng},"lat":{lat},"contents":"keys","__proto__":{{"a":1}},"constructor":1}}"#),
            "keys",
        ),
        ("a null character", format!(r#"{{"lng":{lng},"lat":{lat},"contents":"a\u0000b"}}"#), "a\0b"),
        (
            "a pair of surrogates",
            format!(r#"{{"lng":{lng},"lat":{lat},"contents":"\ud83d\ude00"}}"#),
            "\u{1f600}",
        ),
        (
            "text that changes its direction",
            format!(r#"{{"lng":{lng},"lat":{lat},"contents":"\u202e</script>'; --"}}"#),
            "\u{202e}</script>'; --",
        ),
        (
            "an exponent",
            format!(r#"{{"lng":{}e-4,"lat":{lat},"contents":"exponent"}}"#, lng * 1e4),
            "exponent",
        ),
        ("minus zero", r#"{"lng":-0,"lat":-0.0,"contents":"zero"}"#.to_owned(), "zero"),
    ];
    let mut client = stage.attacker();
    for (id, (name, data, contents)) in rows.iter().enumerate() {
        client.send(&format!("42{id}{}", save(data)));
        let body = ack(&mut client, id as u64);
        assert_eq!(
            (&body["status"], body["result"]["contents"].as_str()),
            (&Value::from(201), Some(*contents)),
            "{name}: {body}"
        );
        // Its own copy is the same.
        let text = client.text();
        let heard: Value = serde_json::from_str(text.strip_prefix("42").unwrap()).unwrap();
        assert_eq!(heard[1]["result"]["contents"].as_str(), Some(*contents), "{name}: {text}");
    }
    assert_eq!(stage.stored_by(666), rows.len() as i64);
    // A radius beyond the largest is clamped, however large.
    client.send(r#"4299["store",{"position":[0,0],"radius":1e308}]"#);
    assert_eq!(ack(&mut client, 99)["result"]["radius"], 20_000.0);
    stage.end();
}
