//! Brings together what control says, what disco finds and what the data plane does.

mod reach;

use std::collections::BTreeSet;
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
use isthmus_tailnet_core::paths::{Action, Paths, Target};
use isthmus_tailnet_core::tsmp;
use isthmus_tailnet_wire::stun;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{MissedTickBehavior, interval};

use crate::control::NodeFacts;
use crate::dataplane::{DataPlane, Datagram, DatagramSender, Hooks, PeerConfig, PeerEvent, Snapshot};
use crate::disco::{DiscoBox, random_id};
use crate::interface::Interface;
use crate::node::{NodePrefs, NodeStatus};
use crate::offloads::{OffloadSwitch, Offloads};
use crate::relay::{Relayed, Relays};

/// How often paths are looked after.
const TICK: Duration = Duration::from_millis(250);

/// How often it is looked at with which peers traffic flows.
const ACTIVITY: Duration = Duration::from_secs(1);

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
    pub(crate) port: u16,
    pub(crate) facts: watch::Sender<NodeFacts>,
    pub(crate) status: watch::Receiver<NodeStatus>,
    pub(crate) prefs: watch::Receiver<NodePrefs>,
    pub(crate) install_routes: bool,
    pub(crate) relays: Relays,
    pub(crate) netcheck: Netcheck,
    pub(crate) relayed: mpsc::Receiver<Relayed>,
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
        let mut activity = interval(ACTIVITY);
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
                Some(datagram) = self.hooks.datagrams.recv() => self.take_datagram(datagram),
                Some(event) = self.hooks.events.recv() => self.take_event(&event),
                Some(out) = self.hooks.relayed.recv() => self.relay(out),
                Some(relayed) = self.relayed.recv() => self.take_relayed(relayed),
                Some(packet) = self.hooks.consumed.recv() => self.take_packet(&packet),
                _ = tick.tick() => {
                    let actions = self.paths.tick(Instant::now(), &mut random_id);
                    self.act(actions);
                    self.greet();
                    self.check_network();
                }
                _ = activity.tick() => self.paths.set_active(&self.plane.active_peers()),
                _ = review.tick() => self.review().await,
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

    /// Answers what peers ask the node itself.
    fn take_packet(&self, packet: &[u8]) {
        if let Some(mut answer) = tsmp::answer(packet) {
            self.plane.send_packet(&mut answer);
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
        self.netcheck.update(&netmap.relays);
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

    fn apply_snapshot(&self) {
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
    }

    fn take_datagram(&mut self, mut datagram: Datagram) {
        if let Some((id, observed)) = stun::parse_response(&datagram.bytes) {
            self.netcheck.receive(datagram.from, id, observed, Instant::now());
            return;
        }
        let paths = &self.paths;
        let opened = self.disco.open(&mut datagram.bytes, |sender| paths.knows(sender));
        let Some((sender, message)) = opened else {
            tracing::trace!(from = %datagram.from, "a datagram is not for this node");
            return;
        };
        tracing::trace!(from = %datagram.from, ?sender, ?message, "disco message");
        let actions = self
            .paths
            .receive(datagram.from, &sender, &message, Instant::now(), &mut random_id);
        self.act(actions);
    }

    fn take_event(&mut self, event: &PeerEvent) {
        tracing::trace!(?event, "event of the data plane");
        match event {
            PeerEvent::PathWanted(peer) => {
                let actions = self.paths.wanted(peer, Instant::now(), &mut random_id);
                self.act(actions);
            }
            PeerEvent::Handshake(peer) => tracing::debug!(?peer, "a handshake with a peer is complete"),
            PeerEvent::UnknownInitiator { .. } | PeerEvent::UnknownIndex { .. } => {}
        }
    }

    fn act(&mut self, actions: Vec<Action>) {
        let mut paths_changed = false;
        for action in actions {
            match action {
                Action::Send { to, disco, message } => {
                    let Some(datagram) = self.disco.seal(&disco, &message) else {
                        continue;
                    };
                    if let Err(error) = self.sender.send(to, &datagram) {
                        tracing::trace!(%to, %error, "cannot send a disco message");
                    }
                }
                Action::Relay { peer, disco, message } => {
                    let home = self.applied.peers.iter().find(|(known, _)| known.key == peer);
                    let region = home.and_then(|(peer, _)| peer.home);
                    if let (Some(region), Some(datagram)) = (region, self.disco.seal(&disco, &message)) {
                        self.relays.send(region, peer, datagram);
                    }
                }
                Action::Path { peer, path } => {
                    paths_changed = true;
                    self.log_path(&peer, path.is_some());
                    tracing::debug!(?peer, ?path, name = self.name_of(&peer), "the path to a peer changed");
                }
            }
        }
        if paths_changed {
            self.apply_snapshot();
        }
    }

    fn log_path(&self, peer: &NodeKey, found: bool) {
        if found {
            tracing::info!(?peer, "found a direct path to a peer");
        } else if self.applied.peers.iter().any(|(known, _)| known.key == *peer) {
            tracing::info!(?peer, "no direct path to a peer");
        }
    }

    fn name_of(&self, key: &NodeKey) -> &str {
        let peer = self.applied.peers.iter().find(|(peer, _)| peer.key == *key);
        peer.map_or("", |(peer, _)| &peer.name)
    }

    /// Looks at what changes without a message: the machine's addresses, and keys whose time comes.
    async fn review(&mut self) {
        match self.interface.machine_addresses().await {
            Ok(machine) if machine != self.applied.machine => {
                self.applied.machine = machine;
                self.tell_facts();
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
