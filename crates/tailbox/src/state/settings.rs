//! What holds for the whole tailnet and can be changed while it runs.

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

/// How many days the key of a node of a user lives when nothing else is set.
const KEY_DAYS: u32 = 180;

/// What holds for the whole tailnet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Settings {
    /// Whether nodes may get certificates for their names.
    pub(crate) https: bool,
    /// Whether nodes wait for somebody's approval that join with a key which does not bring it.
    pub(crate) approval: bool,
    /// How many days the key of a node of a user lives, from 1 to 180. Keys of tagged nodes do not expire.
    pub(crate) key_days: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            https: false,
            approval: false,
            key_days: KEY_DAYS,
        }
    }
}

impl Settings {
    /// How long the key of a node of a user lives.
    pub(super) fn key_lifetime(&self) -> SignedDuration {
        SignedDuration::from_hours(i64::from(self.key_days) * 24)
    }
}
