//! Requests that have no method of their own.

use bytes::Bytes;
use http::{Method, header};

use super::{Asked, Client};
use crate::dialect::Said;
use crate::error::Error;
use crate::observer::Call;

/// A request that has no method of its own here.
#[derive(Debug, Clone)]
pub struct Custom {
    /// What is attempted with which object, for errors: "show the policy".
    pub action: String,
    /// The method.
    pub method: Method,
    /// The path, from `/api/v2/` on, percent-encoded where it has to be.
    pub path: String,
    /// The body; empty for none.
    pub body: Vec<u8>,
    /// The ETag that what is changed must still have.
    pub if_match: Option<String>,
}

/// The answer to a [`Custom`] request.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The body.
    pub body: Bytes,
    /// The ETag of what was answered.
    pub etag: Option<String>,
}

impl Client {
    /// Sends a request that has no method of its own here.
    pub async fn send(&self, custom: Custom) -> Result<Reply, Error> {
        let asked = Asked::new(Call::Other, custom.action);
        let said = Said {
            method: custom.method,
            path: custom.path,
            body: custom.body.into(),
            if_match: custom.if_match,
        };
        let answer = self.request(&asked, &said).await?;
        let etag = answer.headers.get(header::ETAG).and_then(|etag| etag.to_str().ok());
        Ok(Reply {
            etag: etag.map(str::to_owned),
            body: answer.body,
        })
    }
}
