//! Brings together what control says, what disco finds and what the data plane does.

mod asks;
mod flows;
mod messages;
mod reach;
mod ways;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ipnet::IpNet;
use isthmus_runtime::ErrorChain;
use isthmus_tailnet_core::addresses::AddressSet;
use isthmus_tailnet_core::filter::Filter;
use isthmus_tailnet_core::greetings::Greetings;
use isthmus_tailnet_core::key::NodeKey;
use isthmus_tailnet_core::netcheck::Netcheck;
use isthmus_tailnet_core::netmap::{Netmap, Peer, RoutePolicy};
use isthmus_tailnet_core::paths::{Paths, Target};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{MissedTickBehavior, interval};

use crate::control::NodeFacts;
use crate::dataplane::{DataPlane, DatagramSender, Hooks, PeerConfig, Snapshot};
use crate::disco::{DiscoBox, random_id};
use crate::interface::{Interface, LinkChanges};
use crate::node::{NodePrefs, NodeStatus};
use crate::offloads::{OffloadSwitch, Offloads};
use crate::relay::{FromRelays, Relays};
pub(crate) use asks::{Ask, Awaited};
use flows::Flows;
use ways::Ways;

/// How often paths are looked after.
const TICK: Duration = Duration::from_millis(250);

/// How often the machine's addresses and the expiry of keys are looked at.
const REVIEW: Duration = Duration::from_secs(10);

/// The running middle of a node.
pub(crate) struct Engine {
    pub(crate) plane: DataPlane,
    pub(crate) hooks: Hooks,
    pub(crate) sender: DatagramSender,
    pub(crate) disco: DiscoBox,
    pub(crate) paths: Paths,
    pub(crate) interface: Interface,
    pub(crate) links: LinkChanges,
    pub(crate) port: u16,
    pub(crate) facts: watch::Sender<NodeFacts>,
    pub(crate) status: watch::Receiver<NodeStatus>,
    pub(crate) prefs: watch::Receiver<NodePrefs>,
    pub(crate) asks: mpsc::Receiver<Ask>,
    pub(crate) awaited: Awaited,
    pub(crate) own: NodeKey,
    pub(crate) install_routes: bool,
    pub(crate) relays: Relays,
    pub(crate) netcheck: Netcheck,
    pub(crate) from_relays: FromRelays,
    pub(crate) offloads: OffloadSwitch,
    /// The offloads that the machine and the user allow.
    pub(crate) allowed_offloads: Offloads,
    /// Whether the node has never been logged in: then peers are greeted.
    pub(crate) is_new: bool,
    pub(crate) applied: Applied,
}

/// What is in force now.
#[derive(Default)]
pub(crate) struct Applied {
    netmap: Option<Arc<Netmap>>,
    filter: Filter,
    peers: Vec<(Arc<Peer>, Vec<IpNet>)>,
    machine: BTreeSet<IpAddr>,
    greetings: Greetings,
    ways: Ways,
    flows: Flows,
    /// Addresses of servers for STUN that have only a name.
    resolved: BTreeMap<String, Vec<IpAddr>>,
}

impl Applied {
    /// Nothing yet, on a machine with these addresses.
    pub(crate) fn on(machine: BTreeSet<IpAddr>) -> Self {
        Self {
            machine,
            ..Self::default()
        }
    }
}

impl Engine {
    /// Runs until `stop` fires or is dropped; then everything the node had is gone.
    pub(crate) async fn run(mut self, mut stop: oneshot::Receiver<()>) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut review = interval(REVIEW);
        loop {
            tokio::select! {
                _ = &mut stop => break,
                changed = self.status.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    self.take_netmap().await;
                }
                Ok(()) = self.prefs.changed() => self.apply_netmap().await,
                Some(ask) = self.asks.recv() => self.answer(ask),
                Some(datagram) = self.hooks.datagrams.recv() => self.take_datagram(datagram),
                Some(event) = self.hooks.events.recv() => self.take_event(&event),
                Some(out) = self.hooks.relayed.recv() => self.relay(out),
                Some(relayed) = self.from_relays.datagrams.recv() => self.take_relayed(relayed),
                Some((name, addresses)) = self.from_relays.resolved.recv() => {
                    self.applied.resolved.insert(name, addresses);
                    self.update_netcheck();
                }
                Some((region, latency)) = self.from_relays.measured.recv() => {
                    self.netcheck.receive_https(region, latency, Instant::now());
                }
                Some(packet) = self.hooks.consumed.recv() => self.take_packet(&packet),
                _ = tick.tick() => {
                    self.look_at_flows();
                    let actions = self.paths.tick(Instant::now(), &mut random_id);
                    self.act(actions);
                    self.awaited.forget(Instant::now());
                    self.hooks.await_echoes(self.awaited.has_echoes());
                    self.greet();
                    self.check_network();
                }
                _ = review.tick() => self.review().await,
                () = self.links.next() => self.review().await,
            }
        }
        // Its threads are waited for, which must not hold up the runtime.
        let Self { plane, sender, .. } = self;
        drop(sender);
        let _ = tokio::task::spawn_blocking(move || drop(plane)).await;
    }

    fn policy(&self) -> RoutePolicy {
        RoutePolicy {
            accept_routes: self.prefs.borrow().accept_routes,
        }
    }

    async fn take_netmap(&mut self) {
        let netmap = self.status.borrow_and_update().netmap.clone();
        if netmap == self.applied.netmap {
            return;
        }
        self.applied.netmap = netmap;
        self.apply_netmap().await;
        if let Some(netmap) = self
            .applied
            .netmap
            .as_ref()
            .filter(|_| std::mem::take(&mut self.is_new))
        {
            let peers = netmap.expecting_peers(self.policy(), SystemTime::now());
            self.applied.greetings = Greetings::new(peers, Instant::now());
        }
    }

    /// Begins handshakes with peers that may have waited for this node to appear.
    fn greet(&mut self) {
        let plane = &self.plane;
        if !self.applied.greetings.is_done() {
            for peer in self.applied.greetings.due(Instant::now(), |peer| plane.has_path(peer)) {
                tracing::debug!(?peer, "greeting a peer");
                plane.force_handshake(&peer);
            }
        }
    }

    /// Uses the offloads that control allows this node.
    fn apply_offloads(&self, netmap: &Netmap) {
        let attributes: Vec<String> = netmap.own.capabilities.keys().cloned().collect();
        let offloads = self.allowed_offloads.obeying(&attributes);
        if offloads != self.offloads.get() {
            tracing::info!(?offloads, "control changed the offloads of this node");
            self.offloads.set(offloads);
            self.plane.apply_offloads();
        }
    }

    /// Puts the network map in force: peers, filter, addresses, routes.
    async fn apply_netmap(&mut self) {
        let Some(netmap) = self.applied.netmap.clone() else {
            return;
        };
        self.apply_offloads(&netmap);
        let (now, policy) = (SystemTime::now(), self.policy());
        let offers = self.prefs.borrow_and_update().offers(&netmap);
        self.applied.peers = usable_peers(&netmap, policy, now);
        self.applied.filter = self.applied.filter.with_plan(netmap.filter_plan(policy, &offers, now));
        self.update_netcheck();
        self.choose_home(&netmap);
        let targets = self.applied.peers.iter().filter_map(|(peer, _)| target(peer)).collect();
        let actions = self.paths.update(targets, forbidden(&netmap, &self.applied.machine));
        self.act(actions);
        self.apply_snapshot();
        if let Err(error) = self.apply_interface(&netmap).await {
            tracing::error!(error = %ErrorChain(&error), "the node's interface is not as the network map wants it");
        }
    }

    async fn apply_interface(&mut self, netmap: &Netmap) -> Result<(), crate::interface::InterfaceError> {
        let mut addresses = netmap.own.addresses.clone();
        addresses.extend(self.prefs.borrow().service_addresses(netmap));
        self.interface.set_addresses(&addresses).await?;
        if self.install_routes {
            let nets = self.applied.peers.iter().flat_map(|(_, nets)| nets.iter().copied());
            let own: Vec<IpNet> = netmap.own.addresses.iter().copied().map(IpNet::from).collect();
            self.interface
                .set_routes(nets.filter(|net| !own.contains(net)).collect())
                .await?;
        }
        Ok(())
    }

    fn apply_snapshot(&mut self) {
        let Some(netmap) = &self.applied.netmap else { return };
        let peers = self.applied.peers.iter().map(|(peer, nets)| PeerConfig {
            disco: peer.disco,
            allowed_ips: nets.clone(),
            path: self.path_to(peer),
            ..PeerConfig::new(peer.key)
        });
        self.plane.apply(Snapshot {
            own: netmap.own_nets(&self.prefs.borrow().offers(netmap)),
            peers: peers.collect(),
            filter: Some(Arc::new(self.applied.filter.clone())),
        });
        self.note_ways();
    }

    /// Looks at what changes without a message: the machine's addresses, and keys whose time comes.
    async fn review(&mut self) {
        match self.interface.machine_addresses().await {
            Ok(machine) if machine != self.applied.machine => {
                let gone = self.applied.machine.difference(&machine).copied().collect();
                self.applied.machine = machine;
                self.move_to_new_addresses(&gone);
                self.apply_netmap().await;
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(error = %ErrorChain(&error), "the machine's addresses are not known"),
        }
        let Some(netmap) = self.applied.netmap.clone() else {
            return;
        };
        if usable_peers(&netmap, self.policy(), SystemTime::now()) != self.applied.peers {
            self.apply_netmap().await;
        }
    }
}

/// The peers that traffic is exchanged with; none once the node's own key is expired.
fn usable_peers(netmap: &Netmap, policy: RoutePolicy, now: SystemTime) -> Vec<(Arc<Peer>, Vec<IpNet>)> {
    if netmap.own.is_expired(now) {
        Vec::new()
    } else {
        netmap.usable_peers(policy, now)
    }
}

fn target(peer: &Arc<Peer>) -> Option<Target> {
    Some(Target {
        key: peer.key,
        disco: peer.disco?,
        endpoints: peer.endpoints.clone(),
        online: peer.online,
    })
}

/// Where disco never sends: to this machine and into the tailnet.
fn forbidden(netmap: &Netmap, machine: &BTreeSet<IpAddr>) -> AddressSet {
    let peers = netmap.peers.values().flat_map(|peer| peer.addresses.iter());
    machine
        .iter()
        .chain(&netmap.own.addresses)
        .chain(peers)
        .copied()
        .map(IpNet::from)
        .collect()
}
