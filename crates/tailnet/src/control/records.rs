//! Checks the records of a Noise connection before the codec sees them: it takes a record's tag off without looking at the length.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use isthmus_tailnet_wire::noise::{HEADER_SIZE, check_record};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const RESPONSE: [u8; HEADER_SIZE] = [2, 0, 48];

/// A connection whose incoming bytes are the handshake's response and then well-formed records, or an error.
pub(crate) struct Checked<T> {
    inner: T,
    header: [u8; HEADER_SIZE],
    /// Bytes of the current header that are there.
    have: usize,
    /// Bytes of the current record that are still to come.
    remaining: usize,
    expects_response: bool,
}

impl<T> Checked<T> {
    pub(crate) fn new(inner: T) -> Self {
        Self {
            inner,
            header: [0; HEADER_SIZE],
            have: 0,
            remaining: 0,
            expects_response: true,
        }
    }

    fn follow(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let skipped = self.remaining.min(bytes.len());
            self.remaining -= skipped;
            bytes = &bytes[skipped..];
            let Some((byte, rest)) = bytes.split_first() else { break };
            bytes = rest;
            self.header[self.have] = *byte;
            self.have += 1;
            if self.have == HEADER_SIZE {
                self.begin_record()?;
            }
        }
        Ok(())
    }

    fn begin_record(&mut self) -> io::Result<()> {
        let is_response = std::mem::take(&mut self.expects_response);
        if is_response && self.header != RESPONSE {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the Noise handshake was not answered",
            ));
        }
        if !is_response {
            check_record(&self.header).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        }
        self.have = 0;
        self.remaining = usize::from(u16::from_be_bytes([self.header[1], self.header[2]]));
        Ok(())
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Checked<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        let followed = self.follow(&buf.filled()[before..]);
        if followed.is_err() {
            buf.set_filled(before);
        }
        Poll::Ready(followed)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Checked<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn read(chunks: &[&[u8]]) -> io::Result<usize> {
        let (mut near, far) = tokio::io::duplex(4096);
        for chunk in chunks {
            near.write_all(chunk).await?;
        }
        drop(near);
        let mut all = Vec::new();
        Checked::new(far).read_to_end(&mut all).await
    }

    fn response() -> Vec<u8> {
        [&RESPONSE[..], &[7; 48]].concat()
    }

    #[tokio::test]
    async fn records_pass_in_any_pieces() {
        let stream = [response(), vec![4, 0, 17], vec![0; 17], vec![4, 0, 16], vec![0; 16]].concat();
        for piece in 1..stream.len() {
            let chunks: Vec<&[u8]> = stream.chunks(piece).collect();
            assert_eq!(read(&chunks).await.unwrap(), stream.len());
        }
    }

    #[tokio::test]
    async fn record_without_room_for_its_tag_ends_the_connection() {
        assert!(read(&[&response(), &[4, 0, 15], &[0; 15]]).await.is_err());
    }

    #[tokio::test]
    async fn connection_ends_when_the_first_message_is_no_response() {
        assert!(read(&[&[4, 0, 17]]).await.is_err());
        assert!(read(&[&[2, 0xff, 0xff]]).await.is_err());
    }
}
