//! Who leads: one replica holds the Lease, renews it, and gives it back when it ends.
//!
//! A lease of another is over when it has not changed for its duration as watched by the own clock, so clocks of
//! different machines need not agree. A leader that cannot renew stops before its lease is over: every write asks its
//! [`Term`] first, also in a process that was stopped and wakes up late.

mod term;

use std::time::{Duration, Instant};

use isthmus_contract::field_manager;
use isthmus_kubernetes::{Object, namespaced};
use isthmus_runtime::Shutdown;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{Api, Client, api::PostParams};
use tokio::time::{sleep, timeout, timeout_at};

pub(crate) use term::Term;

/// How leading is timed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    /// How long a lease holds without being renewed; whole seconds.
    pub(crate) duration: Duration,
    /// A leader that could not renew for this long stops. What is left of `duration` is for its last requests.
    pub(crate) renew_within: Duration,
    /// How often the leader renews.
    pub(crate) renew_every: Duration,
    /// How often others look: this long after a leader gave the Lease back, the next one leads.
    pub(crate) look_every: Duration,
    /// How long one request may take.
    pub(crate) request: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(15),
            renew_within: Duration::from_secs(10),
            renew_every: Duration::from_secs(2),
            look_every: Duration::from_secs(1),
            request: Duration::from_secs(5),
        }
    }
}

/// One candidate for leading.
pub(crate) struct Candidate {
    api: Api<Object>,
    name: String,
    namespace: String,
    identity: String,
    timing: Timing,
}

/// How an attempt to take or renew the Lease came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attempt {
    /// This candidate leads.
    Leads,
    /// Somebody else does.
    Held,
    /// Somebody wrote at the same time; who it was shows at the next look.
    Raced,
}

/// The lease of somebody as it was first seen.
struct Seen {
    renewed: Option<MicroTime>,
    holder: String,
    at: Instant,
}

impl Candidate {
    /// A candidate called `identity` for the Lease `name` in `namespace`.
    pub(crate) fn new(client: &Client, namespace: &str, name: &str, identity: &str, timing: Timing) -> Self {
        Self {
            api: namespaced::<Lease>(client, namespace),
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            identity: identity.to_owned(),
            timing,
        }
    }

    /// Waits until this candidate leads, and gives back its term. `reached` is called whenever the API server has
    /// answered.
    ///
    /// # Cancel safety
    /// Dropping the future may leave the Lease held; it runs out by itself.
    pub(crate) async fn lead(&self, mut reached: impl FnMut()) -> Term {
        let mut seen = None;
        loop {
            let begun = Instant::now();
            match self.attempt(&mut seen).await {
                Ok(Attempt::Leads) => {
                    reached();
                    return Term::until(begun + self.timing.renew_within);
                }
                Ok(Attempt::Held | Attempt::Raced) => reached(),
                Err(error) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(error, lease = self.name, "cannot take part in the leader election");
                }
            }
            sleep(self.timing.look_every).await;
        }
    }

    /// Renews until the term is over without a renewal, or somebody else holds the Lease.
    pub(crate) async fn hold(&self, term: &Term) {
        // A request that hangs must not outlast the term.
        while let Ok(Some(begun)) = timeout_at(term.ends_at().into(), self.renew()).await {
            term.extend(begun + self.timing.renew_within);
        }
        term.end();
    }

    /// Renews once, trying as often as it takes, and gives back when the renewal was asked for. Nothing when somebody
    /// else leads.
    async fn renew(&self) -> Option<Instant> {
        loop {
            sleep(self.timing.renew_every).await;
            let begun = Instant::now();
            match self.attempt(&mut None).await {
                Ok(Attempt::Leads) => return Some(begun),
                Ok(Attempt::Held) => return None,
                // A request of our own that was given up may have been carried out after all.
                Ok(Attempt::Raced) => {}
                Err(error) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(error, lease = self.name, "cannot renew the lease");
                }
            }
        }
    }

    /// Gives the Lease back, so that another can lead at once.
    pub(crate) async fn release(&self) {
        let result = match self.get().await {
            Ok(Some(lease)) if holder(&lease) == self.identity => {
                let mut released = self.lease(Some(&lease));
                if let Some(spec) = &mut released.spec {
                    spec.holder_identity = None;
                    spec.lease_duration_seconds = Some(1);
                }
                self.replace(&released).await.map(drop)
            }
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(
                error,
                lease = self.name,
                "cannot give the lease back; it runs out by itself"
            );
        }
    }

    /// Takes or renews the Lease if that is allowed.
    async fn attempt(&self, seen: &mut Option<Seen>) -> Result<Attempt, LeaseError> {
        let Some(lease) = self.get().await? else {
            let (parameters, lease) = (parameters(), Object::of(&self.lease(None)));
            let request = self.api.create(&parameters, &lease);
            return won(timeout(self.timing.request, request).await);
        };
        if !may_take(&lease, &self.identity, seen, Instant::now()) {
            return Ok(Attempt::Held);
        }
        self.replace(&self.lease(Some(&lease))).await
    }

    async fn get(&self) -> Result<Option<Lease>, LeaseError> {
        let found = timeout(self.timing.request, self.api.get_opt(&self.name)).await??;
        Ok(found.map(Object::read).transpose()?)
    }

    /// Writes over the version that was read; somebody who was faster wins.
    async fn replace(&self, lease: &Lease) -> Result<Attempt, LeaseError> {
        let (parameters, lease) = (parameters(), Object::of(lease));
        let request = self.api.replace(&self.name, &parameters, &lease);
        won(timeout(self.timing.request, request).await)
    }

    fn lease(&self, existing: Option<&Lease>) -> Lease {
        let spec = existing.and_then(|lease| lease.spec.clone()).unwrap_or_default();
        let now = MicroTime(Timestamp::now());
        let stays = spec.holder_identity.as_deref() == Some(&self.identity);
        let changes = spec.lease_transitions.unwrap_or_default();
        Lease {
            metadata: existing.map_or_else(|| self.metadata(), |lease| lease.metadata.clone()),
            spec: Some(LeaseSpec {
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: Some(i32::try_from(self.timing.duration.as_secs()).unwrap_or(i32::MAX)),
                acquire_time: if stays {
                    spec.acquire_time.clone()
                } else {
                    Some(now.clone())
                },
                renew_time: Some(now),
                lease_transitions: Some(if stays || existing.is_none() {
                    changes
                } else {
                    changes.saturating_add(1)
                }),
                ..spec
            }),
        }
    }

    fn metadata(&self) -> ObjectMeta {
        ObjectMeta {
            name: Some(self.name.clone()),
            namespace: Some(self.namespace.clone()),
            ..ObjectMeta::default()
        }
    }
}

/// A request about the Lease failed.
#[derive(Debug, thiserror::Error)]
enum LeaseError {
    #[error("no answer from the API server in time")]
    Timeout(#[from] tokio::time::error::Elapsed),
    #[error("the API server refused a request about the lease")]
    Kubernetes(#[from] kube::Error),
}

fn parameters() -> PostParams {
    PostParams {
        field_manager: Some(field_manager::LEASE.to_owned()),
        ..PostParams::default()
    }
}

fn won(answer: Result<Result<Object, kube::Error>, tokio::time::error::Elapsed>) -> Result<Attempt, LeaseError> {
    match answer? {
        Ok(_) => Ok(Attempt::Leads),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(Attempt::Raced),
        Err(error) => Err(error.into()),
    }
}

fn holder(lease: &Lease) -> &str {
    lease
        .spec
        .as_ref()
        .and_then(|spec| spec.holder_identity.as_deref())
        .unwrap_or_default()
}

/// Whether `identity` may write itself into `lease`: it is its own, nobody's, or has not moved for its duration.
fn may_take(lease: &Lease, identity: &str, seen: &mut Option<Seen>, now: Instant) -> bool {
    let holder = holder(lease);
    if holder.is_empty() || holder == identity {
        return true;
    }
    let spec = lease.spec.as_ref();
    let renewed = spec.and_then(|spec| spec.renew_time.clone());
    let same = seen
        .as_ref()
        .filter(|seen| seen.renewed == renewed && seen.holder == holder);
    let Some(same) = same else {
        *seen = Some(Seen {
            renewed,
            holder: holder.to_owned(),
            at: now,
        });
        return false;
    };
    let seconds = spec.and_then(|spec| spec.lease_duration_seconds).unwrap_or_default();
    now.duration_since(same.at) >= Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
}

/// Holds the lease while `work` runs. Ends with `work`, or early when the lease is lost; then the value is `false`.
pub(crate) async fn while_leading(
    candidate: &Candidate,
    term: &Term,
    work: impl Future<Output = ()>,
    shutdown: &Shutdown,
) -> bool {
    let kept = tokio::select! {
        biased;
        () = candidate.hold(term) => false,
        () = work => true,
    };
    term.end();
    if kept || shutdown.has_begun() {
        candidate.release().await;
    }
    kept
}

#[cfg(test)]
mod tests;
