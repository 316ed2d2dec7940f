//! What a proxy shows to whoever looks for a fault: only where an address for it is set, and nothing secret.
//!
//! The rules of the packet filter close its port over the tailnet, as they do with the port of health and metrics.

use std::sync::{Arc, Mutex, PoisonError};

use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue};
use isthmus_contract::proxy_config::ProxyConfig;
use isthmus_proxy_core::{Plan, RoutePlan, RulePlan};
use isthmus_runtime::admin::{Admin, Answer, text};
use isthmus_tailnet::dataplane::{Path, Traffic};
use isthmus_tailnet::{NodeSnapshot, PeerSnapshot};
use serde_json::{Value, json};

use crate::health::Health;

const INDEX: &str = "\
/debug/status  configuration, login and relays, JSON
/debug/peers   paths to peers, handshakes and traffic, JSON
/debug/rules   rules of the packet filter and of routing as this proxy wants them, text
";

/// What the main loop works by, to be shown.
#[derive(Clone, Default)]
pub(crate) struct View {
    /// The newest usable configuration.
    pub(crate) config: Option<ProxyConfig>,
    /// The plan whose rules are in place; nothing before the first.
    pub(crate) plan: Option<Plan>,
    /// What keeps the configuration from being carried.
    pub(crate) problem: Option<String>,
}

/// Where the main loop leaves what it works by.
#[derive(Default)]
pub(crate) struct DebugView(Mutex<View>);

impl DebugView {
    /// Shows this from now on.
    pub(crate) fn show(&self, view: View) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = view;
    }

    fn view(&self) -> View {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The HTTP side: `/debug/` beside what the port of health and metrics answers.
pub(crate) fn admin(health: &Arc<Health>) -> Admin {
    let (common, health) = (health.admin(Vec::new()), Arc::clone(health));
    Admin {
        handler: Box::new(move |path| answer(path, &health)),
        ..common
    }
}

fn answer(path: &str, health: &Health) -> Option<Answer> {
    let node = || health.metrics().node.snapshot();
    match path {
        "/debug" | "/debug/" => Some(text(StatusCode::OK, INDEX)),
        "/debug/status" => Some(document(&status(&node(), &health.view().view()))),
        "/debug/peers" => Some(document(&node().peers.iter().map(peer).collect())),
        "/debug/rules" => Some(text(StatusCode::OK, rules(&health.view().view()))),
        _ => None,
    }
}

fn rules(view: &View) -> String {
    let rules = |plan: &Plan| format!("{}\n{}", RulePlan::build(plan), RoutePlan::build(plan));
    view.plan.as_ref().map(rules).unwrap_or_default()
}

fn document(value: &Value) -> Answer {
    let mut answer = text(StatusCode::OK, format!("{value:#}\n"));
    let json = HeaderValue::from_static("application/json");
    answer.headers_mut().insert(CONTENT_TYPE, json);
    answer
}

fn status(node: &NodeSnapshot, view: &View) -> Value {
    let netmap = node.status.netmap.as_ref();
    let device = netmap.map(|netmap| {
        let own = &netmap.own;
        json!({"id": own.stable_id, "name": own.fqdn(), "addresses": own.addresses, "tags": own.tags})
    });
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "login": format!("{:?}", node.status.login),
        "controlConnected": node.status.connected,
        "device": device,
        "homeRelay": node.home_relay,
        "connectedRelays": node.relays,
        "warnings": netmap.map(|netmap| &netmap.health),
        "config": view.config,
        "carries": view.plan.as_ref().map(Plan::carries),
        "targets": view.plan.as_ref().map(|plan| plan.mode.targets().collect::<Vec<_>>()),
        "problem": view.problem,
    })
}

fn peer(shown: &PeerSnapshot) -> Value {
    let (peer, figures) = (&shown.peer, &shown.traffic);
    let path = figures.path.map(|path| match path {
        Path::Direct(address) => format!("direct to {address}"),
        Path::Relay(region) => format!("by relay of region {region}"),
    });
    json!({
        "name": peer.name.trim_end_matches('.'),
        "addresses": peer.addresses,
        "online": peer.online,
        "obstacle": peer.obstacle.map(|obstacle| obstacle.to_string()),
        "path": path,
        "active": figures.is_active,
        "secondsSinceHandshake": figures.last_handshake.map(|age| age.as_secs()),
        "received": traffic(figures.received),
        "sent": traffic(figures.sent),
    })
}

fn traffic(traffic: Traffic) -> Value {
    json!({"packets": traffic.packets, "bytes": traffic.bytes})
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::StatusCode;
    use isthmus_contract::proxy_config::ProxyConfig;

    use super::{View, admin};
    use crate::health::Health;

    #[test]
    fn debug_pages_tell_what_the_proxy_works_by() {
        let health = Arc::new(Health::new());
        let admin = admin(&health);
        for page in ["/debug/", "/debug/status", "/debug/peers", "/debug/rules"] {
            let status = (admin.handler)(page).map(|answer| answer.status());
            assert_eq!(status, Some(StatusCode::OK), "{page}");
        }
        assert!((admin.handler)("/metrics").is_none(), "answered as everywhere");
        health.view().show(View {
            config: Some(ProxyConfig::egress_to_name("db.example.ts.net")),
            plan: None,
            problem: Some("no such device".to_owned()),
        });
        let view = health.view().view();
        let told = super::status(&health.metrics().node.snapshot(), &view);
        assert_eq!(told["config"]["mode"]["egress"]["targetFQDN"], "db.example.ts.net");
        assert_eq!(
            (&told["problem"], &told["login"]),
            (&"no such device".into(), &"Starting".into())
        );
    }
}
