//! Both families of a Service and of a device, of which Pods forward IPv4 alone: the relay carries the other.

use isthmus_testkit::cluster::shared;
use isthmus_testkit::wait;

use super::{datagrams, stage};

/// TCP by the control connection of a measurement, UDP by its datagrams, over both families.
const BOTH: &str = "apiVersion: v1
kind: Service
metadata:
  name: web
  annotations: {tailscale.com/expose: 'true'}
spec:
  ipFamilyPolicy: RequireDualStack
  selector: {app: iperf}
  ports:
  - {name: control, port: 5201, protocol: TCP}
  - {name: data, port: 5201, protocol: UDP}
";

/// A device by its IPv6 address.
const DEVICE: &str = "apiVersion: v1
kind: Service
metadata:
  name: web
  annotations: {tailscale.com/tailnet-ip: 'ADDRESS'}
spec:
  selector: {app: nobody}
  ports: [{port: 80}]
";

#[test]
fn exposed_service_of_both_families_carries_tcp_and_udp_over_ipv6() {
    let Some(stage) = stage(shared(), "both_families") else {
        return;
    };
    let _operator = stage.install_operator();
    stage.namespace.apply(BOTH);
    stage.wait_for("web", "ProxyCreated", "the relay in user space carries IPv6");
    let device = stage.device("web");
    let tailnet = &stage.tailnet;
    let addresses = [tailnet.address_of(&device), tailnet.ipv6_address_of(&device)];
    for address in addresses.map(|address| address.unwrap().unwrap()) {
        let arrived = wait::until("datagrams", || {
            datagrams(&stage.laptop.host, &address).filter(|count| *count > 0)
        });
        assert_eq!(arrived, 50, "through {address}");
    }
}

#[test]
fn pod_reaches_a_device_by_its_ipv6_address() {
    let Some(stage) = stage(shared(), "egress_by_ipv6") else {
        return;
    };
    let _operator = stage.install_operator();
    let member = stage.tailnet.join(stage.world.host("database", 4), "database").unwrap();
    let _server = stage.serve(&member.host, "rows over IPv6\n");
    let target = stage.tailnet.ipv6_address_of("database").unwrap().unwrap();
    let page = stage.fetch(&format!("[{target}]"));
    assert_eq!(page.as_deref(), Some("rows over IPv6\n"));
    let direct = stage.ask(&format!("http://[{target}]/"));
    assert_eq!(direct, None, "a Pod has no way to the tailnet");
    stage.namespace.apply(&DEVICE.replace("ADDRESS", &target));
    stage.wait_for("web", "ProxyCreated", "the relay in user space carries IPv6");
    let url = format!("http://web.{}/", stage.namespace.name());
    wait::until("the rows", || {
        (stage.ask(&url).as_deref() == Some("rows over IPv6\n")).then_some(())
    });
}
