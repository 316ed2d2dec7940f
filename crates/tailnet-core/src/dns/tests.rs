use serde_json::json;

use super::*;
use crate::netmap::NetmapStore;

/// A map with two nodes, a record and these settings.
fn map(dns: &serde_json::Value) -> Netmap {
    let mut config = json!({"Proxied": true, "ExtraRecords": [
        {"Name": "db.svc.tail.internal", "Value": "100.100.7.7"},
        {"Name": "outside.example.com", "Value": "100.100.7.8"},
    ]});
    for (key, value) in dns.as_object().unwrap() {
        config[key] = value.clone();
    }
    let message = json!({
        "Node": {"ID": 1, "Name": "me.tail.internal.", "Addresses": ["100.64.0.1/32", "fd7a:115c:a1e0::1/128"]},
        "Peers": [{"ID": 2, "Name": "Two.tail.internal.", "Addresses": ["100.64.0.2/32"],
            "Key": format!("nodekey:{}", "02".repeat(32))}],
        "DNSConfig": config,
    });
    let mut store = NetmapStore::default();
    store
        .apply(
            serde_json::from_value(message).unwrap(),
            std::time::SystemTime::UNIX_EPOCH,
        )
        .unwrap();
    store.netmap().unwrap()
}

fn plain() -> Netmap {
    map(&json!({}))
}

fn addresses(texts: &[&str]) -> Answer {
    Answer::Addresses(texts.iter().map(|text| text.parse().unwrap()).collect())
}

fn ask(addresses: &[&str]) -> Answer {
    Answer::Ask(addresses.iter().map(|text| text.parse().unwrap()).collect())
}

#[test]
fn nodes_and_records_are_found_by_name_in_the_family_that_was_asked_for() {
    let map = plain();
    assert_eq!(
        answer(&map, "me.tail.internal.", Question::A),
        addresses(&["100.64.0.1"])
    );
    assert_eq!(
        answer(&map, "ME.Tail.Internal", Question::Aaaa),
        addresses(&["fd7a:115c:a1e0::1"])
    );
    assert_eq!(
        answer(&map, "two.tail.internal.", Question::A),
        addresses(&["100.64.0.2"])
    );
    assert_eq!(
        answer(&map, "db.svc.tail.internal.", Question::A),
        addresses(&["100.100.7.7"])
    );
    assert_eq!(
        answer(&map, "outside.example.com.", Question::A),
        addresses(&["100.100.7.8"])
    );
}

#[test]
fn name_without_such_a_record_exists_all_the_same() {
    let map = plain();
    for (name, question) in [
        ("two.tail.internal", Question::Aaaa),
        ("two.tail.internal", Question::Other),
        ("outside.example.com", Question::Aaaa),
        ("tail.internal", Question::A),
        ("svc.tail.internal", Question::A),
    ] {
        assert_eq!(answer(&map, name, question), addresses(&[]), "{name}");
    }
}

#[test]
fn there_are_no_other_names_under_the_suffix_of_the_tailnet() {
    let map = plain();
    for name in ["three.tail.internal", "x.two.tail.internal", "three.svc.tail.internal"] {
        assert_eq!(answer(&map, name, Question::A), Answer::NoSuchName, "{name}");
    }
    for name in ["three.example.com", "example.com", "nottail.internal", "internal", ""] {
        assert_eq!(answer(&map, name, Question::A), Answer::AskMachine, "{name}");
    }
}

#[test]
fn addresses_lead_back_to_names() {
    let map = plain();
    let asked = |name| answer(&map, name, Question::Ptr);
    assert_eq!(
        asked("2.0.64.100.in-addr.arpa."),
        Answer::Name("Two.tail.internal.".into())
    );
    assert_eq!(
        asked("1.0.64.100.in-addr.arpa."),
        Answer::Name("me.tail.internal.".into())
    );
    assert_eq!(
        asked("7.7.100.100.in-addr.arpa."),
        Answer::Name("db.svc.tail.internal.".into())
    );
    let v6 = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.e.1.a.c.5.1.1.a.7.d.f.ip6.arpa.";
    assert_eq!(asked(v6), Answer::Name("me.tail.internal.".into()));
    assert_eq!(asked("9.0.64.100.in-addr.arpa."), Answer::NoSuchName, "nobody has it");
    assert_eq!(asked("8.8.8.8.in-addr.arpa."), Answer::AskMachine);
    assert_eq!(answer(&map, "2.0.64.100.in-addr.arpa.", Question::A), addresses(&[]));
}

#[test]
fn address_at_a_site_has_its_name() {
    let map = plain();
    let name = "10-1-2-3-via-7.tail.internal";
    assert_eq!(
        answer(&map, name, Question::Aaaa),
        addresses(&["fd7a:115c:a1e0:b1a:0:7:a01:203"])
    );
    assert_eq!(answer(&map, name, Question::A), addresses(&[]));
    assert_eq!(answer(&map, "10-1-2-3-via-7", Question::Aaaa), Answer::AskMachine);
}

#[test]
fn longest_route_decides_whom_to_ask() {
    let map = map(&json!({
        "Resolvers": [{"Addr": "9.9.9.9"}],
        "Routes": {
            "corp.example.": [{"Addr": "10.0.0.53"}, {"Addr": "10.0.0.54:5353"}],
            "eu.corp.example": [{"Addr": "10.1.0.53"}],
            "own.example": null,
            "empty.example": [],
            "doh.example": [{"Addr": "https://dns.example/query"}],
        },
    }));
    let asked = |name| answer(&map, name, Question::A);
    assert_eq!(asked("a.corp.example"), ask(&["10.0.0.53:53", "10.0.0.54:5353"]));
    assert_eq!(asked("corp.example"), ask(&["10.0.0.53:53", "10.0.0.54:5353"]));
    assert_eq!(asked("a.eu.corp.example"), ask(&["10.1.0.53:53"]));
    assert_eq!(asked("acorp.example"), ask(&["9.9.9.9:53"]));
    assert_eq!(asked("a.own.example"), Answer::NoSuchName);
    assert_eq!(asked("a.empty.example"), Answer::NoSuchName);
    assert_eq!(asked("a.doh.example"), Answer::Unable);
    assert_eq!(asked("example.com"), ask(&["9.9.9.9:53"]));
}

#[test]
fn names_of_the_tailnet_are_for_others_to_answer_where_control_wants_no_magic() {
    let map = map(&json!({"Proxied": false, "Routes": {"tail.internal": null}}));
    assert_eq!(answer(&map, "two.tail.internal", Question::A), Answer::AskMachine);
    assert_eq!(
        answer(&map, "2.0.64.100.in-addr.arpa", Question::Ptr),
        Answer::AskMachine
    );
}
