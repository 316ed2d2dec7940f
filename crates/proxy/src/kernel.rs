//! The kernel's part of the proxy: rules and routes of one plan, put in place in the order that never opens a gap.

use std::sync::{Mutex, PoisonError};

use isthmus_proxy_core::{Plan, RelayListeners, RelayPlan, RoutePlan, RulePlan};
use thiserror::Error;

use crate::nftables::{NftablesError, PacketFilter};
use crate::relay::{Relay, RelayError, RelayLimits, RelayMetrics};
use crate::routes::{Routed, RoutesError, Routing};

/// Why a plan could not be put in place.
#[derive(Debug, Error)]
pub enum KernelError {
    /// Rules or tracked flows.
    #[error(transparent)]
    Nftables(#[from] NftablesError),
    /// Routes, policy rules or settings of devices.
    #[error(transparent)]
    Routes(#[from] RoutesError),
}

/// Rules and routes of the network namespace in which this was opened.
pub struct Kernel {
    filter: PacketFilter,
    routing: Routing,
    relay: Option<Relay>,
    /// The plan put in place last; none while that is not known for sure.
    in_place: Mutex<Option<Plan>>,
}

impl Kernel {
    /// Opens the calling thread's network namespace. Needs a tokio runtime.
    pub fn open() -> Result<Self, KernelError> {
        Ok(Self {
            filter: PacketFilter::open()?,
            routing: Routing::open()?,
            relay: None,
            in_place: Mutex::default(),
        })
    }

    /// The packet filter.
    pub fn filter(&self) -> &PacketFilter {
        &self.filter
    }

    /// The routing.
    pub fn routing(&self) -> &Routing {
        &self.routing
    }

    /// Starts the relay in this network namespace, once, and says where it listens. It carries what plans say that are put
    /// in place from then on.
    ///
    /// # Errors
    /// When the kernel cannot hand packets over, or no relay can be started.
    pub async fn start_relay(
        &mut self,
        limits: RelayLimits,
        metrics: &RelayMetrics,
    ) -> Result<RelayListeners, RelayError> {
        if let Some(relay) = &self.relay {
            return Ok(relay.listeners());
        }
        self.filter.probe_hand_over().await.map_err(RelayError::HandOver)?;
        let relay = Relay::start(limits, metrics.clone())?;
        let listeners = relay.listeners();
        self.relay = Some(relay);
        Ok(listeners)
    }

    /// Puts a plan in place of the one before it. Putting the same one in place again repairs what others broke.
    ///
    /// Rules come first: they say what may pass before anything is forwarded at all. Flows that the plan no longer admits
    /// end last, when their next packet already meets the new rules. The relay follows before the rules, which hand nothing
    /// to it that it does not know. Without the tailnet's device, what needs it is refused.
    pub async fn apply(&self, plan: &Plan) -> Result<Routed, KernelError> {
        let before = self.in_place.lock().unwrap_or_else(PoisonError::into_inner).take();
        let tun_is_up = self.routing.is_up(&plan.tun.name).await?;
        let plan = &if tun_is_up { plan.clone() } else { plan.without_device() };
        if let Some(relay) = &self.relay {
            relay.follow(RelayPlan::build(plan));
        }
        let had_rules = self.filter.replace(&RulePlan::build(plan)).await?;
        let routed = self.routing.apply(plan, &RoutePlan::build(plan)).await?;
        // The kernel looks through the tracked flows of all Pods of the machine to find ours: milliseconds of its time.
        let forgotten = if before.map_or(had_rules, |before| before.may_strand_flows(plan)) {
            self.filter.forget_flows_outside(plan).await?
        } else {
            0
        };
        *self.in_place.lock().unwrap_or_else(PoisonError::into_inner) = Some(plan.clone());
        tracing::debug!(forgotten, tun_is_up, "plan is in place");
        Ok(routed)
    }
}
