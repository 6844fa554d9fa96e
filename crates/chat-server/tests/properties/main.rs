//! What holds for whatever `dna` is given to read: events, tokens, cursors, settings; over random input and over all seeds
//! of `fuzz/`, which feeds the same checks.

mod client_event;
mod cursor;
mod settings;
mod token;

use proptest::prelude::*;

const NUMBERS: &[&str] = &["0", "-0.0", "127.0276", "37.5", "180", "-180.5", "91", "1e400", "500", "-1"];
const OTHERS: &[&str] = &[
    "null",
    "true",
    "1",
    "\"true\"",
    "\"\"",
    "\"x\"",
    "[]",
    "{}",
    "[1,2]",
    "[127.0276,37.4979]",
    "[1,91]",
    "\"LoudSpeaker\"",
    "\"\\u0000\\ud83d\\ude00\"",
];
const NAMES: &[&str] = &["store", "update", "save_msg", "like", "save_dm", "", "스토어"];
const FIELDS: &[&str] = &[
    "token",
    "position",
    "radius",
    "nickname",
    "avatar",
    "anonymity",
    "test",
    "since",
    "testing",
    "lng",
    "lat",
    "contents",
    "type",
    "else",
];

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(NUMBERS).prop_map(str::to_owned),
        prop::sample::select(OTHERS).prop_map(str::to_owned),
        // Around the limits of every text.
        (prop::sample::select(&[64_usize, 256, 2048, 4096][..]), 0_usize..3)
            .prop_map(|(limit, over)| format!("\"{}\"", "x".repeat(limit + over - 1))),
    ]
}

/// An object with some known fields, most of them sound.
fn object(inside: bool) -> impl Strategy<Value = String> {
    let sound = if inside {
        r#""lng":127.0276,"lat":37.4979,"contents":"x""#
    } else {
        r#""position":[127.0276,37.4979],"radius":500"#
    };
    prop::collection::vec((prop::sample::select(FIELDS), value()), 0..4).prop_map(move |fields| {
        let fields: String = fields.iter().map(|(name, value)| format!(r#","{name}":{value}"#)).collect();
        format!("{{{sound}{fields}}}")
    })
}

fn event() -> impl Strategy<Value = String> {
    let store = object(false);
    let save_msg = (object(false), object(true))
        .prop_map(|(outer, inner)| format!(r#"{},"messageData":{inner}}}"#, &outer[..outer.len() - 1]));
    let kind = prop::sample::select(&["", "\"geo\",", "\"direct\",", "\"near\",", "5,", "null,"][..]);
    (prop::sample::select(NAMES), kind, prop_oneof![store, save_msg, value()])
        .prop_map(|(name, kind, argument)| format!("{name}\n[{kind}{argument}]"))
}

proptest! {
    #[test]
    fn any_event(event in event()) {
        client_event::check(event.as_bytes());
    }

    #[test]
    fn any_bytes(name in prop::sample::select(NAMES), args in "[\\[\\]{}\",:0-9a-z\\\\-]{0,40}") {
        client_event::check(format!("{name}\n[{args}]").as_bytes());
    }

    #[test]
    fn any_cursor(text in "[a-f0-9.+-]{0,6}\\.?[0-9+-]{0,22}") {
        cursor::check(text.as_bytes());
    }

    #[test]
    fn any_token(
        header in r#"\{"alg":"(HS256|HS512|none|RS256)"(,"typ":"JWT")?(,"crit":\["x"\])?\}"#,
        claims in r#"\{"idx":-?[0-9]{1,17}(\.0)?,"exp":[0-9]{1,20}(,"nickname":"[a-z€]{0,70}")?(,"test":(true|1|null))?(,"else":\[\])?\}"#,
    ) {
        token::check(format!("{header}\n{claims}").as_bytes());
        token::check(format!("{header}.{claims}.").as_bytes());
    }

    #[test]
    fn any_settings(
        rows in prop::collection::vec("(listen|workers|durability|test_world|data|max_radius_m|live_hours|max_payload|enabled|per_user|else) = (-?[0-9]{1,6}|\"[a-z0-9.:]{0,9}\"|true|nan|inf|\\{ per_second = [0-9.]{1,3}, burst = [0-9]{1,3} \\}|\\[\\])", 0..5),
        section in prop::sample::select(&["", "[limits]", "[chat]", "[retention]", "[sockets]", "[else]"][..]),
    ) {
        settings::check(format!("{section}\n{}\n", rows.join("\n")).as_bytes());
    }
}

fn check_seeds(target: &str, check: fn(&[u8])) {
    let seeds = format!("{}/../../fuzz/seeds/{target}", env!("CARGO_MANIFEST_DIR"));
    let mut count = 0;
    for seed in std::fs::read_dir(seeds).unwrap() {
        check(&std::fs::read(seed.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count >= 5, "only {count} seeds of {target}");
}

#[test]
fn all_seeds() {
    check_seeds("client_event", client_event::check);
    check_seeds("cursor", cursor::check);
    check_seeds("settings", settings::check);
    check_seeds("token", token::check);
}
