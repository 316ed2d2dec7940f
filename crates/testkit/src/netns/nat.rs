//! Routers that translate addresses, as homes and offices have them.
//!
//! Linux maps a port to itself as long as it is free, so that a node behind `masquerade` has one address for all of the world: easy. With
//! `fully-random` every destination sees another port: hard. What comes in unasked is dropped, as home routers do; a kernel that answered
//! it would give the port away.

use std::fmt;

use super::{Namespace, Net, Switch};

/// What is between a machine and the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nat {
    /// Nothing.
    None,
    /// One mapping for all destinations; whoever was sent to may answer, from any port.
    AddressFiltered,
    /// One mapping for all destinations; only the port that was sent to may answer.
    PortFiltered,
    /// A mapping for each destination.
    Hard,
    /// As `PortFiltered`, and no UDP gets out.
    Blocked,
}

impl fmt::Display for Nat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "no NAT",
            Self::AddressFiltered => "easy NAT, open to addresses",
            Self::PortFiltered => "easy NAT, open to ports",
            Self::Hard => "hard NAT",
            Self::Blocked => "UDP blocked",
        })
    }
}

impl Net {
    /// Puts `machine` behind `router`, whose `eth0` leads to the world: on a network 192.168.`number`.0/24 of their own, on which the
    /// router is 1 and the machine 2. That network lasts as long as the switch that is returned.
    ///
    /// # Panics
    /// When the kernel refuses, or `nat` is none.
    pub fn hide(&self, machine: &Namespace, router: &Namespace, number: u8, nat: Nat) -> Switch {
        assert_ne!(nat, Nat::None, "a router that does nothing hides nobody");
        let switch = self.switch(&format!("home{number}"));
        let net = format!("192.168.{number}");
        self.plug(&switch, router, "eth1", &[&format!("{net}.1/24")]);
        self.plug(&switch, machine, "eth0", &[&format!("{net}.2/24")]);
        machine.ip(&format!("route add default via {net}.1"));
        router.sysctl("net.ipv4.ip_forward", "1");
        load_rules(router, nat, &net);
        switch
    }
}

fn load_rules(router: &Namespace, nat: Nat, net: &str) {
    let masquerade = if nat == Nat::Hard {
        "masquerade fully-random"
    } else {
        "masquerade"
    };
    for line in [
        "add table ip nat",
        "add chain ip nat post { type nat hook postrouting priority 100 ; }",
        &format!("add rule ip nat post oifname eth0 {masquerade}"),
        "add chain ip nat input { type filter hook input priority 0 ; }",
        "add rule ip nat input iifname eth0 meta l4proto udp ct state new drop",
        "add chain ip nat forward { type filter hook forward priority 0 ; }",
    ] {
        router.check(&format!("nft {line}"));
    }
    fill_forward(router, nat, net);
    router.check("nft add rule ip nat forward iifname eth0 ct status dnat accept");
    router.check("nft add rule ip nat forward iifname eth0 ct state new drop");
}

fn fill_forward(router: &Namespace, nat: Nat, net: &str) {
    match nat {
        Nat::Blocked => {
            router.check("nft add rule ip nat forward meta l4proto udp drop");
        }
        Nat::AddressFiltered => {
            router.check("nft add set ip nat heard { type ipv4_addr ; flags dynamic,timeout ; timeout 60s ; }");
            router.check("nft add rule ip nat forward iifname eth1 udp sport 41641 update @heard { ip daddr }");
            router.check("nft add chain ip nat pre { type nat hook prerouting priority -100 ; }");
            router.check(&format!(
                "nft add rule ip nat pre iifname eth0 udp dport 41641 ip saddr @heard dnat to {net}.2"
            ));
        }
        Nat::None | Nat::PortFiltered | Nat::Hard => {}
    }
}
