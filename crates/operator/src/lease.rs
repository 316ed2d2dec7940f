//! Who leads: one replica holds the Lease, renews it, and gives it back when it ends.
//!
//! A lease of another is over when it has not changed for its duration as watched by the own clock, so clocks of
//! different machines need not agree. A leader that cannot renew stops before its lease is over.

use std::time::{Duration, Instant};

use isthmus_contract::field_manager;
use isthmus_runtime::Shutdown;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{Api, Client, api::PostParams};
use tokio::time::{sleep, timeout};

/// How long a lease holds without being renewed.
const DURATION: Duration = Duration::from_secs(15);
/// A leader that could not renew for this long stops.
const RENEW_WITHIN: Duration = Duration::from_secs(10);
/// How often the leader renews, and others look.
const PERIOD: Duration = Duration::from_secs(2);
/// How long one request may take.
const REQUEST: Duration = Duration::from_secs(5);

/// One candidate for leading.
pub(crate) struct Candidate {
    api: Api<Lease>,
    name: String,
    namespace: String,
    identity: String,
}

/// The lease of somebody as it was first seen.
struct Seen {
    renewed: Option<MicroTime>,
    holder: String,
    at: Instant,
}

impl Candidate {
    /// A candidate called `identity` for the Lease `name` in `namespace`.
    pub(crate) fn new(client: &Client, namespace: &str, name: &str, identity: &str) -> Self {
        Self {
            api: Api::namespaced(client.clone(), namespace),
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            identity: identity.to_owned(),
        }
    }

    /// Waits until this candidate leads. `reached` is called when the API server has answered for the first time.
    ///
    /// # Cancel safety
    /// Dropping the future may leave the Lease held; it runs out by itself.
    pub(crate) async fn lead(&self, mut reached: impl FnMut()) {
        let mut seen = None;
        loop {
            match self.attempt(&mut seen).await {
                Ok(leads) => {
                    reached();
                    if leads {
                        return;
                    }
                }
                Err(error) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(error, lease = self.name, "cannot take part in the leader election");
                }
            }
            sleep(PERIOD).await;
        }
    }

    /// Renews until that fails for too long or somebody else holds the Lease.
    pub(crate) async fn hold(&self) {
        let mut renewed = Instant::now();
        while renewed.elapsed() < RENEW_WITHIN {
            sleep(PERIOD).await;
            match self.attempt(&mut None).await {
                Ok(true) => renewed = Instant::now(),
                Ok(false) => return,
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

    /// Takes or renews the Lease if that is allowed. Whether this candidate leads now.
    async fn attempt(&self, seen: &mut Option<Seen>) -> Result<bool, LeaseError> {
        let Some(lease) = self.get().await? else {
            let lease = self.lease(None);
            return won(timeout(REQUEST, self.api.create(&parameters(), &lease)).await);
        };
        if !may_take(&lease, &self.identity, seen, Instant::now()) {
            return Ok(false);
        }
        self.replace(&self.lease(Some(&lease))).await
    }

    async fn get(&self) -> Result<Option<Lease>, LeaseError> {
        Ok(timeout(REQUEST, self.api.get_opt(&self.name)).await??)
    }

    /// Writes over the version that was read; somebody who was faster wins.
    async fn replace(&self, lease: &Lease) -> Result<bool, LeaseError> {
        won(timeout(REQUEST, self.api.replace(&self.name, &parameters(), lease)).await)
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
                lease_duration_seconds: Some(i32::try_from(DURATION.as_secs()).unwrap_or(i32::MAX)),
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

fn won(answer: Result<Result<Lease, kube::Error>, tokio::time::error::Elapsed>) -> Result<bool, LeaseError> {
    match answer? {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
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
pub(crate) async fn while_leading(candidate: &Candidate, work: impl Future<Output = ()>, shutdown: &Shutdown) -> bool {
    let kept = tokio::select! {
        () = work => true,
        () = candidate.hold() => false,
    };
    if kept || shutdown.has_begun() {
        candidate.release().await;
    }
    kept
}

#[cfg(test)]
mod tests;
