//! Nodes of ours, and a Go client, by a relay that is not ours.

use std::fs;
use std::process::{Command, Stdio};

use isthmus_tailbox::parse_derp_map;
use isthmus_testkit::netns::Process;
use isthmus_testkit::{require, wait};
use tempfile::TempDir;

use super::certificate::Certificate;
use super::client;
use super::our_node::exchange;
use super::world::{Options, Tailnet};

/// A tailnet whose only relay is `derper`, on a machine of its own.
struct WithDerper {
    tailnet: Tailnet,
    _derper: Process,
    _files: TempDir,
}

impl WithDerper {
    fn start(name: &str) -> Self {
        let files = TempDir::new().unwrap();
        let path = |file: &str| files.path().join(file).display().to_string();
        let certificate = Certificate::new(&path("10.9.0.8"), "10.9.0.8");
        let map = serde_json::json!({"Regions": {"7": {"RegionID": 7, "RegionCode": "der", "RegionName": "derper", "Nodes": [{
            "Name": "7a", "RegionID": 7, "HostName": "10.9.0.8", "IPv4": "10.9.0.8", "IPv6": "none", "DERPPort": 8443,
            "CertName": format!("sha256-raw:{}", certificate.fingerprint()),
        }]}}});
        let options = Options {
            derp_map: Some(parse_derp_map(map.to_string().as_bytes()).unwrap()),
            ..Options::default()
        };
        let tailnet = Tailnet::with(name, options);
        let machine = tailnet.net.namespace("derper");
        tailnet.plug(&machine, "10.9.0.8/24");
        let mut derper = Command::new("derper");
        derper.args([
            "-a",
            "10.9.0.8:8443",
            "--certmode=manual",
            "--hostname=10.9.0.8",
            "--http-port=-1",
        ]);
        derper.args([
            "--certdir",
            &files.path().display().to_string(),
            "-c",
            &path("derper.json"),
        ]);
        let log = fs::File::create(path("log")).unwrap();
        derper.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let derper = machine.spawn(derper);
        wait::until("derper", || {
            machine
                .enter(|| std::net::TcpStream::connect("10.9.0.8:8443"))
                .is_ok()
                .then_some(())
        });
        Self {
            tailnet,
            _derper: derper,
            _files: files,
        }
    }
}

#[test]
fn nodes_of_ours_talk_by_a_foreign_relay() {
    isthmus_testkit::isolate!();
    if !require::judges(&["derper", "openssl", "nft"]) || !require::tun_device() {
        return;
    }
    let setting = WithDerper::start("derper");
    let tailnet = &setting.tailnet;
    tailnet.cut();
    let (one, two) = (tailnet.start(0, &[]), tailnet.start(1, &[]));
    tailnet.wait_until_reached(0, &two);
    exchange(tailnet, &one, &two.addresses);
    let (pinged, _) = tailnet.ask(0, "ping two --count 1");
    assert!(pinged.contains("by relay derper (7)"), "{pinged}");
    eprintln!("{}", pinged.trim());
    tailnet.mend();
    wait::until("the direct path", || {
        let (pinged, _) = tailnet.ask(0, "ping two --count 1");
        pinged.contains("direct by ").then_some(())
    });
}

#[test]
fn go_client_and_node_talk_by_a_foreign_relay() {
    isthmus_testkit::isolate!();
    if !client::can_run(&["derper", "openssl", "nft"]) {
        return;
    }
    let setting = WithDerper::start("go-derper");
    let tailnet = &setting.tailnet;
    tailnet.cut();
    let node = tailnet.start(0, &[]);
    let client = client::join(tailnet);
    let pong = client.wait_for_pong(node.addresses[0], "via DERP(");
    exchange(tailnet, &node, &client.addresses());
    eprintln!("{}: {pong}", client.version());
}
