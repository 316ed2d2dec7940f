use std::net::SocketAddr;
use std::time::Instant;

use isthmus_tailnet_core::wireguard::{DATA_HEADER, DATA_OVERHEAD, Handshaker, NoSession, Opened, Transport};

use super::{Identity, Initiator, PrivateKey, Session};

const STRIDE: usize = 40 + DATA_OVERHEAD;

fn from() -> SocketAddr {
    "192.0.2.1:41641".parse().unwrap()
}

fn identity(seed: u8) -> (Identity, PrivateKey) {
    let key = PrivateKey::from_bytes([seed; 32]);
    (Identity::new(&key), key)
}

/// Two ends after a completed handshake: who began it, and who answered.
fn pair() -> (Session, Session) {
    let now = Instant::now();
    let ((a, a_key), (b, b_key)) = (identity(1), identity(2));
    let (initiator, responder) = (
        a.session(&b_key.public_key(), 7, None, now),
        b.session(&a_key.public_key(), 9, None, now),
    );
    let initiation = initiator.initiate(now, false).unwrap();
    assert_eq!(
        b.initiator(initiation.as_bytes(), from()),
        Initiator::Peer(a_key.public_key())
    );
    let answered = responder.handle(initiation.as_bytes(), from(), now).unwrap();
    assert!(answered.authentic);
    let done = initiator
        .handle(answered.answer.unwrap().as_bytes(), from(), now)
        .unwrap();
    assert!(done.authentic);
    let keepalive = done.answer.unwrap().as_bytes().to_vec();
    assert_eq!(
        open(&responder, &keepalive).0,
        Opened {
            authentic: 1,
            refused: 0
        }
    );
    (initiator, responder)
}

fn seal(session: &Session, plain: &[u8]) -> Vec<u8> {
    let mut sealed = vec![0; plain.len()];
    session.seal(plain, &mut sealed, STRIDE).unwrap();
    sealed
}

/// What came of opening a batch, and the packets in it.
fn open(session: &Session, batch: &[u8]) -> (Opened, Vec<Vec<u8>>) {
    let (mut opened, mut packets) = (vec![0; batch.len()], Vec::new());
    let outcome = session.open(batch, STRIDE, &mut opened, &mut packets);
    (
        outcome,
        packets.into_iter().map(|range| opened[range].to_vec()).collect(),
    )
}

/// A strided batch of IPv4 packets of 40 bytes, told apart by their last byte; the last packet has 30.
fn plain(count: u8) -> Vec<u8> {
    let mut batch = Vec::new();
    for n in 0..count {
        let length = if n + 1 == count { 30 } else { 40 };
        let mut packet = vec![0; usize::from(length)];
        (packet[0], packet[3]) = (0x45, length);
        *packet.last_mut().unwrap() = n;
        batch.extend([vec![0; DATA_HEADER], packet, vec![0; 16]].concat());
    }
    batch
}

#[test]
fn batch_opens_to_what_was_sealed() {
    let (a, b) = pair();
    for (sender, receiver) in [(&a, &b), (&b, &a)] {
        let (opened, packets) = open(receiver, &seal(sender, &plain(5)));
        assert_eq!(
            opened,
            Opened {
                authentic: 5,
                refused: 0
            }
        );
        let ends: Vec<(usize, u8)> = packets.iter().map(|p| (p.len(), p[p.len() - 1])).collect();
        assert_eq!(ends, [(40, 0), (40, 1), (40, 2), (40, 3), (30, 4)]);
    }
}

#[test]
fn replayed_and_forged_datagrams_are_refused() {
    let (a, b) = pair();
    let mut batch = seal(&a, &plain(3));
    batch[STRIDE + 20] ^= 1;
    assert_eq!(
        open(&b, &batch).0,
        Opened {
            authentic: 2,
            refused: 1
        }
    );
    assert_eq!(
        open(&b, &batch).0,
        Opened {
            authentic: 0,
            refused: 3
        }
    );
}

#[test]
fn nothing_is_sealed_when_there_is_no_session() {
    let ((a, _), (_, b_key)) = (identity(1), identity(2));
    let session = a.session(&b_key.public_key(), 7, None, Instant::now());
    let (batch, mut sealed) = (plain(2), vec![0; plain(2).len()]);
    assert_eq!(session.seal(&batch, &mut sealed, STRIDE), Err(NoSession));
    assert!(sealed.iter().all(|byte| *byte == 0));
    assert!(!session.is_ready());
}

#[test]
fn initiation_is_sent_once_while_a_handshake_is_in_progress() {
    let ((a, _), (_, b_key)) = (identity(1), identity(2));
    let session = a.session(&b_key.public_key(), 7, None, Instant::now());
    assert!(session.initiate(Instant::now(), false).is_some());
    assert!(session.initiate(Instant::now(), false).is_none());
    assert!(session.initiate(Instant::now(), true).is_some());
}

#[test]
fn sender_must_prove_its_address_when_handshakes_pour_in() {
    let ((a, _), (b, b_key)) = (identity(1), identity(2));
    let session = a.session(&b_key.public_key(), 7, None, Instant::now());
    let mut cookie = None;
    for _ in 0..1000 {
        let initiation = session.initiate(Instant::now(), true).unwrap();
        if let Initiator::Cookie(message) = b.initiator(initiation.as_bytes(), from()) {
            cookie = Some(message);
            break;
        }
    }
    let handled = session
        .handle(
            cookie.expect("a cookie is asked for").as_bytes(),
            from(),
            Instant::now(),
        )
        .unwrap();
    assert!(!handled.authentic);
    let proven = session.initiate(Instant::now(), true).unwrap();
    assert!(matches!(b.initiator(proven.as_bytes(), from()), Initiator::Peer(_)));
    let elsewhere = "198.51.100.1:1".parse().unwrap();
    assert!(matches!(
        b.initiator(proven.as_bytes(), elsewhere),
        Initiator::Cookie(_)
    ));
}

#[test]
fn private_key_is_redacted_when_printed() {
    assert_eq!(format!("{:?}", PrivateKey::from_bytes([7; 32])), "PrivateKey(redacted)");
}
