//! Runs a test again under `unshare -Urnm` when its user may not make network namespaces.

use std::env;
use std::process::Command;

use super::Namespace;
use crate::require;

/// Set in the second run, so that a machine which refuses even there is reported instead of tried for ever.
const INSIDE: &str = "ISTHMUS_TEST_ISOLATED";

/// What a test function returns when its real run happened in another process.
pub trait Passed {
    /// The value that makes the test pass.
    fn passed() -> Self;
}

impl Passed for () {
    fn passed() -> Self {}
}

impl<E> Passed for Result<(), E> {
    fn passed() -> Self {
        Ok(())
    }
}

/// Gives the calling test the rights to make network namespaces; the first line of every test that uses [`Net`].
///
/// As root, or inside `unshare -Urnm`, nothing happens. As an ordinary user the test is run again, alone, under
/// `unshare -Urnm`, and this function returns with its result. Where that is refused, the test is skipped aloud, or fails
/// when `CI` is set.
///
/// [`Net`]: crate::netns::Net
#[macro_export]
macro_rules! isolate {
    () => {
        fn marker() {}
        if !$crate::netns::isolate(std::any::type_name_of_val(&marker)) {
            return $crate::netns::Passed::passed();
        }
    };
}

/// Whether this process may make network namespaces as it is.
pub fn is_allowed() -> bool {
    Namespace::allowed()
}

/// True when the caller has the rights itself; false when the test was run elsewhere, and passed, or was skipped.
/// Called by [`isolate!`](crate::isolate) with the type name of a function inside the test.
///
/// # Panics
/// When the second run failed.
pub fn isolate(marker: &str) -> bool {
    if is_allowed() {
        return true;
    }
    if env::var_os(INSIDE).is_some() {
        return require::missing("no network namespace can be made, not even in a user namespace");
    }
    if !require::program("unshare") || !user_namespaces_work() {
        return false;
    }
    let (_, path) = marker.split_once("::").expect("a type name begins with its crate");
    let test = path.rsplit_once("::").expect("a type name ends with the item").0;
    let status = unshare()
        .arg(env::current_exe().expect("the test binary has a path"))
        .args([test, "--exact", "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .expect("unshare was found on PATH");
    assert!(status.success(), "{test} failed under unshare -Urnm: {status}");
    false
}

fn user_namespaces_work() -> bool {
    let output = unshare().arg("true").output().expect("unshare was found on PATH");
    output.status.success() || require::missing(&format!("unshare -Urnm: {}", String::from_utf8_lossy(&output.stderr)))
}

/// `unshare` up to the program: a tmpfs on /run makes `ip netns` and programs with run-time files work.
fn unshare() -> Command {
    let mut command = Command::new("unshare");
    command.args(["-Urnm", "sh", "-c", "mount -t tmpfs tmpfs /run && exec \"$0\" \"$@\""]);
    command
}
