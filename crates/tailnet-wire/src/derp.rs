//! DERP: frames by which a relay passes datagrams between nodes that know each other by key alone.
//!
//! A frame is one byte of kind, four bytes of length (big-endian), and that many bytes. The connection begins as an HTTP/1.1
//! upgrade at [`PATH`]; then the server sends its key, the client who it is, sealed for that key, and the server what it
//! demands. (Go client, `derp/derp.go`, protocol version 2.)

mod decoder;
mod frame;
mod info;

pub use decoder::Decoder;
pub use frame::{Frame, FrameError, GoneReason};
pub use info::{ClientInfo, InfoError, NONCE, ServerInfo, open_info, public_key, seal_info};

/// Where the upgrade happens.
pub const PATH: &str = "/derp";

/// The name of the protocol in the `Upgrade` header. Case does not matter.
pub const UPGRADE: &str = "DERP";

/// The version of the protocol.
pub const VERSION: i64 = 2;

/// The longest datagram that is relayed.
pub const MAX_PACKET: usize = 64 << 10;

/// The longest content of a frame that is accepted.
pub const MAX_FRAME: usize = 1 << 20;

/// Bytes of kind and length.
pub const HEADER: usize = 5;

#[cfg(test)]
mod tests;
