use std::collections::BTreeMap;

use isthmus_contract::proxy_config::ProxyConfig;
use proptest::prelude::*;

use super::{Login, LoginSource, PathSetting, Settings};

fn read(variables: &[(&str, &str)]) -> Result<Settings, super::SettingsError> {
    let variables: BTreeMap<String, String> = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    Settings::from_variables(&variables)
}

#[test]
fn hand_written_ingress_is_read() {
    let settings = read(&[
        ("TS_DEST_IP", "10.96.0.7"),
        ("TS_AUTHKEY", "tskey-auth-secret"),
        ("TS_HOSTNAME", "web"),
        ("TS_EXTRA_ARGS", "--login-server=http://192.0.2.1:8080"),
        ("TS_KUBE_SECRET", "web-state"),
        ("TS_USERSPACE", "false"),
        ("POD_IPS", "10.244.1.5,fd00:10:244:1::5"),
        ("POD_IP", "10.244.1.5"),
        ("ISTHMUS_PATH", "relay"),
        ("KUBERNETES_SERVICE_HOST", "fd00:10:96::1"),
        ("KUBERNETES_SERVICE_PORT", "443"),
    ])
    .unwrap();
    let address = "10.96.0.7".parse().unwrap();
    assert_eq!(settings.config, Some(ProxyConfig::ingress_to_every_port(vec![address])));
    let LoginSource::Environment(login) = &settings.login else {
        panic!("{settings:?}")
    };
    assert_eq!(login.auth_key.as_ref().unwrap().expose(), "tskey-auth-secret");
    assert_eq!(login.control_url.as_deref(), Some("http://192.0.2.1:8080"));
    assert_eq!(settings.pod.addresses.len(), 2);
    assert_eq!(settings.path, PathSetting::Relay);
    assert_eq!(settings.api_server, Some("[fd00:10:96::1]:443".parse().unwrap()));
    assert_eq!(settings.health, "[::]:9002".parse().unwrap());
    assert_eq!(settings.wireguard_port, 41641);
    assert!(!format!("{settings:?}").contains("secret-"), "a debugged key shows");
    assert!(!format!("{settings:?}").contains("tskey"), "a debugged key shows");
}

#[test]
fn debug_port_is_open_only_where_it_is_asked_for() {
    let debug = |variables: &[(&str, &str)]| read(variables).map(|settings| settings.debug);
    assert_eq!(debug(&[]).unwrap(), None);
    let asked = debug(&[("TS_DEBUG_ADDR_PORT", "10.244.1.5:9001")]).unwrap();
    assert_eq!(asked, Some("10.244.1.5:9001".parse().unwrap()));
    let error = debug(&[("TS_DEBUG_ADDR_PORT", "yes")]).unwrap_err();
    assert!(error.to_string().contains("write one like [::]:9001"), "{error}");
}

#[test]
fn routes_are_refused_and_none_is_none() {
    read(&[("TS_ROUTES", "")]).unwrap();
    let error = read(&[("TS_ROUTES", "10.0.0.0/8")]).unwrap_err();
    assert_eq!(error.problems[0].variable, "TS_ROUTES");
}

#[test]
fn target_may_be_a_name_of_the_cluster_or_of_the_tailnet() {
    let config = |name, value| read(&[(name, value)]).unwrap().config.unwrap();
    assert_eq!(
        config("TS_EXPERIMENTAL_DEST_DNS_NAME", "db.example.com."),
        ProxyConfig::ingress_to_name("db.example.com", None)
    );
    assert_eq!(
        config("TS_TAILNET_TARGET_FQDN", "Db.tailnet.example."),
        ProxyConfig::egress_to_name("db.tailnet.example")
    );
    let both = read(&[("TS_DEST_IP", "10.96.0.7"), ("TS_EXPERIMENTAL_DEST_DNS_NAME", "db")]);
    assert_eq!(both.unwrap_err().problems[0].variable, "TS_DEST_IP");
}

#[test]
fn all_problems_are_reported_together_with_variable_and_fix() {
    let error = read(&[
        ("TS_DEST_IP", "10.96.0.7"),
        ("TS_TAILNET_TARGET_IP", "100.64.0.5"),
        ("TS_EXPERIMENTAL_VERSIONED_CONFIG_DIR", "/etc/tsconfig"),
        ("TS_AUTHKEY", "tskey-auth-secret"),
        ("TS_EXTRA_ARGS", "--advertise-exit-node --login-server=nowhere"),
        ("TS_LOCAL_ADDR_PORT", "9002"),
        ("PORT", "0"),
        ("POD_IP", "pod"),
        ("TS_USERSPACE", "maybe"),
    ])
    .unwrap_err();
    insta::assert_snapshot!(error.to_string().replace("; ", ";\n"));
}

#[test]
fn userspace_is_refused_when_a_target_needs_the_kernel() {
    assert!(read(&[("TS_USERSPACE", "true")]).is_ok());
    let error = read(&[("TS_USERSPACE", "true"), ("TS_DEST_IP", "10.96.0.7")]).unwrap_err();
    assert_eq!(error.problems[0].variable, "TS_USERSPACE");
}

#[test]
fn secret_is_off_when_its_name_is_set_but_empty() {
    assert_eq!(
        read(&[("KUBERNETES_SERVICE_HOST", "10.96.0.1")])
            .unwrap()
            .kube_secret
            .as_deref(),
        Some("tailscale")
    );
    assert_eq!(
        read(&[("KUBERNETES_SERVICE_HOST", "10.96.0.1"), ("TS_KUBE_SECRET", "")])
            .unwrap()
            .kube_secret,
        None
    );
    assert_eq!(read(&[]).unwrap().kube_secret, None);
}

#[test]
fn first_auth_key_wins_and_login_server_may_be_two_words() {
    let settings = read(&[
        ("TS_AUTHKEY", "one"),
        ("TS_AUTH_KEY", "two"),
        ("TS_EXTRA_ARGS", "--login-server https://control.example"),
    ])
    .unwrap();
    let LoginSource::Environment(Login {
        auth_key, control_url, ..
    }) = settings.login
    else {
        panic!()
    };
    assert_eq!(auth_key.unwrap().expose(), "one");
    assert_eq!(control_url.as_deref(), Some("https://control.example"));
}

#[test]
fn health_address_may_be_a_bare_ipv6_host() {
    let health = |text: &str| read(&[("TS_LOCAL_ADDR_PORT", text)]).unwrap().health;
    assert_eq!(health("fd00::5:9002"), "[fd00::5]:9002".parse().unwrap());
    assert_eq!(health("10.0.0.5:9003"), "10.0.0.5:9003".parse().unwrap());
    assert_eq!(health(":9002"), "[::]:9002".parse().unwrap());
}

proptest! {
    #[test]
    fn junk_is_reported_and_never_panics(values in proptest::collection::vec("\\PC{0,20}", 11)) {
        let names = [
            "TS_DEST_IP", "TS_TAILNET_TARGET_IP", "TS_EXTRA_ARGS", "TS_LOCAL_ADDR_PORT", "PORT", "POD_IP", "POD_IPS",
            "TS_USERSPACE", "TS_KUBE_SECRET", "TS_EXPERIMENTAL_DEST_DNS_NAME", "TS_TAILNET_TARGET_FQDN",
        ];
        let variables: BTreeMap<String, String> =
            names.iter().map(|name| (*name).to_owned()).zip(values).collect();
        if let Err(error) = Settings::from_variables(&variables) {
            prop_assert!(!error.problems.is_empty());
            prop_assert!(error.problems.iter().all(|problem| names.contains(&problem.variable)));
        }
    }
}
