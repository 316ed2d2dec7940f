//! Telling a story to the world.

use std::panic::{AssertUnwindSafe, catch_unwind};

use isthmus_contract::secret_key;
use isthmus_operator_core::{
    proxy_class::{Container, Metrics, Pod, ProxyClass, ProxyClassSpec, StatefulSet},
    service_proxy::Child,
    settings::Settings,
};
use isthmus_testkit::story::{Asked, Beat, ClassState, Hand, Part, Place, Plain, SLOTS, Step, Story, service_name};
use k8s_openapi::{ByteString, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use serde_json::json;

use crate::{
    check,
    operator::Operator,
    proxies::{self, NO_IMAGE},
    world::{World, metadata_mut, text},
};

/// When every story begins, in seconds since 1970.
const BEGIN: i64 = 1_000_000;
/// Rounds after which a world that is not quiet never will be.
const PATIENCE: usize = 80;
/// Seconds of a round in which nobody waits for anything else.
const ROUND: i64 = 31;

struct Telling {
    world: World,
    operator: Operator,
    plain: Plain,
    place: Place,
}

/// Tells a story to its end. What does not end as it should is the error.
pub(crate) fn told(story: &Story) -> Result<(), String> {
    let telling = AssertUnwindSafe(|| Telling::new().tell(story));
    catch_unwind(telling).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(text
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_default())
    })
}

impl Telling {
    fn new() -> Self {
        let mut world = World::default();
        world.now = BEGIN;
        Self {
            world,
            operator: Operator::new(settings()),
            plain: Plain::default(),
            place: crate::place(),
        }
    }

    fn tell(mut self, story: &Story) -> Result<(), String> {
        for (number, Beat { step, rounds }) in story.beats.iter().enumerate() {
            self.happens(step).map_err(|why| format!("at event {number}: {why}"))?;
            for _ in 0..*rounds {
                self.round();
            }
        }
        self.settle_for_good()?;
        for slot in 0..SLOTS {
            self.delete(slot);
        }
        if story.refused_at_the_end {
            return self.end_without_the_tailnet();
        }
        self.settle_for_good()
            .map_err(|why| format!("after all is deleted: {why}"))
    }

    fn happens(&mut self, step: &Step) -> Result<(), String> {
        let world = &mut self.world;
        match step {
            Step::Put(slot, wish) => self.put(*slot, wish),
            Step::Delete(slot) => self.delete(*slot),
            Step::Class(state) => {
                let generation = world.step().parse().unwrap();
                world.objects.class = class(*state, generation);
                world.dirty.extend(world.objects.services.keys().cloned());
                self.plain.class(*state);
            }
            Step::Fickle(is_there) => {
                world.fickle = *is_there;
                self.plain.fickle = *is_there;
            }
            Step::Tamper(slot, part, hand) => {
                tamper(world, *slot, *part, *hand);
                self.plain.tampered(*slot, *part);
            }
            Step::Unhold(slot) => self.unhold(*slot),
            Step::RemoveDevice(slot) => {
                if let Some(id) =
                    pod_name(world, *slot).and_then(|name| text(world.secret(&name)?, secret_key::DEVICE_ID))
                {
                    world.tailnet.devices.remove(&id);
                    world.tailnet.changes += 1;
                    self.plain.disturbed(*slot);
                }
            }
            Step::RevokeKeys => {
                world.tailnet.keys.clear();
                world.tailnet.changes += 1;
                for slot in 0..SLOTS {
                    self.plain.disturbed(slot);
                }
            }
            Step::Calls(trouble, count) => world.tailnet.meets(*trouble, *count),
            Step::Writes(refusal, count) => world.meets(*refusal, *count),
            Step::Restart => self.operator.restart(world),
            Step::Crash(actions) => self.operator.dies_after = Some(*actions),
            Step::Lag => self.operator.caches = Some(Box::new(world.objects.clone())),
            Step::Sleep(slot) => {
                if let Some(pod) = pod_name(world, *slot).and_then(|name| world.running.get_mut(&name)) {
                    pod.asleep = true;
                }
            }
            Step::Wait(minutes) => {
                world.now += i64::from(*minutes) * 60;
                world.tailnet.expire(world.now);
            }
            Step::Settle => self.settle()?,
        }
        Ok(())
    }

    fn put(&mut self, slot: u8, wish: &isthmus_testkit::story::Wish) {
        let name = service_name(slot);
        let before = self.plain.slots[usize::from(slot)].wish.clone();
        let taken = match (self.world.objects.services.get(&name), &before) {
            (Some(live), Some(before)) if live.metadata.deletion_timestamp.is_none() && wish.may_follow(before) => {
                let patch = self.place.patch(slot, before, wish);
                self.world.edit(&name, &patch)
            }
            (None, None) => self.world.create(&wish.manifest(&self.place, slot)),
            (_, _) => false,
        };
        if taken {
            self.plain.put(slot, wish);
        }
    }

    fn delete(&mut self, slot: u8) {
        self.world.delete_service(&service_name(slot));
        self.plain.gone(slot);
    }

    fn unhold(&mut self, slot: u8) {
        if self.world.objects.services.contains_key(&service_name(slot)) {
            self.world
                .edit(&service_name(slot), &json!({"metadata": {"finalizers": null}}));
            let is_gone = !self.world.objects.services.contains_key(&service_name(slot));
            assert!(
                !is_gone || self.plain.slots[usize::from(slot)].wish.is_none(),
                "nobody deleted it"
            );
        }
    }

    /// A round of everybody's work. Says whether anything happened.
    fn round(&mut self) -> bool {
        let before = (self.world.version, self.world.tailnet.changes);
        proxies::work(&mut self.world);
        self.operator.work(&mut self.world);
        self.world.now += 1;
        before != (self.world.version, self.world.tailnet.changes)
    }

    /// As [`Self::settle`], and an operator that is started anew finds nothing to do.
    fn settle_for_good(&mut self) -> Result<(), String> {
        self.quiet_again()?;
        // Keys that were made and not stored are found at the start.
        self.operator.restart(&mut self.world);
        self.quiet()?;
        check::compare(&self.world, &mut self.plain, &self.place)?;
        check::keys(&self.world)?;
        self.is_idle()
    }

    /// Ends all troubles, lets everybody work until nothing happens any more, and looks at what has come of it.
    fn settle(&mut self) -> Result<(), String> {
        self.quiet_again()?;
        check::compare(&self.world, &mut self.plain, &self.place)?;
        self.is_idle()
    }

    fn quiet_again(&mut self) -> Result<(), String> {
        self.world.heal();
        self.operator.dies_after = None;
        if self.operator.caches.take().is_some() {
            // The events come with the caches.
            self.world.dirty.extend(self.world.objects.services.keys().cloned());
        }
        for pod in self.world.running.values_mut() {
            pod.asleep = false;
        }
        self.world.seen = None;
        self.quiet()
    }

    fn quiet(&mut self) -> Result<(), String> {
        let mut still = 0;
        for _ in 0..PATIENCE {
            if self.round() {
                still = 0;
            } else {
                still += 1;
                self.world.now += ROUND;
                self.world.tailnet.expire(self.world.now);
            }
            if still == 3 {
                return Ok(());
            }
        }
        Err("nothing comes to an end".to_owned())
    }

    /// A look at a world that is quiet writes nothing and asks for nothing.
    fn is_idle(&mut self) -> Result<(), String> {
        // A key whose time comes just now is a reason to write, but not twice.
        self.idle_look().or_else(|_| {
            self.quiet()?;
            self.idle_look()
        })
    }

    fn idle_look(&mut self) -> Result<(), String> {
        let before = (self.world.writes, self.world.tailnet.calls);
        for slot in 0..SLOTS {
            self.operator.look_at(&mut self.world, &service_name(slot));
        }
        let after = (self.world.writes, self.world.tailnet.calls);
        let refused = self.plain.slots.iter().any(|slot| {
            // A tailnet that refuses is asked again and again.
            let forbidden = isthmus_testkit::story::TagWish::Forbidden;
            slot.wish
                .as_ref()
                .is_some_and(|wish| wish.tags == forbidden && matches!(wish.asked(), Asked::Carry(_)))
        });
        if before == after || refused && before.0 == after.0 {
            Ok(())
        } else {
            Err(format!("a look with nothing to do wrote {} times", after.0 - before.0))
        }
    }

    /// Deletions end although the tailnet refuses the operator for good.
    fn end_without_the_tailnet(&mut self) -> Result<(), String> {
        self.world.heal();
        self.world.tailnet.refuses = true;
        for _ in 0..PATIENCE {
            self.round();
            self.world.now += 60;
        }
        let left: Vec<_> = self.world.objects.services.keys().collect();
        if !left.is_empty() {
            return Err(format!("deletions do not end: {left:?}"));
        }
        Ok(())
    }
}

fn settings() -> Settings {
    Settings {
        namespace: "isthmus".to_owned(),
        proxy_image: "isthmus:test".to_owned(),
        proxy_image_pull_policy: None,
        proxy_priority_class: None,
        proxy_default_class: None,
        proxy_tags: vec!["tag:k8s".to_owned()],
        default_load_balancer: false,
        login_server: "http://10.0.0.1:8080".to_owned(),
        cluster_domain: "cluster.local".to_owned(),
        cluster_id: "1a2b3c4d-0000-0000-0000-000000000000".to_owned(),
    }
}

fn class(state: ClassState, generation: i64) -> Option<ProxyClass> {
    let label = |key: &str, value: &str| Some([(key.to_owned(), value.to_owned())].into());
    let pod = match state {
        ClassState::Gone => return None,
        ClassState::Good => Pod {
            labels: label("team", "a"),
            ..Pod::default()
        },
        ClassState::Other => Pod {
            labels: label("team", "b"),
            ..Pod::default()
        },
        ClassState::NoImage => {
            let container = Container {
                image: Some(NO_IMAGE.to_owned()),
                ..Container::default()
            };
            Pod {
                tailscale_container: Some(container),
                ..Pod::default()
            }
        }
        ClassState::Invalid => Pod {
            labels: label("no key/", "a"),
            ..Pod::default()
        },
    };
    let metrics = Metrics {
        enable: state == ClassState::Other,
        ..Metrics::default()
    };
    Some(ProxyClass {
        metadata: ObjectMeta {
            name: Some("shared".to_owned()),
            generation: Some(generation),
            ..ObjectMeta::default()
        },
        spec: ProxyClassSpec {
            stateful_set: Some(StatefulSet {
                pod: Some(pod),
                ..StatefulSet::default()
            }),
            metrics: Some(metrics),
            ..ProxyClassSpec::default()
        },
        status: None,
    })
}

/// The name of the Pod of a Service's proxy.
fn pod_name(world: &World, slot: u8) -> Option<String> {
    let parent = Some(service_name(slot));
    let pod = world.objects.children.values().find(|child| {
        let labels = child.metadata().labels.as_ref();
        let of = labels.and_then(|labels| labels.get("tailscale.com/parent-resource"));
        matches!(child, Child::Secret(_)) && of.cloned() == parent
    })?;
    pod.metadata().name.clone()
}

fn tamper(world: &mut World, slot: u8, part: Part, hand: Hand) {
    let Some(pod) = pod_name(world, slot) else { return };
    let (kind, name) = match part {
        Part::Pod => return proxies::remove_pod(world, &pod),
        Part::Secret => ("Secret", pod.clone()),
        Part::HeadlessService => ("Service", pod.trim_end_matches("-0").to_owned()),
        Part::ServiceAccount => ("ServiceAccount", pod.trim_end_matches("-0").to_owned()),
        Part::Role => ("Role", pod.trim_end_matches("-0").to_owned()),
        Part::RoleBinding => ("RoleBinding", pod.trim_end_matches("-0").to_owned()),
        Part::StatefulSet => ("StatefulSet", pod.trim_end_matches("-0").to_owned()),
    };
    let key = (kind, name);
    if part == Part::Secret && hand == Hand::Delete {
        let id = world
            .secret(&key.1)
            .and_then(|secret| text(secret, secret_key::DEVICE_ID));
        world.lost.extend(id);
    }
    match hand {
        Hand::Delete => world.remove(&key),
        Hand::Edit => {
            let version = world.step();
            let Some(child) = world.objects.children.get_mut(&key) else {
                return;
            };
            edit(child);
            metadata_mut(child).resource_version = Some(version);
            let metadata = child.metadata().clone();
            world.touch(&metadata);
        }
    }
}

/// Changes something that matters.
fn edit(child: &mut Child) {
    match child {
        Child::HeadlessService(service) | Child::MetricsService(service) => {
            service.spec.as_mut().unwrap().selector = Some([("app".to_owned(), "another".to_owned())].into());
        }
        Child::Secret(secret) => {
            let junk = ByteString(b"{}".to_vec());
            secret
                .data
                .get_or_insert_default()
                .insert(secret_key::PROXY_CONFIG.to_owned(), junk);
        }
        Child::ServiceAccount(account) => {
            let labels = account.metadata.labels.get_or_insert_default();
            labels.insert("isthmus.dev/parent-uid".to_owned(), "another".to_owned());
        }
        Child::Role(role) => role.rules = None,
        Child::RoleBinding(binding) => binding.subjects = None,
        Child::StatefulSet(set) => set.spec.as_mut().unwrap().replicas = Some(0),
        Child::ServiceMonitor(monitor) => monitor.metadata.annotations = None,
    }
}
