use proptest::prelude::*;

use super::{CAPABILITY_VERSION, parse_versioned_config, select_versioned_config};

#[test]
fn highest_version_that_is_not_too_new_is_selected() {
    let names = [
        "cap-95.hujson",
        "cap-107.hujson",
        "cap-130.hujson",
        "isthmus.json",
        "cap-x.hujson",
        "..data",
    ];
    assert_eq!(
        select_versioned_config(names, CAPABILITY_VERSION),
        Some("cap-107.hujson")
    );
    assert_eq!(select_versioned_config(names, 94), None);
    assert_eq!(
        select_versioned_config(["tailscaled", "cap-130.hujson"], 119),
        Some("tailscaled")
    );
}

#[test]
fn fields_are_read_in_any_case_and_with_comments() {
    let config = parse_versioned_config(
        r#"{
            // written by hand
            "version": "alpha0", "LOCKED": "false", "serverURL": "http://192.0.2.1",
            "AUTHKEY": "tskey-auth-secret", "Hostname": null, "AcceptDNS": false, "acceptRoutes": true,
            "AdvertiseRoutes": ["10.0.0.0/8"], "Later": {"x": 1},
        }"#,
    )
    .unwrap();
    assert_eq!(config.login.auth_key.as_ref().unwrap().expose(), "tskey-auth-secret");
    assert_eq!(config.login.control_url.as_deref(), Some("http://192.0.2.1"));
    assert_eq!(config.login.hostname, None);
    assert!(!config.locked && !config.accept_dns && config.login.accept_routes);
    assert_eq!(config.advertise_routes.len(), 1);
    assert!(!format!("{config:?}").contains("secret"));
}

#[test]
fn what_is_wrong_is_named() {
    let message = |text| parse_versioned_config(text).unwrap_err().to_string();
    assert!(message(r#"{"Version": "beta1"}"#).contains("beta1"));
    assert!(message(r#"{"Version": "alpha0", "Hostname": 5}"#).contains("Hostname"));
    assert!(message(r#"{"Version": "alpha0", "AdvertiseRoutes": ["x"]}"#).contains("AdvertiseRoutes"));
    assert!(message("[]").contains("braces"));
    assert!(message("{").contains("HuJSON"));
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,60}") {
        let _ = parse_versioned_config(&text);
    }
}
