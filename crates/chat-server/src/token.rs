//! Identity is a signed token (JWT, HS256) and nothing else; `dna` keeps no passwords.
//!
//! Claims: `idx` (the user, required), `exp` (seconds, required), `nickname`, `avatar`, `anonymity`,
//! `test` (true: the test world, whatever an event says).

use std::sync::Arc;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

pub use crate::clock::now_s;
use crate::refusal::RefusalKind;
use crate::rotation::Secrets;

/// Longer tokens are refused unread.
pub const MAX_TOKEN_BYTES: usize = 4096;
/// Longer nicknames are refused, in tokens and in `store`. Characters, not bytes.
pub const MAX_NICKNAME_CHARS: usize = 64;
/// JavaScript's safe integers end here; user and message numbers stay below.
pub const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    pub idx: u64,
    /// Seconds since 1970.
    pub exp: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nickname: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub avatar: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anonymity: Option<bool>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub test: bool,
}

/// Signs and verifies. Cheap to clone, shared by all workers.
#[derive(Clone)]
pub struct TokenKey {
    inner: Arc<Keys>,
}

struct Keys {
    encoding: EncodingKey,
    decoding: DecodingKey,
    /// The key before this one, and the second from which its tokens are expired.
    previous: Option<(DecodingKey, u64)>,
    validation: Validation,
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenKey(secret)")
    }
}

impl TokenKey {
    pub fn new(secrets: impl Into<Secrets>) -> Self {
        let secrets = secrets.into();
        let mut validation = Validation::new(Algorithm::HS256);
        // For `nbf` alone: the clocks of those who sign may run ahead a little.
        validation.leeway = 60;
        validation.validate_nbf = true;
        // Expiry is looked at on each event, not only here: a token verified once may expire later.
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        Self {
            inner: Arc::new(Keys {
                encoding: EncodingKey::from_secret(&secrets.current),
                decoding: DecodingKey::from_secret(&secrets.current),
                previous: secrets.previous.map(|(secret, until)| {
                    (DecodingKey::from_secret(&secret), u64::try_from(until.as_second()).unwrap_or(0))
                }),
                validation,
            }),
        }
    }

    /// # Errors
    /// When the claims cannot be encoded.
    pub fn sign(&self, claims: &Claims) -> anyhow::Result<String> {
        Ok(jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &self.inner.encoding)?)
    }

    /// Checks the signature, the algorithm and the shape; expiry is the caller's ([`Claims::expired`]). A token
    /// of the previous secret expires when that does.
    ///
    /// # Errors
    /// [`RefusalKind::TokenInvalid`] for anything but a token signed here.
    pub fn verify(&self, token: &str) -> Result<Claims, RefusalKind> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(RefusalKind::TokenInvalid);
        }
        let decode = |key| jsonwebtoken::decode::<Claims>(token, key, &self.inner.validation);
        let claims = match (decode(&self.inner.decoding), &self.inner.previous) {
            (Ok(token), _) => token.claims,
            (Err(_), Some((previous, until_s))) => {
                let mut claims = decode(previous).map_err(|_| RefusalKind::TokenInvalid)?.claims;
                claims.exp = claims.exp.min(*until_s);
                claims
            }
            (Err(_), None) => return Err(RefusalKind::TokenInvalid),
        };
        let nickname_fits =
            claims.nickname.as_ref().is_none_or(|name| name.chars().count() <= MAX_NICKNAME_CHARS);
        if claims.idx > MAX_SAFE_INTEGER || !nickname_fits {
            return Err(RefusalKind::TokenInvalid);
        }
        Ok(claims)
    }
}

impl Claims {
    pub fn expired(&self, now_s: u64) -> bool {
        now_s >= self.exp
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims() -> Claims {
        Claims {
            idx: 7, exp: 100, nickname: Some("단아".into()), avatar: None, anonymity: None, test: true
        }
    }

    #[test]
    fn signs_what_it_verifies() {
        let key = TokenKey::new(b"a secret of some length");
        let token = key.sign(&claims()).unwrap();
        let read = key.verify(&token).unwrap();
        assert_eq!(read, claims());
        assert!(!read.expired(99));
        assert!(read.expired(100));
    }

    #[test]
    fn the_previous_secret_s_tokens_expire_with_it() {
        let (old, new) = (b"the secret of last year".as_slice(), b"the secret of this year".as_slice());
        let until = jiff::Timestamp::from_second(50).unwrap();
        let key = TokenKey::new(Secrets { current: new.into(), previous: Some((old.into(), until)) });
        let expiry = |token: String| key.verify(&token).map(|claims| claims.exp);
        assert_eq!(expiry(TokenKey::new(new).sign(&claims()).unwrap()), Ok(100));
        assert_eq!(expiry(TokenKey::new(old).sign(&claims()).unwrap()), Ok(50));
        let short = Claims { exp: 30, ..claims() };
        assert_eq!(expiry(TokenKey::new(old).sign(&short).unwrap()), Ok(30));
        let other = TokenKey::new(b"nobody's secret".as_slice());
        assert_eq!(expiry(other.sign(&claims()).unwrap()), Err(RefusalKind::TokenInvalid));
        // What it signs itself is the new secret's.
        assert!(TokenKey::new(new).verify(&key.sign(&claims()).unwrap()).is_ok());
    }

    #[test]
    fn refuses_what_it_did_not_sign() {
        let key = TokenKey::new(b"a secret of some length");
        let other = TokenKey::new(b"another secret");
        let good = key.sign(&claims()).unwrap();
        let mut parts: Vec<&str> = good.split('.').collect();
        use base64::Engine as _;
        let b64 = base64::engine::general_purpose::URL_SAFE_NO_PAD;
        let none_header = b64.encode(br#"{"alg":"none","typ":"JWT"}"#);
        let none_algorithm = format!("{none_header}.{}.", parts[1]);
        let changed = b64.encode(br#"{"idx":8,"exp":100}"#);
        parts[1] = &changed;
        for bad in [
            other.sign(&claims()).unwrap(),
            none_algorithm,
            parts.join("."),
            String::new(),
            "...".into(),
            "a.b.c".into(),
            "x".repeat(MAX_TOKEN_BYTES + 1),
        ] {
            assert_eq!(key.verify(&bad), Err(RefusalKind::TokenInvalid), "{bad}");
        }
    }
}
