//! What the peers share: who hears a place, who stands near it, and the messages of both sides.

pub mod bare;
pub mod grid;

use serde::{Deserialize, Serialize};

/// A position as it is sent, in degrees, perhaps as text.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(from = "Number")]
pub struct Degrees(pub f64);

#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Number(f64),
    Text(String),
}

impl From<Number> for Degrees {
    /// What is no number becomes NaN, near which nobody is.
    fn from(number: Number) -> Self {
        Self(match number {
            Number::Number(value) => value,
            Number::Text(text) => text.parse().unwrap_or(f64::NAN),
        })
    }
}

/// `store`.
#[derive(Debug, Deserialize)]
pub struct Store {
    pub token: String,
    pub position: [Degrees; 2],
    /// Metres.
    pub radius: Degrees,
}

/// `save_msg`.
#[derive(Debug, Deserialize)]
pub struct SaveMsg {
    pub token: String,
    #[serde(rename = "messageData")]
    pub message: MessageData,
    /// How far a LoudSpeaker reaches, metres.
    pub radius: Option<Degrees>,
}

#[derive(Debug, Deserialize)]
pub struct MessageData {
    pub lng: Degrees,
    pub lat: Degrees,
    pub contents: String,
    #[serde(rename = "type")]
    pub kind: String,
}

/// `new_msg`, and the ack of `save_msg`.
#[derive(Debug, Clone, Serialize)]
pub struct NewMsg {
    pub status: u16,
    pub message: &'static str,
    pub result: Message,
}

/// `speaker`.
#[derive(Debug, Clone, Serialize)]
pub struct Message {
    pub idx: u64,
    pub user: Author,
    pub position: Point,
    #[serde(rename = "type")]
    pub kind: String,
    pub like_count: u32,
    pub likes: [u8; 0],
    pub contents: String,
    pub created_at: String,
}

#[derive(Debug, Clone, Serialize)]
pub struct Author {
    pub idx: u64,
    pub nickname: String,
    pub avatar: Option<String>,
    pub anonymity: bool,
}

#[derive(Debug, Clone, Serialize)]
pub struct Point {
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub coordinates: [f64; 2],
}

impl NewMsg {
    pub fn new(idx: u64, author: Author, data: MessageData) -> Self {
        let point = Point { kind: "Point", coordinates: [data.lng.0, data.lat.0] };
        Self {
            status: 201,
            message: "Save Message Successfully",
            result: Message {
                idx,
                user: author,
                position: point,
                kind: data.kind,
                like_count: 0,
                likes: [],
                contents: data.contents,
                created_at: now(),
            },
        }
    }
}

/// UTC with milliseconds, e.g. `2018-09-01T21:24:26.123Z`.
fn now() -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = ((since.as_secs() / 86_400) as i64, since.as_secs() % 86_400);
    // Days to a date, with years that begin in March (Howard Hinnant, chrono-compatible low-level date algorithms).
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        seconds / 3_600,
        seconds / 60 % 60,
        seconds % 60,
        since.subsec_millis()
    )
}
