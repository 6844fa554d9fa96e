//! The data of the `open` packet, with which the server begins a session.
//!
//! ```text
//! {"sid":string,"upgrades":[string],"pingInterval":ms,"pingTimeout":ms,"maxPayload":bytes}
//! ```
//!
//! Revision 3 has no `maxPayload`, and servers that offer no upgrade may leave `upgrades` away.

use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Handshake {
    /// The Engine.IO session, the `sid` of each later request; not the Socket.IO socket's id.
    pub sid: String,
    /// Transports the client may change to: `["websocket"]` while polling, else empty.
    #[serde(default)]
    pub upgrades: Vec<String>,
    #[serde(rename = "pingInterval")]
    pub ping_interval_ms: u64,
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
    // The text is one line in practice, where serde's column is the byte.
    let handshake: Handshake =
        serde_json::from_str(json).map_err(|error| Error::new(ErrorKind::Handshake, error.column()))?;
    if handshake.sid.is_empty() {
        return Err(Error::new(ErrorKind::Handshake, 0));
    }
    Ok(handshake)
}

/// Appends the data of an `open` packet, without its type.
pub fn encode(handshake: &Handshake, out: &mut Vec<u8>) {
    serde_json::to_writer(out, handshake).expect("strings and numbers into memory");
}
