//! Engine.IO and Socket.IO packets the protocols do not allow, or not so many of.

use crate::raw::Got;
use crate::stage::{Stage, ack, closed, end_of};

#[test]
fn packets_against_the_rules() {
    let stage = Stage::usual();
    let placeholder = r#"451-["save_msg",{"_placeholder":true,"num":0}]"#;
    let long_namespace = format!("42/{},[\"x\"]", "n".repeat(9_000));
    let many_arguments = format!(r#"42["x"{}]"#, ",0".repeat(1_001));
    let deep_placeholder = format!("451-{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep_connect = format!(r#"40/deep,{{"a":{}{}"#, "[".repeat(100_000), "]".repeat(100_000));
    let rows: &[(&str, &[&str])] = &[
        ("no such engine packet", &["9"]),
        ("a letter", &["abc"]),
        ("an empty message", &[""]),
        ("a ping, which only servers send", &["2"]),
        ("no such packet type", &["47[]"]),
        ("a payload that is no array", &["42{}"]),
        ("no payload", &["42"]),
        ("broken JSON", &[r#"42["save_msg",]"#]),
        ("JSON and more", &[r#"42["save_msg"]]"#]),
        ("NaN, which is no JSON", &[r#"420["save_msg",{"messageData":{"lng":NaN}}]"#]),
        ("Infinity, which is no JSON", &[r#"420["save_msg",{"messageData":{"lng":-Infinity}}]"#]),
        ("a control character in a string", &["42[\"save_msg\",\"\u{1}\"]"]),
        ("half a surrogate as a name", &[r#"42["\ud800"]"#]),
        ("no name", &["42[]"]),
        ("an object as a name", &[r#"42[{"save_msg":1}]"#]),
        ("a name of the protocol's own", &[r#"42["disconnect"]"#]),
        ("1,001 arguments", &[&many_arguments]),
        ("ack id 2^53", &[r#"429007199254740992["save_msg"]"#]),
        ("ack id of 40 digits", &[r#"421111111111111111111111111111111111111111["save_msg"]"#]),
        ("a negative ack id", &[r#"42-1["save_msg"]"#]),
        ("an ack without its id", &["43[]"]),
        ("a namespace that is not joined", &[r#"42/admin,["save_msg"]"#]),
        ("a namespace of 9,000 bytes", &[&long_namespace]),
        ("joined twice", &["40"]),
        ("CONNECT with broken JSON", &["40/room,{"]),
        ("CONNECT that is deep and broken", &[&deep_connect]),
        ("CONNECT_ERROR, which only servers send", &["44"]),
        ("65 attachments", &[r#"4565-["save_msg"]"#]),
        ("4,000,000,000 attachments", &[r#"454000000000-["save_msg"]"#]),
        ("no count of attachments", &[r#"45["save_msg"]"#]),
        ("text where an attachment is due", &[placeholder, r#"42["save_msg"]"#]),
        ("an attachment that was not announced", &[r#"451-["x",{"_placeholder":true,"num":1}]"#]),
        ("placeholders 100,000 deep", &[&deep_placeholder]),
    ];
    for (name, texts) in rows {
        stage.closes(name, 1008, "violation", |client| texts.iter().for_each(|text| client.send(text)));
    }
    stage.closes("binary nobody asked for", 1008, "violation", |client| client.send_binary(b"x"));
    stage.end();
}

/// Attachments are counted together with their packet; those that never come are not waited for.
#[test]
fn binary_bombs() {
    let stage = Stage::set("", "message_ms = 3000");
    let before = stage.dna.memory();
    stage.closes("64 attachments of a megabyte", 1008, "violation", |client| {
        let placeholders: Vec<String> =
            (0..64).map(|num| format!(r#"{{"_placeholder":true,"num":{num}}}"#)).collect();
        client.send(&format!(r#"4564-["save_msg",{}]"#, placeholders.join(",")));
        client.send_binary(&vec![0; 990_000]);
        client.send_binary(&vec![0; 990_000]);
    });
    // The last attachment is never sent, though much else is.
    stage.closes("an attachment that never comes", 1008, "input_timeout", |client| {
        client.send(r#"452-["save_msg",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#);
        client.send_binary(&vec![0; 900_000]);
    });
    let grown = stage.dna.memory().saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes more than before");
    // A complete one is an event like any other; nothing of it is taken for an argument.
    let mut client = stage.attacker();
    client.send(r#"451-7["save_msg",{"_placeholder":true,"num":0}]"#);
    client.send_binary(b"not a message");
    assert_eq!(ack(&mut client, 7)["code"], 15400);
    stage.end();
}

/// Namespaces nobody has: each is refused, and a hundred refusals are enough.
#[test]
fn thousands_of_namespaces() {
    let stage = Stage::usual();
    stage.counted("namespaces", &closed("violation"), || {
        let mut client = stage.attacker();
        let asked: Vec<u8> =
            (0..5_000).flat_map(|n| crate::raw::masked(0x81, format!("40/{n},").as_bytes())).collect();
        // The server may close before it has read them all.
        let _ = std::io::Write::write_all(&mut client.stream, &asked);
        for n in 0..100 {
            assert_eq!(client.text(), format!(r#"44/{n},{{"message":"Invalid namespace"}}"#));
        }
        assert_eq!(client.next(), Got::Close(Some(1008)));
    });
    // The same with tokens nobody signed, before anything is joined.
    stage.counted("tokens", &closed("violation"), || {
        let mut client = stage.websocket();
        for _ in 0..100 {
            client.send(r#"40{"token":"a.b.c"}"#);
            assert!(client.text().starts_with("44{"));
        }
        client.send(r#"40{"token":"a.b.c"}"#);
        assert_eq!(end_of(&mut client), Got::Close(Some(1008)));
    });
    stage.end();
}

/// Everything before the namespace is joined, and after it was left.
#[test]
fn packets_out_of_turn() {
    let stage = Stage::usual();
    stage.counted("before CONNECT", &closed("violation"), || {
        let mut client = stage.websocket();
        client.send(r#"42["save_msg",{}]"#);
        client.expect_close(1008);
    });
    stage.closes("after DISCONNECT", 1008, "violation", |client| {
        client.send("41");
        client.send(r#"42["save_msg",{}]"#);
    });
    // Joining and leaving over and over is allowed, and leaves nothing behind.
    let before = stage.dna.memory();
    let mut client = stage.attacker();
    for _ in 0..2_000 {
        client.send("41");
        client.send("40");
        assert!(client.text().starts_with("40{"));
    }
    let grown = stage.dna.memory().saturating_sub(before);
    assert!(grown < 8 << 20, "{grown} bytes more than before");
    stage.end();
}
