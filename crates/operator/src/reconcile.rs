//! One look at one Service: gather, plan, act, and tell once at the end.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use isthmus_contract::{annotation, condition::ProxyReason, device_config::AuthKey};
use isthmus_operator_core::{
    service_proxy::{
        self, Action, AuthKeyWanted, ControlProblem, Input, MintedKey, OwnStatus, Plan, concerns, plan,
        ready_condition, tag_list,
    },
    settings::Settings,
};
use isthmus_runtime::ErrorChain;
use isthmus_tailnet_api as tailnet;
use k8s_openapi::{
    api::core::v1::{Service, ServiceStatus},
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};
use kube::{
    ResourceExt as _,
    runtime::{controller, reflector::ObjectRef},
};

use crate::{
    context::Context,
    devices,
    error::{Class, Error},
    events, gather,
};

/// How often a Service is looked at although nothing happened.
const RESYNC: Duration = Duration::from_mins(10);
/// How long a condition that says what is waited for stands at least.
const STEP: Duration = Duration::from_secs(5);
/// Times a plan is made in one look: with a key it is made anew.
const ROUNDS: usize = 3;

/// Brings everything that belongs to `cached` to where it should be.
pub(crate) async fn reconcile(cached: Arc<Service>, context: Arc<Context>) -> Result<controller::Action, Error> {
    let started = Instant::now();
    context.changes.begun(&ObjectRef::from_obj(&*cached));
    let uid = cached.uid().unwrap_or_default();
    let result = Box::pin(look(&cached, &context)).await;
    let class = result.as_ref().err().map(Error::class);
    context.metrics.reconciled(class.map(Class::label), started.elapsed());
    let failures = context.memory.note(&uid, class.is_some());
    match result {
        Ok(again) => Ok(controller::Action::requeue(again.unwrap_or(RESYNC))),
        Err(error) => {
            let pause = error.retry_after().unwrap_or_else(|| error.class().pause(failures));
            tracing::warn!(error = %ErrorChain(&error), retry_seconds = pause.as_secs_f64(), "cannot reconcile a Service");
            Ok(controller::Action::requeue(pause))
        }
    }
}

async fn look(cached: &Service, context: &Context) -> Result<Option<Duration>, Error> {
    let service = context.memory.newest(cached);
    let mut input = gather::cached(service, context);
    let mut first = Some(plan(&input, &context.settings));
    let wants = |kind: fn(&Action) -> bool| first.iter().flat_map(|plan| &plan.actions).any(kind);
    if wants(Action::is_final) {
        input = gather::live(&input.service, context).await?;
        first = None;
    } else if wants(|action| matches!(action, Action::MintAuthKey(_))) && context.memory.may_lag(input.service_uid()) {
        input = gather::with_live_secret(input, context).await?;
        first = None;
    }
    let existing = input.service.status.clone();
    let mut acted = act(&mut input, first, context).await;
    if let Err(error) = &acted
        && error.concerns_owner()
    {
        input.problem = Some(problem(error));
        if ends_anyway(&input, context) {
            acted = act(&mut input, None, context).await;
        } else {
            act(&mut input, None, context).await?;
        }
    }
    let (notes, last) = match acted {
        Err(error) if !error.concerns_owner() => return Err(error),
        Err(error) => (Err(error), None),
        Ok(acted) => (Ok(acted.notes), acted.settled),
    };
    let last = last.unwrap_or_else(|| plan(&input, &context.settings));
    let again = tell(&mut input, &last, existing.as_ref(), context).await?;
    for note in &notes? {
        events::publish(&context.client, &context.instance, &input.service, note).await;
    }
    Ok(again)
}

fn problem(error: &Error) -> ControlProblem {
    let class = error.class();
    ControlProblem {
        message: ErrorChain(error).to_string(),
        of_tailnet: matches!(class, Class::Tailnet(_)),
        refused: class == Class::Tailnet(tailnet::Class::Credentials),
    }
}

/// Whether a deletion whose problem is known by now ends all the same.
fn ends_anyway(input: &Input, context: &Context) -> bool {
    let plan = plan(input, &context.settings);
    plan.actions
        .iter()
        .any(|action| matches!(action, Action::ReleaseFinalizer))
}

/// What came of carrying out plans.
struct Acted {
    /// What people should hear.
    notes: Vec<service_proxy::Note>,
    /// The last plan, when it asked for nothing: what it says still holds.
    settled: Option<Plan>,
}

/// Carries out plans until one needs nothing of the tailnet that the next has to note. `first` is the plan for `input`,
/// if it has been made already.
async fn act(input: &mut Input, mut first: Option<Plan>, context: &Context) -> Result<Acted, Error> {
    let mut notes = Vec::new();
    for _ in 0..ROUNDS {
        let plan = first.take().unwrap_or_else(|| plan(input, &context.settings));
        notes.extend(plan.notes.clone());
        if plan.actions.is_empty() {
            let settled = Some(plan);
            return Ok(Acted { notes, settled });
        }
        let mut again = false;
        for action in &plan.actions {
            perform(action, input, context).await?;
            context.metrics.acted(action);
            again |= matches!(action, Action::MintAuthKey(_)) || (is_tagging(action) && input.tagged.is_some());
        }
        if !again {
            break;
        }
    }
    Ok(Acted { notes, settled: None })
}

async fn perform(action: &Action, input: &mut Input, context: &Context) -> Result<(), Error> {
    context.check_term()?;
    match action {
        Action::HoldFinalizer => keep(
            input,
            context,
            context.writer.set_finalizer(&input.service, true).await?,
        ),
        Action::ReleaseFinalizer => {
            let released = context.writer.set_finalizer(&input.service, false).await?;
            keep(input, context, released);
            if input.is_deleted() {
                context.memory.forget(input.service_uid());
            }
        }
        Action::PatchSpec(patch) | Action::NoteRefusal(patch) => {
            let patched = context.writer.patch_service(&input.service, patch).await?;
            keep(input, context, patched);
        }
        Action::Apply(child) => {
            tracing::info!(kind = child.kind(), name = ?child.metadata().name, "applying");
            context.memory.touched(input.service_uid());
            input.children.absorb(context.writer.apply_child(child).await?);
        }
        Action::Delete(child) => {
            tracing::info!(kind = child.kind(), name = ?child.metadata().name, "deleting");
            context.writer.delete_child(child).await?;
            input.children.lose(child);
        }
        Action::Orphan(child) => {
            tracing::info!(kind = child.kind(), name = ?child.metadata().name, "replacing");
            context.writer.orphan_child(child).await?;
        }
        Action::MintAuthKey(wanted) => {
            let minted = mint(wanted, context).await;
            input.minted = Some(minted.map_err(|error| about_tags(error, input, &wanted.tags))?);
        }
        Action::RevokeAuthKey(id) => devices::revoke_key(&context.tailnet, id).await?,
        Action::DeleteDevice(id) => devices::delete(&context.tailnet, id).await?,
        Action::DeleteDeviceOfMachine(key) => devices::delete_of_machine(&context.tailnet, key).await?,
        Action::SetDeviceTags { device, tags } => {
            tracing::info!(device, tags = tag_list(tags), "changing the tags of a device");
            match context.tailnet.set_device_tags(device, tags).await {
                Ok(()) => input.tagged = Some(tags.clone()),
                // Its proxy will ask for a new one, which gets them by its key.
                Err(error) if error.class() == tailnet::Class::NotFound => {}
                Err(error) => return Err(about_tags(error, input, tags)),
            }
        }
    }
    Ok(())
}

const fn is_tagging(action: &Action) -> bool {
    matches!(action, Action::SetDeviceTags { .. })
}

/// A request with tags in it that the tailnet finds wrong, told to the one who wrote the tags.
fn about_tags(error: tailnet::Error, input: &Input, tags: &[String]) -> Error {
    let mentions_tags = matches!(&error, tailnet::Error::Forbidden { message, .. } if message.contains("tag"));
    // Control servers differ in how they say that a tag is not theirs to give.
    let is_about_tags = error.class() == tailnet::Class::Refused || mentions_tags;
    if !is_about_tags {
        return error.into();
    }
    let setting = match input.annotation(annotation::TAGS) {
        Some(_) => format!("annotation {}", annotation::TAGS),
        None => "the operator's PROXY_TAGS".to_owned(),
    };
    Error::Tags {
        setting,
        tags: tag_list(tags),
        cause: Box::new(error),
    }
}

fn keep(input: &mut Input, context: &Context, written: Service) {
    context.memory.wrote(&written);
    input.service = written;
}

async fn mint(wanted: &AuthKeyWanted, context: &Context) -> Result<MintedKey, tailnet::Error> {
    let request = tailnet::AuthKeyRequest {
        tags: wanted.tags.clone(),
        expiry: wanted.life,
        description: wanted.description.clone(),
    };
    let now = Timestamp::now();
    let key = context.tailnet.create_auth_key(&request).await?;
    tracing::info!(key_id = key.id, description = wanted.description, "made an auth key");
    let life = wanted.life.as_secs().cast_signed();
    let expires = Timestamp::from_second(now.as_second().saturating_add(life)).unwrap_or(now);
    Ok(MintedKey {
        id: key.id,
        key: AuthKey::new(key.key.expose()),
        tags: tag_list(&wanted.tags),
        expires: Time(expires),
    })
}

/// Writes the status and publishes news, if there are any. The one place that writes a status.
async fn tell(
    input: &mut Input,
    plan: &Plan,
    existing: Option<&ServiceStatus>,
    context: &Context,
) -> Result<Option<Duration>, Error> {
    let status = plan.status(existing, input.service.metadata.generation, &input.now);
    // A Service whose last finalizer went has no status to clear.
    let is_gone = plan.verdict.is_none() && input.is_deleted();
    let step = status
        .as_ref()
        .and_then(|new| rest_of_a_step(new, existing, input, context));
    if let Some(rest) = step {
        return Ok(Some(plan.again_after.map_or(rest, |again| again.min(rest))));
    }
    if let Some(status) = status.filter(|_| !is_gone) {
        context.check_term()?;
        if let Some(written) = context.writer.apply_status(&input.service, &status).await? {
            keep(input, context, written);
        }
        context.memory.told(input.service_uid(), Instant::now());
        context.metrics.wrote_condition();
    }
    for note in news(plan, ready_condition(existing)) {
        events::publish(&context.client, &context.instance, &input.service, &note).await;
    }
    Ok(plan.again_after)
}

/// How much longer the condition stays as it is, when the new one only names the next thing that is waited for: a proxy
/// that comes up takes several steps in a second or two.
fn rest_of_a_step(
    new: &OwnStatus,
    existing: Option<&ServiceStatus>,
    input: &Input,
    context: &Context,
) -> Option<Duration> {
    let pending = |condition: Option<&Condition>| {
        condition.is_some_and(|condition| condition.reason == ProxyReason::Pending.as_str())
    };
    let step = pending(new.condition.as_ref()) && pending(ready_condition(existing));
    let stood = context.memory.stood(input.service_uid(), Instant::now())?;
    STEP.checked_sub(stood).filter(|rest| step && !rest.is_zero())
}

/// What the verdict has to say; notes of the plan were collected while acting.
fn news(plan: &Plan, existing: Option<&Condition>) -> Vec<service_proxy::Note> {
    let verdict_only = Plan {
        notes: Vec::new(),
        ..plan.clone()
    };
    verdict_only.news(existing)
}

/// Whether a Service may need anything at all: most Services of a cluster do not.
pub(crate) fn is_of_interest(service: &Service, settings: &Settings) -> bool {
    concerns(service, settings)
        || service
            .finalizers()
            .iter()
            .any(|name| name == isthmus_contract::finalizer::DEVICE)
        || ready_condition(service.status.as_ref()).is_some()
}

#[cfg(test)]
pub(crate) mod tests;
