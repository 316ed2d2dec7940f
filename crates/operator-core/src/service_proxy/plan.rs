//! From what is to what should be.

mod keys;

use std::time::Duration;

use isthmus_contract::{
    condition::{PROXY_READY, ProxyReason},
    finalizer,
};
use k8s_openapi::{
    api::core::v1::{LoadBalancerIngress, Secret, ServiceStatus},
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
};

use super::{
    cleanup,
    desired::{self, Proxy},
    families,
    input::{Child, Children, Input},
    intent::{Intent, Wanted, intent, is_egress, is_load_balancer},
    load_balancer,
    status::{self, ready_condition},
    tags,
    user_spec::{self, SpecPatch},
};
use crate::{condition::Verdict, drift, settings::Settings};

pub use keys::key_description_prefix;
pub(super) use keys::key_id;
use keys::{KEY_LIFE, key_check, key_description, login, superseded_key};

/// What to do, in this order, and what to tell.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Writes and calls, in order. After a [`Action::MintAuthKey`] the plan is made anew with the key.
    pub actions: Vec<Action>,
    /// What the condition should say afterwards. `None`: the Service should have no condition of ours.
    pub verdict: Option<Verdict>,
    /// What the Service's `status.loadBalancer.ingress` should hold. `None`: nothing of ours.
    pub load_balancer: Option<Vec<LoadBalancerIngress>>,
    /// What people should hear, beside what the verdict tells them.
    pub notes: Vec<Note>,
    /// When to look again although nothing happened.
    pub again_after: Option<Duration>,
}

/// One write or call.
#[derive(Debug, Clone)]
pub enum Action {
    /// Put our finalizer on the Service.
    HoldFinalizer,
    /// Take our finalizer off the Service.
    ReleaseFinalizer,
    /// Change the Service's spec.
    PatchSpec(SpecPatch),
    /// Apply an object of the proxy.
    Apply(Box<Child>),
    /// Delete an object of the proxy.
    Delete(Box<Child>),
    /// Delete an object of the proxy but not what it owns, which its successor takes over.
    Orphan(Box<Child>),
    /// Note on the Service since when the credentials are refused, or that they no longer are.
    NoteRefusal(SpecPatch),
    /// Make an auth key.
    MintAuthKey(AuthKeyWanted),
    /// Revoke an auth key by its id; gone is fine.
    RevokeAuthKey(String),
    /// Remove a device from the tailnet by its id; gone is fine.
    DeleteDevice(String),
    /// Give a device other tags; gone is fine. The plan is made anew afterwards, to note them.
    SetDeviceTags {
        /// Id of the device.
        device: String,
        /// All tags it shall carry.
        tags: Vec<String>,
    },
    /// Remove the device of the machine with this public key from the tailnet, if there is one.
    DeleteDeviceOfMachine(String),
}

impl Action {
    /// Whether it cannot be undone and so must not rest on a cache that lags.
    pub const fn is_final(&self) -> bool {
        match self {
            Self::RevokeAuthKey(_)
            | Self::DeleteDevice(_)
            | Self::SetDeviceTags { .. }
            | Self::DeleteDeviceOfMachine(_)
            | Self::Delete(_)
            | Self::Orphan(_)
            | Self::ReleaseFinalizer => true,
            // Two keys for one proxy do no harm: the one that is not stored ends within the hour.
            Self::MintAuthKey(_) | Self::HoldFinalizer | Self::PatchSpec(_) | Self::NoteRefusal(_) | Self::Apply(_) => {
                false
            }
        }
    }
}

/// An auth key to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthKeyWanted {
    /// Tags of the device.
    pub tags: Vec<String>,
    /// Life of the key.
    pub life: Duration,
    /// What people see in the tailnet's list of keys.
    pub description: String,
}

/// Something people should hear of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// How bad it is.
    pub kind: NoteKind,
    /// One word for the machine.
    pub reason: &'static str,
    /// One line for people.
    pub message: String,
}

/// How bad a [`Note`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoteKind {
    /// All is well.
    Normal,
    /// Somebody should look.
    Warning,
}

impl Plan {
    pub(super) const fn nothing() -> Self {
        Self {
            actions: Vec::new(),
            verdict: None,
            load_balancer: None,
            notes: Vec::new(),
            again_after: None,
        }
    }

    /// What of ours to write over the status `existing`; `None` when it is right already.
    pub fn status(&self, existing: Option<&ServiceStatus>, generation: Option<i64>, now: &Time) -> Option<OwnStatus> {
        let condition = ready_condition(existing);
        let verdict = self.verdict.as_ref();
        let news = verdict.and_then(|verdict| verdict.condition(PROXY_READY, condition, generation, now));
        let moved = self
            .load_balancer
            .as_ref()
            .is_some_and(|entries| *entries != load_balancer::existing(existing));
        let cleared = verdict.is_none() && condition.is_some();
        (news.is_some() || moved || cleared).then(|| OwnStatus {
            condition: verdict.and_then(|_| news.or_else(|| condition.cloned())),
            load_balancer: self.load_balancer.clone(),
        })
    }

    /// Everything people should hear: the notes, and the verdict when it is news.
    pub fn news(&self, existing: Option<&Condition>) -> Vec<Note> {
        let mut notes = self.notes.clone();
        if let Some(verdict) = self.verdict.as_ref().filter(|verdict| verdict.is_news(existing)) {
            let kind = if verdict.reason.is_true() {
                NoteKind::Normal
            } else {
                NoteKind::Warning
            };
            notes.push(Note {
                kind,
                reason: verdict.reason.as_str(),
                message: verdict.message.clone(),
            });
        }
        notes
    }
}

/// The parts of a Service's status that are ours, to be written together: what is left out goes away.
#[derive(Debug, Clone, PartialEq)]
pub struct OwnStatus {
    /// Our condition.
    pub condition: Option<Condition>,
    /// Where clients find a LoadBalancer Service.
    pub load_balancer: Option<Vec<LoadBalancerIngress>>,
}

/// The plan for a Service, whatever it asks for.
pub fn plan(input: &Input, settings: &Settings) -> Plan {
    let held = holds_finalizer(input);
    if input.is_deleted() {
        return if held {
            cleanup::plan(input, settings)
        } else {
            Plan::nothing()
        };
    }
    match intent(&input.service, settings) {
        Intent::None if held || !input.children.is_empty() => cleanup::plan(input, settings),
        Intent::None => Plan::nothing(),
        // An exposed Service is judged as its owner wrote it.
        _ if user_spec::is_redirected(&input.service) && !is_egress(&input.service) => restore(input, settings),
        Intent::Invalid(problem) => Plan {
            verdict: Some(Verdict::new(ProxyReason::Invalid, problem.message())),
            // What worked stays where it was found.
            load_balancer: is_load_balancer(&input.service, settings)
                .then(|| load_balancer::existing(input.service.status.as_ref())),
            ..Plan::nothing()
        },
        Intent::Proxy(wanted) => provide(input, &wanted, settings),
    }
}

pub(super) fn holds_finalizer(input: &Input) -> bool {
    input
        .service
        .metadata
        .finalizers
        .iter()
        .flatten()
        .any(|name| name == finalizer::DEVICE)
}

fn restore(input: &Input, settings: &Settings) -> Plan {
    Plan {
        actions: user_spec::restore(&input.service, &settings.namespace)
            .map(Action::PatchSpec)
            .into_iter()
            .collect(),
        verdict: Some(Verdict::new(
            ProxyReason::Pending,
            "the Service is being given back its own spec",
        )),
        ..Plan::nothing()
    }
}

fn provide(input: &Input, wanted: &Wanted, settings: &Settings) -> Plan {
    let waits = input.class.waiting().map(|why| Verdict::new(ProxyReason::Pending, why));
    if waits.is_some() && input.children.stateful_set.is_none() {
        return Plan {
            verdict: waits,
            ..Plan::nothing()
        };
    }
    let proxy = Proxy::new(input, settings);
    let mut actions = Vec::new();
    let mut again_after = key_check(input);
    if !holds_finalizer(input) {
        actions.push(Action::HoldFinalizer);
    }
    actions.extend(
        desired::surroundings(&proxy, families::pod_addresses(input, wanted))
            .into_iter()
            .filter_map(|child| apply(child, &input.children)),
    );
    if is_egress(&input.service) {
        // Before the Pod exists, so that nobody is told an answer that the redirection makes wrong.
        let name = format!("{}.{}.svc.{}", proxy.name, settings.namespace, settings.cluster_domain);
        let patch = user_spec::redirect(&input.service, &name, &settings.namespace);
        actions.extend(patch.map(Action::PatchSpec));
    }
    match login(input, wanted) {
        Some(login) => {
            let secret = desired::secret(&proxy, wanted, &login, tags::on_device(input).as_deref());
            actions.extend(apply(secret, &input.children));
            actions.extend(superseded_key(input, &login).map(Action::RevokeAuthKey));
            // The Pod that runs stays as it is until its class is known.
            if waits.is_none() {
                actions.extend(stateful_set(desired::stateful_set(&proxy, wanted), &input.children));
                actions.extend(metrics(&proxy, wanted, &input.children));
            }
            // Last, so that tags that the tailnet refuses hold up nothing else.
            if let Some(change) = tags::change(input, wanted, &login) {
                actions.push(change);
                again_after = Some(again_after.map_or(tags::CHECK, |after| after.min(tags::CHECK)));
            }
        }
        None => actions.push(Action::MintAuthKey(AuthKeyWanted {
            tags: wanted.tags.clone(),
            life: KEY_LIFE,
            description: key_description(&settings.cluster_id, &proxy.pod_name),
        })),
    }
    actions.extend(cleanup::forget_refusal(input).map(Action::NoteRefusal));
    if input.problem.is_some() {
        // Tried a moment ago; what is left is to tell.
        actions.clear();
        again_after = key_check(input);
    }
    let found = status::verdict(input, wanted);
    // A proxy that carries keeps its addresses while its class is looked for.
    let entries = || load_balancer::entries(input, wanted, found.reason.is_true());
    Plan {
        again_after,
        load_balancer: is_load_balancer(&input.service, settings).then(entries),
        verdict: Some(waits.unwrap_or(found)),
        actions,
        notes: Vec::new(),
    }
}

/// Brings the objects by which metrics are found to where the class wants them.
fn metrics(proxy: &Proxy<'_>, wanted: &Wanted, children: &Children) -> Vec<Action> {
    let Some(owner) = &children.stateful_set else {
        return Vec::new();
    };
    let desired = desired::metrics(proxy, wanted, owner);
    let wants = |kind: &str| desired.iter().any(|child| child.kind() == kind);
    let service = children.metrics_service.as_deref().cloned().map(Child::MetricsService);
    let monitor = children.service_monitor.as_deref().cloned().map(Child::ServiceMonitor);
    let stale = [service, monitor]
        .into_iter()
        .flatten()
        .filter(|child| !wants(child.kind()));
    let deletions: Vec<Action> = stale.map(|child| Action::Delete(Box::new(child))).collect();
    let applications = desired.into_iter().filter_map(|child| apply(child, children));
    applications.chain(deletions).collect()
}

fn apply(child: Child, children: &Children) -> Option<Action> {
    let differs = match &child {
        Child::HeadlessService(object) => drift::needs_apply(object, children.headless_service.as_ref()),
        Child::Secret(object) => drift::needs_apply(object, children.secret.as_ref()),
        Child::ServiceAccount(object) => drift::needs_apply(object, children.service_account.as_ref()),
        Child::Role(object) => drift::needs_apply(object, children.role.as_ref()),
        Child::RoleBinding(object) => drift::needs_apply(object, children.role_binding.as_ref()),
        Child::StatefulSet(object) => drift::needs_apply(&**object, children.stateful_set.as_deref()),
        Child::MetricsService(object) => drift::needs_apply(object, children.metrics_service.as_deref()),
        Child::ServiceMonitor(object) => drift::needs_apply(object, children.service_monitor.as_deref()),
    };
    differs.then(|| Action::Apply(Box::new(child)))
}

/// A StatefulSet whose unchangeable fields are others, made by another operator or for an earlier Service of the same
/// name, is replaced. Its Pod stays until the successor takes it over, if it can.
fn stateful_set(child: Child, children: &Children) -> Option<Action> {
    let (Child::StatefulSet(wanted), Some(live)) = (&child, &children.stateful_set) else {
        return apply(child, children);
    };
    let (Some(wanted), Some(found)) = (&wanted.spec, &live.spec) else {
        return apply(child, children);
    };
    let may_change = found.pod_management_policy == wanted.pod_management_policy
        && found.service_name == wanted.service_name
        && found.selector == wanted.selector
        && found.volume_claim_templates.as_ref().is_none_or(Vec::is_empty);
    if may_change {
        return apply(child, children);
    }
    if live.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let successor_finds_the_pod = found.selector == wanted.selector;
    let old = Box::new(Child::StatefulSet(live.clone()));
    Some(if successor_finds_the_pod {
        Action::Orphan(old)
    } else {
        Action::Delete(old)
    })
}

/// The text under a key of a Secret.
pub(super) fn text<'a>(secret: &'a Secret, key: &str) -> Option<&'a str> {
    std::str::from_utf8(&secret.data.as_ref()?.get(key)?.0).ok()
}

#[cfg(test)]
mod tests;
