//! A proxy that starts again is the same device.

use isthmus_testkit::cluster::hostile;
use isthmus_testkit::wait;
use serde_json::Value;

use super::{ApiServerAway, Cordon, answers};
use crate::stage::{Operator, PAGE, PATIENCE, PodProcess, Stage, WEB_POD, WEB_SERVICE};

/// The arguments that print the logs of all proxies.
const LOGS: [&str; 6] = [
    "-n",
    "isthmus",
    "logs",
    "--tail=200",
    "-l",
    "tailscale.com/managed=true",
];

#[test]
fn proxy_is_the_same_device_after_a_restart_without_the_api_server_and_on_another_node() {
    let Some(stage) = Stage::on(hostile(), "restarts") else {
        return;
    };
    let operator = stage.install_operator();
    stage.run_pods(WEB_POD, &["web"]);
    stage.namespace.apply(WEB_SERVICE);
    let address = stage.wait_until_ready("web");
    assert_eq!(stage.fetch(&address).as_deref(), Some(PAGE));
    let ids = stage.tailnet.ids_of(&stage.device("web")).unwrap();
    assert_eq!(ids.len(), 1, "{ids:?}");

    restart_without_api_server(&stage, &operator, &address);
    wait::until("the proxy's log of that restart", || {
        // A kubelet that has just started knows of no logs yet.
        let output = stage.cluster.cluster().kubectl().args(LOGS).output().unwrap();
        let log = String::from_utf8_lossy(&output.stdout).into_owned();
        log.contains("going on with the copy of the state").then_some(())
    });
    move_to_another_node(&stage, &operator, &address);
    assert_eq!(stage.tailnet.ids_of(&stage.device("web")).unwrap(), ids);
    assert_eq!(stage.wait_until_ready("web"), address);
}

fn restart_without_api_server(stage: &Stage, operator: &Operator<'_>, address: &str) {
    let pod = operator.pod("web");
    let before = PodProcess::of(&pod, "/isthmus");
    let away = ApiServerAway::begin(stage);
    before.kill();
    assert_eq!(stage.fetch(address), None, "the proxy is dead, so who answers?");
    let page = || stage.fetch(address).filter(|page| page == PAGE);
    wait::until_within("the page while the API server is away", PATIENCE, page);
    let after = PodProcess::of(&pod, "/isthmus");
    assert_ne!(before, after);
    assert!(!answers(stage), "the API server was away for a moment only");
    away.end();
    wait::until("the restart to be told", || {
        let restarts = &operator.find("pod", "web")?["status"]["containerStatuses"][0]["restartCount"];
        (*restarts == 1).then_some(())
    });
}

fn move_to_another_node(stage: &Stage, operator: &Operator<'_>, address: &str) {
    let pod = operator.pod("web");
    let node = |pod: &Value| pod["spec"]["nodeName"].as_str().map(str::to_owned);
    let first = node(&pod).unwrap();
    let _cordon = Cordon::begin(stage, &[&first]);
    let name = pod["metadata"]["name"].as_str().unwrap();
    operator.kubectl(&["-n", "isthmus", "delete", "pod", name, "--timeout=60s"]);
    let second = wait::until_within("the Pod on another node", PATIENCE, || {
        operator.find("pod", "web").as_ref().and_then(node)
    });
    assert_ne!(first, second);
    wait::until_within("the page from the other node", PATIENCE, || {
        stage.fetch(address).filter(|page| page == PAGE)
    });
}
