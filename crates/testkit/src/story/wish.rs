//! What the owner of a Service writes, and what it should mean. Nothing here knows the operator's code.

use serde_json::{Map, Value, json};

/// What the owner of a Service writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The kind of Service.
    pub shape: Shape,
    /// Its ports: whether TCP, and the number. Port 99 is SCTP.
    pub ports: Vec<(bool, u16)>,
    /// The annotation `tailscale.com/expose`.
    pub expose: Expose,
    /// The target on the tailnet.
    pub target: Target,
    /// The annotation `tailscale.com/hostname`: none, possible, impossible.
    pub hostname: Option<bool>,
    /// The annotation `tailscale.com/tags`.
    pub tags: TagWish,
    /// Whether it names the proxy class, and whether by a label.
    pub class: Option<bool>,
    /// Whether it names a proxy group.
    pub group: bool,
}

/// The kind of a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// With a cluster IP.
    Plain,
    /// Without one.
    Headless,
    /// An alias of another name.
    Alias(Alias),
    /// A load balancer.
    Balancer(Balancer),
}

/// What an alias is an alias of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alias {
    /// A name that can be exposed.
    Name,
    /// Another one.
    OtherName,
    /// A single label.
    Label,
    /// An address.
    Address,
}

/// The class of a load balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balancer {
    /// `tailscale`
    Ours,
    /// Somebody else's.
    Other,
    /// None.
    Without,
}

/// The annotation `tailscale.com/expose`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expose {
    /// Not there.
    Absent,
    /// `true`
    True,
    /// `false`
    False,
}

/// The target on the tailnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// None.
    Nowhere,
    /// By address, in one of the spellings of the annotation.
    Ip(Address, u8),
    /// By name; the flag makes it upper case with a final dot.
    Fqdn(Address, bool),
    /// Both annotations.
    Both,
    /// Something that is no address.
    JunkIp,
    /// Something that is no full name.
    JunkFqdn,
}

/// A device of the tailnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    /// One that is always there.
    Steady,
    /// One that comes and goes.
    Fickle,
}

/// The annotation `tailscale.com/tags`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TagWish {
    /// Not there: `tag:k8s`.
    Default,
    /// `tag:web`
    Web,
    /// `tag:k8s, tag:web`
    Both,
    /// One that the tailnet's policy does not let the operator give.
    Forbidden,
    /// No tag at all.
    Junk,
}

/// What a wish comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Nothing of ours.
    Nothing,
    /// Something impossible: the fields that may be blamed.
    Impossible(Vec<String>),
    /// A proxy that carries.
    Carry(Carry),
}

/// What a proxy should carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Carry {
    /// From the tailnet to the Service's cluster IP, these ports.
    Service(Vec<(bool, u16)>),
    /// From the tailnet to a name: the other one when the flag is set. These ports, or all.
    Name(bool, Option<Vec<(bool, u16)>>),
    /// From the cluster to a device, by name or by address.
    Device(Address, bool),
}

/// The names and addresses of the world that a story is told to.
#[derive(Clone, Debug)]
pub struct Place {
    /// Namespace of the Services.
    pub namespace: String,
    /// Addresses of the two devices.
    pub devices: [String; 2],
    /// Full names of the two devices, without the final dot.
    pub device_names: [String; 2],
    /// The two names that can be exposed.
    pub names: [String; 2],
}

/// The number of the port that is SCTP.
pub(crate) const SCTP: u16 = 99;
const IP_SPELLINGS: [&str; 3] = ["tailnet-ip", "tailnet-target-ip", "ts-tailnet-target-ip"];

impl Wish {
    /// What it comes to.
    pub fn asked(&self) -> Asked {
        let is_ours = self.shape == Shape::Balancer(Balancer::Ours);
        let (exposes, leads) = (self.expose == Expose::True, self.target != Target::Nowhere);
        if !(exposes || leads || is_ours) {
            return Asked::Nothing;
        }
        let faults = self.faults(exposes, leads, is_ours);
        if faults.is_empty() {
            Asked::Carry(self.carry())
        } else {
            Asked::Impossible(faults)
        }
    }

    fn faults(&self, exposes: bool, leads: bool, is_ours: bool) -> Vec<String> {
        let mut faults = Vec::new();
        let mut blame = |applies: bool, field: &str| {
            if applies {
                faults.push(field.to_owned());
            }
        };
        blame(exposes && leads, "annotation tailscale.com/expose");
        blame(is_ours && leads, "spec.loadBalancerClass");
        blame(self.group, "annotation tailscale.com/proxy-group");
        blame(self.hostname == Some(false), "annotation tailscale.com/hostname");
        blame(self.tags == TagWish::Junk, "annotation tailscale.com/tags");
        if leads {
            blame(
                matches!(self.target, Target::Both | Target::JunkFqdn),
                "annotation tailscale.com/tailnet-fqdn",
            );
            blame(self.target == Target::JunkIp, "annotation tailscale.com/tailnet-ip");
            return faults;
        }
        match self.shape {
            Shape::Alias(alias) => blame(matches!(alias, Alias::Label | Alias::Address), "spec.externalName"),
            Shape::Headless => {
                blame(true, "spec.clusterIP");
                blame(self.ports.is_empty(), "spec.ports");
            }
            Shape::Plain | Shape::Balancer(_) => {}
        }
        if let Some(index) = self.ports.iter().position(|port| port.1 == SCTP) {
            faults.push(format!("spec.ports[{index}].protocol"));
        }
        faults
    }

    fn carry(&self) -> Carry {
        let ports = self.ports.clone();
        match (self.target, self.shape) {
            (Target::Ip(device, _), _) => Carry::Device(device, false),
            (Target::Fqdn(device, _), _) => Carry::Device(device, true),
            (_, Shape::Alias(alias)) => Carry::Name(alias == Alias::OtherName, (!ports.is_empty()).then_some(ports)),
            (_, _) => Carry::Service(ports),
        }
    }

    /// Whether the API server lets a Service be changed from `before` to this.
    pub fn may_follow(&self, before: &Self) -> bool {
        let balancer = |wish: &Self| match wish.shape {
            Shape::Balancer(class) => Some(class),
            Shape::Plain | Shape::Headless | Shape::Alias(_) => None,
        };
        let keeps_class = match (balancer(before), balancer(self)) {
            (Some(before), Some(after)) => before == after,
            _ => true,
        };
        keeps_class && (before.shape == Shape::Headless) == (self.shape == Shape::Headless)
    }

    /// The name that the device should have.
    pub fn hostname(&self, place: &Place, slot: u8) -> String {
        match self.hostname {
            Some(_) => format!("host-{slot}"),
            None => format!("{}-{}", place.namespace, super::service_name(slot)),
        }
    }

    /// The tags that the device should carry.
    pub fn device_tags(&self) -> &'static [&'static str] {
        match self.tags {
            TagWish::Default | TagWish::Junk => &["tag:k8s"],
            TagWish::Web => &["tag:web"],
            TagWish::Both => &["tag:k8s", "tag:web"],
            TagWish::Forbidden => &["tag:forbidden"],
        }
    }

    /// The manifest that says all this.
    pub fn manifest(&self, place: &Place, slot: u8) -> Value {
        let (mut labels, mut annotations) = (Map::new(), Map::new());
        let mut note = |key: &str, value: String| {
            annotations.insert(format!("tailscale.com/{key}"), Value::from(value));
        };
        match self.expose {
            Expose::Absent => {}
            Expose::True => note("expose", "true".to_owned()),
            Expose::False => note("expose", "false".to_owned()),
        }
        let name = |device: Address, loud: bool| {
            let name = &place.device_names[usize::from(device == Address::Fickle)];
            if loud {
                format!("{}.", name.to_uppercase())
            } else {
                name.clone()
            }
        };
        let address = |device: Address| place.devices[usize::from(device == Address::Fickle)].clone();
        match self.target {
            Target::Nowhere => {}
            Target::Ip(device, spelling) => note(IP_SPELLINGS[usize::from(spelling) % 3], address(device)),
            Target::Fqdn(device, loud) => note("tailnet-fqdn", name(device, loud)),
            Target::Both => {
                note("tailnet-ip", address(Address::Steady));
                note("tailnet-fqdn", name(Address::Steady, false));
            }
            Target::JunkIp => note("tailnet-ip", "100.64.0.0/10".to_owned()),
            Target::JunkFqdn => note("tailnet-fqdn", "database".to_owned()),
        }
        match self.hostname {
            Some(true) => note("hostname", format!("host-{slot}")),
            Some(false) => note("hostname", "No_Label".to_owned()),
            None => {}
        }
        match self.tags {
            TagWish::Default => {}
            TagWish::Web => note("tags", "tag:web".to_owned()),
            TagWish::Both => note("tags", "tag:web, tag:k8s".to_owned()),
            TagWish::Forbidden => note("tags", "tag:forbidden".to_owned()),
            TagWish::Junk => note("tags", "web".to_owned()),
        }
        if self.group {
            note("proxy-group", "some".to_owned());
        }
        match self.class {
            Some(true) => drop(labels.insert("tailscale.com/proxy-class".to_owned(), json!(super::steps::CLASS))),
            Some(false) => note("proxy-class", super::steps::CLASS.to_owned()),
            None => {}
        }
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {
                "name": super::service_name(slot), "namespace": place.namespace,
                "labels": labels, "annotations": annotations,
            },
            "spec": self.spec(place),
        })
    }

    fn spec(&self, place: &Place) -> Value {
        let ports = self.ports.iter().map(|(tcp, number)| {
            let protocol = match (number, tcp) {
                (&SCTP, _) => "SCTP",
                (_, true) => "TCP",
                (_, false) => "UDP",
            };
            json!({"name": format!("{}-{number}", protocol.to_lowercase()), "port": number, "protocol": protocol})
        });
        let mut spec = json!({"selector": {"app": "web"}, "ports": ports.collect::<Vec<_>>()});
        let mut set = |key: &str, value: &str| spec[key] = Value::from(value);
        match self.shape {
            Shape::Plain => set("type", "ClusterIP"),
            Shape::Headless => {
                set("type", "ClusterIP");
                set("clusterIP", "None");
            }
            Shape::Alias(alias) => {
                set("type", "ExternalName");
                let name = match alias {
                    Alias::Name => &place.names[0],
                    Alias::OtherName => &place.names[1],
                    Alias::Label => "localhost",
                    Alias::Address => "192.0.2.1",
                };
                set("externalName", name);
            }
            Shape::Balancer(class) => {
                set("type", "LoadBalancer");
                match class {
                    Balancer::Ours => set("loadBalancerClass", "tailscale"),
                    Balancer::Other => set("loadBalancerClass", "example.com/cloud"),
                    Balancer::Without => {}
                }
            }
        }
        spec
    }
}

/// The patch that makes the manifest `after` of an object that is as `before` says, and leaves all else alone.
pub(crate) fn difference(before: &Value, after: &Value) -> Value {
    let (Value::Object(before), Value::Object(after)) = (before, after) else {
        return after.clone();
    };
    let gone = before.keys().filter(|key| !after.contains_key(*key));
    let changed = after.iter().filter(|(key, value)| before.get(*key) != Some(*value));
    let null = Value::Null;
    let gone = gone.map(|key| (key.clone(), Value::Null));
    let changed = changed.map(|(key, value)| (key.clone(), difference(before.get(key).unwrap_or(&null), value)));
    Value::Object(gone.chain(changed).collect())
}

/// A merge patch as `kubectl apply` sends it when its manifest changes from one wish to another.
impl Place {
    /// The patch from the manifest of `before` to that of `after`.
    pub fn patch(&self, slot: u8, before: &Wish, after: &Wish) -> Value {
        difference(&before.manifest(self, slot), &after.manifest(self, slot))
    }
}
