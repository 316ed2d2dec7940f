//! Watches the configuration documents: the Secret by the API, and the folder where it is mounted.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt, future, stream};
use isthmus_kubernetes::{events, namespaced};
use isthmus_proxy_core::{Documents, Sources};
use isthmus_runtime::Shutdown;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use crate::kube_state::SecretStore;

/// How often the folder is read. The kubelet itself is slower.
const FOLDER_INTERVAL: Duration = Duration::from_secs(5);

/// Where documents come from.
pub(crate) struct ConfigSources {
    /// The Secret, when the API server can be asked.
    pub(crate) secret: Option<(Client, String)>,
    /// What keeps the proxy's state in that Secret, and mends it when it is lost.
    pub(crate) keeper: Option<Arc<SecretStore>>,
    /// The folder where its keys are files.
    pub(crate) folder: Option<PathBuf>,
    /// The file that keeps what both said, for a restart while the API server is away.
    pub(crate) cache: Option<PathBuf>,
}

/// Starts watching; the receiver always holds the newest documents, none before the first.
pub(crate) fn watch_config(sources: ConfigSources, shutdown: Shutdown) -> watch::Receiver<Option<Documents>> {
    let (sender, receiver) = watch::channel(None);
    tokio::spawn(async move {
        tokio::select! {
            () = follow(sources, sender) => {}
            () = shutdown.begun() => {}
        }
    });
    receiver
}

async fn follow(sources: ConfigSources, sender: watch::Sender<Option<Documents>>) {
    let mut deliveries = std::pin::pin!(secret_documents(sources.secret, sources.keeper));
    let mut ticks = interval(FOLDER_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut choice = sources.cache.as_deref().and_then(recall).unwrap_or_default();
    if let Some(documents) = choice.current() {
        sender.send_replace(Some(documents.clone()));
    }
    loop {
        let changed = tokio::select! {
            Some(documents) = deliveries.next() => choice.offer_from_api(documents),
            _ = ticks.tick() => match sources.folder.as_deref().map(read_folder) {
                Some(Ok(documents)) => choice.offer_from_files(documents),
                Some(Err(error)) => {
                    tracing::debug!(%error, "the configuration folder cannot be read");
                    false
                }
                None => false,
            },
        };
        if changed {
            tracing::info!("new configuration");
            if let Some(cache) = &sources.cache {
                keep(cache, &choice);
            }
            sender.send_replace(choice.current().cloned());
        }
    }
}

fn recall(cache: &Path) -> Option<Sources> {
    Sources::recall(&std::fs::read_to_string(cache).ok()?)
}

/// Keeps what is known for its owner alone: it holds the auth key.
fn keep(cache: &Path, known: &Sources) {
    let beside = cache.with_extension("new");
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let opened = cache
        .parent()
        .map_or(Ok(()), std::fs::create_dir_all)
        .and_then(|()| options.open(&beside));
    let written = opened.and_then(|mut file| file.write_all(known.render().as_bytes()));
    if let Err(error) = written.and_then(|()| std::fs::rename(&beside, cache)) {
        tracing::warn!(%error, "a restart without the API server will not find the newest configuration");
    }
}

/// What the API server delivers. Errors are retried with growing pauses, and the folder speaks meanwhile.
fn secret_documents(
    secret: Option<(Client, String)>,
    keeper: Option<Arc<SecretStore>>,
) -> impl Stream<Item = Documents> {
    let Some((client, name)) = secret else {
        return stream::pending().left_stream();
    };
    let api = namespaced::<Secret>(&client, client.default_namespace());
    // Only with this selector does RBAC let a Role with resourceNames watch.
    let only_own = watcher::Config::default().fields(&format!("metadata.name={name}"));
    events(api, only_own)
        .applied_objects()
        .filter_map(move |event| {
            let read = event.map_err(Unwatched::Watch);
            future::ready(
                match read.and_then(|object| object.read::<Secret>().map_err(Unwatched::Read)) {
                    Ok(secret) => {
                        if let Some(keeper) = keeper.as_ref().filter(|keeper| keeper.is_lost(&secret)) {
                            let keeper = Arc::clone(keeper);
                            tokio::spawn(async move { keeper.restore().await });
                        }
                        Some(documents_of(secret))
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the configuration cannot be watched: files are read meanwhile");
                        None
                    }
                },
            )
        })
        .right_stream()
}

/// Why there is no news of the Secret.
#[derive(Debug, thiserror::Error)]
enum Unwatched {
    #[error(transparent)]
    Watch(watcher::Error),
    #[error("the API server answers with something that is no Secret")]
    Read(#[source] kube::Error),
}

fn documents_of(secret: Secret) -> Documents {
    let data = secret.data.unwrap_or_default().into_iter();
    let entries = data
        .filter_map(|(key, value)| Some((key, String::from_utf8(value.0).ok()?)))
        .collect();
    Documents::from_entries(&entries)
}

/// Reads the documents of a folder; other files are left alone.
pub(crate) fn read_folder(folder: &Path) -> std::io::Result<Documents> {
    let mut entries = BTreeMap::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with("..") && entry.path().is_file() {
            entries.insert(name, std::fs::read_to_string(entry.path())?);
        }
    }
    Ok(Documents::from_entries(&entries))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use isthmus_runtime::Shutdown;

    use super::{ConfigSources, read_folder, watch_config};

    #[test]
    fn folder_is_read_like_a_mounted_secret() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("..2026")).unwrap();
        fs::write(folder.path().join("..2026/isthmus.json"), "{}").unwrap();
        std::os::unix::fs::symlink("..2026", folder.path().join("..data")).unwrap();
        std::os::unix::fs::symlink("..data/isthmus.json", folder.path().join("isthmus.json")).unwrap();
        assert_eq!(read_folder(folder.path()).unwrap().proxy.as_deref(), Some("{}"));
        assert!(read_folder(&folder.path().join("missing")).is_err());
    }

    #[tokio::test]
    async fn change_of_a_file_arrives() {
        let folder = tempfile::tempdir().unwrap();
        let sources = ConfigSources {
            secret: None,
            keeper: None,
            folder: Some(folder.path().to_owned()),
            cache: None,
        };
        let mut documents = watch_config(sources, Shutdown::new());
        for text in ["one", "two"] {
            fs::write(folder.path().join("isthmus.json"), text).unwrap();
            let found = documents
                .wait_for(|d| d.as_ref().is_some_and(|d| d.proxy.as_deref() == Some(text)))
                .await;
            assert!(found.is_ok());
        }
    }

    #[tokio::test]
    async fn configuration_is_found_again_after_a_restart_and_kept_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("cache/documents.json");
        let sources = |folder| ConfigSources {
            secret: None,
            keeper: None,
            folder,
            cache: Some(cache.clone()),
        };
        fs::write(folder.path().join("isthmus.json"), "one").unwrap();
        let mut documents = watch_config(sources(Some(folder.path().to_owned())), Shutdown::new());
        documents.wait_for(Option::is_some).await.unwrap();
        // The sender's write to the cache comes before the next turn of the loop.
        while !cache.exists() {
            tokio::task::yield_now().await;
        }
        assert_eq!(fs::metadata(&cache).unwrap().permissions().mode() & 0o777, 0o600);

        let mut documents = watch_config(sources(None), Shutdown::new());
        let found = documents.wait_for(Option::is_some).await.unwrap().clone();
        assert_eq!(found.unwrap().proxy.as_deref(), Some("one"));
    }
}
