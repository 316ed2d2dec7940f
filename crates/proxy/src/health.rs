//! Health and metrics of a proxy.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use http::StatusCode;
use http::header::{HeaderName, HeaderValue};
use isthmus_runtime::admin::{Admin, Answer, text};
use isthmus_runtime::{Readiness, ReadinessGuard};

use crate::debug::DebugView;
use crate::metrics::Metrics;

const POD_IPV4: HeaderName = HeaderName::from_static("pod-ipv4");
const POD_IPV6: HeaderName = HeaderName::from_static("pod-ipv6");

/// What a proxy waits for before it is ready. Once ready it stays so, whatever happens to control, relays or the API
/// server; only the end of the process takes it back.
pub(crate) struct Health {
    readiness: Readiness,
    pending: Mutex<Pending>,
    metrics: Metrics,
    view: DebugView,
}

#[derive(Default)]
struct Pending {
    login: Option<ReadinessGuard>,
    rules: Option<ReadinessGuard>,
    end: Option<ReadinessGuard>,
}

impl Health {
    pub(crate) fn new() -> Self {
        let readiness = Readiness::new();
        let pending = Pending {
            login: Some(readiness.wait_for("login to the tailnet")),
            rules: Some(readiness.wait_for("rules of the configuration")),
            end: None,
        };
        Self {
            readiness,
            pending: Mutex::new(pending),
            metrics: Metrics::default(),
            view: DebugView::default(),
        }
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// What is shown to whoever looks for a fault.
    pub(crate) fn view(&self) -> &DebugView {
        &self.view
    }

    /// The node is logged in and holds a network map.
    pub(crate) fn logged_in(&self) {
        self.lock().login = None;
    }

    /// The rules of a configuration are in place.
    pub(crate) fn rules_are_in_place(&self) {
        self.lock().rules = None;
    }

    /// The process is about to end: nothing new shall come.
    pub(crate) fn ending(&self) {
        self.lock().end = Some(self.readiness.wait_for("the end of this process"));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The HTTP side: `/healthz` beside what every process of ours answers.
    pub(crate) fn admin(self: &Arc<Self>, pod: Vec<IpAddr>) -> Admin {
        let readiness = self.readiness.clone();
        Admin {
            readiness: readiness.clone(),
            metrics: self.metrics.registry(),
            handler: Box::new(move |path| (path == "/healthz").then(|| healthz(&readiness, &pod))),
        }
    }
}

fn healthz(readiness: &Readiness, pod: &[IpAddr]) -> Answer {
    let pending = readiness.pending();
    if !pending.is_empty() {
        return text(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("waiting for: {}\n", pending.join(", ")),
        );
    }
    let mut answer = text(StatusCode::OK, "ok");
    for address in pod {
        let name = if address.is_ipv4() { POD_IPV4 } else { POD_IPV6 };
        if let Ok(value) = HeaderValue::try_from(address.to_string()) {
            answer.headers_mut().insert(name, value);
        }
    }
    answer
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::Health;

    #[test]
    fn proxy_is_healthy_once_logged_in_with_rules_and_until_its_end() {
        let health = Arc::new(Health::new());
        let admin = health.admin(vec!["10.244.1.5".parse().unwrap(), "fd00::5".parse().unwrap()]);
        let ask = || (admin.handler)("/healthz").unwrap();
        assert_eq!(ask().status(), 503);
        health.logged_in();
        assert_eq!(ask().status(), 503);
        health.rules_are_in_place();
        let answer = ask();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["Pod-IPv4"], "10.244.1.5");
        assert_eq!(answer.headers()["Pod-IPv6"], "fd00::5");
        health.ending();
        assert_eq!(ask().status(), 503);
        assert!((admin.handler)("/other").is_none());
    }
}
