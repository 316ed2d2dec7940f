//! The connection to the tailbox's API, and its errors in words for people.

use std::fs;
use std::time::Duration;

use anyhow::{Context, anyhow};
use isthmus_runtime::Secret;
use isthmus_tailnet_api::{Client, Config, Credentials, Custom, Error, Method, Reply, client_config};
use serde_json::Value;

use super::Common;

/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The API of a running tailbox.
pub(super) struct Api {
    client: Client,
    url: String,
    credentials: String,
}

impl Api {
    pub(super) fn open(common: &Common) -> anyhow::Result<Self> {
        let path = common.credentials.display().to_string();
        let missing = || {
            format!(
                "cannot read the credentials {path}: start the tailbox with --credentials-out FILE, and name that file by --credentials"
            )
        };
        let text = fs::read(&common.credentials).with_context(missing)?;
        // The cause could repeat the secret, so it stays out of the message.
        let credentials: super::super::Credentials = serde_json::from_slice(&text)
            .map_err(|_| anyhow!("the credentials {path} are not JSON with client_id and client_secret"))?;
        let client = Client::new(Config {
            base_url: common.url.clone(),
            credentials: Credentials::Fixed {
                client_id: credentials.client_id,
                client_secret: Secret::new(credentials.client_secret),
            },
            user_agent: concat!("isthmus-tailbox/", env!("CARGO_PKG_VERSION")).to_owned(),
            timeout: TIMEOUT,
            tls: client_config(None)?,
        });
        Ok(Self {
            client: client.context("write --url like http://127.0.0.1:8080")?,
            url: common.url.clone(),
            credentials: path,
        })
    }

    /// Reads a document.
    pub(super) async fn get(&self, action: &str, path: &str) -> anyhow::Result<Value> {
        let reply = self.send(action, Method::GET, path, Vec::new(), None).await?;
        self.document(&reply)
    }

    /// Sends a document, and reads the one that is answered.
    pub(super) async fn post(&self, action: &str, path: &str, body: &Value) -> anyhow::Result<Value> {
        let body = body.to_string().into_bytes();
        let reply = self.send(action, Method::POST, path, body, None).await?;
        self.document(&reply)
    }

    pub(super) async fn delete(&self, action: &str, path: &str) -> anyhow::Result<()> {
        let sent = self.send(action, Method::DELETE, path, Vec::new(), None).await;
        sent.map(drop)
    }

    /// Sends any request.
    pub(super) async fn send(
        &self,
        action: &str,
        method: Method,
        path: &str,
        body: Vec<u8>,
        if_match: Option<String>,
    ) -> anyhow::Result<Reply> {
        let custom = Custom {
            action: action.to_owned(),
            method,
            path: format!("/api/v2/{path}"),
            body,
            if_match,
        };
        let sent = self.client.send(custom).await;
        sent.map_err(|error| self.explain(action, error))
    }

    fn document(&self, reply: &Reply) -> anyhow::Result<Value> {
        let url = &self.url;
        serde_json::from_slice(&reply.body).with_context(|| format!("what answers at {url} is no tailbox: check --url"))
    }

    /// An error for somebody who has a tailbox: the client's own words are for an operator in a cluster.
    fn explain(&self, action: &str, error: Error) -> anyhow::Error {
        let (url, credentials) = (&self.url, &self.credentials);
        match error {
            Error::NotFound { .. } => {
                anyhow!("cannot {action}: the tailbox does not have it; see what it has with `list`")
            }
            Error::Unauthorized { message, .. } => anyhow!(
                "cannot {action}: the tailbox does not know the credentials in {credentials} ({message}); are they of the one at {url}?"
            ),
            Error::Forbidden { message, .. } => {
                anyhow!("cannot {action}: the credentials in {credentials} do not permit it ({message})")
            }
            Error::Refused { message, .. } => anyhow!("cannot {action}: {message}"),
            Error::Transport { cause, .. } => anyhow::Error::new(cause).context(format!(
                "cannot {action}: no tailbox answers at {url}; is it running, and is --url the address it listens on?"
            )),
            error @ (Error::RateLimited { .. }
            | Error::NoApi { .. }
            | Error::Server { .. }
            | Error::Answer { .. }
            | Error::Down { .. }
            | Error::Credentials { .. }) => error.into(),
        }
    }
}

/// A member of a document as text, empty when it is missing.
pub(super) fn text<'a>(document: &'a Value, member: &str) -> &'a str {
    document[member].as_str().unwrap_or_default()
}

/// The texts of a list.
pub(super) fn texts(list: &Value) -> Vec<&str> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

/// Percent-encodes all but the unreserved letters.
pub(super) fn segment(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}
