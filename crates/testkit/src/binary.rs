//! The `isthmus` binary under test.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The binary, built from the sources of this checkout in the profile of the calling test. `ISTHMUS_BINARY` names another.
///
/// # Panics
/// When it cannot be built.
pub fn isthmus() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match env::var_os("ISTHMUS_BINARY") {
        Some(path) => path.into(),
        None => build(),
    })
}

fn build() -> PathBuf {
    let test = env::current_exe().expect("a test binary has a path");
    let folder = test
        .parent()
        .and_then(Path::parent)
        .expect("a test binary lies in target/PROFILE/deps");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        // With the features that the whole workspace gives to dependencies, so that the test's own builds serve again.
        .args(["build", "--quiet", "--locked", "--workspace", "--bin", "isthmus"])
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    command
        .arg("--target-dir")
        .arg(folder.parent().expect("a profile lies in a target folder"));
    if folder.ends_with("release") {
        command.arg("--release");
    }
    let status = command.status().expect("cargo runs where it runs the tests");
    assert!(status.success(), "cannot build the isthmus binary: {status}");
    folder.join("isthmus")
}
