use std::sync::Arc;

use isthmus_tailnet_core::key::{DiscoKey, NodeKey};

use super::Tables;
use crate::dataplane::{Origin, Path, PeerConfig, Snapshot};

fn key(n: u8) -> NodeKey {
    NodeKey::from_bytes([n; 32])
}

fn peer(n: u8, nets: &[&str]) -> PeerConfig {
    let allowed_ips = nets.iter().map(|net| net.parse().unwrap()).collect();
    PeerConfig {
        allowed_ips,
        ..PeerConfig::new(key(n))
    }
}

fn build(peers: Vec<PeerConfig>, old: &Tables) -> Tables {
    let mut next = 0;
    Tables::build(
        Snapshot {
            peers,
            ..Snapshot::default()
        },
        old,
        || {
            next += 0x100;
            next
        },
    )
}

#[test]
fn packets_go_to_the_peer_with_the_longest_prefix() {
    let tables = build(
        vec![peer(1, &["10.0.0.0/8"]), peer(2, &["10.1.0.0/16", "fd00::/64"])],
        &Tables::default(),
    );
    let route = |address: &str| tables.route(address.parse().unwrap()).map(|entry| entry.peer.key);
    assert_eq!(route("10.2.0.1"), Some(key(1)));
    assert_eq!(route("10.1.0.1"), Some(key(2)));
    assert_eq!(route("fd00::1"), Some(key(2)));
    assert_eq!(route("192.0.2.1"), None);
}

#[test]
fn peer_lives_on_when_only_its_path_changes() {
    let old = build(vec![peer(1, &[])], &Tables::default());
    let path = Some(Path::Direct("192.0.2.1:1".parse().unwrap()));
    let new = build(vec![PeerConfig { path, ..peer(1, &[]) }], &old);
    assert!(Arc::ptr_eq(&old.entries[0].peer, &new.entries[0].peer));
    assert_eq!(
        new.by_origin(Origin::Direct("192.0.2.1:1".parse().unwrap()))
            .unwrap()
            .peer
            .key,
        key(1)
    );
}

#[test]
fn peer_starts_anew_when_its_disco_key_changes() {
    let with_disco = |n: u8| PeerConfig {
        disco: Some(DiscoKey::from_bytes([n; 32])),
        ..peer(1, &[])
    };
    let old = build(vec![with_disco(1)], &Tables::default());
    let new = build(vec![with_disco(2)], &old);
    assert!(!Arc::ptr_eq(&old.entries[0].peer, &new.entries[0].peer));
    assert_ne!(old.entries[0].peer.index, new.entries[0].peer.index);
}

#[test]
fn session_index_leads_to_its_peer() {
    let tables = build(vec![peer(1, &[]), peer(2, &[])], &Tables::default());
    for entry in &tables.entries {
        let index = entry.peer.index << 8 | 0x2a;
        assert_eq!(tables.by_session(index).unwrap().peer.key, entry.peer.key);
    }
    assert!(tables.by_session(u32::MAX).is_none());
}
