//! Figures of a proxy. Those of its node have the names that dashboards of tailnet clients know.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use isthmus_tailnet::dataplane::{ByPath, DropCause, Drops, Traffic};
use isthmus_tailnet::{NodeMeter, NodeSnapshot};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::Registry;

use crate::relay::RelayMetrics;

/// Figures of a proxy.
#[derive(Clone, Default)]
pub(crate) struct Metrics {
    /// Plans put in place, also the same one again.
    pub(crate) plans_applied: Counter,
    /// Plans that could not be put in place.
    pub(crate) plans_failed: Counter,
    /// Configurations taken over that differ from the one before.
    pub(crate) configs: Counter,
    /// 1 while what the newest configuration wants is carried.
    pub(crate) config_in_place: Gauge,
    /// Addresses that new connections are led to.
    pub(crate) targets: Gauge,
    /// 1 while the tailnet's device is up.
    pub(crate) device_up: Gauge,
    /// What stands against carrying, and warnings of control.
    pub(crate) warnings: Gauge,
    /// What the node does.
    pub(crate) node: NodeMetrics,
    /// What the relay says.
    pub(crate) relay: RelayMetrics,
}

/// The node's figures, read when they are asked for; all 0 until there is a node.
#[derive(Clone, Default)]
pub(crate) struct NodeMetrics(Arc<OnceLock<NodeMeter>>);

impl Metrics {
    /// All figures under their names.
    pub(crate) fn registry(&self) -> Registry {
        let mut all = Registry::default();
        let warning = ("type".into(), "warning".into());
        all.sub_registry_with_label(warning).register(
            "tailscaled_health_messages",
            "What stands against carrying, and warnings of control",
            self.warnings.clone(),
        );
        all.register_collector(Box::new(self.node.clone()));
        let own = all.sub_registry_with_prefix("isthmus_proxy");
        for (name, help, counter) in [
            ("plans_applied", "Plans put in place", &self.plans_applied),
            (
                "plans_failed",
                "Plans that could not be put in place",
                &self.plans_failed,
            ),
            (
                "configs",
                "Configurations taken over that differ from the one before",
                &self.configs,
            ),
        ] {
            own.register(name, help, counter.clone());
        }
        for (name, help, gauge) in [
            (
                "config_in_place",
                "Whether what the newest configuration wants is carried",
                &self.config_in_place,
            ),
            ("targets", "Addresses that new connections are led to", &self.targets),
            ("device_up", "Whether the tailnet's device is up", &self.device_up),
        ] {
            own.register(name, help, gauge.clone());
        }
        self.relay.register(own);
        all
    }
}

impl NodeMetrics {
    /// From now on the figures are those of this node.
    pub(crate) fn follow(&self, meter: NodeMeter) {
        // A proxy has one node for its whole life.
        let _ = self.0.set(meter);
    }

    /// What the node does now.
    pub(crate) fn snapshot(&self) -> NodeSnapshot {
        self.0.get().map(NodeMeter::snapshot).unwrap_or_default()
    }
}

impl fmt::Debug for NodeMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeMetrics").finish_non_exhaustive()
    }
}

impl Collector for NodeMetrics {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let (node, mut figures) = (self.snapshot(), Figures(encoder));
        figures.traffic(["inbound", "received from"], &node.counts.inbound)?;
        figures.traffic(["outbound", "sent to"], &node.counts.outbound)?;
        figures.drops(["inbound", "from"], &node.counts.inbound_dropped)?;
        figures.drops(["outbound", "to"], &node.counts.outbound_dropped)?;
        let (started, completed, refused) = (
            node.counts.handshakes_started,
            node.counts.handshakes_completed,
            node.counts.handshakes_refused,
        );
        figures.counters(
            "isthmus_proxy_handshakes",
            "Handshakes with peers",
            "state",
            [("started", started), ("completed", completed), ("refused", refused)],
        )?;
        for (name, help, value) in gauges(&node) {
            figures.gauge(name, help, value)?;
        }
        Ok(())
    }
}

fn gauges(node: &NodeSnapshot) -> [(&'static str, &'static str, i64); 6] {
    let last = node.last_handshake().and_then(|age| SystemTime::now().checked_sub(age));
    let last = last.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
    let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    [
        (
            "tailscaled_home_derp_region_id",
            "Region of the relay at which peers reach the node; 0 for none",
            node.home_relay.map_or(0, i64::from),
        ),
        (
            "isthmus_proxy_control_connected",
            "Whether control is connected",
            node.status.connected.into(),
        ),
        (
            "isthmus_proxy_home_relay_connected",
            "Whether peers can reach the node by relay",
            node.is_home_relay_connected().into(),
        ),
        (
            "isthmus_proxy_peers",
            "Peers in the network map",
            count(node.peers.len()),
        ),
        (
            "isthmus_proxy_peers_active",
            "Peers that traffic flows with, or did not long ago",
            count(node.active_peers()),
        ),
        (
            "isthmus_proxy_last_handshake_timestamp_seconds",
            "Time of the last handshake with any peer; 0 for never",
            last.map_or(0, |last| i64::try_from(last.as_secs()).unwrap_or(i64::MAX)),
        ),
    ]
}

/// Writes figures one by one.
struct Figures<'a>(DescriptorEncoder<'a>);

impl Figures<'_> {
    fn traffic(&mut self, [direction, words]: [&str; 2], by_path: &ByPath) -> fmt::Result {
        let ways = [
            ("direct_ipv4", by_path.direct_ipv4),
            ("direct_ipv6", by_path.direct_ipv6),
            ("derp", by_path.relay),
        ];
        let packets = |traffic: Traffic| traffic.packets;
        let bytes = |traffic: Traffic| traffic.bytes;
        for (what, of) in [("packets", packets as fn(Traffic) -> u64), ("bytes", bytes)] {
            let values = ways.map(|(path, traffic)| (path, of(traffic)));
            let name = format!("tailscaled_{direction}_{what}");
            self.counters(&name, &format!("Number of {what} {words} peers"), "path", values)?;
        }
        Ok(())
    }

    fn drops(&mut self, [direction, words]: [&str; 2], drops: &Drops) -> fmt::Result {
        let name = format!("tailscaled_{direction}_dropped_packets");
        let help = format!("Number of packets {words} peers that were dropped");
        let values = DropCause::ALL.map(|cause| (reason(cause), drops.of(cause)));
        self.counters(&name, &help, "reason", values)
    }

    fn counters<'v>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (&'v str, u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (value, count) in values {
            ConstCounter::new(count).encode(family.encode_family(&[(label, value)])?)?;
        }
        Ok(())
    }

    fn gauge(&mut self, name: &str, help: &str, value: i64) -> fmt::Result {
        let figure = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        ConstGauge::new(value).encode(figure)
    }
}

/// The cause as a label; `acl`, `queue_full` and `error` are the words of tailnet clients.
fn reason(cause: DropCause) -> &'static str {
    match cause {
        DropCause::Policy => "acl",
        DropCause::Address => "address",
        DropCause::Malformed => "malformed",
        DropCause::NoPeer => "no_peer",
        DropCause::NoSession => "no_session",
        DropCause::QueueFull => "queue_full",
        DropCause::Refused => "error",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prometheus_client::encoding::text::encode;

    use super::Metrics;

    const DOCUMENTED: &str = include_str!("../../../docs/metrics.md");

    fn served() -> String {
        let mut text = String::new();
        encode(&mut text, &Metrics::default().registry()).unwrap();
        text
    }

    #[test]
    fn documented_metrics_are_those_that_there_are() {
        let text = served();
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let served: BTreeSet<&str> = samples.filter_map(|line| line.split([' ', '{']).next()).collect();
        let of_proxies = |word: &&str| word.starts_with("isthmus_proxy_") || word.starts_with("tailscaled_");
        let words = DOCUMENTED.split('`').filter(of_proxies);
        assert_eq!(served, words.collect());
    }

    #[test]
    fn values_of_labels_are_documented() {
        for line in served().lines().filter(|line| !line.starts_with('#')) {
            let Some((_, value)) = line.split_once("=\"") else {
                continue;
            };
            let (value, _) = value.split_once('"').unwrap();
            assert!(DOCUMENTED.contains(&format!("`{value}`")), "{line}");
        }
    }

    #[test]
    fn traffic_has_the_names_that_dashboards_know() {
        let text = served();
        for sample in [
            "tailscaled_inbound_bytes_total{path=\"direct_ipv4\"} 0",
            "tailscaled_inbound_packets_total{path=\"direct_ipv6\"} 0",
            "tailscaled_outbound_bytes_total{path=\"derp\"} 0",
            "tailscaled_inbound_dropped_packets_total{reason=\"acl\"} 0",
            "tailscaled_outbound_dropped_packets_total{reason=\"error\"} 0",
            "tailscaled_health_messages{type=\"warning\"} 0",
            "tailscaled_home_derp_region_id 0",
        ] {
            assert!(text.lines().any(|line| line == sample), "{sample} in {text}");
        }
    }
}
