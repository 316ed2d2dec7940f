//! Every promise of SECURITY.md names a test that exists.

use std::{fs, path::Path};

use anyhow::{Context, ensure};

use super::{Complaint, sources::tracked};

/// Checks the tables of SECURITY.md.
pub(super) fn check(root: &Path) -> anyhow::Result<Vec<Complaint>> {
    let document = fs::read_to_string(root.join("SECURITY.md")).context("read SECURITY.md")?;
    let mut functions = String::new();
    for path in tracked(root, ".rs")? {
        functions += &fs::read_to_string(root.join(&path)).with_context(|| format!("read {path}"))?;
    }
    let named: Vec<&str> = promised_tests(&document).collect();
    ensure!(!named.is_empty(), "SECURITY.md: its tables name no test");
    let missing = named
        .into_iter()
        .filter(|test| !functions.contains(&format!("fn {test}(")));
    Ok(missing
        .map(|test| format!("SECURITY.md: no test is called {test}"))
        .collect())
}

/// The names in the last column of every table.
fn promised_tests(document: &str) -> impl Iterator<Item = &str> {
    document.lines().filter_map(|line| {
        let cell = line.strip_prefix('|')?.strip_suffix('|')?.rsplit('|').next()?.trim();
        cell.strip_prefix('`')?.strip_suffix('`')
    })
}

#[cfg(test)]
mod tests {
    use super::promised_tests;

    #[test]
    fn tests_are_read_from_the_last_column() {
        let document = "| promise | test |\n|---|---|\n| prints as `x` | `secret_is_hidden` |\n`not_in_a_table`";
        assert_eq!(promised_tests(document).collect::<Vec<_>>(), ["secret_is_hidden"]);
    }
}
