//! From a stored message to the frame everybody shares.

use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;
use socketio_server::Frame;

use crate::privacy::{Handles, Shown};
use crate::storage::StoredMessage;
use crate::world::World;

/// A stored message, encoded once for every hearer on every worker.
#[derive(Debug)]
pub struct Publication {
    pub stored: StoredMessage,
    /// What comes back as `since`.
    pub cursor: String,
    /// The complete `new_msg` event.
    pub new_msg: Frame,
    /// The `result` object alone, as JSON: `speaker`, `missed`, push.
    pub result: Box<RawValue>,
    /// LoudSpeaker only: how far it reaches, metres.
    pub reach_m: Option<f64>,
}

impl Publication {
    pub fn new(
        stored: StoredMessage,
        epoch: &str,
        reach_m: Option<f64>,
        handles: &Handles,
        world: World,
    ) -> Self {
        let cursor = Cursor { epoch: epoch.to_owned(), idx: stored.idx }.to_string();
        let result = result_json(&stored, &cursor, handles, world);
        let new_msg = Frame::event(
            "new_msg",
            &format!(r#"{{"status":201,"message":"Save Message Successfully","result":{}}}"#, result.get()),
        );
        Self { stored, cursor, new_msg, result, reach_m }
    }
}

/// What docs/events.md has of `result`.
#[derive(Serialize)]
struct ResultJson<'a> {
    idx: u64,
    cursor: &'a str,
    user: Shown<'a>,
    position: PointJson,
    #[serde(rename = "type")]
    kind: &'static str,
    like_count: u64,
    likes: [(); 0],
    contents: &'a str,
    created_at: &'a str,
}

/// A GeoJSON Point.
#[derive(Serialize)]
struct PointJson {
    #[serde(rename = "type")]
    kind: &'static str,
    coordinates: [f64; 2],
}

/// The `result` object of `new_msg`, as JSON.
pub fn result_json(stored: &StoredMessage, cursor: &str, handles: &Handles, world: World) -> Box<RawValue> {
    let message = &stored.message;
    raw(&ResultJson {
        idx: stored.idx,
        cursor,
        user: handles.shown(world, &message.author, message.position, message.created_at_ms),
        position: PointJson { kind: "Point", coordinates: [message.position.lng(), message.position.lat()] },
        kind: message.kind.name(),
        like_count: 0,
        likes: [],
        contents: &message.contents,
        created_at: &iso8601(message.created_at_ms),
    })
}

/// `speaker`: the bare result with how many alerts it stands for beside itself.
pub fn speaker_frame(publication: &Publication, folded: u64) -> Frame {
    let result = publication.result.get();
    let open = result.strip_suffix('}').unwrap_or(result);
    Frame::event("speaker", &format!(r#"{open},"folded":{folded}}}"#))
}

/// ISO 8601, UTC, milliseconds: `2018-09-01T21:24:26.123Z`.
pub fn iso8601(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms)
        .map_or_else(|_| "1970-01-01T00:00:00.000Z".to_owned(), |t| format!("{t:.3}"))
}

fn raw(value: &impl Serialize) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// A place in a world's stream: opaque to clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    pub epoch: String,
    pub idx: u64,
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.epoch, self.idx)
    }
}

impl Cursor {
    pub fn parse(text: &str) -> Option<Self> {
        let (epoch, idx) = text.split_once('.')?;
        Some(Self { epoch: epoch.to_owned(), idx: idx.parse().ok()? })
    }
}

/// A publication on its way to workers and nodes.
#[derive(Debug, Clone)]
pub struct Envelope {
    /// Random per process.
    pub node: u64,
    pub epoch: Arc<str>,
    pub world: World,
    /// Counts this node's publications of this world.
    pub sequence: u64,
    /// The sequence before in the same cell (0: none known), so a subscriber of that cell sees gaps.
    pub previous_in_cell: u64,
    pub publication: Arc<Publication>,
    /// Who wrote it, when that was on this node.
    pub origin: Option<Origin>,
    /// When the store handed it over, for the queue stage.
    pub published_at: std::time::Instant,
}

/// The connection a message came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    pub worker: usize,
    pub socket: socketio_server::SocketId,
    pub ack: Option<socketio_server::AckId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_utc_with_milliseconds() {
        assert_eq!(iso8601(1_535_837_066_123), "2018-09-01T21:24:26.123Z");
        assert_eq!(iso8601(0), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn cursors_round_trip_and_foreign_text_is_none() {
        let cursor = Cursor { epoch: "ab12".into(), idx: 77 };
        assert_eq!(Cursor::parse(&cursor.to_string()), Some(cursor));
        for foreign in ["", "ab", "ab.", "ab.x", ".-1"] {
            assert_eq!(Cursor::parse(foreign), None, "{foreign}");
        }
    }
}
