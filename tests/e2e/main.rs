//! Tests against the two-node cluster.
#![allow(
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_in_result,
    clippy::unwrap_used,
    reason = "a test reports by panicking and by printing, also in its helpers"
)]

mod cluster_lifecycle;
mod cluster_network;
mod faults;
mod live;
mod operator;
mod outside;
mod proxy_by_hand;
mod proxy_class;
mod services;
mod stage;
mod stories;
