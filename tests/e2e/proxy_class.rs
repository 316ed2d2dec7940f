//! A proxy class on the real cluster: broken, corrected, broken again under a proxy that runs, and corrected again.

use isthmus_testkit::cluster::{TestNamespace, shared};
use isthmus_testkit::tailnet::Tailnet;
use isthmus_testkit::world::World;
use isthmus_testkit::{binary, wait, workload};

use crate::operator::{Installed, WEB, condition, fetch};

const IMAGE: &str = "isthmus.local/isthmus:dev";
const NO_IMAGE: &str = "isthmus.local/no-such-image:1";

/// The class of the test, whose proxies run `image`.
fn class(image: &str) -> String {
    format!(
        "apiVersion: tailscale.com/v1alpha1
kind: ProxyClass
metadata:
  name: mended
spec:
  statefulSet:
    pod:
      labels: {{team: network}}
      tailscaleContainer:
        image: {image}
        imagePullPolicy: Never
"
    )
}

fn wait_until_broken(namespace: &TestNamespace) {
    wait::until("the condition to name the image", || {
        let condition = condition(namespace);
        let message = condition["message"].as_str().unwrap_or_default();
        (condition["status"] == "False" && message.contains("ErrImageNeverPull") && message.contains(NO_IMAGE))
            .then_some(())
    });
}

fn wait_until_ready(namespace: &TestNamespace) {
    wait::until("the condition to be true", || {
        (condition(namespace)["status"] == "True").then_some(())
    });
}

#[test]
fn proxy_with_a_broken_class_recovers_without_hands_when_the_class_is_corrected() {
    let Some(shared) = shared() else { return };
    shared.load_isthmus();
    shared.cluster().load(&workload::write_image().unwrap()).unwrap();
    let namespace = shared.namespace("class");
    let world = World::around(shared.cluster());
    let folder = tempfile::tempdir().unwrap();
    let tailnet = Tailnet::start(world.host("tailnet", 2), binary::isthmus(), folder.path()).unwrap();
    let laptop = tailnet.join(world.host("laptop", 3), "laptop").unwrap();
    let operator = Installed::new(shared, &namespace, &tailnet);

    let annotations = "{tailscale.com/expose: 'true', tailscale.com/proxy-class: mended}";
    let web = WEB.replace("IMAGE", workload::IMAGE);
    namespace.apply(&web.replace("{tailscale.com/expose: 'true'}", annotations));
    namespace.apply(&class(NO_IMAGE));
    wait_until_broken(&namespace);
    let device = format!("{}-web", namespace.name());
    assert_eq!(tailnet.address_of(&device).unwrap(), None, "who logged in?");

    namespace.apply(&class(IMAGE));
    wait_until_ready(&namespace);
    let address = tailnet
        .address_of(&device)
        .unwrap()
        .expect("a ready proxy has a device");
    let page = || fetch(&laptop.host, &address);
    assert_eq!(page().as_deref(), Some("from the cluster\n"));
    let pods = ["-n", "isthmus", "get", "pods", "-l", "team=network", "-o", "name"];
    assert_eq!(operator.kubectl(&pods).lines().count(), 1, "the class labels its Pods");

    namespace.apply(&class(NO_IMAGE));
    wait_until_broken(&namespace);
    assert_eq!(page(), None, "the proxy is broken, so who answers?");
    namespace.apply(&class(IMAGE));
    wait_until_ready(&namespace);
    assert_eq!(
        tailnet.address_of(&device).unwrap(),
        Some(address.clone()),
        "another device"
    );
    wait::until("the page at the old address", || {
        page().filter(|page| page == "from the cluster\n")
    });
    namespace.run(&["delete", "service", "web", "--timeout=60s"]);
}
