//! The proxy's own Secret: the node's state and what the proxy says of itself.
//!
//! Only this one Secret is ever asked for, by name. What could not be written is kept and goes with the next write, so
//! that an outage of the API server loses nothing while the process lives.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use isthmus_contract::{device_config, field_manager, secret_key};
use isthmus_kubernetes::{Object, namespaced};
use isthmus_runtime::ErrorChain;
use isthmus_tailnet::state::{StateChanges, StateError, StateStore, StateValues};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource as _};
use serde_json::json;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

/// How long one read or write is tried before its caller hears of it.
const PATIENCE: Duration = Duration::from_secs(30);

/// The first pause between two tries; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A Secret as a store of state.
pub struct SecretStore {
    api: Api<Object>,
    name: String,
    /// Changes that are not in the Secret yet. Held across a write, so that writes keep their order.
    pending: Mutex<StateChanges>,
    known: std::sync::Mutex<Known>,
}

/// What the Secret held when this store read or wrote it last.
#[derive(Default)]
struct Known {
    values: StateValues,
    /// The Secret's version at that time; versions of one kind compare as numbers.
    version: u64,
}

impl Known {
    /// Whether a newer version lacks something of this. An older one, which a watch may deliver late, lacks what was
    /// written since.
    fn is_lost(&self, secret: &Secret) -> bool {
        let has = |key: &String| secret.data.as_ref().is_some_and(|data| data.contains_key(key));
        version_of(&secret.metadata) > self.version && !self.values.keys().all(has)
    }
}

impl SecretStore {
    /// The Secret `name` in the namespace of `client`.
    pub fn new(client: &Client, name: impl Into<String>) -> Self {
        Self {
            api: namespaced::<Secret>(client, client.default_namespace()),
            name: name.into(),
            pending: Mutex::default(),
            known: std::sync::Mutex::default(),
        }
    }

    /// Whether `secret`, a version of this Secret, lacks something that an earlier version had: somebody deleted it, and
    /// the operator has made a new one, or somebody emptied it.
    pub(crate) fn is_lost(&self, secret: &Secret) -> bool {
        self.known().is_lost(secret)
    }

    /// Writes again all that this store knows, until the API server takes it.
    pub(crate) async fn restore(&self) {
        tracing::info!("the Secret has lost the state of this proxy: writing it again");
        loop {
            let values = self.known().values.clone();
            let all = values.into_iter().map(|(key, value)| (key, Some(value))).collect();
            let Err(error) = self.store(all).await else { return };
            tracing::warn!(error = %ErrorChain(&error), "the state is not in the Secret: a new Pod would be another device");
            sleep(LONGEST_PAUSE).await;
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read(&self) -> Result<StateValues, kube::Error> {
        let deadline = Instant::now() + PATIENCE;
        let mut pause = FIRST_PAUSE;
        loop {
            let found = self.api.get_opt(&self.name).await;
            match found.and_then(|found| found.map(Object::read::<Secret>).transpose()) {
                Ok(secret) => {
                    let secret = secret.unwrap_or_default();
                    let version = version_of(&secret.metadata);
                    let values = state_of(secret);
                    *self.known() = Known {
                        values: values.clone(),
                        version,
                    };
                    return Ok(values);
                }
                Err(error) => wait_or_give_up(error, deadline, &mut pause).await?,
            }
        }
    }

    async fn write(&self, changes: &StateChanges) -> Result<(), kube::Error> {
        let deadline = Instant::now() + PATIENCE;
        let mut pause = FIRST_PAUSE;
        loop {
            match self.write_once(changes).await {
                Ok(metadata) => {
                    self.note(changes, version_of(&metadata));
                    return Ok(());
                }
                Err(error) => wait_or_give_up(error, deadline, &mut pause).await?,
            }
        }
    }

    fn note(&self, changes: &StateChanges, version: u64) {
        let mut known = self.known();
        known.version = known.version.max(version);
        for (key, value) in changes {
            match value {
                Some(value) => known.values.insert(key.clone(), value.clone()),
                None => known.values.remove(key),
            };
        }
    }

    /// One merge patch: all keys or none, and those of others stay as they are.
    async fn write_once(&self, changes: &StateChanges) -> Result<ObjectMeta, kube::Error> {
        let data: BTreeMap<&String, Option<ByteString>> = changes
            .iter()
            .map(|(key, value)| (key, value.clone().map(ByteString)))
            .collect();
        let parameters = PatchParams {
            field_manager: Some(field_manager::PROXY.to_owned()),
            ..PatchParams::default()
        };
        let patch = Patch::Merge(json!({ "data": data }));
        match self.api.patch_metadata(&self.name, &parameters, &patch).await {
            Err(kube::Error::Api(status)) if status.code == 404 => self.create(changes).await,
            other => other.map(|written| written.metadata),
        }
    }

    async fn create(&self, changes: &StateChanges) -> Result<ObjectMeta, kube::Error> {
        let data = changes
            .iter()
            .filter_map(|(key, value)| Some((key.clone(), ByteString(value.clone()?))))
            .collect();
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                ..ObjectMeta::default()
            },
            data: Some(data),
            ..Secret::default()
        };
        let created = self.api.create(&PostParams::default(), &Object::of(&secret)).await?;
        Ok(created.meta().clone())
    }

    fn error(&self, action: &'static str) -> impl FnOnce(kube::Error) -> StateError {
        let place = format!(
            "Secret {} (allow get and patch on it to the Pod's ServiceAccount)",
            self.name
        );
        move |source| StateError {
            action,
            place,
            source: source.into(),
        }
    }
}

impl StateStore for SecretStore {
    fn load(&self) -> BoxFuture<'_, Result<StateValues, StateError>> {
        async move {
            let mut values = self.read().await.map_err(self.error("read"))?;
            for (key, value) in self.pending.lock().await.iter() {
                match value {
                    Some(value) => values.insert(key.clone(), value.clone()),
                    None => values.remove(key),
                };
            }
            Ok(values)
        }
        .boxed()
    }

    fn store(&self, changes: StateChanges) -> BoxFuture<'_, Result<(), StateError>> {
        async move {
            let mut pending = self.pending.lock().await;
            pending.extend(changes.into_iter().map(|(key, value)| (secret_key_of(&key), value)));
            if pending.is_empty() {
                return Ok(());
            }
            self.write(&pending).await.map_err(self.error("write"))?;
            pending.clear();
            Ok(())
        }
        .boxed()
    }
}

/// Waits before the next try, or gives the error back when it is too late for one or another try cannot help.
///
/// A refusal is tried again like an outage: a Role may be seconds younger than the Pod that it is for.
async fn wait_or_give_up(error: kube::Error, deadline: Instant, pause: &mut Duration) -> Result<(), kube::Error> {
    let hopeless = matches!(&error, kube::Error::Api(status) if matches!(status.code, 400 | 413 | 422));
    if hopeless || Instant::now() + *pause >= deadline {
        return Err(error);
    }
    tracing::debug!(%error, "the API server is asked again");
    sleep(*pause).await;
    *pause = (*pause * 2).min(LONGEST_PAUSE);
    Ok(())
}

/// The keys of a Secret but the configuration that an operator keeps in the same one.
fn state_of(secret: Secret) -> StateValues {
    let data = secret.data.unwrap_or_default().into_iter();
    data.filter(|(key, _)| key != secret_key::PROXY_CONFIG && device_config::capability_of(key).is_none())
        .map(|(key, value)| (key, value.0))
        .collect()
}

fn version_of(metadata: &ObjectMeta) -> u64 {
    let version = metadata.resource_version.as_deref();
    version.and_then(|version| version.parse().ok()).unwrap_or_default()
}

/// Characters that a Secret's key cannot have become `_`, as in the Go client.
fn secret_key_of(key: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    key.chars().map(|c| if allowed(c) { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests;
