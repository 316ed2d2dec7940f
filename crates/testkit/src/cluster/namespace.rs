//! A namespace of the cluster that belongs to one test.

use std::env;
use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::thread;

use isthmus_cluster::Cluster;

/// A namespace of the shared cluster. When the test fails, it prints what is in it; when it is dropped, it is deleted.
///
/// With `ISTHMUS_TEST_KEEP` set it stays.
#[derive(Debug)]
pub struct TestNamespace {
    cluster: &'static Cluster,
    name: String,
}

impl TestNamespace {
    pub(super) fn create(cluster: &'static Cluster, test: &str) -> Self {
        let name = render_name(test, std::process::id());
        let namespace = Self { cluster, name };
        let test = test.replace('_', "-").chars().take(60).collect::<String>();
        namespace.run(&["create", "namespace", &namespace.name]);
        let labels = [
            "pod-security.kubernetes.io/enforce=privileged",
            &format!("isthmus.dev/test={test}"),
        ];
        namespace.run(&[&["label", "namespace", &namespace.name], &labels[..]].concat());
        namespace
    }

    /// The name of the namespace.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A `kubectl` command in this namespace.
    pub fn kubectl(&self) -> Command {
        let mut command = self.cluster.kubectl();
        command.args(["--namespace", &self.name]);
        command
    }

    /// Runs `kubectl` with these arguments and returns what it printed.
    ///
    /// # Panics
    /// When it fails.
    pub fn run(&self, args: &[&str]) -> String {
        let output = self.output(args);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {} failed: {error}", args.join(" "));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs `kubectl` with these arguments, whether it succeeds or not.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn output(&self, args: &[&str]) -> Output {
        self.kubectl()
            .args(args)
            .stdin(Stdio::null())
            .output()
            .expect("kubectl starts")
    }

    /// Applies YAML documents to this namespace.
    ///
    /// # Panics
    /// When the API server refuses them, or one names another namespace.
    pub fn apply(&self, documents: &str) {
        let mut child = self
            .kubectl()
            .args(["apply", "--server-side", "-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kubectl starts");
        let mut input = child.stdin.take().expect("the input is piped");
        input.write_all(documents.as_bytes()).expect("kubectl reads its input");
        drop(input);
        let output = child.wait_with_output().expect("kubectl ends");
        assert!(
            output.status.success(),
            "apply failed: {}\n{documents}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Runs a program in a Pod and returns what it printed, or what it complained about when it fails.
    ///
    /// # Errors
    /// The program's error output.
    pub fn exec(&self, pod: &str, program: &[&str]) -> Result<String, String> {
        let output = self.output(&[&["exec", pod, "--"], program].concat());
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// Waits until an object, such as `pod/a` or `deployment/b`, has a condition.
    ///
    /// # Panics
    /// When it has not got it within 60 seconds.
    pub fn wait_for(&self, object: &str, condition: &str) {
        self.run(&["wait", "--timeout=60s", &format!("--for=condition={condition}"), object]);
    }

    /// Prints what is in the namespace: objects, events and the logs of every Pod.
    pub fn dump(&self) {
        for args in [
            &["get", "all,secrets,endpointslices", "-o", "wide"][..],
            &["get", "events", "--sort-by=.lastTimestamp"],
            &["describe", "pods"],
        ] {
            self.print(args);
        }
        let pods = String::from_utf8_lossy(&self.output(&["get", "pods", "-o", "name"]).stdout).into_owned();
        for pod in pods.lines() {
            self.print(&["logs", pod, "--all-containers", "--prefix", "--tail=80"]);
        }
    }

    fn print(&self, args: &[&str]) {
        let output = self.output(args);
        eprintln!(
            "# kubectl {}\n{}",
            args.join(" "),
            String::from_utf8_lossy(&output.stdout)
        );
    }
}

impl Drop for TestNamespace {
    fn drop(&mut self) {
        if thread::panicking() {
            self.dump();
        }
        if env::var_os("ISTHMUS_TEST_KEEP").is_none() {
            self.output(&["delete", "namespace", &self.name, "--wait=false"]);
        }
    }
}

/// A name that the API server takes, at most 63 characters, and that no other test process uses.
fn render_name(test: &str, process: u32) -> String {
    let words: String = test
        .chars()
        .map(|letter| {
            if letter.is_ascii_alphanumeric() {
                letter.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .take(48)
        .collect();
    format!("t-{}-{process}", words.trim_matches('-'))
}

#[cfg(test)]
mod tests;
