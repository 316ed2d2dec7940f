use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

use super::{secret_key_of, state_of};

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
