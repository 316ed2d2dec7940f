//! What a node keeps for a restart while control is away: its last network map and the disco key that peers know it by.
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
use isthmus_tailnet_core::netmap::{Netmap, NetmapStore};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::disco::DiscoBox;
use crate::node::NodeStatus;

const NETMAP: &str = "netmap.json";
const DISCO: &str = "disco.key";

/// The least time between two writes of the map.
const PAUSE: Duration = Duration::from_secs(2);

/// A folder for what a node may forget.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    folder: PathBuf,
}

impl Cache {
    pub(crate) fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The map of this node key, unless there is none or the key is expired. What cannot be read is as good as nothing.
    pub(crate) fn netmap(&self, own: &NodeKey) -> Option<Netmap> {
        let bytes = fs::read(self.folder.join(NETMAP)).ok()?;
        let mut store = NetmapStore::default();
        store
            .apply(serde_json::from_slice(&bytes).ok()?, SystemTime::now())
            .ok()?;
        store
            .netmap()
            .filter(|map| map.own.key == *own && map.own.machine_authorized && !map.own.is_expired(SystemTime::now()))
    }

    /// The disco key of the run before.
    pub(crate) fn disco(&self) -> Option<DiscoBox> {
        DiscoBox::parse(&fs::read_to_string(self.folder.join(DISCO)).ok()?)
    }

    /// Keeps the disco key of this run.
    pub(crate) fn keep_disco(&self, disco: &DiscoBox) {
        self.keep(DISCO, disco.render().as_bytes());
    }

    /// Keeps the map that control confirms, whenever it changes. Ends with the node.
    pub(crate) async fn follow(self, mut status: watch::Receiver<NodeStatus>) {
        loop {
            let now = status.borrow_and_update().clone();
            if let Some(netmap) = now.netmap.filter(|_| now.connected) {
                let text = serde_json::to_vec(&netmap.to_message()).expect("a message of control serialises");
                self.keep(NETMAP, &text);
                sleep(PAUSE).await;
            }
            if status.changed().await.is_err() {
                return;
            }
        }
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

    use super::Cache;
    use crate::disco::DiscoBox;

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
