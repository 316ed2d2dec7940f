//! Chance that can be told again: everything random in a test comes from one number that a failure prints.

use crate::soak;

/// A sequence of numbers that a seed decides (SplitMix64).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The sequence of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`; 0 when that is 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.number() % limit.max(1)
    }

    /// A place in something with `length` entries; 0 when it has none.
    pub fn index(&mut self, length: usize) -> usize {
        let limit = u64::try_from(length).unwrap_or(u64::MAX);
        usize::try_from(self.below(limit)).unwrap_or_default()
    }

    /// A byte.
    pub fn byte(&mut self) -> u8 {
        self.number().to_le_bytes()[0]
    }
}

/// The number in the environment variable `ISTHMUS_STORY_SEED`, if there is one: the story to begin with.
pub fn given_story() -> Option<u64> {
    std::env::var("ISTHMUS_STORY_SEED").ok()?.parse().ok()
}

/// The number of the first story: the one that is given; one that differs from run to run where longer runs are asked for; else
/// `ordinary`, so that a change fails for what it does and not by chance.
pub fn first_story(ordinary: u64) -> u64 {
    let fallback = || if soak::is_asked() { fresh() } else { ordinary };
    given_story().unwrap_or_else(fallback)
}

fn fresh() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    // The standard library seeds its maps by chance. Short numbers are easier to type.
    std::collections::hash_map::RandomState::new().build_hasher().finish() % 1_000_000_000
}
