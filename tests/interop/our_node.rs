//! The Go client joins a tailbox and talks to a node of ours over a direct path.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;

use isthmus_testkit::netns::{Namespace, Process};
use isthmus_testkit::{require, wait};
use nix::sys::signal::Signal;

use super::world::Tailnet;

/// Runs a program with a private copy of `/etc/resolv.conf`, because the Go client writes to that of the machine.
const WITH_OWN_RESOLV_CONF: &str = "cp /etc/resolv.conf \"$0\" && mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";

#[test]
fn go_client_and_node_reach_each_other_directly() {
    isthmus_testkit::isolate!();
    let programs = ["ip", "ping", "unshare"];
    if !require::judges(&["tailscaled", "tailscale"])
        || !require::tun_device()
        || !programs.iter().all(|program| require::program(program))
    {
        return;
    }
    let tailnet = Tailnet::new("go-client");
    let node = tailnet.start(0, &[]);
    let client = GoClient::start(&tailnet, 1);
    let pong = wait::until("a direct pong", || {
        let output = client.run(&["ping", "--c=1", "--timeout=5s", &node.addresses[0].to_string()]);
        let direct = ["via 10.9.0.1:41641", "via [2001:db8::1]:41641"];
        direct.iter().any(|via| output.contains(via)).then_some(output)
    });
    eprintln!("{}: {}", client.version(), pong.trim());

    assert_eq!(node.name, "one.tail.internal");
    tailnet.wait_until_reached(1, &node);
    let theirs: IpAddr = client.run(&["ip", "-4"]).trim().parse().unwrap();
    let [ours_machine, theirs_machine] = &tailnet.machines;
    wait::until("the Go client from our node", || tailnet.pings(0, theirs).then_some(()));
    check_transfer(ours_machine, theirs_machine, theirs, node.addresses[0]);
    check_transfer(theirs_machine, ours_machine, node.addresses[0], theirs);

    tailnet.control.stop();
    assert!(tailnet.pings(0, theirs), "traffic stopped with the control server");
    tailnet.control.restart();

    node.process.signal(Signal::SIGKILL);
    let _ = node.process.ended();
    let node = tailnet.start(0, &[]);
    wait::until("our node again", || tailnet.pings(1, node.addresses[0]).then_some(()));
    check_transfer(theirs_machine, ours_machine, node.addresses[0], theirs);
}

/// A running Go client that is logged in.
struct GoClient<'a> {
    machine: &'a Namespace,
    socket: String,
    _daemon: Process,
}

impl<'a> GoClient<'a> {
    fn start(tailnet: &'a Tailnet, which: usize) -> Self {
        let machine = &tailnet.machines[which];
        let socket = tailnet.path("go.sock");
        let mut daemon = Command::new("unshare");
        daemon.args([
            "-m",
            "--propagation",
            "private",
            "sh",
            "-c",
            WITH_OWN_RESOLV_CONF,
            &tailnet.path("resolv.conf"),
        ]);
        daemon.args(["tailscaled", "--tun=tailscale0", "--no-logs-no-support", "--port=41641"]);
        daemon.args(["--socket", &socket, "--statedir", &tailnet.path("go")]);
        let log = File::create(tailnet.path("go.log")).unwrap();
        daemon.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let daemon = machine.spawn(daemon);
        let client = Self {
            machine,
            socket,
            _daemon: daemon,
        };
        let login_server = format!("--login-server={}", tailnet.control.url());
        let auth_key = format!("--auth-key={}", tailnet.control.auth_key());
        wait::until("the Go client's login", || {
            let up = [
                "up",
                "--timeout=10s",
                "--accept-dns=false",
                "--hostname=gopher",
                &login_server,
                &auth_key,
            ];
            client.command(&up).status.success().then_some(())
        });
        client
    }

    fn command(&self, arguments: &[&str]) -> std::process::Output {
        let mut command = Command::new("tailscale");
        command.arg(format!("--socket={}", self.socket)).args(arguments);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        self.machine.spawn(command).output()
    }

    fn run(&self, arguments: &[&str]) -> String {
        String::from_utf8_lossy(&self.command(arguments).stdout).into_owned()
    }

    fn version(&self) -> String {
        self.run(&["version"]).lines().next().unwrap_or_default().to_owned()
    }
}

/// 1 MiB arrives as it was sent, from the sender's tailnet address.
fn check_transfer(from: &Namespace, to: &Namespace, destination: IpAddr, source: IpAddr) {
    let content: Vec<u8> = (0..1_u32 << 18)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    let address = SocketAddr::new(destination, 7000);
    let listener = to.enter(|| TcpListener::bind(address)).unwrap();
    let reader = thread::spawn(move || {
        let (mut stream, peer) = listener.accept().unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        (bytes, peer)
    });
    from.enter(|| TcpStream::connect(address))
        .unwrap()
        .write_all(&content)
        .unwrap();
    let (arrived, peer) = reader.join().unwrap();
    assert!(arrived == content, "{} bytes arrived, or other ones", arrived.len());
    assert_eq!(peer.ip(), source);
}
