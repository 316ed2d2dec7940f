//! Two nodes without a control server, shown by traffic through them.

mod limits;
mod traffic;

use isthmus_testkit::require;
pub(crate) use isthmus_testkit::transfer::{content, transfer};

/// Whether this machine can run the tests here.
pub(crate) fn can_run(programs: &[&str]) -> bool {
    require::tun_device() && programs.iter().all(|program| require::program(program))
}
