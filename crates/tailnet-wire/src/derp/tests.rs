use proptest::prelude::*;

use super::*;
use crate::keys::NodeKey;

fn frames() -> Vec<Frame> {
    let key = NodeKey::from_bytes([7; 32]);
    vec![
        Frame::ServerKey([1; 32]),
        Frame::ClientInfo {
            key,
            nonce: [2; NONCE],
            sealed: b"sealed".to_vec(),
        },
        Frame::ServerInfo {
            nonce: [3; NONCE],
            sealed: Vec::new(),
        },
        Frame::Send {
            to: key,
            packet: b"packet".to_vec(),
        },
        Frame::Receive {
            from: key,
            packet: Vec::new(),
        },
        Frame::KeepAlive,
        Frame::NotePreferred(true),
        Frame::PeerGone {
            key,
            reason: GoneReason::NotHere,
        },
        Frame::Ping(*b"12345678"),
        Frame::Pong(*b"87654321"),
        Frame::Health("too slow".into()),
        Frame::Restarting {
            reconnect_in: 100,
            try_for: 5000,
        },
        Frame::Unknown(0x77),
    ]
}

#[test]
fn bytes_are_those_of_the_go_programs() {
    let encode = |frame: &Frame| {
        let mut out = Vec::new();
        frame.encode(&mut out);
        out
    };
    let key = encode(&Frame::ServerKey([9; 32]));
    assert_eq!(key[..13], *b"\x01\0\0\0\x28DERP\xf0\x9f\x94\x91");
    let packet = Frame::Send {
        to: NodeKey::from_bytes([4; 32]),
        packet: b"hi".to_vec(),
    };
    assert_eq!(encode(&packet)[..6], *b"\x04\0\0\0\x22\x04");
    assert_eq!(encode(&Frame::Ping(*b"abcdefgh")), b"\x12\0\0\0\x08abcdefgh");
    let gone = Frame::PeerGone {
        key: NodeKey::from_bytes([4; 32]),
        reason: GoneReason::Disconnected,
    };
    assert_eq!(encode(&gone).len(), HEADER + 33);
}

#[test]
fn peer_gone_without_a_reason_is_one_that_left() {
    let mut decoder = Decoder::default();
    decoder.push(b"\x08\0\0\0\x20");
    decoder.push(&[4; 32]);
    let expected = Frame::PeerGone {
        key: NodeKey::from_bytes([4; 32]),
        reason: GoneReason::Disconnected,
    };
    assert_eq!(decoder.next_frame(), Ok(Some(expected)));
}

#[test]
fn frames_that_are_too_long_or_too_short_are_refused() {
    let refused = |bytes: &[u8]| {
        let mut decoder = Decoder::default();
        decoder.push(bytes);
        decoder.next_frame().expect_err("must be refused")
    };
    assert!(matches!(
        refused(b"\x04\xff\xff\xff\xff"),
        FrameError::TooLong { kind: 4, .. }
    ));
    assert_eq!(refused(b"\x12\0\0\0\x02ab"), FrameError::Malformed { kind: 0x12 });
    assert_eq!(refused(b"\x01\0\0\0\x02ab"), FrameError::Malformed { kind: 1 });
}

#[test]
fn information_is_opened_by_its_receiver_alone() {
    let public = |private: [u8; 32]| *crypto_box::SecretKey::from(private).public_key().as_bytes();
    let (client, server, stranger) = ([1; 32], [2; 32], [3; 32]);
    let info = ClientInfo {
        version: VERSION,
        can_ack_pings: true,
        ..ClientInfo::default()
    };
    let sealed = seal_info(&info, &client, &public(server), &[5; NONCE]).unwrap();
    let open = |private, from| open_info::<ClientInfo>(&sealed, private, &public(from), &[5; NONCE]);
    assert_eq!(open(&server, client), Ok(info));
    assert_eq!(open(&server, stranger), Err(InfoError));
    assert_eq!(open(&stranger, client), Err(InfoError));
}

proptest! {
    #[test]
    fn frames_come_back_in_any_pieces(size in 1..40_usize) {
        let mut bytes = Vec::new();
        for frame in frames() {
            frame.encode(&mut bytes);
        }
        let (mut decoder, mut back) = (Decoder::default(), Vec::new());
        for piece in bytes.chunks(size) {
            decoder.push(piece);
            while let Some(frame) = decoder.next_frame().unwrap() {
                back.push(frame);
            }
        }
        prop_assert_eq!(back, frames());
    }

    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut decoder = Decoder::default();
        decoder.push(&bytes);
        while let Ok(Some(_)) = decoder.next_frame() {}
    }
}
