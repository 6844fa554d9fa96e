//! What tokens are signed with, and the secret before it, which is accepted until a date.
//!
//! A secret is changed without logging anybody out: the new one signs, tokens of the old one stay good until
//! they expire or the date comes, whichever is first.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Shorter ones are refused.
pub(crate) const MIN_SECRET_BYTES: usize = 16;
const SECRET_VARIABLE: &str = "DNA_JWT_PREVIOUS_SECRET";
const UNTIL_VARIABLE: &str = "DNA_JWT_PREVIOUS_UNTIL";

/// The secrets a server knows.
#[derive(Clone)]
pub struct Secrets {
    /// Signs tokens, and keys the handles of anonymous authors.
    pub current: Vec<u8>,
    /// Only verifies, and only before this instant.
    pub previous: Option<(Vec<u8>, Timestamp)>,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets(secret)")
    }
}

impl From<&[u8]> for Secrets {
    fn from(current: &[u8]) -> Self {
        Self { current: current.to_owned(), previous: None }
    }
}

impl<const N: usize> From<&[u8; N]> for Secrets {
    fn from(current: &[u8; N]) -> Self {
        current.as_slice().into()
    }
}

/// Where the secret before this one is, and how long it counts; both or neither.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tokens {
    /// A file with the previous secret, relative to the settings file; `DNA_JWT_PREVIOUS_SECRET` goes before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous_secret_file: Option<PathBuf>,
    /// ISO 8601 with an offset, `2026-12-01T00:00:00Z`; `DNA_JWT_PREVIOUS_UNTIL` goes before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous_until: Option<String>,
}

impl Tokens {
    /// The previous secret and its end, from the environment or the file; `None` where there is none.
    ///
    /// # Errors
    /// When one half is missing, the date is none, or the file cannot be read.
    pub fn previous(&self) -> anyhow::Result<Option<(Vec<u8>, Timestamp)>> {
        let from_environment = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let secret = match (from_environment(SECRET_VARIABLE), &self.previous_secret_file) {
            (Some(secret), _) => Some((SECRET_VARIABLE.to_owned(), secret.into_encoded_bytes())),
            (None, Some(path)) => {
                let name = format!("tokens.previous_secret_file {}", path.display());
                Some((name.clone(), std::fs::read(path).with_context(|| format!("reading {name}"))?))
            }
            (None, None) => None,
        };
        let until = match from_environment(UNTIL_VARIABLE) {
            Some(until) => Some((UNTIL_VARIABLE, until.to_string_lossy().into_owned())),
            None => self.previous_until.clone().map(|until| ("tokens.previous_until", until)),
        };
        let ((name, secret), (until_name, until)) = match (secret, until) {
            (None, None) => return Ok(None),
            (Some(secret), Some(until)) => (secret, until),
            (Some(_), None) => bail!(
                "there is a previous secret and no date until which it counts: set tokens.previous_until or {UNTIL_VARIABLE}"
            ),
            (None, Some(_)) => bail!(
                "there is a date for a previous secret and no secret: set tokens.previous_secret_file or {SECRET_VARIABLE}"
            ),
        };
        if secret.len() < MIN_SECRET_BYTES {
            bail!("{name} has {} bytes; give at least {MIN_SECRET_BYTES}", secret.len());
        }
        let until: Timestamp = until.parse().map_err(|error| {
            anyhow::anyhow!("{until_name} is {until:?}; write it as 2026-12-01T00:00:00Z ({error})")
        })?;
        Ok(Some((secret, until)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_halves_or_neither_and_a_date_that_is_one() {
        let dir = tempfile::tempdir().unwrap();
        let (good, short) = (dir.path().join("good"), dir.path().join("short"));
        std::fs::write(&good, "the secret of last year").unwrap();
        std::fs::write(&short, "short").unwrap();
        let previous = |file: Option<&PathBuf>, until: Option<&str>| {
            let tokens =
                Tokens { previous_secret_file: file.cloned(), previous_until: until.map(str::to_owned) };
            tokens.previous().map_err(|error| format!("{error:#}"))
        };
        assert_eq!(previous(None, None), Ok(None));
        let until: Timestamp = "2026-12-01T00:00:00Z".parse().unwrap();
        let expected = Some((b"the secret of last year".to_vec(), until));
        assert_eq!(previous(Some(&good), Some("2026-12-01T01:00:00+01:00")), Ok(expected));
        for (file, until, problem) in [
            (Some(&good), None, "tokens.previous_until"),
            (None, Some("2026-12-01T00:00:00Z"), "tokens.previous_secret_file"),
            (Some(&good), Some("tomorrow"), "write it as"),
            (Some(&good), Some("2026-12-01"), "write it as"),
            (Some(&short), Some("2026-12-01T00:00:00Z"), "at least 16"),
            (Some(&dir.path().join("none")), Some("2026-12-01T00:00:00Z"), "reading"),
        ] {
            let said = previous(file, until).unwrap_err();
            assert!(said.contains(problem), "{said}");
        }
    }
}
