//! Interfaces, addresses and routes of the cluster, through `ip`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::process::{run, run_soon};
use crate::spec::ClusterSpec;

/// The name of the bridge between the nodes.
pub(crate) fn bridge(name: &str) -> String {
    format!("{name}-br")
}

/// The name of a node's network namespace and of its interface on the host.
pub(crate) fn node_link(name: &str, node: u8) -> String {
    format!("{name}-n{node}")
}

/// The file that a named network namespace is entered by.
pub(crate) fn namespace_file(namespace: &str) -> PathBuf {
    Path::new("/run/netns").join(namespace)
}

/// Makes the bridge and the host's side of the node network.
pub(crate) fn create_bridge(spec: &ClusterSpec) -> Result<()> {
    let (bridge, net) = (bridge(&spec.name()), spec.addressing());
    ip(&["link", "add", &bridge, "type", "bridge"])?;
    ip(&["addr", "add", &format!("{}/24", net.host()), "dev", &bridge])?;
    if spec.ipv6 {
        ip(&["addr", "add", &format!("{}/64", net.host6()), "dev", &bridge, "nodad"])?;
    }
    ip(&["link", "set", &bridge, "up"])?;
    run(Command::new("sysctl").args(["-qw", "net.ipv4.ip_forward=1"]))?;
    Ok(())
}

/// Makes a node's namespace, its link to the bridge, its addresses and its routes.
pub(crate) fn create_node(spec: &ClusterSpec, node: u8) -> Result<()> {
    let link = node_link(&spec.name(), node);
    ip(&["netns", "add", &link])?;
    ip(&[
        "link", "add", &link, "type", "veth", "peer", "name", "eth0", "netns", &link,
    ])?;
    ip(&["link", "set", &link, "master", &bridge(&spec.name()), "up"])?;
    configure_ipv4(spec, node, &link)?;
    if spec.ipv6 {
        configure_ipv6(spec, node, &link)?;
    }
    masquerade_pods(spec, node, &link)
}

/// Tells the host the way to a node's Pods, and by node 1 to the Services.
pub(crate) fn route_from_host(spec: &ClusterSpec, node: u8) -> Result<()> {
    let net = spec.addressing();
    let mut routes = vec![(net.node_pods(node), net.node(node).to_string())];
    if spec.ipv6 {
        routes.push((net.node_pods6(node), net.node6(node).to_string()));
    }
    if node == 1 {
        routes.push((net.service_net(), net.node(1).to_string()));
        if spec.ipv6 {
            routes.push((net.service_net6(), net.node6(1).to_string()));
        }
    }
    for (range, via) in routes {
        ip_soon(&["route", "replace", &range, "via", &via])?;
    }
    Ok(())
}

/// Removes a node's namespace and its link.
pub(crate) fn remove_node(name: &str, node: u8) -> Result<()> {
    let link = node_link(name, node);
    remove_link(&link)?;
    if namespace_file(&link).exists() {
        ip(&["netns", "del", &link])?;
    }
    Ok(())
}

/// Removes the bridge, and with it the host's routes.
pub(crate) fn remove_bridge(name: &str) -> Result<()> {
    remove_link(&bridge(name))
}

/// Whether anything on the machine carries the names of this cluster.
pub(crate) fn in_use(name: &str) -> bool {
    let taken = |link: String| link_exists(&link) || namespace_file(&link).exists();
    link_exists(&bridge(name)) || (1..=8).map(|node| node_link(name, node)).any(taken)
}

/// Switches a node's link on or off.
pub(crate) fn set_node_link(name: &str, node: u8, up: bool) -> Result<()> {
    ip(&["link", "set", &node_link(name, node), if up { "up" } else { "down" }])
}

fn configure_ipv4(spec: &ClusterSpec, node: u8, link: &str) -> Result<()> {
    let net = spec.addressing();
    sysctl_inside(link, &["net.ipv4.ip_forward=1"])?;
    ip(&["-n", link, "link", "set", "lo", "up"])?;
    ip(&[
        "-n",
        link,
        "addr",
        "add",
        &format!("{}/24", net.node(node)),
        "dev",
        "eth0",
    ])?;
    ip(&["-n", link, "link", "set", "eth0", "up"])?;
    // kube-proxy rewrites the destination after routing has found some route.
    ip_soon(&[
        "-n",
        link,
        "route",
        "add",
        &net.service_net(),
        "via",
        &net.host().to_string(),
    ])?;
    for other in spec.node_numbers().filter(|other| *other != node) {
        ip_soon(&[
            "-n",
            link,
            "route",
            "add",
            &net.node_pods(other),
            "via",
            &net.node(other).to_string(),
        ])?;
    }
    // Nothing leaves this machine.
    ip(&["-n", link, "route", "add", "blackhole", "169.254.0.0/16"])?;
    ip(&["-n", link, "route", "add", "unreachable", "default", "metric", "4096"])
}

fn configure_ipv6(spec: &ClusterSpec, node: u8, link: &str) -> Result<()> {
    let net = spec.addressing();
    // The plugin's bridge, made later, takes its settings from `default`.
    sysctl_inside(
        link,
        &[
            "net.ipv6.conf.all.forwarding=1",
            "net.ipv6.conf.default.accept_dad=0",
            "net.ipv6.conf.eth0.accept_dad=0",
        ],
    )?;
    ip(&[
        "-n",
        link,
        "addr",
        "add",
        &format!("{}/64", net.node6(node)),
        "dev",
        "eth0",
        "nodad",
    ])?;
    ip_soon(&[
        "-n",
        link,
        "route",
        "add",
        &net.service_net6(),
        "via",
        &net.host6().to_string(),
    ])?;
    for other in spec.node_numbers().filter(|other| *other != node) {
        ip_soon(&[
            "-n",
            link,
            "route",
            "add",
            &net.node_pods6(other),
            "via",
            &net.node6(other).to_string(),
        ])?;
    }
    ip(&[
        "-n",
        link,
        "-6",
        "route",
        "add",
        "unreachable",
        "default",
        "metric",
        "4096",
    ])
}

/// What Pods send beyond the cluster carries the node's address, as on nodes of most real clusters.
fn masquerade_pods(spec: &ClusterSpec, node: u8, link: &str) -> Result<()> {
    let rules = render_masquerade(spec, node);
    run(Command::new("nsenter")
        .arg(format!("--net={}", namespace_file(link).display()))
        .args(["nft", &rules]))?;
    Ok(())
}

fn render_masquerade(spec: &ClusterSpec, node: u8) -> String {
    let net = spec.addressing();
    let (pods, inside) = (
        net.node_pods(node),
        [net.pod_net(), net.service_net(), net.node_net()].join(", "),
    );
    let ipv4 = format!("ip saddr {pods} ip daddr != {{ {inside} }} oifname eth0 masquerade");
    let (pods, inside) = (
        net.node_pods6(node),
        [net.pod_net6(), net.service_net6(), net.node_net6()].join(", "),
    );
    let ipv6 = format!("ip6 saddr {pods} ip6 daddr != {{ {inside} }} oifname eth0 masquerade");
    let rules = if spec.ipv6 { format!("{ipv4}; {ipv6}") } else { ipv4 };
    format!("table inet pods {{ chain postrouting {{ type nat hook postrouting priority srcnat; {rules} ; }} ; }}")
}

fn sysctl_inside(namespace: &str, settings: &[&str]) -> Result<()> {
    let enter = format!("--net={}", namespace_file(namespace).display());
    run(Command::new("nsenter").args([&enter, "sysctl", "-qw"]).args(settings))?;
    Ok(())
}

/// A link whose other end went with its namespace disappears by itself, perhaps just now.
fn remove_link(link: &str) -> Result<()> {
    match link_exists(link).then(|| ip(&["link", "del", link])) {
        Some(Err(error)) if link_exists(link) => Err(error),
        Some(Ok(()) | Err(_)) | None => Ok(()),
    }
}

fn link_exists(link: &str) -> bool {
    Path::new("/sys/class/net").join(link).exists()
}

fn ip(args: &[&str]) -> Result<()> {
    run(Command::new("ip").args(args))?;
    Ok(())
}

/// A route needs the carrier of its link, which comes a moment after the link is up.
fn ip_soon(args: &[&str]) -> Result<()> {
    run_soon(|| {
        let mut command = Command::new("ip");
        command.args(args);
        command
    })?;
    Ok(())
}
