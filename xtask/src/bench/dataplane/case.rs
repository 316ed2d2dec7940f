//! The loads.

use super::super::load::{Load, Traffic};
use super::contestant::Contestant;

/// Bytes of a small datagram, and how much of them is sent: 50,000 a second.
const SMALL: u32 = 200;
const SMALL_GBITS: f64 = 0.08;

/// A load.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) mtu: u16,
    streams: u32,
    is_reverse: bool,
    is_small: bool,
    pub(super) way: Way,
}

/// How the load travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// From node to node.
    Direct,
    /// From a client behind the first node, which masquerades.
    Forwarded,
    /// Without a direct path.
    Relayed,
}

const fn case(name: &'static str) -> Case {
    Case {
        name,
        mtu: 1280,
        streams: 1,
        is_reverse: false,
        is_small: false,
        way: Way::Direct,
    }
}

const fn reverse(name: &'static str, of: &Case) -> Case {
    Case {
        name,
        is_reverse: true,
        ..*of
    }
}

const FOUR: Case = Case {
    streams: 4,
    ..case("four streams")
};

const NAT: Case = Case {
    way: Way::Forwarded,
    ..case("through NAT")
};

const RELAYED: Case = Case {
    way: Way::Relayed,
    ..case("over a relay")
};

/// All loads.
pub(super) static CASES: [Case; 10] = [
    case("one stream"),
    reverse("one stream, back", &case("")),
    FOUR,
    reverse("four streams, back", &FOUR),
    Case {
        mtu: 1420,
        ..case("one stream, MTU 1420")
    },
    NAT,
    reverse("through NAT, back", &NAT),
    Case {
        is_small: true,
        ..case("small datagrams")
    },
    RELAYED,
    reverse("over a relay, back", &RELAYED),
];

impl Case {
    /// Whether a contestant can carry it at all.
    pub(super) fn admits(&self, contestant: Contestant) -> bool {
        let fits = self.mtu == 1280 || contestant.has_mtu();
        fits && (self.way != Way::Relayed || contestant.has_relays())
    }

    /// As much as passes.
    pub(super) fn most(&self, seconds: u32) -> Load {
        self.load(seconds, None)
    }

    /// A fixed load; nothing where the load is fixed anyway.
    pub(super) fn fixed(&self, seconds: u32, gbits_per_second: f64) -> Option<Load> {
        (!self.is_small).then(|| self.load(seconds, Some(gbits_per_second)))
    }

    fn load(&self, seconds: u32, gbits_per_second: Option<f64>) -> Load {
        let traffic = if self.is_small {
            Traffic::Udp {
                bytes: SMALL,
                gbits_per_second: SMALL_GBITS,
            }
        } else {
            Traffic::Tcp { gbits_per_second }
        };
        Load {
            seconds,
            streams: self.streams,
            reverse: self.is_reverse,
            traffic,
        }
    }
}
