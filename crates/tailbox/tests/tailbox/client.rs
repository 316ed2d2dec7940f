//! A client of the control protocol, on the client side of `ts_control_noise`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use isthmus_tailbox::{AuthKeySpec, Tailbox};
use isthmus_tailnet_wire::control::{
    Hostinfo, MapRequest, MapResponse, Node, NodeId, RegisterAuth, RegisterRequest, RegisterResponse, ServerKeys,
};
use isthmus_tailnet_wire::framing::FrameDecoder;
use isthmus_tailnet_wire::keys::{DiscoKey, MachineKey, NodeKey};
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use ts_keys::{DiscoPublicKey, MachineKeyPair, MachinePublicKey, NodePublicKey};

use crate::http_call::get_json;

/// How long anything may take. Machines under test can be slow.
const PATIENCE: Duration = Duration::from_mins(2);

/// A future within the time that anything may take.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("{what} took too long"))
}

/// A machine with its keys and an open Noise connection.
pub(crate) struct Client {
    pub(crate) machine: MachineKeyPair,
    pub(crate) node_key: NodeKey,
    pub(crate) disco_key: DiscoKey,
    pub(crate) hostname: String,
    host: String,
    requests: h2::client::SendRequest<Bytes>,
}

impl Client {
    /// A new machine, connected.
    pub(crate) async fn connect(tailbox: &Tailbox, hostname: &str) -> Self {
        Self::connect_as(
            tailbox,
            hostname,
            MachineKeyPair::random(),
            NodePublicKey::random().into(),
        )
        .await
    }

    /// A known machine, connected.
    pub(crate) async fn connect_as(
        tailbox: &Tailbox,
        hostname: &str,
        machine: MachineKeyPair,
        node_key: NodeKey,
    ) -> Self {
        let keys: ServerKeys = get_json(tailbox, "/key?v=119").await;
        assert_eq!(keys.public_key, tailbox.machine_key());
        Self::dial(tailbox.local_addr(), keys.public_key, hostname, machine, node_key).await
    }

    /// A machine, connected to a server of this address and key.
    pub(crate) async fn dial(
        address: SocketAddr,
        server: MachineKey,
        hostname: &str,
        machine: MachineKeyPair,
        node_key: NodeKey,
    ) -> Self {
        let host = address.to_string();
        let mut connection = within("a connection", TcpStream::connect(address)).await.unwrap();
        let server = MachinePublicKey::from(server);
        let version = ts_capabilityversion::CapabilityVersion::V119;
        let (handshake, init) =
            ts_control_noise::Handshake::initialize("Tailscale Control Protocol v119", &machine, &server, version);
        // Rust clients write the absolute form of the target.
        let head = format!(
            "POST http://{host}/ts2021 HTTP/1.1\r\nHost: {host}\r\nUpgrade: tailscale-control-protocol\r\n\
             Connection: upgrade\r\nX-Tailscale-Handshake: {init}\r\n\r\n"
        );
        connection.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(within("the upgrade", connection.read_u8()).await.unwrap());
        }
        assert!(
            answer.starts_with(b"HTTP/1.1 101 "),
            "{}",
            String::from_utf8_lossy(&answer)
        );
        let stream = handshake.complete(connection, &machine).await.unwrap();
        let (requests, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let disco_key = DiscoPublicKey::random().into();
        Self {
            machine,
            node_key,
            disco_key,
            hostname: hostname.to_owned(),
            host,
            requests,
        }
    }

    /// A new machine that is connected and registered with a new single-use key.
    pub(crate) async fn join(tailbox: &Tailbox, hostname: &str) -> Self {
        Self::join_with(tailbox, hostname, &[]).await
    }

    /// The same with tags.
    pub(crate) async fn join_with(tailbox: &Tailbox, hostname: &str, tags: &[&str]) -> Self {
        let client = Self::connect(tailbox, hostname).await;
        let spec = AuthKeySpec {
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            ..AuthKeySpec::default()
        };
        let key = tailbox.create_auth_key(spec).await.unwrap();
        let response = client.register(key.expose()).await;
        assert_eq!(response.error, "");
        assert!(response.machine_authorized);
        client
    }

    pub(crate) fn hostinfo(&self) -> Hostinfo {
        Hostinfo {
            hostname: self.hostname.clone(),
            os: "linux".into(),
            ..Hostinfo::default()
        }
    }

    pub(crate) fn register_request(&self, auth_key: &str) -> RegisterRequest {
        RegisterRequest {
            version: 119,
            node_key: self.node_key,
            auth: Some(RegisterAuth {
                auth_key: auth_key.into(),
            }),
            hostinfo: Some(self.hostinfo()),
            ..RegisterRequest::default()
        }
    }

    pub(crate) async fn register(&self, auth_key: &str) -> RegisterResponse {
        self.register_with(&self.register_request(auth_key)).await
    }

    pub(crate) async fn register_with<T: Serialize>(&self, request: &T) -> RegisterResponse {
        let (status, body) = self.post("/machine/register", request).await;
        assert_eq!(status, 200);
        serde_json::from_slice(&body).unwrap()
    }

    pub(crate) fn map_request(&self) -> MapRequest {
        MapRequest {
            version: 119,
            compress: "zstd".into(),
            keep_alive: true,
            node_key: self.node_key,
            disco_key: self.disco_key,
            hostinfo: Some(self.hostinfo()),
            ..MapRequest::default()
        }
    }

    /// Tells the endpoints as an update beside the stream.
    pub(crate) async fn tell_endpoints(&self, endpoints: &[&str]) {
        let endpoints = endpoints.iter().map(|at| at.parse().unwrap()).collect();
        let request = MapRequest {
            endpoints,
            omit_peers: true,
            ..self.map_request()
        };
        let (status, body) = self.post("/machine/map", &request).await;
        assert_eq!((status, body.len()), (200, 0));
    }

    /// Sends a request and reads the whole answer.
    pub(crate) async fn post<T: Serialize>(&self, path: &str, document: &T) -> (u16, Vec<u8>) {
        self.post_bytes(path, serde_json::to_vec(document).unwrap()).await
    }

    /// Sends a request with any body and reads the whole answer.
    pub(crate) async fn post_bytes(&self, path: &str, body: Vec<u8>) -> (u16, Vec<u8>) {
        let (status, mut stream) = self.begin(path, body).await;
        let mut body = Vec::new();
        while let Some(data) = within("the answer", stream.data()).await {
            body.extend_from_slice(&data.unwrap());
        }
        (status, body)
    }

    /// Opens a map stream.
    pub(crate) async fn stream(&self) -> MapStream {
        self.stream_with(&MapRequest {
            stream: true,
            ..self.map_request()
        })
        .await
    }

    pub(crate) async fn stream_with(&self, request: &MapRequest) -> MapStream {
        let (status, stream) = self.begin("/machine/map", serde_json::to_vec(request).unwrap()).await;
        assert_eq!(status, 200);
        MapStream {
            stream,
            frames: FrameDecoder::default(),
            compressed: request.compress == "zstd",
            peers: BTreeMap::new(),
        }
    }

    /// Sends a `HEAD` request and gives the status.
    pub(crate) async fn head(&self, path: &str) -> u16 {
        let mut requests = self.requests.clone().ready().await.unwrap();
        let uri = format!("http://{}{path}", self.host);
        let request = http::Request::head(uri).body(()).unwrap();
        let (response, _) = requests.send_request(request, true).unwrap();
        within("the response", response).await.unwrap().status().as_u16()
    }

    async fn begin(&self, path: &str, content: Vec<u8>) -> (u16, h2::RecvStream) {
        let mut requests = self.requests.clone().ready().await.unwrap();
        let uri = format!("http://{}{path}", self.host);
        let (response, mut body) = requests
            .send_request(http::Request::post(uri).body(()).unwrap(), false)
            .unwrap();
        body.send_data(Bytes::from(content), true).unwrap();
        let response = within("the response", response).await.unwrap();
        (response.status().as_u16(), response.into_body())
    }
}

/// An open map stream.
pub(crate) struct MapStream {
    stream: h2::RecvStream,
    frames: FrameDecoder,
    compressed: bool,
    /// The peers that all messages so far amount to.
    pub(crate) peers: BTreeMap<NodeId, Node>,
}

impl MapStream {
    /// The next message, keep-alives included; `None` when the server ended the stream.
    pub(crate) async fn next(&mut self) -> Option<MapResponse> {
        loop {
            if let Some(frame) = self.frames.next_frame().unwrap() {
                let json = if self.compressed {
                    zstd::decode_all(&frame[..]).unwrap()
                } else {
                    frame
                };
                let message = serde_json::from_slice(&json).unwrap();
                self.apply(&message);
                return Some(message);
            }
            let data = within("a map message", self.stream.data()).await?.ok()?;
            let _ = self.stream.flow_control().release_capacity(data.len());
            self.frames.push(&data);
        }
    }

    /// The next message that satisfies a condition.
    pub(crate) async fn until(&mut self, what: &str, condition: impl Fn(&MapResponse) -> bool) -> MapResponse {
        within(what, async {
            loop {
                let message = self
                    .next()
                    .await
                    .unwrap_or_else(|| panic!("the stream ended before {what}"));
                if condition(&message) {
                    return message;
                }
            }
        })
        .await
    }

    /// Waits for the peer of this name, in a state that satisfies a condition.
    pub(crate) async fn until_peer(&mut self, name: &str, condition: impl Fn(&Node) -> bool) -> Node {
        within(name, async {
            loop {
                let peer = self.peers.values().find(|peer| peer.name == name && condition(peer));
                if let Some(peer) = peer {
                    return peer.clone();
                }
                assert!(self.next().await.is_some(), "the stream ended before {name}");
            }
        })
        .await
    }

    /// Reads on without a look at what is said, until the stream ends.
    pub(crate) async fn drain(mut self) {
        while let Some(Ok(data)) = self.stream.data().await {
            let _ = self.stream.flow_control().release_capacity(data.len());
        }
    }

    /// Takes over what a message says about peers, in the order of the Go client.
    fn apply(&mut self, message: &MapResponse) {
        if !message.peers.is_empty() {
            self.peers = message.peers.iter().map(|peer| (peer.id, peer.clone())).collect();
            return;
        }
        self.peers.retain(|id, _| !message.peers_removed.contains(id));
        self.peers
            .extend(message.peers_changed.iter().map(|peer| (peer.id, peer.clone())));
        for (id, seen) in &message.peer_seen_change {
            assert!(!seen, "this server knows the time");
            self.peers.get_mut(id).unwrap().last_seen = None;
        }
        for change in &message.peers_changed_patch {
            let peer = self.peers.get_mut(&change.node_id).unwrap();
            peer.endpoints = change.endpoints.clone().unwrap_or_else(|| peer.endpoints.clone());
            peer.key = change.key.unwrap_or(peer.key);
            peer.disco_key = change.disco_key.unwrap_or(peer.disco_key);
            peer.online = change.online.or(peer.online);
            peer.last_seen = change.last_seen.or(peer.last_seen);
            peer.key_expiry = change.key_expiry.unwrap_or(peer.key_expiry);
            if change.derp_region != 0 {
                peer.home_derp = change.derp_region;
            }
        }
    }

    /// Waits for the server to end the stream.
    pub(crate) async fn until_ended(&mut self) {
        within("the end of the stream", async { while self.next().await.is_some() {} }).await;
    }
}
