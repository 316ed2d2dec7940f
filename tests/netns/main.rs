//! Tests against the kernel in network namespaces.
mod node;
mod proxy;
