//! A tailnet in one process, for demos and tests: a control server that foreign clients join, and the management API.
//!
//! It is not a production control server: there is no interactive login, no transport encryption of its own for the API, and everything is kept in memory and one file.
//!
//! Inside, `state` is pure: nodes, keys and maps, with time and secrets passed in. Around it, `shared` makes a change
//! durable before anybody learns of it, `outer` is the plain HTTP listener, `machine` what clients ask inside their
//! Noise connection, `api` the management API, `relay` a relay for nodes without a direct path, and `acme` answers authorities that check who
//! holds a name.

mod acme;
mod api;
mod asks;
mod config;
mod credentials;
#[doc(hidden)]
pub mod fuzzing;
mod hosts;
mod machine;
mod map_stream;
mod noise;
mod outer;
mod policy;
mod probes;
mod relay;
mod server;
mod shared;
mod state;
mod store;

pub use acme::DnsError;
pub use asks::{Answer, AskError};
pub use config::{Config, DerpMapError, OauthClientConfig, parse_derp_map, unreachable_derp_map};
pub use credentials::generate_oauth_client;
pub use policy::PolicyError;
pub use relay::RelayError;
pub use server::{StartError, Tailbox};
pub use shared::CommitError;
pub use state::{Attribute, AuthKey, AuthKeySpec, Edit, EditError, Node, ServiceError, ServiceSpec};
pub use store::StoreError;
