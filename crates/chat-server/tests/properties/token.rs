//! The input is a token; or, where there is a line feed in it, header and claims that are signed here, as somebody who
//! knows the secret might.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chat_server::token::{MAX_NICKNAME_CHARS, MAX_SAFE_INTEGER, MAX_TOKEN_BYTES, TokenKey};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::Value;

const SECRET: &[u8] = b"a secret that only this check knows";

pub(crate) fn check(input: &[u8]) {
    let key = TokenKey::new(SECRET);
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Some((header, claims)) = text.split_once('\n') else {
        // Nobody guesses a signature.
        assert!(key.verify(text).is_err(), "{text}");
        return;
    };
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let Ok(signature) =
        jsonwebtoken::crypto::sign(message.as_bytes(), &EncodingKey::from_secret(SECRET), Algorithm::HS256)
    else {
        return;
    };
    let token = format!("{message}.{signature}");
    if let Ok(read) = key.verify(&token) {
        assert!(token.len() <= MAX_TOKEN_BYTES && read.idx <= MAX_SAFE_INTEGER);
        assert!(read.nickname.as_ref().is_none_or(|name| name.chars().count() <= MAX_NICKNAME_CHARS));
        let header: Value = serde_json::from_str(header).expect("a header that is JSON");
        assert_eq!(header["alg"], "HS256");
        // A claim nobody asks for may hold what no `Value` can, such as 1e703.
        if let Ok(claims) = serde_json::from_str::<Value>(claims) {
            assert_eq!((claims["idx"].as_u64(), claims["exp"].as_u64()), (Some(read.idx), Some(read.exp)));
        }
        // What was understood is what is signed again.
        let again = key.sign(&read).expect("signed");
        assert_eq!(key.verify(&again).as_ref(), Ok(&read));
        assert!(TokenKey::new(b"another secret").verify(&token).is_err());
    }
    // Any other signature will not do: none, a cut one, a changed one.
    let mut changed = signature.clone().into_bytes();
    changed[0] = if changed[0] == b'A' { b'B' } else { b'A' };
    let changed = String::from_utf8(changed).expect("ASCII");
    for signature in ["", &signature[1..], &changed] {
        assert!(key.verify(&format!("{message}.{signature}")).is_err(), "{message}.{signature}");
    }
}
