//! Tests against foreign tailnet programs found on PATH.
#![expect(
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "the helpers of tests report by panicking and by printing to the test's captured output"
)]

mod go_clients;
mod our_node;
#[expect(dead_code, reason = "other tests need more of it")]
#[path = "../netns/tailnet/world.rs"]
mod world;
