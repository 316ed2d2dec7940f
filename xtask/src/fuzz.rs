//! `cargo xtask fuzz`: throws mutated bytes at the readers of outside bytes, with the coverage of the code as the guide.

use clap::Args;
use isthmus_cluster::target_folder;

use crate::process::{cargo, repository, step};

/// What to run.
#[derive(Args)]
pub(crate) struct Options {
    /// Only this target, one of the folders in `fuzz/corpus`. Without it: all of them
    target: Option<String>,
    /// For how long in all
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Decides all chance. Without it: another one each time
    #[arg(long)]
    seed: Option<u64>,
}

impl Options {
    /// All targets for so long.
    pub(crate) fn all(seconds: u64) -> Self {
        Self {
            target: None,
            seconds,
            seed: None,
        }
    }
}

/// Runs the targets. Inputs that reach new code are kept beside what is built and taken again by the next run; one that
/// fails is added to the corpus in the repository.
///
/// # Errors
/// When an input fails.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let mut tests = cargo();
    // As the unit tests are built, so that dependencies are shared with them.
    tests.args(["test", "--workspace", "--locked", "--quiet", "--test", "fuzz"]);
    tests.env("RUSTC_WORKSPACE_WRAPPER", repository().join("fuzz/with-coverage"));
    tests.env("ISTHMUS_FUZZ_SECONDS", options.seconds.to_string());
    tests.env("ISTHMUS_FUZZ_KEEP", target_folder().join("fuzz"));
    if let Some(target) = &options.target {
        tests.env("ISTHMUS_FUZZ_TARGET", target);
    }
    if let Some(seed) = options.seed {
        tests.env("ISTHMUS_FUZZ_SEED", seed.to_string());
    }
    step("fuzz", &mut tests)
}
