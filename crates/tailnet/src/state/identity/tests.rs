use std::collections::BTreeMap;

use isthmus_tailnet_core::key::NodeKey;

use super::*;

const SERVER: &str = "https://control.example.com";

fn own(tags: &[&str]) -> OwnNode {
    OwnNode {
        stable_id: "n7".to_owned(),
        name: "web.tail.internal.".to_owned(),
        addresses: vec![],
        allowed: vec![],
        expired: false,
        key: NodeKey::from_bytes([1; 32]),
        key_expires: None,
        machine_authorized: true,
        tags: tags.iter().map(ToString::to_string).collect(),
        capabilities: BTreeMap::new(),
        services: BTreeMap::new(),
        user: 3,
    }
}

fn apply(values: &mut StateValues, changes: StateChanges) {
    super::super::file::apply(values, changes);
}

fn text(values: &StateValues, key: &str) -> String {
    String::from_utf8(values[key].clone()).unwrap()
}

#[test]
fn new_identity_is_stored_whole_and_comes_back() {
    let mut values = StateValues::new();
    let (first, changes) = Identity::load(&values, SERVER).unwrap();
    apply(&mut values, changes);
    let (second, changes) = Identity::load(&values, SERVER).unwrap();
    assert!(changes.is_empty());
    assert_eq!(first.machine.public, second.machine.public);
    assert_eq!(first.node.public, second.node.public);
    assert!(text(&values, "_machinekey").starts_with("privkey:"));
    assert_eq!(
        text(&values, "isthmus_machinekey_public"),
        first.machine.public.to_string()
    );
    let current = text(&values, "_current-profile");
    assert!(current.starts_with("profile-"), "{current}");
    let prefs: serde_json::Value = serde_json::from_slice(&values[&current]).unwrap();
    assert_eq!(prefs["ControlURL"], SERVER);
    assert!(
        prefs["Config"]["PrivateNodeKey"]
            .as_str()
            .unwrap()
            .starts_with("privkey:")
    );
}

/// A profile as the Go client writes it, with members that this program does not know.
fn go_state() -> StateValues {
    let key = "5".repeat(64);
    let prefs = format!(
        r#"{{"ControlURL":"{SERVER}","RouteAll":false,"Future":{{"b" : 1.50, "a":[ 1,2 ]}},"Config":{{"PrivateNodeKey":"privkey:{key}","OldPrivateNodeKey":"privkey:{}","Odd":1e2,"NetworkLockKey":"nlpriv:{key}","NodeID":"n7"}},"Last":"\u0026"}}"#,
        "0".repeat(64)
    );
    let profiles = r#"{"ab12":{"ID":"ab12","Key":"profile-ab12","Extra":{"z":1,"a":2}},"ffff":{"ID":"ffff"}}"#;
    StateValues::from([
        (
            MACHINE_KEY.to_owned(),
            format!("privkey:{}", "3".repeat(64)).into_bytes(),
        ),
        (CURRENT_PROFILE.to_owned(), b"profile-ab12".to_vec()),
        (PROFILES.to_owned(), profiles.as_bytes().to_vec()),
        ("profile-ab12".to_owned(), prefs.into_bytes()),
    ])
}

#[test]
fn unknown_members_stay_byte_for_byte() {
    let mut values = go_state();
    let (mut identity, changes) = Identity::load(&values, SERVER).unwrap();
    assert_eq!(changes.keys().collect::<Vec<_>>(), ["isthmus_machinekey_public"]);
    let changes = identity.logged_in(&own(&[]), ("ann@example.com", "Ann"), &NodePrefs::default());
    apply(&mut values, changes);
    let prefs = text(&values, "profile-ab12");
    for kept in [
        r#""Future":{"b" : 1.50, "a":[ 1,2 ]}"#,
        r#""Odd":1e2"#,
        r#""Last":"\u0026""#,
        "nlpriv:5555",
    ] {
        assert!(prefs.contains(kept), "{kept} not in {prefs}");
    }
    assert!(prefs.contains("ann@example.com"));
    let profiles = text(&values, PROFILES);
    assert!(
        profiles.contains(r#""Extra":{"z":1,"a":2}"#) && profiles.contains(r#""ffff":{"ID":"ffff"}"#),
        "{profiles}"
    );
    assert!(
        identity
            .logged_in(&own(&[]), ("ann@example.com", "Ann"), &NodePrefs::default())
            .is_empty(),
        "the same again is not written again"
    );
}

#[test]
fn login_name_of_a_tagged_device_is_its_own_name() {
    let mut values = go_state();
    let (mut identity, _) = Identity::load(&values, SERVER).unwrap();
    let changes = identity.logged_in(&own(&["tag:k8s"]), ("tagged-devices", "Tagged"), &NodePrefs::default());
    apply(&mut values, changes);
    let prefs: serde_json::Value = serde_json::from_slice(&values["profile-ab12"]).unwrap();
    assert_eq!(prefs["Config"]["UserProfile"]["LoginName"], "web.tail.internal");
    assert_eq!(prefs["Config"]["NodeID"], "n7");
}

#[test]
fn identity_of_another_control_server_is_left_alone() {
    let mut values = go_state();
    let before = text(&values, "profile-ab12");
    let (identity, changes) = Identity::load(&values, "https://other.example.com").unwrap();
    apply(&mut values, changes);
    assert_eq!(text(&values, "profile-ab12"), before);
    assert_ne!(text(&values, CURRENT_PROFILE), "profile-ab12");
    let (back, _) = Identity::load(&go_state(), SERVER).unwrap();
    assert_eq!(identity.machine.public, back.machine.public);
    assert_ne!(identity.node.public, back.node.public);
}

#[test]
fn hardware_bound_state_is_refused_by_name() {
    let mut values = go_state();
    let prefs = text(&values, "profile-ab12").replace(r#""Odd":1e2"#, r#""AttestationKey":{"tpm":1}"#);
    values.insert("profile-ab12".to_owned(), prefs.into_bytes());
    let refused = Identity::load(&values, SERVER).err();
    assert_eq!(
        refused,
        Some(IdentityError::HardwareBound {
            key: "profile-ab12".to_owned()
        })
    );
}

#[test]
fn damaged_state_is_refused_and_not_replaced() {
    for key in [MACHINE_KEY, PROFILES, "profile-ab12"] {
        let mut values = go_state();
        values.insert(key.to_owned(), b"{garbage".to_vec());
        assert_eq!(Identity::load(&values, SERVER).err(), Some(damaged(key)), "{key}");
    }
}

#[test]
fn renewed_node_key_remembers_the_old_one_until_login() {
    let mut values = go_state();
    let (mut identity, _) = Identity::load(&values, SERVER).unwrap();
    let old = identity.node.public;
    let changes = identity.renew_node_key();
    apply(&mut values, changes);
    let (mut again, _) = Identity::load(&values, SERVER).unwrap();
    assert_eq!(again.old_node.as_ref().map(|pair| pair.public), Some(old));
    assert_ne!(again.node.public, old);
    let changes = again.logged_in(&own(&[]), ("a", "A"), &NodePrefs::default());
    apply(&mut values, changes);
    assert!(Identity::load(&values, SERVER).unwrap().0.old_node.is_none());
}

#[test]
fn what_the_owner_wants_is_stored_in_the_words_of_the_go_client_and_only_when_it_changed() {
    let mut values = go_state();
    let (mut identity, _) = Identity::load(&values, SERVER).unwrap();
    let nothing = NodePrefs::default();
    apply(
        &mut values,
        identity.logged_in(&own(&[]), ("ann@example.com", "Ann"), &nothing),
    );
    assert!(
        !text(&values, "profile-ab12").contains("Hostname"),
        "absent and empty are one"
    );
    let prefs = NodePrefs {
        hostname: "web".to_owned(),
        accept_routes: true,
        advertise_routes: ["10.0.0.0/8".parse().unwrap()].into(),
        advertise_services: [("svc:web".to_owned(), Vec::new())].into(),
    };
    apply(
        &mut values,
        identity.logged_in(&own(&[]), ("ann@example.com", "Ann"), &prefs),
    );
    let stored: serde_json::Value = serde_json::from_slice(&values["profile-ab12"]).unwrap();
    assert_eq!(
        (&stored["Hostname"], &stored["RouteAll"]),
        (&"web".into(), &true.into())
    );
    assert_eq!(stored["AdvertiseRoutes"], serde_json::json!(["10.0.0.0/8"]));
    assert_eq!(stored["AdvertiseServices"], serde_json::json!(["svc:web"]));
    let again = identity.logged_in(&own(&[]), ("ann@example.com", "Ann"), &prefs);
    assert!(again.is_empty(), "the same again is not written again");
}
