//! The Go client in a tailnet of tests.

use std::path::PathBuf;

pub(crate) use isthmus_testkit::go_client::GoClient;
use isthmus_testkit::require;

use super::world::Tailnet;

/// Whether the Go client and what these tests need besides are there.
pub(crate) fn can_run(more: &[&str]) -> bool {
    let programs = ["ip", "ping", "unshare"];
    require::judges(&["tailscaled", "tailscale"])
        && require::judges(more)
        && require::tun_device()
        && programs.iter().all(|program| require::program(program))
}

/// A Go client on one of the machines that does not run yet.
pub(crate) fn new(tailnet: &Tailnet, which: usize, name: &str) -> GoClient {
    let folder = PathBuf::from(tailnet.path(&format!("go-{name}")));
    GoClient::new(&tailnet.machines[which], &folder, name)
}

/// Starts one on the second machine, and logs it in as `gopher`.
pub(crate) fn join(tailnet: &Tailnet) -> GoClient {
    join_with(tailnet, tailnet.control.auth_key(), &["--accept-dns=false"])
}

/// The same with an auth key and more options of `tailscale up`.
pub(crate) fn join_with(tailnet: &Tailnet, key: &str, options: &[&str]) -> GoClient {
    let mut client = new(tailnet, 1, "gopher");
    client.start();
    client.log_in(tailnet.control.url(), key, options);
    client
}
