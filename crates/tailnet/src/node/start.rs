//! Makes what a node consists of.

use std::sync::Arc;
use std::time::Duration;

use isthmus_tailnet_core::key::NodeKey;
use isthmus_tailnet_core::netcheck::Netcheck;
use isthmus_tailnet_core::netmap::{Netmap, RegionId};
use isthmus_tailnet_core::paths::Paths;
use isthmus_tailnet_wire::keys as wire;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use ts_keys::ExportableKey;

use super::{NodeConfig, NodeError, NodePrefs, NodeStatus};
use crate::cache::{Cache, Remembered};
use crate::control::{Dialer, NodeFacts, Server, Session, authorities};
use crate::dataplane::{DataPlane, DataPlaneConfig};
use crate::disco::DiscoBox;
use crate::dns::RESOLVER_ADDRESS;
use crate::engine::{Applied, Ask, Awaited, Engine};
use crate::interface::{Interface, LinkChanges, endpoints};
use crate::offloads::{OffloadSwitch, Offloads};
use crate::relay::{RelayIdentity, Relays};
use crate::state::Identity;
use crate::tun::{self, Tun};
use crate::udp::UdpLink;
use crate::wireguard::PrivateKey;

/// How long control may take to answer before a restarted node goes on with what it remembers.
const CONTROL_LIMIT: Duration = Duration::from_secs(3);

/// What the run before left.
#[derive(Default)]
pub(super) struct Recalled {
    /// The region of the relay at which peers reached the node.
    pub(super) home: Option<RegionId>,
    /// To go on with while control is away and so cannot tell anything newer.
    pub(super) without_control: Option<(DiscoBox, Arc<Netmap>)>,
}

/// Looks what the run before left, and whether control is away.
pub(super) async fn recall(cache: Option<&Cache>, dialer: &Dialer, server: &Server, identity: &Identity) -> Recalled {
    let own = NodeKey::from_bytes(*wire::NodeKey::from(identity.node.public).as_bytes());
    let Some(Remembered { netmap, home }) = cache.and_then(|cache| cache.remembered(&own)) else {
        return Recalled::default();
    };
    let answer = timeout(CONTROL_LIMIT, Session::open(dialer, server, &identity.machine)).await;
    let disco = cache.and_then(Cache::disco).filter(|_| !matches!(answer, Ok(Ok(_))));
    if disco.is_some() {
        tracing::warn!("the control server is away: going on with the last network map");
    }
    Recalled {
        home,
        without_control: disco.map(|disco| (disco, Arc::new(netmap))),
    }
}

/// What the engine listens to beside the network.
pub(super) struct Inputs {
    pub(super) status: watch::Receiver<NodeStatus>,
    pub(super) prefs: watch::Receiver<NodePrefs>,
    pub(super) asks: mpsc::Receiver<Ask>,
    /// Host and port of the control server where that speaks no TLS.
    pub(super) without_tls: Option<(String, u16)>,
    /// The home of the run before.
    pub(super) home: Option<RegionId>,
}

/// Makes the device, the socket and the data plane. The machine's endpoints are gathered here, before the node registers, so that its
/// first message to control carries them.
pub(super) async fn start_engine(
    config: &NodeConfig,
    identity: &Identity,
    disco: DiscoBox,
    inputs: Inputs,
) -> Result<(Engine, watch::Receiver<NodeFacts>), NodeError> {
    let allowed_offloads = if config.tun.offloads {
        Offloads::for_this_kernel()
    } else {
        Offloads::NONE
    };
    let offloads = OffloadSwitch::new(allowed_offloads);
    let udp = UdpLink::bind(config.listen_port, offloads.clone())?;
    let tun = tun::TunConfig {
        name: config.tun.name.clone(),
        mtu: config.tun.mtu,
        addresses: Vec::new(),
    };
    let tun = Tun::create(&tun, offloads.clone())?;
    let extra_address = config.resolver.as_ref().map(|_| RESOLVER_ADDRESS);
    let interface = Interface::open(&config.tun.name, extra_address).await?;
    let private_key = PrivateKey::from_bytes(*identity.node.export().as_bytes());
    let own_key = private_key.public_key();
    let plane_config = DataPlaneConfig {
        private_key,
        mtu: config.tun.mtu,
    };
    let (plane, hooks) = DataPlane::start(&plane_config, Arc::new(tun), udp)?;
    let port = plane.local_port().map_err(NodeError::Port)?;
    let links = LinkChanges::of_devices_and_addresses().await;
    let machine = interface.machine_addresses().await?;
    let facts = NodeFacts {
        disco: disco.public_key(),
        endpoints: endpoints(&machine, port),
        observed: Vec::new(),
        home: inputs.home,
        machine: machine.clone(),
    };
    let (relays, from_relays) = Relays::new(RelayIdentity {
        private: *identity.node.export().as_bytes(),
        public: own_key,
        authorities: Arc::new(authorities(&config.extra_ca)),
        without_tls: inputs.without_tls,
    });
    let (facts, facts_receiver) = watch::channel(facts);
    let engine = Engine {
        sender: plane.datagram_sender(),
        plane,
        hooks,
        disco,
        paths: Paths::new(own_key),
        interface,
        links,
        port,
        facts,
        status: inputs.status,
        prefs: inputs.prefs,
        asks: inputs.asks,
        awaited: Awaited::default(),
        own: own_key,
        install_routes: config.install_routes,
        relays,
        netcheck: Netcheck::with_home(inputs.home),
        from_relays,
        offloads,
        allowed_offloads,
        is_new: !identity.was_logged_in(),
        applied: Applied::on(machine),
    };
    Ok((engine, facts_receiver))
}
