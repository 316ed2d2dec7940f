//! Tells control what changes about the node, beside an open map stream.

use isthmus_tailnet_wire::control::MapRequest;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::backoff::Backoff;
use super::client::{MAP_PATH, with_facts};
use super::hostinfo::hostinfo;
use super::session::Requester;
use super::{ClientConfig, NodeFacts};
use crate::node::NodePrefs;

/// What control is told of.
pub(super) struct Told {
    pub(super) config: ClientConfig,
    pub(super) facts: watch::Receiver<NodeFacts>,
    pub(super) prefs: watch::Receiver<NodePrefs>,
}

/// Tells control when something changes. Ends when it is dropped.
pub(super) struct Updates(JoinHandle<()>);

impl Updates {
    /// Begins with what `request`, the one for the stream, has told already.
    pub(super) fn start(requester: Requester, request: MapRequest, mut told: Told) -> Self {
        Self(tokio::spawn(async move {
            let mut backoff = Backoff::default();
            let mut last = request.clone();
            while told.changed().await {
                let update = told.request(&request);
                if is_same(&update, &last) {
                    continue;
                }
                match requester.tell("tell control about the node", MAP_PATH, &update).await {
                    Ok(()) => {
                        backoff.reset();
                        last = update;
                    }
                    Err(error) => {
                        tracing::warn!(%error, "control does not know yet what changed about the node");
                        tokio::time::sleep(backoff.after_failure(rand::random(), error.retry_after())).await;
                        told.facts.mark_changed();
                    }
                }
            }
        }))
    }
}

impl Told {
    /// Waits for a change; false when there can be none any more.
    async fn changed(&mut self) -> bool {
        tokio::select! {
            changed = self.facts.changed() => changed.is_ok(),
            changed = self.prefs.changed() => changed.is_ok(),
        }
    }

    fn request(&mut self, stream: &MapRequest) -> MapRequest {
        let update = MapRequest {
            stream: false,
            omit_peers: true,
            keep_alive: false,
            hostinfo: Some(hostinfo(&self.config, &self.prefs.borrow_and_update())),
            ..stream.clone()
        };
        with_facts(update, &self.facts.borrow_and_update())
    }
}

fn is_same(update: &MapRequest, last: &MapRequest) -> bool {
    (&update.hostinfo, &update.endpoints, &update.disco_key) == (&last.hostinfo, &last.endpoints, &last.disco_key)
}

impl Drop for Updates {
    fn drop(&mut self) {
        self.0.abort();
    }
}
