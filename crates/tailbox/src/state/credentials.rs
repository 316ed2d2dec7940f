//! Secrets that are given out once and kept as hashes.

use std::fmt;

use isthmus_runtime::Secret;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// What a text of ours starts with: `tskey-<kind>-<id>-<secret>`.
const PREFIX: &str = "tskey";

/// A new credential, before its secret is hashed. The caller makes it from good randomness.
#[derive(Clone, Debug)]
pub(crate) struct Credential {
    /// Names the credential; no secret.
    pub(crate) id: String,
    /// Proves to hold it.
    pub(crate) secret: Secret,
}

impl Credential {
    /// The text that is shown once.
    pub(crate) fn text(&self, kind: &str) -> Secret {
        Secret::new(format!("{PREFIX}-{kind}-{}-{}", self.id, self.secret.expose()))
    }

    /// What is kept of it.
    pub(crate) fn hash(&self) -> SecretHash {
        SecretHash::of(self.secret.expose())
    }

    /// Takes the text of a credential of this kind apart: id and secret.
    pub(crate) fn split<'a>(text: &'a str, kind: &str) -> Option<(&'a str, &'a str)> {
        text.strip_prefix(PREFIX)?
            .strip_prefix('-')?
            .strip_prefix(kind)?
            .strip_prefix('-')?
            .split_once('-')
    }
}

/// Hash of a secret. The secrets are long and random, so one round of SHA-256 is enough.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SecretHash([u8; 32]);

impl SecretHash {
    /// The hash of a secret.
    pub(crate) fn of(secret: &str) -> Self {
        Self(Sha256::digest(secret).into())
    }

    /// Whether a secret has this hash, in a time that does not depend on where they differ.
    pub(crate) fn matches(&self, secret: &str) -> bool {
        self.0.ct_eq(&Self::of(secret).0).into()
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(redacted)")
    }
}

impl Serialize for SecretHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(self.0))
    }
}

impl<'de> Deserialize<'de> for SecretHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(String::deserialize(deserializer)?, &mut bytes)
            .map_err(|_| serde::de::Error::custom("not a hash in hexadecimal digits"))?;
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_a_credential_is_taken_apart() {
        let credential = Credential {
            id: "a1".to_owned(),
            secret: Secret::new("s3"),
        };
        let text = credential.text("auth");
        assert_eq!(text.expose(), "tskey-auth-a1-s3");
        assert_eq!(Credential::split(text.expose(), "auth"), Some(("a1", "s3")));
        assert_eq!(Credential::split(text.expose(), "client"), None);
        assert_eq!(Credential::split("tskey-auth-a1", "auth"), None);
    }

    #[test]
    fn hash_matches_only_its_secret() {
        let hash = SecretHash::of("s3");
        assert!(hash.matches("s3") && !hash.matches("s4") && !hash.matches(""));
    }
}
