//! `cargo xtask test`: the tiers, cheapest first.

use std::path::PathBuf;
use std::process::Command;

use clap::{Args, ValueEnum};
use isthmus_cluster::{Cluster, ClusterSpec, Tools, default_state_folder};
use isthmus_testkit::cluster::hostile_state_folder;
use isthmus_testkit::workload;

use crate::{
    debian, demo, fuzz, generate, image,
    process::{cargo, say, step},
    tidy,
};

/// Programs that the tests in network namespaces run, and the Debian packages they come in.
const NETNS_PROGRAMS: [(&str, &str); 7] = [
    ("ip", "iproute2"),
    ("iperf3", "iperf3"),
    ("nft", "nftables"),
    ("nsenter", "util-linux"),
    ("ping", "iputils-ping"),
    ("sysctl", "procps"),
    ("tcpdump", "tcpdump"),
];

/// What to run.
#[derive(Args)]
pub(crate) struct Options {
    /// Only this tier; may be given several times. Without it: all of them
    #[arg(long = "tier", value_enum)]
    tiers: Vec<Tier>,
    /// Longer runs: more random stories, a thousand Services, figures on the output
    #[arg(long)]
    soak: bool,
}

/// A tier of tests. A test lives in the lowest tier in which it can fail for the right reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Tier {
    /// Formatting, lints, and the checks of `cargo xtask tidy`
    Lint,
    /// Unit and property tests of every crate
    Unit,
    /// Mutated bytes for every reader of outside bytes, for 40 seconds; only when named, or in long runs
    Fuzz,
    /// The kernel, in network namespaces
    Netns,
    /// A real etcd and kube-apiserver
    Apiserver,
    /// The two-node cluster
    E2e,
    /// The demo from beginning to end
    Demo,
    /// Foreign tailnet programs, where they are on PATH
    Interop,
}

/// Runs the chosen tiers in order and stops at the first that fails.
///
/// # Errors
/// When a tier fails; the message names it.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    // What a search finds differs from run to run: it is not to fail somebody's change by chance.
    let is_ordinary = |tier: &Tier| *tier != Tier::Fuzz || options.soak;
    let chosen = |tier: &&Tier| options.tiers.contains(tier) || (options.tiers.is_empty() && is_ordinary(tier));
    for tier in Tier::value_variants().iter().filter(chosen) {
        run_tier(*tier, options.soak)?;
    }
    say("all chosen tiers passed");
    Ok(())
}

fn run_tier(tier: Tier, soak: bool) -> anyhow::Result<()> {
    match tier {
        Tier::Lint => lint(),
        Tier::Unit => unit(soak),
        Tier::Fuzz => fuzz::run(&fuzz::Options::all(if soak { 1200 } else { 40 })),
        Tier::Netns => {
            debian::ensure_programs(&NETNS_PROGRAMS)?;
            target("netns", soak, &[])
        }
        Tier::Apiserver => {
            Tools::ensure(&say)?;
            target("apiserver", soak, &[])
        }
        Tier::E2e => on_the_cluster(soak),
        Tier::Demo => demo::run(&demo::Options::once()),
        // What is skipped for want of a foreign program shall be seen.
        Tier::Interop => target("interop", soak, &["--", "--show-output"]),
    }
}

fn unit(soak: bool) -> anyhow::Result<()> {
    // The test harness tests itself.
    debian::ensure_programs(&NETNS_PROGRAMS)?;
    let scope = ["test", "--workspace", "--exclude", "isthmus-tests"];
    step("unit tests", tests(soak).args(scope).args(["--locked", "--quiet"]))
}

fn lint() -> anyhow::Result<()> {
    step("formatting", cargo().args(["fmt", "--all", "--check"]))?;
    let scope = ["clippy", "--workspace", "--all-targets", "--locked", "--quiet"];
    let features = ["--features", "isthmus-operator-core/schema"];
    step(
        "lints",
        cargo().args(scope).args(features).args(["--", "-D", "warnings"]),
    )?;
    generate::check()?;
    tidy::run()
}

/// Runs the tests of the cluster, and leaves clusters as they were: running or not.
fn on_the_cluster(soak: bool) -> anyhow::Result<()> {
    debian::ensure_packages(&isthmus_cluster::missing_packages())?;
    debian::ensure_packages(&workload::missing_packages())?;
    image::build_default(false)?;
    let states = [default_state_folder(), hostile_state_folder()];
    let held = |state: &PathBuf| ClusterSpec::in_held_slot(state).ok().flatten();
    let ran_before: Vec<bool> = states.iter().map(|state| held(state).is_some()).collect();
    // So that its progress is seen, which the tests' own start of it hides.
    Cluster::up(&ClusterSpec::in_free_slot(&states[0])?, &say)?;
    let tested = target("e2e", soak, &[]);
    for (state, _) in states.iter().zip(ran_before).filter(|(_, ran)| !ran) {
        if let Some(spec) = held(state) {
            Cluster::handle(&spec).down()?;
        }
    }
    tested
}

/// `cargo`, whose tests take as long as is wanted: they read `ISTHMUS_SOAK`.
fn tests(soak: bool) -> Command {
    let mut cargo = cargo();
    if soak {
        cargo.env("ISTHMUS_SOAK", "1");
    }
    cargo
}

fn target(name: &str, soak: bool, more: &[&str]) -> anyhow::Result<()> {
    // Of the whole workspace: by the package alone, dependencies would be built again with other features.
    let arguments = ["test", "--workspace", "--test", name, "--locked"];
    let figures: &[&str] = if soak && more.is_empty() {
        &["--", "--show-output"]
    } else {
        more
    };
    step(&format!("{name} tests"), tests(soak).args(arguments).args(figures))
}
