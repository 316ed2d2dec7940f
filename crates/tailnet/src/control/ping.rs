//! Ping requests of control. They name any URL, so they are answered over Noise or, for plain `HEAD`, only at the login server's own host;
//! once per URL and one at a time. Pings of peers take their time, and so have a queue of their own.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Method, Request, Uri, header};
use http_body_util::Full;
use isthmus_tailnet_wire::control::PingRequest;
use tokio::sync::{mpsc, watch};

use super::error::{ControlError, in_time};
use super::peer_ping::{self, Kind};
use super::session::{Requester, send_http1};
use super::{Dialer, Server, c2n};
use crate::node::{NodeHandle, NodePrefs};

/// URLs that are remembered as answered.
const MAX_ANSWERED: usize = 64;

/// Ways to ping one peer at once.
const MAX_KINDS: usize = 4;

/// Requests that wait while one is answered.
const MAX_WAITING: usize = 8;

const LIMIT: Duration = Duration::from_secs(10);

/// Takes ping requests of one session.
pub(crate) struct Pings {
    answers: mpsc::Sender<Answer>,
    peers: mpsc::Sender<PeerPings>,
    answered: VecDeque<String>,
    server: Server,
    prefs: watch::Receiver<NodePrefs>,
}

/// What a ping request asks for.
#[derive(Debug, PartialEq, Eq)]
enum Plan {
    /// An answer at once.
    Answer(Answer),
    /// Pings of a peer.
    Peer(PeerPings),
}

/// A request to answer with.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    to: Destination,
    method: Method,
    body: Bytes,
}

/// Where an answer goes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Destination {
    /// The login server's host, in the clear or by TLS.
    Host { server: Server, path: String },
    /// Control, over Noise.
    Noise { path: String },
}

/// Pings of a peer, each with an answer of its own.
#[derive(Debug, PartialEq, Eq)]
struct PeerPings {
    to: Destination,
    address: IpAddr,
    kinds: Vec<Kind>,
}

/// How answers are sent.
#[derive(Clone)]
struct Sender {
    dialer: Dialer,
    requester: Requester,
}

impl Pings {
    /// Begins to answer, until the value is dropped.
    pub(crate) fn start(
        dialer: Dialer,
        server: Server,
        requester: Requester,
        prefs: watch::Receiver<NodePrefs>,
        node: NodeHandle,
    ) -> Self {
        let (answers, mut waiting) = mpsc::channel(MAX_WAITING);
        let (peers, mut waiting_peers) = mpsc::channel::<PeerPings>(MAX_WAITING);
        let sender = Sender { dialer, requester };
        let sender_of_pings = sender.clone();
        tokio::spawn(async move {
            while let Some(answer) = waiting.recv().await {
                sender.give(answer).await;
            }
        });
        tokio::spawn(async move {
            while let Some(pings) = waiting_peers.recv().await {
                let kinds = pings.kinds.iter();
                join_all(kinds.map(|kind| sender_of_pings.ping(&node, &pings, *kind))).await;
            }
        });
        Self {
            answers,
            peers,
            answered: VecDeque::new(),
            server,
            prefs,
        }
    }

    /// Answers `request` in the background, unless it was answered before or is not acceptable.
    pub(crate) fn take(&mut self, request: &PingRequest) {
        if self.answered.contains(&request.url) {
            return;
        }
        if self.answered.len() == MAX_ANSWERED {
            self.answered.pop_front();
        }
        self.answered.push_back(request.url.clone());
        let planned = plan(request, &self.server, &self.prefs.borrow());
        let taken = match planned {
            None => {
                tracing::warn!(url = request.url, types = request.types, "a ping of control is refused");
                return;
            }
            Some(Plan::Answer(answer)) => self.answers.try_send(answer).is_ok(),
            Some(Plan::Peer(pings)) => self.peers.try_send(pings).is_ok(),
        };
        if !taken {
            tracing::debug!("a ping of control is dropped, too many wait");
        }
    }
}

/// How to answer; nothing for what is refused.
fn plan(request: &PingRequest, login: &Server, prefs: &NodePrefs) -> Option<Plan> {
    let url: Uri = request.url.parse().ok()?;
    let path = url.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let is_c2n = request.types == "c2n";
    let to = if request.url_is_noise || is_c2n {
        Destination::Noise { path }
    } else {
        let server = Server::of(&url).filter(|server| server.host == login.host)?;
        Destination::Host { server, path }
    };
    if request.types.is_empty() || is_c2n {
        let (method, body) = if is_c2n {
            (Method::POST, c2n::answer(&request.payload.0, prefs).into())
        } else {
            (Method::HEAD, Bytes::new())
        };
        return Some(Plan::Answer(Answer { to, method, body }));
    }
    let mut kinds: Vec<Kind> = request.types.split(',').filter_map(peer_ping::kind).collect();
    kinds.truncate(MAX_KINDS);
    let address = request.ip.parse().ok().filter(|_| !kinds.is_empty())?;
    Some(Plan::Peer(PeerPings { to, address, kinds }))
}

impl Sender {
    async fn give(&self, answer: Answer) {
        const ACTION: &str = "answer a ping of control";
        if let Err(error) = in_time(ACTION, LIMIT, self.send(ACTION, answer)).await {
            tracing::debug!(%error, "a ping of control is not answered");
        }
    }

    async fn send(&self, action: &'static str, answer: Answer) -> Result<(), ControlError> {
        let Answer { to, method, body } = answer;
        match to {
            Destination::Noise { path } => self.requester.send(action, method, &path, body).await.map(drop),
            Destination::Host { server, path } => {
                let request = Request::builder()
                    .method(method)
                    .uri(path)
                    .header(header::HOST, server.authority())
                    .body(Full::new(body))
                    .map_err(super::session::broken(action))?;
                send_http1(&self.dialer, &server, action, request).await.map(drop)
            }
        }
    }

    /// Pings once and tells the result. Like Go clients, a node says nothing of a peer that does not answer.
    async fn ping(&self, node: &NodeHandle, pings: &PeerPings, kind: Kind) {
        let Some(response) = peer_ping::ping(node, pings.address, kind).await else {
            tracing::debug!(?kind, "a peer that control wants pinged does not answer");
            return;
        };
        let body = serde_json::to_vec(&response)
            .expect("a ping's result serialises")
            .into();
        let (to, method) = (pings.to.clone(), Method::POST);
        self.give(Answer { to, method, body }).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::PingKind;

    fn request(url: &str, types: &str, noise: bool) -> PingRequest {
        PingRequest {
            url: url.to_owned(),
            types: types.to_owned(),
            url_is_noise: noise,
            ..PingRequest::default()
        }
    }

    fn login() -> Server {
        Server::parse("https://control.example.com").unwrap()
    }

    #[test]
    fn ping_to_foreign_host_is_refused() {
        for url in [
            "http://169.254.169.254/latest",
            "https://other.example.com/ping",
            "http://control.example.com.evil.net/",
            "http://control.example.com@evil.net/",
            "ftp://control.example.com/",
            "/ping",
        ] {
            assert_eq!(
                plan(&request(url, "", false), &login(), &NodePrefs::default()),
                None,
                "{url}"
            );
        }
    }

    #[test]
    fn ping_to_the_login_server_is_answered_by_head() {
        let answer = plan(
            &request("http://Control.example.com:8080/machine/ping?id=1", "", false),
            &login(),
            &NodePrefs::default(),
        );
        let Some(Plan::Answer(Answer {
            to: Destination::Host { server, path },
            method: Method::HEAD,
            ..
        })) = answer
        else {
            panic!("{answer:?}")
        };
        assert_eq!((server.port, path.as_str()), (8080, "/machine/ping?id=1"));
    }

    #[test]
    fn request_over_noise_keeps_only_the_path() {
        let answer = plan(
            &request("http://169.254.169.254/c2n/token", "c2n", true),
            &login(),
            &NodePrefs::default(),
        );
        let Some(Plan::Answer(Answer {
            to: Destination::Noise { path },
            method,
            ..
        })) = answer
        else {
            panic!("{answer:?}")
        };
        assert_eq!((method, path.as_str()), (Method::POST, "/c2n/token"));
    }

    #[test]
    fn peer_is_pinged_in_every_way_that_is_known_and_the_result_goes_where_it_may() {
        let asked = |url: &str, types: &str, noise: bool| {
            let request = PingRequest {
                ip: "100.64.0.2".to_owned(),
                ..request(url, types, noise)
            };
            plan(&request, &login(), &NodePrefs::default())
        };
        let planned = asked("http://x/ping?id=1", "disco,TSMP,carrier pigeon", true);
        let expected = PeerPings {
            to: Destination::Noise {
                path: "/ping?id=1".to_owned(),
            },
            address: [100, 64, 0, 2].into(),
            kinds: vec![Kind::Of(PingKind::Disco), Kind::Of(PingKind::Tsmp)],
        };
        assert_eq!(planned, Some(Plan::Peer(expected)));
        assert!(asked("https://control.example.com/ping", "ICMP", false).is_some());
        assert_eq!(asked("https://other.example.com/ping", "ICMP", false), None);
        assert_eq!(asked("http://x/ping", "carrier pigeon", true), None);
        let nobody = request("http://x/ping", "disco", true);
        assert_eq!(plan(&nobody, &login(), &NodePrefs::default()), None);
    }
}
