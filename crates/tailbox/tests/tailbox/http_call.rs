//! Plain HTTP requests to a tailbox.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use isthmus_tailbox::Tailbox;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::client::within;

/// Sends a request to a path: status and body.
pub(crate) async fn call(tailbox: &Tailbox, request: http::request::Builder, body: String) -> (u16, Vec<u8>) {
    within("an HTTP request", async {
        let connection = TcpStream::connect(tailbox.local_addr()).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(connection))
            .await
            .unwrap();
        tokio::spawn(connection);
        let request = request.header("host", tailbox.local_addr().to_string());
        let response = sender
            .send_request(request.body(Full::new(Bytes::from(body))).unwrap())
            .await
            .unwrap();
        let status = response.status().as_u16();
        (
            status,
            response.into_body().collect().await.unwrap().to_bytes().to_vec(),
        )
    })
    .await
}

/// The document at a path.
pub(crate) async fn get_json<T: DeserializeOwned>(tailbox: &Tailbox, path: &str) -> T {
    let (status, body) = call(tailbox, http::Request::get(path), String::new()).await;
    assert_eq!(status, 200);
    serde_json::from_slice(&body).unwrap()
}

/// A caller of the API with an `Authorization` header.
pub(crate) struct Caller<'a> {
    pub(crate) tailbox: &'a Tailbox,
    pub(crate) authorization: String,
}

impl Caller<'_> {
    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        self.send("GET", path, String::new()).await
    }

    pub(crate) async fn delete(&self, path: &str) -> (u16, Value) {
        self.send("DELETE", path, String::new()).await
    }

    pub(crate) async fn post(&self, path: &str, document: Value) -> (u16, Value) {
        self.send("POST", path, document.to_string()).await
    }

    pub(crate) async fn send(&self, method: &str, path: &str, body: String) -> (u16, Value) {
        let mut request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json");
        if !self.authorization.is_empty() {
            request = request.header("authorization", &self.authorization);
        }
        let (status, body) = call(self.tailbox, request, body).await;
        let document = serde_json::from_slice(&body).unwrap_or_else(|_| {
            panic!(
                "the answer to {method} {path} is JSON: {}",
                String::from_utf8_lossy(&body)
            )
        });
        (status, document)
    }
}
