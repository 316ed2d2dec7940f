//! Messages that many streams are sent, encoded once.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use isthmus_tailnet_wire::control::NodeId;

/// Encoded steps to the newest picture that was asked for.
#[derive(Debug, Default)]
pub(crate) struct Frames(Mutex<Newest>);

#[derive(Debug, Default)]
struct Newest {
    to: u64,
    frames: BTreeMap<Key, Option<Bytes>>,
}

/// What two streams that are sent the same have in common.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    /// The number of the picture that was told before.
    pub(super) from: u64,
    /// Whether the stream is compressed.
    pub(super) compress: bool,
    /// The peers that changed, whether they were seen, and whether they are seen now.
    pub(super) peers: Vec<(NodeId, bool, bool)>,
}

impl Frames {
    /// The frame for a step to the picture of this number, made by `encode` for the first that asks.
    pub(super) fn get(&self, to: u64, key: Key, encode: impl FnOnce() -> Option<Bytes>) -> Option<Bytes> {
        let mut newest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if newest.to < to {
            *newest = Newest {
                to,
                frames: BTreeMap::new(),
            };
        } else if newest.to > to {
            // A stream that lags; the others need the room.
            drop(newest);
            return encode();
        }
        newest.frames.entry(key).or_insert_with(encode).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(from: u64) -> Key {
        Key {
            from,
            compress: true,
            peers: vec![(1, true, true)],
        }
    }

    #[test]
    fn step_is_encoded_for_the_first_stream_that_takes_it() {
        let frames = Frames::default();
        let frame = |text: &'static str| move || Some(Bytes::from_static(text.as_bytes()));
        assert_eq!(frames.get(5, key(4), frame("a")).unwrap(), "a");
        assert_eq!(frames.get(5, key(4), frame("b")).unwrap(), "a");
        assert_eq!(frames.get(5, key(3), frame("c")).unwrap(), "c");
        assert_eq!(
            frames.get(4, key(3), frame("d")).unwrap(),
            "d",
            "the picture is an older one"
        );
        assert_eq!(frames.get(6, key(4), frame("e")).unwrap(), "e");
        assert_eq!(frames.0.lock().unwrap().frames.len(), 1, "older steps are forgotten");
    }
}
