//! The rest of the cluster: the controller of StatefulSets, the garbage collector, and what runs in the Pods.
//!
//! What a proxy makes of its documents, and what it writes about itself, is the proxy's own pure code.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use isthmus_contract::device_config::AuthKey;
use isthmus_contract::proxy_config::ProxyConfig;
use isthmus_contract::secret_key;
use isthmus_operator_core::service_proxy::Child;
use isthmus_proxy_core::{
    Device, Documents, Mode, Paths, Plan, Publication, ReservedPorts, TUN_NAME, TailnetAddresses, TargetName, Tun,
};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateWaiting, ContainerStatus, Pod, PodCondition, PodStatus, PodTemplateSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::world::World;

/// An image that cannot be had.
pub(crate) const NO_IMAGE: &str = "example.com/no-such-image:1";

/// A Pod, and the proxy in it.
pub(crate) struct Running {
    uid: String,
    template: PodTemplateSpec,
    /// UID of the StatefulSet that owns it.
    owner: Option<String>,
    stopping: bool,
    /// It does nothing until it wakes.
    pub(crate) asleep: bool,
    proxy: Option<Proxy>,
}

/// A proxy since its start.
#[derive(Default)]
struct Proxy {
    machine: String,
    /// The key it started with.
    key: Option<AuthKey>,
    device: Option<String>,
    wanted: Option<ProxyConfig>,
    problem: Option<String>,
    plan: Option<Plan>,
    published: BTreeMap<String, Option<String>>,
}

impl Running {
    /// What its rules carry, while it runs and is on the tailnet.
    pub(crate) fn carries(&self) -> Option<&Plan> {
        let proxy = self
            .proxy
            .as_ref()
            .filter(|proxy| proxy.device.is_some() && !self.stopping)?;
        proxy.plan.as_ref()
    }

    /// The device that it knows itself to be.
    pub(crate) fn device(&self) -> Option<&String> {
        self.proxy.as_ref()?.device.as_ref()
    }

    fn has_image(&self) -> bool {
        let spec = self.template.spec.as_ref().unwrap();
        spec.containers[0].image.as_deref() != Some(NO_IMAGE)
    }
}

/// A round of everybody but the operator.
pub(crate) fn work(world: &mut World) {
    let seen = (world.version, world.tailnet.changes, world.fickle);
    if world.seen.as_ref() == Some(&seen) {
        return;
    }
    collect_garbage(world);
    run_sets(world);
    let names: Vec<String> = world.running.keys().cloned().collect();
    for name in names {
        run_proxy(world, &name);
        show_pod(world, &name);
    }
    // When nothing happened, nothing will.
    world.seen = (seen == (world.version, world.tailnet.changes, world.fickle)).then_some(seen);
}

fn sets(world: &World) -> Vec<StatefulSet> {
    let sets = world.objects.children.values().filter_map(|child| match child {
        Child::StatefulSet(set) => Some((**set).clone()),
        _ => None,
    });
    sets.collect()
}

/// Removes what belongs to no StatefulSet any more: Pods stop first and are gone a round later.
fn collect_garbage(world: &mut World) {
    let owners: BTreeSet<Option<String>> = sets(world).into_iter().map(|set| set.metadata.uid).collect();
    let is_orphan = |child: &Child| {
        let owner = child.metadata().owner_references.iter().flatten().next();
        owner.is_some_and(|owner| !owners.contains(&Some(owner.uid.clone())))
    };
    let children = world.objects.children.iter();
    let orphans: Vec<_> = children
        .filter(|(_, child)| is_orphan(child))
        .map(|(key, _)| key.clone())
        .collect();
    for key in orphans {
        world.remove(&key);
    }
    let gone: Vec<String> = world
        .running
        .iter()
        .filter(|(_, pod)| pod.stopping)
        .map(|(name, _)| name.clone())
        .collect();
    for name in gone {
        remove_pod(world, &name);
    }
    for pod in world.running.values_mut() {
        pod.stopping |= pod.owner.is_some() && !owners.contains(&pod.owner);
    }
}

/// Takes a Pod away, as its end or a hand does.
pub(crate) fn remove_pod(world: &mut World, name: &str) {
    world.running.remove(name);
    if let Some(pod) = world.objects.pods.remove(name) {
        world.step();
        world.touch(&pod.metadata);
    }
}

/// One Pod for each StatefulSet, of its newest template.
fn run_sets(world: &mut World) {
    for set in sets(world) {
        let name = format!("{}-0", set.metadata.name.as_deref().unwrap());
        let template = &set.spec.as_ref().unwrap().template;
        if let Some(pod) = world.running.get_mut(&name) {
            let selected = set
                .spec
                .as_ref()
                .unwrap()
                .selector
                .match_labels
                .iter()
                .flatten()
                .all(|(key, value)| {
                    let labels = pod
                        .template
                        .metadata
                        .as_ref()
                        .and_then(|metadata| metadata.labels.as_ref());
                    labels.and_then(|labels| labels.get(key)) == Some(value)
                });
            if pod.owner.is_none() && selected {
                pod.owner.clone_from(&set.metadata.uid);
            }
            pod.stopping |= pod.template != *template;
            continue;
        }
        let uid = format!("pod-{}", world.step());
        let running = Running {
            uid,
            template: template.clone(),
            owner: set.metadata.uid.clone(),
            stopping: false,
            asleep: false,
            proxy: None,
        };
        world.running.insert(name, running);
    }
}

/// Leaves the Pod of a StatefulSet that goes without it to the next one.
pub(crate) fn orphan(world: &mut World, set: Option<&String>) {
    for pod in world.running.values_mut().filter(|pod| pod.owner.as_ref() == set) {
        pod.owner = None;
    }
}

/// What the API server shows of a Pod.
fn show_pod(world: &mut World, name: &str) {
    let pod = &world.running[name];
    let ready = pod
        .proxy
        .as_ref()
        .is_some_and(|proxy| proxy.device.is_some() && proxy.plan.is_some());
    let condition = |kind: &str, status: bool| PodCondition {
        type_: kind.to_owned(),
        status: if status { "True" } else { "False" }.to_owned(),
        ..PodCondition::default()
    };
    let waiting = (!pod.has_image()).then(|| ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: Some("ErrImagePull".to_owned()),
            message: Some("not found".to_owned()),
        }),
        ..ContainerState::default()
    });
    let container = ContainerStatus {
        state: waiting,
        ..ContainerStatus::default()
    };
    let shown = Pod {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            uid: Some(pod.uid.clone()),
            labels: pod
                .template
                .metadata
                .as_ref()
                .and_then(|metadata| metadata.labels.clone()),
            deletion_timestamp: pod.stopping.then(|| world.time()),
            ..ObjectMeta::default()
        },
        spec: None,
        status: Some(PodStatus {
            conditions: Some(vec![condition("Ready", ready)]),
            container_statuses: Some(vec![container]),
            ..PodStatus::default()
        }),
    };
    let before = world.objects.pods.get(name);
    let same = before.is_some_and(|before| {
        before.status == shown.status
            && before.metadata.uid == shown.metadata.uid
            && before.metadata.deletion_timestamp.is_some() == shown.metadata.deletion_timestamp.is_some()
    });
    if !same {
        world.step();
        world.touch(&shown.metadata);
        world.objects.pods.insert(name.to_owned(), shown);
    }
}

/// One turn of a proxy: it starts, logs in, reads its documents, and tells.
fn run_proxy(world: &mut World, name: &str) {
    let Some(mut pod) = world.running.remove(name) else {
        return;
    };
    if pod.has_image() && !pod.asleep && !pod.stopping {
        turn(world, name, &mut pod);
    }
    world.running.insert(name.to_owned(), pod);
}

fn turn(world: &mut World, name: &str, pod: &mut Running) {
    // Its Secret is mounted, so nothing starts before there is one.
    let Some(secret) = world.secret(name) else { return };
    let entries: BTreeMap<String, String> = secret
        .data
        .iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.clone(), String::from_utf8(value.0.clone()).ok()?)))
        .collect();
    let configuration = Documents::from_entries(&entries).parse();
    let login = configuration
        .as_ref()
        .ok()
        .and_then(|found| found.device.as_ref())
        .map(|device| &device.login);
    let Some(proxy) = &mut pod.proxy else {
        if let Some(login) = login {
            let machine = entries.get(secret_key::MACHINE_KEY).cloned();
            let fresh = || format!("machine-{}", pod.uid);
            pod.proxy = Some(Proxy {
                machine: machine.unwrap_or_else(fresh),
                key: login.auth_key.clone(),
                ..Proxy::default()
            });
            world.step();
            let machine = pod.proxy.as_ref().map(|proxy| proxy.machine.clone());
            let identity = [secret_key::MACHINE_KEY, secret_key::MACHINE_PUBLIC_KEY];
            world.write_secret(name, &identity.map(|key| (key.to_owned(), machine.clone())).into());
        }
        return;
    };
    let key = login.and_then(|login| login.auth_key.clone());
    let hostname = login.and_then(|login| login.hostname.clone()).unwrap_or_default();
    let own_key = proxy.key.as_ref().map(AuthKey::expose);
    let logged_in = world.tailnet.log_in(&proxy.machine, own_key, &hostname);
    if logged_in.is_none() && key.is_some() && key != proxy.key {
        // It starts again with the new key, under its old identity.
        world.step();
        pod.proxy = None;
        return;
    }
    proxy.device = logged_in;
    read(world, proxy, configuration.map(|found| found.proxy));
    tell(world, name, &pod.uid, proxy, &entries);
}

/// Takes over what the document says and makes the plan of it.
fn read(world: &World, proxy: &mut Proxy, document: Result<Option<ProxyConfig>, isthmus_proxy_core::DocumentError>) {
    proxy.problem = document.as_ref().err().map(ToString::to_string);
    if let Ok(Some(config)) = document {
        proxy.wanted = Some(config);
    }
    let (Some(config), Some(device)) = (&proxy.wanted, &proxy.device) else {
        return;
    };
    let named = named(world, config);
    if matches!(TargetName::of(config), Some(TargetName::Tailnet(_))) && named.is_empty() {
        proxy
            .problem
            .get_or_insert("no device on this tailnet is called so".to_owned());
    }
    match Mode::from_config(config, &named) {
        Ok(mode) => {
            proxy.plan = Some(Plan {
                mode,
                paths: Paths::KERNEL,
                tailnet: TailnetAddresses::from_addresses([world.tailnet.devices[device].address]),
                pod: BTreeSet::new(),
                tun: Tun {
                    name: TUN_NAME.to_owned(),
                    mtu: 1280,
                },
                reserved: ReservedPorts {
                    wireguard: 41641,
                    health: 9002,
                    debug: None,
                },
            });
        }
        Err(error) => proxy.problem = Some(error.to_string()),
    }
}

/// What a name leads to.
fn named(world: &World, config: &ProxyConfig) -> BTreeSet<IpAddr> {
    let place = crate::place();
    let address = match TargetName::of(config) {
        Some(TargetName::Dns(name)) if name == place.names[0] => Some(crate::NAMED[0]),
        Some(TargetName::Dns(name)) if name == place.names[1] => Some(crate::NAMED[1]),
        Some(TargetName::Tailnet(name)) if name == place.device_names[0] => Some(place.devices[0].as_str()),
        Some(TargetName::Tailnet(name)) if name == place.device_names[1] && world.fickle => {
            Some(place.devices[1].as_str())
        }
        Some(TargetName::Dns(_) | TargetName::Tailnet(_)) | None => None,
    };
    address.into_iter().map(|address| address.parse().unwrap()).collect()
}

/// Writes what differs from what this proxy wrote last, and all of it into a Secret that has lost it.
fn tell(world: &mut World, name: &str, uid: &str, proxy: &mut Proxy, entries: &BTreeMap<String, String>) {
    let device = proxy.device.clone().map(|id| Device {
        name: format!("{}.tail.internal.", world.tailnet.devices[&id].hostname),
        addresses: vec![world.tailnet.devices[&id].address],
        id,
    });
    let stands = proxy.plan.as_ref().is_some_and(|plan| !plan.ways().is_empty());
    let publication = Publication {
        pod_uid: Some(uid.to_owned()),
        applied: proxy.wanted.clone().filter(|_| stands),
        problem: proxy.problem.clone(),
        carries: proxy.plan.as_ref().map(Plan::carries).unwrap_or_default(),
        refused_login: device.is_none().then(|| proxy.key.clone()),
        device,
    };
    let mut keys = publication.render();
    let machine = Some(proxy.machine.clone());
    keys.extend([secret_key::MACHINE_KEY, secret_key::MACHINE_PUBLIC_KEY].map(|key| (key.to_owned(), machine.clone())));
    let has_lost = !entries.contains_key(secret_key::MACHINE_KEY);
    let changes = keys
        .iter()
        .filter(|(key, value)| has_lost || proxy.published.get(*key) != Some(*value));
    let changes: BTreeMap<_, _> = changes.map(|(key, value)| (key.clone(), value.clone())).collect();
    if world.write_secret(name, &changes) {
        proxy.published = keys;
    }
}
