//! What a proxy has put in place: the key `isthmus-status.json` of its Secret, written by the proxy, read by the operator.
//!
//! ```json
//! {"version":1,"podUID":"6f0…","applied":{"version":1,"mode":{"egress":{"targetIP":"100.64.0.5"}}}}
//! {"version":1,"podUID":"6f0…","problem":"cannot replace the nftables table: grant NET_ADMIN to the container"}
//! ```
//! The proxy writes it after the rules of a config are in place, and again on every change of config or problem. The
//! operator calls a Service ready only when `podUID` is the live Pod's and `applied` equals the config it wrote.
//! Members a reader does not know are ignored; a version it does not know is an error.

use serde::{Deserialize, Serialize};

use crate::proxy_config::ProxyConfig;

/// The version of the document this crate writes and reads.
pub const VERSION: u32 = 1;

/// What one proxy has put in place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyStatus {
    version: u32,
    /// UID of the Pod that writes this.
    #[serde(rename = "podUID")]
    pub pod_uid: String,
    /// The config whose rules are in place. Absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<ProxyConfig>,
    /// Why the newest config is not in place: one line for the user, with the next step and without secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Which way the packets of each family take through the proxy. Empty until rules are in place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub carries: Vec<Carried>,
}

/// Which way one address family takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Carried {
    /// The family, at the target.
    pub family: Family,
    /// The way.
    pub path: Path,
}

/// An address family, as Services spell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Family {
    /// IPv4
    #[serde(rename = "IPv4")]
    V4,
    /// IPv6
    #[serde(rename = "IPv6")]
    V6,
}

/// A way through the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Path {
    /// The kernel forwards packets by the rules of the proxy.
    Kernel,
    /// The proxy copies between two sockets, where the kernel cannot forward.
    Relay,
}

impl ProxyStatus {
    /// The status of the Pod `pod_uid`: `applied` is in place, and `problem` stands against anything newer.
    pub fn new(pod_uid: impl Into<String>, applied: Option<ProxyConfig>, problem: Option<String>) -> Self {
        Self {
            version: VERSION,
            pod_uid: pod_uid.into(),
            applied,
            problem,
            carries: Vec::new(),
        }
    }

    /// The document as it stands in the Secret.
    pub fn render(&self) -> String {
        serde_json::to_string(self).expect("strings, addresses and numbers always serialise")
    }

    /// Reads the document.
    ///
    /// # Errors
    /// When the text is not JSON of this shape, or has another version.
    pub fn parse(text: &str) -> Result<Self, ParseProxyStatusError> {
        let status: Self = serde_json::from_str(text).map_err(ParseProxyStatusError::Shape)?;
        if status.version == VERSION {
            Ok(status)
        } else {
            Err(ParseProxyStatusError::Version(status.version))
        }
    }
}

/// The text is not a proxy status.
#[derive(Debug, thiserror::Error)]
pub enum ParseProxyStatusError {
    /// Not JSON of this shape.
    #[error("cannot read the proxy status in key `isthmus-status.json`")]
    Shape(#[source] serde_json::Error),
    /// Written by another release.
    #[error(
        "proxy status has version {0}, this operator reads version {VERSION}: use operator and proxy of one release"
    )]
    Version(u32),
}

#[cfg(test)]
mod tests;
