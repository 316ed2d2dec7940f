//! Requests to the API server, counted in its audit log.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom};
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::Value;

/// A place in the audit log.
pub(super) struct Audit {
    log: PathBuf,
    from: u64,
}

/// Requests by kind of client. Watches that merely stay open are not counted, nor the background of the control plane:
/// leases, and requests about nothing in the namespaces of users and operator.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(transparent)]
pub(super) struct Requests(BTreeMap<&'static str, u32>);

impl Audit {
    /// Counts from here on.
    pub(super) fn begin(log: PathBuf) -> Result<Self> {
        let from = log.metadata().context("look at the audit log")?.len();
        Ok(Self { log, from })
    }

    /// What has been asked since.
    pub(super) fn end(&self) -> Result<Requests> {
        let mut file = File::open(&self.log).context("open the audit log")?;
        // A log that was rotated since begins anew.
        let from = if file.metadata()?.len() < self.from {
            0
        } else {
            self.from
        };
        file.seek(SeekFrom::Start(from))
            .context("find the place in the audit log")?;
        let mut requests = Requests::default();
        for line in BufReader::new(file).lines() {
            if let Ok(event) = serde_json::from_str::<Value>(&line.context("read the audit log")?) {
                requests.count(&event);
            }
        }
        Ok(requests)
    }
}

impl Requests {
    /// All of them.
    pub(super) fn total(&self) -> f64 {
        self.0.values().copied().map(f64::from).sum()
    }

    fn count(&mut self, event: &Value) {
        let namespace = event["objectRef"]["namespace"].as_str().unwrap_or_default();
        let resource = event["objectRef"]["resource"].as_str().unwrap_or_default();
        let finished = event["stage"] == "ResponseComplete" && event["verb"] != "watch";
        if finished && ["default", "isthmus"].contains(&namespace) && resource != "leases" {
            let user = event["user"]["username"].as_str().unwrap_or_default();
            *self.0.entry(client(user)).or_default() += 1;
        }
    }
}

/// The kind of client a user of the API server is.
fn client(user: &str) -> &'static str {
    match user {
        "system:serviceaccount:isthmus:operator" => "operator",
        _ if user.starts_with("system:serviceaccount:isthmus:") => "proxies",
        _ if user.starts_with("system:serviceaccount:kube-system:") => "controllers",
        _ if user.starts_with("system:node:") => "kubelets",
        _ if user.starts_with("system:kube-") => "control plane",
        _ => "administrator",
    }
}

impl fmt::Display for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "requests")?;
        for (client, count) in &self.0 {
            write!(f, " {client} {count}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Requests;

    #[test]
    fn requests_are_counted_by_who_made_them_and_background_is_not() {
        let event = |user: &str, verb: &str, resource: &str, namespace: &str| {
            json!({"stage": "ResponseComplete", "verb": verb, "user": {"username": user},
                "objectRef": {"resource": resource, "namespace": namespace}})
        };
        let mut requests = Requests::default();
        for event in [
            event("system:serviceaccount:isthmus:operator", "patch", "secrets", "isthmus"),
            event("system:serviceaccount:isthmus:operator", "update", "leases", "isthmus"),
            event("system:serviceaccount:isthmus:operator", "watch", "services", "default"),
            event(
                "system:serviceaccount:isthmus:ts-web-b2c4d",
                "patch",
                "secrets",
                "isthmus",
            ),
            event("system:node:n1", "get", "pods", "kube-system"),
        ] {
            requests.count(&event);
        }
        assert_eq!(requests.to_string(), "requests operator 1 proxies 1");
    }
}
