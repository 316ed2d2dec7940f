use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::thread;

use super::{ReceiveBuffers, UdpLink, WhenFull};
use crate::offloads::{OffloadSwitch, Offloads};

fn link(offloads: Offloads) -> UdpLink {
    UdpLink::bind(0, OffloadSwitch::new(offloads)).unwrap()
}

/// Receives `count` datagrams on `link`.
fn receive(link: &UdpLink, count: usize) -> Vec<(SocketAddr, Vec<u8>)> {
    let (mut buffers, mut datagrams) = (ReceiveBuffers::default(), Vec::new());
    while datagrams.len() < count {
        assert!(link.receive(&mut buffers).unwrap());
        for batch in buffers.batches() {
            datagrams.extend(
                batch
                    .bytes
                    .chunks(batch.stride)
                    .map(|chunk| (batch.from, chunk.to_vec())),
            );
        }
    }
    datagrams
}

#[test]
fn batch_arrives_as_its_datagrams_with_and_without_offloads() {
    let batch: Vec<u8> = (0..100 * 500 + 123_usize)
        .map(|n| u8::try_from(n * 7 % 251).unwrap())
        .collect();
    for offloads in [Offloads::ALL, Offloads::NONE] {
        let (sender, receiver) = (link(offloads), link(offloads));
        let to = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), receiver.local_port().unwrap());
        let calls = sender.send_batch(to, &batch, 500, WhenFull::Wait).unwrap();
        assert_eq!(calls, if offloads.udp_gso { 2 } else { 101 });
        let got = receive(&receiver, 101);
        let sizes: Vec<usize> = got.iter().map(|(_, bytes)| bytes.len()).collect();
        assert_eq!(sizes, [vec![500; 100], vec![123]].concat());
        assert_eq!(got.concat_bytes(), batch);
    }
}

#[test]
fn batch_of_equal_datagrams_goes_out_singly_when_equal_tails_are_forbidden() {
    let sender = link(Offloads {
        gso_equal_tail: false,
        ..Offloads::ALL
    });
    let receiver = link(Offloads::ALL);
    let to = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), receiver.local_port().unwrap());
    assert_eq!(sender.send_batch(to, &[1; 1000], 100, WhenFull::Wait).unwrap(), 10);
    assert_eq!(sender.send_batch(to, &[1; 1050], 100, WhenFull::Wait).unwrap(), 1);
    assert_eq!(receive(&receiver, 21).len(), 21);
}

trait ConcatBytes {
    fn concat_bytes(&self) -> Vec<u8>;
}

impl ConcatBytes for Vec<(SocketAddr, Vec<u8>)> {
    fn concat_bytes(&self) -> Vec<u8> {
        self.iter().flat_map(|(_, bytes)| bytes.clone()).collect()
    }
}

#[test]
fn sender_address_has_its_own_family() {
    let (sender, receiver) = (link(Offloads::ALL), link(Offloads::ALL));
    let port = receiver.local_port().unwrap();
    let from_port = sender.local_port().unwrap();
    for address in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
        sender.send(SocketAddr::new(address, port), b"hello").unwrap();
        assert_eq!(
            receive(&receiver, 1),
            [(SocketAddr::new(address, from_port), b"hello".to_vec())]
        );
    }
}

#[test]
fn other_port_is_used_when_the_wanted_one_is_taken() {
    let first = link(Offloads::ALL);
    let wanted = first.local_port().unwrap();
    let second = UdpLink::bind(wanted, OffloadSwitch::new(Offloads::ALL)).unwrap();
    assert_ne!(second.local_port().unwrap(), wanted);
}

#[test]
fn receive_ends_when_woken() {
    let link = Arc::new(link(Offloads::ALL));
    let receiver = {
        let link = Arc::clone(&link);
        thread::spawn(move || link.receive(&mut ReceiveBuffers::default()).unwrap())
    };
    link.wake();
    assert!(!receiver.join().unwrap());
}
