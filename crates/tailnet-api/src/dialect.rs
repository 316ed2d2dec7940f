//! How this crate's calls are said to a tailnet, and how its answers are read: without I/O.

mod headscale;
mod tailscale;

use bytes::Bytes;
use http::Method;
use jiff::Timestamp;
use serde_json::Error;

use crate::types::{AuthKeyRequest, Device, Key, NewAuthKey};

/// The language of a management API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Version 2 of the Tailscale API, which Headscale speaks from 0.30 on.
    TailscaleV2,
    /// Version 1 of Headscale's own API, which takes API keys alone. Its auth keys have no description, and its devices no name but the one
    /// that is unique in the tailnet.
    HeadscaleV1,
}

/// A request without credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) method: Method,
    pub(crate) path: String,
    /// JSON, or nothing.
    pub(crate) body: Bytes,
    /// The ETag that what is changed must still have.
    pub(crate) if_match: Option<String>,
}

impl Said {
    fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            body: Bytes::new(),
            if_match: None,
        }
    }

    fn with(self, body: Vec<u8>) -> Self {
        Self {
            body: body.into(),
            ..self
        }
    }
}

impl Dialect {
    /// Makes an auth key. Some servers are told its end and not its life, so they have to agree with `now`.
    pub(crate) fn create_key(self, request: &AuthKeyRequest, now: Timestamp) -> Result<Said, Error> {
        match self {
            Self::TailscaleV2 => tailscale::create_key(request),
            Self::HeadscaleV1 => headscale::create_key(request, now),
        }
    }

    /// Reads the answer to [`create_key`](Self::create_key).
    pub(crate) fn created_key(self, answer: &[u8]) -> Result<NewAuthKey, Error> {
        match self {
            Self::TailscaleV2 => tailscale::created_key(answer),
            Self::HeadscaleV1 => headscale::created_key(answer),
        }
    }

    /// Lists keys.
    pub(crate) fn list_keys(self) -> Said {
        let path = match self {
            Self::TailscaleV2 => tailscale::KEYS,
            Self::HeadscaleV1 => headscale::KEYS,
        };
        Said::new(Method::GET, path)
    }

    /// Reads the answer to [`list_keys`](Self::list_keys).
    pub(crate) fn keys(self, answer: &[u8]) -> Result<Vec<Key>, Error> {
        match self {
            Self::TailscaleV2 => tailscale::keys(answer),
            Self::HeadscaleV1 => headscale::keys(answer),
        }
    }

    /// Revokes a key; nothing for an id that no key of such a tailnet has.
    pub(crate) fn delete_key(self, id: &str) -> Option<Said> {
        let path = match self {
            Self::TailscaleV2 => Some(tailscale::key(id)),
            Self::HeadscaleV1 => headscale::key(id),
        };
        Some(Said::new(Method::DELETE, path?))
    }

    /// Lists devices.
    pub(crate) fn list_devices(self) -> Said {
        let path = match self {
            Self::TailscaleV2 => tailscale::DEVICES,
            Self::HeadscaleV1 => headscale::DEVICES,
        };
        Said::new(Method::GET, path)
    }

    /// Reads the answer to [`list_devices`](Self::list_devices).
    pub(crate) fn devices(self, answer: &[u8]) -> Result<Vec<Device>, Error> {
        match self {
            Self::TailscaleV2 => tailscale::devices(answer),
            Self::HeadscaleV1 => headscale::devices(answer),
        }
    }

    /// Reads a device; nothing for an id that no device of such a tailnet has.
    pub(crate) fn get_device(self, id: &str) -> Option<Said> {
        Some(Said::new(Method::GET, self.device_path(id)?))
    }

    /// Reads the answer to [`get_device`](Self::get_device).
    pub(crate) fn device(self, answer: &[u8]) -> Result<Device, Error> {
        match self {
            Self::TailscaleV2 => serde_json::from_slice(answer),
            Self::HeadscaleV1 => headscale::device(answer),
        }
    }

    /// Removes a device; nothing for an id that no device of such a tailnet has.
    pub(crate) fn delete_device(self, id: &str) -> Option<Said> {
        Some(Said::new(Method::DELETE, self.device_path(id)?))
    }

    /// Gives a device exactly these tags; nothing for an id that no device of such a tailnet has.
    pub(crate) fn set_tags(self, id: &str, tags: &[String]) -> Option<Said> {
        let path = format!("{}/tags", self.device_path(id)?);
        let body = serde_json::json!({ "tags": tags }).to_string();
        Some(Said::new(Method::POST, path).with(body.into_bytes()))
    }

    fn device_path(self, id: &str) -> Option<String> {
        match self {
            Self::TailscaleV2 => Some(tailscale::device_path(id)),
            Self::HeadscaleV1 => headscale::device_path(id),
        }
    }
}

/// Percent-encodes all but the unreserved letters.
pub(crate) fn segment(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests;
