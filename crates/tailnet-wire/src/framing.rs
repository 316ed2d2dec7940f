//! Frames of a map stream: a length in four bytes, little-endian, then that many bytes of JSON, compressed with zstd
//! when the request asked for it.

/// Bytes of a frame's length.
pub const LENGTH_SIZE: usize = 4;

/// The most bytes of one frame that a client should accept. A map of ten thousand peers takes about a tenth of it.
pub const MAX_FRAME: usize = 64 << 20;

/// A frame is not acceptable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The frame is longer than allowed.
    #[error("read map frame: {length} bytes announced, at most {limit} allowed")]
    TooLong {
        /// Announced length.
        length: usize,
        /// Allowed length.
        limit: usize,
    },
}

/// Puts a body into a frame.
///
/// # Errors
///
/// If the body is longer than [`MAX_FRAME`].
pub fn encode_frame(body: &[u8]) -> Result<Vec<u8>, FrameError> {
    let too_long = FrameError::TooLong {
        length: body.len(),
        limit: MAX_FRAME,
    };
    if body.len() > MAX_FRAME {
        return Err(too_long);
    }
    let length = u32::try_from(body.len()).map_err(|_| too_long)?;
    let mut frame = Vec::with_capacity(LENGTH_SIZE + body.len());
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(body);
    Ok(frame)
}

/// Takes frames apart that arrive in arbitrary pieces.
#[derive(Debug)]
pub struct FrameDecoder {
    buffer: Vec<u8>,
    limit: usize,
}

impl Default for FrameDecoder {
    fn default() -> Self {
        Self::new(MAX_FRAME)
    }
}

impl FrameDecoder {
    /// A decoder that refuses frames with bodies longer than `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            buffer: Vec::new(),
            limit,
        }
    }

    /// Adds bytes from the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The body of the next complete frame, or `None` while more bytes are needed.
    ///
    /// # Errors
    ///
    /// If a frame is too long. The stream cannot be used any further.
    pub fn next_frame(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        let Some((length, rest)) = self.buffer.split_first_chunk::<LENGTH_SIZE>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        if length > self.limit {
            return Err(FrameError::TooLong {
                length,
                limit: self.limit,
            });
        }
        let Some(body) = rest.get(..length).map(<[u8]>::to_vec) else {
            return Ok(None);
        };
        self.buffer.drain(..LENGTH_SIZE + length);
        Ok(Some(body))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn frame_is_little_endian() {
        assert_eq!(encode_frame(b"{}").unwrap(), [2, 0, 0, 0, b'{', b'}']);
    }

    #[test]
    fn frame_is_refused_when_longer_than_the_limit() {
        let mut decoder = FrameDecoder::new(8);
        decoder.push(&9_u32.to_le_bytes());
        assert_eq!(decoder.next_frame(), Err(FrameError::TooLong { length: 9, limit: 8 }));
    }

    proptest! {
        #[test]
        fn frames_round_trip_in_any_pieces(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..8),
            piece in 1_usize..50,
        ) {
            let stream: Vec<u8> = bodies.iter().flat_map(|body| encode_frame(body).unwrap()).collect();
            let mut decoder = FrameDecoder::default();
            let mut out = Vec::new();
            for bytes in stream.chunks(piece) {
                decoder.push(bytes);
                while let Some(body) = decoder.next_frame().unwrap() {
                    out.push(body);
                }
            }
            prop_assert_eq!(out, bodies);
        }

        #[test]
        fn decoder_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut decoder = FrameDecoder::new(64);
            decoder.push(&bytes);
            while let Ok(Some(_)) = decoder.next_frame() {}
        }
    }
}
