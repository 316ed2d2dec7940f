//! What people ask of a running tailbox.

use std::fs;

use isthmus_testkit::{binary, wait};
use serde_json::Value;

use super::world::{Options, Tailnet};
use crate::node::can_run;

/// Asks the tailbox as a person does; gives what is printed, and whether it succeeded.
fn ask(tailnet: &Tailnet, question: &str) -> (String, bool) {
    let credentials = tailnet.path("credentials");
    fs::write(&credentials, r#"{"client_id": "people", "client_secret": "secret"}"#).unwrap();
    let (program, url) = (binary::isthmus().display(), tailnet.control.url());
    let line = format!("{program} tailbox {question} --url {url} --credentials {credentials}");
    let output = tailnet.machines[1].run(&line);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (text + &String::from_utf8_lossy(&output.stderr), output.status.success())
}

fn told(tailnet: &Tailnet, question: &str) -> String {
    let (text, success) = ask(tailnet, question);
    assert!(success, "{question}: {text}");
    text
}

#[test]
fn people_approve_show_change_and_delete_the_nodes_of_a_tailbox() {
    isthmus_testkit::isolate!();
    if !can_run(&["ip"]) {
        return;
    }
    let tailnet = Tailnet::with(
        "people",
        Options {
            device_approval: true,
            ..Options::default()
        },
    );
    let key = ["--auth-key-file", &tailnet.path("key")];
    let process = tailnet.spawn(0, &key, &["--advertise-routes", "10.77.0.0/24"]);
    wait::until("the node to say that it waits", || {
        let log = tailnet.read("log");
        log.contains("the machine waits for an administrator's approval")
            .then_some(())
    });
    let listed = told(&tailnet, "node list");
    assert!(
        listed.contains("one.tail.internal") && listed.contains("waits for approval"),
        "{listed}"
    );
    assert_eq!(tailnet.read("out-0"), "", "it does not run yet");
    assert_eq!(
        told(&tailnet, "node approve one").trim(),
        "one.tail.internal may use the tailnet"
    );
    let node = tailnet.wait_for(0, process);
    let shown = told(&tailnet, &format!("node show {}", node.addresses[0]));
    assert!(
        shown.contains("online") && shown.contains("Routes approved  none"),
        "{shown}"
    );

    let routes = told(&tailnet, "node routes approve one");
    assert_eq!(routes.trim(), "one.tail.internal may carry 10.77.0.0/24");
    let tagged = told(&tailnet, "node tag one.tail.internal tag:k8s");
    assert!(tagged.contains("has the tags tag:k8s"), "{tagged}");
    let (foreign, success) = ask(&tailnet, "node tag one tag:other");
    assert!(
        !success && foreign.contains("cannot change node one: requested tags [tag:other]"),
        "{foreign}"
    );
    let shown: Value = serde_json::from_str(&told(&tailnet, "node show one --json")).unwrap();
    assert_eq!(
        (&shown["tags"][0], &shown["enabledRoutes"][0]),
        (&"tag:k8s".into(), &"10.77.0.0/24".into())
    );
    let routes = told(&tailnet, "node routes withdraw one 10.77.0.0/24");
    assert!(routes.contains("may carry no routes"), "{routes}");

    assert_eq!(told(&tailnet, "node delete one").trim(), "one.tail.internal is deleted");
    let (gone, success) = ask(&tailnet, "node show one");
    assert!(!success && gone.contains("has no node one"), "{gone}");
}
