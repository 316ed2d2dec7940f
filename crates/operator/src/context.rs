//! What every reconcile shares.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use isthmus_operator_core::settings::Settings;
use k8s_openapi::api::core::v1::Service;
use kube::{Client, ResourceExt as _};

use crate::{apply::Writer, changes::Changes, error::Error, lease::Term, metrics::Metrics, watch::Stores};

/// What every reconcile shares.
pub(crate) struct Context {
    /// Kubernetes.
    pub(crate) client: Client,
    /// The tailnet's API.
    pub(crate) tailnet: isthmus_tailnet_api::Client,
    /// The caches.
    pub(crate) stores: Stores,
    /// The one that writes.
    pub(crate) writer: Writer,
    /// What is the same for all.
    pub(crate) settings: Settings,
    /// What is counted.
    pub(crate) metrics: Metrics,
    /// Name of this replica.
    pub(crate) instance: String,
    /// Until when this replica may act.
    pub(crate) term: Term,
    /// Services that wait to be looked at.
    pub(crate) changes: Changes,
    /// What is remembered about single Services.
    pub(crate) memory: Memory,
}

impl Context {
    /// Whether this replica may still act; to be asked before every write and call.
    ///
    /// # Errors
    /// [`Error::NotLeading`] when its term is over.
    pub(crate) fn check_term(&self) -> Result<(), Error> {
        self.term.is_on().then_some(()).ok_or(Error::NotLeading)
    }
}

/// What is remembered about single Services, by UID. Losing it costs time, never correctness.
#[derive(Default)]
pub(crate) struct Memory(Mutex<BTreeMap<String, Remembered>>);

#[derive(Default)]
struct Remembered {
    failures: u32,
    written: Option<Box<Service>>,
    /// Whether an object of its proxy was written since this replica leads.
    touched: bool,
    /// When its condition was written last.
    told: Option<Instant>,
}

impl Remembered {
    const fn is_blank(&self) -> bool {
        self.failures == 0 && self.written.is_none() && !self.touched && self.told.is_none()
    }
}

impl Memory {
    /// Notes how a reconcile ended and says how many have failed in a row before it.
    pub(crate) fn note(&self, uid: &str, failed: bool) -> u32 {
        let before = self.with(uid, |memory| {
            let before = memory.failures;
            memory.failures = if failed { before.saturating_add(1) } else { 0 };
            before
        });
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if memory.get(uid).is_some_and(Remembered::is_blank) {
            memory.remove(uid);
        }
        before
    }

    /// Remembers that an object of its proxy was written: from now on the caches may lag behind our own writes.
    pub(crate) fn touched(&self, uid: &str) {
        self.with(uid, |memory| memory.touched = true);
    }

    /// Whether the caches may lag behind what this replica wrote for the Service.
    pub(crate) fn may_lag(&self, uid: &str) -> bool {
        self.with(uid, |memory| memory.touched)
    }

    /// Remembers that its condition was written at `now`.
    pub(crate) fn told(&self, uid: &str, now: Instant) {
        self.with(uid, |memory| memory.told = Some(now));
    }

    /// How long its condition has stood.
    pub(crate) fn stood(&self, uid: &str, now: Instant) -> Option<Duration> {
        self.with(uid, |memory| {
            memory.told.map(|told| now.saturating_duration_since(told))
        })
    }

    /// Remembers a Service as the API server answered our write.
    pub(crate) fn wrote(&self, service: &Service) {
        let uid = service.uid().unwrap_or_default();
        self.with(&uid, |memory| memory.written = Some(Box::new(service.clone())));
    }

    /// The newer of what the cache has and what we wrote ourselves: the cache may lag behind our own writes.
    pub(crate) fn newest(&self, cached: &Service) -> Service {
        let uid = cached.uid().unwrap_or_default();
        self.with(&uid, |memory| {
            if memory
                .written
                .as_ref()
                .is_some_and(|written| version(written) <= version(cached))
            {
                memory.written = None;
            }
            memory.written.as_deref().unwrap_or(cached).clone()
        })
    }

    /// Forgets a Service that is gone.
    pub(crate) fn forget(&self, uid: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }

    fn with<T>(&self, uid: &str, use_it: impl FnOnce(&mut Remembered) -> T) -> T {
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        use_it(memory.entry(uid.to_owned()).or_default())
    }
}

/// Versions of one object compare as numbers.
fn version(service: &Service) -> u64 {
    service
        .resource_version()
        .and_then(|text| text.parse().ok())
        .unwrap_or_default()
}
