//! What a test needs from its machine: it is skipped aloud without it, and fails instead when `CI` is set.

use std::env;
use std::fs::OpenOptions;
use std::path::PathBuf;

/// True when `name` is an executable on `PATH`.
pub fn program(name: &str) -> bool {
    find_program(name).is_some() || missing(&format!("the program {name} is not on PATH"))
}

/// True when a TUN device can be opened.
pub fn tun_device() -> bool {
    match OpenOptions::new().read(true).write(true).open("/dev/net/tun") {
        Ok(_) => true,
        Err(error) => missing(&format!("cannot open /dev/net/tun: {error}")),
    }
}

/// Where `name` is found on `PATH`, if it is.
pub fn find_program(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

/// Says why the calling test is skipped and returns false.
///
/// # Panics
/// When the environment variable `CI` is set: there, nothing may be skipped.
pub fn missing(reason: &str) -> bool {
    assert!(
        env::var_os("CI").is_none(),
        "cannot run this test, and CI is set: {reason}"
    );
    eprintln!("skipped: {reason}");
    false
}
