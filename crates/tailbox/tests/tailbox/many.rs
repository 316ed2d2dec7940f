//! Many nodes on one tailbox, which runs in a process of its own, so that what it needs can be told from what they need.

mod process;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::{self, FuturesUnordered};
use isthmus_tailnet_wire::control::{Node, RegisterRequest};
use jiff::Timestamp;
use process::{Need, Server};
use tokio::task::JoinHandle;
use ts_keys::{MachineKeyPair, NodePublicKey};

use crate::client::{Client, MapStream};

/// How many nodes of an ordinary run, and of one with `ISTHMUS_SOAK`.
const FEW: usize = 100;
const MANY: usize = 1000;
/// How many of them read and check what they are told.
const WATCHERS: usize = 3;
/// How often all roam, some connect anew, and others leave and join.
const ROUNDS: u16 = 4;
/// How many machines do anything at the same time.
const AT_ONCE: usize = 16;
/// How long a round may take.
const PATIENCE: Duration = Duration::from_mins(10);
/// KiB of the server for each node, in any build. Most of it belongs to its connection.
const EACH: u64 = 160;
/// KiB of the server that no node accounts for.
const SPARE: u64 = 24 << 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_nodes_join_leave_and_roam_in_flat_memory_and_descriptors() {
    let count = match std::env::var_os("ISTHMUS_SOAK") {
        Some(_) => MANY,
        None => FEW,
    };
    process::raise_descriptor_limit();
    let server = Arc::new(Server::start());
    let empty = server.need();
    println!("no nodes: {empty}");
    let begun = Instant::now();
    let mut watchers = Vec::new();
    for number in 0..WATCHERS {
        watchers.push(Watcher::join(&server, number).await);
    }
    let mut nodes: Vec<Roamer> = all(WATCHERS..count, |number| Roamer::join(&server, number)).await;
    until_all(&mut watchers, count, |_| true).await;
    println!(
        "{count} nodes joined in {} ms: {}",
        begun.elapsed().as_millis(),
        server.need()
    );

    let mut needs = Vec::new();
    let mut next = count;
    for round in 1..=ROUNDS {
        let begun = Instant::now();
        all(&nodes, |node| node.roam(round)).await;
        watchers_roam(&watchers, round).await;
        until_all(&mut watchers, count, |peer| peer.endpoints[0].port() == 1000 + round).await;
        let roamed = begun.elapsed().as_millis();

        let begun = Instant::now();
        let some = nodes.len() / 10;
        let again = nodes.split_off(nodes.len() - some);
        nodes.extend(all(again, Roamer::connect_again).await);
        all(nodes.drain(..some), Roamer::leave).await;
        nodes.extend(all(next..next + some, |number| Roamer::join_at(&server, number, round)).await);
        next += some;
        until_all(&mut watchers, count, |peer| peer.online == Some(true)).await;
        let need = server.need();
        println!(
            "round {round}: all told new endpoints in {roamed} ms; {some} connected anew, {some} left and {some} joined in {} ms: {need}",
            begun.elapsed().as_millis(),
        );
        needs.push(need);
    }
    check(&empty, &needs, count);
    drop((watchers, nodes));
    server.until_descriptors(empty.descriptors).await;
    println!("all left: {}", server.need());
}

/// Flat: no more descriptors than connections, bounded memory for each node, and none of it grows with the rounds.
fn check(empty: &Need, needs: &[Need], count: usize) {
    let (first, last) = (&needs[0], &needs[needs.len() - 1]);
    for need in needs {
        assert!(need.descriptors <= empty.descriptors + count + 8, "{need}");
        assert!(need.heap <= empty.heap + EACH * count as u64 + SPARE, "{need}");
    }
    let slack = SPARE / 4 + first.heap / 10;
    assert!(last.heap <= first.heap + slack, "first {first}, last {last}");
}

/// Does something with each of these, some of them at a time.
async fn all<T, F: Future>(items: impl IntoIterator<Item = T>, what: impl Fn(T) -> F) -> Vec<F::Output> {
    stream::iter(items).map(what).buffer_unordered(AT_ONCE).collect().await
}

/// Waits until every watcher sees all other nodes, each of them as it shall be.
async fn until_all(watchers: &mut [Watcher], count: usize, condition: impl Fn(&Node) -> bool + Copy) {
    let waiting: FuturesUnordered<_> = watchers
        .iter_mut()
        .map(|watcher| watcher.until(count - 1, condition))
        .collect();
    waiting.collect::<Vec<()>>().await;
}

async fn watchers_roam(watchers: &[Watcher], round: u16) {
    for watcher in watchers {
        watcher.client.tell_endpoints(&[&endpoint(round)]).await;
    }
}

fn endpoint(round: u16) -> String {
    format!("192.0.2.1:{}", 1000 + round)
}

async fn joined(server: &Server, number: usize) -> Client {
    let client = server
        .dial(number, MachineKeyPair::random(), NodePublicKey::random().into())
        .await;
    let answer = client.register(&server.auth_key).await;
    assert_eq!(answer.error, "");
    client
}

/// A node that reads what it is told.
struct Watcher {
    client: Client,
    stream: MapStream,
}

impl Watcher {
    async fn join(server: &Server, number: usize) -> Self {
        let client = joined(server, number).await;
        client.tell_endpoints(&[&endpoint(0)]).await;
        let stream = client.stream().await;
        Self { client, stream }
    }

    async fn until(&mut self, count: usize, condition: impl Fn(&Node) -> bool) {
        let end = Instant::now() + PATIENCE;
        loop {
            let fitting = self.stream.peers.values().filter(|peer| condition(peer)).count();
            let peers = self.stream.peers.len();
            if (peers, fitting) == (count, count) {
                return;
            }
            assert!(
                Instant::now() < end,
                "of {count} peers {peers} are seen and {fitting} are as they should"
            );
            assert!(self.stream.next().await.is_some(), "the stream ended");
        }
    }
}

/// A node that does not look at what it is told.
struct Roamer {
    client: Client,
    server: Arc<Server>,
    number: usize,
    round: u16,
    reader: JoinHandle<()>,
}

impl Roamer {
    async fn join(server: &Arc<Server>, number: usize) -> Self {
        Self::join_at(server, number, 0).await
    }

    async fn join_at(server: &Arc<Server>, number: usize, round: u16) -> Self {
        Self::begin(joined(server, number).await, server, number, round).await
    }

    async fn begin(client: Client, server: &Arc<Server>, number: usize, round: u16) -> Self {
        client.tell_endpoints(&[&endpoint(round)]).await;
        let reader = tokio::spawn(client.stream().await.drain());
        Self {
            client,
            server: Arc::clone(server),
            number,
            round,
            reader,
        }
    }

    /// Tells where it is reached now.
    async fn roam(&self, round: u16) {
        self.client.tell_endpoints(&[&endpoint(round)]).await;
    }

    /// Logs out, which removes an ephemeral node at once.
    async fn leave(self) {
        let request = RegisterRequest {
            expiry: Timestamp::UNIX_EPOCH.into(),
            ..self.client.register_request("")
        };
        assert!(self.client.register_with(&request).await.node_key_expired);
    }

    /// Comes from another network: by another connection, while the old one is still open.
    async fn connect_again(self) -> Self {
        let (machine, node_key) = (self.client.machine.clone(), self.client.node_key);
        let client = self.server.dial(self.number, machine, node_key).await;
        Self::begin(client, &self.server, self.number, self.round).await
    }
}

impl Drop for Roamer {
    fn drop(&mut self) {
        self.reader.abort();
    }
}
