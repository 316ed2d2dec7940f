//! A proxy class on the real cluster: broken, corrected, broken again under a proxy that runs, and corrected again.

use isthmus_testkit::cluster::shared;
use isthmus_testkit::wait;

use crate::stage::{PAGE, Stage, WEB_POD, WEB_SERVICE};

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

/// The kubelet's words about the image.
fn wait_until_broken(stage: &Stage) {
    let condition = stage.wait_for("web", "ProxyPending", NO_IMAGE);
    let message = condition["status"]["conditions"][0]["message"].to_string();
    assert!(message.contains("ErrImageNeverPull"), "{message}");
}

#[test]
fn proxy_with_a_broken_class_recovers_without_hands_when_the_class_is_corrected() {
    let Some(stage) = Stage::on(shared(), "class") else {
        return;
    };
    let operator = stage.install_operator();
    let annotations = "{tailscale.com/expose: 'true', tailscale.com/proxy-class: mended}";
    stage.run_pods(WEB_POD, &[]);
    stage
        .namespace
        .apply(&WEB_SERVICE.replace("{tailscale.com/expose: 'true'}", annotations));
    stage.namespace.apply(&class(NO_IMAGE));
    wait_until_broken(&stage);
    let device = stage.device("web");
    assert_eq!(stage.tailnet.address_of(&device).unwrap(), None, "who logged in?");

    stage.namespace.apply(&class(IMAGE));
    let address = stage.wait_until_ready("web");
    assert_eq!(stage.fetch(&address).as_deref(), Some(PAGE));
    let pods = ["-n", "isthmus", "get", "pods", "-l", "team=network", "-o", "name"];
    assert_eq!(operator.kubectl(&pods).lines().count(), 1, "the class labels its Pods");

    stage.namespace.apply(&class(NO_IMAGE));
    wait_until_broken(&stage);
    assert_eq!(stage.fetch(&address), None, "the proxy is broken, so who answers?");
    stage.namespace.apply(&class(IMAGE));
    assert_eq!(stage.wait_until_ready("web"), address, "another device");
    wait::until("the page at the old address", || {
        stage.fetch(&address).filter(|page| page == PAGE)
    });
}
