//! The relay, spoken to in its own frames over plain HTTP. That clients find it by TLS is shown by whole nodes.

use isthmus_tailbox::{AuthKeySpec, Config, Tailbox};
use isthmus_tailnet_wire::derp::{
    ClientInfo, Decoder, Frame, GoneReason, NONCE, ServerInfo, VERSION, open_info, public_key, seal_info,
};
use isthmus_tailnet_wire::keys::NodeKey;
use isthmus_tailnet_wire::stun;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use ts_keys::MachineKeyPair;

use crate::client::{Client, within};
use crate::http_call::call;

/// A node's connection to the relay.
struct Relayed {
    key: NodeKey,
    stream: TcpStream,
    decoder: Decoder,
}

impl Relayed {
    /// Connects with the key of this private one; nothing when the relay ends the connection instead of greeting.
    async fn connect(tailbox: &Tailbox, private: [u8; 32]) -> Option<Self> {
        let mut stream = TcpStream::connect(tailbox.local_addr()).await.unwrap();
        let head = "GET /derp HTTP/1.1\r\nHost: relay\r\nConnection: Upgrade\r\nUpgrade: derp\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(within("the upgrade", stream.read_u8()).await.unwrap());
        }
        assert!(answer.starts_with(b"HTTP/1.1 101 "));
        let key = NodeKey::from_bytes(public_key(&private));
        let mut relayed = Self {
            key,
            stream,
            decoder: Decoder::default(),
        };
        let Some(Frame::ServerKey(server)) = relayed.next().await else {
            panic!("the relay begins with its key");
        };
        let info = ClientInfo {
            version: VERSION,
            ..ClientInfo::default()
        };
        let nonce = [1; NONCE];
        let sealed = seal_info(&info, &private, &server, &nonce).unwrap();
        relayed.send(&Frame::ClientInfo { key, nonce, sealed }).await;
        let Frame::ServerInfo { nonce, sealed } = relayed.next().await? else {
            panic!("the relay answers with its information");
        };
        let info: ServerInfo = open_info(&sealed, &private, &server, &nonce).unwrap();
        assert_eq!(info.version, VERSION);
        Some(relayed)
    }

    async fn send(&mut self, frame: &Frame) {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        self.stream.write_all(&bytes).await.unwrap();
    }

    async fn pass(&mut self, to: NodeKey, text: &str) {
        let packet = text.as_bytes().to_vec();
        self.send(&Frame::Send { to, packet }).await;
    }

    /// The next frame; nothing when the connection ends.
    async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return Some(frame);
            }
            let mut bytes = [0; 4096];
            let length = within("a frame", self.stream.read(&mut bytes)).await.ok()?;
            if length == 0 {
                return None;
            }
            self.decoder.push(&bytes[..length]);
        }
    }
}

/// Registers nodes with the keys of these private ones.
async fn register(tailbox: &Tailbox, private: &[[u8; 32]]) {
    for private in private {
        let key = tailbox.create_auth_key(AuthKeySpec::default()).await.unwrap();
        let node_key = NodeKey::from_bytes(public_key(private));
        let client = Client::connect_as(tailbox, "node", MachineKeyPair::random(), node_key).await;
        assert_eq!(client.register(key.expose()).await.error, "");
    }
}

fn text(from: &Relayed, text: &str) -> Frame {
    let packet = text.as_bytes().to_vec();
    Frame::Receive { from: from.key, packet }
}

#[tokio::test]
async fn datagrams_pass_between_nodes_and_pings_are_answered() {
    let tailbox = Tailbox::start(Config::default()).await.unwrap();
    register(&tailbox, &[[1; 32], [2; 32]]).await;
    let mut a = Relayed::connect(&tailbox, [1; 32]).await.unwrap();
    let mut b = Relayed::connect(&tailbox, [2; 32]).await.unwrap();
    let (a_key, b_key) = (a.key, b.key);
    a.pass(b_key, "hello").await;
    assert_eq!(b.next().await, Some(text(&a, "hello")));
    b.pass(a_key, "and back").await;
    assert_eq!(a.next().await, Some(text(&b, "and back")));
    a.send(&Frame::Ping(*b"12345678")).await;
    assert_eq!(a.next().await, Some(Frame::Pong(*b"12345678")));
}

#[tokio::test]
async fn sender_learns_that_a_peer_is_not_there_or_has_left() {
    let tailbox = Tailbox::start(Config::default()).await.unwrap();
    register(&tailbox, &[[1; 32], [2; 32]]).await;
    let mut a = Relayed::connect(&tailbox, [1; 32]).await.unwrap();
    let key = NodeKey::from_bytes(public_key(&[2; 32]));
    a.pass(key, "too early").await;
    let reason = GoneReason::NotHere;
    assert_eq!(a.next().await, Some(Frame::PeerGone { key, reason }));
    let mut b = Relayed::connect(&tailbox, [2; 32]).await.unwrap();
    a.pass(key, "now").await;
    assert_eq!(b.next().await, Some(text(&a, "now")));
    b.pass(a.key, "bye").await;
    assert_eq!(a.next().await, Some(text(&b, "bye")));
    drop(b);
    let reason = GoneReason::Disconnected;
    assert_eq!(a.next().await, Some(Frame::PeerGone { key, reason }));
}

#[tokio::test]
async fn derp_refuses_strangers() {
    let tailbox = Tailbox::start(Config::default()).await.unwrap();
    register(&tailbox, &[[1; 32]]).await;
    assert!(Relayed::connect(&tailbox, [9; 32]).await.is_none());
    let mut node = Relayed::connect(&tailbox, [1; 32])
        .await
        .expect("a node is no stranger");
    let id = tailbox.nodes()[0].id;
    assert!(tailbox.remove_node(id).await.unwrap());
    assert_eq!(node.next().await, None, "a node that was removed is a stranger");
}

#[tokio::test]
async fn newer_connection_takes_the_place_of_an_older_one() {
    let tailbox = Tailbox::start(Config::default()).await.unwrap();
    register(&tailbox, &[[1; 32], [2; 32]]).await;
    let mut old = Relayed::connect(&tailbox, [1; 32]).await.unwrap();
    let mut new = Relayed::connect(&tailbox, [1; 32]).await.unwrap();
    assert_eq!(old.next().await, None);
    let mut other = Relayed::connect(&tailbox, [2; 32]).await.unwrap();
    other.pass(new.key, "to the new one").await;
    assert_eq!(new.next().await, Some(text(&other, "to the new one")));
}

#[tokio::test]
async fn probes_are_answered() {
    let tailbox = Tailbox::start(Config::default()).await.unwrap();
    for path in ["/derp/probe", "/derp/latency-check"] {
        assert_eq!(
            call(&tailbox, http::Request::get(path), String::new()).await.0,
            200,
            "{path}"
        );
        assert_eq!(
            call(&tailbox, http::Request::head(path), String::new()).await.0,
            200,
            "{path}"
        );
    }
    let request = http::Request::get("/generate_204").header("x-tailscale-challenge", "ts_1");
    assert_eq!(call(&tailbox, request, String::new()).await.0, 204);
    assert_eq!(call(&tailbox, http::Request::get("/derp"), String::new()).await.0, 426);
}

#[tokio::test]
async fn relay_of_its_own_is_in_the_map_and_answers_stun() {
    let config = Config {
        relay: Some("127.0.0.1:0".parse().unwrap()),
        ..Config::default()
    };
    let tailbox = Tailbox::start(config).await.unwrap();
    let client = Client::join(&tailbox, "a").await;
    let map = client.stream().await.next().await.unwrap().derp_map.unwrap();
    let regions: Vec<_> = map.regions.keys().collect();
    assert_eq!(regions, [&900]);
    let node = &map.regions[&900].nodes[0];
    assert!(node.cert_name.starts_with("sha256-raw:") && node.derp_port != 0);
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let server = format!("127.0.0.1:{}", node.stun_port);
    socket.send_to(&stun::request([7; 12]), &server).await.unwrap();
    let mut answer = [0; 100];
    let (length, _) = within("the answer", socket.recv_from(&mut answer)).await.unwrap();
    let observed = stun::parse_response(&answer[..length]);
    assert_eq!(observed, Some(([7; 12], socket.local_addr().unwrap())));
}
