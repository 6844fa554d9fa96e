//! Close codes, RFC 6455 section 7.4 and the IANA registry "WebSocket Close Code Number".
//!
//! ```text
//! close payload = [ code reason ]     ; code: 16 bits, big-endian; reason: UTF-8, at most 123 bytes
//! ```

use std::fmt;

/// A close code that may travel in a close frame, or one of our own making.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CloseCode(pub u16);

impl CloseCode {
    pub const NORMAL: CloseCode = CloseCode(1000);
    pub const GOING_AWAY: CloseCode = CloseCode(1001);
    pub const PROTOCOL_ERROR: CloseCode = CloseCode(1002);
    pub const UNSUPPORTED: CloseCode = CloseCode(1003);
    /// Data that is not what its type says, above all bad UTF-8.
    pub const INVALID_PAYLOAD: CloseCode = CloseCode(1007);
    pub const POLICY: CloseCode = CloseCode(1008);
    pub const TOO_LARGE: CloseCode = CloseCode(1009);
    pub const INTERNAL_ERROR: CloseCode = CloseCode(1011);
    pub const SERVICE_RESTART: CloseCode = CloseCode(1012);
    pub const TRY_AGAIN_LATER: CloseCode = CloseCode(1013);
    /// Ours: the peer reads slower than its messages come, and what was due to it has been dropped.
    pub const SLOW_CONSUMER: CloseCode = CloseCode(4008);

    /// Whether a peer may send it: assigned for the wire, or from the ranges for libraries (3000 to 3999)
    /// and applications (4000 to 4999). 1004 to 1006 and 1015 never travel.
    pub fn is_valid(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_codes_may_travel() {
        fn check(code: u16, expected: bool) {
            assert_eq!(CloseCode(code).is_valid(), expected, "{code}");
        }
        for code in [
            1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4008,
            4999,
        ] {
            check(code, true);
        }
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
            check(code, false);
        }
    }
}
