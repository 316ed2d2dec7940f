//! A server for tests that plays the API server and the tailnet at once: it gives the answers of a script, in order, and
//! remembers what did not fit.

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// What a script answers to one request.
pub(crate) enum Answer {
    /// The object that was sent, with UID and version.
    Echo,
    /// No objects.
    Empty,
    /// These objects.
    List(Vec<Value>),
    /// This status and body.
    Json(u16, Value),
    /// Nothing, ever.
    Silence,
}

/// One request that is expected: `METHOD /path`, without the query.
type Step = (&'static str, Answer);

/// A running server. Clones share the script.
#[derive(Clone)]
pub(crate) struct Fake {
    pub(crate) url: String,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    script: VecDeque<Step>,
    seen: Vec<(String, Value)>,
    faults: Vec<String>,
    version: u64,
}

impl Fake {
    /// Starts with an empty script: every request is a fault.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Mutex::new(Shared {
            version: 100,
            ..Shared::default()
        }));
        let fake = Self { url, shared };
        let serving = fake.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let fake = serving.clone();
                let serve = service_fn(move |request| fake.clone().answer(request));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), serve));
            }
        });
        fake
    }

    /// Expects these requests next, in this order.
    pub(crate) fn expect(&self, steps: impl IntoIterator<Item = Step>) {
        self.shared.lock().unwrap().script.extend(steps);
    }

    /// Gives back what was asked since the last time, as request and body.
    pub(crate) fn finish(&self) -> Vec<(String, Value)> {
        let mut shared = self.shared.lock().unwrap();
        assert!(shared.faults.is_empty(), "unexpected requests: {:#?}", shared.faults);
        let missing: Vec<&str> = shared.script.iter().map(|(request, _)| *request).collect();
        assert!(missing.is_empty(), "requests that did not come: {missing:#?}");
        std::mem::take(&mut shared.seen)
    }

    async fn answer(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let asked = format!("{} {}", head.method, head.uri.path());
        let next = self.shared.lock().unwrap().next(&asked, &body);
        let Some((status, answer)) = next else {
            return std::future::pending().await;
        };
        let answer = Full::new(Bytes::from(answer.to_string()));
        Ok(Response::builder()
            .status(status)
            .header("content-type", "application/json")
            .body(answer)
            .unwrap())
    }
}

impl Shared {
    fn next(&mut self, asked: &str, body: &Value) -> Option<(u16, Value)> {
        self.seen.push((asked.to_owned(), body.clone()));
        self.version += 1;
        Some(match self.script.pop_front() {
            Some((wanted, answer)) if wanted == asked => match answer {
                Answer::Echo => (200, self.stored(body)),
                Answer::Empty => (200, json!({"metadata": {}, "items": []})),
                Answer::List(items) => (200, json!({"metadata": {}, "items": items})),
                Answer::Json(status, body) => (status, body),
                Answer::Silence => return None,
            },
            Some((wanted, answer)) => {
                self.faults.push(format!("{asked} instead of {wanted}"));
                self.script.push_front((wanted, answer));
                (500, json!({}))
            }
            None => {
                self.faults.push(format!("{asked} at the end"));
                (500, json!({}))
            }
        })
    }

    fn stored(&self, body: &Value) -> Value {
        let mut object = body.clone();
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        if object["metadata"]["uid"].is_null() {
            object["metadata"]["uid"] = json!(format!("uid-{}", self.version));
        }
        object
    }
}

/// A refusal as the API server words it.
pub(crate) fn refusal(code: u16, reason: &str, message: &str) -> Answer {
    let body = json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message});
    Answer::Json(code, body)
}
