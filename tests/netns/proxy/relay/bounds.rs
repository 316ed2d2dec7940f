//! The limits of the relay, and what becomes of connections when something ends.

use super::*;

#[test]
fn connections_and_sessions_beyond_the_limits_are_refused() {
    isolate!();
    let limits = RelayLimits {
        connections: 100,
        sessions: 20,
        ..RelayLimits::default()
    };
    let scene = Scene::with_limits("relay-limits", limits);
    let Topology { peer, cluster, .. } = &scene.topology;
    scene.apply(to_service());
    let listener = listen(cluster, SERVICE6, 80);
    let held: Vec<(TcpStream, TcpStream)> = (0..100).map(|_| (open(peer, OWN6, 80), accept(&listener))).collect();
    let metrics = scene.relay.metrics();
    assert_eq!(metrics.connections.get(), 100);
    assert_eq!(connect(peer, OWN6, 80), Answer::Refused);
    assert_eq!(metrics.over_limit.get(), 1);
    // An idle connection stays as it is, and room for one is room for the next.
    let (client, mut server) = held.into_iter().next_back().unwrap();
    drop(client);
    assert_eq!(server.read(&mut [0; 8]).unwrap(), 0);
    drop(server);
    wait::until("room", || (metrics.connections.get() < 100).then_some(()));
    let _again = (open(peer, OWN6, 80), accept(&listener));

    serve_udp(cluster, "dns", SERVICE6, 53);
    let clients: Vec<UdpSocket> = peer.enter(|| (0..21).map(|_| UdpSocket::bind("[::]:0").unwrap()).collect());
    for client in &clients {
        client.connect((OWN6, 53)).unwrap();
    }
    for client in &clients[..20] {
        ask(client);
    }
    assert_eq!(metrics.sessions.get(), 20);
    clients[20].set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    clients[20].send(b"hello").unwrap();
    assert!(clients[20].recv(&mut [0; 8]).is_err());
    assert_eq!(metrics.over_limit.get(), 2);
}

#[test]
fn session_ends_when_it_is_idle_and_connection_does_not() {
    isolate!();
    let limits = RelayLimits {
        unanswered: Duration::from_millis(300),
        idle: Duration::from_millis(300),
        ..RelayLimits::default()
    };
    let scene = Scene::with_limits("relay-idle", limits);
    let Topology { peer, cluster, .. } = &scene.topology;
    scene.apply(to_service());
    serve_udp(cluster, "dns", SERVICE6, 53);
    let listener = listen(cluster, SERVICE6, 80);
    let (mut client, mut server) = (open(peer, OWN6, 80), accept(&listener));
    assert_eq!(ask_udp(peer, OWN6, 53), text(&format!("dns saw {POD6}")));
    let metrics = scene.relay.metrics();
    wait::until("the end of the session", || (metrics.sessions.get() == 0).then_some(()));
    assert_eq!(metrics.connections.get(), 1);
    client.write_all(b"a").unwrap();
    server.read_exact(&mut [0]).unwrap();
}

#[test]
fn target_that_refuses_or_is_silent_resets_the_client() {
    isolate!();
    let limits = RelayLimits {
        connect: Duration::from_millis(500),
        ..RelayLimits::default()
    };
    let scene = Scene::with_limits("relay-refuses", limits);
    let Topology { peer, cluster, .. } = &scene.topology;
    scene.apply(to_service());
    assert_eq!(connect(peer, OWN6, 80), Answer::Refused, "nobody listens");
    cluster.check("ip route add blackhole fd00:10:244:1::5/128 metric 1");
    assert_eq!(connect(peer, OWN6, 80), Answer::Refused, "nothing comes back");
    assert_eq!(scene.relay.metrics().unreachable.get(), 2);
}

#[test]
fn end_of_the_relay_resets_what_it_carries() {
    isolate!();
    let scene = Scene::new("relay-dropped");
    scene.apply(to_service());
    let listener = listen(&scene.topology.cluster, SERVICE6, 80);
    let mut client = open(&scene.topology.peer, OWN6, 80);
    let mut server = accept(&listener);
    drop(scene.relay);
    for stream in [&mut client, &mut server] {
        assert_eq!(stream.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
}

#[test]
fn content_is_the_same_through_the_relay_in_both_directions() {
    isolate!();
    let scene = Scene::new("relay-content");
    let Topology { peer, cluster, .. } = &scene.topology;
    scene.apply(to_device());
    let listener = listen(peer, DEVICE6, 5432);
    let mut client = open(cluster, POD6, 5432);
    let server = accept(&listener);
    let content: Vec<u8> = (0..8_000_000_u32)
        .map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0])
        .collect();
    std::thread::scope(|scope| {
        let echo = scope.spawn(|| std::io::copy(&mut &server, &mut &server).map(|_| server.shutdown(Shutdown::Write)));
        scope.spawn(|| {
            (&client).write_all(&content).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
        });
        let mut back = Vec::new();
        (&client).read_to_end(&mut back).unwrap();
        assert!(back == content, "{} of {} bytes came back", back.len(), content.len());
        echo.join().unwrap().unwrap().unwrap();
    });
    client.read_exact(&mut [0]).unwrap_err();
}

#[test]
fn datagram_after_a_refusal_reaches_the_target() {
    isolate!();
    let scene = Scene::new("relay-icmp");
    let Topology { peer, cluster, .. } = &scene.topology;
    scene.apply(to_service());
    let client = peer.enter(|| UdpSocket::bind("[::]:5353").unwrap());
    client.connect((OWN6, 53)).unwrap();
    client.set_read_timeout(Some(wait::PATIENCE)).unwrap();
    client.send(b"nobody is there").unwrap();
    // The refusal has come when the cluster counts it.
    wait::until("the refusal", || {
        let counters = cluster.check("cat /proc/net/snmp6");
        let refusals = counters.lines().find(|line| line.starts_with("Icmp6OutDestUnreachs"))?;
        (refusals.split_whitespace().nth(1) != Some("0")).then_some(())
    });
    serve_udp(cluster, "dns", SERVICE6, 53);
    client.send(b"hello").unwrap();
    let mut buffer = [0; 128];
    let length = client.recv(&mut buffer).unwrap();
    assert_eq!(String::from_utf8_lossy(&buffer[..length]), format!("dns saw {POD6}"));
    assert_eq!(scene.relay.metrics().sessions.get(), 1, "it is the same session");
}

#[test]
fn thousands_of_idle_connections_are_held_in_little_memory() {
    const MANY: usize = 4000;
    isolate!();
    let limits = RelayLimits {
        connections: MANY,
        sessions: 1,
        ..RelayLimits::default()
    };
    let scene = Scene::with_limits("relay-many", limits);
    // Each connection has four sockets in this process: of the peer, of the Service, and two of the relay.
    let (files, _) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
    if files < 17_000 && !require::missing(&format!("only {files} files may be open")) {
        return;
    }
    let Topology { peer, cluster, .. } = &scene.topology;
    scene.apply(to_service());
    let listener = listen(cluster, SERVICE6, 80);
    let target = SocketAddr::new(address(OWN6), 80);
    let before = resident_kilobytes();
    let held: Vec<(TcpStream, TcpStream)> = peer.enter(|| {
        let pair = |_| {
            (
                TcpStream::connect_timeout(&target, wait::PATIENCE).unwrap(),
                accept(&listener),
            )
        };
        (0..MANY).map(pair).collect()
    });
    assert_eq!(scene.relay.metrics().connections.get(), 4000);
    let each = (resident_kilobytes() - before) / 4000;
    eprintln!("{each} KiB for each connection, both ends and the relay together");
    assert!(each < 16, "{each} KiB for each connection");
    let (mut client, mut server) = held.into_iter().nth(2000).unwrap();
    client.write_all(b"a").unwrap();
    server.read_exact(&mut [0]).unwrap();
}

fn resident_kilobytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}
