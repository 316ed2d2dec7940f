//! Two data planes on loopback, with hosts in memory behind them.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use isthmus_tailnet_core::key::{DiscoKey, NodeKey};
use isthmus_tailnet_core::packet_io::{Offload, PacketIo, SegmentProtocol};
use isthmus_testkit::memory::{self, MemoryIo};
use isthmus_testkit::wait;

use super::{
    Counts, DataPlane, DataPlaneConfig, Datagram, DropCause, Hooks, Origin, Path, PeerConfig, PeerEvent, Snapshot,
    Traffic,
};
use crate::offloads::{OffloadSwitch, Offloads};
use crate::udp::UdpLink;
use crate::wireguard::PrivateKey;

const PATIENCE: Duration = Duration::from_secs(30);
/// Long enough for a packet that should not arrive to arrive.
const SILENCE: Duration = Duration::from_millis(300);

/// A node: its number is in its key and its address.
struct TestNode {
    plane: DataPlane,
    hooks: Hooks,
    host: MemoryIo,
    number: u8,
}

impl TestNode {
    fn start(number: u8) -> Self {
        let (host, io, _) = memory::pair();
        let udp = UdpLink::bind(0, OffloadSwitch::new(Offloads::ALL)).unwrap();
        let config = DataPlaneConfig {
            private_key: PrivateKey::from_bytes([number; 32]),
            mtu: 1280,
        };
        let (plane, hooks) = DataPlane::start(&config, Arc::new(io), udp).unwrap();
        Self {
            plane,
            hooks,
            host,
            number,
        }
    }

    fn key(&self) -> NodeKey {
        PrivateKey::from_bytes([self.number; 32]).public_key()
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::new(Ipv4Addr::LOCALHOST.into(), self.plane.local_port().unwrap())
    }

    fn path(&self) -> Path {
        Path::Direct(self.address())
    }

    /// This node as a peer of others.
    fn as_peer(&self, path: Option<Path>) -> PeerConfig {
        let allowed_ips = vec![format!("10.0.0.{}/32", self.number).parse().unwrap()];
        PeerConfig {
            allowed_ips,
            path,
            ..PeerConfig::new(self.key())
        }
    }

    fn apply(&self, peers: Vec<PeerConfig>) {
        let own = vec![format!("10.0.0.{}/32", self.number).parse().unwrap()];
        self.plane.apply(Snapshot {
            own,
            peers,
            filter: None,
        });
    }

    fn send(&self, to: &Self, text: &str) {
        self.host
            .send(&[&datagram(self.number, to.number, text.as_bytes())])
            .unwrap();
    }

    /// The content of the next packet for the host behind this node.
    fn text(&self, patience: Duration) -> Option<String> {
        let packet = self.host.next_within(patience)?;
        Some(String::from_utf8(packet[28..].to_vec()).unwrap())
    }

    fn event(&mut self) -> PeerEvent {
        wait::until("an event", || self.hooks.events.try_recv().ok())
    }

    fn wait_for(&self, what: &str, reached: impl Fn(Counts) -> bool) {
        wait::until(what, || reached(self.plane.counts()).then_some(()));
    }
}

/// A UDP packet without its checksum, which IPv4 allows.
fn datagram(from: u8, to: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(28 + content.len()).unwrap();
    let mut packet = vec![
        0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, from, 10, 0, 0, to, 0, 7, 0, 7, 0, 0, 0, 0,
    ];
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    packet[24..26].copy_from_slice(&(length - 20).to_be_bytes());
    packet.extend_from_slice(content);
    packet
}

/// Two nodes that know each other and each other's path.
fn acquainted() -> (TestNode, TestNode) {
    let (a, b) = (TestNode::start(1), TestNode::start(2));
    a.apply(vec![b.as_peer(Some(b.path()))]);
    b.apply(vec![a.as_peer(Some(a.path()))]);
    (a, b)
}

#[test]
fn packet_that_set_off_the_handshake_arrives() {
    let (a, b) = acquainted();
    a.send(&b, "first");
    assert_eq!(b.text(PATIENCE).unwrap(), "first");
    b.send(&a, "answer");
    assert_eq!(a.text(PATIENCE).unwrap(), "answer");
}

#[test]
fn super_packet_arrives_as_its_segments() {
    let (a, b) = acquainted();
    let content: Vec<u8> = (0..2500_u32).map(|n| b'a' + u8::try_from(n % 26).unwrap()).collect();
    let offload = Offload::Segments {
        protocol: SegmentProtocol::Udp,
        size: 1000,
        start: 20,
    };
    for _before_and_after_the_handshake in 0..2 {
        assert!(a.host.offer(&datagram(1, 2, &content), offload));
        let texts: Vec<String> = (0..3).map(|_| b.text(PATIENCE).unwrap()).collect();
        assert_eq!(texts.iter().map(String::len).collect::<Vec<_>>(), [1000, 1000, 500]);
        assert_eq!(texts.concat().as_bytes(), content);
    }
}

#[test]
fn packets_wait_until_a_path_appears() {
    let (mut a, b) = (TestNode::start(1), TestNode::start(2));
    a.apply(vec![b.as_peer(None)]);
    b.apply(vec![a.as_peer(Some(a.path()))]);
    a.send(&b, "early");
    assert_eq!(a.event(), PeerEvent::PathWanted(b.key()));
    a.apply(vec![b.as_peer(Some(b.path()))]);
    assert_eq!(b.text(PATIENCE).unwrap(), "early");
}

#[test]
fn initiation_is_answered_once_its_sender_is_known() {
    let (a, mut b) = (TestNode::start(1), TestNode::start(2));
    a.apply(vec![b.as_peer(Some(b.path()))]);
    a.send(&b, "stranger");
    let from = Origin::Direct(a.address());
    assert_eq!(b.event(), PeerEvent::UnknownInitiator { key: a.key(), from });
    b.apply(vec![a.as_peer(Some(a.path()))]);
    assert_eq!(b.text(PATIENCE).unwrap(), "stranger");
}

#[test]
fn session_lives_on_when_the_snapshot_changes() {
    let (mut a, b) = acquainted();
    a.send(&b, "before");
    assert_eq!(b.text(PATIENCE).unwrap(), "before");
    assert_eq!(a.event(), PeerEvent::Handshake(b.key()));
    let other = PeerConfig::new(NodeKey::from_bytes([9; 32]));
    a.apply(vec![other, b.as_peer(Some(b.path()))]);
    a.send(&b, "after");
    assert_eq!(b.text(PATIENCE).unwrap(), "after");
    assert!(a.hooks.events.try_recv().is_err(), "no second handshake");
}

#[test]
fn session_ends_when_the_disco_key_changes() {
    let (mut a, b) = acquainted();
    a.send(&b, "before");
    assert_eq!(b.text(PATIENCE).unwrap(), "before");
    assert_eq!(a.event(), PeerEvent::Handshake(b.key()));
    a.apply(vec![PeerConfig {
        disco: Some(DiscoKey::from_bytes([5; 32])),
        ..b.as_peer(Some(b.path()))
    }]);
    a.send(&b, "after");
    assert_eq!(b.text(PATIENCE).unwrap(), "after");
    assert_eq!(a.event(), PeerEvent::Handshake(b.key()));
}

#[test]
fn removed_peer_reaches_nothing() {
    let (a, b) = acquainted();
    a.send(&b, "before");
    assert_eq!(b.text(PATIENCE).unwrap(), "before");
    b.apply(vec![]);
    a.send(&b, "after");
    b.wait_for("a message without a session", |counts| counts.unknown_index > 0);
    assert_eq!(b.text(SILENCE), None);
}

#[test]
fn spoofed_inner_source_is_dropped() {
    let (a, b) = acquainted();
    a.send(&b, "honest");
    assert_eq!(b.text(PATIENCE).unwrap(), "honest");
    // The sender's own data plane would not let this pass, so it is told that the address is its own.
    let own = vec!["10.0.0.0/24".parse().unwrap()];
    a.plane.apply(Snapshot {
        own,
        peers: vec![b.as_peer(Some(b.path()))],
        filter: None,
    });
    a.host.send(&[&datagram(3, 2, b"spoofed")]).unwrap();
    b.wait_for("a refused packet", |counts| {
        counts.inbound_dropped.of(DropCause::Address) == 1
    });
    assert_eq!(b.text(SILENCE), None);
}

#[test]
fn foreign_source_and_unknown_destination_never_leave() {
    let (a, b) = acquainted();
    a.host
        .send(&[&datagram(3, 2, b"foreign"), &datagram(1, 9, b"nowhere")])
        .unwrap();
    a.wait_for("two refused packets", |counts| {
        let dropped = counts.outbound_dropped;
        (dropped.of(DropCause::Address), dropped.of(DropCause::NoPeer)) == (1, 1)
    });
    assert_eq!(b.text(SILENCE), None);
    assert_eq!(a.plane.counts().udp_sends, 0);
}

#[test]
fn newest_packets_are_kept_for_a_silent_peer() {
    let (a, b) = (TestNode::start(1), TestNode::start(2));
    a.apply(vec![b.as_peer(None)]);
    for n in 0..300 {
        a.send(&b, &n.to_string());
        a.wait_for("the packet", |counts| counts.tun_reads > n);
    }
    assert_eq!(a.plane.counts().outbound_dropped.of(DropCause::QueueFull), 300 - 128);
    b.apply(vec![a.as_peer(Some(a.path()))]);
    a.apply(vec![b.as_peer(Some(b.path()))]);
    let texts: Vec<String> = (0..128).map(|_| b.text(PATIENCE).unwrap()).collect();
    assert_eq!((texts[0].as_str(), texts[127].as_str()), ("172", "299"));
}

#[test]
fn other_datagrams_pass_by_the_hook_in_both_directions() {
    let (a, mut b) = acquainted();
    let (from, to) = (a.address(), b.address());
    a.plane.datagram_sender().send(to, b"TS disco").unwrap();
    let got = wait::until("a datagram", || b.hooks.datagrams.try_recv().ok());
    assert_eq!(
        got,
        Datagram {
            from,
            bytes: (*b"TS disco").into()
        }
    );
}

#[test]
fn sender_that_nobody_listens_to_costs_no_memory() {
    let (a, b) = acquainted();
    let (to, sender) = (b.address(), a.plane.datagram_sender());
    wait::until("dropped datagrams", || {
        sender.send(to, b"noise").unwrap();
        (b.plane.counts().hooks_dropped > 100).then_some(())
    });
    assert_eq!(b.hooks.datagrams.len(), b.hooks.datagrams.max_capacity());
}

#[test]
fn peer_without_a_path_is_answered_where_it_came_from_when_it_roams() {
    let (a, b) = (TestNode::start(1), TestNode::start(2));
    a.apply(vec![b.as_peer(Some(b.path()))]);
    b.apply(vec![PeerConfig {
        roams: true,
        ..a.as_peer(None)
    }]);
    a.send(&b, "ping");
    assert_eq!(b.text(PATIENCE).unwrap(), "ping");
    b.send(&a, "pong");
    assert_eq!(a.text(PATIENCE).unwrap(), "pong");
}

#[test]
fn restarted_node_asks_for_a_new_session_when_spoken_to_in_the_old_one() {
    let (mut a, b) = acquainted();
    a.send(&b, "before");
    assert_eq!(b.text(PATIENCE).unwrap(), "before");
    assert_eq!(a.event(), PeerEvent::Handshake(b.key()));
    let (again, number) = (TestNode::start(2), b.number);
    assert_eq!(number, again.number);
    drop(b);
    again.apply(vec![a.as_peer(Some(a.path()))]);
    // The path leads to the new run, the session is of the old one: the disco key is not known to have changed.
    a.apply(vec![again.as_peer(Some(again.path()))]);
    a.send(&again, "lost");
    assert_eq!(a.event(), PeerEvent::Handshake(again.key()));
    a.send(&again, "after");
    assert_eq!(again.text(PATIENCE).unwrap(), "after");
}

/// Carries what a node has for relays to another.
fn carry(from: &mut TestNode, to: &TestNode) {
    while let Ok(out) = from.hooks.relayed.try_recv() {
        assert_eq!((out.region, out.to), (7, to.key()));
        assert!(to.plane.take_relayed(7, from.key(), out.datagram));
    }
}

/// Carries between two nodes until `b` has a packet for its host.
fn text_by_relay(a: &mut TestNode, b: &mut TestNode) -> String {
    wait::until("a packet by relay", || {
        carry(a, b);
        carry(b, a);
        b.text(Duration::from_millis(10))
    })
}

#[test]
fn handshake_and_packets_go_by_relay_while_that_is_the_path_and_directly_afterwards() {
    let (mut a, mut b) = (TestNode::start(1), TestNode::start(2));
    a.apply(vec![b.as_peer(Some(Path::Relay(7)))]);
    b.apply(vec![a.as_peer(Some(Path::Relay(7)))]);
    a.send(&b, "by relay");
    assert_eq!(text_by_relay(&mut a, &mut b), "by relay");
    b.send(&a, "and back");
    assert_eq!(text_by_relay(&mut b, &mut a), "and back");
    assert_eq!((a.plane.counts().udp_sends, b.plane.counts().udp_sends), (0, 0));

    a.apply(vec![b.as_peer(Some(b.path()))]);
    let relayed = a.plane.counts().outbound.relay;
    a.send(&b, "directly");
    assert_eq!(b.text(PATIENCE).unwrap(), "directly");
    assert_eq!(
        a.plane.counts().outbound.relay,
        relayed,
        "in the session that began by relay"
    );
}

#[test]
fn traffic_is_counted_by_path_and_peer() {
    let (a, b) = acquainted();
    a.send(&b, "directly");
    assert_eq!(b.text(PATIENCE).unwrap(), "directly");
    let sent = wait::until("as much received as sent", || {
        let (sent, received) = (a.plane.counts().outbound, b.plane.counts().inbound);
        (sent == received).then_some(sent)
    });
    assert_eq!((sent.direct_ipv6, sent.relay), (Traffic::default(), Traffic::default()));
    // An initiation, and the packet of 36 bytes, padded to a multiple of 16, in its data message.
    assert!(
        sent.direct_ipv4.bytes >= 148 + 80 && sent.direct_ipv4.packets >= 2,
        "{sent:?}"
    );

    let reading = a.plane.meter().read().unwrap();
    let peer = reading.peer(&b.key()).unwrap();
    assert!(peer.is_active && peer.last_handshake.is_some() && peer.path.is_some());
    assert_eq!((peer.sent.packets, peer.sent.bytes), (1, 80));
    assert_eq!(reading.peer(&a.key()), None, "no peer of itself");
    let (meter, counts) = (a.plane.meter(), reading.counts);
    assert_eq!((counts.handshakes_started, counts.handshakes_completed), (1, 1));
    drop(a);
    assert!(meter.read().is_none(), "it does not hold the data plane");
}

#[test]
fn counts_of_a_peer_outlive_its_restart() {
    let (a, b) = acquainted();
    a.send(&b, "before");
    assert_eq!(b.text(PATIENCE).unwrap(), "before");
    let sent = || a.plane.meter().read().unwrap().peer(&b.key()).unwrap().sent;
    let before = sent();
    a.apply(vec![PeerConfig {
        disco: Some(DiscoKey::from_bytes([7; 32])),
        ..b.as_peer(Some(b.path()))
    }]);
    assert_eq!(sent(), before);
}

#[test]
fn restarted_node_is_asked_for_a_session_by_relay() {
    let mut a = TestNode::start(1);
    let peer = TestNode::start(2);
    a.apply(vec![peer.as_peer(Some(Path::Relay(7)))]);
    let mut lost = vec![0; 64];
    lost[0] = 4;
    assert!(a.plane.take_relayed(7, peer.key(), lost));
    let out = wait::until("an initiation", || a.hooks.relayed.try_recv().ok());
    assert_eq!((out.to, out.datagram.len(), out.datagram[0]), (peer.key(), 148, 1));
}
