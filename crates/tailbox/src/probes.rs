//! Finds nodes that hang without losing their connection, where another could take over what they carry: the address of a Service,
//! or a route. Such nodes are asked to send a `HEAD` request, and those that do not come last when a carrier is chosen.

use std::collections::BTreeSet;
use std::sync::Arc;

use isthmus_tailnet_wire::control::NodeId;
use tokio::task::JoinSet;

use crate::asks;
use crate::shared::Shared;

/// Probes nodes until the process ends. A node that hangs is noticed after one and a half intervals.
pub(crate) async fn run(shared: Arc<Shared>) {
    let interval = shared.config.probe_interval;
    loop {
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = shared.shutdown.begun() => return,
        }
        let mut probes = JoinSet::new();
        for node in shared.picture().rivals() {
            let shared = Arc::clone(&shared);
            probes.spawn(async move {
                let answers = asks::is_alive(&shared, node, interval / 2).await;
                (!answers).then_some(node)
            });
        }
        let silent: BTreeSet<NodeId> = probes.join_all().await.into_iter().flatten().collect();
        shared.note_hung(silent);
    }
}
