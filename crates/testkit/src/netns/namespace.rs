//! One network namespace and the thread that lives in it.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::process::{self, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};

use super::Process;

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace. Clones share it; it is gone with the last clone and the last process inside.
#[derive(Clone, Debug)]
pub struct Namespace {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    file: File,
    /// Starts programs from one long-lived thread inside, because the kernel kills them when that thread ends.
    starter: Sender<Job>,
}

impl Namespace {
    /// True when this thread may make namespaces.
    pub(super) fn allowed() -> bool {
        let attempt = || thread::spawn(|| unshare(CloneFlags::CLONE_NEWNET).is_ok());
        attempt().join().unwrap_or(false)
    }

    pub(super) fn create(name: &str) -> Self {
        let make =
            || unshare(CloneFlags::CLONE_NEWNET).expect("the test has the right to make namespaces, see isolate!");
        Self::inside(name, make)
    }

    /// The namespace in which a process lives; `name` appears in what the harness prints.
    ///
    /// # Errors
    /// When there is no such process, or it may not be looked at.
    pub fn of_process(name: &str, process: u32) -> io::Result<Self> {
        let file = File::open(format!("/proc/{process}/ns/net"))?;
        let join = move || setns(file, CloneFlags::CLONE_NEWNET).expect("who may look at a namespace may join it");
        Ok(Self::inside(name, join))
    }

    /// Starts the thread that lives in the namespace which `enter` takes it to.
    fn inside(name: &str, enter: impl FnOnce() + Send + 'static) -> Self {
        let (starter, jobs) = mpsc::channel::<Job>();
        let (send_file, file) = mpsc::channel();
        thread::spawn(move || {
            enter();
            let file = File::open("/proc/thread-self/ns/net").expect("proc is mounted");
            send_file.send(file).expect("the creator waits for the file");
            for job in jobs {
                job();
            }
        });
        let file = file
            .recv()
            .unwrap_or_else(|_| panic!("cannot enter the network namespace {name}"));
        Self {
            inner: Arc::new(Inner {
                name: name.to_owned(),
                file,
                starter,
            }),
        }
    }

    /// The test's name and the namespace's.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The namespace as a file other programs can open while this process lives, for `ip link set … netns PATH`.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", process::id(), self.inner.file.as_raw_fd())
    }

    /// The shell command that enters the namespace from another terminal.
    pub fn enter_line(&self) -> String {
        format!(
            "nsenter -t {} -U --preserve-credentials --net={}",
            process::id(),
            self.path()
        )
    }

    /// Runs `work` on a new thread inside the namespace and returns its result. The caller's own thread never changes
    /// namespace; a panic inside becomes a panic of the caller. Threads that `work` starts are inside as well.
    pub fn enter<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        let inside = || {
            setns(self.inner.file.as_fd(), CloneFlags::CLONE_NEWNET).expect("a test may enter the namespace it made");
            work()
        };
        let result = thread::scope(|scope| scope.spawn(inside).join());
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Starts `command` inside. The process is killed when the handle is dropped, and when the test process dies.
    ///
    /// # Panics
    /// When the program cannot be started.
    pub fn spawn(&self, mut command: Command) -> Process {
        let (result, started) = mpsc::channel();
        let label = format!("{}: {}", self.name(), command.get_program().display());
        isthmus_sys::process::die_with_spawning_thread(&mut command);
        let job: Job = Box::new(move || {
            let _ = result.send(command.spawn());
        });
        self.inner
            .starter
            .send(job)
            .expect("the starter thread lives as long as the namespace");
        match started.recv().expect("the starter thread answers every job") {
            Ok(child) => Process::new(child, label, self.clone()),
            Err(error) => panic!("{label} does not start: {error}"),
        }
    }

    /// Runs a command line (split at spaces) inside to its end.
    pub fn run(&self, line: &str) -> Output {
        let mut command = command(line);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        self.spawn(command).output()
    }

    /// Runs a command line (split at spaces) inside and returns what it printed.
    ///
    /// # Panics
    /// When it fails; the message shows what it printed.
    pub fn check(&self, line: &str) -> String {
        let output = self.run(line);
        let (out, err) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert!(
            output.status.success(),
            "{}: `{line}` failed, {}\n{out}{err}",
            self.name(),
            output.status
        );
        out.into_owned()
    }

    /// Runs `ip` with these arguments (split at spaces) inside and returns what it printed.
    ///
    /// # Panics
    /// When it fails.
    pub fn ip(&self, arguments: &str) -> String {
        self.check(&format!("ip {arguments}"))
    }

    /// Writes a sysctl of this namespace, `name` like `net.ipv4.ip_forward`.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn sysctl(&self, name: &str, value: &str) {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        let written = self.enter(|| fs::write(&path, value));
        written.unwrap_or_else(|error| panic!("{}: cannot write {path}: {error}", self.name()));
    }

    pub(super) fn bring_up(&self, device: &str, addresses: &[&str]) {
        for address in addresses {
            // Without duplicate address detection an IPv6 address is usable at once.
            let flags = if address.contains(':') { "nodad" } else { "" };
            self.ip(format!("addr add {address} dev {device} {flags}").trim_end());
        }
        self.ip(&format!("link set {device} up"));
    }
}

/// A command from a line split at spaces.
pub(super) fn command(line: &str) -> Command {
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().expect("a command line names a program"));
    command.args(words);
    command
}
