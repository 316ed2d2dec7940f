//! The API server as far as the plan meets it: objects in maps, and the few rules of Services that matter.

use std::collections::{BTreeMap, BTreeSet};

use isthmus_contract::{annotation, finalizer, label, secret_key};
use isthmus_operator_core::{
    proxy_class::ProxyClass,
    service_proxy::{Child, OwnStatus, SpecPatch},
};
use isthmus_testkit::story::Refusal;
use k8s_openapi::{
    ByteString,
    api::core::v1::{LoadBalancerStatus, Pod, Service, ServiceStatus},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
    jiff::Timestamp,
};
use serde_json::Value;

use crate::{operator::Fail, proxies::Running, tailnet::Tailnet};

/// Everything the API server holds.
#[derive(Clone, Default)]
pub(crate) struct Objects {
    pub(crate) services: BTreeMap<String, Service>,
    /// Objects of proxies by kind and name.
    pub(crate) children: BTreeMap<(&'static str, String), Child>,
    pub(crate) pods: BTreeMap<String, Pod>,
    pub(crate) class: Option<ProxyClass>,
}

#[derive(Default)]
pub(crate) struct World {
    pub(crate) objects: Objects,
    pub(crate) tailnet: Tailnet,
    /// What runs in the Pods.
    pub(crate) running: BTreeMap<String, Running>,
    /// Seconds since 1970.
    pub(crate) now: i64,
    /// Grows with every change.
    pub(crate) version: u64,
    /// Writes of the operator so far.
    pub(crate) writes: u64,
    /// Services that the operator is told of.
    pub(crate) dirty: BTreeSet<String>,
    /// Whether the device that comes and goes is there.
    pub(crate) fickle: bool,
    /// Devices whose Secret somebody deleted: nobody may know them any more.
    pub(crate) lost: BTreeSet<String>,
    /// What the rest of the cluster saw when it had nothing to do.
    pub(crate) seen: Option<(u64, u64, bool)>,
    refusal: Option<(Refusal, u8)>,
    next_address: u16,
}

impl World {
    pub(crate) fn meets(&mut self, refusal: Refusal, writes: u8) {
        self.refusal = Some((refusal, writes));
    }

    pub(crate) fn heal(&mut self) {
        self.refusal = None;
        self.tailnet.heal();
    }

    pub(crate) fn time(&self) -> Time {
        Time(Timestamp::from_second(self.now).unwrap())
    }

    /// A new version, which no object had before.
    pub(crate) fn step(&mut self) -> String {
        self.version += 1;
        self.version.to_string()
    }

    /// Lets a write of the operator in; the answer may be lost on the way back.
    fn admit(&mut self) -> Result<Result<(), Fail>, Fail> {
        self.writes += 1;
        let refusal = match &mut self.refusal {
            None | Some((_, 0)) => return Ok(Ok(())),
            Some((refusal, left)) => {
                *left -= 1;
                *refusal
            }
        };
        match refusal {
            Refusal::Conflict => Err(Fail::Conflict),
            Refusal::Forbidden => Err(Fail::Refused("the API server answers 403".to_owned())),
            Refusal::Server => Err(Fail::ApiServer),
            Refusal::Lost => Ok(Err(Fail::ApiServer)),
        }
    }

    /// Server-side apply of an object of a proxy. What others wrote into a Secret stays.
    pub(crate) fn apply(&mut self, child: &Child) -> Result<Child, Fail> {
        let answer = self.admit()?;
        let key = key(child);
        let mut child = child.clone();
        let live = self.objects.children.get(&key);
        match (&mut child, live) {
            (Child::Secret(wanted), Some(Child::Secret(live))) => {
                let data = wanted.data.get_or_insert_default();
                for (key, value) in live.data.iter().flatten().filter(|(key, _)| !is_operators(key)) {
                    data.insert(key.clone(), value.clone());
                }
            }
            (Child::StatefulSet(wanted), Some(Child::StatefulSet(live))) => {
                let fixed = |set: &k8s_openapi::api::apps::v1::StatefulSet| {
                    let spec = set.spec.clone().unwrap_or_default();
                    (spec.selector, spec.service_name, spec.pod_management_policy)
                };
                if fixed(wanted) != fixed(live) {
                    return Err(Fail::Refused("the API server answers 422".to_owned()));
                }
            }
            (_, _) => {}
        }
        let uid = live.and_then(|live| live.metadata().uid.clone());
        let version = self.step();
        let metadata = metadata_mut(&mut child);
        metadata.uid = uid.or_else(|| Some(format!("uid-{version}")));
        metadata.resource_version = Some(version);
        self.touch(child.metadata());
        self.objects.children.insert(key, child.clone());
        answer.map(|()| child)
    }

    /// Deletes exactly the object observed. Gone is fine.
    pub(crate) fn delete(&mut self, child: &Child) -> Result<(), Fail> {
        let answer = self.admit()?;
        let key = key(child);
        if let Some(live) = self.objects.children.get(&key) {
            if live.metadata().uid != child.metadata().uid {
                return Err(Fail::Conflict);
            }
            self.remove(&key);
        }
        answer
    }

    /// Takes an object away, as the operator, the garbage collector or a hand does.
    pub(crate) fn remove(&mut self, key: &(&'static str, String)) {
        if let Some(child) = self.objects.children.remove(key) {
            self.step();
            self.touch(child.metadata());
        }
    }

    /// Tells the operator of the Service that an object belongs to.
    pub(crate) fn touch(&mut self, metadata: &ObjectMeta) {
        let labels = metadata.labels.as_ref();
        let parent = |key: &str| labels.and_then(|labels| labels.get(key)).cloned();
        self.dirty.extend(parent(label::PARENT_RESOURCE));
        self.dirty.extend(parent(label::PROXY_PARENT_NAME));
    }

    pub(crate) fn set_finalizer(&mut self, service: &Service, held: bool) -> Result<Service, Fail> {
        let answer = self.admit()?;
        let name = service.metadata.name.clone().unwrap();
        let live = match self.objects.services.get(&name) {
            Some(live) if live.metadata.uid == service.metadata.uid => live,
            // What is gone or another cannot be held; and nobody is left to hold.
            None if !held => return answer.map(|()| without_finalizer(service)),
            Some(_) | None => return Err(Fail::Conflict),
        };
        let mut live = live.clone();
        if live.metadata.deletion_timestamp.is_some() && held {
            return Err(Fail::Refused("the API server answers 422".to_owned()));
        }
        live.metadata.finalizers = held.then(|| vec![finalizer::DEVICE.to_owned()]);
        answer.and(Ok(self.store(live)))
    }

    pub(crate) fn patch_service(&mut self, service: &Service, patch: &SpecPatch) -> Result<Service, Fail> {
        let answer = self.admit()?;
        let name = service.metadata.name.as_deref().unwrap();
        let live = self.objects.services.get(name).ok_or(Fail::Conflict)?.clone();
        let bound = &patch.body["metadata"];
        let is = |key: &str, value: &Option<String>| bound[key].as_str() == value.as_deref();
        if !is("uid", &live.metadata.uid) || !is("resourceVersion", &live.metadata.resource_version) {
            return Err(Fail::Conflict);
        }
        let patched = self.merged(&live, &patch.body);
        let patched = match (patched, &patch.fallback) {
            (None, Some(fallback)) => self.merged(&live, fallback),
            (patched, _) => patched,
        };
        let patched = patched.ok_or_else(|| Fail::Refused("the API server answers 422".to_owned()))?;
        answer.and(Ok(self.store(patched)))
    }

    /// Writes what is ours of a status. Gone is fine.
    pub(crate) fn apply_status(&mut self, service: &Service, status: &OwnStatus) -> Result<Option<Service>, Fail> {
        let answer = self.admit()?;
        let name = service.metadata.name.as_deref().unwrap();
        let Some(live) = self.objects.services.get(name) else {
            return answer.map(|()| None);
        };
        if live.metadata.uid != service.metadata.uid {
            return Err(Fail::Conflict);
        }
        let mut live = live.clone();
        let ingress = status.load_balancer.clone().filter(|entries| !entries.is_empty());
        live.status = Some(ServiceStatus {
            conditions: status.condition.clone().map(|condition| vec![condition]),
            load_balancer: ingress.map(|ingress| LoadBalancerStatus { ingress: Some(ingress) }),
        });
        answer.and(Ok(Some(self.store(live))))
    }

    /// Stores a changed Service, or lets it go when it was deleted and nobody holds it.
    fn store(&mut self, mut service: Service) -> Service {
        let name = service.metadata.name.clone().unwrap();
        service.metadata.resource_version = Some(self.step());
        self.dirty.insert(name.clone());
        let held = service.metadata.finalizers.iter().flatten().next().is_some();
        if service.metadata.deletion_timestamp.is_some() && !held {
            self.objects.services.remove(&name);
        } else {
            self.objects.services.insert(name, service.clone());
        }
        service
    }

    /// The Service after a merge patch and the API server's rules; nothing when it refuses.
    fn merged(&mut self, live: &Service, patch: &Value) -> Option<Service> {
        let mut value = serde_json::to_value(live).unwrap();
        merge(&mut value, patch);
        let mut new: Service = serde_json::from_value(value).ok()?;
        self.complete(Some(live), &mut new).then_some(new)
    }

    /// What the API server makes of a spec; false when it refuses.
    fn complete(&mut self, old: Option<&Service>, new: &mut Service) -> bool {
        let kind = |service: &Service| service.spec.as_ref().and_then(|spec| spec.type_.clone());
        let (was, is) = (old.and_then(kind), kind(new));
        let old_spec = old.and_then(|old| old.spec.as_ref());
        let spec = new.spec.get_or_insert_default();
        if is.as_deref() != Some("LoadBalancer") {
            let unchanged = old_spec.is_some_and(|old| old.load_balancer_class == spec.load_balancer_class);
            if was.as_deref() == Some("LoadBalancer") && unchanged {
                spec.load_balancer_class = None;
            }
            if spec.load_balancer_class.is_some() {
                return false;
            }
        }
        if is.as_deref() == Some("ExternalName") {
            spec.cluster_ip = None;
            spec.cluster_ips = None;
            return spec.external_name.as_ref().is_some_and(|name| !name.is_empty());
        }
        let address = |spec: &k8s_openapi::api::core::v1::ServiceSpec| {
            spec.cluster_ip.clone().filter(|address| !address.is_empty())
        };
        if was.as_deref().is_some_and(|was| was != "ExternalName") {
            let before = old_spec.and_then(address);
            if address(spec).is_some() && address(spec) != before {
                return false;
            }
            spec.cluster_ip = before;
        }
        if address(spec).is_none() {
            self.next_address += 1;
            let [high, low] = self.next_address.to_be_bytes();
            spec.cluster_ip = Some(format!("10.96.{high}.{low}"));
        }
        spec.cluster_ips = spec.cluster_ip.clone().map(|address| vec![address]);
        spec.external_name = None;
        true
    }

    /// The owner creates a Service; false when the API server refuses.
    pub(crate) fn create(&mut self, manifest: &Value) -> bool {
        let mut service: Service = serde_json::from_value(manifest.clone()).unwrap();
        if !self.complete(None, &mut service) {
            return false;
        }
        service.metadata.uid = Some(format!("uid-{}", self.step()));
        service.metadata.generation = Some(1);
        self.store(service);
        true
    }

    /// Somebody patches a Service; false when the API server refuses.
    pub(crate) fn edit(&mut self, name: &str, patch: &Value) -> bool {
        let live = self.objects.services[name].clone();
        let Some(mut new) = self.merged(&live, patch) else {
            return false;
        };
        new.metadata.generation = new.metadata.generation.map(|number| number + 1);
        self.store(new);
        true
    }

    /// The owner deletes a Service.
    pub(crate) fn delete_service(&mut self, name: &str) {
        if let Some(mut service) = self.objects.services.get(name).cloned() {
            let now = self.time();
            service.metadata.deletion_timestamp.get_or_insert(now);
            self.store(service);
        }
    }

    pub(crate) fn secret(&self, name: &str) -> Option<&k8s_openapi::api::core::v1::Secret> {
        match self.objects.children.get(&("Secret", name.to_owned())) {
            Some(Child::Secret(secret)) => Some(secret),
            Some(_) | None => None,
        }
    }

    /// Writes keys of a Secret as its proxy does; false when there is no such Secret.
    pub(crate) fn write_secret(&mut self, name: &str, keys: &BTreeMap<String, Option<String>>) -> bool {
        let version = (self.version + 1).to_string();
        let Some(Child::Secret(secret)) = self.objects.children.get_mut(&("Secret", name.to_owned())) else {
            return false;
        };
        let data = secret.data.get_or_insert_default();
        let mut changes = false;
        for (key, value) in keys {
            let value = value.clone().map(|text| ByteString(text.into_bytes()));
            let before = data.get(key).cloned();
            changes |= before != value;
            match value {
                Some(value) => drop(data.insert(key.clone(), value)),
                None => drop(data.remove(key)),
            }
        }
        if changes {
            secret.metadata.resource_version = Some(version);
            let metadata = secret.metadata.clone();
            self.version += 1;
            self.touch(&metadata);
        }
        true
    }
}

/// Kind and name, by which an object is found.
pub(crate) fn key(child: &Child) -> (&'static str, String) {
    (child.kind(), child.metadata().name.clone().unwrap())
}

/// Name, labels and annotations of an object of a proxy.
pub(crate) fn metadata_mut(child: &mut Child) -> &mut ObjectMeta {
    match child {
        Child::HeadlessService(object) | Child::MetricsService(object) => &mut object.metadata,
        Child::Secret(object) => &mut object.metadata,
        Child::ServiceAccount(object) => &mut object.metadata,
        Child::Role(object) => &mut object.metadata,
        Child::RoleBinding(object) => &mut object.metadata,
        Child::StatefulSet(object) => &mut object.metadata,
        Child::ServiceMonitor(object) => &mut object.metadata,
    }
}

/// The text under a key of a Secret.
pub(crate) fn text(secret: &k8s_openapi::api::core::v1::Secret, key: &str) -> Option<String> {
    let value = secret.data.as_ref()?.get(key)?;
    String::from_utf8(value.0.clone()).ok()
}

/// The id of the auth key that a Secret holds.
pub(crate) fn held_key(secret: &k8s_openapi::api::core::v1::Secret) -> Option<&String> {
    secret.metadata.annotations.as_ref()?.get(annotation::AUTH_KEY_ID)
}

fn is_operators(key: &str) -> bool {
    key == secret_key::PROXY_CONFIG || key.starts_with("cap-")
}

fn without_finalizer(service: &Service) -> Service {
    let mut service = service.clone();
    service.metadata.finalizers = None;
    service
}

/// A JSON merge patch (RFC 7396).
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(members) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let object = target.as_object_mut().unwrap();
    for (key, value) in members {
        if value.is_null() {
            object.remove(key);
        } else {
            merge(object.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}
