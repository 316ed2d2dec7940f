//! Processes of Pods, seen from the machine: what needs no API server.

use std::fs;
use std::process::Command;

use isthmus_testkit::wait;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// A process of a Pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PodProcess {
    id: u32,
}

impl PodProcess {
    /// The process of a Pod that runs this program, once there is one. The kubelet names control groups after the Pod's UID.
    pub(crate) fn of(pod: &Value, program: &str) -> Self {
        wait::until(&format!("{program} of a Pod"), || Self::find(pod, program))
    }

    /// Like [`of`](Self::of), if there is one now.
    pub(crate) fn find(pod: &Value, program: &str) -> Option<Self> {
        let group = format!("/pod{}/", pod["metadata"]["uid"].as_str().unwrap());
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let mut members = ids.filter(|id| {
            let read = |file: &str| fs::read(format!("/proc/{id}/{file}")).unwrap_or_default();
            let runs = read("cmdline").split(|byte| *byte == 0).next() == Some(program.as_bytes());
            runs && String::from_utf8_lossy(&read("cgroup")).contains(&group)
        });
        members.next().map(|id| Self { id })
    }

    /// The file of its network namespace.
    pub(crate) fn network(self) -> String {
        format!("/proc/{}/ns/net", self.id)
    }

    /// Kills it without a word of warning.
    pub(crate) fn kill(self) {
        let id = i32::try_from(self.id).unwrap();
        kill(Pid::from_raw(id), Signal::SIGKILL).unwrap();
    }

    /// Runs a program of the machine in its network namespace; what it printed and complained about.
    pub(crate) fn run(self, line: &str) -> String {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.network()));
        let output = command.args(line.split(' ')).output().unwrap();
        [output.stdout, output.stderr]
            .map(|text| String::from_utf8_lossy(&text).into_owned())
            .concat()
    }
}
