use std::error::Error;

use super::{Port, Protocol, ProxyConfig};

const INGRESS: &str =
    r#"{"version":1,"mode":{"ingress":{"clusterIPs":["10.96.0.7"],"ports":[{"protocol":"TCP","port":80}]}}}"#;
const EGRESS: &str = r#"{"version":1,"mode":{"egress":{"targetIP":"100.64.0.5"}}}"#;

fn tcp(port: u16) -> Port {
    Port {
        protocol: Protocol::Tcp,
        port,
    }
}

fn refusal(text: &str) -> String {
    let error = ProxyConfig::parse(text).unwrap_err();
    error.source().expect("the cause is kept").to_string()
}

#[test]
fn ingress_document_has_the_bytes_of_the_contract() {
    let config = ProxyConfig::ingress(vec!["10.96.0.7".parse().unwrap()], vec![tcp(80)]);
    assert_eq!(config.render(), INGRESS);
    assert_eq!(ProxyConfig::parse(INGRESS).unwrap(), config);
}

#[test]
fn egress_document_has_the_bytes_of_the_contract() {
    let config = ProxyConfig::egress("100.64.0.5".parse().unwrap());
    assert_eq!(config.render(), EGRESS);
    assert_eq!(ProxyConfig::parse(EGRESS).unwrap(), config);
}

#[test]
fn order_of_ports_does_not_change_the_document() {
    let address = || vec!["10.96.0.7".parse().unwrap()];
    let one = ProxyConfig::ingress(address(), vec![tcp(443), tcp(80), tcp(443)]);
    let other = ProxyConfig::ingress(address(), vec![tcp(80), tcp(443)]);
    assert_eq!(one.render(), other.render());
}

#[test]
fn unknown_members_are_ignored_at_every_level() {
    let text = r#"{"version":1,"note":0,"mode":{"later":{},"egress":{"targetIP":"100.64.0.5","weight":3}}}"#;
    assert_eq!(ProxyConfig::parse(text).unwrap().render(), EGRESS);
}

#[test]
fn other_version_is_refused_by_number() {
    assert!(refusal(r#"{"version":2,"mode":{"egress":{"targetIP":"100.64.0.5"}}}"#).contains("version is 2"));
}

#[test]
fn document_without_a_mode_or_with_two_is_refused() {
    let both =
        r#"{"version":1,"mode":{"egress":{"targetIP":"1.2.3.4"},"ingress":{"clusterIPs":["1.2.3.4"],"ports":[]}}}"#;
    for text in [r#"{"version":1,"mode":{}}"#, both] {
        assert!(refusal(text).contains("exactly one"), "{text}");
    }
}

#[test]
fn targets_by_name_have_the_bytes_of_the_contract() {
    let exposed = r#"{"version":1,"mode":{"ingress":{"dnsName":"db.example.com"}}}"#;
    let config = ProxyConfig::ingress_to_name("db.example.com", None);
    assert_eq!(config.render(), exposed);
    assert_eq!(ProxyConfig::parse(exposed).unwrap(), config);

    let reached = r#"{"version":1,"mode":{"egress":{"targetFQDN":"db.tailnet.example"}}}"#;
    let config = ProxyConfig::egress_to_name("DB.tailnet.example.");
    assert_eq!(config.render(), reached);
    assert_eq!(ProxyConfig::parse(reached).unwrap(), config);
}

#[test]
fn target_by_address_and_by_name_at_once_or_neither_is_refused() {
    for text in [
        r#"{"version":1,"mode":{"ingress":{"clusterIPs":["10.96.0.7"],"dnsName":"db.example.com"}}}"#,
        r#"{"version":1,"mode":{"ingress":{"ports":[]}}}"#,
        r#"{"version":1,"mode":{"egress":{"targetIP":"100.64.0.5","targetFQDN":"db.tailnet.example"}}}"#,
        r#"{"version":1,"mode":{"egress":{}}}"#,
    ] {
        assert!(refusal(text).contains("exactly one"), "{text}");
    }
}
