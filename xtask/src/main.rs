//! Build, test and demo commands of the repository: `cargo xtask help`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

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
    /// Run the tests: all tiers, or the named ones
    Test(test::Options),
    /// Check what can be checked about the repository itself: arrows between crates, sizes, links, licences
    Tidy,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Test(options) => test::run(&options),
        Command::Tidy => tidy::run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            process::complain(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
