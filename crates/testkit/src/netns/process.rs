//! A program that runs inside a namespace.

use std::process::{Child, ExitStatus, Output};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Namespace;
use crate::wait;

/// A running program. Killed and reaped when dropped.
#[derive(Debug)]
pub struct Process {
    child: Option<Child>,
    label: String,
    _namespace: Namespace,
}

impl Process {
    pub(super) fn new(child: Child, label: String, namespace: Namespace) -> Self {
        Self {
            child: Some(child),
            label,
            _namespace: namespace,
        }
    }

    /// The process id, for `/proc` and signals.
    pub fn id(&self) -> u32 {
        self.running().id()
    }

    /// The child handle, to take its pipes.
    pub fn child(&mut self) -> &mut Child {
        self.child
            .as_mut()
            .expect("the child is taken only by functions that consume the handle")
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// When the process is gone already.
    pub fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.id()).expect("the kernel's process ids fit");
        kill(Pid::from_raw(id), signal).unwrap_or_else(|error| panic!("cannot signal {}: {error}", self.label));
    }

    /// Waits until the process has ended by itself.
    ///
    /// # Panics
    /// When it has not within [`wait::PATIENCE`].
    pub fn ended(mut self) -> ExitStatus {
        let label = format!("the end of {}", self.label);
        wait::until(&label, || self.child().try_wait().expect("a child can be waited for"))
    }

    /// The exit status, if the process has ended already.
    pub fn try_ended(&mut self) -> Option<ExitStatus> {
        self.child().try_wait().expect("a child can be waited for")
    }

    /// Waits for the end and returns what went to its pipes.
    pub fn output(mut self) -> Output {
        let child = self.child.take().expect("the child is taken only here");
        child.wait_with_output().expect("a child can be waited for")
    }

    fn running(&self) -> &Child {
        self.child
            .as_ref()
            .expect("the child is taken only by functions that consume the handle")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
