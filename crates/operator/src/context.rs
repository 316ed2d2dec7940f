//! What every reconcile shares.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use isthmus_operator_core::settings::Settings;
use k8s_openapi::api::core::v1::Service;
use kube::{Client, ResourceExt as _};

use crate::{apply::Writer, error::Error, lease::Term, metrics::Metrics, watch::Stores};

/// Credentials refused for this long let a deletion end without the tailnet.
const HOPELESS_AFTER: Duration = Duration::from_mins(15);

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
    refused_since: Option<Instant>,
    written: Option<Service>,
}

impl Remembered {
    const fn is_blank(&self) -> bool {
        self.failures == 0 && self.refused_since.is_none() && self.written.is_none()
    }
}

impl Memory {
    /// Notes how a reconcile ended and says how many have failed in a row before it.
    pub(crate) fn note(&self, uid: &str, failed: bool, refused: bool, now: Instant) -> u32 {
        let before = self.with(uid, |memory| {
            memory.refused_since = if refused {
                memory.refused_since.or(Some(now))
            } else {
                None
            };
            let before = memory.failures;
            memory.failures = if failed { before.saturating_add(1) } else { 0 };
            before
        });
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|_, memory| !memory.is_blank());
        before
    }

    /// Whether credentials have been refused for so long that waiting makes no sense.
    pub(crate) fn is_hopeless(&self, uid: &str, now: Instant) -> bool {
        self.with(uid, |memory| {
            memory
                .refused_since
                .is_some_and(|since| now.duration_since(since) >= HOPELESS_AFTER)
        })
    }

    /// Remembers a Service as the API server answered our write.
    pub(crate) fn wrote(&self, service: &Service) {
        let uid = service.uid().unwrap_or_default();
        self.with(&uid, |memory| memory.written = Some(service.clone()));
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
            memory.written.clone().unwrap_or_else(|| cached.clone())
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
