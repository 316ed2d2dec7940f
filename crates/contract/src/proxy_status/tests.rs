use super::{ParseProxyStatusError, ProxyStatus};
use crate::proxy_config::ProxyConfig;

#[test]
fn status_has_the_bytes_of_the_contract() {
    let config = ProxyConfig::egress("100.64.0.5".parse().unwrap());
    let status = ProxyStatus::new("6f0", Some(config), None);
    let text = r#"{"version":1,"podUID":"6f0","applied":{"version":1,"mode":{"egress":{"targetIP":"100.64.0.5"}}}}"#;
    assert_eq!(status.render(), text);
    assert_eq!(ProxyStatus::parse(text).unwrap(), status);
}

#[test]
fn problem_alone_is_a_status() {
    let status = ProxyStatus::parse(r#"{"version":1,"podUID":"6f0","problem":"no TUN","later":true}"#).unwrap();
    assert_eq!(status, ProxyStatus::new("6f0", None, Some("no TUN".to_owned())));
}

#[test]
fn status_of_another_version_is_refused() {
    let error = ProxyStatus::parse(r#"{"version":9,"podUID":"6f0"}"#).unwrap_err();
    assert!(matches!(error, ParseProxyStatusError::Version(9)));
}
