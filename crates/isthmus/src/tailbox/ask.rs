//! `isthmus tailbox key|node|policy`: what people ask of a running tailbox, through its API.

mod api;
mod keys;
mod nodes;
mod policy;
mod table;

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Context;
use clap::Subcommand;

/// What to ask the running tailbox.
#[derive(Debug, Subcommand)]
pub(crate) enum Ask {
    /// Makes, lists and deletes auth keys
    #[command(subcommand)]
    Key(keys::Ask),
    /// Lists, shows and changes nodes
    #[command(subcommand)]
    Node(nodes::Ask),
    /// Shows, checks and replaces the policy
    #[command(subcommand)]
    Policy(policy::Ask),
}

/// What all questions have in common.
#[derive(Debug, clap::Args)]
pub(crate) struct Common {
    /// URL of the tailbox
    #[arg(
        long,
        value_name = "URL",
        env = "ISTHMUS_TAILBOX_URL",
        default_value = "http://127.0.0.1:8080"
    )]
    url: String,
    /// File with the OAuth client, as the tailbox writes it with --credentials-out
    #[arg(
        long,
        value_name = "FILE",
        env = "ISTHMUS_TAILBOX_CREDENTIALS",
        default_value = "/var/lib/isthmus/tailbox-credentials.json"
    )]
    credentials: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Asks the running tailbox and prints what it says.
///
/// # Errors
/// When no tailbox answers at the URL, or it refuses.
pub(crate) async fn ask(what: Ask) -> anyhow::Result<()> {
    let text = answer(what).await?;
    writeln!(io::stdout().lock(), "{}", text.trim_end()).context("cannot write to standard output")
}

/// What there is to print.
async fn answer(what: Ask) -> anyhow::Result<String> {
    match what {
        Ask::Key(ask) => keys::answer(ask).await,
        Ask::Node(ask) => nodes::answer(ask).await,
        Ask::Policy(ask) => policy::answer(ask).await,
    }
}

#[cfg(test)]
mod tests;
