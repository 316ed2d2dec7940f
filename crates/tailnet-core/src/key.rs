//! Public keys as the domain knows them: opaque names of peers. Private keys never enter this crate.

use std::fmt;

macro_rules! public_key {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// The key with these bytes.
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The 32 bytes of the key.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// Whether all bytes are zero: what control sends for "none".
            pub fn is_zero(&self) -> bool {
                self.0 == [0; 32]
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!($prefix, ":"))?;
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            /// The prefix and the first five bytes: enough to tell keys apart in a log.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!($prefix, ":"))?;
                self.0[..5].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    };
}

public_key!(
    /// A node's WireGuard public key.
    NodeKey,
    "nodekey"
);

public_key!(
    /// A node's disco public key: names one run of a node, because it is made anew at every start.
    DiscoKey,
    "discokey"
);
