//! Namespaces, Services and the operator are removed, in every order that docs/install.md names.

use std::collections::BTreeSet;

use isthmus_testkit::cluster::shared;
use isthmus_testkit::netns::Process;
use serde_json::Value;

use super::{DATABASE_SERVICE, ROWS};
use crate::stage::{PAGE, Stage, WEB_POD, WEB_SERVICE};

/// Kinds of objects without a namespace that an installation has.
const OF_THE_CLUSTER: &str =
    "crds,clusterroles,clusterrolebindings,ingressclasses,priorityclasses,namespaces,validatingadmissionpolicies";

/// A stage on which a Service is exposed and a device is reached. Gives back the device's server as well, and the address of
/// the exposed Service.
fn serve_both_ways(stage: &Stage) -> (Process, String) {
    let database = stage.tailnet.join(stage.world.host("database", 4), "database").unwrap();
    let server = stage.serve(&database.host, ROWS);
    stage.run_client();
    stage.run_pods(WEB_POD, &["web"]);
    stage.namespace.apply(WEB_SERVICE);
    stage
        .namespace
        .apply(&DATABASE_SERVICE.replace("ADDRESS", &database.address));
    let address = stage.wait_until_ready("web");
    stage.wait_until_ready("database");
    assert_eq!(stage.fetch(&address).as_deref(), Some(PAGE));
    let url = format!("http://database.{}/", stage.namespace.name());
    assert_eq!(stage.ask(&url).as_deref(), Some(ROWS));
    (server, address)
}

fn devices(stage: &Stage) -> BTreeSet<String> {
    let devices = stage.tailnet.devices().unwrap();
    let names = devices
        .iter()
        .map(|device| device["hostname"].as_str().unwrap().to_owned());
    names.collect()
}

/// The test cluster has one of its own that is called like ours.
fn of_the_cluster(stage: &Stage) -> Vec<String> {
    let all = stage.kubectl(&["get", OF_THE_CLUSTER, "-o", "name"]);
    let ours = all
        .lines()
        .filter(|name| name.contains("isthmus") || name.contains("tailscale"));
    ours.map(str::to_owned).collect()
}

#[test]
fn namespace_with_services_in_it_ends_and_nothing_remains_after_it_and_the_operator() {
    let Some(stage) = Stage::on(shared(), "terminating") else {
        return;
    };
    let before = of_the_cluster(&stage);
    let operator = stage.install_operator();
    let (_server, address) = serve_both_ways(&stage);
    assert_eq!(devices(&stage).len(), 4);
    assert!(of_the_cluster(&stage).len() > before.len());

    operator.kubectl(&["delete", "namespace", stage.namespace.name(), "--timeout=90s"]);
    assert_eq!(operator.proxies(), "");
    assert_eq!(
        devices(&stage),
        BTreeSet::from(["database", "laptop"].map(str::to_owned))
    );
    assert_eq!(stage.fetch(&address), None);
    operator.remove();
    assert_eq!(of_the_cluster(&stage), before);
}

#[test]
fn operator_removed_before_its_services_leaves_what_the_manual_says_and_can_come_back_to_clear_it() {
    let Some(stage) = Stage::on(shared(), "operator_first") else {
        return;
    };
    let operator = stage.install_operator();
    let (_server, address) = serve_both_ways(&stage);
    let all = devices(&stage);
    operator.remove();
    assert_eq!(stage.fetch(&address), None, "traffic stops with the proxies");
    for name in ["web", "database"] {
        let service = stage.service(name);
        assert_eq!(
            service["metadata"]["finalizers"],
            Value::from(["tailscale.com/finalizer"])
        );
        stage.namespace.run(&["delete", "service", name, "--wait=false"]);
    }
    let egress = stage.service("database");
    assert_eq!(egress["spec"]["type"], "ExternalName");
    let own = egress["metadata"]["annotations"]["isthmus.dev/original-spec"].to_string();
    assert!(own.contains("nobody"), "{own}");

    let by_hand = r#"{"metadata": {"finalizers": null}}"#;
    let free = ["patch", "service", "web", "--type", "merge", "-p", by_hand];
    stage.namespace.run(&free);
    let services = || stage.namespace.run(&["get", "services", "-o", "name"]);
    assert_eq!(services(), "service/database\n");
    operator.install_again();
    stage
        .namespace
        .run(&["wait", "--for=delete", "service/database", "--timeout=60s"]);
    assert_eq!(operator.proxies(), "");
    assert_eq!(devices(&stage), all, "the manual leaves the devices to people");
}
