//! The route plan: which packets are looked up in the tailnet's table, and what each device is set to.
//!
//! Nothing is routed into the tailnet by destination. Only packets that carry a mark of ours and packets from the node's
//! own addresses see table [`TABLE`], which ends in `unreachable`: with the device gone they are refused, and never
//! take the Pod's default route.

use std::fmt;
use std::net::IpAddr;

use crate::plan::Plan;
use crate::rules::{MARK_FROM_TAILNET, MARK_TO_TAILNET};

/// The routing table that leads into the tailnet.
pub const TABLE: u32 = 7752;

/// The kernel's main table.
const MAIN: u32 = 254;

/// The metric of the route that refuses what the device no longer takes: behind every other.
const LAST_METRIC: u32 = u32::MAX;

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// All that the Pod's routing needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoutePlan {
    /// Policy rules, in the order in which they are looked up.
    pub rules: Vec<PolicyRule>,
    /// The contents of table [`TABLE`].
    pub routes: Vec<TableRoute>,
    /// Settings of devices.
    pub devices: Vec<DeviceSetting>,
}

/// One policy rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyRule {
    /// The family it is for.
    pub family: Family,
    /// Its place among all rules; smaller is earlier.
    pub priority: u32,
    /// Which packets.
    pub selector: Selector,
    /// The table they are looked up in.
    pub table: u32,
}

/// Which packets a policy rule takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// Packets with this mark that came in by this device.
    MarkFrom {
        /// The packet mark.
        mark: u32,
        /// The device's name.
        device: String,
    },
    /// Packets with this mark.
    Mark(u32),
    /// Packets from this address.
    Source(IpAddr),
}

/// One route of table [`TABLE`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableRoute {
    /// Its family; the destination is always everything.
    pub family: Family,
    /// What it does.
    pub kind: TableRouteKind,
    /// Its metric; smaller wins.
    pub metric: u32,
}

/// What a route of table [`TABLE`] does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TableRouteKind {
    /// Sends to the device of this name.
    Device(String),
    /// Refuses with "unreachable".
    Unreachable,
}

/// A per-device IPv4 setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceSetting {
    /// Which device or devices.
    pub device: WhichDevice,
    /// What is switched on.
    pub setting: Setting,
}

/// The devices a setting is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhichDevice {
    /// The tailnet's device.
    Tun,
    /// Every device that holds an address of the Pod.
    Pod,
}

/// A setting that is switched on, by netlink, for one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    /// IPv4 packets that come in by the device are forwarded. It counts on the receiving side, so both sides need it.
    Forwarding,
    /// The check of the reverse path takes the packet's mark into account.
    SourceValidMark,
}

impl Family {
    /// Both, IPv4 first.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

impl RoutePlan {
    /// Derives the routing from a plan.
    pub fn build(plan: &Plan) -> Self {
        let families: Vec<Family> = if plan.tailnet.v6.is_some() {
            vec![Family::V4, Family::V6]
        } else {
            vec![Family::V4]
        };
        Self {
            rules: families.iter().flat_map(|family| build_rules(plan, *family)).collect(),
            routes: families.iter().flat_map(|family| build_routes(plan, *family)).collect(),
            devices: vec![
                DeviceSetting {
                    device: WhichDevice::Tun,
                    setting: Setting::SourceValidMark,
                },
                DeviceSetting {
                    device: WhichDevice::Tun,
                    setting: Setting::Forwarding,
                },
                DeviceSetting {
                    device: WhichDevice::Pod,
                    setting: Setting::Forwarding,
                },
            ],
        }
    }
}

/// In this order the kernel's check of the reverse path passes under `rp_filter` 0, 1 and 2: a packet from the device
/// finds the cluster by the first rule, and its check, which asks without an incoming device, the device by the second.
fn build_rules(plan: &Plan, family: Family) -> Vec<PolicyRule> {
    let from_tun = Selector::MarkFrom {
        mark: MARK_FROM_TAILNET,
        device: plan.tun.name.clone(),
    };
    let own = plan.tailnet.of_family(family);
    [
        Some((5210, from_tun, MAIN)),
        Some((5220, Selector::Mark(MARK_FROM_TAILNET), TABLE)),
        Some((5230, Selector::Mark(MARK_TO_TAILNET), TABLE)),
        own.map(|own| (5240, Selector::Source(own), TABLE)),
    ]
    .into_iter()
    .flatten()
    .map(|(priority, selector, table)| PolicyRule {
        family,
        priority,
        selector,
        table,
    })
    .collect()
}

fn build_routes(plan: &Plan, family: Family) -> [TableRoute; 2] {
    [
        TableRoute {
            family,
            kind: TableRouteKind::Device(plan.tun.name.clone()),
            metric: 1,
        },
        TableRoute {
            family,
            kind: TableRouteKind::Unreachable,
            metric: LAST_METRIC,
        },
    ]
}

impl fmt::Display for RoutePlan {
    /// Writes the plan as the commands of iproute2 that would do the same.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for rule in &self.rules {
            let table = if rule.table == MAIN {
                "main".to_owned()
            } else {
                rule.table.to_string()
            };
            writeln!(
                f,
                "ip {} rule add priority {} {} lookup {table}",
                rule.family, rule.priority, rule.selector
            )?;
        }
        for route in &self.routes {
            match &route.kind {
                TableRouteKind::Device(device) => write!(f, "ip {} route add default dev {device}", route.family)?,
                TableRouteKind::Unreachable => write!(f, "ip {} route add unreachable default", route.family)?,
            }
            writeln!(f, " metric {} table {TABLE}", route.metric)?;
        }
        for setting in &self.devices {
            writeln!(f, "{:?}: {:?} = 1", setting.device, setting.setting)?;
        }
        Ok(())
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "-4",
            Self::V6 => "-6",
        })
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MarkFrom { mark, device } => write!(f, "fwmark {mark:#x} iif {device}"),
            Self::Mark(mark) => write!(f, "fwmark {mark:#x}"),
            Self::Source(address) => write!(f, "from {address}"),
        }
    }
}
