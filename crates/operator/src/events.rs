//! Events on users' objects: one per piece of news, never a reason to fail.

use isthmus_kubernetes::{Object, namespaced};
use isthmus_operator_core::service_proxy::{Note, NoteKind};
use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{Client, Resource, ResourceExt as _, api::PostParams};

/// What the events say they come from.
const CONTROLLER: &str = "isthmus.dev/operator";
/// Bytes the API server takes for the text of an event.
const NOTE_LIMIT: usize = 1024;

/// Where events on objects without a namespace are found.
const CLUSTER_NAMESPACE: &str = "default";

/// Publishes `note` about `object` in the object's namespace.
pub(crate) async fn publish<K>(client: &Client, instance: &str, object: &K, note: &Note)
where
    K: Resource<DynamicType = ()>,
{
    let namespace = object.namespace().unwrap_or_else(|| CLUSTER_NAMESPACE.to_owned());
    let mut event = event(instance, &object.object_ref(&()), note, Timestamp::now());
    event.metadata.namespace = Some(namespace.clone());
    let api = namespaced::<Event>(client, &namespace);
    if let Err(error) = api.create(&PostParams::default(), &Object::of(&event)).await {
        let error: &dyn std::error::Error = &error;
        tracing::warn!(error, reason = note.reason, "cannot publish an event");
    }
}

fn event(instance: &str, regarding: &ObjectReference, note: &Note, now: Timestamp) -> Event {
    let name = regarding.name.as_deref().unwrap_or_default();
    let kind = match note.kind {
        NoteKind::Normal => "Normal",
        NoteKind::Warning => "Warning",
    };
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{name}.{:x}", now.as_nanosecond())),
            ..ObjectMeta::default()
        },
        action: Some("Reconcile".to_owned()),
        event_time: Some(MicroTime(now)),
        note: Some(cut(&note.message)),
        reason: Some(note.reason.to_owned()),
        regarding: Some(regarding.clone()),
        reporting_controller: Some(CONTROLLER.to_owned()),
        reporting_instance: Some(instance.to_owned()),
        type_: Some(kind.to_owned()),
        ..Event::default()
    }
}

fn cut(text: &str) -> String {
    let mut end = text.len().min(NOTE_LIMIT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}
