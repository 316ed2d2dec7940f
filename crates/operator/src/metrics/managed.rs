//! What is managed and what waits: read from the caches when somebody asks.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, OnceLock},
};

use isthmus_contract::condition::{PROXY_READY, ProxyReason};
use isthmus_operator_core::settings::Settings;
use k8s_openapi::api::core::v1::Service;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _},
    metrics::{MetricType, gauge::ConstGauge},
};

use crate::{changes::Changes, reconcile::is_of_interest, watch::Stores};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
    state: &'static str,
}

/// What a leader watches.
pub(super) struct Watched {
    pub(super) settings: Settings,
    pub(super) stores: Stores,
    pub(super) changes: Changes,
}

/// Shows nothing while this replica does not lead.
#[derive(Debug)]
pub(super) struct Managed(pub(super) Arc<OnceLock<Watched>>);

impl fmt::Debug for Watched {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Watched").finish_non_exhaustive()
    }
}

impl Collector for Managed {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(watched) = self.0.get() else { return Ok(()) };
        let help = "Objects in the care of the operator, by kind and state";
        let mut metric = encoder.encode_descriptor("managed", help, None, MetricType::Gauge)?;
        for ((kind, state), count) in watched.stores.count(&watched.settings) {
            ConstGauge::new(count).encode(metric.encode_family(&Kind { kind, state })?)?;
        }
        let depth = i64::try_from(watched.changes.depth()).unwrap_or(i64::MAX);
        let help = "Services that wait for a look";
        let metric = encoder.encode_descriptor("queue_depth", help, None, MetricType::Gauge)?;
        ConstGauge::new(depth).encode(metric)
    }
}

impl Stores {
    /// How many objects of each kind are in each state.
    fn count(&self, settings: &Settings) -> BTreeMap<(&'static str, &'static str), i64> {
        let mut counts = BTreeMap::new();
        let mut add = |kind, state| *counts.entry((kind, state)).or_insert(0) += 1;
        let services = self.services.state();
        for service in services.iter().filter(|service| is_of_interest(service, settings)) {
            add("Service", state_of(service));
        }
        let ours = [
            ("Pod", self.pods.states()),
            ("StatefulSet", self.stateful_sets.states()),
            ("Secret", self.secrets.states()),
        ];
        for (kind, states) in ours {
            counts.extend(states.into_iter().map(|(state, count)| ((kind, state), count)));
        }
        counts
    }
}

fn state_of(service: &Service) -> &'static str {
    if service.metadata.deletion_timestamp.is_some() {
        return "deleting";
    }
    let conditions = service
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    let reason = conditions
        .into_iter()
        .find(|condition| condition.type_ == PROXY_READY)
        .map(|condition| condition.reason.as_str());
    let states = [
        (ProxyReason::Created, "ready"),
        (ProxyReason::Failed, "failed"),
        (ProxyReason::Invalid, "invalid"),
    ];
    states
        .into_iter()
        .find(|(known, _)| Some(known.as_str()) == reason)
        .map_or("pending", |(_, state)| state)
}
