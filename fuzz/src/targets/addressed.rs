//! The network map that messages of control make.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use isthmus_tailnet_core::dns::{self, Question};
use isthmus_tailnet_core::netmap::{Netmap, NetmapStore, RoutePolicy};
use isthmus_tailnet_wire::control::MapResponse;

/// Messages, one a line, applied one after the other. The map that comes of them is the same after it was kept as a
/// message; a message that says the difference between two whole maps leads from one to the other.
pub(super) fn netmap(input: &[u8]) {
    let now = SystemTime::UNIX_EPOCH + Duration::from_hours(500_000);
    let mut store = NetmapStore::default();
    let mut whole: Option<MapResponse> = None;
    for line in input.split(|byte| *byte == b'\n') {
        let Ok(message) = serde_json::from_slice::<MapResponse>(line) else {
            continue;
        };
        if store.apply(message.clone(), now).is_err() {
            continue;
        }
        if let Some(map) = store.netmap() {
            check(&map, now);
        }
        if message.node.is_some() && !message.keep_alive {
            if let Some(before) = &whole {
                check_delta(before, &message, now);
            }
            whole = Some(message);
        }
    }
}

fn check(map: &Netmap, now: SystemTime) {
    let mut kept = NetmapStore::default();
    let message = serde_json::to_vec(&map.to_message()).expect("messages serialise");
    kept.apply(serde_json::from_slice(&message).expect("what is kept can be read"), now)
        .expect("it has its own node");
    let again = kept.netmap().expect("it is whole");
    assert_eq!(again, *map);
    for accept_routes in [false, true] {
        let plan = map.filter_plan(RoutePolicy { accept_routes }, &BTreeSet::new(), now);
        assert!(plan.senders.len() <= map.peers.len());
    }
    for peer in map.peers.values() {
        let _ = dns::answer(map, &peer.name, Question::A);
        let _ = map.peer_by_name(&peer.name);
    }
}

fn check_delta(before: &MapResponse, after: &MapResponse, now: SystemTime) {
    let of = |messages: &[&MapResponse]| {
        let mut store = NetmapStore::default();
        for message in messages {
            store
                .apply((*message).clone(), now)
                .expect("the first has its own node");
        }
        store.netmap()
    };
    let _ = before.delta(after).map(|delta| of(&[before, &delta]));
    assert!(before.delta(before).is_none(), "nothing changed");
}
