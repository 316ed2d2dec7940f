//! The server's end of a Noise connection as a byte stream.

pub(crate) mod fuzzing;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{Sink, Stream};
use isthmus_tailnet_wire::keys::MachineKey;
use isthmus_tailnet_wire::noise::{HEADER_SIZE, Initiation, MAX_RECORD, TAG_SIZE, check_record, prologue};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::codec::{Decoder, Encoder, Framed};
use ts_control_noise::BiCodec;
use ts_keys::MachineKeyPair;
use ts_noise::core::Session;
use ts_noise::ik::ReceivedHandshake;

/// A handshake that a client began and this server answered.
pub(crate) struct Accepted {
    /// The machine that proved to hold its key.
    pub(crate) machine: MachineKey,
    /// The capability version it speaks.
    pub(crate) version: u16,
    /// The answer to send.
    pub(crate) response: [u8; ReceivedHandshake::RESP_SIZE],
    /// The session's keys.
    pub(crate) session: Session,
}

/// Answers the first message of a handshake; `None` when it is not meant for this server's key.
pub(crate) fn accept(initiation: &Initiation, own: &MachineKeyPair) -> Option<Accepted> {
    let mut packet = initiation.payload;
    let prologue = prologue(initiation.version);
    let handshake = ReceivedHandshake::new(&mut packet, prologue.as_bytes(), &own.to_x25519_dalek())?;
    let machine = MachineKey::from_bytes(handshake.peer_static_pub.to_bytes());
    let mut response = [0; ReceivedHandshake::RESP_SIZE];
    let session = handshake.finish(&mut response);
    Some(Accepted {
        machine,
        version: initiation.version,
        response,
        session,
    })
}

/// The records' codec behind a check of each header: the codec itself panics on a record that is too short for its tag,
/// and such a record needs no key to send.
struct CheckedCodec(BiCodec);

impl Decoder for CheckedCodec {
    type Item = BytesMut;
    type Error = io::Error;

    fn decode(&mut self, source: &mut BytesMut) -> io::Result<Option<BytesMut>> {
        check_record(source).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        self.0.decode(source)
    }
}

impl Encoder<Bytes> for CheckedCodec {
    type Error = io::Error;

    fn encode(&mut self, plain: Bytes, target: &mut BytesMut) -> io::Result<()> {
        self.0.encode(plain, target)
    }
}

/// The most plaintext of one record.
const CHUNK: usize = MAX_RECORD - HEADER_SIZE - TAG_SIZE;

/// Encrypts what is written and decrypts what is read.
pub(crate) struct NoiseIo<T> {
    records: Framed<T, CheckedCodec>,
    unread: BytesMut,
}

impl<T: AsyncRead + AsyncWrite> NoiseIo<T> {
    /// The stream of a session over a connection whose handshake is done.
    pub(crate) fn new(connection: T, session: Session) -> Self {
        Self {
            records: Framed::new(connection, CheckedCodec(BiCodec::from(session))),
            unread: BytesMut::new(),
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for NoiseIo<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // A record may be empty, which must not read as the end of the stream.
        while self.unread.is_empty() {
            match ready!(Pin::new(&mut self.records).poll_next(cx)) {
                Some(record) => self.unread = record?,
                None => return Poll::Ready(Ok(())),
            }
        }
        let length = self.unread.len().min(buf.remaining());
        buf.put_slice(&self.unread[..length]);
        self.unread.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for NoiseIo<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, plain: &[u8]) -> Poll<io::Result<usize>> {
        ready!(Pin::new(&mut self.records).poll_ready(cx))?;
        let length = plain.len().min(CHUNK);
        Pin::new(&mut self.records).start_send(Bytes::copy_from_slice(&plain[..length]))?;
        Poll::Ready(Ok(length))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.records).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.records).poll_close(cx)
    }
}

#[cfg(test)]
mod tests;
