//! The outer form of a Noise connection to a control server: the upgrade headers, the messages of the handshake, the
//! headers of records, and the message that may come before HTTP/2.
//!
//! The handshake's cryptography and the records' encryption are those of `ts_noise` and `ts_control_noise`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Path of the upgrade request.
pub const UPGRADE_PATH: &str = "/ts2021";
/// Value of the `Upgrade` header, in the request and in the answer with status 101.
pub const UPGRADE_PROTOCOL: &str = "tailscale-control-protocol";
/// Header of the request that carries the first handshake message in standard base64.
pub const HANDSHAKE_HEADER: &str = "X-Tailscale-Handshake";

/// Bytes of a record's or a handshake message's header: a type, then a length in two bytes, big-endian.
pub const HEADER_SIZE: usize = 3;
/// The most bytes of a record, header included.
pub const MAX_RECORD: usize = 4096;
/// Bytes that encryption adds to a record's plaintext.
pub const TAG_SIZE: usize = 16;

const VERSION_SIZE: usize = 2;
const INITIATION: u8 = 1;
const RESPONSE: u8 = 2;
const ERROR: u8 = 3;
const RECORD: u8 = 4;
const INITIATION_SIZE: usize = 96;
const RESPONSE_SIZE: usize = 48;
const EARLY_MAGIC: [u8; 5] = [0xff, 0xff, 0xff, b'T', b'S'];

/// Bytes of the header of an early payload: a magic that no HTTP/2 frame starts with, then a length in four bytes.
pub const EARLY_HEADER_SIZE: usize = EARLY_MAGIC.len() + 4;

/// A message does not have the form it must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoiseFormatError {
    /// The handshake header is not base64.
    #[error("read handshake header: not base64")]
    NotBase64,
    /// The first handshake message is malformed.
    #[error("read handshake message: not an initiation")]
    NotInitiation,
    /// A record's header is malformed.
    #[error("read record header: type {kind}, length {length}")]
    BadRecord {
        /// The type byte.
        kind: u8,
        /// The announced length.
        length: usize,
    },
}

/// The prologue that both sides mix into the handshake.
pub fn prologue(version: u16) -> String {
    format!("Tailscale Control Protocol v{version}")
}

/// The first message of the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Initiation {
    /// The client's capability version.
    pub version: u16,
    /// The Noise message.
    pub payload: [u8; INITIATION_SIZE],
}

impl Initiation {
    /// Reads the message from the value of [`HANDSHAKE_HEADER`].
    pub fn from_header(value: &[u8]) -> Result<Self, NoiseFormatError> {
        let bytes = STANDARD.decode(value).map_err(|_| NoiseFormatError::NotBase64)?;
        let not_initiation = NoiseFormatError::NotInitiation;
        let (version, rest) = bytes.split_first_chunk::<VERSION_SIZE>().ok_or(not_initiation)?;
        let (header, payload) = rest.split_first_chunk::<HEADER_SIZE>().ok_or(not_initiation)?;
        if header_of(*header) != (INITIATION, INITIATION_SIZE) {
            return Err(not_initiation);
        }
        let payload = payload.try_into().map_err(|_| not_initiation)?;
        Ok(Self {
            version: u16::from_be_bytes(*version),
            payload,
        })
    }

    /// The value of [`HANDSHAKE_HEADER`].
    pub fn to_header(&self) -> String {
        let mut bytes = Vec::with_capacity(VERSION_SIZE + HEADER_SIZE + INITIATION_SIZE);
        bytes.extend_from_slice(&self.version.to_be_bytes());
        bytes.extend_from_slice(&[INITIATION, 0, 96]);
        bytes.extend_from_slice(&self.payload);
        STANDARD.encode(bytes)
    }
}

/// The second message of the handshake: the server sends it as the first bytes after the status 101.
pub fn response(payload: &[u8; RESPONSE_SIZE]) -> Vec<u8> {
    let mut bytes = vec![RESPONSE, 0, 48];
    bytes.extend_from_slice(payload);
    bytes
}

/// Checks the header of a message that arrives after the handshake, as far as it is there: a type that is known and a
/// length that leaves room for the tag. The codec of `ts_control_noise` must not see a record that fails this, because
/// it takes the tag off without looking at the length.
pub fn check_record(bytes: &[u8]) -> Result<(), NoiseFormatError> {
    let Some((header, _)) = bytes.split_first_chunk::<HEADER_SIZE>() else {
        return Ok(());
    };
    let (kind, length) = header_of(*header);
    let acceptable = match kind {
        RECORD => (TAG_SIZE..=MAX_RECORD - HEADER_SIZE).contains(&length),
        ERROR => length <= MAX_RECORD - HEADER_SIZE,
        _ => false,
    };
    if acceptable {
        Ok(())
    } else {
        Err(NoiseFormatError::BadRecord { kind, length })
    }
}

/// Puts the JSON of an [`EarlyNoise`](crate::control::EarlyNoise) into its frame.
pub fn early_payload(json: &[u8]) -> Vec<u8> {
    let length = u32::try_from(json.len()).unwrap_or(u32::MAX);
    [&EARLY_MAGIC[..], &length.to_be_bytes(), json].concat()
}

/// What the first bytes after the handshake say: the length of the JSON of an early payload that follows them, or
/// `None` when they belong to HTTP/2 already. A caller should refuse lengths that it does not want to hold.
pub fn early_payload_length(header: [u8; EARLY_HEADER_SIZE]) -> Option<u32> {
    let [magic @ .., a, b, c, d] = header;
    (magic == EARLY_MAGIC).then(|| u32::from_be_bytes([a, b, c, d]))
}

fn header_of([kind, high, low]: [u8; HEADER_SIZE]) -> (u8, usize) {
    (kind, usize::from(u16::from_be_bytes([high, low])))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn record_without_room_for_its_tag_is_refused() {
        assert_eq!(
            check_record(&[4, 0, 15, 1, 2]),
            Err(NoiseFormatError::BadRecord { kind: 4, length: 15 })
        );
        assert_eq!(check_record(&[4, 0, 16]), Ok(()));
        assert_eq!(check_record(&[4, 0]), Ok(()));
    }

    #[test]
    fn message_of_unknown_type_or_too_long_is_refused() {
        assert!(check_record(&[9, 0, 20]).is_err());
        assert!(check_record(&[4, 0xff, 0xff]).is_err());
    }

    #[test]
    fn early_payload_differs_from_http2() {
        let framed = early_payload(b"{}");
        assert_eq!(
            early_payload_length(framed[..EARLY_HEADER_SIZE].try_into().unwrap()),
            Some(2)
        );
        assert_eq!(early_payload_length([0, 0, 18, 4, 0, 0, 0, 0, 0]), None);
    }

    proptest! {
        #[test]
        fn initiation_round_trips(version: u16, payload: [u8; 32]) {
            let payload: [u8; INITIATION_SIZE] = payload.repeat(3).try_into().unwrap();
            let initiation = Initiation { version, payload };
            prop_assert_eq!(Initiation::from_header(initiation.to_header().as_bytes()), Ok(initiation));
        }

        #[test]
        fn initiation_never_panics(value in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Initiation::from_header(&value);
            let _ = Initiation::from_header(STANDARD.encode(&value).as_bytes());
        }
    }
}
