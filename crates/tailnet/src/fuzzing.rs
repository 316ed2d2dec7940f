//! Doors to readers of outside bytes that are private otherwise, for the targets in `fuzz/`.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use isthmus_tailnet_core::disco::Message;
use isthmus_tailnet_core::key::DiscoKey;
use isthmus_tailnet_core::packet_io::{Offload, SegmentProtocol};
use isthmus_tailnet_core::wireguard::{DATA_HEADER, DATA_TAG};
use isthmus_tailnet_wire::control::MapResponse;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

use crate::control::{AfterEarly, Checked, c2n};
use crate::disco::DiscoBox;
use crate::node::NodePrefs;
use crate::segment;

pub use crate::dns::fuzzing::{Answered, answer_question, is_answer, name_servers};

/// Opens a disco datagram for the holder of a private key; see `DiscoBox::open`.
pub fn open_disco(private: &str, datagram: &mut [u8]) -> Option<(DiscoKey, Message)> {
    DiscoBox::parse(private)?.open(datagram, |_| true)
}

/// Seals a disco message of the holder of a private key; see `DiscoBox::seal`.
pub fn seal_disco(private: &str, to: &DiscoKey, message: &Message) -> Option<Vec<u8>> {
    DiscoBox::parse(private)?.seal(to, message)
}

/// Reads a frame of a map stream, compressed or not; nothing for what is no message.
pub fn read_map_frame(frame: &[u8]) -> Option<MapResponse> {
    crate::control::read_message(frame).ok()
}

/// Answers a request of control; see `c2n::answer`.
pub fn answer_control(request: &[u8]) -> Vec<u8> {
    c2n::answer(request, &NodePrefs::default())
}

/// What HTTP/2 gets of the bytes after a handshake that arrive in pieces.
///
/// # Errors
/// When the bytes before HTTP/2 are refused.
pub fn after_early(bytes: &[u8], piece: usize) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    let mut stream = AfterEarly::new(Pieces { bytes, piece });
    let end = stream.read_to_end(&mut all).now_or_never();
    end.unwrap_or_else(|| Err(io::ErrorKind::WouldBlock.into()))?;
    Ok(all)
}

/// What the codec of records gets of the bytes after a handshake's request that arrive in pieces.
///
/// # Errors
/// When the answer to the handshake, or the head of a record, is refused.
pub fn after_checks(bytes: &[u8], piece: usize) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    let mut stream = Checked::new(Pieces { bytes, piece });
    let end = stream.read_to_end(&mut all).now_or_never();
    end.unwrap_or_else(|| Err(io::ErrorKind::WouldBlock.into()))?;
    Ok(all)
}

struct Pieces<'a> {
    bytes: &'a [u8],
    piece: usize,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let count = self.bytes.len().min(self.piece.max(1)).min(buf.remaining());
        let (now, later) = self.bytes.split_at(count);
        buf.put_slice(now);
        self.bytes = later;
        Poll::Ready(Ok(()))
    }
}

/// Completes the checksum of a packet; false when its place lies outside of it.
pub fn complete_checksum(packet: &mut [u8], start: u16, offset: u16) -> bool {
    segment::complete_checksum(packet, Offload::Checksum { start, offset })
}

/// Cuts a super-packet; gives the packets that came of it, each with its padding, without the room around it.
///
/// # Errors
/// When headers and segmentation do not fit together.
pub fn cut(packet: &mut [u8], how: (SegmentProtocol, u16, u16), mtu: usize) -> io::Result<Vec<Vec<u8>>> {
    let mut batch = Vec::new();
    let cut = segment::cut(packet, how, mtu, &mut batch)?;
    let datagrams: Vec<_> = batch[..cut.length].chunks(cut.stride).collect();
    assert_eq!(datagrams.len(), cut.packets, "as many datagrams as packets");
    let packet = |datagram: &&[u8]| datagram[DATA_HEADER..datagram.len() - DATA_TAG].to_vec();
    Ok(datagrams.iter().map(packet).collect())
}
