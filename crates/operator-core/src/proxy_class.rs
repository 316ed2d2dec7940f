//! Proxy classes: what cluster administrators say about the Pods of proxies, once for many Services.

mod choice;
mod image;
mod judge;
mod overlay;
mod resource;
#[cfg(feature = "schema")]
pub mod schema;
mod status;

pub use choice::{Choice, chosen_name};
pub use judge::{Finding, judge};
pub(crate) use overlay::shape;
pub use resource::{
    Container, Debug, EnvVar, Metrics, NodePort, Pod, PortRange, ProxyClass, ProxyClassSpec, ProxyClassStatus,
    ServiceMonitor, StatefulSet, StaticEndpoints, Tailscale,
};
pub use status::{ClassPlan, is_ready, plan};
