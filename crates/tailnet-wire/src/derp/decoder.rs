//! Takes frames apart that arrive in arbitrary pieces.

use super::{Frame, FrameError, HEADER, MAX_FRAME};

/// Takes frames apart that arrive in arbitrary pieces. It holds at most one frame and what was pushed last.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    /// Bytes at the start of the buffer that are used up.
    used: usize,
}

impl Decoder {
    /// Adds bytes from the connection.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.used);
        self.used = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next frame; nothing until more bytes come.
    ///
    /// # Errors
    /// [`FrameError`]; the connection is of no use any more.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let rest = &self.buffer[self.used..];
        let Some((&[kind, a, b, c, d], content)) = rest.split_first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        if length > MAX_FRAME {
            return Err(FrameError::TooLong {
                kind,
                length,
                limit: MAX_FRAME,
            });
        }
        let Some(content) = content.get(..length) else {
            return Ok(None);
        };
        let frame = Frame::decode(kind, content)?;
        self.used += HEADER + length;
        Ok(Some(frame))
    }
}
