//! Traffic while the path below it changes.

use std::collections::BTreeSet;
use std::fs::File;
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use isthmus_testkit::netns::Process;
use isthmus_testkit::wait;
use nix::sys::signal::Signal;

use super::relay::direct_paths;
use super::world::Tailnet;
use crate::node::can_run;

/// Time between two pings of a stream.
const PACE: Duration = Duration::from_millis(50);

/// Pings that may be lost when a path dies without a word: five seconds of them. A path is asked after half a second without an answer
/// and has to answer twice 0.3 s; the rest is for a loaded machine.
const DEAD_PATH: u32 = 100;

/// Pings that may be lost when a better path takes over: those that are under way.
const BETTER_PATH: u32 = 2;

/// Pings on their way through the tailnet, one every [`PACE`].
struct Stream<'a> {
    tailnet: &'a Tailnet,
    file: &'static str,
    process: Process,
}

impl<'a> Stream<'a> {
    fn start(tailnet: &'a Tailnet, from: usize, to: IpAddr, file: &'static str) -> Self {
        let mut command = Command::new("ping");
        command.args(["-n", "-i", &PACE.as_secs_f64().to_string(), &to.to_string()]);
        let out = File::create(tailnet.path(file)).unwrap();
        command.stdin(Stdio::null()).stdout(out).stderr(Stdio::null());
        let process = tailnet.machines[from].spawn(command);
        Self { tailnet, file, process }
    }

    /// The numbers of the pings that were answered.
    fn answered(&self) -> BTreeSet<u32> {
        let text = self.tailnet.read(self.file);
        let numbers = text
            .lines()
            .filter_map(|line| line.split_once("icmp_seq=")?.1.split_once(' '));
        numbers.filter_map(|(number, _)| number.parse().ok()).collect()
    }

    fn last(&self) -> u32 {
        self.answered().last().copied().unwrap_or_default()
    }

    /// Waits until pings sent from now on are answered, one second long; gives the number of the last.
    fn flows(&self) -> u32 {
        let begun = self.last();
        wait::until("the stream of pings", || {
            let answered = self.answered();
            let newest = answered.iter().rev().take(20);
            let whole = newest.clone().count() == 20 && newest.clone().zip(newest.skip(1)).all(|(a, b)| a - b == 1);
            (whole && answered.last() > Some(&(begun + 20))).then(|| self.last())
        })
    }

    /// The most pings that were lost in a row between two numbers.
    fn longest_gap(&self, from: u32, to: u32) -> u32 {
        let answered = self.answered();
        let numbers: Vec<u32> = answered.range(from..=to).copied().collect();
        numbers
            .windows(2)
            .map(|pair| pair[1] - pair[0] - 1)
            .max()
            .unwrap_or_default()
    }

    fn end(self) {
        self.process.signal(Signal::SIGINT);
        self.process.ended();
    }
}

#[test]
fn traffic_flows_on_while_a_direct_path_is_found_and_while_it_dies() {
    isthmus_testkit::isolate!();
    if !can_run(&["ip", "ping", "nft"]) {
        return;
    }
    let tailnet = Tailnet::with_relay("switch");
    tailnet.cut();
    let (one, two) = (tailnet.start(0, &[]), tailnet.start(1, &[]));
    tailnet.wait_until_reached(0, &two);
    let stream = Stream::start(&tailnet, 0, two.addresses[0], "pings");
    let relayed = stream.flows();
    tailnet.mend();
    wait::until("the direct path", || (direct_paths(&tailnet) >= 2).then_some(()));
    let direct = stream.flows();
    let upgrade = stream.longest_gap(relayed, direct);
    tailnet.cut();
    let dead = stream.last();
    wait::until("pings after the cut", || (stream.last() > dead + 2).then_some(()));
    let again = stream.flows();
    let downgrade = stream.longest_gap(dead.saturating_sub(2), again);
    eprintln!("lost in a row: {upgrade} when the direct path was found, {downgrade} when it died (one is {PACE:?})");
    assert!(
        upgrade <= BETTER_PATH,
        "{upgrade} pings were lost when the path got better"
    );
    assert!(downgrade <= DEAD_PATH, "{downgrade} pings were lost when the path died");
    stream.end();
    drop(one);
}

#[test]
fn traffic_flows_on_when_the_address_of_a_machine_changes() {
    isthmus_testkit::isolate!();
    if !can_run(&["ip", "ping", "nft"]) {
        return;
    }
    let tailnet = Tailnet::with_relay("roaming");
    let (one, two) = (tailnet.start(0, &[]), tailnet.start(1, &[]));
    tailnet.wait_until_reached(0, &two);
    wait::until("the direct path", || (direct_paths(&tailnet) >= 2).then_some(()));
    let streams = [
        Stream::start(&tailnet, 0, two.addresses[0], "from-one"),
        Stream::start(&tailnet, 1, one.addresses[0], "from-two"),
    ];
    let before = streams.each_ref().map(Stream::flows);
    let machine = &tailnet.machines[0];
    machine.ip("addr flush dev eth0");
    machine.ip("addr add 10.9.0.5/24 dev eth0");
    let after = streams.each_ref().map(Stream::flows);
    let mut lost = [0; 2];
    for (which, stream) in streams.iter().enumerate() {
        lost[which] = stream.longest_gap(before[which], after[which]);
    }
    eprintln!(
        "lost in a row: {} from the machine that moved, {} to it (one is {PACE:?})",
        lost[0], lost[1]
    );
    assert!(lost.iter().all(|lost| *lost <= DEAD_PATH), "{lost:?} pings were lost");
    wait::until("the new endpoint at control", || {
        let endpoints = tailnet.control.endpoints("one");
        (endpoints.iter().any(|endpoint| endpoint.starts_with("10.9.0.5:"))
            && !endpoints.iter().any(|endpoint| endpoint.starts_with("10.9.0.1:")))
        .then_some(())
    });
    // What hung on the old address hangs on the new one now: the relay carries.
    machine.check("nft add table inet cut");
    machine.check("nft add chain inet cut output { type filter hook output priority 0 ; }");
    machine.check("nft add rule inet cut output meta l4proto udp drop");
    let cut_at = streams[0].last();
    wait::until("pings by relay", || (streams[0].last() > cut_at + 10).then_some(()));
    thread::sleep(PACE);
    streams.into_iter().for_each(Stream::end);
}
