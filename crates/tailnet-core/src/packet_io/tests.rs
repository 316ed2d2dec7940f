use super::{HEADROOM, MAX_PACKET, Offload, PacketBatch};

#[test]
fn packets_come_back_in_order_when_pushed() {
    let mut batch = PacketBatch::new(4, 100);
    assert!(batch.copy(b"first", Offload::None));
    batch.space().unwrap()[HEADROOM..HEADROOM + 6].copy_from_slice(b"second");
    batch.push(HEADROOM, 6, Offload::Checksum { start: 1, offset: 2 });
    assert_eq!(batch.len(), 2);
    assert_eq!(batch.packet(0), (&mut b"first"[..].to_vec()[..], Offload::None));
    assert_eq!(batch.packet(1).0, b"second");
}

#[test]
fn batch_is_full_when_no_super_packet_would_fit() {
    let mut batch = PacketBatch::new(100, 1500);
    assert!(batch.copy(&[0; 1500], Offload::None));
    assert!(batch.copy(&[0; 1], Offload::None));
    assert!(batch.space().is_none());
    batch.clear();
    assert_eq!(batch.space().unwrap().len(), HEADROOM + MAX_PACKET);
}

#[test]
fn batch_is_full_when_its_limit_is_reached() {
    let mut batch = PacketBatch::new(1, 100_000);
    assert!(batch.copy(b"only", Offload::None));
    assert!(!batch.copy(b"more", Offload::None));
}
