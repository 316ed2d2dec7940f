//! Doors to the codec of records.

use bytes::{Bytes, BytesMut};
use tokio_util::codec::{Decoder, Encoder};
use ts_control_noise::BiCodec;
use ts_noise::core::{Role, Session};

use super::CheckedCodec;

fn codec(key: [u8; 32], role: Role) -> CheckedCodec {
    CheckedCodec(BiCodec::from(Session {
        initiator_to_responder: key.into(),
        responder_to_initiator: key.into(),
        role,
    }))
}

pub(crate) fn write_records(key: [u8; 32], plain: &[&[u8]]) -> Vec<Vec<u8>> {
    let mut codec = codec(key, Role::Initiator);
    let write = |text: &&[u8]| {
        let mut bytes = BytesMut::new();
        codec
            .encode(Bytes::copy_from_slice(text), &mut bytes)
            .expect("text can be encrypted");
        bytes.to_vec()
    };
    plain.iter().map(write).collect()
}

pub(crate) fn read_records(key: [u8; 32], bytes: &[u8], piece: usize) -> (Vec<u8>, bool) {
    let mut codec = codec(key, Role::Responder);
    let (mut buffer, mut plain) = (BytesMut::new(), Vec::new());
    for piece in bytes.chunks(piece.max(1)) {
        buffer.extend_from_slice(piece);
        loop {
            let before = buffer.len();
            match codec.decode(&mut buffer) {
                Ok(Some(record)) => plain.extend_from_slice(&record),
                // Messages of errors are skipped.
                Ok(None) if buffer.len() < before => {}
                Ok(None) => break,
                Err(_) => return (plain, false),
            }
        }
    }
    (plain, true)
}
