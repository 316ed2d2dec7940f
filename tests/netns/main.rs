//! Tests against the kernel in network namespaces.
#![expect(
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "the helpers of tests report by panicking and by printing to the test's captured output"
)]

mod node;
mod proxy;
mod tailnet;
mod whole_proxy;
