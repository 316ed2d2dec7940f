//! What an earlier leader left lying about: objects whose Service is gone, and keys that nobody holds.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use isthmus_contract::{annotation, label};
use isthmus_operator_core::service_proxy::{Action, cleanup, key_description_prefix};
use isthmus_runtime::ErrorChain;
use k8s_openapi::{
    api::core::v1::{Secret, Service},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Api, Resource, api::ListParams, runtime::reflector::Store};
use tokio::time::sleep;

use crate::{context::Context, devices, error::Error, gather, watch};

/// Pause between two looks while something is still being removed.
const PAUSE: Duration = Duration::from_secs(5);
/// Pause between two looks otherwise: a finalizer taken off by hand leaves objects behind at any time. A look reads the
/// caches alone.
const QUIET: Duration = Duration::from_mins(5);

/// Removes what belongs to no Service, now and from time to time.
///
/// # Cancel safety
/// Dropping the future leaves the rest to the next look.
pub(crate) async fn run(context: &Context) {
    if let Err(error) = revoke_unheld_keys(context).await {
        tracing::warn!(error = %ErrorChain(&error), "cannot look for auth keys that nobody holds");
    }
    loop {
        let orphans = match orphans(context).await {
            Ok(orphans) => orphans,
            Err(error) => {
                tracing::warn!(error = %ErrorChain(&error), "cannot tell which objects belong to no Service");
                sleep(PAUSE).await;
                continue;
            }
        };
        for uid in &orphans {
            match remove(context, uid).await {
                Ok(()) => tracing::info!(parent_uid = uid, "removed what belongs to no Service any more"),
                Err(error) => {
                    tracing::warn!(error = %ErrorChain(&error), parent_uid = uid, "cannot remove what belongs to no Service");
                }
            }
        }
        sleep(if orphans.is_empty() { QUIET } else { PAUSE }).await;
    }
}

/// UIDs that our objects name as their Service's and that no Service has. The caches of Services and of our objects are
/// not of the same moment, so the API server has the last word.
async fn orphans(context: &Context) -> Result<BTreeSet<String>, Error> {
    let mut uids = seeming_orphans(context);
    if uids.is_empty() {
        return Ok(uids);
    }
    let api: Api<Service> = Api::all(context.client.clone());
    let services = api
        .list_metadata(&ListParams::default())
        .await
        .map_err(|cause| Error::kubernetes("list Services", cause))?;
    for service in services.items {
        uids.remove(&service.metadata.uid.unwrap_or_default());
    }
    Ok(uids)
}

fn seeming_orphans(context: &Context) -> BTreeSet<String> {
    let stores = &context.stores;
    let mut uids = BTreeSet::new();
    collect(&stores.headless_services, &mut uids);
    collect(&stores.secrets, &mut uids);
    collect(&stores.service_accounts, &mut uids);
    collect(&stores.roles, &mut uids);
    collect(&stores.role_bindings, &mut uids);
    collect(&stores.stateful_sets, &mut uids);
    for service in stores.services.state() {
        if let Some(uid) = &service.metadata.uid {
            uids.remove(uid);
        }
    }
    uids
}

fn collect<K: Resource<DynamicType = ()> + Clone + 'static>(store: &Store<K>, uids: &mut BTreeSet<String>) {
    uids.extend(store.state().into_iter().filter_map(|object| parent_uid(object.meta())));
}

fn parent_uid(metadata: &ObjectMeta) -> Option<String> {
    let labels = metadata.labels.as_ref()?;
    (labels.get(label::PARENT_RESOURCE_TYPE)? == label::PARENT_TYPE_SERVICE)
        .then(|| labels.get(label::PARENT_UID).cloned())
        .flatten()
}

async fn remove(context: &Context, uid: &str) -> Result<(), Error> {
    let children = gather::live_children(context, &format!("{}={uid},{}", label::PARENT_UID, watch::ours())).await?;
    for action in cleanup::remove(&children, false).actions {
        context.check_term()?;
        match &action {
            Action::Delete(child) => context.writer.delete_child(child).await?,
            Action::DeleteDevice(id) => devices::delete(&context.tailnet, id).await?,
            Action::DeleteDeviceOfMachine(key) => devices::delete_of_machine(&context.tailnet, key).await?,
            Action::RevokeAuthKey(id) => devices::revoke_key(&context.tailnet, id).await?,
            Action::HoldFinalizer
            | Action::ReleaseFinalizer
            | Action::PatchSpec(_)
            | Action::NoteRefusal(_)
            | Action::Orphan(_)
            | Action::Apply(_)
            | Action::MintAuthKey(_)
            | Action::SetDeviceTags { .. } => {}
        }
        context.metrics.acted(&action);
    }
    Ok(())
}

/// Revokes keys that an earlier leader made and did not store. The list of keys is taken before the list of Secrets,
/// so a key made by this leader is never in it without its Secret.
async fn revoke_unheld_keys(context: &Context) -> Result<(), Error> {
    let prefix = key_description_prefix(&context.settings.cluster_id);
    let ours: BTreeMap<String, String> = context
        .tailnet
        .list_keys()
        .await?
        .into_iter()
        .filter(|key| key.description.starts_with(&prefix))
        .map(|key| (key.id, key.description))
        .collect();
    if ours.is_empty() {
        return Ok(());
    }
    let held = held_keys(context).await?;
    for (id, description) in ours.iter().filter(|(id, _)| !held.contains(*id)) {
        context.check_term()?;
        tracing::info!(key_id = id, description, "revoking an auth key that nobody holds");
        devices::revoke_key(&context.tailnet, id).await?;
    }
    Ok(())
}

async fn held_keys(context: &Context) -> Result<BTreeSet<String>, Error> {
    let api: Api<Secret> = Api::namespaced(context.client.clone(), &context.settings.namespace);
    let secrets = api
        .list_metadata(&ListParams::default().labels(&watch::ours()))
        .await
        .map_err(|cause| Error::kubernetes("list Secrets", cause))?;
    let key_of = |metadata: ObjectMeta| metadata.annotations?.remove(annotation::AUTH_KEY_ID);
    Ok(secrets
        .items
        .into_iter()
        .filter_map(|secret| key_of(secret.metadata))
        .collect())
}
