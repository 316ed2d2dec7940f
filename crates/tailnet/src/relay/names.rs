//! Addresses of the servers of regions that have only a name.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use isthmus_runtime::Resolver;
use isthmus_tailnet_core::netmap::{Region, RegionId};
use tokio::sync::mpsc;

/// Pause before names that could not be resolved are asked for again.
const AGAIN: Duration = Duration::from_secs(20);

/// The names of servers for STUN without an address.
pub(super) fn without_address(regions: &BTreeMap<RegionId, Region>) -> BTreeSet<String> {
    let servers = regions.values().flat_map(|region| &region.stun);
    let nameless = servers.filter(|server| server.addresses.is_empty());
    nameless.map(|server| server.host.clone()).collect()
}

/// Resolves names and tells their addresses, until all are known.
pub(super) async fn resolve(mut names: BTreeSet<String>, found: mpsc::Sender<(String, Vec<IpAddr>)>) {
    let resolver = Resolver::default();
    while !names.is_empty() {
        for name in names.clone() {
            match resolver.addresses(&name).await {
                Ok(addresses) => {
                    names.remove(&name);
                    let _ = found.send((name, addresses)).await;
                }
                Err(error) => tracing::debug!(%error, name, "cannot find a server of a relay region"),
            }
        }
        if !names.is_empty() {
            tokio::time::sleep(AGAIN).await;
        }
    }
}
