//! Public keys in their text form: a prefix that names the key's purpose, then 64 hexadecimal digits.
//!
//! Each type's default is the zero key, which Go writes where no key is set; `null` and the empty string read as zero
//! too. Private keys are those of `ts_keys` (`MachinePrivateKey`, `NodePrivateKey`, `DiscoPrivateKey`): they hide their
//! bytes from `Debug` and `Display`, and give the `privkey:` text only through `ExportableKey::export`. The public key
//! types of `ts_keys` are not used on the wire because their default is a random key and they read only borrowed text;
//! each type here converts to and from its twin.

use std::fmt;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error};
use serde::ser::{Serialize, Serializer};
use ts_keys::ExportableKey;

/// A key's text form is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("parse key: expected {prefix:?} and 64 hexadecimal digits")]
pub struct ParseKeyError {
    prefix: &'static str,
}

fn parse(text: &str, prefix: &'static str) -> Result<[u8; 32], ParseKeyError> {
    let error = ParseKeyError { prefix };
    if text.is_empty() {
        return Ok([0; 32]);
    }
    let digits = text.strip_prefix(prefix).ok_or(error)?;
    let mut bytes = [0; 32];
    hex::decode_to_slice(digits, &mut bytes).map_err(|_| error)?;
    Ok(bytes)
}

macro_rules! public_key {
    ($(#[$meta:meta])* $name:ident, $prefix:literal, $twin:ty) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// What the text form starts with.
            pub const PREFIX: &'static str = $prefix;

            /// The key of these bytes.
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The key's bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// Whether this is the zero key, which stands for "none".
            pub fn is_zero(&self) -> bool {
                self.0 == [0; 32]
            }
        }

        impl FromStr for $name {
            type Err = ParseKeyError;

            fn from_str(text: &str) -> Result<Self, ParseKeyError> {
                parse(text, $prefix).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($prefix)?;
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Option::<String>::deserialize(deserializer)?.unwrap_or_default();
                text.parse().map_err(D::Error::custom)
            }
        }

        impl From<$twin> for $name {
            fn from(key: $twin) -> Self {
                Self(*key.export().as_bytes())
            }
        }

        impl From<$name> for $twin {
            fn from(key: $name) -> Self {
                Self::from_bytes(key.0)
            }
        }
    };
}

public_key!(
    /// A node's WireGuard key.
    NodeKey,
    "nodekey:",
    ts_keys::NodePublicKey
);
public_key!(
    /// The key of a machine, or of a control server: the static keys of the Noise handshake.
    MachineKey,
    "mkey:",
    ts_keys::MachinePublicKey
);
public_key!(
    /// The key of a node's path discovery, fresh at every start of the node.
    DiscoKey,
    "discokey:",
    ts_keys::DiscoPublicKey
);
public_key!(
    /// The key of a challenge that a control server sends at the start of a Noise connection.
    ChallengeKey,
    "chalpub:",
    ts_keys::ChallengePublicKey
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_round_trips_through_its_text() {
        let text = format!("nodekey:{}", "0123456789abcdef".repeat(4));
        let key: NodeKey = text.parse().unwrap();
        assert_eq!(key.to_string(), text);
        assert_eq!(NodeKey::from(ts_keys::NodePublicKey::from(key)), key);
        assert_eq!(serde_json::from_str::<NodeKey>(&format!("\"{text}\"")).unwrap(), key);
    }

    #[test]
    fn key_reads_from_text_with_escapes() {
        let json = format!("\"mkey\\u003a{}\"", "11".repeat(32));
        assert_eq!(
            serde_json::from_str::<MachineKey>(&json).unwrap(),
            MachineKey::from_bytes([0x11; 32])
        );
    }

    #[test]
    fn zero_key_is_read_from_all_its_forms() {
        for json in ["null", "\"\"", &format!("\"discokey:{}\"", "00".repeat(32))] {
            assert!(serde_json::from_str::<DiscoKey>(json).unwrap().is_zero(), "{json}");
        }
    }

    #[test]
    fn key_of_another_purpose_or_length_is_refused() {
        for text in [
            format!("mkey:{}", "11".repeat(32)),
            format!("nodekey:{}", "11".repeat(31)),
            "nodekey:".to_owned(),
        ] {
            assert!(text.parse::<NodeKey>().is_err(), "{text}");
        }
    }

    #[test]
    fn private_key_is_not_shown_by_debug_or_display() {
        let text = format!("privkey:{}", "ab".repeat(32));
        let key: ts_keys::MachinePrivateKey = text.parse().unwrap();
        assert!(!format!("{key:?} {key}").contains("abab"));
        assert_eq!(key.export().to_string(), text);
    }
}
