//! A node without a control server: keys, addresses and peers from a file.

use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;
use isthmus_tailnet_core::key::NodeKey;
use serde::{Deserialize, Deserializer, de};

use crate::dataplane::{Path, PeerConfig, Snapshot};
use crate::udp::DEFAULT_PORT;
use crate::wireguard::PrivateKey;

/// The largest packet of a tailnet unless told otherwise: what every path on the internet carries with WireGuard around it.
pub const DEFAULT_MTU: u16 = 1280;

/// The content of a peer file, in JSON.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StaticPeers {
    /// The node's private key, in base64 as `wg genkey` prints it.
    #[serde(deserialize_with = "private_key")]
    pub private_key: PrivateKey,
    /// The node's addresses inside the tunnel. Everything in their prefixes is routed to the TUN device; routes to other
    /// addresses of peers are left to the user.
    pub addresses: Vec<IpNet>,
    /// UDP port to listen on; another is used when it is taken.
    #[serde(default = "default_port")]
    pub listen_port: u16,
    /// Bytes of the largest packet inside the tunnel.
    #[serde(default = "default_mtu")]
    pub mtu: u16,
    /// The peers.
    pub peers: Vec<StaticPeer>,
}

/// One peer of the file.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StaticPeer {
    /// The peer's public key, in base64.
    #[serde(deserialize_with = "public_key")]
    pub public_key: NodeKey,
    /// Where the peer is. Without it, where its last handshake came from.
    #[serde(default)]
    pub endpoint: Option<SocketAddr>,
    /// Addresses behind the peer.
    pub allowed_ips: Vec<IpNet>,
    /// Seconds between keep-alives; none are sent without it.
    #[serde(default)]
    pub keepalive: Option<u16>,
}

/// A peer file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StaticPeersError {
    /// The text is no peer file.
    #[error("cannot read the peer file: it must be a JSON object with privateKey, addresses and peers")]
    Parse(#[source] serde_json::Error),
    /// The node would have no address.
    #[error("cannot use the peer file: `addresses` is empty; name at least one address with its prefix length")]
    NoAddress,
    /// The MTU is too small for IP.
    #[error("cannot use the peer file: `mtu` is {0}; IPv6 needs at least 1280 and IPv4 at least 576")]
    Mtu(u16),
}

impl StaticPeers {
    /// Reads the text of a peer file.
    ///
    /// # Errors
    /// [`StaticPeersError`] naming what is wrong.
    pub fn parse(text: &str) -> Result<Self, StaticPeersError> {
        let peers: Self = serde_json::from_str(text).map_err(StaticPeersError::Parse)?;
        if peers.addresses.is_empty() {
            return Err(StaticPeersError::NoAddress);
        }
        let has_v6 = peers.addresses.iter().any(|net| matches!(net, IpNet::V6(_)));
        if peers.mtu < if has_v6 { 1280 } else { 576 } {
            return Err(StaticPeersError::Mtu(peers.mtu));
        }
        Ok(peers)
    }

    /// What the data plane is to work by.
    pub fn snapshot(&self) -> Snapshot {
        let own = self.addresses.iter().map(|net| IpNet::from(net.addr())).collect();
        let peers = self.peers.iter().map(|peer| PeerConfig {
            allowed_ips: peer.allowed_ips.clone(),
            path: peer.endpoint.map(Path::Direct),
            roams: true,
            keepalive: peer.keepalive,
            ..PeerConfig::new(peer.public_key)
        });
        Snapshot {
            own,
            peers: peers.collect(),
            filter: None,
        }
    }
}

fn default_port() -> u16 {
    DEFAULT_PORT
}

fn default_mtu() -> u16 {
    DEFAULT_MTU
}

fn key_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
    let text = String::deserialize(deserializer)?;
    let bytes = STANDARD
        .decode(text.trim())
        .ok()
        .and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| de::Error::custom("a key is 32 bytes in base64, as `wg genkey` and `wg pubkey` print them"))
}

fn private_key<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PrivateKey, D::Error> {
    key_bytes(deserializer).map(PrivateKey::from_bytes)
}

fn public_key<'de, D: Deserializer<'de>>(deserializer: D) -> Result<NodeKey, D::Error> {
    key_bytes(deserializer).map(NodeKey::from_bytes)
}

#[cfg(test)]
mod tests;
