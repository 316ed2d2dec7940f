//! The Pod's routing: puts a [`RoutePlan`] in place, and nothing when it is there already.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use isthmus_proxy_core::{
    DeviceSetting, Family, Plan, PolicyRule, RoutePlan, Selector, Setting, TABLE, TableRoute, TableRouteKind,
    WhichDevice,
};
use nlink::netlink::Route;
use nlink::netlink::devconf::{Ipv4Devconf, Ipv6Devconf};
use nlink::netlink::messages::{LinkMessage, RuleMessage};
use nlink::netlink::types::route::{RouteScope, RouteType};
use nlink::{AddressFamily, Connection, Ipv4Route, Ipv6Route, RuleBuilder};
use thiserror::Error;

/// Policy rules of these priorities are ours: what the plan does not want there is removed.
const OWN_PRIORITIES: std::ops::Range<u32> = 5200..5300;

const ON: u32 = 1;

/// Why routing could not be put in place.
#[derive(Debug, Error)]
pub enum RoutesError {
    /// No socket to the kernel's routing.
    #[error("cannot open a netlink socket for routes")]
    Open(#[source] nlink::Error),
    /// What is there could not be listed.
    #[error("cannot list {what} of the Pod")]
    List {
        /// What was asked for.
        what: &'static str,
        /// The kernel's answer.
        #[source]
        source: nlink::Error,
    },
    /// A policy rule was refused.
    #[error("cannot set the policy rule with priority {priority}: grant NET_ADMIN to the container")]
    Rule {
        /// Its priority.
        priority: u32,
        /// The kernel's answer.
        #[source]
        source: nlink::Error,
    },
    /// A route was refused.
    #[error("cannot set a route of table {TABLE}: grant NET_ADMIN to the container")]
    Route(#[source] nlink::Error),
    /// A device's setting was refused.
    #[error("cannot switch on {setting} of device {device}: grant NET_ADMIN to the container")]
    Device {
        /// The setting's name.
        setting: Ipv4Devconf,
        /// The device's name.
        device: String,
        /// The kernel's answer.
        #[source]
        source: nlink::Error,
    },
    /// The kernel took a setting and does not have it.
    #[error("cannot switch on {setting} of device {device}: the kernel took the request and ignored it")]
    NotTaken {
        /// The setting's name.
        setting: Ipv4Devconf,
        /// The device's name.
        device: String,
    },
}

/// What came of putting routing in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Routed {
    /// Whether the tailnet's device is there and up. Without it, everything for the tailnet is refused.
    pub tun_is_up: bool,
}

/// The routing of the network namespace in which this was opened.
pub struct Routing(Connection<Route>);

impl Routing {
    /// Opens the routing of the calling thread's network namespace. Needs a tokio runtime.
    pub fn open() -> Result<Self, RoutesError> {
        Connection::<Route>::new().map(Self).map_err(RoutesError::Open)
    }

    /// The addresses of all devices but the loopback and `tun`: what the Pod is reached by when nobody told it.
    pub async fn pod_addresses(&self, tun: &str) -> Result<BTreeSet<IpAddr>, RoutesError> {
        let tun_index = self
            .links()
            .await?
            .iter()
            .find(|link| link.name() == Some(tun))
            .map(LinkMessage::ifindex);
        let addresses = self.0.get_addresses().await.map_err(|source| RoutesError::List {
            what: "addresses",
            source,
        })?;
        Ok(addresses
            .iter()
            .filter(|message| Some(message.ifindex()) != tun_index)
            .filter_map(|message| message.address().copied())
            .filter(|address| !address.is_loopback() && !is_link_local(*address))
            .collect())
    }

    /// Whether this device is there and up.
    pub async fn is_up(&self, device: &str) -> Result<bool, RoutesError> {
        Ok(self
            .links()
            .await?
            .iter()
            .any(|link| link.name() == Some(device) && link.is_up()))
    }

    /// Whether the kernel forwards IPv6 on every device.
    pub async fn forwards_ipv6(&self) -> Result<bool, RoutesError> {
        Ok(forwards_ipv6(&self.links().await?))
    }

    /// Puts the routing of `plan` in place. What is right already is left alone.
    ///
    /// The refusal at the end of the table comes before the policy rules that lead there, and they come before the
    /// device is opened: at no moment does a marked packet take the default route.
    pub async fn apply(&self, plan: &Plan, routes: &RoutePlan) -> Result<Routed, RoutesError> {
        let links = self.links().await?;
        let tun = links.iter().find(|link| link.name() == Some(&plan.tun.name));
        for route in routes
            .routes
            .iter()
            .filter(|route| route.kind == TableRouteKind::Unreachable)
        {
            self.set_route(route, None).await?;
        }
        self.apply_rules(routes).await?;
        if let Some(tun) = tun {
            for route in routes
                .routes
                .iter()
                .filter(|route| route.kind != TableRouteKind::Unreachable)
            {
                self.set_route(route, Some(tun.ifindex())).await?;
            }
        }
        self.apply_devices(plan, routes, &links).await?;
        Ok(Routed {
            tun_is_up: tun.is_some_and(LinkMessage::is_up),
        })
    }

    async fn links(&self) -> Result<Vec<LinkMessage>, RoutesError> {
        self.0.get_links().await.map_err(|source| RoutesError::List {
            what: "devices",
            source,
        })
    }

    async fn apply_rules(&self, routes: &RoutePlan) -> Result<(), RoutesError> {
        for family in [Family::V4, Family::V6] {
            let wanted: Vec<&PolicyRule> = routes.rules.iter().filter(|rule| rule.family == family).collect();
            let listed = self.0.get_rules_for_family(address_family(family)).await;
            let found: Vec<RuleMessage> = match listed {
                Ok(found) => found
                    .into_iter()
                    .filter(|rule| OWN_PRIORITIES.contains(&rule.priority()))
                    .collect(),
                // A kernel without IPv6 has no rules of it, and nothing to carry.
                Err(_) if wanted.is_empty() => continue,
                Err(source) => {
                    return Err(RoutesError::List {
                        what: "policy rules",
                        source,
                    });
                }
            };
            for rule in wanted
                .iter()
                .filter(|rule| !found.iter().any(|found| is_same(rule, found)))
            {
                let priority = rule.priority;
                self.0
                    .add_rule(builder(rule))
                    .await
                    .map_err(|source| RoutesError::Rule { priority, source })?;
            }
            for rule in found
                .iter()
                .filter(|found| !wanted.iter().any(|rule| is_same(rule, found)))
            {
                self.remove_rule(family, rule).await?;
            }
        }
        Ok(())
    }

    async fn remove_rule(&self, family: Family, rule: &RuleMessage) -> Result<(), RoutesError> {
        let priority = rule.priority();
        let mut exact = RuleBuilder::new(address_family(family).as_u8())
            .priority(priority)
            .table(rule.table());
        if let Some(source) = rule.source() {
            exact = exact.from_addr(source, rule.src_len());
        }
        let removed = self.0.del_rule_if_exists(exact).await;
        removed
            .map(drop)
            .map_err(|source| RoutesError::Rule { priority, source })
    }

    async fn set_route(&self, route: &TableRoute, device: Option<u32>) -> Result<(), RoutesError> {
        let replaced = match route.family {
            Family::V4 => {
                let base = Ipv4Route::new(Ipv4Addr::UNSPECIFIED, 0)
                    .table(TABLE)
                    .metric(route.metric);
                self.0
                    .replace_route(match device {
                        Some(index) => base.dev_index(index).scope(RouteScope::Link),
                        None => base.route_type(RouteType::Unreachable),
                    })
                    .await
            }
            Family::V6 => {
                let base = Ipv6Route::new(Ipv6Addr::UNSPECIFIED, 0)
                    .table(TABLE)
                    .metric(route.metric);
                self.0
                    .replace_route(match device {
                        Some(index) => base.dev_index(index),
                        None => base.route_type(RouteType::Unreachable),
                    })
                    .await
            }
        };
        match replaced {
            // A device that is down takes no route: then the refusal behind it speaks for it.
            Err(error) if device.is_some() && error.errno() == Some(ENETDOWN) => Ok(()),
            other => other.map_err(RoutesError::Route),
        }
    }

    async fn apply_devices(&self, plan: &Plan, routes: &RoutePlan, links: &[LinkMessage]) -> Result<(), RoutesError> {
        let pod_devices = self.devices_of(&plan.pod).await?;
        for DeviceSetting { device, setting } in &routes.devices {
            let setting = match setting {
                Setting::Forwarding => Ipv4Devconf::Forwarding,
                Setting::SourceValidMark => Ipv4Devconf::SrcVmark,
            };
            let chosen = links.iter().filter(|link| match device {
                WhichDevice::Tun => link.name() == Some(&plan.tun.name),
                WhichDevice::Pod => pod_devices.contains(&link.ifindex()),
            });
            for link in chosen.filter(|link| link.ipv4_devconf(setting) != Some(ON)) {
                self.switch_on(setting, link).await?;
            }
        }
        Ok(())
    }

    async fn switch_on(&self, setting: Ipv4Devconf, link: &LinkMessage) -> Result<(), RoutesError> {
        let device = link.name().unwrap_or_default().to_owned();
        self.0
            .set_ipv4_devconf_by_index(link.ifindex(), &[(setting, ON)])
            .await
            .map_err(|source| RoutesError::Device {
                setting,
                device: device.clone(),
                source,
            })?;
        let after = self.0.get_link_by_index(link.ifindex()).await;
        let after = after.map_err(|source| RoutesError::List {
            what: "devices",
            source,
        })?;
        match after {
            Some(link) if link.ipv4_devconf(setting) != Some(ON) => Err(RoutesError::NotTaken { setting, device }),
            // Gone in the meantime: nothing is left to be switched on.
            Some(_) | None => Ok(()),
        }
    }

    async fn devices_of(&self, pod: &BTreeSet<IpAddr>) -> Result<BTreeSet<u32>, RoutesError> {
        let addresses = self.0.get_addresses().await.map_err(|source| RoutesError::List {
            what: "addresses",
            source,
        })?;
        Ok(addresses
            .iter()
            .filter(|message| message.address().is_some_and(|address| pod.contains(address)))
            .map(nlink::netlink::messages::AddressMessage::ifindex)
            .collect())
    }
}

/// `ENETDOWN` of Linux.
const ENETDOWN: i32 = 100;

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

fn forwards_ipv6(links: &[LinkMessage]) -> bool {
    let mut settings = links
        .iter()
        .filter_map(|link| link.ipv6_devconf(Ipv6Devconf::Forwarding))
        .peekable();
    settings.peek().is_some() && settings.all(|forwarding| forwarding == 1)
}

fn address_family(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::v4(),
        Family::V6 => AddressFamily::v6(),
    }
}

fn builder(rule: &PolicyRule) -> RuleBuilder {
    let base = RuleBuilder::new(address_family(rule.family).as_u8())
        .priority(rule.priority)
        .table(rule.table);
    match &rule.selector {
        Selector::MarkFrom { mark, device } => base.fwmark(*mark).iif(device),
        Selector::Mark(mark) => base.fwmark(*mark),
        Selector::Source(address) => base.from_addr(*address, host_prefix(*address)),
    }
}

fn host_prefix(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn is_same(rule: &PolicyRule, found: &RuleMessage) -> bool {
    let (mark, device, source) = match &rule.selector {
        Selector::MarkFrom { mark, device } => (Some(*mark), Some(device.as_str()), None),
        Selector::Mark(mark) => (Some(*mark), None, None),
        Selector::Source(address) => (None, None, Some(*address)),
    };
    found.priority() == rule.priority
        && found.table() == rule.table
        && found.fwmark() == mark
        && found.iifname() == device
        && found.source() == source
}
