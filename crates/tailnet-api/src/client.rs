//! The calls.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::Full;
use isthmus_runtime::Secret;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;

use crate::{
    credentials::Credentials,
    error::Error,
    http::{Answer, BaseUrlError, Server},
    pace::Pace,
    token::Token,
    types::{
        AuthKeyRequest, CreateKeyBody, CreatedKey, Device, DeviceList, ErrorBody, Key, KeyList, NewAuthKey, TagsBody,
        TokenAnswer,
    },
};

/// One request per this long, once the burst is used up.
const INTERVAL: Duration = Duration::from_millis(100);
/// Requests that pass at once.
const BURST: u32 = 20;
/// Letters of a server's message that are kept.
const MESSAGE_LIMIT: usize = 300;

/// Where the API is and who asks.
#[derive(Debug, Clone)]
pub struct Config {
    /// `http://` or `https://`, an IP address, and a port if it is not the usual one.
    pub base_url: String,
    /// The OAuth client.
    pub credentials: Credentials,
    /// Sent as `User-Agent`.
    pub user_agent: String,
    /// How long one request may take.
    pub timeout: Duration,
    /// TLS settings; see [`client_config`](crate::client_config).
    pub tls: Arc<rustls::ClientConfig>,
}

/// A client of one tailnet. Calls may run at the same time; together they keep to a rate.
pub struct Client {
    server: Server,
    credentials: Credentials,
    user_agent: String,
    token: Mutex<Option<Token>>,
    pace: Mutex<Pace>,
}

impl Client {
    /// A client that has not talked to anybody yet.
    ///
    /// # Errors
    /// When the base URL is no HTTP URL, or names its host.
    pub fn new(config: Config) -> Result<Self, BaseUrlError> {
        Ok(Self {
            server: Server::new(&config.base_url, config.tls, config.timeout)?,
            credentials: config.credentials,
            user_agent: config.user_agent,
            token: Mutex::new(None),
            pace: Mutex::new(Pace::new(INTERVAL, BURST)),
        })
    }

    /// Makes an auth key for one device.
    pub async fn create_auth_key(&self, request: &AuthKeyRequest) -> Result<NewAuthKey, Error> {
        let action = "create an auth key";
        let body = serde_json::to_vec(&CreateKeyBody::from(request)).map_err(|cause| Error::Answer {
            action: action.to_owned(),
            cause,
        })?;
        let created: CreatedKey = self
            .call(action, &Method::POST, "/api/v2/tailnet/-/keys", body.into())
            .await?;
        Ok(NewAuthKey {
            id: created.id,
            key: Secret::new(created.key),
        })
    }

    /// Every key the OAuth client may see.
    pub async fn list_keys(&self) -> Result<Vec<Key>, Error> {
        let list: KeyList = self
            .call("list keys", &Method::GET, "/api/v2/tailnet/-/keys", Bytes::new())
            .await?;
        Ok(list.keys)
    }

    /// Revokes a key.
    pub async fn delete_key(&self, id: &str) -> Result<(), Error> {
        let path = format!("/api/v2/tailnet/-/keys/{}", segment(id));
        self.request(&format!("revoke key {id}"), &Method::DELETE, &path, Bytes::new())
            .await
            .map(drop)
    }

    /// Every device of the tailnet.
    pub async fn list_devices(&self) -> Result<Vec<Device>, Error> {
        let path = "/api/v2/tailnet/-/devices";
        let list: DeviceList = self.call("list devices", &Method::GET, path, Bytes::new()).await?;
        Ok(list.devices)
    }

    /// One device by its stable id.
    pub async fn get_device(&self, id: &str) -> Result<Device, Error> {
        let path = format!("/api/v2/device/{}", segment(id));
        self.call(&format!("get device {id}"), &Method::GET, &path, Bytes::new())
            .await
    }

    /// Removes a device by its stable id.
    pub async fn delete_device(&self, id: &str) -> Result<(), Error> {
        let path = format!("/api/v2/device/{}", segment(id));
        self.request(&format!("delete device {id}"), &Method::DELETE, &path, Bytes::new())
            .await
            .map(drop)
    }

    /// Gives a device, by its stable id, exactly these tags.
    pub async fn set_device_tags(&self, id: &str, tags: &[String]) -> Result<(), Error> {
        let action = format!("set the tags of device {id}");
        let body = serde_json::to_vec(&TagsBody { tags }).map_err(|cause| Error::Answer {
            action: action.clone(),
            cause,
        })?;
        let path = format!("/api/v2/device/{}/tags", segment(id));
        self.request(&action, &Method::POST, &path, body.into()).await.map(drop)
    }

    async fn call<T: DeserializeOwned>(
        &self,
        action: &str,
        method: &Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, Error> {
        let answer = self.request(action, method, path, body).await?;
        serde_json::from_slice(&answer.body).map_err(|cause| Error::Answer {
            action: action.to_owned(),
            cause,
        })
    }

    /// Sends with a token, and once more with a new one when the old was not accepted.
    async fn request(&self, action: &str, method: &Method, path: &str, body: Bytes) -> Result<Answer, Error> {
        let token = self.token(action).await?;
        match self.send_with(action, &token, method, path, body.clone()).await {
            Err(Error::Unauthorized { .. }) => {
                self.forget(&token).await;
                let token = self.token(action).await?;
                self.send_with(action, &token, method, path, body).await
            }
            other => other,
        }
    }

    async fn send_with(
        &self,
        action: &str,
        token: &Secret,
        method: &Method,
        path: &str,
        body: Bytes,
    ) -> Result<Answer, Error> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::AUTHORIZATION, format!("Bearer {}", token.expose()))
            .header(header::CONTENT_TYPE, "application/json");
        self.exchange(action, request, body).await
    }

    async fn token(&self, action: &str) -> Result<Secret, Error> {
        let mut kept = self.token.lock().await;
        if let Some(token) = kept.as_ref().filter(|token| token.is_good(Instant::now())) {
            return Ok(token.secret.clone());
        }
        let token = self.fetch_token(action).await?;
        let secret = token.secret.clone();
        *kept = Some(token);
        Ok(secret)
    }

    async fn forget(&self, refused: &Secret) {
        let mut kept = self.token.lock().await;
        if kept.as_ref().is_some_and(|token| token.secret == *refused) {
            *kept = None;
        }
    }

    async fn fetch_token(&self, action: &str) -> Result<Token, Error> {
        let (client_id, client_secret) = self.credentials.read().map_err(|cause| Error::Credentials {
            action: action.to_owned(),
            cause,
        })?;
        let form = format!(
            "grant_type=client_credentials&client_id={}&client_secret={}",
            segment(&client_id),
            segment(client_secret.expose())
        );
        let request = Request::builder()
            .method(Method::POST)
            .uri("/api/v2/oauth/token")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        let now = Instant::now();
        let answer = self
            .exchange(action, request, form.into())
            .await
            .map_err(refused_credentials)?;
        let token: TokenAnswer = serde_json::from_slice(&answer.body).map_err(|cause| Error::Answer {
            action: action.to_owned(),
            cause,
        })?;
        tracing::debug!("got an OAuth token");
        Ok(Token::new(Secret::new(token.access_token), token.expires_in, now))
    }

    async fn exchange(&self, action: &str, request: http::request::Builder, body: Bytes) -> Result<Answer, Error> {
        let request = request
            .header(header::USER_AGENT, &self.user_agent)
            .body(Full::new(body))
            .map_err(|cause| self.server.refuse(action, cause))?;
        let pause = self.pace.lock().await.reserve(Instant::now());
        tokio::time::sleep(pause).await;
        let answer = self.server.send(request).await.map_err(|cause| Error::Transport {
            action: action.to_owned(),
            cause,
        })?;
        if answer.status.is_success() {
            Ok(answer)
        } else {
            Err(failure(action, &answer))
        }
    }
}

impl Server {
    fn refuse(&self, action: &str, cause: http::Error) -> Error {
        Error::Transport {
            action: action.to_owned(),
            cause: self.broken(cause),
        }
    }
}

fn failure(action: &str, answer: &Answer) -> Error {
    let action = action.to_owned();
    let message = message_of(&answer.body);
    match answer.status {
        StatusCode::NOT_FOUND => Error::NotFound { action },
        StatusCode::UNAUTHORIZED => Error::Unauthorized { action, message },
        StatusCode::FORBIDDEN => Error::Forbidden { action, message },
        StatusCode::TOO_MANY_REQUESTS => Error::RateLimited {
            action,
            retry_after: retry_after(&answer.headers),
        },
        status if status.is_server_error() => Error::Server {
            action,
            status,
            message,
        },
        status => Error::Refused {
            action,
            status,
            message,
        },
    }
}

/// OAuth answers 400 to credentials it does not accept.
fn refused_credentials(error: Error) -> Error {
    if let Error::Refused {
        action,
        status: StatusCode::BAD_REQUEST,
        message,
    } = error
    {
        Error::Unauthorized { action, message }
    } else {
        error
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers
        .get(header::RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()
        .map(Duration::from_secs)
}

/// The server's words in one line, cut, without what is not meant for people.
fn message_of(body: &[u8]) -> String {
    let parsed: ErrorBody = serde_json::from_slice(body).unwrap_or_default();
    let text = parsed.message.or(parsed.error_description).or(parsed.error);
    let text = text.unwrap_or_else(|| String::from_utf8_lossy(body).into_owned());
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.is_empty() {
        "no message".to_owned()
    } else {
        line.chars().take(MESSAGE_LIMIT).collect()
    }
}

/// Percent-encodes all but the unreserved letters.
fn segment(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests;
