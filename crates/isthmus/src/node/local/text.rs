//! What the running node tells, for people.

use std::fmt::Write;

use super::documents::{Device, Network, PeerStatus, Pong, Region, Status, Way, Whois};

pub(super) fn status(status: &Status) -> String {
    let mut text = String::new();
    let control = if status.connected {
        "connected to control"
    } else {
        "control is away"
    };
    let name = status.node.as_ref().map_or("(no name yet)", |node| &node.name);
    let addresses = status.node.as_ref().map(addresses).unwrap_or_default();
    line(&mut text, &format!("{name}  {addresses}  {}, {control}", status.login));
    for problem in status.problem.iter().chain(&status.health) {
        line(&mut text, &format!("! {problem}"));
    }
    let width = status
        .peers
        .iter()
        .map(|peer| peer.device.name.len())
        .max()
        .unwrap_or_default();
    for peer in &status.peers {
        let address = peer
            .device
            .addresses
            .first()
            .map(ToString::to_string)
            .unwrap_or_default();
        let name = &peer.device.name;
        line(&mut text, &format!("{name:width$}  {address:15}  {}", reached(peer)));
    }
    text
}

fn reached(peer: &PeerStatus) -> String {
    if let Some(obstacle) = &peer.obstacle {
        return format!("no session: {obstacle}");
    }
    let mut text = if peer.online == Some(false) {
        "offline, ".to_owned()
    } else {
        String::new()
    };
    text += &way(&peer.way);
    if let Some(latency) = peer.latency_ms.filter(|_| matches!(peer.way, Way::Direct(_))) {
        let _ = write!(text, ", {latency:.1} ms");
    }
    if let Some(since) = peer.since {
        let _ = write!(text, ", since {since:.0}");
    }
    if let Some(age) = peer.handshake_age_s {
        let (received, sent) = (peer.received_bytes, peer.sent_bytes);
        let _ = write!(text, ", handshake {age} s ago, {received} bytes in, {sent} out");
    }
    if let Some(why) = &peer.why_not_direct {
        let _ = write!(text, "; not direct: {why}");
    }
    text
}

pub(super) fn network(network: &Network) -> String {
    let mut text = String::new();
    line(&mut text, &format!("UDP:          {}", known(network.udp)));
    for (family, seen) in [("IPv4", network.ipv4), ("IPv6", network.ipv6)] {
        let seen = seen.map_or_else(|| "no answer".to_owned(), |seen| format!("seen as {seen}"));
        line(&mut text, &format!("{family}:         {seen}"));
    }
    let nat = match network.mapping_varies_by_destination {
        Some(true) => "hard: maps by destination",
        Some(false) => "easy, or none",
        None => "unknown: fewer than two servers answered",
    };
    line(&mut text, &format!("NAT:          {nat}"));
    let home = network.home.as_ref().map_or_else(|| "none".to_owned(), region);
    line(&mut text, &format!("Home relay:   {home}"));
    for latency in &network.latencies {
        let time = latency
            .latency_ms
            .map_or_else(|| "no answer".to_owned(), |ms| format!("{ms:.1} ms"));
        line(&mut text, &format!("  {}: {time}", region(&latency.region)));
    }
    text
}

pub(super) fn pong(pong: &Pong) -> String {
    let address = pong.address.map(|address| format!(" ({address})")).unwrap_or_default();
    match pong.latency_ms {
        Some(latency) => format!(
            "answer from {}{address}: {}, {latency:.1} ms",
            pong.name,
            way(&pong.way)
        ),
        None => format!("no answer from {}{address}: {}", pong.name, way(&pong.way)),
    }
}

pub(super) fn whois(found: &Whois) -> String {
    let mut text = String::new();
    line(
        &mut text,
        &format!("Device:     {} ({})", found.device.name, found.device.id),
    );
    line(&mut text, &format!("Addresses:  {}", addresses(&found.device)));
    if let Some(route) = &found.route {
        line(&mut text, &format!("By route:   {route}"));
    }
    if !found.device.tags.is_empty() {
        line(&mut text, &format!("Tags:       {}", found.device.tags.join(" ")));
    }
    if let Some(login) = &found.device.user {
        let name = found.user_name.as_ref().filter(|name| !name.is_empty());
        let name = name.map(|name| format!(" ({name})")).unwrap_or_default();
        line(&mut text, &format!("User:       {login}{name}"));
    }
    text
}

fn way(way: &Way) -> String {
    match way {
        Way::Direct(address) => format!("direct by {address}"),
        Way::Relay(by) => format!("by relay {}", region(by)),
        Way::None => "no way".to_owned(),
    }
}

fn region(region: &Region) -> String {
    if region.name.is_empty() {
        region.id.to_string()
    } else {
        format!("{} ({})", region.name, region.id)
    }
}

fn addresses(device: &Device) -> String {
    let all: Vec<String> = device.addresses.iter().map(ToString::to_string).collect();
    all.join(" ")
}

fn known(answer: Option<bool>) -> &'static str {
    match answer {
        Some(true) => "yes",
        Some(false) => "no",
        None => "unknown",
    }
}

fn line(text: &mut String, line: &str) {
    text.push_str(line.trim_end());
    text.push('\n');
}
