//! What changes on a proxy that runs, from the annotation or the class to what users see.

use std::time::Instant;

use isthmus_testkit::cluster::{SharedCluster, TestNamespace, shared};
use isthmus_testkit::tailnet::{Member, Tailnet};
use isthmus_testkit::world::World;
use isthmus_testkit::{binary, wait, workload};
use serde_json::{Value, json};

use crate::operator::{Installed, WEB, condition, fetch};

/// The laptop has `tag:k8s`, and may reach what has `tag:web`. The operator may give both, and not `tag:other`.
const POLICY: &str = r#"{
    "tagOwners": {"tag:k8s-operator": [], "tag:k8s": ["tag:k8s-operator"], "tag:web": ["tag:k8s-operator"], "tag:other": []},
    "acls": [{"action": "accept", "src": ["tag:k8s"], "dst": ["tag:web:80"]}],
}"#;

/// A class with what is given.
fn class(spec: &str) -> String {
    format!("apiVersion: tailscale.com/v1alpha1\nkind: ProxyClass\nmetadata: {{name: measured}}\nspec: {spec}\n")
}

/// The last to go is the world, after everything that runs in it.
struct Stage {
    operator: Installed,
    namespace: TestNamespace,
    laptop: Member,
    tailnet: Tailnet,
    _world: World,
    _folder: tempfile::TempDir,
}

/// A cluster with a client and the operator, and a laptop, on a tailnet with this policy.
fn stage(test: &str, policy: Option<&str>) -> Option<Stage> {
    let shared: &'static SharedCluster = shared()?;
    shared.load_isthmus();
    shared.cluster().load(&workload::write_image().unwrap()).unwrap();
    let namespace = shared.namespace(test);
    namespace.apply(&workload::client_pod());
    let folder = tempfile::tempdir().unwrap();
    let world = World::around(shared.cluster());
    let (host, program) = (world.host("tailnet", 2), binary::isthmus());
    let tailnet = match policy {
        Some(policy) => Tailnet::start_with_policy(host, program, folder.path(), policy),
        None => Tailnet::start(host, program, folder.path()),
    };
    let tailnet = tailnet.unwrap();
    let laptop = tailnet.join(world.host("laptop", 3), "laptop").unwrap();
    let operator = Installed::new(shared, &namespace, &tailnet);
    namespace.wait_for("pod/client", "Ready");
    Some(Stage {
        operator,
        namespace,
        laptop,
        tailnet,
        _world: world,
        _folder: folder,
    })
}

impl Stage {
    /// Exposes the page, through a proxy of this class if one is named.
    fn expose(&self, class: Option<&str>) {
        let web = WEB.replace("IMAGE", workload::IMAGE);
        self.namespace.apply(&match class {
            Some(class) => {
                let annotations = format!("{{tailscale.com/expose: 'true', tailscale.com/proxy-class: {class}}}");
                web.replace("{tailscale.com/expose: 'true'}", &annotations)
            }
            None => web,
        });
        wait::until("the condition to be true", || {
            (condition(&self.namespace)["status"] == "True").then_some(())
        });
    }

    fn annotate(&self, annotation: &str) {
        self.namespace
            .run(&["annotate", "--overwrite", "service", "web", annotation]);
    }

    fn page(&self, address: &str) -> Option<String> {
        fetch(&self.laptop.host, address)
    }

    /// The device with this address, as the API shows it.
    fn device(&self, address: &str) -> Value {
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
        self.operator
            .kubectl(&[&get[..], &["-l", &selector, "-o", &path]].concat())
    }

    /// What a Pod gets from a URL, if anything.
    fn ask(&self, url: &str) -> Option<String> {
        self.namespace.exec("client", &["curl", "-sSf", "-m", "3", url]).ok()
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
    let debug = "statefulSet: {pod: {tailscaleContainer: {debug: {enable: true}}}}";
    stage.namespace.apply(&class(&format!("{{{debug}}}")));
    stage.expose(Some("measured"));
    let address = stage.tailnet.address_of(&format!("{}-web", stage.namespace.name()));
    let address = address.unwrap().expect("a ready proxy has a device");
    let page = || wait::until("the page", || stage.page(&address));
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
        assert_eq!(page(), "from the cluster\n");
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
    stage.expose(None);
    let address = stage.tailnet.address_of(&format!("{}-web", stage.namespace.name()));
    let address = address.unwrap().expect("a ready proxy has a device");
    let pod = stage.proxy("pods", ".metadata.uid");
    assert_eq!(stage.device(&address)["tags"], json!(["tag:k8s"]));
    assert_eq!(stage.page(&address), None, "the policy forbids it");

    stage.annotate("tailscale.com/tags=tag:web");
    wait::until("the page", || stage.page(&address));
    assert_eq!(stage.device(&address)["tags"], json!(["tag:web"]));

    let start = Instant::now();
    stage.annotate("tailscale.com/hostname=shop");
    wait::until("the device's name", || {
        let device = stage.device(&address);
        device["name"].as_str()?.starts_with("shop.").then_some(())
    });
    eprintln!("the name followed within {:?}", start.elapsed());
    wait::until("the condition to say the name", || {
        let condition = condition(&stage.namespace);
        condition["message"].as_str()?.contains("shop.").then_some(())
    });

    stage.annotate("tailscale.com/tags=tag:other");
    wait::until("the condition to name the annotation", || {
        let condition = condition(&stage.namespace);
        let message = condition["message"].as_str()?;
        let wanted =
            "annotation tailscale.com/tags: the tailnet refuses tag:other; name tags that the policy's tagOwners";
        (condition["status"] == "False" && message.starts_with(wanted)).then_some(())
    });
    assert!(stage.page(&address).is_some(), "what worked stays");
    let device = stage.device(&address);
    assert_eq!(
        (&device["tags"], &device["hostname"]),
        (&json!(["tag:web"]), &json!("shop"))
    );

    stage.annotate("tailscale.com/tags=tag:web,tag:k8s");
    wait::until("the condition to be true", || {
        (condition(&stage.namespace)["status"] == "True").then_some(())
    });
    assert_eq!(stage.device(&address)["tags"].as_array().map(Vec::len), Some(2));
    assert_eq!(stage.proxy("pods", ".metadata.uid"), pod, "the proxy was started anew");
}
