//! What the management API of the tailnet says and does.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{Tailnet, text};

/// The tag of devices that join with a key from [`Tailnet::auth_key`].
const TAG: &str = "tag:k8s";

/// A request to the API.
#[derive(Clone, Copy)]
enum Request<'a> {
    Get,
    Post(&'a str),
    Delete,
}

impl Tailnet {
    /// A new auth key for devices.
    ///
    /// # Errors
    /// When the API refuses.
    pub fn auth_key(&self) -> Result<String> {
        let devices = json!({"create": {"reusable": true, "ephemeral": false, "preauthorized": true, "tags": [TAG]}});
        let body = json!({"capabilities": {"devices": devices}, "expirySeconds": 3600}).to_string();
        let answer = self.call("/api/v2/tailnet/-/keys", Request::Post(&body))?;
        text(&answer, "key")
    }

    /// Revokes an auth key.
    ///
    /// # Errors
    /// When the API refuses.
    pub fn revoke_auth_key(&self, id: &str) -> Result<()> {
        self.call(&format!("/api/v2/tailnet/-/keys/{id}"), Request::Delete)
            .map(drop)
    }

    /// Removes a device from the tailnet by its id, as an administrator would.
    ///
    /// # Errors
    /// When the API refuses.
    pub fn delete_device(&self, id: &str) -> Result<()> {
        self.call(&format!("/api/v2/device/{id}"), Request::Delete).map(drop)
    }

    /// The devices of the tailnet, as the API lists them.
    ///
    /// # Errors
    /// When the API refuses.
    pub fn devices(&self) -> Result<Vec<Value>> {
        let answer = self.call("/api/v2/tailnet/-/devices", Request::Get)?;
        Ok(answer["devices"].as_array().cloned().unwrap_or_default())
    }

    /// The IPv4 address of the device with this host name; nothing while there is none.
    ///
    /// # Errors
    /// When the API refuses.
    pub fn address_of(&self, hostname: &str) -> Result<Option<String>> {
        self.find_address(hostname, |address| !address.contains(':'))
    }

    /// The IPv6 address of the device with this host name; nothing while there is none.
    ///
    /// # Errors
    /// When the API refuses.
    pub fn ipv6_address_of(&self, hostname: &str) -> Result<Option<String>> {
        self.find_address(hostname, |address| address.contains(':'))
    }

    /// The full name of the device with this host name; nothing while there is none.
    ///
    /// # Errors
    /// When the API refuses.
    pub fn name_of(&self, hostname: &str) -> Result<Option<String>> {
        let device = self.device(hostname)?;
        Ok(device.and_then(|device| device["name"].as_str().map(str::to_owned)))
    }

    /// The ids of the devices with this host name: one, unless something went wrong.
    ///
    /// # Errors
    /// When the API refuses.
    pub fn ids_of(&self, hostname: &str) -> Result<Vec<String>> {
        let devices = self.devices()?;
        let same = devices.iter().filter(|device| device["hostname"] == hostname);
        same.map(|device| text(device, "nodeId")).collect()
    }

    fn device(&self, hostname: &str) -> Result<Option<Value>> {
        let devices = self.devices()?;
        Ok(devices.into_iter().find(|device| device["hostname"] == hostname))
    }

    fn find_address(&self, hostname: &str, fits: impl Fn(&str) -> bool) -> Result<Option<String>> {
        let device = self.device(hostname)?;
        let addresses = device.as_ref().and_then(|device| device["addresses"].as_array());
        let found = addresses
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .find(|address| fits(address));
        Ok(found.map(str::to_owned))
    }

    /// Sends a request to the API with a token of the OAuth client.
    fn call(&self, path: &str, what: Request<'_>) -> Result<Value> {
        let form = [
            ("client_id", self.client_id.as_str()),
            ("client_secret", &self.client_secret),
            ("grant_type", "client_credentials"),
        ];
        let (base, authorization) = (self.login_server(), "authorization");
        let request = || -> Result<Value> {
            let mut answer = ureq::post(format!("{base}/api/v2/oauth/token"))
                .send_form(form)
                .context("ask for a token")?;
            let token = text(
                &answer.body_mut().read_json::<Value>().context("understand the token")?,
                "access_token",
            )?;
            let bearer = format!("Bearer {token}");
            let url = format!("{base}{path}");
            let sent = match what {
                Request::Post(body) => ureq::post(&url)
                    .header(authorization, &bearer)
                    .content_type("application/json")
                    .send(body),
                Request::Get => ureq::get(&url).header(authorization, &bearer).call(),
                Request::Delete => ureq::delete(&url).header(authorization, &bearer).call(),
            };
            let mut answer = sent.with_context(|| format!("ask the API for {path}"))?;
            if matches!(what, Request::Delete) {
                return Ok(Value::Null);
            }
            answer
                .body_mut()
                .read_json()
                .with_context(|| format!("understand the API's answer to {path}"))
        };
        self.host.namespace.enter(request)
    }
}
