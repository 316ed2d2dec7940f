//! A client of the management API of a tailnet: auth keys and devices, by version 2 of the Tailscale API with an OAuth client or an API
//! key, or by version 1 of Headscale's API with an API key. [`Client::send`] asks for anything else in the words of the former.
//!
//! Requests are few and small, so every request has a connection of its own: nothing idles, and a server that moved is
//! found again. Host names are not resolved here: the base URL carries an IP address. A call is not repeated; the caller
//! knows what can wait, and [`Error::class`] tells it what kind of answer it got. All calls together keep to one rate,
//! leave the server alone for as long as it asks, and ask a server that fails again and again less and less.

mod client;
mod credentials;
mod dialect;
mod error;
pub mod fuzzing;
mod http;
mod observer;
mod pace;
mod tls;
mod token;
mod types;

pub use ::http::Method;
pub use client::{Client, Config, Custom, Reply};
pub use credentials::{Credentials, CredentialsError};
pub use dialect::Dialect;
pub use error::{Class, Error};
pub use http::{BaseUrlError, TransportError};
pub use observer::{Call, Observer};
pub use tls::{RootsError, client_config};
pub use types::{AuthKeyRequest, Device, Key, NewAuthKey};
