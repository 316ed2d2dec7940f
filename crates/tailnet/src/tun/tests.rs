use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use isthmus_tailnet_core::packet_io::{Offload, PacketBatch, PacketIo as _, Received};
use isthmus_tailnet_core::wireguard::DATA_HEADER;
use isthmus_testkit::netns::{Namespace, Net};
use isthmus_testkit::require;
use nix::sys::socket::{setsockopt, sockopt};

use super::{Tun, TunConfig};
use crate::offloads::{OffloadSwitch, Offloads};
use crate::segment::{complete_checksum, cut};

const MTU: u16 = 1280;

/// Two machines whose TUN devices are wired to each other: what one sends is cut to the wire's packets and given to the other.
struct Wire {
    machines: [Namespace; 2],
    devices: [Tun; 2],
}

impl Wire {
    fn new(offloads: Offloads) -> Self {
        let net = Net::new("tun");
        let machines = ["a", "b"].map(|name| net.namespace(name));
        let device = |machine: usize| {
            let address = |net: &str| format!("{net}{}", machine + 1);
            let addresses = vec![
                format!("{}/24", address("10.99.0.")).parse().unwrap(),
                format!("{}/64", address("fd99::")).parse().unwrap(),
            ];
            let config = TunConfig {
                name: "wire".into(),
                mtu: MTU,
                addresses,
            };
            machines[machine].enter(|| Tun::create(&config, OffloadSwitch::new(offloads)).unwrap())
        };
        let devices = [device(0), device(1)];
        Self { machines, devices }
    }

    /// Carries both ways while `work` runs.
    fn carrying(&self, work: impl FnOnce()) {
        thread::scope(|scope| {
            scope.spawn(|| carry(&self.devices[0], &self.devices[1]));
            scope.spawn(|| carry(&self.devices[1], &self.devices[0]));
            work();
            self.devices.iter().for_each(Tun::wake);
        });
    }

    /// Packets that the device of the second machine was given, a super-packet counted once.
    fn given(&self) -> u64 {
        let counters = self.machines[1].enter(|| fs::read_to_string("/proc/thread-self/net/dev").unwrap());
        let line = counters.lines().find_map(|line| line.trim().strip_prefix("wire:"));
        line.unwrap().split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

fn carry(from: &Tun, to: &Tun) {
    let (mut batch, mut space) = (PacketBatch::new(128, 128 * 1024), Vec::new());
    while from.receive(&mut batch).unwrap() == Received::Packets {
        for index in 0..batch.len() {
            let (packet, offload) = batch.packet(index);
            if let Offload::Segments { protocol, size, start } = offload {
                let cut = cut(packet, (protocol, size, start), usize::from(MTU), &mut space).unwrap();
                let datagrams = space[..cut.length]
                    .chunks(cut.stride)
                    .map(|datagram| &datagram[DATA_HEADER..]);
                to.send(&datagrams.map(whole).collect::<Vec<_>>()).unwrap();
            } else {
                assert!(complete_checksum(packet, offload));
                to.send(&[packet]).unwrap();
            }
        }
    }
}

/// The IP packet at the start of these bytes.
fn whole(bytes: &[u8]) -> &[u8] {
    let field = |at: usize| usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]));
    let length = if bytes[0] >> 4 == 4 { field(2) } else { 40 + field(4) };
    &bytes[..length]
}

fn content() -> Vec<u8> {
    (0..4_000_000_u32).map(|n| (n / 7).to_le_bytes()[0]).collect()
}

/// What arrives of [`content`] over TCP, and how many packets the receiver's device was given.
fn stream(wire: &Wire, to: &str) -> (Vec<u8>, u64) {
    let address = SocketAddr::new(to.parse::<IpAddr>().unwrap(), 0);
    let listener = wire.machines[1].enter(|| TcpListener::bind(address).unwrap());
    let (address, before) = (listener.local_addr().unwrap(), wire.given());
    let mut received = Vec::new();
    wire.carrying(|| {
        thread::scope(|scope| {
            scope.spawn(|| {
                wire.machines[0].enter(|| TcpStream::connect(address).unwrap().write_all(&content()).unwrap());
            });
            listener.accept().unwrap().0.read_to_end(&mut received).unwrap();
        });
    });
    (received, wire.given() - before)
}

#[test]
fn stream_arrives_whole_and_in_fewer_packets_than_the_wire_had() {
    isthmus_testkit::isolate!();
    if !require::tun_device() {
        return;
    }
    let wire = Wire::new(Offloads::ALL);
    for to in ["10.99.0.2", "fd99::2"] {
        let (received, packets) = stream(&wire, to);
        assert!(received == content(), "{} bytes came to {to}", received.len());
        assert!(
            packets < 1500,
            "{to}: {packets} packets for more than 3,200 of the wire"
        );
    }
}

#[test]
fn stream_arrives_whole_without_offloads() {
    isthmus_testkit::isolate!();
    if !require::tun_device() {
        return;
    }
    let wire = Wire::new(Offloads::NONE);
    let (received, packets) = stream(&wire, "10.99.0.2");
    assert!(received == content(), "{} bytes came", received.len());
    assert!(packets > 3200, "{packets}");
}

#[test]
fn datagrams_sent_together_arrive_one_by_one() {
    isthmus_testkit::isolate!();
    if !require::tun_device() {
        return;
    }
    let wire = Wire::new(Offloads::ALL);
    for (from, to) in [("10.99.0.1", "10.99.0.2"), ("fd99::1", "fd99::2")] {
        let bind = |machine: usize, address: &str| {
            let address = SocketAddr::new(address.parse::<IpAddr>().unwrap(), 0);
            wire.machines[machine].enter(|| UdpSocket::bind(address).unwrap())
        };
        let (sender, receiver) = (bind(0, from), bind(1, to));
        receiver.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        setsockopt(&sender, sockopt::UdpGsoSegment, &1000).unwrap();
        let sent: Vec<u8> = (0..3500_u32).map(|n| (n / 9).to_le_bytes()[0]).collect();
        let before = wire.given();
        let mut arrived = Vec::new();
        wire.carrying(|| {
            sender.send_to(&sent, receiver.local_addr().unwrap()).unwrap();
            for _ in 0..4 {
                let mut datagram = [0; 2000];
                let length = receiver.recv(&mut datagram).unwrap();
                arrived.push(datagram[..length].to_vec());
            }
        });
        let expected: Vec<Vec<u8>> = sent.chunks(1000).map(<[u8]>::to_vec).collect();
        assert!(arrived == expected, "{to}");
        assert!(wire.given() - before <= 3, "{to}: they came singly");
    }
}
