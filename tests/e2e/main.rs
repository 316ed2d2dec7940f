//! Tests against the two-node cluster.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test reports by panicking, also in its helpers"
)]

mod cluster_lifecycle;
mod cluster_network;
mod live;
mod operator;
mod outside;
mod proxy_by_hand;
mod proxy_class;
mod services;
