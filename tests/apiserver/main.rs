//! Tests against a real etcd and kube-apiserver.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test reports by panicking, also in its helpers"
)]

mod left_over;
mod operator;
mod proxy_state;
mod replicas;
mod scale;
mod server;
