//! What a proxy lets through, shown by traffic: a peer of the tailnet, the proxy's Pod and the cluster, each in its
//! namespace. A veth named like the tailnet's device stands in for the tailnet.

mod egress;
mod ingress;
mod kernel_side;
mod paths;
mod preflight;
mod relay;
pub(crate) mod topology;
