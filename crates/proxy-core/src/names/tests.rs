use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::{GRACE, Guard, KnownName, LONGEST, LONGEST_AFTER_FAILURE, Reply, SHORTEST};
use crate::plan::tests::address;

const MINUTE: Duration = Duration::from_mins(1);

fn answer(addresses: &[&str], seconds: u64) -> Reply {
    Reply::Answer {
        addresses: addresses.iter().map(|text| address(text)).collect(),
        valid_for: Duration::from_secs(seconds),
    }
}

fn failed() -> Reply {
    Reply::Failed("cannot resolve db.example.com".to_owned())
}

fn guard() -> Guard {
    Guard {
        pod: BTreeSet::from(["10.244.1.5", "fd00:10:244:1::5"].map(address)),
        tailnet: BTreeSet::from([address("192.168.77.3")]),
        api_server: Some(address("10.96.0.1")),
    }
}

fn judge(addresses: &[&str]) -> (Vec<String>, Option<String>) {
    let addresses: Vec<_> = addresses.iter().map(|text| address(text)).collect();
    let (usable, refused) = guard().judge("db.example.com", addresses.into_iter());
    (usable.iter().map(ToString::to_string).collect(), refused)
}

#[test]
fn servers_are_asked_again_when_the_shortest_answer_ends_within_bounds() {
    let pause = |v4, v6| KnownName::default().take(v4, v6, Instant::now());
    assert_eq!(pause(answer(&["192.0.2.7"], 60), answer(&["2001:db8::7"], 90)), MINUTE);
    assert_eq!(pause(answer(&["192.0.2.7"], 60), answer(&[], 0)), MINUTE);
    assert_eq!(pause(answer(&["192.0.2.7"], 0), answer(&[], 0)), SHORTEST);
    assert_eq!(pause(answer(&["192.0.2.7"], 1_000_000), answer(&[], 0)), LONGEST);
    assert_eq!(pause(answer(&[], 0), answer(&[], 0)), SHORTEST);
}

#[test]
fn failure_keeps_the_last_answer_and_is_reported() {
    let mut known = KnownName::default();
    known.take(answer(&["192.0.2.7"], 60), answer(&[], 0), Instant::now());
    assert_eq!(known.problem("db.example.com"), None);
    let pauses: Vec<_> = (0..8).map(|_| known.take(failed(), failed(), Instant::now())).collect();
    assert_eq!(pauses[0], SHORTEST);
    assert!(pauses.is_sorted() && pauses[7] == LONGEST_AFTER_FAILURE, "{pauses:?}");
    assert_eq!(known.addresses().collect::<Vec<_>>(), [address("192.0.2.7")]);
    assert!(
        known
            .problem("db.example.com")
            .unwrap()
            .contains("the last answer stays in use")
    );
    known.take(answer(&["192.0.2.8"], 60), answer(&[], 0), Instant::now());
    assert_eq!(known.addresses().collect::<Vec<_>>(), [address("192.0.2.8")]);
    assert_eq!(known.problem("db.example.com"), None);
}

#[test]
fn family_that_servers_never_answer_for_is_no_problem() {
    let mut known = KnownName::default();
    assert_eq!(known.take(answer(&["192.0.2.7"], 60), failed(), Instant::now()), MINUTE);
    assert_eq!(known.problem("db.example.com"), None);
}

#[test]
fn name_without_an_address_is_reported_and_leads_nowhere() {
    let mut known = KnownName::default();
    assert_eq!(known.problem("db.example.com"), None, "nothing was asked yet");
    known.take(answer(&["192.0.2.7"], 60), answer(&[], 0), Instant::now());
    known.take(answer(&[], 0), answer(&[], 0), Instant::now());
    assert_eq!(known.addresses().count(), 0);
    assert!(known.problem("db.example.com").unwrap().contains("has no address"));
}

fn former(known: &KnownName) -> Vec<String> {
    known.former_addresses().map(|address| address.to_string()).collect()
}

#[test]
fn address_that_dns_no_longer_gives_is_kept_for_a_while() {
    let (mut known, start) = (KnownName::default(), Instant::now());
    let second = Duration::from_secs(1);
    known.take(answer(&["192.0.2.7", "192.0.2.8"], 60), answer(&[], 0), start);
    assert_eq!(former(&known), [""; 0]);
    known.take(answer(&["192.0.2.8"], 60), answer(&[], 0), start);
    assert_eq!(former(&known), ["192.0.2.7"]);
    assert_eq!(known.addresses().collect::<Vec<_>>(), [address("192.0.2.8")]);
    known.take(
        answer(&["192.0.2.8"], 60),
        failed(),
        start + GRACE.saturating_sub(second),
    );
    assert_eq!(former(&known), ["192.0.2.7"], "it is not gone before");
    known.take(answer(&["192.0.2.8"], 60), failed(), start + GRACE);
    assert_eq!(former(&known), [""; 0]);
}

#[test]
fn address_is_kept_for_several_times_to_live_and_while_dns_fails() {
    let (mut known, start) = (KnownName::default(), Instant::now());
    let hour = Duration::from_hours(1);
    known.take(answer(&["192.0.2.7"], 60), answer(&[], 0), start);
    known.take(answer(&["192.0.2.8"], 3600), answer(&[], 0), start);
    known.take(answer(&["192.0.2.8"], 3600), answer(&[], 0), start + 2 * hour);
    assert_eq!(former(&known), ["192.0.2.7"]);
    known.take(failed(), failed(), start + 4 * hour);
    assert_eq!(former(&known), ["192.0.2.7"], "nobody says that it is gone");
    known.take(answer(&["192.0.2.8"], 3600), answer(&[], 0), start + 4 * hour);
    assert_eq!(former(&known), [""; 0]);
}

#[test]
fn address_that_comes_back_is_no_former_one() {
    let (mut known, start) = (KnownName::default(), Instant::now());
    for _ in 0..2 {
        known.take(answer(&["192.0.2.7"], 5), answer(&[], 0), start);
        assert!(!former(&known).contains(&"192.0.2.7".to_owned()));
        known.take(answer(&["192.0.2.8"], 5), answer(&[], 0), start);
        assert_eq!(former(&known), ["192.0.2.7"]);
    }
}

#[test]
fn name_must_not_lead_into_the_pod_the_link_the_tailnet_or_the_api_server() {
    for (text, kind) in [
        ("127.0.0.1", "loopback"),
        ("::1", "loopback"),
        ("169.254.169.254", "link-local"),
        ("fe80::1", "link-local"),
        ("224.0.0.1", "multicast"),
        ("0.0.0.0", "unspecified"),
        ("::ffff:127.0.0.1", "written as IPv6"),
        ("64:ff9b::169.254.169.254", "link-local"),
        ("fd00:ec2::254", "metadata"),
        ("10.244.1.5", "the proxy itself"),
        ("fd00:10:244:1::5", "the proxy itself"),
        ("10.96.0.1", "API server"),
        ("100.64.0.9", "on a tailnet"),
        ("100.127.255.255", "on a tailnet"),
        ("fd7a:115c:a1e0::9", "on a tailnet"),
        ("192.168.77.3", "on a tailnet"),
    ] {
        let (usable, refused) = judge(&[text]);
        assert!(usable.is_empty(), "{text}");
        let refused = refused.unwrap();
        assert!(
            refused.contains(kind) && refused.contains("db.example.com"),
            "{refused}"
        );
    }
}

#[test]
fn what_may_be_used_is_used_beside_what_may_not() {
    let (usable, refused) = judge(&["192.0.2.7", "169.254.169.254", "2001:db8::7", "100.128.0.1"]);
    assert_eq!(usable, ["100.128.0.1", "192.0.2.7", "2001:db8::7"]);
    assert!(refused.is_some());
}

proptest! {
    #[test]
    fn pause_is_always_within_bounds(replies in proptest::collection::vec((0..3_u8, any::<u64>(), 0..3_u8, any::<u64>()), 1..40)) {
        let mut known = KnownName::default();
        let reply = |kind, seconds| match kind {
            0 => failed(),
            1 => answer(&[], seconds),
            _ => answer(&["192.0.2.7"], seconds),
        };
        for (v4, v4_seconds, v6, v6_seconds) in replies {
            let pause = known.take(reply(v4, v4_seconds), reply(v6, v6_seconds), Instant::now());
            prop_assert!((SHORTEST..=LONGEST).contains(&pause));
        }
    }
}
