use super::*;
use crate::netmap::StunServer;

fn region(last: u8, may_be_home: bool) -> Region {
    Region {
        code: String::new(),
        name: String::new(),
        may_be_home,
        relays: Vec::new(),
        stun: vec![StunServer {
            host: String::new(),
            addresses: vec![format!("192.0.2.{last}").parse().unwrap()],
            port: 3478,
        }],
    }
}

fn regions(numbers: &[u8]) -> BTreeMap<RegionId, Region> {
    numbers
        .iter()
        .map(|number| (u16::from(*number), region(*number, true)))
        .collect()
}

/// A clock and a counter around the machine under test.
struct Bench {
    check: Netcheck,
    now: Instant,
    counter: u8,
}

impl Bench {
    fn new(numbers: &[u8]) -> Self {
        let mut check = Netcheck::default();
        check.update(&regions(numbers), &BTreeMap::new());
        Self {
            check,
            now: Instant::now(),
            counter: 0,
        }
    }

    fn tick(&mut self) -> Vec<Probe> {
        let counter = &mut self.counter;
        self.check.tick(self.now, &mut || {
            *counter += 1;
            [*counter; 12]
        })
    }

    /// Lets answers to probes come after these times by the server's last number; those without one do not answer.
    fn answer(&mut self, probes: &[Probe], after: &[(u8, u64)]) {
        let start = self.now;
        for probe in probes {
            let last = probe.to.to_string();
            let found = after
                .iter()
                .find(|(number, _)| last.starts_with(&format!("192.0.2.{number}:")));
            if let Some((_, wait)) = found {
                let at = start + Duration::from_millis(*wait);
                self.check
                    .receive(probe.to, probe.id, "203.0.113.1:7".parse().unwrap(), at);
            }
        }
    }

    fn round(&mut self, after: &[(u8, u64)]) {
        self.now += ROUND;
        let probes = self.tick();
        self.answer(&probes, after);
    }

    fn home(&mut self) -> Option<RegionId> {
        self.check.home(self.now)
    }
}

#[test]
fn only_region_is_home_at_once() {
    assert_eq!(Bench::new(&[7]).home(), Some(7));
    let mut check = Netcheck::default();
    check.update(&BTreeMap::from([(7, region(7, false))]), &BTreeMap::new());
    assert_eq!(check.home(Instant::now()), None);
}

#[test]
fn nearest_region_is_home_and_left_only_for_one_that_is_much_nearer() {
    let mut bench = Bench::new(&[1, 2]);
    assert_eq!(bench.home(), None);
    let probes = bench.tick();
    bench.answer(&probes, &[(1, 90), (2, 30)]);
    assert_eq!(bench.home(), Some(2));
    for _ in 0..5 {
        bench.round(&[(1, 25), (2, 30)]);
        assert_eq!(bench.home(), Some(2), "a little nearer is not worth a change");
    }
    for _ in 0..5 {
        bench.round(&[(1, 10), (2, 30)]);
    }
    assert_eq!(bench.home(), Some(1));
}

#[test]
fn silent_home_is_left_for_one_that_answers_and_kept_when_none_does() {
    let mut bench = Bench::new(&[1, 2]);
    let probes = bench.tick();
    bench.answer(&probes, &[(1, 10), (2, 50)]);
    assert_eq!(bench.home(), Some(1));
    for _ in 0..6 {
        bench.round(&[(2, 50)]);
    }
    assert_eq!(bench.home(), Some(2));
    for _ in 0..6 {
        bench.round(&[]);
    }
    assert_eq!(bench.home(), Some(2));
}

#[test]
fn regions_are_measured_by_https_when_nobody_answers_a_whole_round() {
    let mut bench = Bench::new(&[4, 5]);
    let mut probes = bench.tick().len();
    assert!(bench.check.by_https(bench.now).is_empty());
    for _ in 0..8 {
        bench.now += Duration::from_millis(250);
        probes += bench.tick().len();
    }
    assert_eq!((probes, bench.home()), (6, None));
    assert_eq!(bench.check.by_https(bench.now), [4, 5]);
    assert!(bench.check.by_https(bench.now).is_empty(), "once");
    bench.check.receive_https(5, Duration::from_millis(40), bench.now);
    assert_eq!(bench.home(), Some(5));
    bench.now += HTTPS.0;
    bench.tick();
    assert!(bench.check.by_https(bench.now).is_empty(), "STUN may work by now");
    bench.now += Duration::from_secs(2);
    bench.tick();
    bench.now += Duration::from_secs(2);
    bench.tick();
    bench.now += Duration::from_secs(2);
    assert_eq!(bench.check.by_https(bench.now), [4, 5]);
    assert_eq!(bench.home(), Some(5), "the answer of before still holds");
}

#[test]
fn first_region_is_home_when_nobody_answers_by_https_either() {
    let mut bench = Bench::new(&[4, 5]);
    for _ in 0..8 {
        bench.tick();
        bench.now += Duration::from_millis(250);
    }
    bench.check.by_https(bench.now);
    assert_eq!(bench.home(), None);
    bench.now += HTTPS.1;
    assert_eq!(bench.home(), Some(4));
}

#[test]
fn home_of_the_run_before_is_home_until_a_nearer_one_answers() {
    let mut bench = Bench::new(&[1, 2]);
    bench.check = Netcheck::with_home(Some(2));
    bench.check.update(&regions(&[1, 2]), &BTreeMap::new());
    assert_eq!(bench.home(), Some(2));
    let probes = bench.tick();
    bench.answer(&probes, &[(1, 10), (2, 12)]);
    assert_eq!(bench.home(), Some(2));
}

#[test]
fn server_that_answered_is_not_asked_again_in_its_round() {
    let mut bench = Bench::new(&[1, 2]);
    let probes = bench.tick();
    bench.answer(&probes, &[(1, 10)]);
    bench.now += AGAIN;
    let again: Vec<_> = bench.tick().iter().map(|probe| probe.to.to_string()).collect();
    assert_eq!(again, ["192.0.2.2:3478"]);
}

#[test]
fn observed_address_is_taken_from_who_was_asked_and_forgotten_when_stale() {
    let mut bench = Bench::new(&[1]);
    let probe = bench.tick()[0];
    let observed: SocketAddr = "203.0.113.1:7".parse().unwrap();
    bench
        .check
        .receive("192.0.2.99:3478".parse().unwrap(), probe.id, observed, bench.now);
    bench.check.receive(probe.to, [99; 12], observed, bench.now);
    assert!(bench.check.observed().is_empty());
    bench.check.receive(probe.to, probe.id, observed, bench.now);
    assert_eq!(bench.check.observed(), BTreeSet::from([observed]));
    bench.now += STALE;
    bench.tick();
    assert!(bench.check.observed().is_empty());
}

/// A server in a region of several, on a port.
fn servers(ports: &[u16]) -> BTreeMap<RegionId, Region> {
    let mut region = region(1, true);
    let server = region.stun.remove(0);
    region.stun = ports
        .iter()
        .map(|port| StunServer {
            port: *port,
            ..server.clone()
        })
        .collect();
    BTreeMap::from([(7, region)])
}

#[test]
fn report_says_whether_a_nat_maps_by_destination() {
    for (second, varies) in [(7, false), (8, true)] {
        let mut bench = Bench::new(&[]);
        bench.check.update(&servers(&[3478, 3479]), &BTreeMap::new());
        let probes = bench.tick();
        assert_eq!(bench.check.report(bench.now).mapping_varies, None);
        for (probe, port) in probes.iter().zip([7, second]) {
            let seen = SocketAddr::from(([203, 0, 113, 1], port));
            bench.check.receive(probe.to, probe.id, seen, bench.now);
        }
        let report = bench.check.report(bench.now);
        assert_eq!((report.udp, report.mapping_varies), (Some(true), Some(varies)));
        assert_eq!(
            report.ipv4.map(|seen| seen.ip().to_string()).as_deref(),
            Some("203.0.113.1")
        );
        assert_eq!(report.ipv6, None);
    }
}

#[test]
fn report_says_that_udp_does_not_work_only_after_a_whole_round() {
    let mut bench = Bench::new(&[1]);
    bench.tick();
    assert_eq!(bench.check.report(bench.now).udp, None);
    for _ in 0..8 {
        bench.now += Duration::from_millis(250);
        bench.tick();
    }
    assert_eq!(bench.check.report(bench.now).udp, Some(false));
    bench.check.restart();
    assert_eq!(bench.check.report(bench.now).udp, None);
    assert_eq!(bench.tick().len(), 1, "a new round begins at once");
}

#[test]
fn server_with_a_name_alone_is_asked_once_the_name_is_resolved() {
    let mut regions = regions(&[1]);
    let server = &mut regions.get_mut(&1).unwrap().stun[0];
    (server.host, server.addresses) = ("stun.example".into(), Vec::new());
    let mut bench = Bench::new(&[]);
    bench.check.update(&regions, &BTreeMap::new());
    assert!(bench.tick().is_empty());
    let found = BTreeMap::from([("stun.example".to_owned(), vec!["192.0.2.8".parse().unwrap()])]);
    bench.check.update(&regions, &found);
    assert_eq!(bench.tick()[0].to.to_string(), "192.0.2.8:3478");
}
