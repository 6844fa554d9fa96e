//! The log, at its most talkative: lines that parse, and not a word of what people are and say.

mod support;

use chat_server::token::{Claims, TokenKey, now_s};
use serde_json::{Value, json};
use support::program::Program;
use support::{Person, request, sign};

/// A place nobody writes by chance.
const PLACE: (f64, f64) = (127.031_415, 37.492_653);

fn claims(test: bool) -> Claims {
    Claims {
        idx: 7,
        exp: now_s() + 3600,
        nickname: Some("Nicknamed-Heron".into()),
        avatar: Some("https://example.org/heron-avatar.png".into()),
        anonymity: None,
        test,
    }
}

fn message(contents: &str) -> Value {
    json!({ "messageData": { "lng": PLACE.0, "lat": PLACE.1, "contents": contents, "type": "LoudSpeaker" } })
}

#[tokio::test]
async fn a_session_leaves_no_token_place_or_text_in_the_log() {
    for json_lines in [true, false] {
        let data = tempfile::tempdir().unwrap();
        let arguments: &[&str] = if json_lines { &["--log-json"] } else { &[] };
        let mut dna = Program::start_with(data.path(), arguments, &[("DNA_LOG", "trace")]);
        let good = sign(&claims(false));
        let forged = TokenKey::new(b"somebody else's secret".as_slice()).sign(&claims(false)).unwrap();
        let expired = sign(&Claims { exp: 1, ..claims(false) });
        let mut person = Person::connect(dna.address, &good).await;
        person.join(PLACE, 500.0, None).await;
        let cursor = person.cursor.clone();

        // What goes well, in both worlds.
        let id = person.emit("save_msg", &[message("a-secret-text")]).await;
        assert_eq!(person.verdict(id).await, (201, 0));
        let mut tester = Person::connect(dna.address, &sign(&claims(true))).await;
        tester.join(PLACE, 500.0, None).await;
        let id = tester.emit("save_msg", &[message("a-secret-text")]).await;
        assert_eq!(tester.verdict(id).await, (201, 0));
        person.join(PLACE, 500.0, cursor.as_deref()).await;
        person.round_trip().await;

        // What is refused.
        let mut wrong = message("a-secret-text");
        wrong["messageData"]["lng"] = "127.031415 east".into();
        let with_token = |token: &str| {
            let mut event = message("a-secret-text");
            event["token"] = token.into();
            event
        };
        for (event, body, status) in [
            ("save_msg", wrong, 400),
            ("save_msg", with_token(&forged), 401),
            ("save_msg", with_token(&expired), 401),
            ("a-secret-event", json!("a-secret-text"), 404),
        ] {
            let id = person.emit(event, &[body]).await;
            assert_eq!(person.verdict(id).await.0, status);
        }
        // What the disk refuses, and what the protocol forbids: said in the log, without what it was about.
        #[cfg(target_os = "linux")]
        {
            let log = std::fs::metadata(data.path().join("dna.db-wal")).unwrap().len();
            dna.limit_file_size(Some(log));
            let id = person.emit("save_msg", &[message("a-secret-text")]).await;
            assert_eq!(person.verdict(id).await, (503, 10503));
            dna.limit_file_size(None);
            dna.until_log_says("messages could not be stored").await;
        }
        let upgrade = format!(
            "GET /socket.io/?EIO=4&transport=websocket&token={good} HTTP/1.1\r\nhost: test\r\n\
             authorization: Bearer {good}\r\nconnection: close\r\n\r\n"
        );
        let (status, _) = request(dna.address, &upgrade).await;
        assert!(status >= 400, "no upgrade was asked for");
        let mut client = person.into_client();
        let _ = client.emit("/", "save_msg", "{broken a-secret-text").await;
        while client.next().await.is_ok() {}
        dna.until_log_says("protocol violation").await;
        drop((tester, client));

        dna.terminate();
        assert!(dna.until_ended().success());
        let log = dna.log();
        for secret in [
            good.as_str(),
            good.rsplit('.').next().unwrap(),
            &forged,
            &expired,
            "127.03",
            "37.49",
            "a-secret",
            "Nicknamed-Heron",
            "heron-avatar",
        ] {
            assert!(!log.contains(secret), "{secret} in\n{log}");
        }
        for line in log.lines().filter(|_| json_lines) {
            let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            assert!(line["timestamp"].is_string() && line["level"].is_string(), "{line}");
            assert!(line["fields"]["message"].is_string(), "{line}");
        }
        assert!(log.lines().count() >= 2, "something was said:\n{log}");
    }
}
