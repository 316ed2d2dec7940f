//! Programs that run: daemons in a control group and namespaces of ours, and short commands.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::cgroup::Cgroup;

/// How many bytes of a log an error shows.
const LOG_TAIL: u64 = 2500;

/// Enters the control groups named first, then becomes the program: so the daemon's first instruction is inside them.
const ENTER: &str = r#"count=$1; shift; while [ "$count" -gt 0 ]; do echo $$ > "$1" || exit 125; shift; count=$((count - 1)); done; exec "$@""#;

/// Which namespaces of another process or path a daemon enters.
#[derive(Clone, Debug)]
pub(crate) enum Inside {
    /// Those of the machine.
    Host,
    /// The named network namespace, and a mount namespace of its own.
    NewMounts(PathBuf),
    /// The network and mount namespaces of this process.
    Process(u32),
}

/// A daemon to start.
pub(crate) struct Launch<'a> {
    /// The component, as errors name it.
    pub(crate) name: &'a str,
    pub(crate) program: &'a Path,
    pub(crate) args: Vec<String>,
    pub(crate) inside: Inside,
    pub(crate) cgroup: &'a Cgroup,
    pub(crate) log: PathBuf,
    pub(crate) folder: &'a Path,
}

/// A daemon that was started by this process.
#[derive(Debug)]
pub(crate) struct Daemon {
    pub(crate) name: String,
    child: Child,
    log: PathBuf,
}

impl Launch<'_> {
    /// Starts the daemon in a session of its own, its output in the log file.
    pub(crate) fn start(self) -> Result<Daemon> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .with_context(|| format!("open the log {}", self.log.display()))?;
        let entrances: Vec<PathBuf> = self.cgroup.entrances().collect();
        let mut command = Command::new("sh");
        command
            .args(["-c", ENTER, "sh", &entrances.len().to_string()])
            .args(&entrances)
            .arg("setsid");
        match &self.inside {
            Inside::Host => {}
            Inside::NewMounts(namespace) => {
                command
                    .arg("nsenter")
                    .arg(format!("--net={}", namespace.display()))
                    .args(["--", "unshare", "-m", "--"]);
            }
            Inside::Process(pid) => {
                command.args(["nsenter", "-t", &pid.to_string(), "-m", "-n", "--"]);
            }
        }
        let child = command
            .arg(self.program)
            .args(&self.args)
            .current_dir(self.folder)
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("share the log between output and errors")?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {}", self.name))?;
        Ok(Daemon {
            name: self.name.to_owned(),
            child,
            log: self.log,
        })
    }
}

impl Daemon {
    /// A daemon whose process was started elsewhere, with its log.
    pub(crate) fn adopt(name: &str, child: Child, log: PathBuf) -> Self {
        Self {
            name: name.to_owned(),
            child,
            log,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Fails with the end of the log when the daemon has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        if let Some(status) = self
            .child
            .try_wait()
            .with_context(|| format!("look after {}", self.name))?
        {
            bail!(
                "{} ended with {status}; the end of {}:\n{}",
                self.name,
                self.log.display(),
                read_tail(&self.log)
            );
        }
        Ok(())
    }

    /// Waits until the condition holds; fails when the daemon ends or the time is over.
    pub(crate) fn wait_until(
        &mut self,
        what: &str,
        patience: Duration,
        mut condition: impl FnMut() -> bool,
    ) -> Result<()> {
        let deadline = Instant::now() + patience;
        while !condition() {
            self.check()?;
            if Instant::now() > deadline {
                bail!(
                    "{} did not {what} within {patience:?}; the end of {}:\n{}",
                    self.name,
                    self.log.display(),
                    read_tail(&self.log)
                );
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Ends the process at once and collects it.
    pub(crate) fn kill(&mut self) {
        // An error here means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Collects the process, which was ended by other means.
    pub(crate) fn reap(&mut self) {
        let _ = self.child.wait();
    }
}

/// Whether this process runs a program of this name as a member of the group.
pub(crate) fn runs(pid: u32, program: &str, cgroup: &Cgroup) -> bool {
    let Ok(line) = fs::read(format!("/proc/{pid}/cmdline")) else {
        return false;
    };
    let first = line.split(|byte| *byte == 0).next().unwrap_or_default();
    let named = Path::new(OsStr::new(&*String::from_utf8_lossy(first)))
        .file_name()
        .is_some_and(|name| name == program);
    named && cgroup.holds(pid)
}

/// Runs a command to its end and returns what it printed.
///
/// # Errors
/// When it fails, with the command and what it said.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("run {}", describe(command)))?;
    if !output.status.success() {
        bail!(
            "{} failed with {}: {}",
            describe(command),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a command that may need a moment before it succeeds, for at most two seconds.
pub(crate) fn run_soon(make: impl Fn() -> Command) -> Result<String> {
    let deadline = Instant::now() + Duration::from_secs(2);
    loop {
        match run(&mut make()) {
            Err(_) if Instant::now() < deadline => thread::sleep(Duration::from_millis(50)),
            result => return result,
        }
    }
}

/// The end of a log file.
pub(crate) fn read_tail(log: &Path) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = fs::File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().unwrap_or_else(|error| format!("(the log cannot be read: {error})"))
}

fn describe(command: &Command) -> String {
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect();
    words.join(" ")
}
