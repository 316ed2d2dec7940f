//! What the operator counts.

use isthmus_operator_core::service_proxy::Action;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Step {
    action: &'static str,
}

/// The operator's metrics. Cheap to clone; all clones count together.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    reconciles: Family<Outcome, Counter>,
    actions: Family<Step, Counter>,
    seconds: Histogram,
    leader: Gauge,
}

impl Metrics {
    /// Puts the metrics into `registry`.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            reconciles: Family::default(),
            actions: Family::default(),
            seconds: Histogram::new([0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0]),
            leader: Gauge::default(),
        };
        registry.register(
            "isthmus_reconciles",
            "Reconciles by outcome",
            metrics.reconciles.clone(),
        );
        registry.register("isthmus_actions", "Writes and calls by kind", metrics.actions.clone());
        registry.register(
            "isthmus_reconcile_seconds",
            "Time one reconcile takes",
            metrics.seconds.clone(),
        );
        registry.register("isthmus_leader", "1 while this replica leads", metrics.leader.clone());
        metrics
    }

    /// One reconcile ended.
    pub(crate) fn reconciled(&self, outcome: &'static str, seconds: f64) {
        self.reconciles.get_or_create(&Outcome { outcome }).inc();
        self.seconds.observe(seconds);
    }

    /// One write or call was made.
    pub(crate) fn acted(&self, action: &Action) {
        let action = match action {
            Action::HoldFinalizer | Action::ReleaseFinalizer => "finalizer",
            Action::PatchSpec(_) => "patch_spec",
            Action::Apply(_) => "apply",
            Action::Delete(_) => "delete",
            Action::MintAuthKey(_) => "mint_auth_key",
            Action::RevokeAuthKey(_) => "revoke_auth_key",
            Action::DeleteDevice(_) => "delete_device",
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
