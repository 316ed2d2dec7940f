//! Finds out what a tailnet speaks.

use super::{Asked, Client};
use crate::{credentials::Grant, dialect::Dialect, error::Error, observer::Call};

/// What API keys of Tailscale begin with, which are of use nowhere else.
const KEY_OF_TAILSCALE: &str = "tskey-";

impl Client {
    /// What the server speaks.
    pub(super) async fn dialect(&self, asked: &Asked) -> Result<Dialect, Error> {
        self.dialect.get_or_try_init(|| self.detect(asked)).await.copied()
    }

    async fn detect(&self, asked: &Asked) -> Result<Dialect, Error> {
        let grant = self
            .credentials
            .read()
            .map_err(|cause| asked.without_credentials(cause))?;
        let dialect = match grant {
            // Version 1 of Headscale's API has no OAuth clients.
            Grant::Client { .. } => Dialect::TailscaleV2,
            Grant::Key(key) if key.expose().starts_with(KEY_OF_TAILSCALE) => Dialect::TailscaleV2,
            Grant::Key(_) => self.detect_with_key(asked).await?,
        };
        tracing::debug!(?dialect, "the tailnet's management API is known");
        Ok(dialect)
    }

    /// Asks for the list of keys in both languages. A server may refuse the key in the one that it does not speak.
    async fn detect_with_key(&self, asked: &Asked) -> Result<Dialect, Error> {
        let asked = Asked::new(Call::Detect, asked.action.clone());
        let first = match self.request(&asked, &Dialect::TailscaleV2.list_keys()).await {
            Ok(_) | Err(Error::Forbidden { .. }) => return Ok(Dialect::TailscaleV2),
            Err(error @ (Error::NotFound { .. } | Error::Unauthorized { .. })) => error,
            Err(error) => return Err(error),
        };
        match self.request(&asked, &Dialect::HeadscaleV1.list_keys()).await {
            Ok(_) => Ok(Dialect::HeadscaleV1),
            Err(Error::NotFound { action }) if matches!(first, Error::NotFound { .. }) => Err(Error::NoApi { action }),
            Err(Error::NotFound { .. }) => Err(first),
            Err(error) => Err(error),
        }
    }
}
