//! Which objects are whose: told by labels, so that objects which others have made are found as well.

use isthmus_contract::label;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Whether an object is part of the proxy of this Service.
pub fn belongs(object: &ObjectMeta, service: &ObjectMeta) -> bool {
    let labels = object.labels.as_ref();
    let has = |key: &str, value: Option<&str>| labels.and_then(|labels| labels.get(key)).map(String::as_str) == value;
    has(label::PARENT_RESOURCE, service.name.as_deref())
        && has(label::PARENT_RESOURCE_NAMESPACE, service.namespace.as_deref())
        && has(label::PARENT_RESOURCE_TYPE, Some(label::PARENT_TYPE_SERVICE))
}

/// Whether an object is there for the metrics of this Service's proxy.
pub fn is_for_metrics(object: &ObjectMeta, service: &ObjectMeta) -> bool {
    object.labels.as_ref().is_some_and(|labels| {
        labels.contains_key(label::METRICS_TARGET) && labels.get(label::PARENT_UID) == service.uid.as_ref()
    })
}
