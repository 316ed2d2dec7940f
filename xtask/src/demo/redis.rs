//! The database of the demo: redis as the distribution ships it.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use isthmus_testkit::netns::{Namespace, Process};

use super::cases::sha256;
use super::stage::{run_on, until};

/// Starts a server that answers everybody who reaches it.
pub(super) fn start(namespace: &Namespace, folder: &Path) -> Result<Process> {
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    let mut command = Command::new("redis-server");
    command
        .args([
            "--port",
            "6379",
            "--bind",
            "0.0.0.0",
            "--protected-mode",
            "no",
            "--save",
            "",
            "--dir",
        ])
        .arg(folder)
        .stdin(Stdio::null())
        .stdout(fs::File::create(folder.join("redis.log")).context("open the log of redis")?);
    let process = namespace.spawn(command);
    until("redis to answer", || Ok(run_on(namespace, "redis-cli", &["ping"]).ok()))?;
    Ok(process)
}

/// Stores a mebibyte of text and returns it.
pub(super) fn fill(namespace: &Namespace) -> Result<String> {
    let mut blob = String::with_capacity(1 << 20);
    let mut block = sha256(namespace.path().as_bytes());
    while blob.len() < 1 << 20 {
        write!(blob, "{block}").context("write into memory")?;
        block = sha256(block.as_bytes());
    }
    // All of it does not fit in one argument of a program.
    let (first, rest) = blob.split_at(blob.len() / 16);
    let set = |command: &str, part: &str| run_on(namespace, "redis-cli", &[command, "blob", part]);
    set("set", first)
        .map_err(anyhow::Error::msg)
        .context("fill the database")?;
    for part in rest.as_bytes().chunks(first.len()) {
        let part = std::str::from_utf8(part).context("hexadecimal digits are text")?;
        set("append", part)
            .map_err(anyhow::Error::msg)
            .context("fill the database")?;
    }
    Ok(blob)
}

/// Whether what `redis-cli` printed is an answer: it ends well also when it could not connect.
pub(super) fn judge(answer: String) -> Result<String, String> {
    if answer.trim().is_empty() || answer.contains("Could not connect") {
        Err(answer)
    } else {
        Ok(answer)
    }
}
