//! What client and server tell each other at the start, sealed so that each proves to hold its key (NaCl box).

use crypto_box::aead::Aead;
use crypto_box::{PublicKey, SalsaBox, SecretKey};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::object::wire_struct;

/// Bytes of a nonce.
pub const NONCE: usize = 24;

wire_struct! {
    /// What a client tells a relay.
    pub struct ClientInfo {
        /// The version of the protocol.
        omit "version" => version: i64,
        /// Whether the client answers pings.
        always "CanAckPings" => can_ack_pings: bool,
        /// Whether the client only measures.
        omit "IsProber" => is_prober: bool,
    }
}

wire_struct! {
    /// What a relay tells a client.
    pub struct ServerInfo {
        /// The version of the protocol.
        omit "version" => version: i64,
        /// Bytes a second that the client should not exceed; 0 for any number.
        omit "TokenBucketBytesPerSecond" => bytes_per_second: i64,
        /// Bytes that may be sent at once.
        omit "TokenBucketBytesBurst" => bytes_burst: i64,
    }
}

/// Information cannot be sealed or opened: a key or the content is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("open the information of a DERP connection: it is not sealed for this side, or is not what is expected")]
pub struct InfoError;

/// Seals information from the holder of a private key for that of a public key. The nonce must never be used twice.
///
/// # Errors
/// [`InfoError`] when nothing can be sealed for this key.
pub fn seal_info(
    info: &impl Serialize,
    private: &[u8; 32],
    public: &[u8; 32],
    nonce: &[u8; NONCE],
) -> Result<Vec<u8>, InfoError> {
    let json = serde_json::to_vec(info).map_err(|_| InfoError)?;
    salsa_box(private, public)
        .encrypt(&(*nonce).into(), &json[..])
        .map_err(|_| InfoError)
}

/// Opens information that the holder of the public key's private half sealed.
///
/// # Errors
/// [`InfoError`] when he did not, or it is not what is expected.
pub fn open_info<T: DeserializeOwned>(
    sealed: &[u8],
    private: &[u8; 32],
    public: &[u8; 32],
    nonce: &[u8; NONCE],
) -> Result<T, InfoError> {
    let json = salsa_box(private, public)
        .decrypt(&(*nonce).into(), sealed)
        .map_err(|_| InfoError)?;
    serde_json::from_slice(&json).map_err(|_| InfoError)
}

/// The public half of a private key.
pub fn public_key(private: &[u8; 32]) -> [u8; 32] {
    *SecretKey::from(*private).public_key().as_bytes()
}

fn salsa_box(private: &[u8; 32], public: &[u8; 32]) -> SalsaBox {
    SalsaBox::new(&PublicKey::from(*public), &SecretKey::from(*private))
}
