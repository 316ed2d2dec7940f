//! Tests against the kernel in network namespaces.
mod proxy;
