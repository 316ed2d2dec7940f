//! Network namespaces for tests: private, without names or files, gone when the test process is gone.
//!
//! A [`Net`] makes [`Namespace`]s, links them by veth pairs and bridges, and runs programs and closures inside. A
//! namespace lives only as an open file of the test process, so parallel tests cannot collide and nothing is left
//! behind, even by a test that is killed.
//!
//! A test starts with [`isolate!`](crate::isolate): as root the test goes on in place, as an ordinary user it is run
//! again under `unshare -Urnm`, where it has the rights it needs.

mod isolate;
mod namespace;
mod nat;
mod process;

use std::cell::Cell;
use std::env;
use std::io;
use std::thread;

pub use isolate::{Passed, is_allowed, isolate};
pub use namespace::Namespace;
pub use nat::Nat;
pub use process::Process;

/// The network of one test.
#[derive(Debug)]
pub struct Net {
    name: String,
    next_port: Cell<u32>,
}

/// An Ethernet switch of a test's network.
#[derive(Debug)]
pub struct Switch {
    namespace: Namespace,
}

impl Net {
    /// Starts an empty network; `name` appears in what the harness prints.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            next_port: Cell::new(0),
        }
    }

    /// Makes a namespace with its loopback up, and prints the line that enters it from another terminal.
    ///
    /// # Panics
    /// When the rights for it are missing; begin the test with [`isolate!`](crate::isolate).
    pub fn namespace(&self, name: &str) -> Namespace {
        let namespace = Namespace::create(&format!("{}/{name}", self.name));
        namespace.ip("link set lo up");
        eprintln!("{}: {}", namespace.name(), namespace.enter_line());
        namespace
    }

    /// Makes an Ethernet switch (a bridge in a namespace of its own).
    pub fn switch(&self, name: &str) -> Switch {
        let namespace = self.namespace(name);
        namespace.ip("link add name br0 type bridge forward_delay 0");
        namespace.ip("link set br0 up");
        Switch { namespace }
    }

    /// Links two namespaces by a veth pair and brings both ends up. The ends are named `a_device` and `b_device`;
    /// `a_addresses` and `b_addresses` are addresses with prefix lengths, like `10.0.0.1/24` or `fd00::1/64`.
    pub fn link(
        &self,
        a: &Namespace,
        a_device: &str,
        a_addresses: &[&str],
        b: &Namespace,
        b_device: &str,
        b_addresses: &[&str],
    ) {
        a.ip(&format!(
            "link add name {a_device} type veth peer name {b_device} netns {}",
            b.path()
        ));
        a.bring_up(a_device, a_addresses);
        b.bring_up(b_device, b_addresses);
    }

    /// Plugs a new interface `device` of `namespace` into `switch` and brings it up with `addresses`.
    pub fn plug(&self, switch: &Switch, namespace: &Namespace, device: &str, addresses: &[&str]) {
        let port = format!("port{}", self.next_port.replace(self.next_port.get() + 1));
        self.link(namespace, device, addresses, &switch.namespace, &port, &[]);
        switch.namespace.ip(&format!("link set {port} master br0"));
    }
}

impl Switch {
    /// The namespace of the bridge, for captures and counters. The bridge device is `br0`.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }
}

impl Drop for Net {
    /// With `ISTHMUS_TEST_PAUSE` set, a failing test waits for Enter here, so that its namespaces can be entered.
    fn drop(&mut self) {
        if thread::panicking() && env::var_os("ISTHMUS_TEST_PAUSE").is_some() {
            eprintln!("{}: failed; press Enter to clean up", self.name);
            let _ = io::stdin().read_line(&mut String::new());
        }
    }
}

#[cfg(test)]
mod tests;
