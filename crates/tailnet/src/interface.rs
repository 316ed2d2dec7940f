//! Addresses and routes of the node's interface, and the machine's own addresses, by netlink.

mod links;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::IpNet;
use nlink::netlink::Route;
use nlink::netlink::addr::{Ipv4Address, Ipv6Address};
use nlink::netlink::types::addr::Scope;
use nlink::netlink::types::route::RouteScope;
use nlink::{Connection, Ipv4Route, Ipv6Route};

pub use links::LinkChanges;

/// The TUN device as the kernel's routing sees it.
pub(crate) struct Interface {
    netlink: Connection<Route>,
    index: u32,
    /// An address for this machine's own use, which nothing is sent from.
    extra_address: Option<Ipv4Addr>,
    routes: BTreeSet<IpNet>,
}

/// Why the interface cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum InterfaceError {
    /// The kernel does not let itself be asked.
    #[error("cannot open a netlink socket")]
    Open(#[source] nlink::Error),
    /// Devices or addresses cannot be listed.
    #[error("cannot list the machine's addresses")]
    List(#[source] nlink::Error),
    /// The device is gone.
    #[error("cannot find the device {name}")]
    NoDevice {
        /// Its name.
        name: String,
    },
    /// An address cannot be given to the device.
    #[error("cannot give the address {address} to the node's device: grant NET_ADMIN")]
    Address {
        /// The address.
        address: IpAddr,
        /// What the kernel said.
        #[source]
        source: nlink::Error,
    },
    /// A route cannot be made.
    #[error("cannot route {net} to the node's device: grant NET_ADMIN")]
    Route {
        /// Its destination.
        net: IpNet,
        /// What the kernel said.
        #[source]
        source: nlink::Error,
    },
}

impl Interface {
    /// Finds the device by its name in the network namespace of the calling thread.
    pub(crate) async fn open(name: &str, extra_address: Option<Ipv4Addr>) -> Result<Self, InterfaceError> {
        let netlink = Connection::<Route>::new().map_err(InterfaceError::Open)?;
        let link = netlink.get_link_by_name(name).await.map_err(InterfaceError::List)?;
        let index = link
            .map(|link| link.ifindex())
            .ok_or_else(|| InterfaceError::NoDevice { name: name.to_owned() })?;
        Ok(Self {
            netlink,
            index,
            extra_address,
            routes: BTreeSet::new(),
        })
    }

    /// Addresses of all devices but this one, and but those that are not connected.
    pub(crate) async fn machine_addresses(&self) -> Result<BTreeSet<IpAddr>, InterfaceError> {
        let links = self.netlink.get_links().await.map_err(InterfaceError::List)?;
        let up = links
            .iter()
            .filter(|link| link.is_running() && link.ifindex() != self.index);
        let up: BTreeSet<u32> = up.map(nlink::LinkMessage::ifindex).collect();
        let all = self.netlink.get_addresses().await.map_err(InterfaceError::List)?;
        let others = all.iter().filter(|message| up.contains(&message.ifindex()));
        Ok(others.filter_map(|message| message.address().copied()).collect())
    }

    /// Gives the device these addresses and takes away others, except link-local ones.
    pub(crate) async fn set_addresses(&self, addresses: &[IpAddr]) -> Result<(), InterfaceError> {
        let present = self
            .netlink
            .get_addresses_by_index(self.index)
            .await
            .map_err(InterfaceError::List)?;
        let present: BTreeSet<IpAddr> = present
            .iter()
            .filter_map(|message| message.address().copied())
            .collect();
        for address in addresses.iter().filter(|address| !present.contains(address)) {
            self.add_address(*address)
                .await
                .map_err(|source| InterfaceError::Address {
                    address: *address,
                    source,
                })?;
        }
        let extra = self.extra_address.map(IpAddr::V4);
        for address in present
            .iter()
            .filter(|address| !addresses.contains(address) && !is_link_local(**address) && Some(**address) != extra)
        {
            let length = IpNet::from(*address).prefix_len();
            let gone = self.netlink.del_address_by_index(self.index, *address, length).await;
            gone.map_err(|source| InterfaceError::Address {
                address: *address,
                source,
            })?;
        }
        if let Some(address) = self
            .extra_address
            .filter(|address| !present.contains(&(*address).into()))
        {
            // The kernel takes no address of this scope as the source of packets that leave the machine.
            let extra = Ipv4Address::with_index(self.index, address, 32).scope(Scope::Host);
            let added = self.netlink.replace_address(extra).await;
            added.map_err(|source| InterfaceError::Address {
                address: address.into(),
                source,
            })?;
        }
        Ok(())
    }

    async fn add_address(&self, address: IpAddr) -> Result<(), nlink::Error> {
        match address {
            IpAddr::V4(address) => {
                self.netlink
                    .replace_address(Ipv4Address::with_index(self.index, address, 32))
                    .await
            }
            // Without duplicate address detection the address is usable at once; nobody else can have it.
            IpAddr::V6(address) => {
                self.netlink
                    .replace_address(Ipv6Address::with_index(self.index, address, 128).nodad())
                    .await
            }
        }
    }

    /// Routes these destinations to the device, and no others that it routed before.
    pub(crate) async fn set_routes(&mut self, nets: BTreeSet<IpNet>) -> Result<(), InterfaceError> {
        for net in &nets {
            if !self.routes.contains(net) {
                self.add_route(*net)
                    .await
                    .map_err(|source| InterfaceError::Route { net: *net, source })?;
            }
        }
        for net in self.routes.difference(&nets) {
            self.remove_route(*net)
                .await
                .map_err(|source| InterfaceError::Route { net: *net, source })?;
        }
        self.routes = nets;
        Ok(())
    }

    async fn add_route(&self, net: IpNet) -> Result<(), nlink::Error> {
        match net {
            IpNet::V4(net) => {
                let route = Ipv4Route::new(net.network(), net.prefix_len()).dev_index(self.index);
                self.netlink.replace_route(route.scope(RouteScope::Link)).await
            }
            IpNet::V6(net) => {
                self.netlink
                    .replace_route(Ipv6Route::new(net.network(), net.prefix_len()).dev_index(self.index))
                    .await
            }
        }
    }

    async fn remove_route(&self, net: IpNet) -> Result<(), nlink::Error> {
        match net {
            IpNet::V4(net) => {
                self.netlink
                    .del_route_v4_if_exists(net.network(), net.prefix_len())
                    .await
            }
            IpNet::V6(net) => {
                self.netlink
                    .del_route_v6_if_exists(net.network(), net.prefix_len())
                    .await
            }
        }
        .map(drop)
    }
}

/// What peers may be told of the machine's addresses: not loopback, not link-local, not another tailnet.
pub(crate) fn endpoints(addresses: &BTreeSet<IpAddr>, port: u16) -> Vec<SocketAddr> {
    let none = isthmus_tailnet_core::addresses::AddressSet::default();
    let all = addresses.iter().map(|address| SocketAddr::new(*address, port));
    all.filter(|endpoint| isthmus_tailnet_core::paths::is_probeable(*endpoint, &none))
        .take(isthmus_tailnet_core::paths::MAX_ENDPOINTS)
        .collect()
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}
