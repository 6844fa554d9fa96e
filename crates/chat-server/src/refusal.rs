//! Every way `dna` says no: one list, from which acks, `exception` bodies and docs/events.md come.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// A refusal as the client sees it: `{status, code, message, errors?}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub kind: RefusalKind,
    pub message: String,
    /// Field -> what is wrong with it; only for [`RefusalKind::Validation`].
    pub errors: BTreeMap<String, String>,
}

/// The closed list of reasons. Codes 10400, 11400 and 12400 are the original server's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefusalKind {
    /// No token in the payload, in the handshake, or on the connection.
    TokenMissing,
    TokenExpired,
    /// Forged, damaged, wrong algorithm, or without the claim `idx`.
    TokenInvalid,
    /// A field is missing, of the wrong type, or out of range.
    Validation,
    /// The connection is bound to another user.
    OtherUser,
    /// `test: true` with an ordinary token while the test world is closed.
    TestWorldClosed,
    /// The connection belongs to the other world.
    OtherWorld,
    UnknownEvent,
    /// Known to the original, not built here yet.
    NotBuilt,
    TooManyEvents,
    TooManyMessages,
    TooManyHere,
    /// The store refused the message; it was not kept.
    StoreRefused,
    /// The store did not say; the message may or may not have been kept.
    StoreUnknown,
    /// Stored messages wait to be delivered; more would only wait longer.
    Behind,
    ShuttingDown,
}

impl RefusalKind {
    pub const ALL: [RefusalKind; 16] = [
        Self::TokenMissing,
        Self::TokenExpired,
        Self::TokenInvalid,
        Self::Validation,
        Self::OtherUser,
        Self::TestWorldClosed,
        Self::OtherWorld,
        Self::UnknownEvent,
        Self::NotBuilt,
        Self::TooManyEvents,
        Self::TooManyMessages,
        Self::TooManyHere,
        Self::StoreRefused,
        Self::StoreUnknown,
        Self::Behind,
        Self::ShuttingDown,
    ];

    /// (HTTP-like status, code).
    pub fn numbers(self) -> (u16, u32) {
        match self {
            Self::TokenMissing => (401, 10400),
            Self::TokenExpired => (401, 11400),
            Self::TokenInvalid => (401, 12400),
            Self::Validation => (400, 15400),
            Self::OtherUser => (403, 10403),
            Self::TestWorldClosed => (403, 11403),
            Self::OtherWorld => (409, 10409),
            Self::UnknownEvent => (404, 10404),
            Self::NotBuilt => (501, 10501),
            Self::TooManyEvents => (429, 10429),
            Self::TooManyMessages => (429, 11429),
            Self::TooManyHere => (429, 12429),
            Self::StoreRefused => (503, 10503),
            Self::StoreUnknown => (504, 10504),
            Self::Behind => (503, 12503),
            Self::ShuttingDown => (503, 11503),
        }
    }

    /// What the client is told when the place has nothing better to say.
    pub fn message(self) -> &'static str {
        match self {
            Self::TokenMissing => "no token: send one as `token` in the payload or as handshake `auth.token`",
            Self::TokenExpired => "the token has expired: get a new one and connect again",
            Self::TokenInvalid => "the token is not valid here",
            Self::Validation => "some fields are missing or wrong",
            Self::OtherUser => "this connection is bound to another user: open a new one",
            Self::TestWorldClosed => "the test world needs a token with the claim test: true",
            Self::OtherWorld => "this connection belongs to the other world: open a new one",
            Self::UnknownEvent => "no such event",
            Self::NotBuilt => "this event is not available in this version",
            Self::TooManyEvents => "too many events on this connection: slow down",
            Self::TooManyMessages => "too many messages from this user: slow down",
            Self::TooManyHere => "too many messages at this place: try again shortly",
            Self::StoreRefused => "the message could not be stored and was not sent: try again",
            Self::StoreUnknown => "it is not known whether the message was stored: look before sending again",
            Self::Behind => "the server is behind with deliveries and did not take the message: try again",
            Self::ShuttingDown => "the server is restarting: connect again",
        }
    }
}

impl Refusal {
    pub fn new(kind: RefusalKind) -> Self {
        Self { kind, message: kind.message().to_owned(), errors: BTreeMap::new() }
    }

    pub fn with_message(kind: RefusalKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), errors: BTreeMap::new() }
    }

    /// A validation refusal for `field`, named by its path, e.g. `messageData.lng`.
    pub fn field(field: &str, message: impl Into<String>) -> Self {
        let mut refusal = Self::new(RefusalKind::Validation);
        refusal.errors.insert(field.to_owned(), message.into());
        refusal.message = format!("{}: {}", field, refusal.errors[field]);
        refusal
    }

    pub fn body(&self) -> Value {
        let (status, code) = self.kind.numbers();
        let mut body = json!({ "status": status, "code": code, "message": self.message });
        if !self.errors.is_empty() {
            let errors: serde_json::Map<String, Value> =
                self.errors.iter().map(|(field, why)| (field.clone(), json!({ "message": why }))).collect();
            body["errors"] = Value::Object(errors);
        }
        body
    }
}

impl From<RefusalKind> for Refusal {
    fn from(kind: RefusalKind) -> Self {
        Self::new(kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_statuses_are_errors() {
        let mut seen = std::collections::BTreeSet::new();
        for kind in RefusalKind::ALL {
            let (status, code) = kind.numbers();
            assert!((400..600).contains(&status), "{kind:?}");
            assert!(seen.insert(code), "{kind:?} reuses {code}");
        }
    }

    #[test]
    fn a_field_refusal_names_the_field_twice() {
        let body = Refusal::field("messageData.lng", "must be a number").body();
        assert_eq!(body["status"], 400);
        assert_eq!(body["errors"]["messageData.lng"]["message"], "must be a number");
        assert!(body["message"].as_str().unwrap().contains("messageData.lng"));
    }
}
