//! Taking a proxy away: Pod, device, Secret, the rest, and our finalizer last.
//!
//! Deletion always ends. While the tailnet cannot be reached it waits and says so; when credentials have been refused
//! for long, or the owner says so by annotation, it ends without and lists what it left behind. Since when they are
//! refused is noted on the Service itself, because operators come and go.

use std::time::Duration;

use isthmus_contract::{annotation, condition::ProxyReason, secret_key};
use k8s_openapi::{api::core::v1::Secret, jiff::Timestamp};

use super::{
    input::{Child, Children, Input},
    plan::{Action, Note, NoteKind, Plan, holds_finalizer, key_id, text},
    user_spec::{self, SpecPatch},
};
use crate::{condition::Verdict, settings::Settings};

/// How often to look whether the Pod is gone, beside being told.
const POD_CHECK: Duration = Duration::from_secs(5);
/// Credentials refused for this long let a deletion end without the tailnet.
const HOPELESS_AFTER_SECONDS: i64 = 15 * 60;

/// The plan for a Service that has no use for its proxy any more. It asks the tailnet every time; only when that failed
/// in this look, which is then `input`'s problem, it may end without.
pub(super) fn plan(input: &Input, settings: &Settings) -> Plan {
    if let Some(problem) = input.problem.as_ref().filter(|_| !may_give_up(input)) {
        let note = problem.refused && refused_since(input).is_none();
        return Plan {
            actions: note
                .then(|| Action::NoteRefusal(note_refusal(input)))
                .into_iter()
                .collect(),
            verdict: Some(Verdict::new(ProxyReason::Failed, problem.message.clone())),
            ..Plan::nothing()
        };
    }
    let mut plan = remove(&input.children, input.problem.is_some());
    if !input.is_deleted()
        && let Some(patch) = user_spec::restore(&input.service, &settings.namespace)
    {
        plan.actions.insert(0, Action::PatchSpec(patch));
    }
    if plan.again_after.is_none() && holds_finalizer(input) {
        if !input.is_deleted() {
            plan.actions.extend(forget_refusal(input).map(Action::NoteRefusal));
        }
        plan.actions.push(Action::ReleaseFinalizer);
    }
    plan
}

/// Whether the owner, or the time that has passed, allows to end although the tailnet does not do its part.
fn may_give_up(input: &Input) -> bool {
    let Some(problem) = input.problem.as_ref().filter(|problem| problem.of_tailnet) else {
        return false;
    };
    let too_long =
        refused_since(input).is_some_and(|since| input.now.0.as_second() - since.as_second() >= HOPELESS_AFTER_SECONDS);
    input.annotation(annotation::ABANDON) == Some("true") || (problem.refused && too_long)
}

/// Since when the credentials are refused. A text that is no time counts as now, and is written anew.
fn refused_since(input: &Input) -> Option<Timestamp> {
    input.annotation(annotation::REFUSED_SINCE)?.parse().ok()
}

fn note_refusal(input: &Input) -> SpecPatch {
    user_spec::annotate(
        &input.service,
        annotation::REFUSED_SINCE,
        Some(&input.now.0.to_string()),
    )
}

/// What takes the note about refused credentials off a Service that has one.
pub(super) fn forget_refusal(input: &Input) -> Option<SpecPatch> {
    input.annotation(annotation::REFUSED_SINCE)?;
    Some(user_spec::annotate(&input.service, annotation::REFUSED_SINCE, None))
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
            plan.actions.extend(key_id(secret).map(Action::RevokeAuthKey));
            plan.actions.extend(delete_device(secret));
        }
    }
    plan.actions
        .extend(rest(children).map(|child| Action::Delete(Box::new(child))));
    plan
}

/// A proxy that died between its registration and its report has a device that only its machine key finds.
fn delete_device(secret: &Secret) -> Option<Action> {
    let of_machine = || text(secret, secret_key::MACHINE_PUBLIC_KEY).map(str::to_owned);
    text(secret, secret_key::DEVICE_ID)
        .map(|id| Action::DeleteDevice(id.to_owned()))
        .or_else(|| of_machine().map(Action::DeleteDeviceOfMachine))
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
    let device = text(secret, secret_key::DEVICE_ID).map(|id| {
        let name = text(secret, secret_key::DEVICE_FQDN).unwrap_or("unnamed");
        format!("device {} ({id})", name.trim_end_matches('.'))
    });
    let machine = || {
        let key = text(secret, secret_key::MACHINE_PUBLIC_KEY)?;
        Some(format!("the device with machine key {key}, if it came to be"))
    };
    let key = key_id(secret).map(|id| format!("auth key {id}"));
    let what: Vec<String> = [device.or_else(machine), key].into_iter().flatten().collect();
    if what.is_empty() {
        return None;
    }
    let what = what.join(" and ");
    let message = format!("left behind on the tailnet: {what}; remove it in the tailnet's admin pages");
    Some(Note {
        kind: NoteKind::Warning,
        reason: "DeviceLeftBehind",
        message,
    })
}

#[cfg(test)]
mod tests;
