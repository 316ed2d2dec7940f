//! What a case showed, as a table or as JSON.

use serde::Serialize;

/// One case.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    /// What is shown.
    pub(super) case: &'static str,
    /// The request of the negative control, made before, and how it failed.
    pub(super) before: String,
    /// Whether that request failed, as it must.
    pub(super) failed_before: bool,
    /// The request that works now.
    pub(super) request: String,
    /// The command that repeats it while the stage stands.
    #[serde(skip)]
    pub(super) repeat: String,
    /// SHA-256 of the mebibyte that was received.
    pub(super) received: String,
    /// SHA-256 of the mebibyte that was sent.
    pub(super) expected: String,
    /// The address that the server saw its client at.
    pub(super) peer: String,
    /// The address that it must see it at: that of the proxy, or of the way out behind it.
    pub(super) expected_peer: String,
    /// How datagrams travel between the proxy and the device outside.
    pub(super) way: String,
    /// How they must, with what is between the two.
    pub(super) expected_way: String,
    /// Seconds from the apply until the condition was true.
    pub(super) ready_s: f64,
    /// Seconds from the apply until the first answer.
    pub(super) first_byte_s: f64,
}

impl Row {
    /// Whether the case shows what it claims.
    pub(super) fn holds(&self) -> bool {
        self.failed_before
            && self.received == self.expected
            && self.peer == self.expected_peer
            && self.way == self.expected_way
    }
}

/// Prints the rows to standard output.
#[expect(clippy::print_stdout, reason = "the results are what the command is run for")]
pub(super) fn print(rows: &[Row], json: bool) {
    println!("{}", if json { render_json(rows) } else { render_table(rows) });
}

fn render_json(rows: &[Row]) -> String {
    serde_json::to_string_pretty(rows).expect("rows are plain text and numbers")
}

fn render_table(rows: &[Row]) -> String {
    rows.iter().map(render_row).collect::<Vec<_>>().join("\n")
}

fn render_row(row: &Row) -> String {
    let verdict = if row.holds() { "ok    " } else { "FAILED" };
    let control = if row.failed_before {
        "failed, as it must"
    } else {
        "ANSWERED, but must not"
    };
    format!(
        "
{verdict} {}
       before       {control}: {}
       now          {}
       received     1 MiB, sha256 {} ({} sent)
       server saw   {} (must be {})
       datagrams    {} (must be {})
       ready after  {:.1} s, first byte after {:.1} s",
        row.case,
        row.before,
        row.request,
        short(&row.received),
        if row.received == row.expected { "as" } else { "NOT as" },
        row.peer,
        row.expected_peer,
        row.way,
        row.expected_way,
        row.ready_s,
        row.first_byte_s,
    )
}

fn short(hash: &str) -> &str {
    hash.get(..16).unwrap_or(hash)
}

#[cfg(test)]
mod tests;
