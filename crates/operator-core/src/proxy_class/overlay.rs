//! A class laid over the objects of a proxy.
//!
//! Only what the class says changes. Labels and annotations of the operator stay, because it finds its objects by them.

mod container;

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{apps::v1::StatefulSet, core::v1::PodSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{Pod, ProxyClassSpec};

type Map = BTreeMap<String, String>;

/// Gives `set` the shape that `class` wants.
pub(crate) fn shape(set: &mut StatefulSet, class: &ProxyClassSpec) {
    let Some(wanted) = &class.stateful_set else { return };
    add_metadata(&mut set.metadata, wanted.labels.as_ref(), wanted.annotations.as_ref());
    let (Some(spec), Some(pod)) = (&mut set.spec, &wanted.pod) else {
        return;
    };
    let metadata = spec.template.metadata.get_or_insert_default();
    add_metadata(metadata, pod.labels.as_ref(), pod.annotations.as_ref());
    let template = spec.template.spec.get_or_insert_default();
    shape_pod(template, pod);
    if let (Some(container), Some(wanted)) = (template.containers.first_mut(), &pod.tailscale_container) {
        container::shape(container, wanted);
    }
}

fn add_metadata(metadata: &mut ObjectMeta, labels: Option<&Map>, annotations: Option<&Map>) {
    for (target, wanted) in [(&mut metadata.labels, labels), (&mut metadata.annotations, annotations)] {
        for (key, value) in wanted.into_iter().flatten() {
            target
                .get_or_insert_default()
                .entry(key.clone())
                .or_insert_with(|| value.clone());
        }
    }
}

fn shape_pod(spec: &mut PodSpec, wanted: &Pod) {
    replace(&mut spec.affinity, wanted.affinity.as_ref());
    replace(&mut spec.security_context, wanted.security_context.as_ref());
    replace(&mut spec.image_pull_secrets, wanted.image_pull_secrets.as_ref());
    replace(&mut spec.node_selector, wanted.node_selector.as_ref());
    replace(&mut spec.tolerations, wanted.tolerations.as_ref());
    replace(
        &mut spec.topology_spread_constraints,
        wanted.topology_spread_constraints.as_ref(),
    );
    replace(&mut spec.dns_config, wanted.dns_config.as_ref());
    replace(&mut spec.node_name, non_empty(wanted.node_name.as_ref()));
    replace(
        &mut spec.priority_class_name,
        non_empty(wanted.priority_class_name.as_ref()),
    );
    replace(&mut spec.dns_policy, non_empty(wanted.dns_policy.as_ref()));
}

fn replace<T: Clone>(field: &mut Option<T>, wanted: Option<&T>) {
    if wanted.is_some() {
        *field = wanted.cloned();
    }
}

/// An empty text says nothing.
fn non_empty(text: Option<&String>) -> Option<&String> {
    text.filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests;
