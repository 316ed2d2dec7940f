//! The operator on the real cluster, from `kubectl apply` to a Service that is gone without a trace.

use isthmus_testkit::cluster::shared;

use crate::stage::{PAGE, Stage, WEB_POD, WEB_SERVICE};

#[test]
fn exposed_service_is_reached_survives_its_operator_and_is_gone_without_a_trace() {
    let Some(stage) = Stage::on(shared(), "operator") else {
        return;
    };
    let operator = stage.install_operator();
    stage.run_pods(WEB_POD, &[]);
    stage.namespace.apply(WEB_SERVICE);
    let address = stage.wait_until_ready("web");
    let message = stage.get("service/web", ".status.conditions[0].message");
    assert!(message.contains(&address), "{message}");
    assert_eq!(stage.fetch(&address).as_deref(), Some(PAGE), "{message}");

    operator.restart();
    assert!(stage.fetch(&address).is_some(), "traffic stopped with the operator");
    stage.namespace.run(&["delete", "service", "web", "--timeout=60s"]);
    assert_eq!(operator.proxies(), "");
    let left = stage.tailnet.address_of(&stage.device("web")).unwrap();
    assert_eq!(left, None, "the device is left");
    assert_eq!(stage.fetch(&address), None);
}
