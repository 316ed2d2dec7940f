//! How a tailbox is set up.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use isthmus_runtime::Secret;
use isthmus_tailnet_wire::control::{DerpMap, DerpNode, DerpRegion, DnsRecord};

/// How a tailbox is set up. The default listens on a free port of the loopback address and keeps nothing.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen, for clients and API alike.
    pub listen: SocketAddr,
    /// DNS suffix of the tailnet, without dots at its ends.
    pub domain: String,
    /// The file to keep the state in; `None` forgets it at the end.
    pub state_file: Option<PathBuf>,
    /// The relays that clients are told. Go clients do not come up without a region: see [`unreachable_derp_map`].
    pub derp_map: DerpMap,
    /// Where to listen with a relay of its own (TLS on TCP, STUN on UDP), an address that nodes reach. It takes the place of
    /// [`unreachable_derp_map`] in the map, or stands beside the relays there. `None` has none.
    pub relay: Option<SocketAddr>,
    /// Where to answer the DNS questions of authorities that check who holds a name (UDP and TCP). With it, nodes may get
    /// certificates from the start; `None` has no such server.
    pub dns: Option<SocketAddr>,
    /// The policy as HuJSON; it takes the place of the one in the state. `None` leaves that one, and when there is none,
    /// everybody may reach everybody.
    pub policy: Option<String>,
    /// Whether nodes wait for approval, unless their auth key brings it. The API switches it as well; `false` leaves it as it is in the
    /// state.
    pub device_approval: bool,
    /// DNS records that nodes are told beside the names of nodes.
    pub extra_records: Vec<DnsRecord>,
    /// OAuth clients that exist from the start.
    pub oauth_clients: Vec<OauthClientConfig>,
    /// How long an access token lives.
    pub token_lifetime: Duration,
    /// How long an ephemeral node may be away before it is removed.
    pub ephemeral_grace: Duration,
    /// Time between looks whether nodes still answer that share a Service or a route with others. They have half of it to answer.
    pub probe_interval: Duration,
    /// Time between messages on an idle map stream. Go gives a stream up after 120 s of silence.
    pub keep_alive: Duration,
}

/// An OAuth client that exists from the start, with every scope.
#[derive(Clone, Debug)]
pub struct OauthClientConfig {
    /// Its id.
    pub id: String,
    /// Its secret.
    pub secret: Secret,
    /// The tags that its auth keys may give (`tag:…`).
    pub tags: BTreeSet<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            domain: "tail.internal".to_owned(),
            state_file: None,
            derp_map: unreachable_derp_map(),
            relay: None,
            dns: None,
            policy: None,
            device_approval: false,
            extra_records: Vec::new(),
            oauth_clients: Vec::new(),
            token_lifetime: Duration::from_hours(1),
            ephemeral_grace: Duration::from_mins(2),
            probe_interval: Duration::from_secs(10),
            keep_alive: Duration::from_secs(50),
        }
    }
}

/// A map with one region whose only relay does not exist: port 1 of the client's own loopback address.
///
/// A Go client becomes "Running" only when it has chosen a home region, and it falls back to any region of the map when
/// none answers. The relay must have an address that can be sent to: when not even the sending of a STUN request works, as
/// with a region without relays, the client opens its UDP socket anew over and over, and direct paths do not last. With
/// this map nodes reach each other only directly, and Go clients warn that they have no relay.
pub fn unreachable_derp_map() -> DerpMap {
    let node = DerpNode {
        name: "1a".to_owned(),
        region_id: 1,
        host_name: Ipv4Addr::LOCALHOST.to_string(),
        ipv4: Ipv4Addr::LOCALHOST.to_string(),
        ipv6: "none".to_owned(),
        stun_port: 1,
        derp_port: 1,
        ..DerpNode::default()
    };
    let region = DerpRegion {
        region_id: 1,
        region_code: "none".to_owned(),
        region_name: "No relays".to_owned(),
        nodes: vec![node],
        ..DerpRegion::default()
    };
    DerpMap {
        regions: BTreeMap::from([(1, region)]),
        omit_default_regions: true,
        ..DerpMap::default()
    }
}

/// A DERP map is not usable.
#[derive(Debug, thiserror::Error)]
pub enum DerpMapError {
    /// It is not the JSON of a DERP map.
    #[error("the file is not the JSON of a DERP map")]
    NotDerpMap(#[source] serde_json::Error),
    /// It has no regions.
    #[error("the map has no regions, and Go clients would not come up; leave it out to use the built-in one")]
    NoRegions,
}

/// Reads a DERP map from JSON.
///
/// # Errors
/// When it is none, or has no regions.
pub fn parse_derp_map(json: &[u8]) -> Result<DerpMap, DerpMapError> {
    let map: DerpMap = serde_json::from_slice(json).map_err(DerpMapError::NotDerpMap)?;
    if map.regions.is_empty() {
        Err(DerpMapError::NoRegions)
    } else {
        Ok(map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derp_map_is_read_and_one_without_regions_refused() {
        let json = serde_json::to_vec(&unreachable_derp_map()).unwrap();
        assert_eq!(parse_derp_map(&json).unwrap(), unreachable_derp_map());
        assert!(matches!(
            parse_derp_map(b"{\"Regions\":{}}"),
            Err(DerpMapError::NoRegions)
        ));
        assert!(matches!(parse_derp_map(b"no JSON"), Err(DerpMapError::NotDerpMap(_))));
    }
}
