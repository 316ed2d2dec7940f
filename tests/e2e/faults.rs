//! What goes on, and what comes back, when parts of the whole are taken away.

mod conditions;
mod cut_off;
mod first_login;
mod outages;
mod removal;
mod restarts;
mod take_over;

use isthmus_cluster::Cluster;

use crate::stage::Stage;

/// A device that is reached from the cluster by its address.
const DATABASE_SERVICE: &str = "apiVersion: v1
kind: Service
metadata:
  name: database
  annotations: {tailscale.com/tailnet-ip: 'ADDRESS'}
spec:
  selector: {app: nobody}
  ports: [{port: 80}]
";

/// What the database serves.
const ROWS: &str = "rows of the database\n";

/// The API server is away until this is dropped.
struct ApiServerAway<'a>(&'a Cluster);

impl ApiServerAway<'_> {
    fn begin(stage: &Stage) -> Self {
        let cluster = stage.cluster.cluster();
        let away = Self(cluster);
        cluster.stop_api_server().unwrap();
        assert!(!answers(stage), "the API server answers");
        away
    }

    fn end(self) {
        self.0.start_api_server().unwrap();
    }
}

/// Whether the API server answers.
fn answers(stage: &Stage) -> bool {
    let answer = stage.namespace.output(&["get", "pods", "--request-timeout=3s"]);
    answer.status.success()
}

impl Drop for ApiServerAway<'_> {
    fn drop(&mut self) {
        // One that runs is left alone; what went wrong shows in the next test.
        let _ = self.0.start_api_server();
    }
}

/// Nodes that take no new Pods until this is dropped.
struct Cordon<'a> {
    stage: &'a Stage,
    nodes: Vec<String>,
}

impl<'a> Cordon<'a> {
    fn begin(stage: &'a Stage, nodes: &[&str]) -> Self {
        let nodes = nodes.iter().map(|node| (*node).to_owned()).collect();
        let cordon = Self { stage, nodes };
        for node in &cordon.nodes {
            stage.kubectl(&["cordon", node]);
        }
        cordon
    }

    fn end(self) {
        drop(self);
    }
}

impl Drop for Cordon<'_> {
    fn drop(&mut self) {
        for node in &self.nodes {
            let _ = self.stage.cluster.cluster().kubectl().args(["uncordon", node]).output();
        }
    }
}
