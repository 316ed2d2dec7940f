//! A client of the API server for the few questions that starting it needs.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use ureq::Agent;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig, TlsProvider};

/// The administrator's connection to one API server.
pub(crate) struct ApiClient {
    agent: Agent,
    url: String,
}

impl ApiClient {
    /// A client with the administrator's certificate from this folder.
    pub(crate) fn new(pki: &Path, url: &str) -> Result<Self> {
        let read = |file: &str| fs::read(pki.join(file)).with_context(|| format!("read {}", pki.join(file).display()));
        let authority = Certificate::from_pem(&read("ca.crt")?).context("understand ca.crt")?;
        let certificate = Certificate::from_pem(&read("admin.crt")?).context("understand admin.crt")?;
        let key = PrivateKey::from_pem(&read("admin.key")?).context("understand admin.key")?;
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .root_certs(RootCerts::new_with_certs(&[authority]))
            .client_cert(Some(ClientCert::new_with_certs(&[certificate], key)))
            .build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .timeout_global(Some(Duration::from_secs(5)))
            .proxy(None)
            .build();
        Ok(Self {
            agent: config.new_agent(),
            url: url.to_owned(),
        })
    }

    /// Whether the API server says that it is ready, which includes its first roles and bindings.
    pub(crate) fn is_ready(&self) -> bool {
        self.agent.get(format!("{}/readyz", self.url)).call().is_ok()
    }

    /// How many nodes are ready.
    pub(crate) fn count_ready_nodes(&self) -> usize {
        self.get("/api/v1/nodes").map_or(0, |nodes| count_ready(&nodes))
    }

    fn get(&self, path: &str) -> Result<Value> {
        let mut response = self
            .agent
            .get(format!("{}{path}", self.url))
            .call()
            .with_context(|| format!("ask for {path}"))?;
        response
            .body_mut()
            .read_json()
            .with_context(|| format!("understand the answer to {path}"))
    }
}

fn count_ready(nodes: &Value) -> usize {
    let items = nodes["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    items
        .iter()
        .filter(|node| {
            let conditions = node["status"]["conditions"]
                .as_array()
                .map(Vec::as_slice)
                .unwrap_or_default();
            conditions
                .iter()
                .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
        })
        .count()
}
