//! Tailscale Services between the Go client and a node of ours, and certificates that the Go client gets through a tailbox.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};

use isthmus_testkit::netns::Process;
use isthmus_testkit::transfer::{content, transfer, transfer_by_way_of};
use isthmus_testkit::wait;

use super::certificate::Certificate;
use super::client::{self, can_run};
use super::world::{Options, Tailnet};

const POLICY: &str = r#"{"tagOwners": {"tag:web": []}, "autoApprovers": {"services": {"svc:web": ["tag:web"]}},
    "acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}]}"#;

/// Where the Go client's machine serves what it offers.
const BACKEND: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8000);

fn reaches(tailnet: &Tailnet, from: usize, address: IpAddr, port: u16) -> bool {
    let limit = std::time::Duration::from_secs(1);
    let address = SocketAddr::new(address, port);
    tailnet.machines[from].enter(|| std::net::TcpStream::connect_timeout(&address, limit).is_ok())
}

#[test]
fn service_of_a_go_client_is_reached_by_a_node_while_it_is_offered() {
    isthmus_testkit::isolate!();
    if !can_run(&[]) {
        return;
    }
    let tailnet = Tailnet::with_policy("go-service", POLICY);
    let [v4, v6] = tailnet.control.put_service("svc:web", "tcp:7000");
    let node = tailnet.start(0, &[]);
    let key = tailnet.control.key_with_tags(&["tag:web"]);
    let client = client::join_with(&tailnet, &key, &["--accept-dns=false"]);
    client.wait_for_pong(node.addresses[0], ":41641");
    assert!(!reaches(&tailnet, 0, v4, 7000), "nobody hosts the service");

    let backend = format!("tcp://{BACKEND}");
    let offered = client.check(&["serve", "--service=svc:web", "--tcp=7000", &backend]);
    eprintln!("{}: {}", client.version(), offered.trim());
    let [ours, theirs] = &tailnet.machines;
    let content = content();
    for address in [v4, v6] {
        let (arrived, _) = transfer_by_way_of(ours, SocketAddr::new(address, 7000), theirs, BACKEND, &content);
        assert!(arrived == content, "{} bytes arrived, or other ones", arrived.len());
    }
    client.check(&["serve", "drain", "svc:web"]);
    client.check(&["serve", "clear", "svc:web"]);
    wait::until("the end of the service", || {
        (!reaches(&tailnet, 0, v4, 7000)).then_some(())
    });
    assert!(tailnet.pings(0, client.addresses()[0]), "only the service has ended");
}

#[test]
fn service_of_a_node_is_reached_by_a_go_client_that_accepts_no_routes() {
    isthmus_testkit::isolate!();
    if !can_run(&[]) {
        return;
    }
    let tailnet = Tailnet::with_policy("our-service", POLICY);
    let [v4, v6] = tailnet.control.put_service("svc:web", "tcp:7000");
    fs::write(tailnet.path("key"), tailnet.control.key_with_tags(&["tag:web"])).unwrap();
    let node = tailnet.start(0, &["--advertise-service", "svc:web=tcp:7000"]);
    let client = client::join(&tailnet);
    client.wait_for_pong(node.addresses[0], ":41641");
    let [ours, theirs] = &tailnet.machines;
    let content = content();
    for (address, their) in [v4, v6].into_iter().zip(client.addresses()) {
        wait::until("the service's address", || tailnet.pings(1, address).then_some(()));
        let (arrived, peer) = transfer(theirs, ours, SocketAddr::new(address, 7000), &content);
        assert!(arrived == content, "{} bytes arrived, or other ones", arrived.len());
        assert_eq!(peer.ip(), their);
    }
    let (found, text) = client.call(&["dns", "query", "web.tail.internal"]);
    assert!(found && text.contains(&v4.to_string()), "{text}");
    drop(node);
}

/// Runs pebble, an authority for tests, at the address of the second machine; it asks control's name server.
fn authority(tailnet: &Tailnet, certificate: &Certificate) -> Process {
    let config = serde_json::json!({"pebble": {
        "listenAddress": "10.9.0.2:14000", "managementListenAddress": "10.9.0.2:15000",
        "certificate": certificate.file, "privateKey": certificate.key,
        "httpPort": 5002, "tlsPort": 5001, "ocspResponderURL": "", "externalAccountBindingRequired": false,
    }});
    let file = tailnet.path("pebble.json");
    fs::write(&file, config.to_string()).unwrap();
    let mut pebble = Command::new("pebble");
    pebble.args(["-config", &file, "-dnsserver", "10.9.0.9:53"]);
    pebble.env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_WFE_NONCEREJECT", "0");
    let log = fs::File::create(tailnet.path("pebble.log")).unwrap();
    pebble.stdin(Stdio::null()).stdout(log).stderr(Stdio::null());
    let pebble = tailnet.machines[1].spawn(pebble);
    wait::until("pebble", || {
        reaches(tailnet, 1, [10, 9, 0, 2].into(), 15000).then_some(())
    });
    pebble
}

#[test]
fn go_client_gets_certificates_for_its_own_name_and_its_service_and_for_no_other() {
    isthmus_testkit::isolate!();
    if !can_run(&["pebble", "openssl", "curl"]) {
        return;
    }
    let tailnet = Tailnet::with(
        "go-cert",
        Options {
            policy: Some(POLICY.to_owned()),
            dns: true,
            ..Options::default()
        },
    );
    let [v4, _] = tailnet.control.put_service("svc:web", "tcp:443");
    let certificate = Certificate::new(&tailnet.path("authority"), "10.9.0.2");
    let _pebble = authority(&tailnet, &certificate);
    let node = tailnet.start(0, &[]);
    let mut client = client::new(&tailnet, 1, "gopher");
    client.set("SSL_CERT_FILE", &certificate.file);
    client.set("TS_DEBUG_ACME_DIRECTORY_URL", "https://10.9.0.2:14000/dir");
    client.start();
    let key = tailnet.control.key_with_tags(&["tag:web"]);
    client.log_in(tailnet.control.url(), &key, &["--accept-dns=false"]);

    let own = tailnet.path("own.crt");
    let (cert, key) = (
        format!("--cert-file={own}"),
        format!("--key-file={}", tailnet.path("own.key")),
    );
    client.check(&["cert", &cert, &key, "gopher.tail.internal"]);
    let roots = tailnet.path("roots.pem");
    tailnet.machines[1].check(&format!("curl -sk -o {roots} https://10.9.0.2:15000/roots/0"));
    tailnet.machines[1].check(&format!(
        "openssl verify -CAfile {roots} -untrusted {own} -verify_hostname gopher.tail.internal {own}"
    ));
    let (given, text) = client.call(&["cert", &cert, &key, "one.tail.internal"]);
    assert!(!given, "a certificate for somebody else's name: {text}");

    client.check(&["serve", "--service=svc:web", "--https=443", "text:hello from a service"]);
    let line = format!(
        "curl -s --max-time 20 --cacert {roots} --resolve web.tail.internal:443:{v4} https://web.tail.internal/"
    );
    let answer = wait::until("the service by HTTPS", || {
        let output = tailnet.machines[0].run(&line);
        output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    });
    assert_eq!(answer, "hello from a service");
    eprintln!("{}: {}", client.version(), "certificates of pebble");
    drop(node);
}
