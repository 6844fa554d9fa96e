//! What others see of an author; anonymous ones as handles: stable within an area (about 2 km) and a day, unlinkable across.

use std::borrow::Cow;

use geo_index::Position;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::storage::Author;
use crate::world::World;

/// Side of the grid positions are snapped to before anybody is told who is near, in metres.
pub const GRID_M: f64 = 200.0;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Makes handles; keyed, so nobody can try user numbers until one fits.
#[derive(Clone)]
pub struct Handles {
    key: [u8; 32],
}

impl std::fmt::Debug for Handles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Handles(secret)")
    }
}

/// What stands where a user's number and name would.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handle {
    /// `a` and 20 hexadecimal digits.
    pub id: String,
    /// `Quiet Heron 42`.
    pub nickname: String,
}

/// An author as others see them.
#[derive(Debug, Serialize)]
pub struct Shown<'a> {
    /// A user's number, or the handle of one who is anonymous.
    pub idx: serde_json::Value,
    pub nickname: Cow<'a, str>,
    pub avatar: Option<&'a str>,
    pub anonymity: bool,
}

impl Handles {
    /// `secret` is the server's; another use of it (signing tokens) stays independent through the label.
    pub fn new(secret: &[u8]) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"dna anonymous handles\0");
        hash.update(secret);
        Self { key: hash.finalize().into() }
    }

    pub fn handle(&self, world: World, user: u64, place: Position, at_ms: i64) -> Handle {
        let mut hash = Sha256::new();
        // Fixed-length parts behind a fixed-length key: nothing to extend, nothing to confuse.
        hash.update(self.key);
        hash.update([world as u8]);
        hash.update(user.to_le_bytes());
        hash.update(geo_index::area_of(place).to_le_bytes());
        hash.update(at_ms.div_euclid(DAY_MS).to_le_bytes());
        let digest: [u8; 32] = hash.finalize().into();
        let id = digest[..10].iter().fold("a".to_owned(), |text, byte| format!("{text}{byte:02x}"));
        let nickname = format!(
            "{} {} {}",
            ADJECTIVES[usize::from(digest[10]) % ADJECTIVES.len()],
            ANIMALS[usize::from(digest[11]) % ANIMALS.len()],
            u16::from(digest[12]) % 100
        );
        Handle { id, nickname }
    }

    /// `place` and `at_ms` (milliseconds since 1970, UTC): where and when they are seen.
    pub fn shown<'a>(&self, world: World, author: &'a Author, place: Position, at_ms: i64) -> Shown<'a> {
        if author.anonymity {
            let handle = self.handle(world, author.idx, place, at_ms);
            return Shown {
                idx: handle.id.into(),
                nickname: handle.nickname.into(),
                avatar: None,
                anonymity: true,
            };
        }
        Shown {
            idx: author.idx.into(),
            nickname: Cow::Borrowed(&author.nickname),
            avatar: author.avatar.as_deref(),
            anonymity: false,
        }
    }
}

const ADJECTIVES: [&str; 16] = [
    "Quiet", "Brave", "Gentle", "Swift", "Sleepy", "Merry", "Curious", "Humble", "Bright", "Calm", "Witty",
    "Bold", "Shy", "Kind", "Lucky", "Wise",
];
const ANIMALS: [&str; 16] = [
    "Heron", "Otter", "Magpie", "Tiger", "Badger", "Crane", "Deer", "Fox", "Hare", "Lynx", "Moth", "Newt",
    "Owl", "Panda", "Seal", "Wren",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_stable_here_today_and_strange_elsewhere() {
        let handles = Handles::new(b"secret");
        let gangnam = Position::new(127.0276, 37.4979).unwrap();
        let busan = Position::new(129.04, 35.11).unwrap();
        let here = handles.handle(World::Live, 7, gangnam, 1_000);
        assert_eq!(here, handles.handle(World::Live, 7, gangnam, 2_000));
        for other in [
            handles.handle(World::Live, 8, gangnam, 1_000),
            handles.handle(World::Test, 7, gangnam, 1_000),
            handles.handle(World::Live, 7, busan, 1_000),
            handles.handle(World::Live, 7, gangnam, DAY_MS),
            Handles::new(b"other").handle(World::Live, 7, gangnam, 1_000),
        ] {
            assert_ne!(here.id, other.id);
        }
    }
}
