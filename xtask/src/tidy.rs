//! `cargo xtask tidy`: what can be checked about the repository without building it.

use anyhow::bail;

use crate::process::{repository, say};

mod arrows;
mod manifests;
mod markdown;
mod promises;
mod sources;

/// One thing that is not as it shall be: where, and what to do.
type Complaint = String;

/// Runs every check and prints every complaint.
///
/// # Errors
/// When there is a complaint.
pub(crate) fn run() -> anyhow::Result<()> {
    let root = repository();
    let mut complaints: Vec<Complaint> = Vec::new();
    complaints.extend(arrows::check()?);
    complaints.extend(manifests::check(&root)?);
    complaints.extend(sources::check(&root)?);
    complaints.extend(markdown::check(&root)?);
    complaints.extend(promises::check(&root)?);
    for complaint in &complaints {
        say(complaint);
    }
    if !complaints.is_empty() {
        bail!("tidy: {} complaints", complaints.len());
    }
    say("tidy: nothing to complain about");
    Ok(())
}
