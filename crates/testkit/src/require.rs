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

/// True when all these programs, which judge ours and which nobody must have, are on `PATH`. Their absence is said, and fails nowhere.
pub fn judges(names: &[&str]) -> bool {
    let missing: Vec<&str> = names
        .iter()
        .copied()
        .filter(|name| find_program(name).is_none())
        .collect();
    if !missing.is_empty() {
        eprintln!("skipped: not on PATH: {}", missing.join(", "));
    }
    missing.is_empty()
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
