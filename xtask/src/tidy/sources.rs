//! Sizes and habits of source files.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, bail};

use super::Complaint;

/// Lines beyond which a source file is refused. Wanted are about 300; tests and generated files do not count.
const LONGEST_FILE: usize = 400;

/// The files that git tracks (or would track) whose name ends in `suffix`.
pub(super) fn tracked(root: &Path, suffix: &str) -> anyhow::Result<Vec<String>> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .context("run git ls-files")?;
    if !output.status.success() {
        bail!("git ls-files: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let listing = String::from_utf8(output.stdout).context("file names are UTF-8")?;
    let exists = |path: &&str| path.ends_with(suffix) && root.join(path).exists();
    Ok(listing.lines().filter(exists).map(str::to_owned).collect())
}

/// Checks every Rust file.
pub(super) fn check(root: &Path) -> anyhow::Result<Vec<Complaint>> {
    let files = tracked(root, ".rs")?;
    let mut complaints = Vec::new();
    for path in &files {
        let text = fs::read_to_string(root.join(path)).with_context(|| format!("read {path}"))?;
        complaints.extend(judge(path, &text));
    }
    complaints.extend(orphans(root, &files)?);
    Ok(complaints)
}

fn judge(path: &str, text: &str) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    let lines = text.lines().count();
    if lines > LONGEST_FILE && !is_test(path) {
        complaints.push(format!(
            "{path}: {lines} lines; at most {LONGEST_FILE}: find the second subject in it"
        ));
    }
    if path.ends_with("/mod.rs") {
        complaints.push(format!("{path}: modules are `foo.rs` beside `foo/`"));
    }
    if !path.starts_with("crates/sys/") && text.contains(concat!("allow(", "unsafe_code")) {
        complaints.push(format!("{path}: only crates/sys may allow unsafe code"));
    }
    for (number, line) in text.lines().enumerate() {
        if let Some(habit) = habit(line, is_test(path)) {
            complaints.push(format!("{path}:{}: {habit}", number + 1));
        }
    }
    complaints
}

/// What is wrong with one line, if anything. The words are split so that this file does not complain about itself.
fn habit(line: &str, test: bool) -> Option<&'static str> {
    let ignored = concat!("#[ign", "ore");
    let unfinished = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:")];
    if unfinished.iter().any(|word| line.contains(word)) {
        return Some("finish it or file an issue; no reminders in code");
    }
    if test && line.trim_start().starts_with(ignored) {
        return Some("an ignored test proves nothing: run it in the tier that can, and print why when it cannot");
    }
    None
}

fn is_test(path: &str) -> bool {
    path.starts_with("tests/") || path.contains("/tests/") || path.ends_with("/tests.rs")
}

/// Source files that no `mod` line names are never compiled. A file beside them may name them with a `path` attribute.
fn orphans(root: &Path, files: &[String]) -> anyhow::Result<Vec<Complaint>> {
    let mut complaints = Vec::new();
    for path in files {
        let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
        let stem = file.trim_end_matches(".rs");
        if ["main", "lib", "build"].contains(&stem)
            || path.contains("/bin/")
            || path.contains("/examples/")
            || path.starts_with("fuzz/")
        {
            continue;
        }
        let parents = [
            format!("{folder}.rs"),
            format!("{folder}/lib.rs"),
            format!("{folder}/main.rs"),
        ];
        let attribute = format!("#[path = \"{file}\"]");
        let is_beside = |other: &&String| other.rsplit_once('/').map_or("", |(folder, _)| folder) == folder;
        let any_line = |path: &String, judge: &dyn Fn(&str) -> bool| -> anyhow::Result<bool> {
            let text = fs::read_to_string(root.join(path)).with_context(|| format!("read {path}"))?;
            Ok(text.lines().any(judge))
        };
        let mut declared = false;
        for parent in parents.iter().filter(|parent| root.join(parent).exists()) {
            declared |= any_line(parent, &|line| declares(line, stem))?;
        }
        for sibling in files.iter().filter(is_beside) {
            declared |= any_line(sibling, &|line| line.trim() == attribute)?;
        }
        if !declared {
            complaints.push(format!(
                "{path}: no `mod {stem};` names this file, so it is never compiled"
            ));
        }
    }
    Ok(complaints)
}

fn declares(line: &str, stem: &str) -> bool {
    line.trim()
        .strip_suffix(&format!("mod {stem};"))
        .is_some_and(|before| before.is_empty() || before.starts_with("pub") || before.starts_with("#["))
}

#[cfg(test)]
mod tests {
    use super::{declares, judge};

    #[test]
    fn long_file_is_refused_and_long_test_is_not() {
        let text = "//\n".repeat(401);
        assert_eq!(judge("crates/proxy/src/run.rs", &text).len(), 1);
        assert!(judge("crates/proxy/src/run/tests.rs", &text).is_empty());
    }

    #[test]
    fn module_line_is_recognised() {
        assert!(declares("    pub(crate) mod netmap;", "netmap"));
        assert!(!declares("mod netmap_tests;", "netmap"));
        assert!(!declares("// mod netmap;", "netmap"));
    }
}
