//! What changes on a proxy that runs, from the annotation or the class to what users see.

use std::time::Instant;

use isthmus_testkit::cluster::shared;
use isthmus_testkit::wait;
use serde_json::{Value, json};

use crate::stage::{PAGE, Stage, WEB_POD, WEB_SERVICE};

/// The laptop has `tag:k8s`, and may reach what has `tag:web`. The operator may give both, and not `tag:other`.
const POLICY: &str = r#"{
    "tagOwners": {"tag:k8s-operator": [], "tag:k8s": ["tag:k8s-operator"], "tag:web": ["tag:k8s-operator"], "tag:other": []},
    "acls": [{"action": "accept", "src": ["tag:k8s"], "dst": ["tag:web:80"]}],
}"#;

/// A class with what is given.
fn class(spec: &str) -> String {
    format!("apiVersion: tailscale.com/v1alpha1\nkind: ProxyClass\nmetadata: {{name: measured}}\nspec: {spec}\n")
}

/// A stage with a client, on a tailnet with this policy.
fn stage(test: &str, policy: Option<&str>) -> Option<Stage> {
    let stage = Stage::with_policy(shared(), test, policy)?;
    stage.run_client();
    Some(stage)
}

fn condition(stage: &Stage) -> Value {
    stage.service("web")["status"]["conditions"][0].clone()
}

impl Stage {
    /// Exposes the page, through a proxy of this class if one is named.
    fn expose(&self, class: Option<&str>) {
        self.run_pods(WEB_POD, &[]);
        self.namespace.apply(&match class {
            Some(class) => {
                let annotations = format!("{{tailscale.com/expose: 'true', tailscale.com/proxy-class: {class}}}");
                WEB_SERVICE.replace("{tailscale.com/expose: 'true'}", &annotations)
            }
            None => WEB_SERVICE.to_owned(),
        });
        wait::until("the condition to be true", || {
            (condition(self)["status"] == "True").then_some(())
        });
    }

    fn annotate(&self, annotation: &str) {
        self.namespace
            .run(&["annotate", "--overwrite", "service", "web", annotation]);
    }

    /// The device with this address, as the API shows it.
    fn device_at(&self, address: &str) -> Value {
        let is_it = |device: &Value| {
            device["addresses"]
                .as_array()
                .is_some_and(|all| all.contains(&json!(address)))
        };
        let devices = self.tailnet.devices().unwrap();
        devices.into_iter().find(is_it).expect("the device exists")
    }

    /// What the operator's namespace has of the proxy at a JSON path.
    fn proxy(&self, kind: &str, path: &str) -> String {
        let selector = format!("tailscale.com/parent-resource-ns={}", self.namespace.name());
        let (path, get) = (format!("jsonpath={{.items[*]{path}}}"), ["-n", "isthmus", "get", kind]);
        self.kubectl(&[&get[..], &["-l", &selector, "-o", &path]].concat())
    }
}

/// What came by direct paths, as a page of metrics has it.
fn received(page: &str) -> Option<f64> {
    let name = "tailscaled_inbound_bytes_total{path=\"direct_ipv";
    let samples = page
        .lines()
        .filter_map(|line| line.strip_prefix(name)?.split_once("\"} "));
    samples.map(|(_, value)| value.parse::<f64>().ok()).sum()
}

#[test]
fn metrics_of_a_class_are_fetched_through_its_service_and_debug_pages_from_the_pod() {
    let Some(stage) = stage("metrics", None) else { return };
    let _operator = stage.install_operator();
    let debug = "statefulSet: {pod: {tailscaleContainer: {debug: {enable: true}}}}";
    stage.namespace.apply(&class(&format!("{{{debug}}}")));
    stage.expose(Some("measured"));
    let address = stage.tailnet.address_of(&stage.device("web"));
    let address = address.unwrap().expect("a ready proxy has a device");
    let page = || wait::until("the page", || stage.fetch(&address));
    page();
    let name = stage.proxy("statefulsets", ".metadata.name");
    let url = format!("http://{name}-metrics.isthmus:9002/metrics");
    assert_eq!(stage.ask(&url), None, "the class does not ask for metrics");
    let pod = stage.proxy("pods", ".metadata.uid");

    stage
        .namespace
        .apply(&class(&format!("{{{debug}, metrics: {{enable: true}}}}")));
    // A name that was asked for too early is unknown for a while.
    let metrics = || wait::until("the metrics", || stage.ask(&url));
    let before = received(&metrics()).expect("direct traffic is counted");
    for _ in 0..5 {
        assert_eq!(page(), PAGE);
    }
    let text = metrics();
    let after = received(&text).unwrap();
    assert!(after > before + 1000.0, "five pages, and {before} became {after}");
    for sample in ["isthmus_proxy_control_connected 1", "isthmus_proxy_config_in_place 1"] {
        assert!(text.lines().any(|line| line == sample), "{text}");
    }
    assert_eq!(stage.proxy("pods", ".metadata.uid"), pod, "metrics are no restart");

    let status = stage.ask(&format!("http://{name}.isthmus:9001/debug/status"));
    let status: Value = serde_json::from_str(&status.expect("the class asks for debug pages")).unwrap();
    assert!(
        status["device"]["addresses"]
            .as_array()
            .unwrap()
            .contains(&json!(address))
    );
    assert_eq!(status["carries"][0]["path"], "kernel");
}

#[test]
fn tags_and_host_name_follow_their_annotations_and_a_foreign_tag_changes_nothing() {
    let Some(stage) = stage("tags", Some(POLICY)) else {
        return;
    };
    let _operator = stage.install_operator();
    stage.expose(None);
    let address = stage.tailnet.address_of(&stage.device("web"));
    let address = address.unwrap().expect("a ready proxy has a device");
    let pod = stage.proxy("pods", ".metadata.uid");
    assert_eq!(stage.device_at(&address)["tags"], json!(["tag:k8s"]));
    assert_eq!(stage.fetch(&address), None, "the policy forbids it");

    stage.annotate("tailscale.com/tags=tag:web");
    wait::until("the page", || stage.fetch(&address));
    assert_eq!(stage.device_at(&address)["tags"], json!(["tag:web"]));

    let start = Instant::now();
    stage.annotate("tailscale.com/hostname=shop");
    wait::until("the device's name", || {
        let device = stage.device_at(&address);
        device["name"].as_str()?.starts_with("shop.").then_some(())
    });
    eprintln!("the name followed within {:?}", start.elapsed());
    wait::until("the condition to say the name", || {
        let condition = condition(&stage);
        condition["message"].as_str()?.contains("shop.").then_some(())
    });

    stage.annotate("tailscale.com/tags=tag:other");
    wait::until("the condition to name the annotation", || {
        let condition = condition(&stage);
        let message = condition["message"].as_str()?;
        let wanted =
            "annotation tailscale.com/tags: the tailnet refuses tag:other; name tags that the policy's tagOwners";
        (condition["status"] == "False" && message.starts_with(wanted)).then_some(())
    });
    assert!(stage.fetch(&address).is_some(), "what worked stays");
    let device = stage.device_at(&address);
    assert_eq!(
        (&device["tags"], &device["hostname"]),
        (&json!(["tag:web"]), &json!("shop"))
    );

    stage.annotate("tailscale.com/tags=tag:web,tag:k8s");
    wait::until("the condition to be true", || {
        (condition(&stage)["status"] == "True").then_some(())
    });
    assert_eq!(stage.device_at(&address)["tags"].as_array().map(Vec::len), Some(2));
    assert_eq!(stage.proxy("pods", ".metadata.uid"), pod, "the proxy was started anew");
}
