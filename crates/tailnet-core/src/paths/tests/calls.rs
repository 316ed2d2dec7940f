//! What peers ask of each other by relay.

use super::*;

/// Endpoints of the calls among the actions.
fn calls(actions: &[Action]) -> Vec<Vec<SocketAddr>> {
    let call = |action: &Action| match action {
        Action::Relay {
            peer: PEER,
            disco: RUN,
            message: Message::CallMeMaybe { endpoints },
            ..
        } => Some(endpoints.clone()),
        Action::Send { .. } | Action::Path { .. } | Action::Relay { .. } | Action::Doubt { .. } => None,
    };
    actions.iter().filter_map(call).collect()
}

impl Bench {
    fn called(&mut self, by: DiscoKey, endpoints: &[SocketAddr]) -> Vec<Action> {
        let message = Message::CallMeMaybe {
            endpoints: endpoints.to_vec(),
        };
        self.call(|paths, now, random| paths.receive_relayed((&PEER, 7), &by, &message, now, random))
    }
}

#[test]
fn search_asks_the_peer_by_relay_to_ping_all_own_endpoints_until_there_is_a_path() {
    let mut bench = Bench::new(vec![target(PEER, RUN, &[at(1)])]);
    bench.paths.set_own_endpoints(&[at(7), at(8)]);
    assert_eq!(calls(&bench.tick()), [[at(7), at(8)]]);
    let later = calls(&bench.pass(Duration::from_mins(1)));
    assert!(!later.is_empty() && later.len() < 10, "{} calls", later.len());
    let id = pings(&bench.pass(Duration::from_secs(30)))
        .last()
        .expect("searches go on")
        .1;
    bench.pong(at(1), id);
    assert!(bench.paths.path(&PEER).is_some());
    assert!(calls(&bench.pass(Duration::from_secs(1))).is_empty());
}

#[test]
fn call_of_a_peer_is_answered_by_pings_at_most_once_a_second() {
    let mut bench = Bench::new(vec![target(PEER, RUN, &[])]);
    bench.tick();
    let to = |actions: &[Action]| pings(actions).iter().map(|(to, _)| *to).collect::<Vec<_>>();
    assert_eq!(to(&bench.called(RUN, &[at(5), at(6)])), [at(5), at(6)]);
    assert!(to(&bench.called(RUN, &[at(5)])).is_empty());
    bench.now += Duration::from_secs(1);
    let again = bench.called(RUN, &[at(6)]);
    assert_eq!(to(&again), [at(6)]);
    assert_eq!(paths_set(&bench.pong(at(6), pings(&again)[0].1)), [Some(at(6))]);
}

#[test]
fn hostile_endpoints_of_a_call_are_not_probed_and_a_stranger_is_not_heard() {
    let mut bench = Bench::new(vec![target(PEER, RUN, &[])]);
    let hostile: Vec<SocketAddr> = [
        "127.0.0.1:1",
        "169.254.169.254:80",
        "100.64.0.9:1",
        "[::1]:1",
        "224.0.0.1:1",
    ]
    .map(|text| text.parse().unwrap())
    .into();
    assert!(bench.called(RUN, &hostile).is_empty());
    bench.now += Duration::from_secs(2);
    assert!(bench.called(DiscoKey::from_bytes([66; 32]), &[at(5)]).is_empty());
    let many: Vec<SocketAddr> = (0..200).map(at).collect();
    assert!(pings(&bench.called(RUN, &many)).len() <= MAX_ENDPOINTS);
}

#[test]
fn ping_by_relay_is_answered_by_the_same_relay_unless_it_claims_to_be_another() {
    let mut bench = Bench::new(vec![target(PEER, RUN, &[])]);
    bench.tick();
    let mut ping = |by: DiscoKey, node| {
        let message = Message::Ping { id: [9; 12], node };
        bench.call(|paths, now, random| paths.receive_relayed((&PEER, 7), &by, &message, now, random))
    };
    let answer = Action::Relay {
        peer: PEER,
        by: Some(7),
        disco: RUN,
        message: Message::Pong {
            id: [9; 12],
            observed: relay_address(7),
        },
    };
    assert_eq!(ping(RUN, Some(PEER)), std::slice::from_ref(&answer));
    assert_eq!(ping(RUN, None), [answer]);
    assert!(ping(RUN, Some(OWN)).is_empty());
    assert!(ping(DiscoKey::from_bytes([66; 32]), Some(PEER)).is_empty());
}
