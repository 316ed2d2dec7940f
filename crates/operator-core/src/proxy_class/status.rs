//! What the condition of a proxy class says.

use isthmus_contract::condition::{PROXY_CLASS_INVALID, PROXY_CLASS_READY, PROXY_CLASS_VALID};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::{Finding, ProxyClass, judge};
use crate::{
    condition,
    service_proxy::{Note, NoteKind},
};

/// The event about variables that proxies may depend on.
const CUSTOM_ENV: &str = "CustomTSEnvVar";

/// Variables of the proxy's environment that do not begin with `TS_`.
const PROXY_VARIABLES: [&str; 2] = [
    "EXPERIMENTAL_TS_CONFIGFILE_PATH",
    "EXPERIMENTAL_ALLOW_PROXYING_CLUSTER_TRAFFIC_VIA_INGRESS",
];

/// What to write on a class, and what to tell.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassPlan {
    /// The condition to write; `None` when it is right already.
    pub condition: Option<Condition>,
    /// What people should hear.
    pub notes: Vec<Note>,
}

/// Judges a class. `has_service_monitors`: whether the cluster knows the kind `ServiceMonitor`.
pub fn plan(class: &ProxyClass, has_service_monitors: bool, now: &Time) -> ClassPlan {
    let findings = judge(&class.spec, has_service_monitors);
    let variables = proxy_variables(class);
    let existing = ready_condition(class);
    let (status, reason, message) = if findings.is_empty() {
        ("True", PROXY_CLASS_VALID, valid(&variables))
    } else {
        ("False", PROXY_CLASS_INVALID, invalid(&findings))
    };
    let message = condition::cut(message);
    let is_news = existing.is_none_or(|existing| existing.reason != reason || existing.message != message);
    let notes = is_news.then(|| note(reason, &message, &variables)).flatten();
    let wanted = condition::Words {
        status,
        reason,
        message,
    };
    ClassPlan {
        condition: wanted.over(PROXY_CLASS_READY, existing, class.metadata.generation, now),
        notes: notes.into_iter().collect(),
    }
}

/// Whether Services can use the class: it was found valid as it is now.
pub fn is_ready(class: &ProxyClass) -> bool {
    ready_condition(class).is_some_and(|condition| {
        condition.status == "True" && condition.observed_generation == class.metadata.generation
    })
}

/// What is wrong with the class as it is now; `None` while that is not known, or nothing is.
pub(super) fn fault(class: &ProxyClass) -> Option<&str> {
    ready_condition(class)
        .filter(|condition| condition.observed_generation == class.metadata.generation && condition.status == "False")
        .map(|condition| condition.message.as_str())
}

/// The condition of ours, if it was ever written.
fn ready_condition(class: &ProxyClass) -> Option<&Condition> {
    let conditions = class.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == PROXY_CLASS_READY)
}

fn valid(variables: &[&str]) -> String {
    if variables.is_empty() {
        return "the class can be used".to_owned();
    }
    format!(
        "the class can be used; it sets {}, which the operator sets or may set itself",
        variables.join(", ")
    )
}

fn invalid(findings: &[Finding]) -> String {
    let findings: Vec<String> = findings.iter().map(Finding::message).collect();
    format!("ProxyClass is not valid: {}", findings.join("; "))
}

/// An invalid class needs its owner; so may one that sets the proxy's own variables.
fn note(reason: &'static str, message: &str, variables: &[&str]) -> Option<Note> {
    let warn = |reason, message: &str| Note {
        kind: NoteKind::Warning,
        reason,
        message: message.to_owned(),
    };
    match (reason, variables) {
        (PROXY_CLASS_INVALID, _) => Some(warn(PROXY_CLASS_INVALID, message)),
        (_, []) => None,
        _ => Some(warn(CUSTOM_ENV, message)),
    }
}

/// Variables of the class that belong to the proxy.
fn proxy_variables(class: &ProxyClass) -> Vec<&str> {
    let pod = class.spec.stateful_set.as_ref().and_then(|set| set.pod.as_ref());
    let container = pod.and_then(|pod| pod.tailscale_container.as_ref());
    let names = container
        .into_iter()
        .flat_map(|container| container.env.iter().flatten());
    let mut names: Vec<&str> = names
        .map(|variable| variable.name.as_str())
        .filter(|name| name.starts_with("TS_") || PROXY_VARIABLES.contains(name))
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
mod tests;
