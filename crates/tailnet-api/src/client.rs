//! The calls.

pub(crate) mod answer;
mod custom;
mod detect;

use std::{
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::Full;
use isthmus_runtime::Secret;
use jiff::Timestamp;
use tokio::sync::{Mutex, OnceCell};

use crate::{
    credentials::{Credentials, CredentialsError, Grant},
    dialect::{Dialect, Said, segment},
    error::{self, Error},
    http::{Answer, BaseUrlError, Server, TransportError},
    observer::{Call, Observer},
    pace::{NotNow, Pace, Why},
    token::{Kept, Token},
    types::{AuthKeyRequest, Device, Key, NewAuthKey, TokenAnswer},
};

pub use custom::{Custom, Reply};

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
    /// What the server speaks, once that is known.
    dialect: OnceCell<Dialect>,
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
            dialect: OnceCell::new(),
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

    /// The same client for a tailnet whose language is known. Otherwise OAuth clients and keys of Tailscale mean version 2 of its API, and
    /// with any other API key the first call finds out.
    #[must_use]
    pub fn speaking(self, dialect: Dialect) -> Self {
        Self {
            dialect: OnceCell::new_with(Some(dialect)),
            ..self
        }
    }

    /// Makes an auth key for one device.
    pub async fn create_auth_key(&self, request: &AuthKeyRequest) -> Result<NewAuthKey, Error> {
        let asked = Asked::new(
            Call::CreateKey,
            format!("create an auth key with {}", request.tags.join(", ")),
        );
        let dialect = self.dialect(&asked).await?;
        let said = dialect.create_key(request, Timestamp::now());
        let said = said.map_err(|cause| asked.unreadable(cause))?;
        let answer = self.request(&asked, &said).await?;
        dialect
            .created_key(&answer.body)
            .map_err(|cause| asked.unreadable(cause))
    }

    /// Every key the credentials may see.
    pub async fn list_keys(&self) -> Result<Vec<Key>, Error> {
        let asked = Asked::new(Call::ListKeys, "list keys");
        let dialect = self.dialect(&asked).await?;
        let answer = self.request(&asked, &dialect.list_keys()).await?;
        dialect.keys(&answer.body).map_err(|cause| asked.unreadable(cause))
    }

    /// Revokes a key.
    pub async fn delete_key(&self, id: &str) -> Result<(), Error> {
        let asked = Asked::new(Call::DeleteKey, format!("revoke key {id}"));
        let said = self.dialect(&asked).await?.delete_key(id);
        self.request_about(&asked, said).await.map(drop)
    }

    /// Every device of the tailnet.
    pub async fn list_devices(&self) -> Result<Vec<Device>, Error> {
        let asked = Asked::new(Call::ListDevices, "list devices");
        let dialect = self.dialect(&asked).await?;
        let answer = self.request(&asked, &dialect.list_devices()).await?;
        dialect.devices(&answer.body).map_err(|cause| asked.unreadable(cause))
    }

    /// One device by its stable id.
    pub async fn get_device(&self, id: &str) -> Result<Device, Error> {
        let asked = Asked::new(Call::GetDevice, format!("get device {id}"));
        let dialect = self.dialect(&asked).await?;
        let answer = self.request_about(&asked, dialect.get_device(id)).await?;
        dialect.device(&answer.body).map_err(|cause| asked.unreadable(cause))
    }

    /// Removes a device by its stable id.
    pub async fn delete_device(&self, id: &str) -> Result<(), Error> {
        let asked = Asked::new(Call::DeleteDevice, format!("delete device {id}"));
        let said = self.dialect(&asked).await?.delete_device(id);
        self.request_about(&asked, said).await.map(drop)
    }

    /// Gives a device, by its stable id, exactly these tags.
    pub async fn set_device_tags(&self, id: &str, tags: &[String]) -> Result<(), Error> {
        let asked = Asked::new(Call::SetTags, format!("set the tags of device {id}"));
        let said = self.dialect(&asked).await?.set_tags(id, tags);
        self.request_about(&asked, said).await.map(drop)
    }

    /// Asks about one thing, unless its id shows that the tailnet cannot have it.
    async fn request_about(&self, asked: &Asked, said: Option<Said>) -> Result<Answer, Error> {
        let action = asked.action.clone();
        let said = said.ok_or(Error::NotFound { action })?;
        self.request(asked, &said).await
    }

    /// Sends with a token, and once more with a new one when the old was not accepted.
    async fn request(&self, asked: &Asked, said: &Said) -> Result<Answer, Error> {
        let token = self.token(asked).await?;
        let refused = match self.send_with(asked, &token, said).await {
            Err(error @ Error::Unauthorized { .. }) => error,
            other => return other,
        };
        self.kept.lock().await.forget(&token);
        let other = self.token(asked).await?;
        if other == token {
            // An API key is as good as it was.
            return Err(refused);
        }
        self.send_with(asked, &other, said).await
    }

    async fn send_with(&self, asked: &Asked, token: &Secret, said: &Said) -> Result<Answer, Error> {
        let request = Request::builder()
            .method(&said.method)
            .uri(&said.path)
            .header(header::AUTHORIZATION, format!("Bearer {}", token.expose()))
            .header(header::CONTENT_TYPE, "application/json");
        let request = match &said.if_match {
            Some(etag) => request.header(header::IF_MATCH, etag),
            None => request,
        };
        self.exchange(asked, request, said.body.clone()).await
    }

    /// What goes with a request: the API key, or a token for the OAuth client as it is now.
    async fn token(&self, asked: &Asked) -> Result<Secret, Error> {
        let grant = self
            .credentials
            .read()
            .map_err(|cause| asked.without_credentials(cause))?;
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

    fn without_credentials(&self, cause: CredentialsError) -> Error {
        Error::Credentials {
            action: self.action.clone(),
            cause,
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

#[cfg(test)]
mod tests;
