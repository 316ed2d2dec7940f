//! Tests against foreign tailnet programs found on PATH.
#![expect(
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "the helpers of tests report by panicking and by printing to the test's captured output"
)]

mod certificate;
mod client;
mod deltas;
mod go_clients;
mod headscale;
mod life;
mod our_node;
mod pings;
mod relays;
mod services;
#[expect(dead_code, reason = "other tests need more of it")]
#[path = "../netns/tailnet/world.rs"]
mod world;
