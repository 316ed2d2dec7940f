use std::error::Error;

use super::{StaticPeers, StaticPeersError};
use crate::dataplane::Path;

const KEY: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

fn file(extra: &str) -> String {
    format!(
        r#"{{"privateKey": "{KEY}", "addresses": ["10.0.0.1/24", "fd00::1/64"], {extra}
            "peers": [{{"publicKey": "{KEY}", "endpoint": "192.0.2.2:41641", "allowedIps": ["10.0.0.2/32"]}}]}}"#
    )
}

fn cause(text: &str) -> String {
    StaticPeers::parse(text).unwrap_err().source().unwrap().to_string()
}

#[test]
fn snapshot_has_own_addresses_without_their_prefixes() {
    let peers = StaticPeers::parse(&file("")).unwrap();
    let snapshot = peers.snapshot();
    assert_eq!(
        snapshot.own,
        ["10.0.0.1/32".parse().unwrap(), "fd00::1/128".parse().unwrap()]
    );
    assert_eq!(
        snapshot.peers[0].path,
        Some(Path::Direct("192.0.2.2:41641".parse().unwrap()))
    );
    assert_eq!((peers.listen_port, peers.mtu), (41641, 1280));
}

#[test]
fn mistake_is_named_and_located() {
    assert!(cause(&file("").replacen(KEY, "AQE=", 1)).contains("32 bytes in base64"));
    assert!(cause(&file("\"listenport\": 1,")).contains("unknown field `listenport`"));
    assert!(cause(&file("").replace("10.0.0.2/32", "10.0.0.2/33")).contains("line 2"));
    assert!(cause("{").contains("line 1"));
}

#[test]
fn file_is_refused_when_the_node_could_not_work() {
    let no_address = file("").replace("\"10.0.0.1/24\", \"fd00::1/64\"", "");
    assert!(matches!(
        StaticPeers::parse(&no_address),
        Err(StaticPeersError::NoAddress)
    ));
    assert!(matches!(
        StaticPeers::parse(&file("\"mtu\": 1000,")),
        Err(StaticPeersError::Mtu(1000))
    ));
}

#[test]
fn private_key_is_not_printed() {
    let printed = format!("{:?}", StaticPeers::parse(&file("")).unwrap());
    assert!(printed.contains("redacted") && !printed.contains(KEY));
}
