//! Tests against a real etcd and kube-apiserver.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test reports by panicking, also in its helpers"
)]

mod operator;
mod proxy_state;
mod replicas;
mod server;
