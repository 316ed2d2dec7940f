//! What the condition says about a proxy that is wanted: the first thing that is missing, or that nothing is.

use std::net::IpAddr;

use isthmus_contract::{
    condition::{PROXY_READY, ProxyReason},
    proxy_status::{Family, ParseProxyStatusError, Path, ProxyStatus},
    secret_key,
};
use k8s_openapi::{
    api::core::v1::{ContainerState, ContainerStatus, Pod, ServiceStatus},
    apimachinery::pkg::apis::meta::v1::Condition,
};
use serde_json::Value;

use super::{input::Input, intent::Wanted, plan::text};
use crate::condition::Verdict;

/// Letters of a container's last words that are shown.
const LAST_WORDS: usize = 300;

/// What a proxy's Secret says about its device.
pub(super) struct Device {
    /// Full name, without the final dot.
    pub(super) fqdn: String,
    /// Its addresses.
    pub(super) addresses: Vec<IpAddr>,
}

/// The proxy's device, once it is logged in and named.
pub(super) fn device(input: &Input) -> Option<Device> {
    let secret = input.children.secret.as_ref()?;
    text(secret, secret_key::DEVICE_ID)?;
    let addresses = text(secret, secret_key::DEVICE_IPS).unwrap_or("[]");
    Some(Device {
        fqdn: text(secret, secret_key::DEVICE_FQDN)?.trim_end_matches('.').to_owned(),
        addresses: serde_json::from_str(addresses).unwrap_or_default(),
    })
}

/// What the proxy has reported, whichever Pod wrote it.
pub(super) fn reported(input: &Input) -> Option<Result<ProxyStatus, ParseProxyStatusError>> {
    text(input.children.secret.as_ref()?, secret_key::PROXY_STATUS).map(ProxyStatus::parse)
}

/// Our condition in the status of a Service.
pub fn ready_condition(status: Option<&ServiceStatus>) -> Option<&Condition> {
    let conditions = status?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == PROXY_READY)
}

/// The verdict on the proxy of a Service that asks for `wanted`.
pub(super) fn verdict(input: &Input, wanted: &Wanted) -> Verdict {
    if let Some(problem) = &input.problem {
        return Verdict::new(ProxyReason::Failed, problem.message.clone());
    }
    match missing(input, wanted) {
        Some(message) => Verdict::new(ProxyReason::Pending, message),
        None => Verdict::new(ProxyReason::Created, ready_message(input)),
    }
}

/// What is waited for, from the outside in.
fn missing(input: &Input, wanted: &Wanted) -> Option<String> {
    let name = input.pod_name();
    let Some(pod) = &input.children.pod else {
        return Some(format!("waiting for Pod {name} to be created"));
    };
    pod_trouble(pod, &name)
        .or_else(|| proxy_trouble(input, pod, wanted))
        .or_else(|| (!is_ready(pod)).then(|| format!("waiting for Pod {name} to become ready")))
}

fn pod_trouble(pod: &Pod, name: &str) -> Option<String> {
    if pod.metadata.deletion_timestamp.is_some() {
        return Some(format!("waiting for Pod {name} to be replaced"));
    }
    let status = pod.status.as_ref()?;
    let unschedulable = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    if let Some(condition) = unschedulable {
        let why = condition.message.as_deref().unwrap_or("no reason given");
        return Some(format!("Pod {name} cannot be scheduled: {why}"));
    }
    let container = status.container_statuses.iter().flatten().next();
    container
        .and_then(container_trouble)
        .map(|trouble| format!("Pod {name} {trouble}"))
}

fn container_trouble(container: &ContainerStatus) -> Option<String> {
    let state = container.state.as_ref()?;
    if state.running.is_some() {
        return None;
    }
    let last_words = [Some(state), container.last_state.as_ref()]
        .into_iter()
        .flatten()
        .find_map(last_words);
    let waiting = state.waiting.as_ref();
    let reason = waiting
        .and_then(|waiting| waiting.reason.as_deref())
        .unwrap_or("Terminated");
    let message = last_words.or_else(|| waiting.and_then(|waiting| waiting.message.clone()));
    Some(match (reason, message) {
        ("ContainerCreating" | "PodInitializing", _) => "is starting".to_owned(),
        (reason, None) => format!("does not run: {reason}"),
        (reason, Some(message)) => format!("does not run: {reason}: {message}"),
    })
}

/// The last line a container said before it ended.
fn last_words(state: &ContainerState) -> Option<String> {
    let message = state.terminated.as_ref()?.message.as_deref()?;
    let line = message.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
    let words = logged_words(line).unwrap_or_else(|| line.to_owned());
    Some(words.chars().take(LAST_WORDS).collect())
}

/// What a line of a proxy's log says to people; nothing when it is no such line.
fn logged_words(line: &str) -> Option<String> {
    let fields: Value = serde_json::from_str(line).ok()?;
    let words = ["error", "message"].iter().find_map(|field| fields[field].as_str());
    words.map(str::to_owned)
}

fn proxy_trouble(input: &Input, pod: &Pod, wanted: &Wanted) -> Option<String> {
    let name = input.pod_name();
    let secret = input.children.secret.as_ref();
    let status = match reported(input).transpose() {
        // Words of an earlier Pod say nothing about this one.
        Ok(status) => status.filter(|status| pod.metadata.uid.as_ref() == Some(&status.pod_uid)),
        Err(error) => return Some(error.to_string()),
    };
    if let Some(problem) = status.as_ref().and_then(|status| status.problem.as_ref()) {
        return Some(format!("Pod {name}: {problem}"));
    }
    if secret.and_then(|secret| text(secret, secret_key::DEVICE_ID)).is_none() {
        return Some(format!("waiting for Pod {name} to log in to the tailnet"));
    }
    if status.and_then(|status| status.applied) != Some(wanted.proxy_config()) {
        return Some(format!("waiting for Pod {name} to take over the target"));
    }
    None
}

/// Whether the Pod is ready, as the kubelet sees it.
pub(super) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn ready_message(input: &Input) -> String {
    let name = input.pod_name();
    let device = match device(input) {
        Some(device) => {
            let addresses: Vec<String> = device.addresses.iter().map(ToString::to_string).collect();
            format!("{} ({})", device.fqdn, addresses.join(", "))
        }
        None => "a device without a name".to_owned(),
    };
    format!("Pod {name} is on the tailnet as {device}{}", relayed(input))
}

/// Says which families do not go through the kernel.
fn relayed(input: &Input) -> String {
    let status = reported(input).and_then(Result::ok);
    let relayed = status
        .iter()
        .flat_map(|status| &status.carries)
        .filter(|carried| carried.path == Path::Relay);
    let families: Vec<&str> = relayed
        .map(|carried| match carried.family {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        })
        .collect();
    if families.is_empty() {
        String::new()
    } else {
        format!("; the relay in user space carries {}", families.join(" and "))
    }
}

#[cfg(test)]
mod tests;
