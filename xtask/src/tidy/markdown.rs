//! Paths, links and commands that the documents name exist.

use std::{fs, path::Path};

use anyhow::Context;

use super::{Complaint, sources::tracked};

/// Checks every Markdown file.
pub(super) fn check(root: &Path) -> anyhow::Result<Vec<Complaint>> {
    let mut complaints = Vec::new();
    for path in tracked(root, ".md")? {
        let text = fs::read_to_string(root.join(&path)).with_context(|| format!("read {path}"))?;
        let folder = Path::new(&path).parent().unwrap_or(Path::new("")).to_owned();
        for link in links(&text).filter(|link| !root.join(folder.join(link)).exists()) {
            complaints.push(format!("{path}: links to {link}, which does not exist"));
        }
        for named in paths(&text).filter(|named| !root.join(named).exists()) {
            complaints.push(format!("{path}: names {named}, which does not exist"));
        }
    }
    Ok(complaints)
}

/// Targets of links to files of the repository.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices("](").filter_map(|(start, _)| {
        let target = text[start + 2..].split(')').next()?;
        let file = target.split('#').next()?;
        (!file.is_empty() && !target.contains("://")).then_some(file)
    })
}

/// Words in code marks that look like paths of the repository.
fn paths(text: &str) -> impl Iterator<Item = &str> {
    const ROOTS: [&str; 7] = ["crates/", "deploy/", "docs/", "tests/", "tools/", "xtask/", "fuzz/"];
    text.split('`').skip(1).step_by(2).filter(|word| {
        ROOTS.iter().any(|root| word.starts_with(root))
            && !word.contains(|c: char| c.is_whitespace() || "*{<".contains(c))
    })
}

#[cfg(test)]
mod tests {
    use super::{links, paths};

    #[test]
    fn links_and_paths_are_found() {
        let text = "See [the guide](docs/guide.md#top), [site](https://example.com) and `crates/sys/src/lib.rs`, not `crates/*`.";
        assert_eq!(links(text).collect::<Vec<_>>(), ["docs/guide.md"]);
        assert_eq!(paths(text).collect::<Vec<_>>(), ["crates/sys/src/lib.rs"]);
    }
}
