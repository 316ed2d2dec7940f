//! What comes on the node's UDP socket besides WireGuard.

use crypto_box::aead::AeadInPlace;
use crypto_box::{PublicKey, SalsaBox, SecretKey};
use isthmus_tailnet::fuzzing::{open_disco, seal_disco};
use isthmus_tailnet_core::key::DiscoKey;
use isthmus_tailnet_core::wireguard::DatagramKind;
use isthmus_tailnet_wire::stun;

/// What a disco datagram begins with (`TS` and a speech balloon), and how many bytes of it are before what is sealed.
const MAGIC: &[u8] = b"TS\xf0\x9f\x92\xac";
const NONCE: [u8; 24] = [5; 24];

const OURS: [u8; 32] = [1; 32];
const THEIRS: [u8; 32] = [2; 32];

/// A datagram is STUN or not; an answer says what it says again when it is made anew.
pub(super) fn stun(input: &[u8]) {
    let _ = DatagramKind::of(input);
    let request = stun::parse_request(input);
    let response = stun::parse_response(input);
    assert!(request.is_none() || response.is_none(), "a question is no answer");
    assert!(
        stun::is_stun(input) || (request.is_none() && response.is_none()),
        "all of it is STUN"
    );
    if let Some(id) = request {
        assert_eq!(stun::parse_request(&stun::request(id)), Some(id));
    }
    if let Some((id, observed)) = response {
        assert_eq!(
            stun::parse_response(&stun::response(id, observed)),
            Some((id, observed))
        );
    }
}

/// The input as a datagram opens for nobody, for it is not sealed; sealed by a peer it may be a message, which is the same
/// when it is sealed and opened again.
pub(super) fn disco(input: &[u8]) {
    let ours = private(OURS);
    assert!(open_disco(&ours, &mut input.to_vec()).is_none(), "not sealed for us");
    let Some((sender, message)) = open_disco(&ours, &mut sealed(input)) else {
        return;
    };
    assert_eq!(sender.as_bytes(), SecretKey::from(THEIRS).public_key().as_bytes());
    let us = DiscoKey::from_bytes(*SecretKey::from(OURS).public_key().as_bytes());
    let mut again = seal_disco(&private(THEIRS), &us, &message).expect("what was read can be written");
    assert_eq!(open_disco(&ours, &mut again), Some((sender, message)));
}

fn private(key: [u8; 32]) -> String {
    key.iter()
        .fold("privkey:".to_owned(), |digits, byte| digits + &format!("{byte:02x}"))
}

/// The datagram that carries these bytes as the message, sealed by the peer.
fn sealed(message: &[u8]) -> Vec<u8> {
    let (ours, theirs) = (SecretKey::from(OURS), SecretKey::from(THEIRS));
    let secret = SalsaBox::new(&PublicKey::from(*ours.public_key().as_bytes()), &theirs);
    let mut content = message.to_vec();
    let tag = secret
        .encrypt_in_place_detached(&NONCE.into(), b"", &mut content)
        .expect("short messages are sealed");
    [MAGIC, theirs.public_key().as_bytes(), &NONCE, &tag, &content].concat()
}
