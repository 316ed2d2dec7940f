//! Documents exchanged with a control server, as JSON bodies of HTTP/2 requests inside the Noise connection.
//!
//! Names and meanings are those of the Go package `tailcfg`. Only members that something of ours reads or writes are
//! declared; others are skipped on input.

mod delta;
mod derp;
mod dns;
mod filter;
mod hostinfo;
mod map;
mod node;
mod ping;
mod register;
mod services;
mod set_dns;
mod user;

use std::collections::BTreeMap;

pub use derp::{DerpHomeParams, DerpMap, DerpNode, DerpRegion};
pub use dns::{DnsConfig, DnsRecord, Resolver};
pub use filter::{CapGrant, FilterRule, NetPortRange, PortRange};
pub use hostinfo::{Hostinfo, NetInfo, PeerService};
pub use map::{ClientVersion, Debug, DisplayMessage, MapRequest, MapResponse};
pub use node::{Node, PeerChange};
pub use ping::{PingRequest, PingResponse};
pub use register::{EarlyNoise, RegisterAuth, RegisterRequest, RegisterResponse, ServerKeys};
pub use services::{C2nVipServices, SERVICE_HOST, VipService};
pub use set_dns::SetDnsRequest;
pub use user::{Login, User, UserProfile};

/// A client's capability version: a number that grows with every change of the protocol a client understands.
pub type CapabilityVersion = u32;

/// A node's number, unique within a control server, never 0 and never used again.
pub type NodeId = i64;

/// A user's number.
pub type UserId = i64;

/// Capabilities by name, each with its arguments in JSON. `null` and no arguments mean the same.
pub type CapMap = BTreeMap<String, Option<Vec<serde_json::Value>>>;

#[cfg(test)]
mod tests;
