//! The running node's side of the socket.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, bail};
use isthmus_tailnet::{NodeHandle, PingError, PingKind};
use isthmus_tailnet_core::netmap::{Netmap, Peer};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use super::documents::{self, Pong};
use super::{Answer, MAX_LINE, Question, socket_in};

/// Connections that are served at once.
const MAX_CONNECTIONS: usize = 16;

/// The socket of a running node. It is gone when this is dropped.
pub(crate) struct LocalSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl LocalSocket {
    /// Listens in the state folder, which is made when it is missing.
    ///
    /// # Errors
    /// When another node listens there, or the folder cannot be written.
    pub(crate) fn bind(state_dir: &Path) -> anyhow::Result<Self> {
        let path = socket_in(state_dir);
        fs::create_dir_all(state_dir)
            .with_context(|| format!("cannot make the state folder {}", state_dir.display()))?;
        match std::os::unix::net::UnixStream::connect(&path) {
            Ok(_) => bail!(
                "another node runs with the state in {}: end it, or give this one a state folder of its own",
                state_dir.display()
            ),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // Left over from a node that was killed.
            Err(_) => fs::remove_file(&path).with_context(|| format!("cannot remove the old {}", path.display()))?,
        }
        let listener = UnixListener::bind(&path).with_context(|| format!("cannot listen on {}", path.display()))?;
        fs::set_permissions(&path, Permissions::from_mode(0o600))
            .with_context(|| format!("cannot keep {} for this user alone", path.display()))?;
        Ok(Self { listener, path })
    }

    /// Answers questions about a node, until it is dropped.
    ///
    /// # Cancel safety
    /// Dropping the future ends all connections.
    pub(crate) async fn serve(&self, node: NodeHandle) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                    Ok((stream, _)) => drop(connections.spawn(converse(stream, node.clone()))),
                    Err(error) => {
                        tracing::debug!(%error, "the local socket failed once");
                        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    }
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

impl Drop for LocalSocket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

async fn converse(stream: UnixStream, node: NodeHandle) {
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader.take(MAX_LINE)).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let answer = match serde_json::from_str(&line) {
            Ok(question) => answer(&node, question).await,
            Err(_) => Answer::Refusal("this node does not know the question: is it of the same version?".to_owned()),
        };
        let mut text = serde_json::to_vec(&answer).expect("an answer serialises");
        text.push(b'\n');
        if writer.write_all(&text).await.is_err() {
            return;
        }
    }
}

async fn answer(node: &NodeHandle, question: Question) -> Answer {
    let Some(report) = node.report().await else {
        return Answer::Refusal("the node is being stopped".to_owned());
    };
    let status = node.status().borrow().clone();
    let netmap = status.netmap.as_deref();
    match (question, netmap) {
        (Question::Status, _) => Answer::Status(documents::status(&status, &report, SystemTime::now())),
        (Question::Netcheck, netmap) => Answer::Netcheck(documents::network(&report.network, netmap)),
        (Question::Ping { .. } | Question::Whois(_), None) => {
            Answer::Refusal("the node is not logged in: see `isthmus node status`".to_owned())
        }
        (Question::Ping { to, tsmp }, Some(netmap)) => match peer(netmap, &to) {
            Some(peer) => ping(node, netmap, peer, tsmp).await,
            None => Answer::Refusal(format!("no peer is called {to} or has it as its address")),
        },
        (Question::Whois(address), Some(netmap)) => match documents::whois(netmap, address) {
            Some(found) => Answer::Whois(found),
            None => Answer::Refusal(format!(
                "no device of the tailnet has the address {address} or a route to it"
            )),
        },
    }
}

/// The peer with this address, full name, or first part of its name.
fn peer<'a>(netmap: &'a Netmap, to: &str) -> Option<&'a Peer> {
    let found = match to.parse() {
        Ok(address) => netmap.peer_by_address(address),
        Err(_) => netmap.peer_by_name(to).or_else(|| {
            let first = |name: &str| {
                name.split('.')
                    .next()
                    .is_some_and(|label| label.eq_ignore_ascii_case(to))
            };
            netmap.peers.values().find(|peer| first(&peer.name))
        }),
    };
    found.map(|peer| &**peer)
}

async fn ping(node: &NodeHandle, netmap: &Netmap, peer: &Peer, tsmp: bool) -> Answer {
    if let Some(obstacle) = peer.obstacle_at(SystemTime::now()) {
        return Answer::Refusal(format!(
            "there is no session with {}: {obstacle}",
            peer.name.trim_end_matches('.')
        ));
    }
    let kind = if tsmp { PingKind::Tsmp } else { PingKind::Disco };
    let pinged = node.ping(peer.key, kind).await;
    let after = node.report().await.unwrap_or_default();
    let after = after.peers.get(&peer.key);
    let (path, latency) = match pinged {
        Ok(answer) => (answer.path, Some(answer.latency)),
        Err(PingError::NoAnswer | PingError::Stopped) => (after.and_then(|report| report.path), None),
    };
    Answer::Ping(Pong {
        name: peer.name.trim_end_matches('.').to_owned(),
        address: peer.addresses.first().copied(),
        way: documents::way(netmap, path),
        latency_ms: latency.map(documents::milliseconds),
        why_not_direct: after.and_then(documents::why_not_direct),
    })
}
