//! Build, test and demo commands of the repository: `cargo xtask help`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod cluster;
mod debian;
mod demo;
mod fuzz;
mod generate;
mod image;
mod process;
mod test;
mod tidy;

/// The commands of this repository.
#[derive(Parser)]
#[command(name = "cargo xtask", about, disable_help_subcommand = false)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure: figures are printed, nothing is asserted
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Run the local two-node cluster
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// Show a cluster and a tailnet reaching each other
    Demo(demo::Options),
    /// Throw mutated bytes at every reader of outside bytes
    Fuzz(fuzz::Options),
    /// Write the files of `deploy/` that are made from code
    Gen(generate::Options),
    /// Build the container image of isthmus
    Image(image::ImageArgs),
    /// Run the tests: all tiers, or the named ones
    Test(test::Options),
    /// Check what can be checked about the repository itself: arrows between crates, sizes, links, licences
    Tidy,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Bench(bench) => bench::run(&bench),
        Command::Cluster(command) => cluster::run(command),
        Command::Demo(options) => demo::run(&options),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Gen(options) => generate::run(&options),
        Command::Image(arguments) => image::run(&arguments),
        Command::Test(options) => test::run(&options),
        Command::Tidy => tidy::run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            process::say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
