//! The one binary of Isthmus.

mod node;
mod operator;
mod proxy;
mod tailbox;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use isthmus_runtime::{
    ErrorChain,
    log::{self, Format},
};
use tokio::runtime;

/// Joins a Kubernetes cluster and a tailnet.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a tailnet node on this machine
    Node(node::Arguments),
    /// Watches a cluster and gives Services their proxies
    Operator(operator::Arguments),
    /// Carries between a cluster and a tailnet, inside a Pod
    Proxy(proxy::Arguments),
    /// Runs a tailnet for demos and tests: control server and management API, not for production
    Tailbox(tailbox::Arguments),
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Changes nothing when the command got as far as its own log settings.
            let _ = log::init("info", Format::Text);
            tracing::error!(error = %ErrorChain(error.as_ref()), "ended by an error");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    match command {
        Command::Node(arguments) => runtime.block_on(node::run(arguments)),
        Command::Operator(arguments) => runtime.block_on(operator::run(arguments)),
        Command::Proxy(arguments) => runtime.block_on(proxy::run(arguments)),
        Command::Tailbox(arguments) => runtime.block_on(tailbox::run(arguments)),
    }
}
