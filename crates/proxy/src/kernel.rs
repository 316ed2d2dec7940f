//! The kernel's part of the proxy: rules and routes of one plan, put in place in the order that never opens a gap.

use isthmus_proxy_core::{Plan, RoutePlan, RulePlan};
use thiserror::Error;

use crate::nftables::{NftablesError, PacketFilter};
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
}

impl Kernel {
    /// Opens the calling thread's network namespace. Needs a tokio runtime.
    pub fn open() -> Result<Self, KernelError> {
        Ok(Self {
            filter: PacketFilter::open()?,
            routing: Routing::open()?,
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

    /// Puts a plan in place of the one before it. Putting the same one in place again repairs what others broke.
    ///
    /// Rules come first: they say what may pass before anything is forwarded at all. Flows that the plan no longer admits
    /// end last, when their next packet already meets the new rules. Without the tailnet's device, what needs it is refused.
    pub async fn apply(&self, plan: &Plan) -> Result<Routed, KernelError> {
        let tun_is_up = self.routing.is_up(&plan.tun.name).await?;
        let plan = &if tun_is_up { plan.clone() } else { plan.without_device() };
        self.filter.replace(&RulePlan::build(plan)).await?;
        let routed = self.routing.apply(plan, &RoutePlan::build(plan)).await?;
        let forgotten = self.filter.forget_flows_outside(plan).await?;
        tracing::debug!(forgotten, tun_is_up, "plan is in place");
        Ok(routed)
    }
}
