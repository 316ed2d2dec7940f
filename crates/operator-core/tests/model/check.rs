//! The world beside the plain model, when all is quiet.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use isthmus_contract::{annotation, condition::PROXY_READY, secret_key};
use isthmus_operator_core::service_proxy::Child;
use isthmus_proxy_core::{Flow, FlowEnd, Mode, Plan, Protocol, TRACK_EGRESS, TRACK_INGRESS};
use isthmus_testkit::story::{
    Address, Carry, Expected, Place, Plain, Presence, Reason, SLOTS, TagWish, Wish, service_name,
};
use k8s_openapi::api::core::v1::Service;

use crate::{
    NAMED,
    proxies::Running,
    world::{World, held_key, text},
};

/// Ports that are tried, whoever serves them.
const TRIED: [(bool, u16); 7] = [
    (true, 80),
    (true, 8080),
    (false, 53),
    (true, 9002),
    (true, 443),
    (false, 80),
    (true, 53),
];

/// Compares every Service with what the plain model expects, and tells the model what its proxy carries. What differs
/// is the error.
pub(crate) fn compare(world: &World, plain: &mut Plain, place: &Place) -> Result<(), String> {
    for slot in 0..SLOTS {
        let expected = plain.expected(slot);
        let what = |why: String| format!("{}: {why}; expected {expected:?}", service_name(slot));
        let carried = carried(world, slot, place, &expected).map_err(what)?;
        let wish = plain.slots[usize::from(slot)].wish.clone();
        condition(world, slot, &expected).map_err(what)?;
        match &wish {
            Some(wish) => {
                spec(world, slot, wish, &expected, place).map_err(what)?;
                addresses(world, slot, &expected).map_err(what)?;
                device(world, slot, wish, &expected, place).map_err(what)?;
            }
            None if world.objects.services.contains_key(&service_name(slot)) => {
                return Err(what("the Service is not gone".to_owned()));
            }
            None => {}
        }
        if expected.reason.is_none() {
            nothing_of(world, slot).map_err(what)?;
        }
        plain.settled(slot, carried);
    }
    devices(world)
}

fn pod_of<'a>(world: &'a World, service: &Service) -> Option<(&'a String, &'a Running)> {
    let uid = service.metadata.uid.as_ref()?;
    world.running.iter().find(|(name, _)| {
        let labels = world
            .objects
            .pods
            .get(*name)
            .and_then(|pod| pod.metadata.labels.as_ref());
        labels.and_then(|labels| labels.get("app")) == Some(uid)
    })
}

/// What of the expected is carried, judged by the plan of the proxy.
fn carried(world: &World, slot: u8, place: &Place, expected: &Expected) -> Result<Option<Carry>, String> {
    let service = world.objects.services.get(&service_name(slot));
    let plan = service
        .and_then(|service| pod_of(world, service))
        .and_then(|(_, pod)| pod.carries());
    let seen = plan.map(reach).unwrap_or_default();
    let own = service.and_then(|service| service.spec.as_ref()?.cluster_ip.clone());
    // What worked goes where it went before an impossible wish gave the Service another address, or none.
    let before = plan
        .and_then(|plan| plan.mode.targets().next())
        .map(|target| target.to_string());
    let before = before.filter(|_| expected.reason == Some(Reason::Invalid));
    for carry in &expected.carries {
        let fits = |address: Option<&String>| {
            let wanted = carry.as_ref().map(|carry| wanted(world, address, carry, place));
            seen == wanted.unwrap_or_default()
        };
        // Without an address there is nothing to carry to.
        let needs_address = matches!(carry, Some(Carry::Service(_)));
        let mut addresses = own.iter().chain(&before);
        if addresses.any(|address| fits(Some(address))) || (!needs_address && fits(None)) {
            return Ok(carry.clone());
        }
    }
    Err(format!("it carries {seen:?}"))
}

/// One thing that can be reached: the direction, the address, and the port when it matters.
type Reached = (&'static str, IpAddr, Option<(bool, u16)>);

/// Everything that a plan lets through, out of everything that is tried.
fn reach(plan: &Plan) -> BTreeSet<Reached> {
    let mut reached = BTreeSet::new();
    let own: IpAddr = plan.tailnet.iter().next().unwrap();
    let targets: Vec<IpAddr> = plan.mode.targets().collect();
    for target in targets {
        for port in TRIED {
            let protocol = if port.0 { Protocol::Tcp } else { Protocol::Udp };
            let end = |destination: IpAddr, source: IpAddr| FlowEnd {
                source,
                destination,
                destination_port: Some(port.1),
            };
            let stranger: IpAddr = [100, 127, 0, 1].into();
            let flow = |mark| Flow {
                mark,
                protocol: Some(protocol),
                original: end(own, stranger),
                reply: end(own, target),
            };
            match plan.mode {
                Mode::Ingress(_) if plan.admits(&flow(TRACK_INGRESS)) => {
                    reached.insert(("in", target, Some(port)));
                }
                Mode::Egress(_) => {
                    let mut with_pod = plan.clone();
                    with_pod.pod.insert(own);
                    if with_pod.admits(&flow(TRACK_EGRESS)) {
                        reached.insert(("out", target, None));
                    }
                }
                Mode::Ingress(_) | Mode::Closed => {}
            }
        }
    }
    reached
}

/// What should be reached; a Service has the address `own`.
fn wanted(world: &World, own: Option<&String>, carry: &Carry, place: &Place) -> BTreeSet<Reached> {
    let ingress = |target: IpAddr, ports: &mut dyn Iterator<Item = (bool, u16)>| {
        ports
            .map(|port| ("in", target, Some(port)))
            .collect::<BTreeSet<Reached>>()
    };
    match carry {
        Carry::Service(ports) => {
            let address = own.filter(|own| own.as_str() != "None");
            address.map_or_else(BTreeSet::new, |address| {
                ingress(address.parse().unwrap(), &mut ports.iter().copied())
            })
        }
        Carry::Name(other, ports) => {
            let target = NAMED[usize::from(*other)].parse().unwrap();
            match ports {
                Some(ports) => ingress(target, &mut ports.iter().copied()),
                None => ingress(target, &mut TRIED.into_iter()),
            }
        }
        // A name that no device has leads nowhere.
        Carry::Device(Address::Fickle, true) if !world.fickle => BTreeSet::new(),
        Carry::Device(device, _) => {
            let index = usize::from(*device == Address::Fickle);
            BTreeSet::from([("out", place.devices[index].parse().unwrap(), None)])
        }
    }
}

fn condition(world: &World, slot: u8, expected: &Expected) -> Result<(), String> {
    let service = world.objects.services.get(&service_name(slot));
    let conditions = service
        .and_then(|service| service.status.as_ref()?.conditions.clone())
        .unwrap_or_default();
    let ours: Vec<_> = conditions
        .iter()
        .filter(|condition| condition.type_ == PROXY_READY)
        .collect();
    let reason = expected.reason.map(|reason| match reason {
        Reason::Created => "ProxyCreated",
        Reason::Pending => "ProxyPending",
        Reason::Failed => "ProxyFailed",
        Reason::Invalid => "ProxyInvalid",
    });
    let found = ours.first().map(|condition| condition.reason.as_str());
    let message = ours.first().map_or("", |condition| condition.message.as_str());
    if ours.len() > 1 || found != reason {
        return Err(format!("the condition is {ours:?}"));
    }
    let named = expected.fields.is_empty() || expected.fields.iter().any(|field| message.starts_with(field.as_str()));
    named
        .then_some(())
        .ok_or_else(|| format!("the condition blames another field: {message}"))
}

/// An egress Service is an alias of its proxy; every other one is as its owner wrote it.
fn spec(world: &World, slot: u8, wish: &Wish, expected: &Expected, place: &Place) -> Result<(), String> {
    let service = &world.objects.services[&service_name(slot)];
    let spec = service.spec.clone().unwrap();
    let annotations = service.metadata.annotations.clone().unwrap_or_default();
    let marked = annotations.contains_key(annotation::ORIGINAL_SPEC);
    let leads = wish.target != isthmus_testkit::story::Target::Nowhere;
    if !leads {
        let live = serde_json::to_value(&spec).unwrap();
        let written = wish.manifest(place, slot)["spec"].clone();
        let differs = written
            .as_object()
            .unwrap()
            .iter()
            .find(|(key, value)| key.as_str() != "ports" && live[key.as_str()] != **value);
        if marked || differs.is_some() {
            return Err(format!(
                "its spec is not as its owner wrote it: {differs:?} in {live}, marked {marked}"
            ));
        }
        return Ok(());
    }
    if !matches!(expected.reason, Some(Reason::Created)) {
        return Ok(());
    }
    let (pod, _) = pod_of(world, service).ok_or("it has no Pod")?;
    let name = pod.strip_suffix("-0").unwrap();
    let alias = format!("{name}.isthmus.svc.cluster.local");
    if spec.external_name.as_deref() != Some(&alias) || spec.selector.is_some_and(|selector| !selector.is_empty()) {
        return Err(format!("it is no alias of {alias}: {:?}", spec.external_name));
    }
    let headless = world.objects.children.get(&("Service", name.to_owned()));
    let selector = headless.and_then(|child| match child {
        Child::HeadlessService(service) => service.spec.as_ref()?.selector.clone(),
        _ => None,
    });
    let shown = &world.objects.pods[pod];
    let labels = shown.metadata.labels.clone().unwrap_or_default();
    let selects = selector.is_some_and(|selector| selector.iter().all(|(key, value)| labels.get(key) == Some(value)));
    selects
        .then_some(())
        .ok_or_else(|| format!("nothing is found under {alias}"))
}

/// A load balancer of ours that is ready says where it is; all others say nothing of ours.
fn addresses(world: &World, slot: u8, expected: &Expected) -> Result<(), String> {
    let service = &world.objects.services[&service_name(slot)];
    let class = service
        .spec
        .as_ref()
        .and_then(|spec| spec.load_balancer_class.as_deref());
    let entries = service
        .status
        .as_ref()
        .and_then(|status| status.load_balancer.clone()?.ingress)
        .unwrap_or_default();
    if class != Some("tailscale") {
        return entries
            .is_empty()
            .then_some(())
            .ok_or_else(|| format!("it says where it is: {entries:?}"));
    }
    if expected.reason != Some(Reason::Created) {
        return Ok(());
    }
    let (_, pod) = pod_of(world, service).ok_or("it has no Pod")?;
    let device = &world.tailnet.devices[pod.device().ok_or("its proxy has no device")?];
    let found: Vec<_> = entries
        .iter()
        .map(|entry| entry.hostname.clone().or(entry.ip.clone()))
        .collect();
    let wanted = [
        Some(format!("{}.tail.internal", device.hostname)),
        Some(device.address.to_string()),
    ];
    (found == wanted)
        .then_some(())
        .ok_or_else(|| format!("it says {found:?} and is {wanted:?}"))
}

fn device(world: &World, slot: u8, wish: &Wish, expected: &Expected, place: &Place) -> Result<(), String> {
    // It keeps the tags it has when the tailnet refuses others.
    let refused = wish.tags == TagWish::Forbidden || expected.reason == Some(Reason::Failed);
    if expected.device != Presence::Must || refused {
        return Ok(());
    }
    let service = &world.objects.services[&service_name(slot)];
    let id = pod_of(world, service)
        .and_then(|(_, pod)| pod.device())
        .ok_or("its proxy has no device")?;
    let device = &world.tailnet.devices[id];
    let tags: BTreeSet<String> = wish.device_tags().iter().map(|&tag| tag.to_owned()).collect();
    let hostname = wish.hostname(place, slot);
    if device.hostname == hostname && device.tags == tags {
        Ok(())
    } else {
        Err(format!(
            "its device is {device:?} and should be {hostname} with {tags:?}"
        ))
    }
}

/// Nothing of ours is left of a Service that asks for nothing, or of one that is gone.
fn nothing_of(world: &World, slot: u8) -> Result<(), String> {
    let name = service_name(slot);
    let parent = |child: &Child| {
        let labels = child.metadata().labels.clone().unwrap_or_default();
        labels.values().any(|value| *value == name)
    };
    let left: Vec<_> = world
        .objects
        .children
        .iter()
        .filter(|(_, child)| parent(child))
        .map(|(key, _)| key)
        .collect();
    if !left.is_empty() {
        return Err(format!("objects are left: {left:?}"));
    }
    let Some(service) = world.objects.services.get(&name) else {
        return Ok(());
    };
    let marks = service
        .metadata
        .annotations
        .iter()
        .flatten()
        .filter(|(key, _)| key.starts_with("isthmus.dev/"));
    let marks: BTreeMap<_, _> = marks.collect();
    let held = service.metadata.finalizers.iter().flatten().next().is_some();
    if held || !marks.is_empty() {
        return Err(format!("it is held: {held}, marks are left: {marks:?}"));
    }
    Ok(())
}

/// Every device of a proxy is noted in a Secret, by one alone, and every Secret has at most one.
fn devices(world: &World) -> Result<(), String> {
    let secrets = world.objects.children.values().filter_map(|child| match child {
        Child::Secret(secret) => Some(secret),
        _ => None,
    });
    let noted: Vec<String> = secrets
        .filter_map(|secret| text(secret, secret_key::DEVICE_ID))
        .collect();
    let known: BTreeSet<&String> = noted.iter().collect();
    if known.len() != noted.len() {
        return Err(format!("a device is noted twice: {noted:?}"));
    }
    let left: Vec<_> = world
        .tailnet
        .devices
        .iter()
        .filter(|(id, _)| !known.contains(id))
        .collect();
    let left: Vec<_> = left.into_iter().filter(|(id, _)| !world.lost.contains(*id)).collect();
    left.is_empty()
        .then_some(())
        .ok_or_else(|| format!("devices are left: {left:?}, noted are {noted:?}"))
}

/// Every auth key that is good is held by a Secret.
pub(crate) fn keys(world: &World) -> Result<(), String> {
    let held: BTreeSet<&String> = world
        .objects
        .children
        .values()
        .filter_map(|child| match child {
            Child::Secret(secret) => held_key(secret),
            _ => None,
        })
        .collect();
    let left: Vec<_> = world.tailnet.keys.iter().filter(|(id, _)| !held.contains(id)).collect();
    left.is_empty()
        .then_some(())
        .ok_or_else(|| format!("keys are left: {left:?}"))
}
