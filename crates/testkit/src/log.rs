//! What programs of a test wrote about themselves.

use std::fs;
use std::path::Path;

/// The last lines of a log, or why it cannot be read.
pub fn read_tail(log: &Path, lines: usize) -> String {
    let text = fs::read_to_string(log).unwrap_or_else(|error| format!("(the log cannot be read: {error})"));
    let skip = text.lines().count().saturating_sub(lines);
    text.lines().skip(skip).collect::<Vec<_>>().join("\n")
}
