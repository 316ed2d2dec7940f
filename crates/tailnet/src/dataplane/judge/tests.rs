use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use isthmus_tailnet_core::filter::{DropReason, PacketFilter, Verdict};
use isthmus_tailnet_core::key::NodeKey;

use super::{Flow, InboundJudge, Judgement, outbound};
use crate::dataplane::tables::Tables;
use crate::dataplane::{DropCause, Hooks, PeerConfig, Snapshot};

/// Refuses everything to port 22 and counts how often it is asked.
#[derive(Default)]
struct NoSsh(AtomicUsize);

impl PacketFilter for NoSsh {
    fn inbound(&self, _: &NodeKey, packet: &[u8], now: Instant) -> Verdict {
        self.outbound(packet, now)
    }

    fn outbound(&self, packet: &[u8], _: Instant) -> Verdict {
        self.0.fetch_add(1, Ordering::Relaxed);
        if packet[22..24] == [0, 22] {
            Verdict::Drop(DropReason::NoRule)
        } else {
            Verdict::Accept
        }
    }
}

fn tables(filter: Option<Arc<dyn PacketFilter>>) -> Tables {
    let allowed_ips = vec!["10.0.0.2/32".parse().unwrap(), "fd00::2/128".parse().unwrap()];
    let peers = vec![PeerConfig {
        allowed_ips,
        ..PeerConfig::new(NodeKey::from_bytes([2; 32]))
    }];
    let own = vec!["10.0.0.1/32".parse().unwrap(), "fd00::1/128".parse().unwrap()];
    Tables::build(Snapshot { own, peers, filter }, &Tables::default(), || 0x100)
}

/// A TCP segment with data and these flags.
fn tcp(source: [u8; 4], destination: [u8; 4], port: u8, flags: u8) -> Vec<u8> {
    let mut packet = vec![0; 44];
    (packet[0], packet[9], packet[23], packet[33]) = (0x45, 6, port, flags);
    packet[12..16].copy_from_slice(&source);
    packet[16..20].copy_from_slice(&destination);
    packet
}

const PEER: [u8; 4] = [10, 0, 0, 2];
const OWN: [u8; 4] = [10, 0, 0, 1];
const OTHER: [u8; 4] = [10, 0, 0, 3];

fn passes(tables: &Tables, packet: &[u8]) -> bool {
    let (hooks, _receivers) = Hooks::channels();
    InboundJudge::new(&hooks, tables, &tables.entries[0], Instant::now()).judge(packet) == Judgement::Pass
}

#[test]
fn spoofed_inner_source_is_dropped() {
    let tables = tables(None);
    assert!(passes(&tables, &tcp(PEER, OWN, 80, 0x10)));
    assert!(!passes(&tables, &tcp(OTHER, OWN, 80, 0x10)));
    assert!(!passes(&tables, &tcp(OWN, OWN, 80, 0x10)));
}

#[test]
fn foreign_inner_destination_is_dropped() {
    assert!(!passes(&tables(None), &tcp(PEER, OTHER, 80, 0x10)));
}

#[test]
fn outgoing_packet_needs_an_own_source_and_a_peer() {
    let tables = tables(None);
    let goes = |source, destination| outbound(&tables, &tcp(source, destination, 80, 2), Instant::now()).is_ok();
    assert!(goes(OWN, PEER));
    assert!(!goes(OTHER, PEER));
    assert!(!goes(OWN, OTHER));
}

#[test]
fn filter_is_asked_once_for_a_run_of_one_flow() {
    let filter = Arc::new(NoSsh::default());
    let tables = tables(Some(Arc::clone(&filter) as Arc<dyn PacketFilter>));
    let (hooks, _receivers) = Hooks::channels();
    let mut judge = InboundJudge::new(&hooks, &tables, &tables.entries[0], Instant::now());
    let refused = judge.judge(&tcp(PEER, OWN, 22, 2));
    assert_eq!(refused, Judgement::Drop(DropCause::Policy));
    let verdicts: Vec<bool> = [(80, 0x10), (80, 0x18), (22, 0x10), (22, 0x10), (80, 0x10), (80, 0x02)]
        .map(|(port, flags)| judge.judge(&tcp(PEER, OWN, port, flags)) == Judgement::Pass)
        .into();
    assert_eq!(verdicts, [true, true, false, false, true, true]);
    assert_eq!(filter.0.load(Ordering::Relaxed), 5);
}

#[test]
fn verdict_is_not_reused_for_fragments_options_and_other_protocols() {
    let segment = tcp(PEER, OWN, 80, 0x10);
    assert!(Flow::of(&segment).is_some());
    let mut changed = [0, 1, 2, 3].map(|_| segment.clone());
    changed[0][6] = 0x20;
    changed[1][7] = 9;
    changed[2][0] = 0x46;
    changed[3][9] = 1;
    assert!(changed.iter().all(|packet| Flow::of(packet).is_none()));
    assert_eq!(Flow::of(&segment[..30]), None);
}

#[test]
fn packet_is_dropped_when_it_is_no_ip_packet() {
    let tables = tables(None);
    for packet in [&[][..], &[0x45], &[0; 40], &[0x60; 39]] {
        assert!(!passes(&tables, packet));
        assert!(outbound(&tables, packet, Instant::now()).is_err());
    }
}

#[test]
fn packet_for_the_node_itself_is_handed_over_and_does_not_pass() {
    struct Consumes;
    impl PacketFilter for Consumes {
        fn inbound(&self, _: &NodeKey, _: &[u8], _: Instant) -> Verdict {
            Verdict::Consume
        }
        fn outbound(&self, _: &[u8], _: Instant) -> Verdict {
            Verdict::Accept
        }
    }
    let tables = tables(Some(Arc::new(Consumes)));
    let (hooks, mut receivers) = Hooks::channels();
    let packet = tcp(PEER, OWN, 80, 2);
    let mut judge = InboundJudge::new(&hooks, &tables, &tables.entries[0], Instant::now());
    assert_eq!(judge.judge(&packet), Judgement::Taken);
    assert_eq!(receivers.consumed.try_recv().unwrap()[..], packet[..]);
}
