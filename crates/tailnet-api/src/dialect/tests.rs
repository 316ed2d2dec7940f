use std::time::Duration;

use super::Dialect::{HeadscaleV1, TailscaleV2};
use super::segment;
use crate::AuthKeyRequest;

fn request() -> AuthKeyRequest {
    AuthKeyRequest {
        tags: vec!["tag:k8s".to_owned(), "tag:web".to_owned()],
        expiry: Duration::from_hours(1),
        description: "isthmus ts-web-b2c4d-0".to_owned(),
    }
}

#[test]
fn path_segments_cannot_leave_their_place() {
    assert_eq!(segment("../x?y"), "..%2Fx%3Fy");
}

#[test]
fn key_of_headscale_is_told_its_end_and_its_tags() {
    let now = "2026-11-22T22:00:00.5Z".parse().unwrap();
    let said = HeadscaleV1.create_key(&request(), now).unwrap();
    assert_eq!(
        (said.method.as_str(), said.path.as_str()),
        ("POST", "/api/v1/preauthkey")
    );
    assert_eq!(
        said.body,
        r#"{"reusable":false,"ephemeral":false,"expiration":"2026-11-22T23:00:00.5Z","aclTags":["tag:k8s","tag:web"]}"#
    );
    let answer = r#"{"preAuthKey":{"user":null,"id":"17","key":"hskey-auth-a-b","reusable":false,"ephemeral":false,"used":false,
        "expiration":"2026-11-22T23:00:00.5Z","createdAt":"2026-11-22T22:00:00.6Z","aclTags":["tag:k8s"]}}"#;
    let made = HeadscaleV1.created_key(answer.as_bytes()).unwrap();
    assert_eq!((made.id.as_str(), made.key.expose()), ("17", "hskey-auth-a-b"));
}

#[test]
fn devices_of_headscale_are_read_with_their_numbers_as_ids() {
    let node = r#"{"id":"3","machineKey":"mkey:01","nodeKey":"nodekey:02","discoKey":"discokey:03","ipAddresses":["100.64.0.3","fd7a::3"],
        "name":"shop-web","user":{"id":"2147455555","name":"tagged-devices"},"lastSeen":null,"expiry":null,"preAuthKey":null,
        "createdAt":"2026-11-22T22:00:00Z","registerMethod":"REGISTER_METHOD_AUTH_KEY","givenName":"shop-web-1","online":true,
        "approvedRoutes":[],"availableRoutes":[],"subnetRoutes":[],"tags":["tag:k8s"]}"#;
    let device = HeadscaleV1.device(format!(r#"{{"node":{node}}}"#).as_bytes()).unwrap();
    assert_eq!(
        (
            device.node_id.as_str(),
            device.name.as_str(),
            device.hostname.as_str(),
            device.machine_key.as_str()
        ),
        ("3", "shop-web-1", "shop-web", "mkey:01")
    );
    assert_eq!(
        (&*device.addresses, &*device.tags),
        (
            &["100.64.0.3".to_owned(), "fd7a::3".to_owned()][..],
            &["tag:k8s".to_owned()][..]
        )
    );
    let list = HeadscaleV1
        .devices(format!(r#"{{"nodes":[{node}]}}"#).as_bytes())
        .unwrap();
    assert_eq!(list, [device]);
    assert!(HeadscaleV1.devices(b"{}").unwrap().is_empty());
    assert!(HeadscaleV1.devices(br#"{"nodes":[{"id":"3/../4"}]}"#).is_err());
}

#[test]
fn keys_of_headscale_have_no_description() {
    let answer = br#"{"preAuthKeys":[{"id":"1","key":"hskey-auth-a-***"},{"id":2}]}"#;
    let keys = HeadscaleV1.keys(answer).unwrap();
    assert_eq!(keys.iter().map(|key| key.id.as_str()).collect::<Vec<_>>(), ["1", "2"]);
    assert!(keys.iter().all(|key| key.description.is_empty()));
}

#[test]
fn device_and_key_are_named_in_the_path() {
    let tags = ["tag:web".to_owned()];
    let said = [
        TailscaleV2.delete_key("k1/2"),
        TailscaleV2.delete_device("n1"),
        TailscaleV2.set_tags("n1", &tags),
        HeadscaleV1.delete_key("17"),
        HeadscaleV1.get_device("3"),
        HeadscaleV1.delete_device("3"),
        HeadscaleV1.set_tags("3", &tags),
    ];
    let lines = said
        .map(|said| said.map(|said| format!("{} {} {}", said.method, said.path, String::from_utf8_lossy(&said.body))));
    let lines = lines.map(Option::unwrap);
    assert_eq!(
        lines,
        [
            "DELETE /api/v2/tailnet/-/keys/k1%2F2 ",
            "DELETE /api/v2/device/n1 ",
            r#"POST /api/v2/device/n1/tags {"tags":["tag:web"]}"#,
            "DELETE /api/v1/preauthkey?id=17 ",
            "GET /api/v1/node/3 ",
            "DELETE /api/v1/node/3 ",
            r#"POST /api/v1/node/3/tags {"tags":["tag:web"]}"#,
        ]
    );
}

#[test]
fn id_that_is_no_number_names_nothing_in_headscale() {
    for id in ["nABC", "", "3/../4", "-1", "+1", "99999999999999999999"] {
        assert_eq!(HeadscaleV1.delete_device(id), None, "{id}");
        assert_eq!(HeadscaleV1.delete_key(id), None, "{id}");
    }
}
