//! Taking a proxy away: Pod, device, Secret, the rest, and our finalizer last.
//!
//! Deletion always ends. While the tailnet cannot be reached it waits and says so; when credentials have been refused
//! for long, or the owner says so by annotation, it ends without and lists what it left behind.

use std::time::Duration;

use isthmus_contract::{annotation, condition::ProxyReason, secret_key};
use k8s_openapi::api::core::v1::Secret;

use super::{
    input::{Child, Children, Input},
    plan::{Action, Note, NoteKind, Plan, holds_finalizer, key_id, text},
    user_spec,
};
use crate::condition::Verdict;

/// How often to look whether the Pod is gone, beside being told.
const POD_CHECK: Duration = Duration::from_secs(5);

/// The plan for a Service that has no use for its proxy any more.
pub(super) fn plan(input: &Input) -> Plan {
    let abandoned = input.annotation(annotation::ABANDON) == Some("true")
        || input.problem.as_ref().is_some_and(|problem| problem.hopeless);
    let mut plan = remove(&input.children, abandoned);
    if !input.is_deleted()
        && let Some(patch) = user_spec::restore(&input.service)
    {
        plan.actions.insert(0, Action::PatchSpec(patch));
    }
    if plan.again_after.is_none() && holds_finalizer(input) {
        plan.actions.push(Action::ReleaseFinalizer);
    }
    if let Some(problem) = input.problem.as_ref().filter(|problem| !problem.hopeless) {
        plan.verdict = Some(Verdict::new(ProxyReason::Failed, problem.message.clone()));
    }
    plan
}

/// Removes the objects of a proxy, and its device unless `abandoned`. While the Pod is there, only that.
pub fn remove(children: &Children, abandoned: bool) -> Plan {
    if let Some(waiting) = stop_pod(children) {
        return waiting;
    }
    let mut plan = Plan::nothing();
    if let Some(secret) = &children.secret {
        if abandoned {
            plan.notes.extend(left_behind(secret));
        } else {
            plan.actions
                .extend(text(secret, secret_key::DEVICE_ID).map(|id| Action::DeleteDevice(id.to_owned())));
            plan.actions.extend(key_id(secret).map(Action::RevokeAuthKey));
        }
    }
    plan.actions
        .extend(rest(children).map(|child| Action::Delete(Box::new(child))));
    plan
}

/// The device's state is final only when the Pod is gone, so that comes first.
fn stop_pod(children: &Children) -> Option<Plan> {
    if children.stateful_set.is_none() && children.pod.is_none() {
        return None;
    }
    let running = children
        .stateful_set
        .clone()
        .filter(|set| set.metadata.deletion_timestamp.is_none());
    Some(Plan {
        actions: running
            .map(|set| Action::Delete(Box::new(Child::StatefulSet(set))))
            .into_iter()
            .collect(),
        verdict: Some(Verdict::new(
            ProxyReason::Pending,
            "waiting for the proxy's Pod to stop",
        )),
        again_after: Some(POD_CHECK),
        ..Plan::nothing()
    })
}

fn rest(children: &Children) -> impl Iterator<Item = Child> {
    let secret = children.secret.clone().map(Child::Secret);
    let service = children.headless_service.clone().map(Child::HeadlessService);
    let binding = children.role_binding.clone().map(Child::RoleBinding);
    let role = children.role.clone().map(Child::Role);
    let account = children.service_account.clone().map(Child::ServiceAccount);
    [secret, service, binding, role, account].into_iter().flatten()
}

fn left_behind(secret: &Secret) -> Option<Note> {
    let device = text(secret, secret_key::DEVICE_ID);
    let key = key_id(secret);
    let what = match (device, key) {
        (Some(id), _) => {
            let name = text(secret, secret_key::DEVICE_FQDN)
                .unwrap_or("unnamed")
                .trim_end_matches('.');
            format!("device {name} ({id})")
        }
        (None, Some(key)) => format!("auth key {key}"),
        (None, None) => return None,
    };
    let message = format!("left behind on the tailnet: {what}; remove it in the tailnet's admin pages");
    Some(Note {
        kind: NoteKind::Warning,
        reason: "DeviceLeftBehind",
        message,
    })
}

#[cfg(test)]
mod tests;
