use isthmus_runtime::Secret;
use isthmus_tailnet_wire::control::{Hostinfo, MapRequest, NetInfo, RegisterAuth, RegisterRequest};
use isthmus_tailnet_wire::keys::{DiscoKey, MachineKey, NodeKey};
use isthmus_tailnet_wire::time::GoTime;
use jiff::{SignedDuration, Timestamp};

use super::*;
mod nodes;
mod registration;
mod steps;

const HOUR: SignedDuration = SignedDuration::from_hours(1);

fn start() -> Timestamp {
    "2026-11-22T10:00:00Z".parse().unwrap()
}

fn machine(number: u8) -> MachineKey {
    MachineKey::from_bytes([number; 32])
}

fn node_key(number: u8) -> NodeKey {
    NodeKey::from_bytes([number; 32])
}

/// A state under test with a counter for credentials.
#[derive(Default)]
struct Fixture {
    state: State,
    credentials: u32,
}

impl Fixture {
    fn auth_key(&mut self, spec: AuthKeySpec) -> String {
        self.credentials += 1;
        let credential = Credential {
            id: format!("k{}", self.credentials),
            secret: Secret::new("secret"),
        };
        self.state.add_auth_key(&credential, spec, start());
        credential.text("auth").expose().to_owned()
    }

    fn reusable(&mut self) -> String {
        self.auth_key(AuthKeySpec {
            reusable: true,
            ..AuthKeySpec::default()
        })
    }

    fn register(&mut self, machine_number: u8, key_number: u8, auth_key: &str) -> Outcome {
        self.state
            .register(machine(machine_number), &request(key_number, auth_key), start())
    }

    fn node(&self, id: NodeId) -> &Node {
        self.state.nodes.get(id).unwrap()
    }

    fn map(&self, viewer: NodeId, now: Timestamp) -> isthmus_tailnet_wire::control::MapResponse {
        self.picture(0, None, &Presence::default(), now).map(viewer).unwrap()
    }

    fn picture(&self, number: u64, before: Option<&Picture>, presence: &Presence, now: Timestamp) -> Picture {
        let tailnet = Tailnet {
            domain: "tail.internal".into(),
            derp_map: DerpMap::default(),
            extra_records: Vec::new(),
        };
        Picture::new(number, before, &Arc::new(tailnet), &self.state, presence, now)
    }
}

fn request(key_number: u8, auth_key: &str) -> RegisterRequest {
    RegisterRequest {
        version: 119,
        node_key: node_key(key_number),
        auth: Some(RegisterAuth {
            auth_key: auth_key.into(),
        }),
        hostinfo: Some(Hostinfo {
            hostname: "web".into(),
            ..Hostinfo::default()
        }),
        ..RegisterRequest::default()
    }
}

fn update(disco: u8, endpoints: &[&str], home: i64) -> MapRequest {
    MapRequest {
        version: 119,
        disco_key: DiscoKey::from_bytes([disco; 32]),
        endpoints: endpoints.iter().map(|at| at.parse().unwrap()).collect(),
        hostinfo: Some(Hostinfo {
            hostname: "web".into(),
            net_info: (home != 0).then(|| NetInfo {
                preferred_derp: home,
                ..NetInfo::default()
            }),
            ..Hostinfo::default()
        }),
        ..MapRequest::default()
    }
}
