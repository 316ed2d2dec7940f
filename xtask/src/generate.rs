//! `cargo xtask gen`: the files of `deploy/` that are made from code, custom resources and the operator's rights.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process,
};

use anyhow::{Context, bail};
use clap::Args;

use crate::process::{cargo, repository, say, step};

/// The generated files, below `deploy/`.
const FILES: [&str; 2] = ["crds/tailscale.com_proxyclasses.yaml", "manifests/rbac.yaml"];

/// What to do with what differs.
#[derive(Args)]
pub(crate) struct Options {
    /// Write nothing; fail when a file is not as the code has it
    #[arg(long)]
    check: bool,
}

/// Writes the files, or compares them.
///
/// # Errors
/// When they cannot be made; with `--check`, when one differs.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let fresh = env::temp_dir().join(format!("isthmus-gen-{}", process::id()));
    let result = make(&fresh).and_then(|()| compare(&fresh, options.check));
    let removed = fs::remove_dir_all(&fresh);
    result?;
    removed.context("remove the folder with fresh files")
}

/// As [`run`] with `--check`, for the lint tier.
pub(crate) fn check() -> anyhow::Result<()> {
    run(&Options { check: true })
}

fn make(folder: &Path) -> anyhow::Result<()> {
    let example = [
        "run",
        "--quiet",
        "--package",
        "isthmus-operator-core",
        "--features",
        "schema",
    ];
    let mut command = cargo();
    command.args(example).args(["--example", "deploy", "--"]).arg(folder);
    step("generated files", &mut command)
}

fn compare(fresh: &Path, only_check: bool) -> anyhow::Result<()> {
    let deploy: PathBuf = repository().join("deploy");
    let mut stale = Vec::new();
    for file in FILES {
        let wanted = fs::read_to_string(fresh.join(file)).with_context(|| format!("read the fresh {file}"))?;
        let path = deploy.join(file);
        if fs::read_to_string(&path).is_ok_and(|existing| existing == wanted) {
            continue;
        }
        if only_check {
            stale.push(format!("deploy/{file}"));
        } else {
            fs::create_dir_all(path.parent().context("every file lies in a folder")?)?;
            fs::write(&path, wanted).with_context(|| format!("write {}", path.display()))?;
            say(&format!("wrote deploy/{file}"));
        }
    }
    if !stale.is_empty() {
        bail!("not as the code has it: {}; run `cargo xtask gen`", stale.join(", "));
    }
    Ok(())
}
