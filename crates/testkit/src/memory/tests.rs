use std::thread;
use std::time::Duration;

use isthmus_tailnet_core::packet_io::{Offload, PacketBatch, PacketIo, PacketIoError, Received};

use super::{MAX_QUEUED, pair};

#[test]
fn one_end_receives_what_the_other_sends_and_the_eavesdropper_hears_both() {
    let (a, b, ear) = pair();
    assert_eq!(a.send(&[b"one", b"two"]).unwrap(), 2);
    assert!(b.offer(b"three", Offload::Checksum { start: 0, offset: 0 }));
    let mut batch = PacketBatch::new(8, 1000);
    assert_eq!(b.receive(&mut batch).unwrap(), Received::Packets);
    assert_eq!((batch.len(), batch.packet(1).0.to_vec()), (2, b"two".to_vec()));
    assert_eq!(a.next_within(Duration::from_secs(30)).unwrap(), b"three");
    assert_eq!(ear.packets(), [&b"one"[..], b"two", b"three"]);
}

#[test]
fn wake_ends_one_receive() {
    let (a, b, _) = pair();
    let mut batch = PacketBatch::new(8, 1000);
    a.wake();
    a.wake();
    assert_eq!(a.receive(&mut batch).unwrap(), Received::Woken);
    let blocked = thread::scope(|scope| {
        let receiver = scope.spawn(|| a.receive(&mut batch));
        b.send(&[b"packet"]).unwrap();
        receiver.join().unwrap()
    });
    assert_eq!(blocked.unwrap(), Received::Packets);
}

#[test]
fn dropping_an_end_closes_the_other() {
    let (a, b, _) = pair();
    drop(b);
    assert!(matches!(
        a.receive(&mut PacketBatch::new(8, 0)),
        Err(PacketIoError::Closed)
    ));
    assert!(matches!(a.send(&[b"packet"]), Err(PacketIoError::Closed)));
}

#[test]
fn packets_are_dropped_when_nobody_receives() {
    let (a, _b, _) = pair();
    let sent: usize = (0..MAX_QUEUED + 10).map(|_| a.send(&[b"packet"]).unwrap()).sum();
    assert_eq!(sent, MAX_QUEUED);
}
