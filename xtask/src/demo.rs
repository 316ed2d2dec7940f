//! `cargo xtask demo`: a cluster and a tailnet, and what each reaches of the other.

mod cases;
mod redis;
mod report;
pub(crate) mod stage;

use std::thread;

use anyhow::{Result, ensure};
use clap::Args;

use self::report::Row;
use self::stage::{Places, Stage};
use crate::process::say;

/// How to run the demo.
#[derive(Args)]
pub(crate) struct Options {
    /// End when every case was shown, and leave nothing behind
    #[arg(long)]
    once: bool,
    /// Print the results as JSON
    #[arg(long)]
    json: bool,
    /// For development: with an image as of `cargo xtask image --debug`
    #[arg(long)]
    debug: bool,
}

impl Options {
    /// From beginning to end, for people.
    pub(crate) fn once() -> Self {
        Self {
            once: true,
            json: false,
            debug: false,
        }
    }
}

/// Sets the stage, shows every case, and stays until it is interrupted.
///
/// # Errors
/// When something does not start, or a case does not show what it claims.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut stage = Stage::set(options.debug, Places::BehindRouters).inspect_err(|_| stage::clear())?;
    let rows = show(&stage);
    match &rows {
        Ok(rows) => report::print(rows, options.json),
        Err(_) => stage.dump(),
    }
    if options.once || rows.is_err() {
        stage.strike()?;
    }
    let rows = rows?;
    let failed: Vec<&str> = rows.iter().filter(|row| !row.holds()).map(|row| row.case).collect();
    ensure!(failed.is_empty(), "these cases do not hold: {}", failed.join("; "));
    if !options.once {
        say(&stage.invitation(&rows));
        loop {
            thread::park();
        }
    }
    Ok(())
}

fn show(stage: &Stage) -> Result<Vec<Row>> {
    stage.install_operator()?;
    cases::show_all(stage)
}
