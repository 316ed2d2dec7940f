//! Ping requests of control. They name any URL, so they are answered over Noise or, for plain `HEAD`, only at the login server's own host;
//! once per URL and one at a time.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Uri, header};
use http_body_util::Empty;
use isthmus_tailnet_wire::control::{PingRequest, PingResponse};
use tokio::sync::{mpsc, watch};

use super::error::{ControlError, in_time};
use super::session::{Requester, send_http1};
use super::{Dialer, Server, c2n};
use crate::node::NodePrefs;

/// URLs that are remembered as answered.
const MAX_ANSWERED: usize = 64;

/// Requests that wait while one is answered.
const MAX_WAITING: usize = 8;

const LIMIT: Duration = Duration::from_secs(10);

/// Takes ping requests of one session.
pub(crate) struct Pings {
    queue: mpsc::Sender<Answer>,
    answered: VecDeque<String>,
    server: Server,
    prefs: watch::Receiver<NodePrefs>,
}

/// How a ping request is answered.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// `HEAD` at the login server's host.
    Head { server: Server, path: String },
    /// Over Noise.
    Noise { method: Method, path: String, body: Bytes },
}

impl Pings {
    /// Begins to answer, until the value is dropped.
    pub(crate) fn start(
        dialer: Dialer,
        server: Server,
        requester: Requester,
        prefs: watch::Receiver<NodePrefs>,
    ) -> Self {
        let (queue, mut waiting) = mpsc::channel(MAX_WAITING);
        tokio::spawn(async move {
            while let Some(answer) = waiting.recv().await {
                let answered = in_time("answer a ping of control", LIMIT, give(&dialer, &requester, answer)).await;
                if let Err(error) = answered {
                    tracing::debug!(%error, "a ping of control is not answered");
                }
            }
        });
        Self {
            queue,
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
        let Some(answer) = planned else {
            tracing::warn!(url = request.url, types = request.types, "a ping of control is refused");
            return;
        };
        if self.queue.try_send(answer).is_err() {
            tracing::debug!("a ping of control is dropped, too many wait");
        }
    }
}

/// How to answer; nothing for what is refused.
fn plan(request: &PingRequest, login: &Server, prefs: &NodePrefs) -> Option<Answer> {
    let url: Uri = request.url.parse().ok()?;
    let path = url.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    match request.types.as_str() {
        "" if request.url_is_noise => Some(Answer::Noise {
            method: Method::HEAD,
            path,
            body: Bytes::new(),
        }),
        "" => {
            let server = Server::of(&url)?;
            (server.host == login.host).then_some(Answer::Head { server, path })
        }
        "c2n" => {
            let body = c2n::answer(&request.payload.0, prefs).into();
            Some(Answer::Noise {
                method: Method::POST,
                path,
                body,
            })
        }
        kinds => {
            let response = PingResponse {
                kind: kinds.split(',').next().unwrap_or_default().to_owned(),
                ip: request.ip.clone(),
                err: "this node does not ping on request".to_owned(),
                ..PingResponse::default()
            };
            let body = serde_json::to_vec(&response).ok()?.into();
            Some(Answer::Noise {
                method: Method::POST,
                path,
                body,
            })
        }
    }
}

async fn give(dialer: &Dialer, requester: &Requester, answer: Answer) -> Result<(), ControlError> {
    const ACTION: &str = "answer a ping of control";
    match answer {
        Answer::Noise { method, path, body } => requester.send(ACTION, method, &path, body).await.map(drop),
        Answer::Head { server, path } => {
            let request = Request::head(path)
                .header(header::HOST, server.authority())
                .body(Empty::new())
                .map_err(super::session::broken(ACTION))?;
            send_http1(dialer, &server, ACTION, request).await.map(drop)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let Some(Answer::Head { server, path }) = answer else {
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
        let Some(Answer::Noise { method, path, .. }) = answer else {
            panic!("{answer:?}")
        };
        assert_eq!((method, path.as_str()), (Method::POST, "/c2n/token"));
    }

    #[test]
    fn request_to_ping_a_peer_is_declined_with_a_reason() {
        let answer = plan(
            &request("http://x/ping", "disco,TSMP", true),
            &login(),
            &NodePrefs::default(),
        );
        let Some(Answer::Noise { body, .. }) = answer else {
            panic!("{answer:?}")
        };
        assert!(String::from_utf8_lossy(&body).contains("does not ping on request"));
    }
}
