//! The calls.

mod answer;

use std::{
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::Full;
use isthmus_runtime::Secret;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;

use crate::{
    credentials::{Credentials, Grant},
    error::{self, Error},
    http::{Answer, BaseUrlError, Server, TransportError},
    observer::{Call, Observer},
    pace::{NotNow, Pace, Why},
    token::{Kept, Token},
    types::{
        AuthKeyRequest, CreateKeyBody, CreatedKey, Device, DeviceList, Key, KeyList, NewAuthKey, TagsBody, TokenAnswer,
    },
};

/// One request per this long, once the burst is used up.
const INTERVAL: Duration = Duration::from_millis(100);
/// Requests that pass at once.
const BURST: u32 = 20;
/// The rest when the server asks for one without saying how long.
const REST: Duration = Duration::from_secs(10);
/// The longest rest that a server is given; some ask for days.
const LONGEST_REST: Duration = Duration::from_mins(10);

/// Where the API is and who asks.
#[derive(Debug, Clone)]
pub struct Config {
    /// `http://` or `https://`, an IP address, and a port if it is not the usual one.
    pub base_url: String,
    /// What the tailnet is shown.
    pub credentials: Credentials,
    /// Sent as `User-Agent`.
    pub user_agent: String,
    /// How long one request may take.
    pub timeout: Duration,
    /// TLS settings; see [`client_config`](crate::client_config).
    pub tls: Arc<rustls::ClientConfig>,
}

/// A client of one tailnet. Calls may run at the same time; together they keep to a rate, and to the rests that the
/// server asks for.
pub struct Client {
    server: Server,
    credentials: Credentials,
    user_agent: String,
    kept: Mutex<Kept>,
    pace: std::sync::Mutex<Pace>,
    observer: Option<Arc<dyn Observer>>,
}

/// One call: its kind, and in words what is attempted with which object.
struct Asked {
    call: Call,
    action: String,
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
            kept: Mutex::default(),
            pace: std::sync::Mutex::new(Pace::new(INTERVAL, BURST)),
            observer: None,
        })
    }

    /// The same client, with somebody who hears of every request.
    #[must_use]
    pub fn observed_by(self, observer: Arc<dyn Observer>) -> Self {
        Self {
            observer: Some(observer),
            ..self
        }
    }

    /// Makes an auth key for one device.
    pub async fn create_auth_key(&self, request: &AuthKeyRequest) -> Result<NewAuthKey, Error> {
        let asked = Asked {
            call: Call::CreateKey,
            action: format!("create an auth key with {}", request.tags.join(", ")),
        };
        let body = serde_json::to_vec(&CreateKeyBody::from(request)).map_err(|cause| asked.unreadable(cause))?;
        let path = "/api/v2/tailnet/-/keys";
        let created: CreatedKey = self.call(&asked, &Method::POST, path, body.into()).await?;
        Ok(NewAuthKey {
            id: created.id,
            key: Secret::new(created.key),
        })
    }

    /// Every key the credentials may see.
    pub async fn list_keys(&self) -> Result<Vec<Key>, Error> {
        let asked = Asked::new(Call::ListKeys, "list keys");
        let path = "/api/v2/tailnet/-/keys";
        let list: KeyList = self.call(&asked, &Method::GET, path, Bytes::new()).await?;
        Ok(list.keys)
    }

    /// Revokes a key.
    pub async fn delete_key(&self, id: &str) -> Result<(), Error> {
        let asked = Asked::new(Call::DeleteKey, format!("revoke key {id}"));
        let path = format!("/api/v2/tailnet/-/keys/{}", segment(id));
        let answer = self.request(&asked, &Method::DELETE, &path, Bytes::new()).await;
        answer.map(drop)
    }

    /// Every device of the tailnet.
    pub async fn list_devices(&self) -> Result<Vec<Device>, Error> {
        let asked = Asked::new(Call::ListDevices, "list devices");
        let path = "/api/v2/tailnet/-/devices";
        let list: DeviceList = self.call(&asked, &Method::GET, path, Bytes::new()).await?;
        Ok(list.devices)
    }

    /// One device by its stable id.
    pub async fn get_device(&self, id: &str) -> Result<Device, Error> {
        let asked = Asked::new(Call::GetDevice, format!("get device {id}"));
        let path = format!("/api/v2/device/{}", segment(id));
        self.call(&asked, &Method::GET, &path, Bytes::new()).await
    }

    /// Removes a device by its stable id.
    pub async fn delete_device(&self, id: &str) -> Result<(), Error> {
        let asked = Asked::new(Call::DeleteDevice, format!("delete device {id}"));
        let path = format!("/api/v2/device/{}", segment(id));
        let answer = self.request(&asked, &Method::DELETE, &path, Bytes::new()).await;
        answer.map(drop)
    }

    /// Gives a device, by its stable id, exactly these tags.
    pub async fn set_device_tags(&self, id: &str, tags: &[String]) -> Result<(), Error> {
        let asked = Asked::new(Call::SetTags, format!("set the tags of device {id}"));
        let body = serde_json::to_vec(&TagsBody { tags }).map_err(|cause| asked.unreadable(cause))?;
        let path = format!("/api/v2/device/{}/tags", segment(id));
        let answer = self.request(&asked, &Method::POST, &path, body.into()).await;
        answer.map(drop)
    }

    async fn call<T: DeserializeOwned>(
        &self,
        asked: &Asked,
        method: &Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, Error> {
        let answer = self.request(asked, method, path, body).await?;
        serde_json::from_slice(&answer.body).map_err(|cause| asked.unreadable(cause))
    }

    /// Sends with a token, and once more with a new one when the old was not accepted.
    async fn request(&self, asked: &Asked, method: &Method, path: &str, body: Bytes) -> Result<Answer, Error> {
        let token = self.token(asked).await?;
        let refused = match self.send_with(asked, &token, method, path, body.clone()).await {
            Err(error @ Error::Unauthorized { .. }) => error,
            other => return other,
        };
        self.kept.lock().await.forget(&token);
        let other = self.token(asked).await?;
        if other == token {
            // An API key is as good as it was.
            return Err(refused);
        }
        self.send_with(asked, &other, method, path, body).await
    }

    async fn send_with(
        &self,
        asked: &Asked,
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
        self.exchange(asked, request, body).await
    }

    /// What goes with a request: the API key, or a token for the OAuth client as it is now.
    async fn token(&self, asked: &Asked) -> Result<Secret, Error> {
        let grant = self.credentials.read().map_err(|cause| Error::Credentials {
            action: asked.action.clone(),
            cause,
        })?;
        let (id, secret) = match &grant {
            Grant::Key(key) => return Ok(key.clone()),
            Grant::Client { id, secret } => (id, secret),
        };
        // Held while a token is fetched: everybody else waits for the same one.
        let mut kept = self.kept.lock().await;
        let now = Instant::now();
        if let Some(token) = kept.token(&grant, now) {
            return Ok(token);
        }
        if let Some(message) = kept.refusal(&grant, now) {
            let action = asked.action.clone();
            return Err(Error::Unauthorized { action, message });
        }
        match self.fetch_token(asked, id, secret).await {
            Ok(token) => {
                let text = token.secret.clone();
                kept.keep(grant, token);
                Ok(text)
            }
            Err(error) => {
                if let Error::Unauthorized { message, .. } = &error {
                    kept.refuse(grant, message.clone(), now);
                }
                Err(error)
            }
        }
    }

    async fn fetch_token(&self, asked: &Asked, id: &str, secret: &Secret) -> Result<Token, Error> {
        let form = format!(
            "grant_type=client_credentials&client_id={}&client_secret={}",
            segment(id),
            segment(secret.expose())
        );
        let request = Request::builder()
            .method(Method::POST)
            .uri("/api/v2/oauth/token")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        let now = Instant::now();
        let for_token = Asked::new(Call::Token, asked.action.clone());
        let answer = self
            .exchange(&for_token, request, form.into())
            .await
            .map_err(refused_credentials)?;
        let token: TokenAnswer = serde_json::from_slice(&answer.body).map_err(|cause| asked.unreadable(cause))?;
        tracing::debug!("got an OAuth token");
        Ok(Token::new(Secret::new(token.access_token), token.expires_in, now))
    }

    async fn exchange(&self, asked: &Asked, request: http::request::Builder, body: Bytes) -> Result<Answer, Error> {
        let request = request
            .header(header::USER_AGENT, &self.user_agent)
            .body(Full::new(body))
            .map_err(|cause| asked.unsent(self.server.broken(cause)))?;
        self.wait_for_turn(asked).await?;
        match self.server.send(request).await {
            Ok(answer) => {
                self.answered(asked.call, &answer);
                answer::judge(asked.action.clone(), answer)
            }
            Err(cause) => {
                self.observe(|observer| observer.asked(asked.call, None));
                self.with_pace(|pace| pace.failed(Instant::now(), error::silent(&cause)));
                Err(asked.unsent(cause))
            }
        }
    }

    async fn wait_for_turn(&self, asked: &Asked) -> Result<(), Error> {
        let turn = self.with_pace(|pace| pace.reserve(Instant::now()));
        let wait = turn.map_err(|refused| asked.turned_away(refused))?;
        if !wait.is_zero() {
            self.observe(|observer| observer.waits(wait));
            tokio::time::sleep(wait).await;
        }
        Ok(())
    }

    /// Notes what an answer says about the server.
    fn answered(&self, call: Call, answer: &Answer) {
        self.observe(|observer| observer.asked(call, Some(answer.status.as_u16())));
        let (now, status) = (Instant::now(), answer.status);
        let rest = answer::retry_after(&answer.headers).map(|rest| rest.min(LONGEST_REST));
        self.with_pace(|pace| {
            if status == StatusCode::TOO_MANY_REQUESTS {
                pace.limited(now, rest.unwrap_or(REST));
            } else if status.is_server_error() {
                pace.failed(now, error::failed_with(status, &answer::message_of(&answer.body)));
                if let Some(rest) = rest {
                    pace.limited(now, rest);
                }
            } else {
                pace.answered();
            }
        });
    }

    fn with_pace<T>(&self, use_it: impl FnOnce(&mut Pace) -> T) -> T {
        use_it(&mut self.pace.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn observe(&self, tell: impl FnOnce(&dyn Observer)) {
        if let Some(observer) = &self.observer {
            tell(observer.as_ref());
        }
    }
}

impl Asked {
    fn new(call: Call, action: impl Into<String>) -> Self {
        Self {
            call,
            action: action.into(),
        }
    }

    fn unreadable(&self, cause: serde_json::Error) -> Error {
        Error::Answer {
            action: self.action.clone(),
            cause,
        }
    }

    fn unsent(&self, cause: TransportError) -> Error {
        Error::Transport {
            action: self.action.clone(),
            cause,
        }
    }

    fn turned_away(&self, refused: NotNow) -> Error {
        let (action, retry_after) = (self.action.clone(), refused.wait);
        match refused.why {
            Why::Limited => Error::RateLimited {
                action,
                retry_after: Some(retry_after),
            },
            Why::Down(reason) => Error::Down {
                action,
                reason,
                retry_after,
            },
        }
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
