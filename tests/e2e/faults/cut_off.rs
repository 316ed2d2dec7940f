//! A proxy whose node is cut off goes on elsewhere.

use std::time::Duration;

use isthmus_cluster::Cluster;
use isthmus_testkit::cluster::hostile;
use isthmus_testkit::wait;
use serde_json::Value;

use super::Cordon;
use crate::stage::{Operator, PAGE, PATIENCE, PodProcess, Stage, WEB_POD, WEB_SERVICE};

/// The node that is cut off, and the one that stays.
const CUT: &str = "n2";
const STAYS: &str = "n1";

/// What an administrator says of a node that is gone, so that its Pods may run elsewhere
/// (kubernetes.io/docs/concepts/cluster-administration/node-shutdown, "non-graceful node shutdown").
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute";

/// The node counts as gone after 50 seconds; then its Pods are replaced.
const REPLACED: Duration = Duration::from_mins(3);

/// A node without network until this is dropped.
struct CutOff<'a>(&'a Stage);

impl<'a> CutOff<'a> {
    fn begin(stage: &'a Stage) -> Self {
        let cut = Self(stage);
        cut.cluster().cut(CUT).unwrap();
        stage.kubectl(&["taint", "node", CUT, OUT_OF_SERVICE]);
        cut
    }

    fn cluster(&self) -> &Cluster {
        self.0.cluster.cluster()
    }
}

impl Drop for CutOff<'_> {
    fn drop(&mut self) {
        let healed = self.cluster().heal(CUT);
        let taint = format!("{OUT_OF_SERVICE}-");
        let cleared = self.cluster().kubectl().args(["taint", "node", CUT, &taint]).output();
        let ready = ["wait", "--for=condition=Ready", "--timeout=120s", "node", CUT];
        let ready = self.cluster().kubectl().args(ready).output();
        if healed.is_err() || cleared.is_err() || ready.is_err() {
            eprintln!("node {CUT} is not as it was: {healed:?} {cleared:?} {ready:?}");
        }
    }
}

#[test]
fn proxy_of_a_node_that_is_cut_off_and_given_up_is_the_same_device_on_another_node() {
    let Some(stage) = Stage::on(hostile(), "cut-off") else {
        return;
    };
    let elsewhere = Cordon::begin(&stage, &[CUT]);
    let operator = stage.install_operator();
    stage.run_pods(WEB_POD, &["web"]);
    elsewhere.end();
    let here = Cordon::begin(&stage, &[STAYS]);
    stage.namespace.apply(WEB_SERVICE);
    let address = stage.wait_until_ready("web");
    here.end();
    assert_eq!(node_of(&operator).as_deref(), Some(CUT));
    assert_eq!(stage.fetch(&address).as_deref(), Some(PAGE));
    let ids = stage.tailnet.ids_of(&stage.device("web")).unwrap();
    assert_eq!(ids.len(), 1, "{ids:?}");
    let left = operator.pod("web");

    let cut = CutOff::begin(&stage);
    assert_eq!(stage.fetch(&address), None, "the proxy is cut off, so who answers?");
    wait::until_within("the proxy on the other node", REPLACED, || {
        (node_of(&operator).as_deref() == Some(STAYS)).then_some(())
    });
    let page = || stage.fetch(&address).filter(|page| page == PAGE);
    wait::until_within("the page from the other node", PATIENCE, page);
    assert_eq!(stage.tailnet.ids_of(&stage.device("web")).unwrap(), ids);

    assert!(
        PodProcess::find(&left, "/isthmus").is_some(),
        "nobody ends the proxy that is left on the other node"
    );
    drop(cut);
    wait::until_within("the end of the proxy that was left", PATIENCE, || {
        PodProcess::find(&left, "/isthmus").is_none().then_some(())
    });
    wait::until_within("the page after the node is back", PATIENCE, page);
    assert_eq!(stage.wait_until_ready("web"), address);
    assert_eq!(stage.tailnet.ids_of(&stage.device("web")).unwrap(), ids);
}

/// The node of the proxy's Pod, when there is a Pod that is not on its way out.
fn node_of(operator: &Operator<'_>) -> Option<String> {
    let pod: Value = operator.find("pod", "web")?;
    let stays = pod["metadata"]["deletionTimestamp"].is_null();
    stays.then(|| pod["spec"]["nodeName"].as_str().map(str::to_owned))?
}
