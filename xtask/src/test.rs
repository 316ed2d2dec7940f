//! `cargo xtask test`: the tiers, cheapest first.

use clap::{Args, ValueEnum};

use crate::{
    process::{cargo, say, step},
    tidy,
};

/// What to run.
#[derive(Args)]
pub(crate) struct Options {
    /// Only this tier; may be given several times. Without it: all of them
    #[arg(long = "tier", value_enum)]
    tiers: Vec<Tier>,
}

/// A tier of tests. A test lives in the lowest tier in which it can fail for the right reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Tier {
    /// Formatting, lints, and the checks of `cargo xtask tidy`
    Lint,
    /// Unit and property tests of every crate
    Unit,
    /// The kernel, in network namespaces
    Netns,
    /// A real etcd and kube-apiserver
    Apiserver,
    /// The two-node cluster
    E2e,
    /// Foreign tailnet programs, where they are on PATH
    Interop,
}

/// Runs the chosen tiers in order and stops at the first that fails.
///
/// # Errors
/// When a tier fails; the message names it.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let chosen = |tier: &&Tier| options.tiers.is_empty() || options.tiers.contains(tier);
    for tier in Tier::value_variants().iter().filter(chosen) {
        run_tier(*tier)?;
    }
    say("all chosen tiers passed");
    Ok(())
}

fn run_tier(tier: Tier) -> anyhow::Result<()> {
    match tier {
        Tier::Lint => {
            step("formatting", cargo().args(["fmt", "--all", "--check"]))?;
            let lints = [
                "clippy",
                "--workspace",
                "--all-targets",
                "--locked",
                "--quiet",
                "--",
                "-D",
                "warnings",
            ];
            step("lints", cargo().args(lints))?;
            tidy::run()
        }
        Tier::Unit => step(
            "unit tests",
            cargo().args([
                "test",
                "--workspace",
                "--exclude",
                "isthmus-tests",
                "--locked",
                "--quiet",
            ]),
        ),
        Tier::Netns => target("netns"),
        Tier::Apiserver => target("apiserver"),
        Tier::E2e => target("e2e"),
        Tier::Interop => target("interop"),
    }
}

fn target(name: &str) -> anyhow::Result<()> {
    step(
        &format!("{name} tests"),
        cargo().args(["test", "--package", "isthmus-tests", "--test", name, "--locked"]),
    )
}
