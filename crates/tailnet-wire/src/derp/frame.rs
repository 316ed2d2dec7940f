//! Frames and their encoding.

use super::HEADER;
use super::info::NONCE;
use crate::keys::NodeKey;

/// What the server's first frame begins with: `DERP` and a key.
const MAGIC: &[u8; 8] = b"DERP\xf0\x9f\x94\x91";

const KEY: usize = 32;

/// Bytes of a ping.
const PING: usize = 8;

/// A frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// The server's first: its key, a Curve25519 public key.
    ServerKey([u8; KEY]),
    /// The client's first: who it is, and its information sealed for the server's key.
    ClientInfo {
        /// The node's WireGuard key.
        key: NodeKey,
        /// Of the sealed information.
        nonce: [u8; NONCE],
        /// The information.
        sealed: Vec<u8>,
    },
    /// The server's answer, sealed for the client.
    ServerInfo {
        /// Of the sealed information.
        nonce: [u8; NONCE],
        /// The information.
        sealed: Vec<u8>,
    },
    /// From a client: pass a datagram on.
    Send {
        /// Whom to.
        to: NodeKey,
        /// The datagram.
        packet: Vec<u8>,
    },
    /// From the server: a datagram for this client.
    Receive {
        /// Whom from.
        from: NodeKey,
        /// The datagram.
        packet: Vec<u8>,
    },
    /// From the server, so that a silent connection is known to live.
    KeepAlive,
    /// From a client: whether this relay is its home.
    NotePreferred(bool),
    /// From the server: a datagram to this peer could not be passed on, or one that was spoken to has left.
    PeerGone {
        /// The peer.
        key: NodeKey,
        /// Why.
        reason: GoneReason,
    },
    /// From either side: answer with the same bytes.
    Ping([u8; PING]),
    /// The answer.
    Pong([u8; PING]),
    /// From the server: what is wrong with the client or its connection, in words; empty for nothing any more.
    Health(String),
    /// From the server: it is about to restart.
    Restarting {
        /// Milliseconds to wait before connecting again.
        reconnect_in: u32,
        /// Milliseconds to go on trying.
        try_for: u32,
    },
    /// A kind that is not known, to be ignored.
    Unknown(u8),
}

/// Why a peer is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GoneReason {
    /// It has left.
    Disconnected,
    /// It was not there.
    NotHere,
    /// Another reason.
    Other(u8),
}

/// A frame is not as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// It is longer than allowed.
    #[error("read DERP frame of kind {kind}: {length} bytes announced, at most {limit} allowed")]
    TooLong {
        /// Its kind.
        kind: u8,
        /// Announced length.
        length: usize,
        /// Allowed length.
        limit: usize,
    },
    /// It is shorter than its kind demands, or its magic is wrong.
    #[error("read DERP frame of kind {kind}: malformed")]
    Malformed {
        /// Its kind.
        kind: u8,
    },
}

impl GoneReason {
    fn from_byte(byte: u8) -> Self {
        match byte {
            0 => Self::Disconnected,
            1 => Self::NotHere,
            other => Self::Other(other),
        }
    }

    fn to_byte(self) -> u8 {
        match self {
            Self::Disconnected => 0,
            Self::NotHere => 1,
            Self::Other(other) => other,
        }
    }
}

impl Frame {
    fn kind(&self) -> u8 {
        match self {
            Self::ServerKey(_) => 0x01,
            Self::ClientInfo { .. } => 0x02,
            Self::ServerInfo { .. } => 0x03,
            Self::Send { .. } => 0x04,
            Self::Receive { .. } => 0x05,
            Self::KeepAlive => 0x06,
            Self::NotePreferred(_) => 0x07,
            Self::PeerGone { .. } => 0x08,
            Self::Ping(_) => 0x12,
            Self::Pong(_) => 0x13,
            Self::Health(_) => 0x14,
            Self::Restarting { .. } => 0x15,
            Self::Unknown(kind) => *kind,
        }
    }

    /// Adds the frame to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.kind());
        let at = out.len();
        out.extend([0; HEADER - 1]);
        self.encode_content(out);
        let length = u32::try_from(out.len() - at - (HEADER - 1)).unwrap_or(u32::MAX);
        out[at..at + HEADER - 1].copy_from_slice(&length.to_be_bytes());
    }

    fn encode_content(&self, out: &mut Vec<u8>) {
        match self {
            Self::ServerKey(key) => {
                out.extend_from_slice(MAGIC);
                out.extend_from_slice(key);
            }
            Self::ClientInfo { key, nonce, sealed } => {
                out.extend_from_slice(key.as_bytes());
                out.extend_from_slice(nonce);
                out.extend_from_slice(sealed);
            }
            Self::ServerInfo { nonce, sealed } => {
                out.extend_from_slice(nonce);
                out.extend_from_slice(sealed);
            }
            Self::Send { to: key, packet } | Self::Receive { from: key, packet } => {
                out.extend_from_slice(key.as_bytes());
                out.extend_from_slice(packet);
            }
            Self::KeepAlive | Self::Unknown(_) => {}
            Self::NotePreferred(preferred) => out.push(u8::from(*preferred)),
            Self::PeerGone { key, reason } => {
                out.extend_from_slice(key.as_bytes());
                out.push(reason.to_byte());
            }
            Self::Ping(bytes) | Self::Pong(bytes) => out.extend_from_slice(bytes),
            Self::Health(problem) => out.extend_from_slice(problem.as_bytes()),
            Self::Restarting { reconnect_in, try_for } => {
                out.extend_from_slice(&reconnect_in.to_be_bytes());
                out.extend_from_slice(&try_for.to_be_bytes());
            }
        }
    }

    /// Reads the content of a frame. Bytes that later versions added behind are ignored.
    pub(super) fn decode(kind: u8, content: &[u8]) -> Result<Self, FrameError> {
        Self::try_decode(kind, content).ok_or(FrameError::Malformed { kind })
    }

    fn try_decode(kind: u8, content: &[u8]) -> Option<Self> {
        let key = |rest: &[u8]| Some(NodeKey::from_bytes(*rest.first_chunk()?));
        Some(match kind {
            0x01 => Self::ServerKey(*content.strip_prefix(MAGIC)?.first_chunk()?),
            0x02 => Self::ClientInfo {
                key: key(content)?,
                nonce: *content.get(KEY..)?.first_chunk()?,
                sealed: content.get(KEY + NONCE..)?.to_vec(),
            },
            0x03 => Self::ServerInfo {
                nonce: *content.first_chunk()?,
                sealed: content.get(NONCE..)?.to_vec(),
            },
            0x04 => Self::Send {
                to: key(content)?,
                packet: content.get(KEY..)?.to_vec(),
            },
            0x05 => Self::Receive {
                from: key(content)?,
                packet: content.get(KEY..)?.to_vec(),
            },
            0x06 => Self::KeepAlive,
            0x07 => Self::NotePreferred(*content.first()? != 0),
            0x08 => Self::PeerGone {
                key: key(content)?,
                reason: GoneReason::from_byte(content.get(KEY).copied().unwrap_or_default()),
            },
            0x12 => Self::Ping(*content.first_chunk()?),
            0x13 => Self::Pong(*content.first_chunk()?),
            0x14 => Self::Health(String::from_utf8_lossy(content).into_owned()),
            0x15 => Self::Restarting {
                reconnect_in: u32::from_be_bytes(*content.first_chunk()?),
                try_for: u32::from_be_bytes(*content.get(4..)?.first_chunk()?),
            },
            other => Self::Unknown(other),
        })
    }
}
