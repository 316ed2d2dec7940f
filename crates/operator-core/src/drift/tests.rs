use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};

use super::{needs_apply, seal};

fn wanted(port: i32) -> Service {
    let port = ServicePort {
        name: Some("web".to_owned()),
        port,
        ..ServicePort::default()
    };
    let spec = ServiceSpec {
        ports: Some(vec![port]),
        ..ServiceSpec::default()
    };
    seal(
        Service {
            spec: Some(spec),
            ..Service::default()
        },
        |service| &mut service.metadata,
    )
}

fn spec(service: &mut Service) -> &mut ServiceSpec {
    service.spec.as_mut().unwrap()
}

#[test]
fn missing_object_is_applied() {
    assert!(needs_apply(&wanted(80), None));
}

#[test]
fn defaults_and_status_beside_what_is_wanted_are_no_drift() {
    let mut live = wanted(80);
    spec(&mut live).session_affinity = Some("None".to_owned());
    spec(&mut live).ports.as_mut().unwrap()[0].protocol = Some("TCP".to_owned());
    live.metadata.resource_version = Some("7".to_owned());
    assert!(!needs_apply(&wanted(80), Some(&live)));
}

#[test]
fn edited_field_and_added_element_are_drift() {
    let mut live = wanted(80);
    spec(&mut live).ports.as_mut().unwrap()[0].port = 81;
    assert!(needs_apply(&wanted(80), Some(&live)));
    let mut live = wanted(80);
    spec(&mut live).ports.as_mut().unwrap().push(ServicePort::default());
    assert!(needs_apply(&wanted(80), Some(&live)));
}

#[test]
fn field_no_longer_wanted_is_drift() {
    let mut earlier = wanted(80);
    earlier = {
        spec(&mut earlier).publish_not_ready_addresses = Some(true);
        seal(earlier, |service| &mut service.metadata)
    };
    assert!(needs_apply(&wanted(80), Some(&earlier)));
}

#[test]
fn amount_in_another_form_is_no_drift() {
    let resources = |cpu: &str| {
        let text = format!(r#"{{"resources": {{"limits": {{"cpu": "{cpu}"}}}}}}"#);
        serde_json::from_str::<serde_json::Value>(&text).unwrap()
    };
    assert!(super::holds(&resources("1"), &resources("1000m")));
    assert!(!super::holds(&resources("2"), &resources("1000m")));
    assert!(!super::holds(
        &serde_json::json!({"resources": {"limits": {}}}),
        &resources("1")
    ));
}
