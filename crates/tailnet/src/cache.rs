//! What a node keeps for its next start: its last network map with the relays and its home among them, and the disco key that peers know it
//! by. The map is for a start while control is away; by its home, peers are told at once how the node is reached.
//!
//! A restarted node has a fresh disco key, from which its peers learn of the restart. While control is away nobody can tell
//! them, and they would not answer to a key that they do not know: then, and only then, the last one is used again.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use isthmus_runtime::ErrorChain;
use isthmus_tailnet_core::key::NodeKey;
use isthmus_tailnet_core::netmap::{Netmap, NetmapStore, RegionId};
use isthmus_tailnet_wire::control::MapResponse;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::control::NodeFacts;
use crate::disco::DiscoBox;
use crate::node::NodeStatus;

const NETMAP: &str = "netmap.json";
const DISCO: &str = "disco.key";

/// The least time between two writes of the map.
const PAUSE: Duration = Duration::from_secs(2);

/// What the run before knew.
#[derive(Debug)]
pub(crate) struct Remembered {
    pub(crate) netmap: Netmap,
    /// The region of the relay at which peers reached the node.
    pub(crate) home: Option<RegionId>,
}

/// A folder for what a node may forget.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    folder: PathBuf,
}

impl Cache {
    pub(crate) fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// What is remembered of this node key, unless there is nothing or the key is expired. What cannot be read is as good as nothing.
    pub(crate) fn remembered(&self, own: &NodeKey) -> Option<Remembered> {
        let bytes = fs::read(self.folder.join(NETMAP)).ok()?;
        let (mut store, now) = (NetmapStore::default(), SystemTime::now());
        let message: MapResponse = serde_json::from_slice(&bytes).ok()?;
        let home = message.node.as_ref().map_or(0, |node| node.home_derp);
        store.apply(message, now).ok()?;
        let netmap = store.netmap()?;
        let is_usable = netmap.own.key == *own && netmap.own.machine_authorized && !netmap.own.is_expired(now);
        let home = RegionId::try_from(home).ok().filter(|home| *home != 0);
        is_usable.then_some(Remembered { netmap, home })
    }

    /// The disco key of the run before.
    pub(crate) fn disco(&self) -> Option<DiscoBox> {
        DiscoBox::parse(&fs::read_to_string(self.folder.join(DISCO)).ok()?)
    }

    /// Keeps the disco key of this run.
    pub(crate) fn keep_disco(&self, disco: &DiscoBox) {
        self.keep(DISCO, disco.render().as_bytes());
    }

    /// Keeps the map that control confirms, and the node's home, whenever one changes. Ends with the node.
    pub(crate) async fn follow(self, mut status: watch::Receiver<NodeStatus>, mut facts: watch::Receiver<NodeFacts>) {
        loop {
            let (now, home) = (status.borrow_and_update().clone(), facts.borrow_and_update().home);
            if let Some(netmap) = now.netmap.filter(|_| now.connected) {
                self.keep_netmap(&netmap, home);
                sleep(PAUSE).await;
            }
            let changed = tokio::select! {
                changed = status.changed() => changed,
                changed = facts.changed() => changed,
            };
            if changed.is_err() {
                return;
            }
        }
    }

    fn keep_netmap(&self, netmap: &Netmap, home: Option<RegionId>) {
        let mut message = netmap.to_message();
        if let Some(node) = &mut message.node {
            node.home_derp = home.map_or(0, i64::from);
        }
        let text = serde_json::to_vec(&message).expect("a message of control serialises");
        self.keep(NETMAP, &text);
    }

    fn keep(&self, name: &str, bytes: &[u8]) {
        if let Err(error) = replace(&self.folder, name, bytes) {
            tracing::warn!(error = %ErrorChain(&error), name, "a restart without control will not find this");
        }
    }
}

/// Writes beside the file and renames, so that a crash leaves the old content or the new.
fn replace(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let beside = folder.join(format!("{name}.new"));
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(&beside)?.write_all(bytes)?;
    fs::rename(beside, folder.join(name))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use isthmus_tailnet_core::key::NodeKey;
    use isthmus_tailnet_core::netmap::NetmapStore;

    use super::Cache;
    use crate::disco::DiscoBox;

    #[test]
    fn relays_and_home_are_remembered_with_the_map_of_the_same_key() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path().join("cache"));
        let key = |digit: &str| format!("nodekey:{}", digit.repeat(64));
        let message = serde_json::json!({
            "Node": {"ID": 1, "StableID": "n1", "Name": "me.tail.internal.", "Key": key("1"), "Addresses": ["100.64.0.1/32"], "MachineAuthorized": true},
            "DERPMap": {"Regions": {"7": {"RegionID": 7, "RegionCode": "x", "RegionName": "X", "Nodes": [{"Name": "a", "RegionID": 7, "HostName": "r"}]}}},
        });
        let mut store = NetmapStore::default();
        store
            .apply(serde_json::from_value(message).unwrap(), std::time::SystemTime::now())
            .unwrap();
        let netmap = store.netmap().unwrap();
        for home in [None, Some(7)] {
            cache.keep_netmap(&netmap, home);
            let remembered = cache.remembered(&netmap.own.key).unwrap();
            assert_eq!((remembered.netmap, remembered.home), (netmap.clone(), home));
        }
        assert!(netmap.relays.contains_key(&7));
        assert!(cache.remembered(&NodeKey::from_bytes([2; 32])).is_none());
    }

    #[test]
    fn disco_key_is_kept_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path().join("cache"));
        assert!(cache.disco().is_none());
        let disco = DiscoBox::random();
        cache.keep_disco(&disco);
        assert_eq!(cache.disco().unwrap().public_key(), disco.public_key());
        let mode = std::fs::metadata(folder.path().join("cache/disco.key"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
