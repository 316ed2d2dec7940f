//! A proxy that dies between its registration and the note of its id.

use isthmus_testkit::cluster::shared;
use isthmus_testkit::wait;
use serde_json::Value;

use super::Cordon;
use crate::stage::{Operator, PAGE, PATIENCE, PodProcess, Stage, WEB_POD, WEB_SERVICE};

fn secret(operator: &Operator<'_>) -> Value {
    operator.find("secret", "web").expect("the Secret is there")["data"].clone()
}

/// Brings the proxy to where it has stored its keys, and control does not answer.
fn store_keys_and_wait_for_control(stage: &Stage, operator: &Operator<'_>) {
    let cordon = Cordon::begin(stage, &["n1", "n2"]);
    stage.namespace.apply(WEB_SERVICE);
    stage.wait_for("web", "ProxyPending", "cannot be scheduled");
    stage.tailnet.stop();
    cordon.end();
    stage.wait_for("web", "ProxyPending", "control cannot be reached");
    let secret = secret(operator);
    assert!(
        secret["_machinekey"].is_string() && secret["device_id"].is_null(),
        "{secret}"
    );
}

/// What the proxy says in its log.
fn wait_for_words(operator: &Operator<'_>, words: &str) {
    let name = operator.pod("web")["metadata"]["name"].clone();
    wait::until(&format!("{words:?} in the log"), || {
        let log = operator.kubectl(&["-n", "isthmus", "logs", name.as_str().unwrap()]);
        log.contains(words).then_some(())
    });
}

#[test]
fn device_of_a_proxy_killed_before_it_stored_its_id_neither_doubles_nor_is_left_behind() {
    let Some(stage) = Stage::on(shared(), "first_login") else {
        return;
    };
    let operator = stage.install_operator();
    stage.run_pods(WEB_POD, &["web"]);
    store_keys_and_wait_for_control(&stage, &operator);

    // From here on it can write nothing more, and nobody gives the right back.
    operator.stop();
    let binding = operator.find("rolebinding", "web").unwrap()["metadata"]["name"].clone();
    operator.kubectl(&["-n", "isthmus", "delete", "rolebinding", binding.as_str().unwrap()]);
    stage.tailnet.start_again().unwrap();
    let device = stage.device("web");
    let address = wait::until("the device", || stage.tailnet.address_of(&device).unwrap());
    let page = || stage.fetch(&address).filter(|page| page == PAGE);
    wait::until_within("the page", PATIENCE, page);
    let pod = operator.pod("web");
    let before = PodProcess::of(&pod, "/isthmus");
    before.kill();
    wait::until("the page of its successor", || {
        PodProcess::find(&pod, "/isthmus").filter(|now| *now != before)?;
        page()
    });
    assert_eq!(stage.tailnet.ids_of(&device).unwrap().len(), 1, "the device is double");
    assert!(secret(&operator)["device_id"].is_null(), "who wrote the id?");
    wait_for_words(&operator, "going on with the copy of the state");
    wait_for_words(&operator, "allow get and patch on it to the Pod's ServiceAccount");

    stage.namespace.run(&["delete", "service", "web", "--wait=false"]);
    operator.start();
    stage
        .namespace
        .run(&["wait", "--for=delete", "service/web", "--timeout=60s"]);
    assert_eq!(operator.proxies(), "");
    assert!(stage.tailnet.ids_of(&device).unwrap().is_empty(), "the device is left");
}
