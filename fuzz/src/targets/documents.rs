//! Documents: JSON and HuJSON of control, of the operator, of people, and of earlier runs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use isthmus_contract::device_config::DeviceConfig;
use isthmus_contract::proxy_config::ProxyConfig;
use isthmus_contract::proxy_status::ProxyStatus;
use isthmus_proxy_core as proxy;
use isthmus_tailbox::fuzzing::{compile_policy, rewrite_snapshot};
use isthmus_tailnet::state::{Identity, StateValues};
use isthmus_tailnet::static_peers::StaticPeers;
use isthmus_tailnet_core::addresses::AddressRange;
use isthmus_tailnet_wire::control::{
    EarlyNoise, MapRequest, MapResponse, PingRequest, RegisterRequest, RegisterResponse, ServerKeys, SetDnsRequest,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A document of a type is the same after it was written and read again, and is written the same then.
fn round_trip<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(input: &[u8]) -> Option<T> {
    let read: T = serde_json::from_slice(input).ok()?;
    let written = serde_json::to_vec(&read).expect("what was read can be written");
    let again: T = serde_json::from_slice(&written).unwrap_or_else(|error| panic_with(&written, &error));
    assert_eq!(again, read, "written as {}", String::from_utf8_lossy(&written));
    Some(read)
}

#[expect(clippy::panic, reason = "a panic is how a target says what is wrong")]
fn panic_with(written: &[u8], error: &serde_json::Error) -> ! {
    panic!(
        "what was written cannot be read: {error}: {}",
        String::from_utf8_lossy(written)
    );
}

pub(super) fn map_response(input: &[u8]) {
    round_trip::<MapResponse>(input);
}

pub(super) fn map_request(input: &[u8]) {
    round_trip::<MapRequest>(input);
}

/// The smaller documents of control.
pub(super) fn register(input: &[u8]) {
    round_trip::<RegisterRequest>(input);
    round_trip::<RegisterResponse>(input);
    round_trip::<ServerKeys>(input);
    round_trip::<EarlyNoise>(input);
    round_trip::<PingRequest>(input);
    round_trip::<SetDnsRequest>(input);
}

/// The rules that come of a policy are such as nodes understand, and never more open than the policy's own text allows
/// for: without a star, no rule is for every address.
pub(super) fn policy(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(rules) = compile_policy(text) else { return };
    for rule in &rules {
        let destinations = rule.dst_ports.iter().map(|to| &to.ip);
        for range in rule.src_ips.iter().chain(destinations) {
            assert!(AddressRange::parse(range).is_some(), "{range} is understood");
        }
        for to in &rule.dst_ports {
            assert!(to.ports.first <= to.ports.last, "{:?}", to.ports);
        }
    }
}

/// What an operator tells a proxy is the same when it is rendered and read again; and whatever it says, the rules of the
/// proxy that come of it can be built, and lead nowhere else.
pub(super) fn proxy_config(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(config) = ProxyConfig::parse(text) else { return };
    let rendered = config.render();
    assert_eq!(
        ProxyConfig::parse(&rendered).expect("what is rendered can be read"),
        config
    );
    let named: BTreeSet<IpAddr> = ["192.0.2.7", "2001:db8::7"]
        .iter()
        .filter_map(|ip| ip.parse().ok())
        .collect();
    let Ok(mode) = proxy::Mode::from_config(&config, &named) else {
        return;
    };
    let tailnet = ["100.64.0.3", "fd7a:115c:a1e0::3"]
        .iter()
        .filter_map(|ip| ip.parse().ok());
    let plan = proxy::Plan {
        mode,
        paths: proxy::Paths::KERNEL,
        tailnet: proxy::TailnetAddresses::from_addresses(tailnet),
        pod: ["10.244.1.5", "fd00:10:244:1::5"]
            .iter()
            .filter_map(|ip| ip.parse().ok())
            .collect(),
        tun: proxy::Tun {
            name: proxy::TUN_NAME.to_owned(),
            mtu: 1280,
        },
        reserved: proxy::ReservedPorts {
            wireguard: 41641,
            health: 9002,
            debug: None,
        },
    };
    assert_eq!(
        proxy::RulePlan::build(&plan),
        proxy::RulePlan::build(&plan),
        "the same plan gives the same rules"
    );
    let _ = (proxy::RoutePlan::build(&plan), plan.carries());
}

/// What a proxy tells is the same when it is rendered and read again.
pub(super) fn proxy_status(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(status) = ProxyStatus::parse(text) {
        assert_eq!(
            ProxyStatus::parse(&status.render()).expect("what is rendered can be read"),
            status
        );
    }
}

/// The document for the node, and the memory of documents between runs of a container.
pub(super) fn device_config(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let _ = proxy::parse_versioned_config(text);
    if let Ok(config) = DeviceConfig::parse(text) {
        let rendered = config.render();
        assert_eq!(
            DeviceConfig::parse(&rendered).expect("what is rendered can be read"),
            config
        );
    }
    if let Some(sources) = proxy::Sources::recall(text) {
        let rendered = sources.render();
        let again = proxy::Sources::recall(&rendered).expect("what is rendered can be read");
        assert_eq!(again.render(), rendered);
    }
    let entries = BTreeMap::from([
        ("isthmus.json".to_owned(), text.to_owned()),
        ("cap-107.hujson".to_owned(), text.to_owned()),
    ]);
    let _ = proxy::Documents::from_entries(&entries).parse();
}

/// The stored identity of a node, one value a line as `key=value`: it is the same when it is loaded again.
pub(super) fn identity(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    let mut values: StateValues = pairs
        .map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec()))
        .collect();
    let Ok((identity, changes)) = Identity::load(&values, "https://control.example.com") else {
        return;
    };
    for (key, change) in changes {
        match change {
            Some(value) => values.insert(key, value),
            None => values.remove(&key),
        };
    }
    let (again, changes) =
        Identity::load(&values, "https://control.example.com").expect("what is stored can be loaded");
    assert!(changes.is_empty(), "nothing more is to be stored: {:?}", changes.keys());
    assert_eq!(
        (again.machine.public, again.node.public),
        (identity.machine.public, identity.node.public)
    );
}

/// The peers of a node without control.
pub(super) fn peer_file(input: &[u8]) {
    if let Ok(peers) = StaticPeers::parse(&String::from_utf8_lossy(input)) {
        let _ = peers.snapshot();
    }
}

/// What is read of a snapshot is written such that it is read the same.
pub(super) fn snapshot(input: &[u8]) {
    if let Some(written) = rewrite_snapshot(input) {
        let again = rewrite_snapshot(&written).expect("what is written can be read");
        assert_eq!(again, written);
    }
}
