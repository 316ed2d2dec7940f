//! The objects by which a proxy's metrics are found, when its class asks for them. The StatefulSet owns them, so they
//! go with it.

use std::collections::BTreeMap;

use isthmus_contract::{label, name::metrics_name, port};
use k8s_openapi::{
    api::{
        apps::v1::StatefulSet,
        core::v1::{Service, ServicePort, ServiceSpec},
    },
    apimachinery::pkg::{
        apis::meta::v1::{ObjectMeta, OwnerReference},
        util::intstr::IntOrString,
    },
};
use serde_json::json;

use super::Proxy;
use crate::{
    drift,
    proxy_class::Metrics,
    service_monitor::ServiceMonitor,
    service_proxy::{
        input::Child,
        intent::{Direction, Wanted},
    },
};

/// Name of the port, by which scrapers find it.
const PORT: &str = "metrics";
/// Longest value of a label.
const MAX_LABEL: usize = 63;

/// What shall exist for the metrics of the proxy that `owner` runs.
pub(in crate::service_proxy) fn build(proxy: &Proxy<'_>, wanted: &Wanted, owner: &StatefulSet) -> Vec<Child> {
    let Some(metrics) = asked(proxy) else {
        return Vec::new();
    };
    let labels = labels(proxy, wanted);
    let service = service(metadata(proxy, owner, labels.clone()), proxy, wanted);
    let mut objects = vec![Child::MetricsService(drift::seal(service, |object| {
        &mut object.metadata
    }))];
    let monitor = metrics.service_monitor.as_ref().filter(|monitor| monitor.enable);
    if let Some(monitor) = monitor {
        let mut all = monitor.labels.clone().unwrap_or_default();
        all.extend(labels.clone());
        let monitor = service_monitor(metadata(proxy, owner, all), proxy, &labels);
        objects.push(Child::ServiceMonitor(drift::seal(monitor, |object| {
            &mut object.metadata
        })));
    }
    objects
}

fn asked<'a>(proxy: &Proxy<'a>) -> Option<&'a Metrics> {
    let metrics = proxy.class?.metrics.as_ref()?;
    metrics.enable.then_some(metrics)
}

/// Labels of the Service, which Prometheus carries over to what it scrapes.
fn labels(proxy: &Proxy<'_>, wanted: &Wanted) -> BTreeMap<String, String> {
    let kind = match wanted.direction {
        Direction::Ingress { .. } => "ingress_service",
        Direction::Egress { .. } => "egress_service",
    };
    let job = format!("ts_{kind}_{}_{}", proxy.parent_namespace, proxy.parent);
    let labels = [
        (label::MANAGED, label::MANAGED_VALUE.to_owned()),
        (label::PARENT_UID, proxy.parent_uid.to_owned()),
        (label::METRICS_TARGET, proxy.name.clone()),
        (label::PROXY_TYPE, kind.to_owned()),
        (label::PROXY_PARENT_NAME, proxy.parent.to_owned()),
        (label::PROXY_PARENT_NAMESPACE, proxy.parent_namespace.to_owned()),
        (label::PROMETHEUS_JOB, cut(&job)),
    ];
    labels.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// A text of ASCII letters, cut to what fits a label.
fn cut(text: &str) -> String {
    let end = text.len().min(MAX_LABEL);
    text[..end].trim_end_matches(['-', '_', '.']).to_owned()
}

fn metadata(proxy: &Proxy<'_>, owner: &StatefulSet, labels: BTreeMap<String, String>) -> ObjectMeta {
    let owner = OwnerReference {
        api_version: "apps/v1".to_owned(),
        kind: "StatefulSet".to_owned(),
        name: owner.metadata.name.clone().unwrap_or_default(),
        uid: owner.metadata.uid.clone().unwrap_or_default(),
        ..OwnerReference::default()
    };
    ObjectMeta {
        name: Some(metrics_name(&proxy.name)),
        namespace: Some(proxy.settings.namespace.clone()),
        labels: Some(labels),
        owner_references: Some(vec![owner]),
        ..ObjectMeta::default()
    }
}

fn service(metadata: ObjectMeta, proxy: &Proxy<'_>, wanted: &Wanted) -> Service {
    Service {
        metadata,
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            selector: Some(proxy.selector()),
            ports: Some(vec![ServicePort {
                name: Some(PORT.to_owned()),
                port: i32::from(port::HEALTH),
                protocol: Some("TCP".to_owned()),
                target_port: Some(IntOrString::Int(i32::from(wanted.health_port))),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

fn service_monitor(metadata: ObjectMeta, proxy: &Proxy<'_>, selected: &BTreeMap<String, String>) -> ServiceMonitor {
    let spec = json!({
        "endpoints": [{"port": PORT}],
        "jobLabel": label::PROMETHEUS_JOB,
        "namespaceSelector": {"matchNames": [proxy.settings.namespace]},
        "selector": {"matchLabels": selected},
        "targetLabels": [label::PROXY_PARENT_NAME, label::PROXY_PARENT_NAMESPACE, label::PROXY_TYPE],
    });
    ServiceMonitor::new(metadata, spec)
}
