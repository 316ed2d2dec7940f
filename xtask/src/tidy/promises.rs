//! Every promise of SECURITY.md and docs/scenarios.md names a test that exists.

use std::{fs, path::Path};

use anyhow::{Context, ensure};

use super::{Complaint, sources::tracked};

/// The documents whose tables name a test in their last column.
const DOCUMENTS: [&str; 2] = ["SECURITY.md", "docs/scenarios.md"];

/// Checks the tables of both documents.
pub(super) fn check(root: &Path) -> anyhow::Result<Vec<Complaint>> {
    let mut sources = Vec::new();
    for path in tracked(root, ".rs")? {
        let text = fs::read_to_string(root.join(&path)).with_context(|| format!("read {path}"))?;
        sources.push((path, text));
    }
    let mut complaints = Vec::new();
    for document in DOCUMENTS {
        let text = fs::read_to_string(root.join(document)).with_context(|| format!("read {document}"))?;
        let named: Vec<&str> = promised_tests(&text).collect();
        ensure!(!named.is_empty(), "{document}: its tables name no test");
        let missing = named.into_iter().filter(|test| !exists(test, &sources));
        complaints.extend(missing.map(|test| format!("{document}: there is no test {test}")));
    }
    Ok(complaints)
}

/// Whether a source has the test: by its name alone, or by the end of its file's path and its name, `proxy::egress::name`.
fn exists(test: &str, sources: &[(String, String)]) -> bool {
    let (module, name) = test.rsplit_once("::").unwrap_or(("", test));
    let file = format!("/{}.rs", module.replace("::", "/"));
    let function = format!("fn {name}(");
    sources
        .iter()
        .filter(|(path, _)| module.is_empty() || path.ends_with(&file))
        .any(|(_, text)| text.contains(&function))
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
    use super::{exists, promised_tests};

    #[test]
    fn tests_are_read_from_the_last_column() {
        let document = "| promise | test |\n|---|---|\n| prints as `x` | `secret_is_hidden` |\n`not_in_a_table`";
        assert_eq!(promised_tests(document).collect::<Vec<_>>(), ["secret_is_hidden"]);
    }

    #[test]
    fn test_is_looked_for_in_the_file_that_its_path_names() {
        let sources = [(
            "tests/netns/proxy/egress.rs".to_owned(),
            "fn pod_gets_out() {}".to_owned(),
        )];
        assert!(exists("pod_gets_out", &sources));
        assert!(exists("netns::proxy::egress::pod_gets_out", &sources));
        assert!(!exists("netns::proxy::ingress::pod_gets_out", &sources));
        assert!(!exists("pod_gets", &sources));
    }
}
