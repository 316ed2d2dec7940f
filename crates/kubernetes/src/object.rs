//! Objects of every kind in one type.

use std::borrow::Cow;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::{ApiResource, DynamicResourceScope};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// An object as the API server sent it, or as it shall be sent.
#[derive(Debug, Clone)]
pub struct Object {
    value: Value,
    /// A copy of what `value` has: the library asks for names and versions.
    metadata: ObjectMeta,
}

impl Object {
    /// The object to send.
    pub fn of<K>(object: &K) -> Self
    where
        K: Resource<DynamicType = ()> + Serialize,
    {
        Self {
            value: serde_json::to_value(object).expect("Kubernetes objects always serialise"),
            metadata: object.meta().clone(),
        }
    }

    /// The object as one of its kind.
    ///
    /// # Errors
    /// When it is none of that kind.
    pub fn read<K: DeserializeOwned>(self) -> Result<K, kube::Error> {
        serde_json::from_value(self.value).map_err(kube::Error::SerdeError)
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let metadata = match value.get("metadata") {
            Some(metadata) => serde_json::from_value(metadata.clone()).map_err(D::Error::custom)?,
            None => ObjectMeta::default(),
        };
        Ok(Self { value, metadata })
    }
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(serializer)
    }
}

impl Resource for Object {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(kind: &ApiResource) -> Cow<'_, str> {
        kind.kind.as_str().into()
    }

    fn group(kind: &ApiResource) -> Cow<'_, str> {
        kind.group.as_str().into()
    }

    fn version(kind: &ApiResource) -> Cow<'_, str> {
        kind.version.as_str().into()
    }

    fn api_version(kind: &ApiResource) -> Cow<'_, str> {
        kind.api_version.as_str().into()
    }

    fn plural(kind: &ApiResource) -> Cow<'_, str> {
        kind.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    /// What is changed here is not sent.
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// Objects of kind `K` in one namespace.
pub fn namespaced<K: Resource<DynamicType = ()>>(client: &Client, namespace: &str) -> Api<Object> {
    Api::namespaced_with(client.clone(), namespace, &ApiResource::erase::<K>(&()))
}

/// Objects of kind `K` in all namespaces, or those of a kind without any.
pub fn all<K: Resource<DynamicType = ()>>(client: &Client) -> Api<Object> {
    Api::all_with(client.clone(), &ApiResource::erase::<K>(&()))
}

/// What happens to the objects of `api`, for ever. After an error it is tried again, with growing pauses.
pub fn events(api: Api<Object>, config: watcher::Config) -> BoxStream<'static, watcher::Result<Event<Object>>> {
    watcher(api, config).default_backoff().boxed()
}

/// An event with its object as one of kind `K`.
///
/// # Errors
/// When the object is none of that kind.
pub fn read_event<K: DeserializeOwned>(event: Event<Object>) -> Result<Event<K>, kube::Error> {
    Ok(match event {
        Event::Apply(object) => Event::Apply(object.read()?),
        Event::Delete(object) => Event::Delete(object.read()?),
        Event::Init => Event::Init,
        Event::InitApply(object) => Event::InitApply(object.read()?),
        Event::InitDone => Event::InitDone,
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Secret, Service};
    use kube::ResourceExt as _;
    use serde_json::json;

    use super::Object;

    #[test]
    fn object_of_the_api_server_is_read_as_its_kind() {
        let text = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "uid": "1"},
            "spec": {"clusterIP": "10.96.0.7"}, "other": [1],
        });
        let object: Object = serde_json::from_str(&text.to_string()).unwrap();
        assert_eq!(object.name_any(), "web");
        assert_eq!(serde_json::to_value(&object).unwrap(), text);
        let service: Service = object.clone().read().unwrap();
        assert_eq!(service.spec.unwrap().cluster_ip.as_deref(), Some("10.96.0.7"));
        assert!(object.read::<Secret>().is_err(), "a Service was taken for a Secret");
    }

    #[test]
    fn item_of_a_list_is_read_although_it_does_not_name_its_kind() {
        let object: Object =
            serde_json::from_value(json!({"metadata": {"name": "web"}, "data": {"a": "Yg=="}})).unwrap();
        let secret: Secret = object.read().unwrap();
        assert_eq!(secret.data.unwrap()["a"].0, b"b");
    }
}
