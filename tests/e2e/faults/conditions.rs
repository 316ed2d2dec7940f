//! The condition says what a proxy waits for, in words that lead to the mending, and the proxy mends itself.

use isthmus_testkit::cluster::shared;
use isthmus_testkit::wait;

use super::{Cordon, ROWS};
use crate::stage::{Operator, PAGE, Stage, WEB_POD, WEB_SERVICE};

/// Proxies without the one right that they need, and proxies that may not use their relay.
const CLASSES: &str = "apiVersion: tailscale.com/v1alpha1
kind: ProxyClass
metadata:
  name: powerless
spec:
  statefulSet:
    pod:
      tailscaleContainer:
        securityContext: {capabilities: {add: []}}
---
apiVersion: tailscale.com/v1alpha1
kind: ProxyClass
metadata:
  name: stubborn
spec:
  statefulSet:
    pod:
      tailscaleContainer:
        env: [{name: ISTHMUS_PATH, value: kernel}]
";

const STUBBORN_SERVICE: &str = "apiVersion: v1
kind: Service
metadata:
  name: stubborn
  annotations: {tailscale.com/tailnet-ip: 'ADDRESS', tailscale.com/proxy-class: stubborn}
spec:
  ports: [{port: 80}]
";

/// Keeps the proxy of the Service `mute` from writing its Secret, with an answer like that of a missing right.
const REFUSAL: &str = "apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata:
  name: refusal
spec:
  matchConstraints:
    resourceRules:
    - {apiGroups: [''], apiVersions: [v1], operations: [UPDATE], resources: [secrets]}
  matchConditions:
  - name: is-a-proxy
    expression: request.userInfo.username.startsWith('system:serviceaccount:isthmus:ts-mute-')
  validations:
  - {expression: 'false', message: refused by the test, reason: Forbidden}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: refusal
spec:
  policyName: refusal
  validationActions: [Deny]
";

struct Refusal<'a>(&'a Stage);

impl<'a> Refusal<'a> {
    /// Begins, and waits until the API server has taken it up.
    fn begin(stage: &'a Stage) -> Self {
        stage.namespace.apply(REFUSAL);
        let refusal = Self(stage);
        stage.namespace.run(&["create", "secret", "generic", "probe"]);
        let account = [
            "--as=system:serviceaccount:isthmus:ts-mute-probe",
            "--as-group=system:masters",
        ];
        let change = ["annotate", "secret", "probe", "--overwrite", "tried=yes"];
        wait::until("the refusal", || {
            let answer = stage.namespace.output(&[&account[..], &change].concat());
            (!answer.status.success()).then_some(())
        });
        refusal
    }

    fn end(self) {
        drop(self);
    }
}

impl Drop for Refusal<'_> {
    fn drop(&mut self) {
        let kinds = "validatingadmissionpolicy,validatingadmissionpolicybinding";
        let mut kubectl = self.0.cluster.cluster().kubectl();
        let _ = kubectl.args(["delete", kinds, "refusal"]).output();
    }
}

fn exposed(name: &str, more: &str) -> String {
    let annotations = format!("{{tailscale.com/expose: 'true'{more}}}");
    WEB_SERVICE
        .replace("name: web\n", &format!("name: {name}\n"))
        .replace("{tailscale.com/expose: 'true'}", &annotations)
}

/// Revokes the key that waits in the Secret of a proxy.
fn revoke_key(stage: &Stage, operator: &Operator<'_>, service: &str) {
    let secret = operator.find("secret", service).unwrap();
    let id = secret["metadata"]["annotations"]["isthmus.dev/auth-key-id"]
        .as_str()
        .unwrap();
    stage.tailnet.revoke_auth_key(id).unwrap();
}

#[test]
fn condition_says_what_a_proxy_waits_for_until_it_is_there() {
    let Some(stage) = Stage::on(shared(), "conditions") else {
        return;
    };
    let operator = stage.install_operator();
    let database = stage.tailnet.join(stage.world.host("database", 4), "database").unwrap();
    let _server = stage.serve(&database.host, ROWS);
    let target = stage.tailnet.ipv6_address_of("database").unwrap().unwrap();
    stage.run_client();
    stage.run_pods(WEB_POD, &["web"]);
    let refusal = Refusal::begin(&stage);

    let cordon = Cordon::begin(&stage, &["n1", "n2"]);
    stage.namespace.apply(CLASSES);
    stage.namespace.apply(WEB_SERVICE);
    stage.namespace.apply(&exposed("mute", ""));
    stage
        .namespace
        .apply(&exposed("powerless", ", tailscale.com/proxy-class: powerless"));
    stage.namespace.apply(&STUBBORN_SERVICE.replace("ADDRESS", &target));
    for service in ["web", "mute", "powerless", "stubborn"] {
        stage.wait_for(service, "ProxyPending", "cannot be scheduled: 0/2 nodes are available");
    }
    revoke_key(&stage, &operator, "web");
    cordon.end();

    stage.wait_for(
        "web",
        "ProxyPending",
        "control refuses the login: invalid key: the auth key is not known",
    );
    stage.wait_for(
        "powerless",
        "ProxyPending",
        "cannot change the Pod's network: grant the container NET_ADMIN",
    );
    stage.wait_for(
        "stubborn",
        "ProxyPending",
        "the kernel does not forward it; remove ISTHMUS_PATH=kernel",
    );
    let mended = CLASSES.replace("add: []", "add: [NET_ADMIN]");
    stage.namespace.apply(&mended.replace("value: kernel", "value: auto"));
    // Of itself, as soon as the operator has made another key.
    let address = stage.wait_until_ready("web");
    assert_eq!(stage.fetch(&address).as_deref(), Some(PAGE));
    let address = stage.wait_until_ready("powerless");
    assert_eq!(stage.fetch(&address).as_deref(), Some(PAGE));
    stage.wait_for("stubborn", "ProxyCreated", "the relay in user space carries IPv6");
    let rows = stage.ask(&format!("http://stubborn.{}/", stage.namespace.name()));
    assert_eq!(rows.as_deref(), Some(ROWS));

    stage.wait_for(
        "mute",
        "ProxyPending",
        "(allow get and patch on it to the Pod's ServiceAccount)",
    );
    let device = stage.tailnet.address_of(&stage.device("mute")).unwrap();
    assert_eq!(device, None, "it logged in with keys that it could not keep");
    refusal.end();
    let address = stage.wait_until_ready("mute");
    assert_eq!(stage.fetch(&address).as_deref(), Some(PAGE));
}
