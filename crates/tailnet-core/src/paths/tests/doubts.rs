//! Paths that fall silent.

use super::*;

/// The doubts among the actions.
fn doubts(actions: &[Action]) -> usize {
    actions
        .iter()
        .filter(|action| matches!(action, Action::Doubt { .. }))
        .count()
}

#[test]
fn silent_path_with_traffic_is_doubted_within_a_second_and_trusted_again_when_it_answers() {
    let mut bench = Bench::new(vec![target(PEER, RUN, &[at(1)])]);
    bench.establish(at(1));
    bench.paths.set_active(&[PEER]);
    bench.pass(Duration::from_secs(1));
    let sent = pings(&bench.call(|paths, now, random| paths.suspect(&PEER, now, random)));
    assert_eq!(sent.len(), 1);
    let again = bench.call(|paths, now, random| paths.suspect(&PEER, now, random));
    assert!(pings(&again).is_empty(), "one ping is on its way");
    let actions = bench.pass(Duration::from_secs(1));
    assert_eq!((doubts(&actions), paths_set(&actions)), (1, vec![]));
    let expected = Route {
        address: at(1),
        doubted: true,
    };
    assert_eq!(bench.paths.route(&PEER), Some(expected));
    let (_, id) = *pings(&actions).last().expect("it is asked again");
    assert_eq!(bench.pong(at(1), id), [Action::Doubt { peer: PEER }]);
    assert_eq!(
        bench.paths.route(&PEER),
        Some(Route {
            doubted: false,
            ..expected
        })
    );
}

#[test]
fn path_that_has_just_answered_is_not_suspected() {
    let mut bench = Bench::new(vec![target(PEER, RUN, &[at(1)])]);
    bench.establish(at(1));
    bench.now += Duration::from_millis(100);
    assert!(
        bench
            .call(|paths, now, random| paths.suspect(&PEER, now, random))
            .is_empty()
    );
}

#[test]
fn moved_peer_with_traffic_is_followed_within_a_second_of_its_ping() {
    let mut bench = Bench::new(vec![target(PEER, RUN, &[at(1)])]);
    bench.establish(at(1));
    bench.paths.set_active(&[PEER]);
    bench.pass(Duration::from_secs(2));
    let answer = bench.ping_from(at(7), RUN, Some(PEER));
    let to: Vec<_> = pings(&answer).into_iter().map(|(to, _)| to).collect();
    assert_eq!(to, [at(7), at(1)], "the new address, and whether the old one lives");
    let mut found = paths_set(&bench.pong(at(7), pings(&answer)[0].1));
    for _ in 0..4 {
        let sent = pings(&bench.pass(Duration::from_millis(250)));
        if let Some((_, id)) = sent.into_iter().find(|(to, _)| *to == at(7)) {
            found.extend(paths_set(&bench.pong(at(7), id)));
        }
    }
    assert_eq!(found, [Some(at(7))]);
}
