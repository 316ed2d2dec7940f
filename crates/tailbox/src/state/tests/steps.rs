//! Steps between pictures, judged by comparing whole maps.

use isthmus_tailnet_wire::control::{C2nVipServices, VipService};
use proptest::prelude::*;

use super::*;
use crate::policy::Policy;

/// Something that happens to a node (1 to 5) or to the tailnet.
#[derive(Clone, Debug)]
enum Happening {
    Joins(u8, bool),
    Roams(u8, u16),
    Reconnects(u8),
    Leaves(u8),
    IsTagged(u8, bool),
    Routes(u8, bool),
    Hosts(u8, bool),
    Expires(u8),
    IsAuthorized(u8, bool),
    IsRemoved(u8),
    Policy(usize),
    Service,
    Https(bool),
    /// Nothing changes at all.
    Nothing,
}

fn any_happening() -> impl Strategy<Value = Happening> {
    let node = 1..=5_u8;
    prop_oneof![
        3 => (node.clone(), any::<bool>()).prop_map(|(node, tagged)| Happening::Joins(node, tagged)),
        3 => (node.clone(), 1..4_u16).prop_map(|(node, port)| Happening::Roams(node, port)),
        2 => node.clone().prop_map(Happening::Reconnects),
        1 => node.clone().prop_map(Happening::Leaves),
        1 => (node.clone(), any::<bool>()).prop_map(|(node, tagged)| Happening::IsTagged(node, tagged)),
        1 => (node.clone(), any::<bool>()).prop_map(|(node, offers)| Happening::Routes(node, offers)),
        1 => (node.clone(), any::<bool>()).prop_map(|(node, offers)| Happening::Hosts(node, offers)),
        1 => node.clone().prop_map(Happening::Expires),
        1 => (node.clone(), any::<bool>()).prop_map(|(node, authorized)| Happening::IsAuthorized(node, authorized)),
        1 => node.prop_map(Happening::IsRemoved),
        1 => (0..POLICIES.len()).prop_map(Happening::Policy),
        1 => Just(Happening::Service),
        1 => any::<bool>().prop_map(Happening::Https),
        1 => Just(Happening::Nothing),
    ]
}

const POLICIES: [&str; 4] = [
    r#"{"tagOwners": {"tag:k8s": []}, "acls": [{"action": "accept", "src": ["tag:k8s"], "dst": ["*:80"]}],
        "autoApprovers": {"services": {"svc:site": ["tag:k8s"]}}, "nodeAttrs": [{"target": ["tag:k8s"], "attr": ["x"]}]}"#,
    r#"{"tagOwners": {"tag:k8s": []}, "acls": [{"action": "accept", "src": ["autogroup:member"], "dst": ["tag:k8s:*", "10.0.0.0/8:*"]}]}"#,
    r#"{"acls": []}"#,
    "{}",
];

struct World {
    fixture: Fixture,
    presence: Presence,
    now: Timestamp,
}

impl World {
    fn node(&mut self, machine_number: u8) -> Option<NodeId> {
        let mut nodes = self.fixture.state.nodes.values();
        nodes
            .find(|node| node.machine == machine(machine_number))
            .map(|node| node.id)
    }

    fn happens(&mut self, happening: &Happening) {
        self.now += HOUR;
        match *happening {
            Happening::Joins(node, tagged) => {
                let key = self.fixture.auth_key(AuthKeySpec {
                    tags: tags(tagged),
                    ..AuthKeySpec::default()
                });
                self.fixture.register(node, node, &key);
            }
            Happening::Policy(index) => {
                let policy = Policy::try_from(POLICIES[index].to_owned()).unwrap();
                self.fixture.state.policy = Some(Arc::new(policy));
            }
            Happening::Service => {
                let addresses = self
                    .fixture
                    .state
                    .services
                    .get("svc:site")
                    .map(|known| known.addresses().to_vec());
                let spec = ServiceSpec {
                    name: "svc:site".into(),
                    addresses: addresses.unwrap_or_default(),
                    ports: vec!["do-not-validate".into()],
                    ..ServiceSpec::default()
                };
                self.fixture.state.put_service(spec).unwrap();
            }
            Happening::Https(on) => self.fixture.state.settings.https = on,
            Happening::Nothing => {}
            Happening::Roams(node, _)
            | Happening::Reconnects(node)
            | Happening::Leaves(node)
            | Happening::IsTagged(node, _)
            | Happening::Routes(node, _)
            | Happening::Hosts(node, _)
            | Happening::Expires(node)
            | Happening::IsAuthorized(node, _)
            | Happening::IsRemoved(node) => {
                if let Some(id) = self.node(node) {
                    self.happens_to(id, happening);
                }
            }
        }
    }

    fn happens_to(&mut self, id: NodeId, happening: &Happening) {
        let state = &mut self.fixture.state;
        match *happening {
            Happening::Roams(_, port) => state.update_node(id, &update(7, &[&format!("192.0.2.1:{port}")], 1)),
            Happening::Reconnects(_) => drop(self.presence.connect(id)),
            Happening::Leaves(_) => self.presence.disconnect(id, self.now),
            Happening::IsTagged(_, tagged) => state.edit(id, Edit::Tags(tags(tagged)), self.now).unwrap(),
            Happening::Expires(_) => state.edit(id, Edit::Expire, self.now).unwrap(),
            Happening::IsAuthorized(_, authorized) => state.edit(id, Edit::Authorized(authorized), self.now).unwrap(),
            Happening::IsRemoved(_) => assert!(state.remove_node(id)),
            Happening::Routes(_, offers) => {
                let routes: Vec<_> = offers.then(|| "10.0.0.0/24".parse().unwrap()).into_iter().collect();
                let approved = ["10.0.0.0/24".parse().unwrap()].into();
                state.edit(id, Edit::Routes(approved), self.now).unwrap();
                state.nodes.get_mut(id).unwrap().hostinfo.routable_ips = routes.into();
            }
            Happening::Hosts(_, offers) => {
                let service = VipService {
                    name: "svc:site".into(),
                    active: offers,
                    ..VipService::default()
                };
                state.note_offers(
                    id,
                    C2nVipServices {
                        services: vec![service],
                        ..C2nVipServices::default()
                    },
                );
            }
            Happening::Joins(..)
            | Happening::Policy(_)
            | Happening::Service
            | Happening::Https(_)
            | Happening::Nothing => unreachable!("it happens to the tailnet"),
        }
    }
}

fn tags(tagged: bool) -> Vec<String> {
    tagged.then(|| "tag:k8s".to_owned()).into_iter().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_step_says_the_difference_between_the_whole_maps_of_a_node(
        happenings in prop::collection::vec((any_happening(), any::<prop::sample::Index>()), 1..16),
    ) {
        let mut world = World {
            fixture: Fixture::default(),
            presence: Presence::default(),
            now: start(),
        };
        let mut pictures = vec![world.fixture.picture(0, None, &world.presence, world.now)];
        for (number, (happening, before)) in (1..).zip(&happenings) {
            world.happens(happening);
            let before = before.get(&pictures);
            pictures.push(world.fixture.picture(number, Some(before), &world.presence, world.now));
        }
        for (index, to) in pictures.iter().enumerate() {
            for id in 1..=20 {
                let map = to.map(id);
                let json = to.map_json(id).map(|json| serde_json::from_slice(&json).unwrap());
                prop_assert_eq!(&json, &map);
                for from in &pictures[..index] {
                    let step = to.step(from, id);
                    prop_assert_eq!(step.is_some(), from.map(id).is_some() && map.is_some());
                    let mut message = step.and_then(|step| to.message(from, &step));
                    if let Some(message) = &mut message {
                        prop_assert_eq!(message.control_time.take(), Some(to.made.into()));
                    }
                    let whole = from.map(id).zip(map.as_ref()).and_then(|(from, to)| from.delta(to));
                    prop_assert_eq!(message, whole, "node {} from {} to {}", id, from.number, to.number);
                }
            }
        }
    }
}

#[test]
fn unchanged_nodes_are_shared_between_pictures_and_change_nothing() {
    let mut fixture = Fixture::default();
    let key = fixture.reusable();
    for number in 1..=3 {
        fixture.register(number, number, &key);
        fixture
            .state
            .update_node(number.into(), &update(number, &["192.0.2.1:1"], 1));
    }
    let presence = Presence::default();
    let first = fixture.picture(1, None, &presence, start());
    fixture.state.update_node(3, &update(3, &["192.0.2.1:2"], 1));
    let second = fixture.picture(2, Some(&first), &presence, start());
    let step = second.step(&first, 1).unwrap();
    assert_eq!(step.peers_alone().unwrap(), [(3, true, true)]);
    let third = fixture.picture(3, Some(&second), &presence, start());
    assert!(third.step(&second, 1).unwrap().is_empty());
    assert_eq!(
        third.step(&first, 2).unwrap().peers_alone().unwrap(),
        [(3, true, true)],
        "a stream that lags"
    );
}

#[test]
fn node_key_leaves_its_old_id_in_the_message_that_brings_it_under_another() {
    let mut fixture = Fixture::default();
    let key = fixture.reusable();
    for number in 1..=2 {
        fixture.register(number, number, &key);
        fixture
            .state
            .update_node(number.into(), &update(number, &["192.0.2.1:1"], 1));
    }
    let presence = Presence::default();
    let first = fixture.picture(1, None, &presence, start());
    fixture.state.remove_node(2);
    fixture.register(2, 2, &key);
    fixture.state.update_node(3, &update(2, &["192.0.2.1:1"], 1));
    let second = fixture.picture(2, Some(&first), &presence, start());
    let message = second.message(&first, &second.step(&first, 1).unwrap()).unwrap();
    assert_eq!(message.peers_removed, [2]);
    assert_eq!(
        message.peers_changed.iter().map(|peer| peer.id).collect::<Vec<_>>(),
        [3]
    );
}
