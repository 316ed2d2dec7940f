//! The operator around the plan: gather, plan, act, tell, as the real one does it, against the world in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use isthmus_contract::{
    device_config::AuthKey,
    label,
    name::{metrics_name, secret_name},
};
use isthmus_operator_core::{
    proxy_class::{self, Choice, ProxyClassStatus},
    service_proxy::{
        Action, AuthKeyWanted, Child, Children, ControlProblem, Input, MintedKey, Plan, belongs, cleanup, concerns,
        is_for_metrics, key_description_prefix, plan, ready_condition, tag_list, usual_name,
    },
    settings::Settings,
};
use k8s_openapi::{
    api::core::v1::Service,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
    jiff::Timestamp,
};

use crate::{
    proxies,
    tailnet::Class,
    world::{Objects, World, held_key},
};

/// Times a plan is made in one look.
const ROUNDS: usize = 3;
/// Seconds after which a Service is looked at although nothing happened.
const RESYNC: i64 = 600;

/// Why a look ended early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fail {
    /// The object is another by now.
    Conflict,
    /// The API server is away.
    ApiServer,
    /// It refuses.
    Refused(String),
    /// The tailnet does not do its part.
    Tailnet(Class),
    /// The operator is dead.
    Dead,
}

impl Fail {
    fn problem(&self) -> Option<ControlProblem> {
        let (message, of_tailnet, refused) = match self {
            Self::Conflict | Self::ApiServer | Self::Dead => return None,
            Self::Refused(message) => (message.clone(), false, false),
            Self::Tailnet(class) => (format!("the tailnet: {class:?}"), true, *class == Class::Credentials),
        };
        Some(ControlProblem {
            message,
            of_tailnet,
            refused,
        })
    }
}

impl From<Class> for Fail {
    fn from(class: Class) -> Self {
        Self::Tailnet(class)
    }
}

/// One operator, with what it remembers.
pub(crate) struct Operator {
    settings: Settings,
    /// What its caches hold while they stand still.
    pub(crate) caches: Option<Box<Objects>>,
    /// Actions until it dies.
    pub(crate) dies_after: Option<u8>,
    touched: BTreeSet<String>,
    written: BTreeMap<String, Service>,
    /// When Services are looked at although nothing happened.
    due: BTreeMap<String, i64>,
    swept: bool,
    /// Plans made so far.
    pub(crate) plans: u64,
}

impl Operator {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            settings,
            caches: None,
            dies_after: None,
            touched: BTreeSet::new(),
            written: BTreeMap::new(),
            due: BTreeMap::new(),
            swept: false,
            plans: 0,
        }
    }

    /// The same operator after a restart: it remembers nothing, and looks at everything.
    pub(crate) fn restart(&mut self, world: &mut World) {
        let plans = self.plans;
        *self = Self::new(self.settings.clone());
        self.plans = plans;
        world.dirty.extend(world.objects.services.keys().cloned());
    }

    /// Looks at everything that changed or is due, and says whether it looked at anything.
    pub(crate) fn work(&mut self, world: &mut World) -> bool {
        judge_class(world);
        if !self.swept {
            self.swept = self.revoke_unheld_keys(world).is_ok();
        }
        remove_orphans(world);
        let now = world.now;
        let due = self
            .due
            .iter()
            .filter(|(_, at)| **at <= now)
            .map(|(name, _)| name.clone());
        let mut names: BTreeSet<String> = due.collect();
        names.append(&mut world.dirty);
        for name in &names {
            self.look_at(world, name);
        }
        !names.is_empty()
    }

    /// Looks at one Service.
    pub(crate) fn look_at(&mut self, world: &mut World, name: &str) {
        self.due.remove(name);
        let cached = self.caches.as_ref().map_or(&world.objects, |caches| caches);
        let Some(service) = cached.services.get(name).cloned() else {
            return;
        };
        if !self.is_of_interest(&service) {
            return;
        }
        let pause = match self.look(world, service) {
            Ok(again) => again.map_or(RESYNC, |again| again.as_secs().cast_signed().max(1)),
            Err(Fail::Dead) => {
                self.restart(world);
                return;
            }
            Err(_) => 1,
        };
        self.due.insert(name.to_owned(), world.now + pause);
    }

    fn is_of_interest(&self, service: &Service) -> bool {
        concerns(service, &self.settings)
            || service.metadata.finalizers.iter().flatten().next().is_some()
            || ready_condition(service.status.as_ref()).is_some()
    }

    fn plan(&mut self, input: &Input) -> Plan {
        self.plans += 1;
        plan(input, &self.settings)
    }

    fn look(&mut self, world: &mut World, cached: Service) -> Result<Option<Duration>, Fail> {
        let service = self.newest(cached);
        let cached = self.caches.as_ref().map_or(&world.objects, |caches| caches);
        let mut input = self.gather(cached, service, world.now);
        let mut first = Some(self.plan(&input));
        let actions = first.iter().flat_map(|plan| &plan.actions);
        let (mut is_final, mut mints) = (false, false);
        for action in actions {
            is_final |= action.is_final();
            mints |= matches!(action, Action::MintAuthKey(_));
        }
        let uid = input.service_uid().to_owned();
        if is_final {
            let live = live_children(&world.objects, |labels| belongs(labels, &input.service.metadata));
            let (metrics_service, service_monitor) = (input.children.metrics_service, input.children.service_monitor);
            input.children = Children {
                metrics_service,
                service_monitor,
                ..live
            };
            first = None;
        } else if mints && self.touched.contains(&uid) {
            let live = live_children(&world.objects, |labels| belongs(labels, &input.service.metadata));
            input.children.secret = live.secret;
            first = None;
        }
        let existing = input.service.status.clone();
        let mut acted = self.act(world, &mut input, first);
        if let Err(fail) = &acted
            && let Some(problem) = fail.problem()
        {
            input.problem = Some(problem);
            let releases = |action: &Action| matches!(action, Action::ReleaseFinalizer);
            let next = self.plan(&input);
            if next.actions.iter().any(releases) {
                acted = self.act(world, &mut input, Some(next));
            } else {
                self.act(world, &mut input, Some(next))?;
            }
        }
        if let Err(fail) = &acted
            && fail.problem().is_none()
        {
            return Err(fail.clone());
        }
        // The same input has the same plan.
        let nothing_done = acted.as_mut().ok().and_then(Option::take);
        let plan = nothing_done.unwrap_or_else(|| self.plan(&input));
        let status = plan.status(existing.as_ref(), input.service.metadata.generation, &input.now);
        let is_gone = plan.verdict.is_none() && input.is_deleted();
        if let Some(status) = status.filter(|_| !is_gone)
            && let Some(written) = world.apply_status(&input.service, &status)?
        {
            self.keep(&mut input, written);
        }
        acted?;
        Ok(plan.again_after)
    }

    /// Carries out plans. Gives back the last one when there was nothing to do.
    fn act(&mut self, world: &mut World, input: &mut Input, mut first: Option<Plan>) -> Result<Option<Plan>, Fail> {
        for _ in 0..ROUNDS {
            let plan = first.take().unwrap_or_else(|| self.plan(input));
            if plan.actions.is_empty() {
                return Ok(Some(plan));
            }
            let mut again = false;
            for action in &plan.actions {
                self.perform(world, action, input)?;
                let tagged = matches!(action, Action::SetDeviceTags { .. }) && input.tagged.is_some();
                again |= matches!(action, Action::MintAuthKey(_)) || tagged;
            }
            if !again {
                break;
            }
        }
        Ok(None)
    }

    fn perform(&mut self, world: &mut World, action: &Action, input: &mut Input) -> Result<(), Fail> {
        match &mut self.dies_after {
            Some(0) => return Err(Fail::Dead),
            Some(left) => *left -= 1,
            None => {}
        }
        match action {
            Action::HoldFinalizer => {
                let held = world.set_finalizer(&input.service, true)?;
                self.keep(input, held);
            }
            Action::ReleaseFinalizer => {
                let released = world.set_finalizer(&input.service, false)?;
                self.keep(input, released);
                if input.is_deleted() {
                    self.written.remove(input.service_uid());
                }
            }
            Action::PatchSpec(patch) | Action::NoteRefusal(patch) => {
                let patched = world.patch_service(&input.service, patch)?;
                self.keep(input, patched);
            }
            Action::Apply(child) => {
                self.touched.insert(input.service_uid().to_owned());
                input.children.absorb(world.apply(child)?);
            }
            Action::Delete(child) => {
                world.delete(child)?;
                input.children.lose(child);
            }
            Action::Orphan(child) => {
                proxies::orphan(world, child.metadata().uid.as_ref());
                world.delete(child)?;
            }
            Action::MintAuthKey(wanted) => input.minted = Some(mint(world, wanted)?),
            Action::RevokeAuthKey(id) => gone_is_fine(world.tailnet.delete_key(id))?,
            Action::DeleteDevice(id) => gone_is_fine(world.tailnet.delete_device(id))?,
            Action::DeleteDeviceOfMachine(key) => delete_of_machine(world, key)?,
            Action::SetDeviceTags { device, tags } => match world.tailnet.set_tags(device, tags) {
                Ok(()) => input.tagged = Some(tags.clone()),
                Err(Class::NotFound) => {}
                Err(class) => return Err(class.into()),
            },
        }
        Ok(())
    }

    fn keep(&mut self, input: &mut Input, written: Service) {
        self.written
            .insert(written.metadata.uid.clone().unwrap(), written.clone());
        input.service = written;
    }

    /// The newer of what the cache has and what was written.
    fn newest(&mut self, cached: Service) -> Service {
        let version = |service: &Service| -> u64 {
            service
                .metadata
                .resource_version
                .as_ref()
                .map_or(0, |version| version.parse().unwrap())
        };
        match self.written.get(cached.metadata.uid.as_ref().unwrap()) {
            Some(written) if version(written) > version(&cached) => written.clone(),
            Some(_) | None => cached,
        }
    }

    fn gather(&self, objects: &Objects, service: Service, now: i64) -> Input {
        let usual = usual_name(&service);
        let metadata = service.metadata.clone();
        let mut children = live_children(objects, |labels| belongs(labels, &metadata));
        let of_metrics = metrics_name(&usual);
        for child in objects
            .children
            .values()
            .filter(|child| is_for_metrics(child.metadata(), &metadata))
        {
            if child.metadata().name.as_ref() == Some(&of_metrics) {
                children.absorb(child.clone());
            }
        }
        // Under its usual name first.
        for name in [usual.clone(), secret_name(&usual, 0)] {
            for kind in [
                "Service",
                "Secret",
                "ServiceAccount",
                "Role",
                "RoleBinding",
                "StatefulSet",
            ] {
                let found = objects.children.get(&(kind, name.clone()));
                if let Some(child) = found.filter(|child| belongs(child.metadata(), &metadata)) {
                    children.absorb(child.clone());
                }
            }
        }
        let others = objects.children.values().filter(|child| {
            matches!(
                child,
                Child::HeadlessService(_) | Child::MetricsService(_) | Child::StatefulSet(_)
            ) && !belongs(child.metadata(), &metadata)
        });
        let taken_names = if children.existing_name().is_some() {
            BTreeSet::new()
        } else {
            others.filter_map(|child| child.metadata().name.clone()).collect()
        };
        Input {
            class: Choice::of(&service, &self.settings, |_| objects.class.clone().map(Box::new)),
            service,
            children,
            taken_names,
            minted: None,
            tagged: None,
            problem: None,
            now: Time(Timestamp::from_second(now).unwrap()),
        }
    }

    fn revoke_unheld_keys(&self, world: &mut World) -> Result<(), Class> {
        let prefix = key_description_prefix(&self.settings.cluster_id);
        let keys = world.tailnet.list_keys()?;
        let held: BTreeSet<String> = world
            .objects
            .children
            .values()
            .filter_map(|child| match child {
                Child::Secret(secret) => held_key(secret).cloned(),
                _ => None,
            })
            .collect();
        for (id, _) in keys
            .iter()
            .filter(|(id, key)| key.description.starts_with(&prefix) && !held.contains(*id))
        {
            world.tailnet.delete_key(id)?;
        }
        Ok(())
    }
}

/// Removes what belongs to no Service.
fn remove_orphans(world: &mut World) {
    let services: BTreeSet<_> = world
        .objects
        .services
        .values()
        .map(|service| service.metadata.uid.clone())
        .collect();
    let parent = |metadata: &ObjectMeta| {
        let labels = metadata.labels.as_ref()?;
        labels
            .contains_key(label::PARENT_RESOURCE_TYPE)
            .then(|| labels.get(label::PARENT_UID).cloned())?
    };
    let parents = world
        .objects
        .children
        .values()
        .filter_map(|child| parent(child.metadata()));
    let orphans: BTreeSet<String> = parents.filter(|uid| !services.contains(&Some(uid.clone()))).collect();
    for uid in orphans {
        let children = live_children(&world.objects, |metadata| parent(metadata).as_ref() == Some(&uid));
        for action in cleanup::remove(&children, false).actions {
            let done = match &action {
                Action::Delete(child) => world.delete(child),
                Action::DeleteDevice(id) => gone_is_fine(world.tailnet.delete_device(id)),
                Action::DeleteDeviceOfMachine(key) => delete_of_machine(world, key),
                Action::RevokeAuthKey(id) => gone_is_fine(world.tailnet.delete_key(id)),
                other => panic!("the removal of objects without a Service wants {other:?}"),
            };
            if done.is_err() {
                break;
            }
        }
    }
}

/// Judges the class, as the other controller does.
fn judge_class(world: &mut World) {
    let now = world.time();
    let Some(class) = &mut world.objects.class else { return };
    if let Some(condition) = proxy_class::plan(class, true, &now).condition {
        class.status = Some(ProxyClassStatus {
            conditions: Some(vec![condition]),
        });
        world.dirty.extend(world.objects.services.keys().cloned());
    }
}

fn mint(world: &mut World, wanted: &AuthKeyWanted) -> Result<MintedKey, Fail> {
    let id = world.tailnet.make_key(&wanted.tags, &wanted.description, world.now)?;
    let ends = world.now + wanted.life.as_secs().cast_signed();
    Ok(MintedKey {
        key: AuthKey::new(id.clone()),
        id,
        tags: tag_list(&wanted.tags),
        expires: Time(Timestamp::from_second(ends).unwrap()),
    })
}

fn gone_is_fine(result: Result<(), Class>) -> Result<(), Fail> {
    match result {
        Err(Class::NotFound) | Ok(()) => Ok(()),
        Err(class) => Err(class.into()),
    }
}

fn delete_of_machine(world: &mut World, key: &str) -> Result<(), Fail> {
    for id in world.tailnet.devices_of_machine(key)? {
        gone_is_fine(world.tailnet.delete_device(&id))?;
    }
    Ok(())
}

/// The objects whose labels are `mine`, the first of each kind.
fn live_children(objects: &Objects, mine: impl Fn(&ObjectMeta) -> bool) -> Children {
    let mut children = Children::default();
    // The last one wins, and the first is wanted.
    for child in objects.children.values().rev().filter(|child| mine(child.metadata())) {
        children.absorb(child.clone());
    }
    children.pod = objects.pods.values().find(|pod| mine(&pod.metadata)).cloned();
    children
}
