//! `isthmus proxy`: reads the environment and runs a proxy.

use std::collections::BTreeMap;
use std::env;

use anyhow::{Context as _, Result};
use isthmus_proxy_core::Settings;
use isthmus_runtime::Shutdown;
use isthmus_runtime::log::{self, Format};

/// Carries between a cluster and a tailnet, inside a Pod. Everything else is said by the environment (`TS_DEST_IP`,
/// `TS_TAILNET_TARGET_IP`, `TS_AUTHKEY`, `TS_KUBE_SECRET`, …) and by the Secret that `TS_KUBE_SECRET` names.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// `info`, `debug`, or directives such as `info,isthmus_proxy=debug`
    #[arg(long, env = "ISTHMUS_LOG", default_value = "info")]
    logging: String,
}

/// Runs the proxy until SIGTERM or SIGINT.
pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    log::init(&arguments.logging, Format::Json)?;
    let shutdown = Shutdown::new();
    shutdown.begin_on_signals().context("cannot install signal handlers")?;
    let settings = Settings::from_variables(&variables())?;
    isthmus_proxy::run(settings, shutdown).await?;
    Ok(())
}

/// The environment. A variable that is not UTF-8 is none that a proxy knows.
fn variables() -> BTreeMap<String, String> {
    env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}
