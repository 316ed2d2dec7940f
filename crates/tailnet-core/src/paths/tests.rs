mod calls;
mod doubts;

use std::net::Ipv4Addr;

use ipnet::IpNet;

use super::*;
use crate::netcheck::NetworkReport;

const OWN: NodeKey = NodeKey::from_bytes([1; 32]);
const PEER: NodeKey = NodeKey::from_bytes([2; 32]);
const RUN: DiscoKey = DiscoKey::from_bytes([22; 32]);

/// A clock, a counter in place of randomness, and the paths under test.
struct Bench {
    paths: Paths,
    now: Instant,
    counter: u32,
}

fn at(last: u8) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(192, 0, 2, last), 41641))
}

fn target(key: NodeKey, disco: DiscoKey, endpoints: &[SocketAddr]) -> Target {
    Target {
        key,
        disco,
        endpoints: endpoints.to_vec(),
        online: Some(true),
    }
}

/// Pings among the actions: where to, and their ids.
fn pings(actions: &[Action]) -> Vec<(SocketAddr, TransactionId)> {
    let ping = |action: &Action| match action {
        Action::Send {
            to,
            message: Message::Ping { id, .. },
            ..
        } => Some((*to, *id)),
        Action::Send { .. } | Action::Path { .. } | Action::Relay { .. } | Action::Doubt { .. } => None,
    };
    actions.iter().filter_map(ping).collect()
}

fn paths_set(actions: &[Action]) -> Vec<Option<SocketAddr>> {
    let path = |action: &Action| match action {
        Action::Path { path, .. } => Some(*path),
        Action::Send { .. } | Action::Relay { .. } | Action::Doubt { .. } => None,
    };
    actions.iter().filter_map(path).collect()
}

impl Bench {
    fn new(targets: Vec<Target>) -> Self {
        let mut bench = Self {
            paths: Paths::new(OWN),
            now: Instant::now(),
            counter: 0,
        };
        bench.paths.update(targets, AddressSet::default());
        bench
    }

    fn call(&mut self, f: impl FnOnce(&mut Paths, Instant, Random<'_>) -> Vec<Action>) -> Vec<Action> {
        let counter = &mut self.counter;
        let mut random = || {
            *counter += 1;
            let mut id = [0; 12];
            id[..4].copy_from_slice(&counter.to_be_bytes());
            id
        };
        f(&mut self.paths, self.now, &mut random)
    }

    fn tick(&mut self) -> Vec<Action> {
        self.call(Paths::tick)
    }

    /// Lets time pass with a tick every 250 ms; gives all actions.
    fn pass(&mut self, time: Duration) -> Vec<Action> {
        let end = self.now + time;
        let mut actions = Vec::new();
        while self.now < end {
            self.now += Duration::from_millis(250);
            actions.extend(self.tick());
        }
        actions
    }

    fn pong(&mut self, from: SocketAddr, id: TransactionId) -> Vec<Action> {
        let message = Message::Pong { id, observed: at(99) };
        self.call(|paths, now, random| paths.receive(from, &RUN, &message, now, random))
    }

    fn ping_from(&mut self, from: SocketAddr, disco: DiscoKey, node: Option<NodeKey>) -> Vec<Action> {
        let message = Message::Ping { id: [9; 12], node };
        self.call(|paths, now, random| paths.receive(from, &disco, &message, now, random))
    }

    /// Establishes the path to `to`.
    fn establish(&mut self, to: SocketAddr) {
        let sent = pings(&self.tick());
        let (_, id) = *sent.iter().find(|(address, _)| *address == to).expect("pinged");
        self.now += Duration::from_millis(5);
        assert_eq!(paths_set(&self.pong(to, id)), [Some(to)]);
    }
}

#[test]
fn online_peer_is_pinged_without_traffic_and_its_answer_makes_a_path() {
    let mut bench = Bench::new(vec![target(PEER, RUN, &[at(1), at(2)])]);
    let sent = pings(&bench.tick());
    assert_eq!(sent.iter().map(|ping| ping.0).collect::<Vec<_>>(), [at(1), at(2)]);
    assert_eq!(bench.paths.path(&PEER), None);
    assert_eq!(paths_set(&bench.pong(at(2), sent[1].1)), [Some(at(2))]);
    assert_eq!(bench.paths.path(&PEER), Some(at(2)));
}

#[test]
fn idle_path_is_kept_open() {
    let mut bench = Bench::new(vec![target(PEER, RUN, &[at(1)])]);
    bench.establish(at(1));
    for _ in 0..10 {
        assert!(pings(&bench.pass(Duration::from_secs(19))).is_empty());
        let sent = pings(&bench.pass(Duration::from_secs(1)));
        assert_eq!(sent.len(), 1, "one ping within any NAT's patience");
        bench.pong(at(1), sent[0].1);
    }
    assert_eq!(bench.paths.path(&PEER), Some(at(1)));
}

#[test]
fn dead_path_of_an_active_peer_is_noticed_within_ten_seconds() {
    let mut bench = Bench::new(vec![target(PEER, RUN, &[at(1)])]);
    bench.establish(at(1));
    bench.paths.set_active(&[PEER]);
    assert_eq!(paths_set(&bench.pass(Duration::from_secs(10))), [None]);
}

#[test]
fn dead_path_is_given_up_within_seconds_and_searched_again() {
    let mut bench = Bench::new(vec![target(PEER, RUN, &[at(1), at(2)])]);
    bench.establish(at(1));
    let actions = bench.pass(Duration::from_secs(30));
    assert_eq!(paths_set(&actions), [None]);
    let mut tries = (0..25).map(|_| pings(&bench.pass(Duration::from_secs(1))));
    let found = tries.find_map(|sent| sent.into_iter().find(|(to, _)| *to == at(2)));
    let (_, id) = found.expect("the other endpoint is tried");
    assert_eq!(paths_set(&bench.pong(at(2), id)), [Some(at(2))]);
}

#[test]
fn peer_that_moved_is_followed_when_it_pings_from_its_new_address() {
    let mut bench = Bench::new(vec![target(PEER, RUN, &[at(1)])]);
    bench.establish(at(1));
    bench.pass(Duration::from_secs(23));
    let answer = bench.ping_from(at(7), RUN, Some(PEER));
    let sent = pings(&answer);
    assert_eq!(sent[0].0, at(7));
    assert_eq!(paths_set(&bench.pong(at(7), sent[0].1)), [Some(at(7))]);
}

#[test]
fn ping_is_answered_with_its_source_and_pinged_back_once() {
    let mut bench = Bench::new(vec![target(PEER, RUN, &[])]);
    let actions = bench.ping_from(at(7), RUN, Some(PEER));
    let pong = Action::Send {
        to: at(7),
        disco: RUN,
        message: Message::Pong {
            id: [9; 12],
            observed: at(7),
        },
    };
    assert_eq!(actions[0], pong);
    assert_eq!(pings(&actions).len(), 1);
    assert!(
        pings(&bench.ping_from(at(7), RUN, Some(PEER))).is_empty(),
        "no ping while one is awaited"
    );
}

#[test]
fn stranger_and_impostor_get_no_answer() {
    let mut bench = Bench::new(vec![target(PEER, RUN, &[])]);
    let stranger = DiscoKey::from_bytes([66; 32]);
    assert!(bench.ping_from(at(7), stranger, Some(PEER)).is_empty());
    assert!(bench.ping_from(at(7), stranger, None).is_empty());
    assert!(bench.ping_from(at(7), RUN, Some(OWN)).is_empty());
}

#[test]
fn pong_without_its_ping_or_of_another_run_makes_no_path() {
    let mut bench = Bench::new(vec![target(PEER, RUN, &[at(1)])]);
    let sent = pings(&bench.tick());
    assert!(bench.pong(at(1), [7; 12]).is_empty());
    let message = Message::Pong {
        id: sent[0].1,
        observed: at(9),
    };
    let other = DiscoKey::from_bytes([66; 32]);
    assert!(
        bench
            .call(|paths, now, random| paths.receive(at(1), &other, &message, now, random))
            .is_empty()
    );
    assert_eq!(bench.paths.path(&PEER), None);
}

#[test]
fn restarted_peer_loses_its_path_and_is_pinged_at_once() {
    let mut bench = Bench::new(vec![target(PEER, RUN, &[at(1)])]);
    bench.establish(at(1));
    let next_run = DiscoKey::from_bytes([23; 32]);
    let actions = bench
        .paths
        .update(vec![target(PEER, next_run, &[at(1)])], AddressSet::default());
    assert_eq!(actions, [Action::Path { peer: PEER, path: None }]);
    bench.now += Duration::from_millis(250);
    let actions = bench.tick();
    let Action::Send { disco, .. } = &actions[0] else {
        panic!("{actions:?}")
    };
    assert_eq!(*disco, next_run);
}

#[test]
fn hostile_endpoints_are_not_probed() {
    let hostile = [
        "127.0.0.1:80",
        "0.0.0.0:80",
        "169.254.169.254:80",
        "224.0.0.1:80",
        "255.255.255.255:80",
        "192.0.2.1:0",
        "100.64.0.5:80",
        "10.1.1.1:22",
        "[::1]:80",
        "[fe80::1]:80",
        "[ff02::1]:80",
        "[::]:80",
        "[::ffff:127.0.0.1]:80",
        "[fd7a:115c:a1e0::5]:80",
    ];
    let mut endpoints: Vec<SocketAddr> = hostile.iter().map(|text| text.parse().unwrap()).collect();
    endpoints.push(at(1));
    let forbidden: AddressSet = ["10.1.0.0/16".parse::<IpNet>().unwrap()].into_iter().collect();
    let mut bench = Bench::new(vec![]);
    bench.paths.update(vec![target(PEER, RUN, &endpoints)], forbidden);
    assert_eq!(
        pings(&bench.tick()).iter().map(|ping| ping.0).collect::<Vec<_>>(),
        [at(1)]
    );
    let answer = bench.ping_from("10.1.1.1:22".parse().unwrap(), RUN, Some(PEER));
    assert!(pings(&answer).is_empty(), "answered, but never probed");
}

#[test]
fn endpoints_of_a_peer_are_bounded_and_a_large_tailnet_is_no_storm() {
    let many: Vec<SocketAddr> = (1..=200).map(at).collect();
    let peers = (0..100u8).map(|number| {
        target(
            NodeKey::from_bytes([number + 3; 32]),
            DiscoKey::from_bytes([number + 3; 32]),
            &many,
        )
    });
    let mut bench = Bench::new(peers.collect());
    let first = pings(&bench.tick());
    assert!(first.len() <= MAX_ENDPOINTS, "{}", first.len());
    let second = pings(&bench.pass(Duration::from_millis(750)));
    assert!(second.len() <= 20 * MAX_ENDPOINTS, "{}", second.len());
}

#[test]
fn traffic_for_a_peer_without_path_searches_at_once_but_not_more_than_once_a_second() {
    let mut bench = Bench::new(vec![target(PEER, RUN, &[at(1)])]);
    bench.pass(Duration::from_mins(5));
    bench.now += Duration::from_millis(1100);
    let first = bench.call(|paths, now, random| paths.wanted(&PEER, now, random));
    assert_eq!(pings(&first).len(), 1);
    let again = bench.call(|paths, now, random| paths.wanted(&PEER, now, random));
    assert!(again.is_empty());
}

#[test]
fn path_changes_only_for_a_clearly_faster_one() {
    let mut bench = Bench::new(vec![target(PEER, RUN, &[at(1), at(2), at(3)])]);
    let sent = pings(&bench.tick());
    bench.now += Duration::from_millis(100);
    bench.pong(at(1), sent[0].1);
    assert!(bench.pong(at(2), sent[1].1).is_empty(), "as slow");
    let answer = bench.ping_from(at(3), RUN, Some(PEER));
    assert!(pings(&answer).is_empty(), "a ping to there is awaited already");
    bench.now += Duration::from_secs(3);
    let fresh = pings(&bench.ping_from(at(3), RUN, Some(PEER)));
    bench.now += Duration::from_millis(10);
    assert_eq!(paths_set(&bench.pong(at(3), fresh[0].1)), [Some(at(3))]);
}

#[test]
fn two_that_ping_back_each_other_from_a_second_address_come_to_an_end() {
    let mut bench = Bench::new(vec![target(PEER, RUN, &[at(1)])]);
    bench.establish(at(1));
    let mut sent = 0;
    for _ in 0..100 {
        bench.now += Duration::from_millis(20);
        for (to, id) in pings(&bench.ping_from(at(2), RUN, Some(PEER))) {
            assert_eq!(to, at(2));
            sent += 1;
            bench.pong(to, id);
        }
    }
    assert_eq!(sent, 1);
}

#[test]
fn changed_addresses_of_the_machine_make_it_ping_every_path_at_once() {
    let mut bench = Bench::new(vec![target(PEER, RUN, &[at(1), at(2)])]);
    bench.establish(at(1));
    bench.pass(Duration::from_secs(2));
    let sent = pings(&bench.call(Paths::unsettle));
    assert_eq!(sent.iter().map(|ping| ping.0).collect::<Vec<_>>(), [at(1)]);
    let others = pings(&bench.pass(Duration::from_millis(250)));
    let (_, id) = *others
        .iter()
        .find(|(to, _)| *to == at(2))
        .expect("all are searched anew");
    assert_eq!(
        paths_set(&bench.pong(at(2), id)),
        [Some(at(2))],
        "the first that answers is taken"
    );
}

#[test]
fn better_path_is_looked_for_while_traffic_flows_on_a_slow_one() {
    let mut bench = Bench::new(vec![target(PEER, RUN, &[at(1), at(2)])]);
    let sent = pings(&bench.tick());
    bench.now += Duration::from_millis(40);
    bench.pong(at(1), sent[0].1);
    bench.paths.set_active(&[PEER]);
    let mut switched = Vec::new();
    for _ in 0..280 {
        for (to, id) in pings(&bench.pass(Duration::from_millis(250))) {
            bench.now += Duration::from_millis(if to == at(1) { 40 } else { 10 });
            switched.extend(paths_set(&bench.pong(to, id)));
        }
    }
    assert_eq!(switched, [Some(at(2))]);
}

#[test]
fn peer_is_known_by_its_addresses_unless_two_claim_one() {
    let other = NodeKey::from_bytes([3; 32]);
    let mut bench = Bench::new(vec![
        target(PEER, RUN, &[at(1), at(2)]),
        target(other, DiscoKey::from_bytes([33; 32]), &[at(2), at(3)]),
    ]);
    assert_eq!(bench.paths.peer_at(at(1)), Some(PEER));
    assert_eq!(bench.paths.peer_at(at(2)), None);
    assert_eq!(bench.paths.peer_at(at(9)), None);
    bench.ping_from(at(9), RUN, Some(PEER));
    assert_eq!(bench.paths.peer_at(at(9)), Some(PEER));
}

#[test]
fn obstacle_of_a_direct_path_is_named() {
    let other = NodeKey::from_bytes([3; 32]);
    let nowhere = target(other, DiscoKey::from_bytes([33; 32]), &[]);
    let mut bench = Bench::new(vec![target(PEER, RUN, &[at(1), at(2)]), nowhere]);
    let network = |udp, mapping_varies| NetworkReport {
        udp,
        mapping_varies,
        ..NetworkReport::default()
    };
    let why = |bench: &Bench, peer, network| bench.paths.direct_state(&peer, &network).obstacle;
    let unanswered = WhyNotDirect::Unanswered {
        endpoints: 2,
        mapping_varies: Some(true),
    };
    assert_eq!(why(&bench, PEER, network(Some(true), Some(true))), Some(unanswered));
    assert!(unanswered.to_string().contains("2 endpoints") && unanswered.to_string().contains("hard"));
    assert_eq!(
        why(&bench, PEER, network(Some(false), None)),
        Some(WhyNotDirect::UdpBlocked)
    );
    assert_eq!(why(&bench, other, network(None, None)), Some(WhyNotDirect::NoEndpoints));
    assert_eq!(why(&bench, OWN, network(None, None)), Some(WhyNotDirect::NoDisco));
    bench.establish(at(1));
    let state = bench.paths.direct_state(&PEER, &network(None, None));
    assert_eq!((state.latency, state.obstacle), (Some(Duration::from_millis(5)), None));
}

#[test]
fn ping_for_who_wants_to_know_goes_the_path() {
    let mut bench = Bench::new(vec![target(PEER, RUN, &[at(1)])]);
    assert!(bench.paths.ask(&PEER, bench.now, &mut || [7; 12]).is_none());
    bench.establish(at(1));
    let (id, actions) = bench.paths.ask(&PEER, bench.now, &mut || [7; 12]).unwrap();
    assert_eq!((id, pings(&actions)), ([7; 12], vec![(at(1), [7; 12])]));
}
