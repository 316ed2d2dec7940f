use std::{sync::Arc, time::Duration};

use super::{BaseUrlError, Server};
use crate::tls::client_config;

fn tls() -> Arc<rustls::ClientConfig> {
    client_config(None).unwrap()
}

fn server(url: &str) -> Result<Server, BaseUrlError> {
    Server::new(url, tls(), Duration::from_secs(1))
}

#[test]
fn base_url_gives_address_host_header_and_path() {
    let server = server("http://10.1.2.3:8080/base/").unwrap();
    assert_eq!((server.host.as_str(), server.port), ("10.1.2.3", 8080));
    assert_eq!(server.authority, "10.1.2.3:8080");
    assert_eq!(server.prefix, "/base");
    assert!(server.tls.is_none());
}

#[test]
fn https_on_ipv6_gets_its_port() {
    let server = server("https://[fd00::1]").unwrap();
    assert_eq!((server.host.as_str(), server.port), ("fd00::1", 443));
    assert!(server.tls.is_some());
}

#[test]
fn host_may_be_a_name() {
    let server = server("https://controlplane.example").unwrap();
    assert_eq!((server.host.as_str(), server.port), ("controlplane.example", 443));
    assert_eq!(server.authority, "controlplane.example");
}

#[test]
fn text_that_is_no_url_is_refused() {
    for url in ["10.1.2.3:80", "ftp://10.1.2.3", "", "http://"] {
        assert!(matches!(server(url), Err(BaseUrlError::Shape { .. })), "{url}");
    }
}
