//! Running programs, and talking to the person at the terminal.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, bail};

/// The root folder of the repository.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in the repository")
        .to_owned()
}

/// Prints a line of progress, or of what went wrong.
#[expect(clippy::print_stderr, reason = "progress is for people")]
pub(crate) fn say(line: &str) {
    eprintln!("{line}");
}

/// `cargo` as it runs us, in the repository's root.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(repository());
    command
}

/// Runs a step: says what it does, and how long it took.
///
/// # Errors
/// When the program cannot be started or does not succeed; the message names the step.
pub(crate) fn step(name: &str, command: &mut Command) -> anyhow::Result<()> {
    say(&format!("==> {name}"));
    let start = Instant::now();
    let status = command
        .status()
        .with_context(|| format!("{name}: could not start {}", command.get_program().display()))?;
    if !status.success() {
        bail!("{name}: {} ended with {status}", command.get_program().display());
    }
    say(&format!("    {name}: {:.1} s", start.elapsed().as_secs_f64()));
    Ok(())
}
