//! Child processes that cannot outlive the program that started them.

use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::prctl;
use nix::sys::signal::Signal;

/// Makes the kernel kill the child with SIGKILL when the *thread* that spawns it ends, however it ends.
///
/// Spawn from a thread that lives as long as the child should: the kernel watches the thread, not the process.
pub fn die_with_spawning_thread(command: &mut Command) -> &mut Command {
    // SAFETY: the closure runs between fork and exec in the child. It makes one system call (prctl), allocates nothing,
    // takes no lock and touches no memory shared with other threads, so it is async-signal-safe.
    unsafe { command.pre_exec(|| prctl::set_pdeathsig(Signal::SIGKILL).map_err(std::io::Error::from)) }
}
