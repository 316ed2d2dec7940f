//! Runs the targets, each in a process of its own: one that crashes or does not end takes nobody along.
//!
//! Without `ISTHMUS_FUZZ_SECONDS` every input of every corpus is read once, which is what `cargo test` does. With it, new
//! ones are tried for that long in all; `ISTHMUS_FUZZ_TARGET` names one target, `ISTHMUS_FUZZ_SEED` decides all chance, and
//! what reached new code is kept in the folder `ISTHMUS_FUZZ_KEEP`. `cargo xtask fuzz` sets all of them.

use std::collections::hash_map::RandomState;
use std::env;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use isthmus_fuzz::engine::{self, Current, Failure, Judge, Plan, Report};
use isthmus_fuzz::{TARGETS, Target, corpus};

#[global_allocator]
static MEMORY: isthmus_sys::allocation::Counting = isthmus_sys::allocation::Counting;

/// The target that this process runs, and where it notes its input.
const CHILD: (&str, &str) = ("ISTHMUS_FUZZ_CHILD", "ISTHMUS_FUZZ_CURRENT");

/// What a process may take beyond its time, with a corpus to read before and an input to shrink after it.
const PATIENCE: Duration = Duration::from_mins(2);

/// The stack of threads as Rust makes them: what reads outside bytes runs in such threads.
const STACK: usize = 2 << 20;

/// The exit code of a process that told of a failure itself.
const TOLD: u8 = 3;

fn main() -> ExitCode {
    let result = match env::var(CHILD.0) {
        Ok(name) => run_child(&name),
        Err(_) => run_all(),
    };
    result.unwrap_or_else(|error| {
        say(&format!("fuzz: {error}"));
        ExitCode::FAILURE
    })
}

#[expect(clippy::print_stdout, reason = "progress is for people")]
fn say(line: &str) {
    println!("{line}");
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}

fn run_all() -> io::Result<ExitCode> {
    let wanted = env::var("ISTHMUS_FUZZ_TARGET").ok();
    let chosen = |target: &&Target| wanted.as_deref().is_none_or(|wanted| wanted == target.name);
    let targets: Vec<&Target> = TARGETS.iter().filter(chosen).collect();
    if targets.is_empty() {
        let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
        return Err(io::Error::other(format!(
            "there is no such target: choose one of {}",
            names.join(", ")
        )));
    }
    let seed =
        number("ISTHMUS_FUZZ_SEED").unwrap_or_else(|| RandomState::new().build_hasher().finish() % 1_000_000_000);
    let time = number("ISTHMUS_FUZZ_SECONDS").map(Duration::from_secs);
    let each = time.map(|time| time / u32::try_from(targets.len()).unwrap_or(u32::MAX));
    if time.is_some() {
        say(&format!("fuzz: seed {seed}"));
    }
    let mut failed = 0;
    for target in &targets {
        failed += usize::from(!run_apart(target, each, seed)?);
    }
    say(&format!("fuzz: {} targets, {failed} failed", targets.len()));
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Runs a target in a process of its own; false when it failed.
fn run_apart(target: &Target, time: Option<Duration>, seed: u64) -> io::Result<bool> {
    let current = env::temp_dir().join(format!("isthmus-fuzz-{}", std::process::id()));
    let mut command = Command::new(env::current_exe()?);
    command
        .env(CHILD.0, target.name)
        .env(CHILD.1, &current)
        .env("ISTHMUS_FUZZ_SEED", seed.to_string());
    if let Some(time) = time {
        command.env("ISTHMUS_FUZZ_MILLISECONDS", time.as_millis().to_string());
    }
    let status = wait(&mut command.spawn()?, time.unwrap_or_default() + PATIENCE)?;
    let input = Current::left_behind(&current);
    std::fs::remove_file(&current)?;
    let why = match status {
        Some(status) if status.success() => return Ok(true),
        Some(status) if status.code() == Some(TOLD.into()) => return Ok(false),
        Some(status) => format!("the process ended with {status}"),
        None => "the process did not end".to_owned(),
    };
    let input = input.unwrap_or_default();
    tell(target, &Failure { input, why })?;
    Ok(false)
}

/// Waits for a process, and kills it when it takes too long.
fn wait(child: &mut Child, patience: Duration) -> io::Result<Option<ExitStatus>> {
    let end = Instant::now() + patience;
    while Instant::now() < end {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        thread::sleep(Duration::from_millis(5));
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
}

/// Adds the input to the corpus, and says how to run it again.
fn tell(target: &Target, failure: &Failure) -> io::Result<()> {
    let path = corpus::add(&corpus::folder(target.name), "failed", &failure.input)?;
    say(&format!("fuzz: {} fails: {}", target.name, failure.why));
    say(&format!(
        "fuzz: {} bytes of input are in {}",
        failure.input.len(),
        path.display()
    ));
    say(&format!(
        "fuzz: once more: ISTHMUS_FUZZ_TARGET={} cargo test --workspace --test fuzz",
        target.name
    ));
    Ok(())
}

fn run_child(name: &str) -> io::Result<ExitCode> {
    let target = TARGETS.iter().find(|target| target.name == name);
    let target = target.ok_or_else(|| io::Error::other("there is no such target"))?;
    let current = env::var_os(CHILD.1).map(PathBuf::from);
    let run = move || run_here(target, current.as_deref());
    let thread = thread::Builder::new().stack_size(STACK).spawn(run)?;
    thread
        .join()
        .map_err(|_| io::Error::other("the engine itself failed"))?
}

fn run_here(target: &Target, current: Option<&Path>) -> io::Result<ExitCode> {
    engine::quiet();
    let mut judge = Judge::new(Current::new(current)?);
    let failure = match engine::replay(target, &mut judge)? {
        Ok(_) => match number("ISTHMUS_FUZZ_MILLISECONDS") {
            Some(time) => search(target, Duration::from_millis(time), &mut judge)?,
            None => None,
        },
        Err(failure) => Some(failure),
    };
    if let Some(failure) = failure {
        tell(target, &failure)?;
        return Ok(ExitCode::from(TOLD));
    }
    Ok(ExitCode::SUCCESS)
}

fn search(target: &Target, time: Duration, judge: &mut Judge) -> io::Result<Option<Failure>> {
    let plan = Plan {
        seed: number("ISTHMUS_FUZZ_SEED").unwrap_or_default(),
        time,
        kept: env::var_os("ISTHMUS_FUZZ_KEEP").map(|folder| Path::new(&folder).join(target.name)),
    };
    Ok(match engine::run(target, &plan, judge)? {
        Ok(report) => {
            say(&line(target, report));
            None
        }
        Err(failure) => Some(failure),
    })
}

fn line(target: &Target, report: Report) -> String {
    let Report {
        tried,
        corpus,
        edges,
        slowest,
    } = report;
    let slowest = slowest.as_secs_f64() * 1000.0;
    format!(
        "{:16} {tried:8} inputs, {corpus:5} kept, {edges:6} edges, slowest {slowest:.1} ms",
        target.name
    )
}
