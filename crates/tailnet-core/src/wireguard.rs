//! The seam to the WireGuard implementation: sealing and opening of data, and handshakes with their timers.
//!
//! Message layouts: WireGuard paper, section 5.4.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Instant;

/// Bytes before the packet in a data message: type, receiver index, counter.
pub const DATA_HEADER: usize = 16;

/// Bytes after the packet in a data message: the authentication tag.
pub const DATA_TAG: usize = 16;

/// Bytes that a data message is longer than its packet.
pub const DATA_OVERHEAD: usize = DATA_HEADER + DATA_TAG;

/// Bytes of the longest message that is not a data message: the handshake initiation.
pub const MAX_HANDSHAKE_MESSAGE: usize = 148;

/// The session keys of one peer. Shared by the threads that seal and open.
///
/// A strided batch is a buffer of datagrams of `stride` bytes each, of which only the last may be shorter: what one system
/// call with UDP segmentation sends, and what one with receive coalescing gives.
pub trait Transport: Send + Sync {
    /// Seals a strided batch of at least one packet into `sealed`, which is as long. In each datagram of `plain` the packet
    /// stands at [`DATA_HEADER`] and ends [`DATA_TAG`] before the datagram does; the bytes around it mean nothing.
    ///
    /// # Errors
    /// [`NoSession`] when there are no keys to seal with.
    fn seal(&self, plain: &[u8], sealed: &mut [u8], stride: usize) -> Result<(), NoSession>;

    /// Opens a strided batch of data messages into `opened`, which is at least as long, and adds to `packets` where in it
    /// each packet is now, without keep-alives, in order. What does not open (forged, replayed, too old) is counted and
    /// skipped.
    fn open(&self, batch: &[u8], stride: usize, opened: &mut [u8], packets: &mut Vec<Range<usize>>) -> Opened;

    /// Whether there are keys to seal with.
    fn is_ready(&self) -> bool;
}

/// There is no session to seal packets with; a handshake is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cannot seal packets: no session with the peer")]
pub struct NoSession;

/// What came of opening a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Opened {
    /// Authentic datagrams, keep-alives included.
    pub authentic: usize,
    /// Datagrams that did not open.
    pub refused: usize,
}

/// The handshakes and timers of one peer. Time comes in as an argument and never runs backwards.
pub trait Handshaker: Send + Sync {
    /// Begins a handshake. Gives the initiation to send, or nothing while one is in progress, unless it is to be begun
    /// `again`: because the last initiation cannot have arrived.
    fn initiate(&self, now: Instant, again: bool) -> Option<Message>;

    /// Takes a handshake initiation, a response or a cookie reply of the peer, from the address it came from: under load
    /// an initiation is answered only to an address that proved to be its sender's.
    ///
    /// # Errors
    /// [`HandshakeError`] when the message is not to be answered.
    fn handle(&self, message: &[u8], from: SocketAddr, now: Instant) -> Result<Handled, HandshakeError>;

    /// Does what time demands; to be called every 250 ms or so.
    fn tick(&self, now: Instant) -> Tick;
}

/// What came of a handshake message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Handled {
    /// What to send to where the message came from.
    pub answer: Option<Message>,
    /// The message proved that the peer made it now. A cookie reply proves nothing.
    pub authentic: bool,
}

/// What time demanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tick {
    /// What to send to the peer: an initiation or a keep-alive.
    pub message: Option<Message>,
    /// Whether anything is left to keep: a session, or a handshake in progress.
    pub alive: bool,
}

/// Why a handshake message is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// Not a handshake message of this peer for this node, or a replayed one.
    #[error("cannot take a handshake message: it is forged, replayed or not for this session")]
    Refused,
    /// There are too many handshakes to answer this one.
    #[error("cannot take a handshake message: too many came at once")]
    UnderLoad,
}

/// A short message: a handshake message or a keep-alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    bytes: [u8; MAX_HANDSHAKE_MESSAGE],
    length: usize,
}

impl Message {
    /// A message with these bytes, or nothing when they are more than [`MAX_HANDSHAKE_MESSAGE`].
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let mut message = Self {
            bytes: [0; MAX_HANDSHAKE_MESSAGE],
            length: bytes.len(),
        };
        message.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(message)
    }

    /// The bytes to send.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// What kind of datagram came in on the node's UDP socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatagramKind {
    /// A handshake initiation.
    Initiation,
    /// A handshake response or a cookie reply to the session with this index.
    Answer(u32),
    /// A data message to the session with this index.
    Data(u32),
    /// Not WireGuard: disco, STUN or noise.
    Other,
}

impl DatagramKind {
    /// Tells the kind from type and length.
    pub fn of(datagram: &[u8]) -> Self {
        let word = |at: usize| {
            datagram
                .get(at..at + 4)
                .map(|w| u32::from_le_bytes([w[0], w[1], w[2], w[3]]))
        };
        let (Some(kind), Some(second)) = (word(0), word(4)) else {
            return Self::Other;
        };
        match (kind, datagram.len()) {
            (1, 148) => Self::Initiation,
            (2, 92) => word(8).map_or(Self::Other, Self::Answer),
            (3, 64) => Self::Answer(second),
            (4, DATA_OVERHEAD..) => Self::Data(second),
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests;
