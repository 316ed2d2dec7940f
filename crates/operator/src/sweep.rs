//! What an earlier leader left lying about: objects whose Service is gone, and keys that nobody holds.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use isthmus_contract::{annotation, label};
use isthmus_kubernetes::{Object, all, namespaced};
use isthmus_operator_core::service_proxy::{Action, cleanup, key_description_prefix};
use isthmus_runtime::ErrorChain;
use k8s_openapi::{
    api::core::v1::{Secret, Service},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Api, api::ListParams};
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
    let api = all::<Service>(&context.client);
    for_each(&api, ListParams::default(), "list Services", |service| {
        uids.remove(&service.uid.unwrap_or_default());
    })
    .await?;
    Ok(uids)
}

fn seeming_orphans(context: &Context) -> BTreeSet<String> {
    let stores = &context.stores;
    let mut uids = stores.headless_services.parent_uids();
    uids.append(&mut stores.secrets.parent_uids());
    uids.append(&mut stores.service_accounts.parent_uids());
    uids.append(&mut stores.roles.parent_uids());
    uids.append(&mut stores.role_bindings.parent_uids());
    uids.append(&mut stores.stateful_sets.parent_uids());
    for service in stores.services.state() {
        if let Some(uid) = &service.metadata.uid {
            uids.remove(uid);
        }
    }
    uids
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
    let api = namespaced::<Secret>(&context.client, &context.settings.namespace);
    let mut keys = BTreeSet::new();
    let ours = ListParams::default().labels(&watch::ours());
    for_each(&api, ours, "list Secrets", |secret| {
        keys.extend(
            secret
                .annotations
                .and_then(|mut all| all.remove(annotation::AUTH_KEY_ID)),
        );
    })
    .await?;
    Ok(keys)
}

/// Gives the metadata of everything that is there to `take`, a page at a time.
async fn for_each(
    api: &Api<Object>,
    what: ListParams,
    action: &'static str,
    mut take: impl FnMut(ObjectMeta),
) -> Result<(), Error> {
    let mut page = what.limit(watch::PAGE);
    loop {
        let list = api
            .list_metadata(&page)
            .await
            .map_err(|cause| Error::kubernetes(action, cause))?;
        list.items.into_iter().for_each(|object| take(object.metadata));
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(()),
        }
    }
}
