//! Loads of several kinds through two nodes, beside what else does the same.
//!
//! Absolute figures belong to the machine and its hour; what counts are the ratios of one run. Every kind of load is sent twice: as much as
//! passes, for the speed and the memory, and as much as everybody manages, for the processor time of each bit.

mod case;
mod contestant;
mod ground;
mod report;
mod tools;

use clap::Args;

use super::NodeOptions;
use super::load::{self, Cost};
use crate::process::say;
use case::{CASES, Case, Way};
use contestant::Contestant;
use ground::Ground;
use report::Report;
use tools::Tools;

/// How to measure.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    node: NodeOptions,
    /// Gbit/s of the streams whose processor time is counted, where everybody manages as much
    #[arg(long, default_value_t = 0.4, value_name = "GBITS")]
    load: f64,
    /// Only loads whose name contains this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Install gotatun-cli and boringtun-cli from crates.io, once, if they are not there
    #[arg(long)]
    install: bool,
    /// Print the figures as JSON at the end
    #[arg(long)]
    json: bool,
}

/// What one contestant did with one load.
pub(super) struct Measured {
    case: &'static Case,
    contestant: Contestant,
    /// As much as passed.
    most: Cost,
    /// A fixed load; nothing for datagrams, whose load is fixed anyway.
    fixed: Option<Cost>,
}

/// Measures every load with every contestant that is there, in turn.
///
/// # Errors
/// When the machine cannot run it, or traffic does not pass.
pub(super) fn run(options: &Options) -> anyhow::Result<()> {
    let isthmus = options.node.prepare(&[("nft", "nftables")])?;
    let tools = Tools::find(isthmus, options.install)?;
    let contestants: Vec<Contestant> = Contestant::ALL.into_iter().filter(|each| tools.has(*each)).collect();
    let wanted = |case: &&Case| options.only.as_ref().is_none_or(|text| case.name.contains(text));
    let mut report = Report::default();
    for run in 1..=options.node.runs {
        for case in CASES.iter().filter(wanted) {
            for contestant in contestants.iter().filter(|each| case.admits(**each)) {
                let measured = measure(&tools, case, *contestant, options)?;
                say(&format!("run {run}  {measured}"));
                report.add(measured);
            }
        }
    }
    say(&report.text());
    if options.json {
        say(&report.json()?);
    }
    Ok(())
}

fn measure(tools: &Tools, case: &'static Case, contestant: Contestant, options: &Options) -> anyhow::Result<Measured> {
    let ground = Ground::new(tools.isthmus(), case.way == Way::Relayed)?;
    let running = contestant.start(tools, &ground, case.mtu)?;
    let client = if case.way == Way::Forwarded {
        ground.forward(&running.device)
    } else {
        ground.first().clone()
    };
    let send = |load| load::measure(&client, ground.second(), &running.address, load, &running.processes());
    let most = send(case.most(options.node.seconds))?;
    let fixed = case.fixed(options.node.seconds, options.load).map(send).transpose()?;
    Ok(Measured {
        case,
        contestant,
        most,
        fixed,
    })
}
