//! Finds out which Services nodes offer: a node tells only that its offers changed, by a hash, and is asked for them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use isthmus_runtime::ErrorChain;
use isthmus_tailnet_wire::control::{C2nVipServices, NodeId};
use tokio::task::JoinSet;

use crate::asks::ask;
use crate::shared::Shared;

/// Time until a node that did not answer is asked again.
const RETRY: Duration = Duration::from_secs(2);

/// Asks nodes for their offers whenever these change, until the process ends.
pub(crate) async fn follow(shared: Arc<Shared>) {
    let mut changes = shared.changes();
    let mut asked: BTreeSet<NodeId> = BTreeSet::new();
    let mut asking = JoinSet::new();
    loop {
        let presence = shared.presence();
        let unknown = shared.state().unknown_offers();
        for node in unknown.into_iter().filter(|node| presence.is_online(*node)) {
            if asked.insert(node) {
                asking.spawn(learn(Arc::clone(&shared), node));
            }
        }
        tokio::select! {
            end = changes.changed() => if end.is_err() { return },
            Some(done) = asking.join_next() => {
                if let Ok(node) = done {
                    asked.remove(&node);
                }
            }
            () = shared.shutdown.begun() => return,
        }
    }
}

/// Asks one node, and notes its answer. A node that does not answer is not asked again at once.
async fn learn(shared: Arc<Shared>, node: NodeId) -> NodeId {
    let answer = ask(&shared, node, "GET", "/vip-services", b"").await;
    let offers = match answer {
        Ok(answer) if answer.status == 200 => serde_json::from_slice::<C2nVipServices>(&answer.body).ok(),
        Ok(_) => None,
        Err(error) => {
            tracing::debug!(node, error = %ErrorChain(&error), "offers of a node are not known");
            None
        }
    };
    let noted = match offers {
        Some(offers) => shared
            .commit(move |state| state.note_offers(node, offers))
            .await
            .is_ok(),
        None => false,
    };
    if !noted || shared.state().unknown_offers().contains(&node) {
        tokio::time::sleep(RETRY).await;
    }
    node
}
