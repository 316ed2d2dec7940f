//! A tailnet in one process, for demos and tests: a control server that foreign clients join, and the management API.
//!
//! It is not a production control server: there is no interactive login, no transport encryption of its own for the API, and everything is kept in memory and one file.
//!
//! Inside, `state` is pure: nodes, keys and maps, with time and secrets passed in. Around it, `shared` makes a change
//! durable before anybody learns of it, `outer` is the plain HTTP listener, `machine` what clients ask inside their
//! Noise connection, `api` the management API, and `relay` a relay for nodes without a direct path.

mod api;
mod config;
mod credentials;
mod machine;
mod map_stream;
mod noise;
mod outer;
mod policy;
mod relay;
mod server;
mod shared;
mod state;
mod store;

pub use config::{Config, DerpMapError, OauthClientConfig, parse_derp_map, unreachable_derp_map};
pub use credentials::generate_oauth_client;
pub use policy::PolicyError;
pub use relay::RelayError;
pub use server::{StartError, Tailbox};
pub use shared::CommitError;
pub use state::{AuthKey, AuthKeySpec, Edit, EditError, Node};
pub use store::StoreError;
