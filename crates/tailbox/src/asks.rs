//! What this server asks of nodes, over the connections that they opened ("c2n"), and their answers.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use isthmus_tailnet_wire::control::{NodeId, PingRequest, PingResponse};
use isthmus_tailnet_wire::keys::MachineKey;
use tokio::sync::oneshot;

use crate::credentials::new_credential;
use crate::shared::Shared;

/// How long a node may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where nodes post their answers, before the token of the request.
pub(crate) const ANSWERS: &str = "/c2n/";

/// Where nodes send the `HEAD` requests that they are asked for; the token is in the query.
pub(crate) const PROBES: &str = "/machine/ping-response";

/// Why a node did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// There is no such node.
    #[error("ask node {0}: it is not known")]
    Unknown(NodeId),
    /// The node is not connected, or does not answer.
    #[error("ask node {0}: it gave no answer in time")]
    Silent(NodeId),
    /// The answer is not one of HTTP/1.
    #[error("ask node {0}: its answer is not understood")]
    Malformed(NodeId),
}

/// What a node answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

/// Requests that wait to be sent, and those that wait for their answers.
#[derive(Debug, Default)]
pub(crate) struct Asks(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    unsent: BTreeMap<NodeId, VecDeque<PingRequest>>,
    unanswered: BTreeMap<String, (MachineKey, oneshot::Sender<Bytes>)>,
}

impl Asks {
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next request to send to a node.
    pub(crate) fn next(&self, node: NodeId) -> Option<PingRequest> {
        let mut open = self.lock();
        let queue = open.unsent.get_mut(&node)?;
        let request = queue.pop_front();
        if queue.is_empty() {
            open.unsent.remove(&node);
        }
        request
    }

    /// Takes the answer to the request with this token; whether that machine was asked.
    pub(crate) fn answer(&self, token: &str, machine: MachineKey, body: Bytes) -> bool {
        let mut open = self.lock();
        if open.unanswered.get(token).is_none_or(|(asked, _)| *asked != machine) {
            return false;
        }
        let asked = open.unanswered.remove(token);
        asked.is_some_and(|(_, answer)| answer.send(body).is_ok())
    }

    /// Queues a request, under a token that was never used: clients answer each URL once.
    fn add(
        &self,
        node: NodeId,
        machine: MachineKey,
        url: impl FnOnce(&str) -> String,
        request: PingRequest,
    ) -> (String, oneshot::Receiver<Bytes>) {
        let token = new_credential().secret.expose().to_owned();
        let request = PingRequest {
            url: url(&token),
            url_is_noise: true,
            ..request
        };
        let (sender, answer) = oneshot::channel();
        let mut open = self.lock();
        open.unanswered.insert(token.clone(), (machine, sender));
        open.unsent.entry(node).or_default().push_back(request);
        (token, answer)
    }

    fn forget(&self, node: NodeId, token: &str) {
        let mut open = self.lock();
        open.unanswered.remove(token);
        if let Some(queue) = open.unsent.get_mut(&node) {
            queue.retain(|request| !request.url.ends_with(token));
        }
    }
}

/// Asks a node, and waits for its answer.
pub(crate) async fn ask(
    shared: &Arc<Shared>,
    node: NodeId,
    method: &str,
    path: &str,
    body: &[u8],
) -> Result<Answer, AskError> {
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: c2n\r\nContent-Length: {length}\r\n\r\n");
    let request = PingRequest {
        types: "c2n".to_owned(),
        payload: isthmus_tailnet_wire::text::Base64Bytes([head.as_bytes(), body].concat()),
        ..PingRequest::default()
    };
    let bytes = answer_to(shared, node, request).await?;
    parse(&bytes).ok_or(AskError::Malformed(node))
}

/// Has a node ping the peer with this address, and waits for what it says of it.
pub(crate) async fn ping(
    shared: &Arc<Shared>,
    node: NodeId,
    kind: &str,
    address: IpAddr,
) -> Result<PingResponse, AskError> {
    let request = PingRequest {
        types: kind.to_owned(),
        ip: address.to_string(),
        ..PingRequest::default()
    };
    let bytes = answer_to(shared, node, request).await?;
    serde_json::from_slice(&bytes).map_err(|_| AskError::Malformed(node))
}

async fn answer_to(shared: &Arc<Shared>, node: NodeId, request: PingRequest) -> Result<Bytes, AskError> {
    let machine = shared.state().nodes.get(node).map(|node| node.machine);
    let machine = machine.ok_or(AskError::Unknown(node))?;
    let url = |token: &str| format!("{}{ANSWERS}{token}", base(shared));
    let added = shared.asks.add(node, machine, url, request);
    let answer = wait(shared, node, added, PATIENCE).await;
    answer.ok_or(AskError::Silent(node))
}

/// Whether a node sends a `HEAD` request inside its connection when it is asked to.
pub(crate) async fn is_alive(shared: &Arc<Shared>, node: NodeId, patience: Duration) -> bool {
    let machine = shared.state().nodes.get(node).map(|node| node.machine);
    let Some(machine) = machine else {
        return false;
    };
    let url = |token: &str| format!("{}{PROBES}?id={token}", base(shared));
    let added = shared.asks.add(node, machine, url, PingRequest::default());
    wait(shared, node, added, patience).await.is_some()
}

/// What the URLs of requests begin with. The host is a dummy: the answer comes back inside the node's connection. For `http` Go
/// clients would dial it.
fn base(shared: &Shared) -> String {
    format!("https://{}", shared.tailnet.domain)
}

/// Waits for the answer to a request that was added.
async fn wait(
    shared: &Shared,
    node: NodeId,
    (token, answer): (String, oneshot::Receiver<Bytes>),
    patience: Duration,
) -> Option<Bytes> {
    shared.notify();
    let answered = tokio::time::timeout(patience, answer).await;
    shared.asks.forget(node, &token);
    answered.ok()?.ok()
}

/// Takes an HTTP/1 response apart. Bodies reach to the end of the bytes.
fn parse(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let line = head.lines().next()?;
    let status = line.strip_prefix("HTTP/1.")?.split_ascii_whitespace().nth(1)?;
    Some(Answer {
        status: status.parse().ok()?,
        body: bytes[end + 4..].to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_is_taken_once_and_only_from_the_machine_that_was_asked() {
        let (asks, own, other) = (
            Asks::default(),
            MachineKey::from_bytes([1; 32]),
            MachineKey::from_bytes([2; 32]),
        );
        let request = PingRequest {
            types: "c2n".to_owned(),
            ..PingRequest::default()
        };
        let (token, mut answer) = asks.add(7, own, |token| format!("https://x/c2n/{token}"), request);
        assert!(asks.next(8).is_none());
        let request = asks.next(7).unwrap();
        assert!(request.url.ends_with(&token) && request.types == "c2n" && asks.next(7).is_none());
        assert!(!asks.answer(&token, other, Bytes::from_static(b"forged")));
        assert!(asks.answer(&token, own, Bytes::from_static(b"true")));
        assert_eq!(answer.try_recv().unwrap(), "true");
        assert!(!asks.answer(&token, own, Bytes::from_static(b"again")));
    }

    #[test]
    fn response_is_taken_apart_and_what_is_none_refused() {
        let parsed = parse(b"HTTP/1.1 404 Not Found\r\nA: b\r\n\r\nno\r\n\r\nmore");
        assert_eq!(
            parsed,
            Some(Answer {
                status: 404,
                body: b"no\r\n\r\nmore".to_vec()
            })
        );
        for bytes in [
            &b""[..],
            b"\r\n\r\n",
            b"HTTP/1.1\r\n\r\n",
            b"HTTP/1.1 x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n",
            b"\xff\r\n\r\n",
        ] {
            assert_eq!(parse(bytes), None);
        }
    }
}
