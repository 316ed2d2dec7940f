//! Log output: to standard error, so that standard output stays free for what a command answers.

use std::io::IsTerminal;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{fmt, registry};

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people at a terminal.
    #[default]
    Text,
    /// One JSON object a line, for collectors.
    Json,
}

/// A log filter that could not be read.
#[derive(Debug, thiserror::Error)]
#[error(
    "log filter `{filter}` is not valid; use a level such as `info` or directives such as `info,isthmus_tailnet=debug`"
)]
pub struct InvalidFilter {
    filter: String,
    #[source]
    source: tracing_subscriber::filter::ParseError,
}

/// Installs the process-wide log output. `filter` is a list of levels by target, parted by commas, for example `info` or
/// `info,isthmus_tailnet=debug`. A second call in the same process changes nothing.
///
/// # Errors
/// When `filter` is no such list.
pub fn init(filter: &str, format: Format) -> Result<(), InvalidFilter> {
    let targets: Targets = filter.parse().map_err(|source| InvalidFilter {
        filter: filter.into(),
        source,
    })?;
    let lines = fmt::layer().with_writer(std::io::stderr);
    let filtered = registry().with(targets);
    // An error means that a subscriber exists already: the first one stays.
    let _first_wins = match format {
        Format::Text => filtered
            .with(lines.with_ansi(std::io::stderr().is_terminal()))
            .try_init(),
        Format::Json => filtered.with(lines.json().flatten_event(true)).try_init(),
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Format, init};

    #[test]
    fn invalid_filter_is_named() {
        let error = init("isthmus=loud", Format::Text).expect_err("loud is no level");
        assert!(error.to_string().contains("isthmus=loud"), "{error}");
    }
}
