//! Where messages are kept before anyone sees them.
//!
//! [`Storage`] is one world's store. It is asynchronous and takes batches; several may be in flight.
//! `sqlite` is the embedded one. The store thread ([`crate::store`]) is its only writer.

mod backup;
mod schema;
mod sqlite;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use geo_index::Position;

pub use backup::{Copied, back_up};
pub use sqlite::{Durability, SqliteStorage};

use crate::event::MessageKind;

/// Who wrote, as shown to others unless anonymous.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    pub idx: u64,
    pub nickname: Arc<str>,
    pub avatar: Option<Arc<str>>,
    pub anonymity: bool,
}

/// A checked message on its way into the store.
#[derive(Debug, Clone, PartialEq)]
pub struct NewMessage {
    pub author: Author,
    pub position: Position,
    pub kind: MessageKind,
    pub contents: String,
    /// Milliseconds since 1970, UTC; given when the store thread takes it.
    pub created_at_ms: i64,
}

/// A message that will not be forgotten.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredMessage {
    /// Unique in its world, below 2^53, increasing in submission order on one node; gaps happen.
    pub idx: u64,
    pub message: Arc<NewMessage>,
}

/// What became of one message of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Kept, under this `idx`.
    Stored(u64),
    /// Not kept, and never will be. The text is for the log.
    Refused(String),
    /// Nobody can say. The text is for the log.
    Unknown(String),
}

/// Which stored messages a returning client may have missed.
#[derive(Debug, Clone)]
pub struct MissedQuery {
    /// Exclusive.
    pub after_idx: u64,
    /// Inclusive.
    pub up_to_idx: u64,
    /// The listener's own circle; messages outside are left out (exactly, not by a box).
    pub centre: Position,
    pub radius_m: f64,
    /// More messages or bytes of contents than these: [`Missed::TooMany`].
    pub max_messages: usize,
    pub max_bytes: usize,
}

/// All of it, in order of `idx`, or nothing: never a part.
#[derive(Debug, Clone, PartialEq)]
pub enum Missed {
    All(Vec<StoredMessage>),
    TooMany,
    /// Some of that stretch has been deleted by retention.
    Forgotten,
}

#[derive(Debug, thiserror::Error)]
#[error("{what}: {cause}")]
pub struct StorageError {
    pub what: &'static str,
    pub cause: String,
}

impl StorageError {
    pub fn new(what: &'static str, cause: impl std::fmt::Display) -> Self {
        Self { what, cause: cause.to_string() }
    }
}

/// One world's messages.
pub trait Storage: Send + Sync + 'static {
    /// Keeps a batch. Outcomes stand in the order of submission. A refused message does not touch its
    /// neighbours. Called from one thread; a second call may come before the first is answered, and
    /// `idx` increases in the order of calls even where answers do not come in it.
    fn save(&self, batch: Vec<Arc<NewMessage>>) -> BoxFuture<'static, Vec<Outcome>>;

    /// What a returning client missed.
    fn missed(&self, query: MissedQuery) -> BoxFuture<'static, Result<Missed, StorageError>>;

    /// Remembers that everything stored so far was stored by now (milliseconds since 1970, from a clock that
    /// may be believed). Earlier notes move by `set_ms` first, so far has the clock been set since the last one,
    /// and keep their age; what is still in the future then is taken back to now: that clock was wrong.
    fn note(&self, now_ms: i64, set_ms: i64) -> BoxFuture<'static, Result<(), StorageError>>;

    /// The time of the last note when it was opened; `None`: there was none.
    fn noted_ms(&self) -> Option<i64>;

    /// Deletes what was noted before this (milliseconds since 1970), whatever its `created_at`: a stretch from
    /// the beginning. A slice at a time where that is better for those who are saving; answers how many, 0
    /// when there are none left.
    fn forget_before(&self, noted_ms: i64) -> BoxFuture<'static, Result<u64, StorageError>>;

    /// Whether a message could be stored now. Asked only after one could not, every second.
    fn probe(&self) -> BoxFuture<'static, Result<(), StorageError>>;

    /// A batch not answered for this long counts as unknown, so that nobody waits for ever.
    fn patience(&self) -> Duration {
        Duration::from_secs(30)
    }

    /// Random at creation: a cursor from another database is recognised by it.
    fn epoch(&self) -> Arc<str>;

    /// The highest `idx` stored when it was opened.
    fn last_idx(&self) -> u64;

    /// Bytes waiting in the write-ahead log, for `/metrics`; 0 where there is none.
    fn wal_bytes(&self) -> u64 {
        0
    }
}
