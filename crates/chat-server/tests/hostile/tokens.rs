//! Tokens: forged, expired, of other algorithms. Each is tried in the handshake and in a payload.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chat_server::token::now_s;
use jsonwebtoken::{Algorithm, EncodingKey, Header, crypto};
use serde_json::{Value, json};

use crate::stage::{Stage, ack, refused};
use crate::support::{SECRET, token};

/// A token with this header and these claims, signed with HMAC of this strength whatever the header says.
fn signed(header: &Value, claims: &str, with: Algorithm, secret: &[u8]) -> String {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let message = format!("{}.{}", part(&header.to_string()), part(claims));
    let signature = crypto::sign(message.as_bytes(), &EncodingKey::from_secret(secret), with).unwrap();
    format!("{message}.{signature}")
}

fn hs256(claims: &str) -> String {
    signed(&json!({ "alg": "HS256", "typ": "JWT" }), claims, Algorithm::HS256, SECRET)
}

#[test]
fn tokens_that_are_none() {
    let stage = Stage::usual();
    let later = now_s() + 3600;
    let good = json!({ "idx": 1, "exp": later }).to_string();
    let other = |algorithm: Algorithm| {
        let key = EncodingKey::from_secret(SECRET);
        jsonwebtoken::encode(&Header::new(algorithm), &json!({ "idx": 1, "exp": later }), &key).unwrap()
    };
    let claiming = |alg: &str| signed(&json!({ "alg": alg }), &good, Algorithm::HS256, SECRET);
    let none = |alg: &str| {
        let header = URL_SAFE_NO_PAD.encode(json!({ "alg": alg, "typ": "JWT" }).to_string());
        format!("{header}.{}.", URL_SAFE_NO_PAD.encode(&good))
    };
    let truth = token(1);
    let mut changed: Vec<&str> = truth.split('.').collect();
    let elevated = URL_SAFE_NO_PAD.encode(json!({ "idx": 2, "exp": later }).to_string());
    changed[1] = &elevated;
    let claims = |change: &str| hs256(&format!(r#"{{"idx":1,"exp":{later},{change}}}"#));
    let rows: Vec<(&str, String, u64)> = vec![
        (
            "signed with another secret",
            signed(&json!({ "alg": "HS256" }), &good, Algorithm::HS256, b"another"),
            12400,
        ),
        ("signed with no secret", signed(&json!({ "alg": "HS256" }), &good, Algorithm::HS256, b""), 12400),
        ("algorithm none", none("none"), 12400),
        ("algorithm None", none("None"), 12400),
        (
            "algorithm none with the signature of another",
            format!("{}{}", none("none"), truth.rsplit('.').next().unwrap()),
            12400,
        ),
        ("no algorithm", signed(&json!({ "typ": "JWT" }), &good, Algorithm::HS256, SECRET), 12400),
        ("HS384 with the right secret", other(Algorithm::HS384), 12400),
        ("HS512 with the right secret", other(Algorithm::HS512), 12400),
        ("RS256, signed as HS256", claiming("RS256"), 12400),
        ("ES256, signed as HS256", claiming("ES256"), 12400),
        ("HS256 in small letters", claiming("hs256"), 12400),
        ("claims of another under the same signature", changed.join("."), 12400),
        ("the signature left out", truth.rsplit_once('.').unwrap().0.to_owned() + ".", 12400),
        ("the signature cut short", truth[..truth.len() - 1].to_owned(), 12400),
        ("four parts", format!("{truth}.x"), 12400),
        ("not base64", "a.b.c".to_owned(), 12400),
        ("empty", String::new(), 12400),
        ("expired a second ago", hs256(&json!({ "idx": 1, "exp": now_s() - 1 }).to_string()), 11400),
        ("expired in 1970", hs256(&json!({ "idx": 1, "exp": 0 }).to_string()), 11400),
        ("never expires", hs256(r#"{"idx":1}"#), 12400),
        ("expires at a text", hs256(r#"{"idx":1,"exp":"tomorrow"}"#), 12400),
        ("expires before time", hs256(r#"{"idx":1,"exp":-1}"#), 12400),
        ("expires at 1e300", hs256(r#"{"idx":1,"exp":1e300}"#), 12400),
        ("not valid for another hour", claims(&format!(r#""nbf":{later}"#)), 12400),
        ("nobody", hs256(&json!({ "exp": later }).to_string()), 12400),
        ("user 2^53", hs256(&json!({ "idx": 9_007_199_254_740_992_u64, "exp": later }).to_string()), 12400),
        (
            "user 2^53 + 1",
            hs256(&json!({ "idx": 9_007_199_254_740_993_u64, "exp": later }).to_string()),
            12400,
        ),
        ("user 1.5", hs256(&format!(r#"{{"idx":1.5,"exp":{later}}}"#)), 12400),
        ("user -1", hs256(&format!(r#"{{"idx":-1,"exp":{later}}}"#)), 12400),
        ("user as a text", hs256(&format!(r#"{{"idx":"1","exp":{later}}}"#)), 12400),
        ("two users", hs256(&format!(r#"{{"idx":1,"idx":2,"exp":{later}}}"#)), 12400),
        ("a name of 65 characters", claims(&format!(r#""nickname":"{}""#, "x".repeat(65))), 12400),
    ];
    for (name, token, code) in &rows {
        let message = json!({ "token": token }).to_string();
        stage.counted(name, &refused(*code), || {
            let mut client = stage.websocket();
            client.send(&format!("40{message}"));
            let text = client.text();
            let refusal: Value = serde_json::from_str(text.strip_prefix("44").expect(name)).unwrap();
            assert_eq!(refusal["data"]["code"], *code, "{name}: {text}");
        });
        stage.counted(name, &refused(*code), || {
            let mut client = stage.websocket();
            client.send("40");
            client.text();
            client.send(&format!(r#"421["store",{{"token":{},"position":[1,2],"radius":1}}]"#, json!(token)));
            assert_eq!(ack(&mut client, 1)["code"], *code, "{name}");
        });
    }
    // Longer than any token: unread in the handshake, a wrong field in a payload (see `events`).
    stage.counted("a megabyte", &refused(12400), || {
        let mut client = stage.websocket();
        client.send(&format!(r#"40{{"token":"{}"}}"#, "x".repeat(900_000)));
        assert!(client.text().starts_with("44{"));
    });
    stage.end();
}

/// No token, or something in its place that is none: the namespace may be joined, and nothing can be done there.
#[test]
fn no_token_at_all() {
    let stage = Stage::usual();
    let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    for auth in ["", "{}", r#"{"token":7}"#, r#"{"token":null}"#, r#"{"Token":"x"}"#, &deep] {
        stage.counted(&auth[..auth.len().min(20)], &refused(10400), || {
            let mut client = stage.websocket();
            client.send(&format!("40{auth}"));
            assert!(client.text().starts_with("40{"));
            client.send(r#"421["store",{"position":[1,2],"radius":1}]"#);
            assert_eq!(ack(&mut client, 1)["code"], 10400);
        });
    }
    stage.end();
}

/// A good token that is valid from now, and one whose signer's clock is a little ahead.
#[test]
fn tokens_that_are_good() {
    let stage = Stage::usual();
    for nbf in [now_s() - 10, now_s() + 20] {
        let mut client = stage.websocket();
        let token = hs256(&json!({ "idx": 9, "exp": now_s() + 60, "nbf": nbf }).to_string());
        client.send(&format!(r#"40{{"token":"{token}"}}"#));
        assert!(client.text().starts_with("40{"));
    }
    stage.end();
}
