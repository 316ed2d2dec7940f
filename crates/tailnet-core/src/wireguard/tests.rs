use super::{DatagramKind, Message};

fn datagram(kind: u8, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    (bytes[0], bytes[4], bytes[8]) = (kind, 7, 9);
    bytes
}

#[test]
fn kind_is_told_by_type_and_length() {
    assert_eq!(DatagramKind::of(&datagram(1, 148)), DatagramKind::Initiation);
    assert_eq!(DatagramKind::of(&datagram(2, 92)), DatagramKind::Answer(9));
    assert_eq!(DatagramKind::of(&datagram(3, 64)), DatagramKind::Answer(7));
    assert_eq!(DatagramKind::of(&datagram(4, 32)), DatagramKind::Data(7));
    assert_eq!(DatagramKind::of(&datagram(4, 1452)), DatagramKind::Data(7));
}

#[test]
fn kind_is_other_when_the_length_does_not_fit_the_type() {
    for (kind, length) in [(1, 147), (2, 91), (3, 65), (4, 31), (5, 100), (0x54, 62)] {
        assert_eq!(DatagramKind::of(&datagram(kind, length)), DatagramKind::Other);
    }
    assert_eq!(DatagramKind::of(&[]), DatagramKind::Other);
}

#[test]
fn message_holds_at_most_an_initiation() {
    assert_eq!(Message::new(b"hello").unwrap().as_bytes(), b"hello");
    assert!(Message::new(&[0; 149]).is_none());
}
