//! Whether a proxy class makes sense, as far as its schema cannot say it.

use std::collections::BTreeMap;

use super::{Container, Pod, PortRange, ProxyClassSpec, StatefulSet, image::is_image_reference};

/// Longest value of a label, and longest name part of a key.
const MAX_NAME: usize = 63;
/// Longest DNS name, which is the prefix of a key.
const MAX_PREFIX: usize = 253;

/// Something in a class that has to be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The field, as a path from `spec`.
    pub field: String,
    /// What is wrong with it and what to write instead.
    pub fix: String,
}

impl Finding {
    fn new(field: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            fix: fix.into(),
        }
    }

    /// Field and fix in one line.
    pub fn message(&self) -> String {
        format!("{}: {}", self.field, self.fix)
    }
}

/// Everything that has to be changed. `has_service_monitors`: whether the cluster knows the kind `ServiceMonitor`.
pub fn judge(spec: &ProxyClassSpec, has_service_monitors: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(set) = &spec.stateful_set {
        judge_stateful_set(set, &mut findings);
    }
    judge_metrics(spec, has_service_monitors, &mut findings);
    if let Some(endpoints) = &spec.static_endpoints {
        judge_ports(&endpoints.node_port.ports, &mut findings);
        let field = "spec.staticEndpoints.nodePort.selector";
        judge_labels(field, endpoints.node_port.selector.as_ref(), &mut findings);
    }
    findings
}

fn judge_stateful_set(set: &StatefulSet, findings: &mut Vec<Finding>) {
    judge_labels("spec.statefulSet.labels", set.labels.as_ref(), findings);
    judge_keys("spec.statefulSet.annotations", set.annotations.as_ref(), findings);
    let Some(pod) = &set.pod else { return };
    judge_pod(pod, findings);
    if let Some(container) = &pod.tailscale_container {
        judge_container("tailscaleContainer", container, findings);
    }
    if let Some(container) = &pod.tailscale_init_container {
        judge_container("tailscaleInitContainer", container, findings);
        if container.debug.is_some() {
            let fix = "debug settings belong to tailscaleContainer; remove them here";
            findings.push(Finding::new("spec.statefulSet.pod.tailscaleInitContainer.debug", fix));
        }
    }
}

fn judge_pod(pod: &Pod, findings: &mut Vec<Finding>) {
    judge_labels("spec.statefulSet.pod.labels", pod.labels.as_ref(), findings);
    judge_keys("spec.statefulSet.pod.annotations", pod.annotations.as_ref(), findings);
    judge_labels(
        "spec.statefulSet.pod.nodeSelector",
        pod.node_selector.as_ref(),
        findings,
    );
}

fn judge_container(name: &str, container: &Container, findings: &mut Vec<Finding>) {
    let field = format!("spec.statefulSet.pod.{name}");
    if let Some(image) = container.image.as_deref().filter(|image| !image.is_empty())
        && !is_image_reference(image)
    {
        let fix = format!("`{image}` is not the name of an image; write [registry/]name[:tag][@digest]");
        findings.push(Finding::new(format!("{field}.image"), fix));
    }
    for (index, variable) in container.env.iter().flatten().enumerate() {
        if !is_variable(&variable.name) {
            let fix = format!(
                "`{}` is not the name of a variable; use letters, digits, `_`, `-` and `.`, and no digit first",
                variable.name
            );
            findings.push(Finding::new(format!("{field}.env[{index}].name"), fix));
        }
    }
}

fn judge_metrics(spec: &ProxyClassSpec, has_service_monitors: bool, findings: &mut Vec<Finding>) {
    let metrics = spec.metrics.as_ref();
    let Some(monitor) = metrics.and_then(|metrics| metrics.service_monitor.as_ref()) else {
        return;
    };
    let field = "spec.metrics.serviceMonitor";
    judge_labels(&format!("{field}.labels"), monitor.labels.as_ref(), findings);
    if !monitor.enable {
        return;
    }
    if metrics.is_some_and(|metrics| !metrics.enable) {
        findings.push(Finding::new(field, "it needs metrics: set spec.metrics.enable to true"));
    }
    if !has_service_monitors {
        let fix = "the cluster does not know ServiceMonitors: install the custom resource \
                   servicemonitors.monitoring.coreos.com, or set enable to false";
        findings.push(Finding::new(field, fix));
    }
}

fn judge_ports(ports: &[PortRange], findings: &mut Vec<Finding>) {
    let field = |index: usize| format!("spec.staticEndpoints.nodePort.ports[{index}]");
    if ports.is_empty() {
        let fix = "name at least one port of the cluster's range for node ports";
        findings.push(Finding::new("spec.staticEndpoints.nodePort.ports", fix));
    }
    let row = |range: &PortRange| (range.port, range.end_port.unwrap_or(range.port));
    for (index, range) in ports.iter().enumerate() {
        let (first, last) = row(range);
        if first == 0 || last < first {
            findings.push(Finding::new(
                field(index),
                "let endPort be at least port, and port at least 1",
            ));
        }
        let overlaps = |other: &PortRange| {
            let (other_first, other_last) = row(other);
            first <= other_last && other_first <= last
        };
        if let Some(other) = ports[..index].iter().position(overlaps) {
            findings.push(Finding::new(
                field(index),
                format!("it overlaps ports[{other}]; name each port once"),
            ));
        }
    }
}

fn judge_labels(field: &str, labels: Option<&BTreeMap<String, String>>, findings: &mut Vec<Finding>) {
    judge_keys(field, labels, findings);
    for (key, value) in labels.into_iter().flatten() {
        if !value.is_empty() && !is_name(value) {
            let fix = format!(
                "`{value}` is no value of a label; use at most 63 letters, digits, `-`, `_` and `.`, the first and last \
                 a letter or digit"
            );
            findings.push(Finding::new(format!("{field}[{key}]"), fix));
        }
    }
}

fn judge_keys(field: &str, map: Option<&BTreeMap<String, String>>, findings: &mut Vec<Finding>) {
    for key in map.into_iter().flat_map(BTreeMap::keys).filter(|key| !is_key(key)) {
        let fix = format!(
            "`{key}` is no key; write [DNS name/]name, the name of at most 63 letters, digits, `-`, `_` and `.`"
        );
        findings.push(Finding::new(field, fix));
    }
}

/// Whether `text` can be the key of a label or annotation.
fn is_key(text: &str) -> bool {
    match text.split_once('/') {
        Some((prefix, name)) => is_dns_name(prefix) && is_name(name),
        None => is_name(text),
    }
}

fn is_name(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let bytes = text.as_bytes();
    bytes.len() <= MAX_NAME
        && bytes.iter().copied().all(inner)
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
}

fn is_dns_name(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_label =
        |label: &str| !label.is_empty() && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-');
    text.len() <= MAX_PREFIX && text.split('.').all(is_label)
}

fn is_variable(text: &str) -> bool {
    let first = |byte: &u8| byte.is_ascii_alphabetic() || b"-_.".contains(byte);
    text.as_bytes().first().is_some_and(first) && text.bytes().all(|byte| byte.is_ascii_digit() || first(&byte))
}

#[cfg(test)]
mod tests;
