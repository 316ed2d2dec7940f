//! Test harness: network namespaces, in-memory transports, fakes. Development only.
#![expect(
    clippy::panic,
    clippy::print_stderr,
    reason = "a test harness reports by panicking and by printing to the test's captured output"
)]

pub mod apiserver;
pub mod binary;
pub mod chance;
pub mod cluster;
pub mod go_client;
pub mod log;
pub mod memory;
pub mod netns;
pub mod require;
pub mod soak;
pub mod story;
pub mod tailnet;
pub mod transfer;
pub mod two_nodes;
pub mod wait;
pub mod workload;
pub mod world;
