use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::ObjectMeta;

use super::{Known, secret_key_of, state_of};

#[test]
fn key_is_written_as_a_secret_can_have_it() {
    assert_eq!(secret_key_of("profile-a1/b2"), "profile-a1_b2");
    assert_eq!(secret_key_of("web.tailnet.example.crt"), "web.tailnet.example.crt");
    assert_eq!(secret_key_of("_machinekey"), "_machinekey");
}

#[test]
fn configuration_in_the_same_secret_is_no_state() {
    let keys = ["_machinekey", "isthmus.json", "cap-107.hujson", "profile-1"];
    let data = keys.map(|key| (key.to_owned(), ByteString(b"value".to_vec())));
    let state = state_of(Secret {
        data: Some(BTreeMap::from(data)),
        ..Secret::default()
    });
    assert_eq!(state.into_keys().collect::<Vec<_>>(), ["_machinekey", "profile-1"]);
}

#[test]
fn state_is_lost_when_a_newer_secret_lacks_it() {
    let secret = |version: &str, keys: &[&str]| Secret {
        metadata: ObjectMeta {
            resource_version: Some(version.to_owned()),
            ..ObjectMeta::default()
        },
        data: Some(
            keys.iter()
                .map(|&key| (key.to_owned(), ByteString::default()))
                .collect(),
        ),
        ..Secret::default()
    };
    let known = Known {
        values: state_of(secret("7", &["_machinekey", "device_id"])),
        version: 7,
    };
    assert!(known.is_lost(&secret("8", &["isthmus.json"])), "deleted, and made anew");
    assert!(known.is_lost(&secret("8", &["isthmus.json", "_machinekey"])), "emptied");
    assert!(!known.is_lost(&secret("8", &["isthmus.json", "_machinekey", "device_id"])));
    assert!(
        !known.is_lost(&secret("6", &["isthmus.json"])),
        "from before it was written"
    );
    assert!(
        !Known::default().is_lost(&secret("8", &["isthmus.json"])),
        "nothing to lose"
    );
}
