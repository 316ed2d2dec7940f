use isthmus_contract::{
    proxy_status::{Carried, Family, Path, ProxyStatus},
    secret_key,
};
use k8s_openapi::api::core::v1::{LoadBalancerIngress, LoadBalancerStatus, ServiceStatus};
use serde_json::json;

use crate::service_proxy::{
    Input,
    plan::plan,
    test_objects::{come_up, ingress_wanted, input, load_balancer, pod, report, settings, settle},
};

/// A LoadBalancer Service whose proxy is up, with a device of both families.
fn ready() -> Input {
    let mut input = input(load_balancer());
    settle(&mut input);
    come_up(&mut input, &ingress_wanted());
    report(
        &mut input,
        secret_key::DEVICE_IPS,
        r#"["100.64.0.9","fd7a:115c:a1e0::9"]"#,
    );
    input
}

fn entries(input: &Input) -> Option<Vec<LoadBalancerIngress>> {
    plan(input, &settings()).load_balancer
}

fn write(input: &mut Input) {
    let ingress = entries(input);
    input.service.status = Some(ServiceStatus {
        load_balancer: Some(LoadBalancerStatus { ingress }),
        ..ServiceStatus::default()
    });
}

#[test]
fn ready_load_balancer_has_the_devices_name_and_the_addresses_of_its_families() {
    let found = json!(entries(&ready()));
    let wanted = json!([{"hostname": "shop-web.tail.net"}, {"ip": "100.64.0.9", "ipMode": "Proxy"}]);
    assert_eq!(found, wanted);
}

#[test]
fn dual_stack_load_balancer_has_both_addresses() {
    let mut input = ready();
    let ips = ["10.96.0.7", "fd00::7"].map(str::to_owned);
    input.service.spec.as_mut().unwrap().cluster_ips = Some(ips.to_vec());
    assert_eq!(
        entries(&input),
        Some(Vec::new()),
        "the proxy has not taken over the second address"
    );
    let crate::service_proxy::Intent::Proxy(wanted) = crate::service_proxy::intent::intent(&input.service, &settings())
    else {
        panic!("the Service is valid")
    };
    let mut status = ProxyStatus::new("pod-1", Some(wanted.proxy_config()), None);
    report(&mut input, secret_key::PROXY_STATUS, &status.render());
    assert_eq!(entries(&input).unwrap().len(), 3);
    status.carries = vec![Carried {
        family: Family::V4,
        path: Path::Kernel,
    }];
    report(&mut input, secret_key::PROXY_STATUS, &status.render());
    assert_eq!(
        entries(&input).unwrap().len(),
        2,
        "what the proxy does not carry is not announced"
    );
}

#[test]
fn pending_load_balancer_has_none_until_it_was_ready_once() {
    let mut input = ready();
    input.children.pod = Some(pod(false));
    assert_eq!(entries(&input), Some(Vec::new()));
    input = ready();
    write(&mut input);
    input.children.pod = None;
    assert_eq!(entries(&input).unwrap().len(), 2, "a restart moves nothing");
    input.children.secret = None;
    assert_eq!(entries(&input), Some(Vec::new()), "the device is gone");
}

#[test]
fn impossible_wish_leaves_the_entries_alone() {
    let mut input = ready();
    write(&mut input);
    let annotations = input.service.metadata.annotations.as_mut().unwrap();
    annotations.insert("tailscale.com/tags".to_owned(), "web".to_owned());
    assert_eq!(entries(&input).unwrap().len(), 2);
}

#[test]
fn load_balancers_of_others_keep_their_status() {
    let mut input = ready();
    write(&mut input);
    let annotations = input.service.metadata.annotations.as_mut().unwrap();
    annotations.insert("tailscale.com/expose".to_owned(), "true".to_owned());
    input.service.spec.as_mut().unwrap().load_balancer_class = Some("example.com/cloud".to_owned());
    assert_eq!(entries(&input), None);
}

#[test]
fn written_entries_need_no_second_write() {
    let mut input = ready();
    settle(&mut input);
    let first = plan(&input, &settings()).status(None, None, &input.now).unwrap();
    let status = ServiceStatus {
        conditions: first.condition.map(|condition| vec![condition]),
        load_balancer: Some(LoadBalancerStatus {
            ingress: first.load_balancer,
        }),
    };
    input.service.status = Some(status.clone());
    let plan = plan(&input, &settings());
    assert_eq!(plan.status(Some(&status), None, &input.now), None);
}
