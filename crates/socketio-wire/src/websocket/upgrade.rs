//! The two keys of the opening handshake, RFC 6455 sections 4.1 and 4.2.2.
//!
//! ```text
//! Sec-WebSocket-Key    = base64(16 random bytes)
//! Sec-WebSocket-Accept = base64(SHA-1(Sec-WebSocket-Key "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
//! ```

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha1::{Digest as _, Sha1};

const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The value of `Sec-WebSocket-Accept` that answers `key`, a value of `Sec-WebSocket-Key`.
pub fn accept_key(key: &str) -> String {
    let digest = Sha1::new().chain_update(key.trim()).chain_update(GUID).finalize();
    BASE64_STANDARD.encode(digest)
}

/// The value of `Sec-WebSocket-Key` for 16 random bytes.
pub fn client_key(random: [u8; 16]) -> String {
    BASE64_STANDARD.encode(random)
}

/// Whether `key` is the base64 of 16 bytes, as a client's must be.
pub fn is_client_key(key: &str) -> bool {
    let mut bytes = [0; 18];
    BASE64_STANDARD.decode_slice(key.trim(), &mut bytes) == Ok(16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_key_of_the_specification() {
        // RFC 6455 section 1.3.
        assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(accept_key(" dGhlIHNhbXBsZSBub25jZQ== "), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn client_keys() {
        fn check(key: &str, expected: bool) {
            assert_eq!(is_client_key(key), expected, "{key:?}");
        }
        assert_eq!(client_key(*b"the sample nonce"), "dGhlIHNhbXBsZSBub25jZQ==");
        check("dGhlIHNhbXBsZSBub25jZQ==", true);
        check("dGhlIHNhbXBsZSBub25jZQ", false);
        check("dGhlIHNhbXBsZSBub25j", false);
        check("dGhlIHNhbXBsZSBub25jZWFh", false);
        check(&"A".repeat(400), false);
        check("", false);
        check("?", false);
    }
}
