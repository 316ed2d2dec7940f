//! Times as Go writes them: RFC 3339 text, with year 1 for "not set".

use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use jiff::Timestamp;
use serde::de::{Deserialize, Deserializer, Error};
use serde::ser::{Serialize, Serializer};

/// Go's zero time as text.
const ZERO: &str = "0001-01-01T00:00:00Z";

/// A point in time, or Go's zero time, which means "not set" (for a key's expiry: never).
///
/// On input `null`, the empty string and year 1 all mean zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GoTime(pub Option<Timestamp>);

impl GoTime {
    /// The zero time.
    pub const ZERO: Self = Self(None);

    /// Whether this is the zero time.
    pub fn is_zero(self) -> bool {
        self.0.is_none()
    }
}

impl From<Timestamp> for GoTime {
    fn from(time: Timestamp) -> Self {
        Self(Some(time))
    }
}

impl From<SystemTime> for GoTime {
    /// A time beyond the year 9999 is none that this format could say, and means "not set".
    fn from(time: SystemTime) -> Self {
        Self(Timestamp::try_from(time).ok())
    }
}

impl FromStr for GoTime {
    type Err = jiff::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() || text == ZERO {
            return Ok(Self::ZERO);
        }
        text.parse().map(|time| Self(Some(time)))
    }
}

impl fmt::Display for GoTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(time) => time.fmt(f),
            None => f.write_str(ZERO),
        }
    }
}

impl Serialize for GoTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GoTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?.unwrap_or_default();
        text.parse().map_err(|_| D::Error::custom("not an RFC 3339 time"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_time_is_read_from_all_its_forms() {
        for json in ["null", "\"\"", "\"0001-01-01T00:00:00Z\""] {
            assert_eq!(serde_json::from_str::<GoTime>(json).unwrap(), GoTime::ZERO, "{json}");
        }
        assert_eq!(
            serde_json::to_string(&GoTime::ZERO).unwrap(),
            "\"0001-01-01T00:00:00Z\""
        );
    }

    #[test]
    fn time_round_trips_with_fractions_and_offsets() {
        let time: GoTime = serde_json::from_str("\"2026-11-22T10:00:00.123456789+02:00\"").unwrap();
        assert_eq!(
            serde_json::to_string(&time).unwrap(),
            "\"2026-11-22T08:00:00.123456789Z\""
        );
    }

    #[test]
    fn text_that_is_no_time_is_refused() {
        assert!(serde_json::from_str::<GoTime>("\"yesterday\"").is_err());
    }
}
