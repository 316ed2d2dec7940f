//! Writes rules in the words of `nft`, for snapshots, logs and comparison with what `nft` lists.

use std::fmt;

use super::{Action, Chain, ChainType, Direction, Hook, Match, PortSet, Protocol, Rule, RulePlan, TABLE_NAME};

impl fmt::Display for RulePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "table inet {TABLE_NAME} {{")?;
        for set in &self.sets {
            writeln!(f, "{set}")?;
        }
        for (index, chain) in self.chains.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{chain}")?;
        }
        writeln!(f, "}}")
    }
}

impl fmt::Display for PortSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\tset {} {{", self.name)?;
        writeln!(f, "\t\ttype inet_proto . inet_service")?;
        if !self.elements.is_empty() {
            let elements: Vec<String> = self.elements.iter().map(|e| format!("{} . {}", e.0, e.1)).collect();
            writeln!(f, "\t\telements = {{ {} }}", elements.join(", "))?;
        }
        writeln!(f, "\t}}")
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\tchain {} {{", self.name)?;
        if let Some(base) = self.base {
            let policy = if base.drops { "drop" } else { "accept" };
            let (chain_type, hook) = (base.chain_type, base.hook);
            writeln!(
                f,
                "\t\ttype {chain_type} hook {hook} priority {}; policy {policy};",
                base.priority
            )?;
        }
        for rule in &self.rules {
            writeln!(f, "\t\t{rule}")?;
        }
        writeln!(f, "\t}}")
    }
}

impl fmt::Display for ChainType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Filter => "filter",
            Self::Nat => "nat",
            Self::Route => "route",
        })
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prerouting => "prerouting",
            Self::Input => "input",
            Self::Forward => "forward",
            Self::Output => "output",
            Self::Postrouting => "postrouting",
        })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let matches = self.matches.iter().map(ToString::to_string);
        let words: Vec<String> = matches.chain(self.actions.iter().map(ToString::to_string)).collect();
        f.write_str(&words.join(" "))
    }
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::From(device) => write!(f, "iifname \"{device}\""),
            Self::NotFrom(device) => write!(f, "iifname != \"{device}\""),
            Self::To(device) => write!(f, "oifname \"{device}\""),
            Self::NotTo(device) => write!(f, "oifname != \"{device}\""),
            Self::Source(address) => write!(f, "{} saddr {address}", family_word(address.is_ipv6())),
            Self::Destination(address) => write!(f, "{} daddr {address}", family_word(address.is_ipv6())),
            Self::Port(protocol, port) => write!(f, "{protocol} dport {port}"),
            Self::PortIn(set) => write!(f, "meta l4proto . th dport @{set}"),
            Self::OneIn(count) => write!(f, "numgen random mod {count} 0"),
            Self::IpProtocol(number) => write!(f, "meta l4proto {}", protocol_word(*number)),
            Self::NotIpProtocol(number) => write!(f, "meta l4proto != {}", protocol_word(*number)),
            Self::Family { ipv6: false } => f.write_str("meta nfproto ipv4"),
            Self::Family { ipv6: true } => f.write_str("meta nfproto ipv6"),
            Self::OpensTcp => f.write_str("tcp flags syn / fin,syn,rst,ack"),
            Self::TcpSyn => f.write_str("tcp flags syn / syn,rst"),
            Self::EchoRequest { ipv6: false } => f.write_str("icmp type echo-request"),
            Self::EchoRequest { ipv6: true } => f.write_str("icmpv6 type echo-request"),
            Self::New => f.write_str("ct state new"),
            Self::Known => f.write_str("ct state established,related"),
            Self::Direction(Direction::Original) => f.write_str("ct direction original"),
            Self::Direction(Direction::Reply) => f.write_str("ct direction reply"),
            Self::Translated => f.write_str("ct status dnat"),
            Self::Track(mark) => write!(f, "ct mark {mark:#010x}"),
        }
    }
}

fn family_word(ipv6: bool) -> &'static str {
    if ipv6 { "ip6" } else { "ip" }
}

fn protocol_word(number: u8) -> String {
    match number {
        1 => "icmp".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        58 => "ipv6-icmp".to_owned(),
        132 => "sctp".to_owned(),
        other => other.to_string(),
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mark(mark) => write!(f, "meta mark set {mark:#010x}"),
            Self::Track(mark) => write!(f, "ct mark set {mark:#010x}"),
            Self::HandOver { ipv6: false, port } => write!(f, "tproxy ip to 127.0.0.1:{port}"),
            Self::HandOver { ipv6: true, port } => write!(f, "tproxy ip6 to [::1]:{port}"),
            Self::TranslateTo(address) => write!(f, "dnat {} to {address}", family_word(address.is_ipv6())),
            Self::TranslateFrom(address) => write!(f, "snat {} to {address}", family_word(address.is_ipv6())),
            Self::Masquerade => f.write_str("masquerade"),
            Self::ClampSegment(bytes) => write!(f, "tcp option maxseg size set {bytes}"),
            Self::Jump(chain) => write!(f, "jump {chain}"),
            Self::Accept => f.write_str("accept"),
            Self::Drop => f.write_str("drop"),
            Self::Reset => f.write_str("reject with tcp reset"),
            Self::RefusePort => f.write_str("reject"),
        }
    }
}
