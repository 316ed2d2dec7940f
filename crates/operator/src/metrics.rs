//! What the operator counts. Every name is in docs/metrics.md.

mod managed;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use isthmus_operator_core::{service_proxy::Action, settings::Settings};
use isthmus_tailnet_api::{Call, Observer};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use crate::{changes::Changes, watch::Stores};
use managed::{Managed, Watched};

/// What every name begins with.
pub(crate) const PREFIX: &str = "isthmus_operator";
/// The label of the controller of Services that have a proxy of their own.
const CONTROLLER: &str = "service-proxy";
/// Upper ends in seconds.
const BUCKETS: [f64; 7] = [0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reconciler {
    controller: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    controller: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Fault {
    controller: &'static str,
    class: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Step {
    action: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asked {
    call: &'static str,
    /// The HTTP status, or `none`.
    code: String,
}

/// The operator's metrics. Cheap to clone; all clones count together.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    reconciles: Family<Outcome, Counter>,
    errors: Family<Fault, Counter>,
    actions: Family<Step, Counter>,
    seconds: Family<Reconciler, Histogram, fn() -> Histogram>,
    leader: Gauge,
    tailnet_requests: Family<Asked, Counter>,
    tailnet_wait_seconds: Counter<f64, std::sync::atomic::AtomicU64>,
    tailnet_reachable: Gauge,
    watched: Arc<OnceLock<Watched>>,
}

impl Metrics {
    /// Puts the metrics into `registry`, which has the [`PREFIX`].
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            reconciles: Family::default(),
            errors: Family::default(),
            actions: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            leader: Gauge::default(),
            tailnet_requests: Family::default(),
            tailnet_wait_seconds: Counter::default(),
            tailnet_reachable: Gauge::default(),
            watched: Arc::default(),
        };
        registry.register("reconciles", "Looks at objects, by result", metrics.reconciles.clone());
        registry.register(
            "errors",
            "Looks that failed, by kind of failure",
            metrics.errors.clone(),
        );
        registry.register("actions", "Writes and calls, by kind", metrics.actions.clone());
        registry.register("reconcile_seconds", "Time of one look", metrics.seconds.clone());
        registry.register("leader", "1 while this replica leads", metrics.leader.clone());
        registry.register(
            "tailnet_requests",
            "Requests to the tailnet's API, by call and status",
            metrics.tailnet_requests.clone(),
        );
        registry.register(
            "tailnet_wait_seconds",
            "Time requests to the tailnet's API waited for their turn",
            metrics.tailnet_wait_seconds.clone(),
        );
        registry.register(
            "tailnet_reachable",
            "1 when the tailnet's API answered the last request and did not fail",
            metrics.tailnet_reachable.clone(),
        );
        registry.register_collector(Box::new(Managed(metrics.watched.clone())));
        metrics
    }

    /// Begins to show what is managed and what waits.
    pub(crate) fn watch(&self, settings: Settings, stores: Stores, changes: Changes) {
        // Set once; a process leads once.
        let _ = self.watched.set(Watched {
            settings,
            stores,
            changes,
        });
    }

    /// One look ended, perhaps with a failure of this class.
    pub(crate) fn reconciled(&self, failure: Option<&'static str>, took: Duration) {
        let (controller, result) = (CONTROLLER, if failure.is_some() { "error" } else { "ok" });
        self.reconciles.get_or_create(&Outcome { controller, result }).inc();
        if let Some(class) = failure {
            self.errors.get_or_create(&Fault { controller, class }).inc();
        }
        self.seconds
            .get_or_create(&Reconciler { controller })
            .observe(took.as_secs_f64());
    }

    /// One write or call was made.
    pub(crate) fn acted(&self, action: &Action) {
        let action = match action {
            Action::HoldFinalizer | Action::ReleaseFinalizer => "finalizer",
            Action::PatchSpec(_) => "patch_spec",
            Action::NoteRefusal(_) => "note_refusal",
            Action::Apply(_) => "apply",
            Action::Delete(_) | Action::Orphan(_) => "delete",
            Action::MintAuthKey(_) => "mint_auth_key",
            Action::RevokeAuthKey(_) => "revoke_auth_key",
            Action::DeleteDevice(_) | Action::DeleteDeviceOfMachine(_) => "delete_device",
            Action::SetDeviceTags { .. } => "set_device_tags",
        };
        self.actions.get_or_create(&Step { action }).inc();
    }

    /// One condition was written.
    pub(crate) fn wrote_condition(&self) {
        self.actions.get_or_create(&Step { action: "condition" }).inc();
    }

    /// Whether this replica leads.
    pub(crate) fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }
}

impl Observer for Metrics {
    fn asked(&self, call: Call, status: Option<u16>) {
        let asked = Asked {
            call: call.label(),
            code: status.map_or_else(|| "none".to_owned(), |status| status.to_string()),
        };
        self.tailnet_requests.get_or_create(&asked).inc();
        let works = status.is_some_and(|status| status < 500);
        self.tailnet_reachable.set(i64::from(works));
    }

    fn waits(&self, wait: Duration) {
        self.tailnet_wait_seconds.inc_by(wait.as_secs_f64());
    }
}

#[cfg(test)]
mod tests;
