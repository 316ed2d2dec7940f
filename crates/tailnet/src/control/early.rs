//! Skips what a server may send between the Noise handshake and HTTP/2: a challenge that this node has no use for.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use isthmus_tailnet_wire::noise::{EARLY_HEADER_SIZE, early_payload_length};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Longest early payload that is skipped.
const MAX_EARLY: usize = 64 << 10;

/// A connection that begins with HTTP/2, whatever came before it.
pub(crate) struct AfterEarly<T> {
    inner: T,
    state: State,
}

enum State {
    /// The first bytes do not tell yet.
    Deciding {
        header: [u8; EARLY_HEADER_SIZE],
        have: usize,
    },
    /// Bytes of the early payload are still to come.
    Skipping(usize),
    /// The first bytes belong to HTTP/2; this many were handed on.
    Replaying {
        header: [u8; EARLY_HEADER_SIZE],
        have: usize,
        given: usize,
    },
    Passing,
}

impl<T> AfterEarly<T> {
    pub(crate) fn new(inner: T) -> Self {
        Self {
            inner,
            state: State::Deciding {
                header: [0; EARLY_HEADER_SIZE],
                have: 0,
            },
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for AfterEarly<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            match &mut this.state {
                State::Passing => return Pin::new(&mut this.inner).poll_read(cx, buf),
                State::Replaying { header, have, given } => {
                    let rest = &header[*given..*have];
                    let count = rest.len().min(buf.remaining());
                    buf.put_slice(&rest[..count]);
                    *given += count;
                    if given == have {
                        this.state = State::Passing;
                    }
                    return Poll::Ready(Ok(()));
                }
                State::Deciding { header, have } => {
                    let mut space = ReadBuf::new(&mut header[*have..]);
                    ready!(Pin::new(&mut this.inner).poll_read(cx, &mut space))?;
                    let count = space.filled().len();
                    *have += count;
                    let (header, have) = (*header, *have);
                    if have == EARLY_HEADER_SIZE {
                        this.state = decide(header)?;
                    } else if count == 0 {
                        this.state = State::Replaying { header, have, given: 0 };
                    }
                }
                State::Skipping(remaining) => {
                    let mut scratch = [0; 1024];
                    let want = scratch.len().min(*remaining);
                    let mut space = ReadBuf::new(&mut scratch[..want]);
                    ready!(Pin::new(&mut this.inner).poll_read(cx, &mut space))?;
                    let count = space.filled().len();
                    *remaining -= count;
                    if *remaining == 0 {
                        this.state = State::Passing;
                    } else if count == 0 {
                        return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                    }
                }
            }
        }
    }
}

fn decide(header: [u8; EARLY_HEADER_SIZE]) -> io::Result<State> {
    let Some(length) = early_payload_length(header) else {
        return Ok(State::Replaying {
            header,
            have: EARLY_HEADER_SIZE,
            given: 0,
        });
    };
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > MAX_EARLY {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the early payload is too long",
        ));
    }
    Ok(if length == 0 {
        State::Passing
    } else {
        State::Skipping(length)
    })
}

impl<T: AsyncWrite + Unpin> AsyncWrite for AfterEarly<T> {
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
    use isthmus_tailnet_wire::noise::early_payload;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn read(bytes: &[u8], piece: usize) -> io::Result<Vec<u8>> {
        let (mut near, far) = tokio::io::duplex(piece);
        let sent = bytes.to_vec();
        let sender = tokio::spawn(async move { near.write_all(&sent).await });
        let mut all = Vec::new();
        AfterEarly::new(far).read_to_end(&mut all).await?;
        sender.await.map_err(io::Error::other)??;
        Ok(all)
    }

    #[tokio::test]
    async fn early_payload_is_skipped_and_http2_passes() {
        let http2 = b"\0\0\x12\x04\0\0\0\0\0 and more than nine bytes";
        for piece in [1, 2, 7, 64] {
            let with = [&early_payload(br#"{"nodeKeyChallenge":""}"#), &http2[..]].concat();
            assert_eq!(read(&with, piece).await.unwrap(), http2);
            assert_eq!(read(http2, piece).await.unwrap(), http2);
        }
    }

    #[tokio::test]
    async fn endless_early_payload_is_refused() {
        let mut header = early_payload(b"");
        header[5] = 0xff;
        assert!(read(&header, 64).await.is_err());
    }
}
