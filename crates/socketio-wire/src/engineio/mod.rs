//! Engine.IO: sessions over WebSocket or HTTP polling.
//!
//! Sources: `docs/engine.io-protocol/v3.md` and `v4-current.md` in the socket.io repository; where text and
//! reference implementation differ (binary packets in a revision 3 payload), the implementation holds.

pub mod handshake;
pub mod packet;
pub mod payload;

/// The protocol revision a client asks for with `EIO=`. Socket.IO 2.x speaks 3; Socket.IO 3 and 4 speak 4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Revision {
    /// `EIO=3`: the client pings, binary packets carry their type.
    V3,
    /// `EIO=4`: the server pings, a binary packet is always a message.
    V4,
}

impl Revision {
    /// From the value of the `EIO` query parameter; `None` for anything but `3` and `4`.
    pub fn from_query(value: &str) -> Option<Self> {
        match value {
            "3" => Some(Revision::V3),
            "4" => Some(Revision::V4),
            _ => None,
        }
    }

    /// The value of the `EIO` query parameter.
    pub fn as_query(self) -> &'static str {
        match self {
            Revision::V3 => "3",
            Revision::V4 => "4",
        }
    }
}
