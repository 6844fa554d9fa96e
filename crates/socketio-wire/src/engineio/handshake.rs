//! The data of the `open` packet, with which the server begins a session.
//!
//! ```text
//! {"sid":string,"upgrades":[string],"pingInterval":ms,"pingTimeout":ms,"maxPayload":bytes}
//! ```
//!
//! Revision 3 has no `maxPayload`, and servers that offer no upgrade may leave `upgrades` away.

use serde::{Deserialize, Serialize};

use crate::error::json_place;
use crate::{Error, ErrorKind};

/// What a client must know of its session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Handshake {
    /// The Engine.IO session, the `sid` of each later request; not the Socket.IO socket's id.
    pub sid: String,
    /// Transports the client may change to: `["websocket"]` while polling, else empty.
    #[serde(default)]
    pub upgrades: Vec<String>,
    /// Between two heartbeats.
    #[serde(rename = "pingInterval")]
    pub ping_interval_ms: u64,
    /// How long an answer to a heartbeat may take.
    #[serde(rename = "pingTimeout")]
    pub ping_timeout_ms: u64,
    /// Most bytes the server takes in one message or polling body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_payload: Option<u64>,
}

/// Longest handshake that is decoded, in bytes of JSON.
pub const MAX_LEN: usize = 16 * 1024;

/// Decodes the data of an `open` packet.
pub fn decode(json: &str) -> Result<Handshake, Error> {
    if json.len() > MAX_LEN {
        return Err(Error::new(ErrorKind::TooLarge(MAX_LEN), MAX_LEN));
    }
    let handshake: Handshake = serde_json::from_str(json)
        .map_err(|error| Error::new(ErrorKind::Handshake, json_place(json, &error)))?;
    if handshake.sid.is_empty() {
        return Err(Error::new(ErrorKind::Handshake, 0));
    }
    Ok(handshake)
}

/// Appends the data of an `open` packet, without its type.
pub fn encode(handshake: &Handshake, out: &mut Vec<u8>) {
    serde_json::to_writer(out, handshake).expect("strings and numbers into memory");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways() {
        fn check(json: &str, handshake: &Handshake) {
            assert_eq!(decode(json).as_ref(), Ok(handshake), "{json}");
            let mut out = Vec::new();
            encode(handshake, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), json);
        }
        let mut handshake = Handshake {
            sid: "lv_VI97".into(),
            upgrades: vec!["websocket".into()],
            ping_interval_ms: 25_000,
            ping_timeout_ms: 20_000,
            max_payload: Some(1_000_000),
        };
        check(
            r#"{"sid":"lv_VI97","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#,
            &handshake,
        );
        handshake.max_payload = None;
        handshake.upgrades.clear();
        check(r#"{"sid":"lv_VI97","upgrades":[],"pingInterval":25000,"pingTimeout":20000}"#, &handshake);
    }

    #[test]
    fn what_servers_leave_away_or_add() {
        let handshake = decode(r#"{"sid":"a","pingInterval":300,"pingTimeout":200,"region":"eu"}"#).unwrap();
        assert_eq!((handshake.upgrades.len(), handshake.max_payload), (0, None));
    }

    #[test]
    fn bad_handshakes() {
        fn check(json: &str, expected: ErrorKind) {
            assert_eq!(decode(json).unwrap_err().kind(), expected, "{json:.80}");
        }
        check("", ErrorKind::Handshake);
        check("[]", ErrorKind::Handshake);
        check(r#"{"pingInterval":300,"pingTimeout":200}"#, ErrorKind::Handshake);
        check(r#"{"sid":"","pingInterval":300,"pingTimeout":200}"#, ErrorKind::Handshake);
        check(r#"{"sid":"a","pingInterval":-300,"pingTimeout":200}"#, ErrorKind::Handshake);
        check(r#"{"sid":"a","pingInterval":"300","pingTimeout":200}"#, ErrorKind::Handshake);
        check(r#"{"sid":"a","pingInterval":300,"pingTimeout":200}x"#, ErrorKind::Handshake);
        check(&" ".repeat(MAX_LEN + 1), ErrorKind::TooLarge(MAX_LEN));
    }
}
