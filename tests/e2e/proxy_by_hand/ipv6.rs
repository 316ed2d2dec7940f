//! IPv6 through proxies whose Pods the kubelet starts without IPv6 forwarding, and that may set no sysctl.

use isthmus_testkit::cluster::shared;
use isthmus_testkit::wait;

use super::{Stage, curl, stage};

/// Pods of a stock cluster start without IPv6 forwarding, also the proxy's.
fn assert_ipv6_is_not_forwarded(stage: &Stage) {
    let setting = ["cat", "/proc/sys/net/ipv6/conf/all/forwarding"];
    assert_eq!(stage.namespace.exec("client", &setting).unwrap().trim(), "0");
}

/// The way that the proxy says it chose.
fn assert_relayed(stage: &Stage, pod: &str) {
    let log = stage.namespace.run(&["logs", pod]);
    let chosen = log
        .lines()
        .find(|line| line.contains("ways through the proxy are chosen"));
    assert!(chosen.is_some_and(|line| line.contains("\"ipv6\":\"relay\"")), "{log}");
}

#[test]
fn laptop_reaches_an_ipv6_service_where_pods_do_not_forward_ipv6() {
    let Some(stage) = stage("ingress_ipv6", shared()) else {
        return;
    };
    assert_ipv6_is_not_forwarded(&stage);
    let service = stage.get("service/web6", ".spec.clusterIP");
    let before = curl(&stage.laptop.host, &format!("http://[{service}]/cgi-bin/who"));
    assert!(!before.status.success(), "the laptop has no way to the cluster");
    stage.apply_by_hand("ingress.yaml", "10.96.0.100", &service);
    stage.wait_for_proxy("ingress");
    let address = wait::until("the device", || {
        stage.tailnet.ipv6_address_of("hand-written-ingress").unwrap()
    });
    let page = wait::until("the page", || {
        let answer = curl(&stage.laptop.host, &format!("http://[{address}]/cgi-bin/who"));
        let page = String::from_utf8_lossy(&answer.stdout).into_owned();
        answer.status.success().then_some(page)
    });
    let proxy = stage.get("pod/ingress", ".status.podIPs[1].ip");
    assert!(proxy.contains(':'), "{proxy}");
    assert_eq!(
        page.trim(),
        format!("web saw [{proxy}]"),
        "the Service sees the proxy's Pod"
    );
    let health = curl(&stage.laptop.host, &format!("http://[{address}]:9002/healthz"));
    assert!(!health.status.success(), "the health port is closed over the tailnet");
    assert_relayed(&stage, "ingress");
}

#[test]
fn pod_reaches_a_device_over_ipv6_where_pods_do_not_forward_ipv6() {
    let Some(stage) = stage("egress_ipv6", shared()) else {
        return;
    };
    assert_ipv6_is_not_forwarded(&stage);
    let device = stage.tailnet.join(stage.world.host("device", 4), "device").unwrap();
    let _server = stage.serve_who_asked(&device.host, "[::]:80");
    let target = stage.tailnet.ipv6_address_of("device").unwrap().unwrap();
    let direct = format!("http://[{target}]/cgi-bin/who");
    let before = stage.namespace.exec("client", &["curl", "-sSf", "-m", "3", &direct]);
    assert!(before.is_err(), "a Pod has no way to the tailnet: {before:?}");
    stage.apply_by_hand("egress.yaml", "100.64.0.5", &target);
    stage.wait_for_proxy("egress");
    let proxy = stage.get("pod/egress", ".status.podIPs[1].ip");
    let url = format!("http://[{proxy}]/cgi-bin/who");
    let page = wait::until("the device's page", || {
        stage.namespace.exec("client", &["curl", "-sSf", "-m", "5", &url]).ok()
    });
    let own = stage.tailnet.ipv6_address_of("hand-written-egress").unwrap().unwrap();
    assert_eq!(
        page.trim(),
        format!("device saw [{own}]"),
        "the device sees the proxy's tailnet address"
    );
    assert_relayed(&stage, "egress");
}
