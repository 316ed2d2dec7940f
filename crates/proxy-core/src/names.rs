//! Names that DNS resolves: what is kept of the answers, when to ask again, and where a name must never lead.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use crate::mode::unreachable_kind;

/// However short the time to live of an answer, servers are asked no more often than this.
const SHORTEST: Duration = Duration::from_secs(5);

/// However long it is, they are asked again after this.
const LONGEST: Duration = Duration::from_hours(1);

/// Connections to an address that DNS no longer gives may go on this long, and for [`GRACE_LIVES`] times to live of the answer
/// without it if that is longer: some servers give another part of many addresses each time.
const GRACE: Duration = Duration::from_mins(10);

/// See [`GRACE`].
const GRACE_LIVES: u32 = 3;

/// The longest pause between questions that fail.
const LONGEST_AFTER_FAILURE: Duration = Duration::from_mins(1);

/// Where clouds answer with a machine's own secrets, beside the link-local address that all of them share: AWS and Google
/// over IPv6, Oracle's older one, Azure's host.
const METADATA: [IpAddr; 4] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
];

/// The first 96 bits of addresses that a translator turns into IPv4 (RFC 6052).
const TRANSLATED: [u16; 6] = [0x64, 0xff9b, 0, 0, 0, 0];

/// What became of a question for the addresses of one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The servers answered.
    Answer {
        /// The addresses; none when there are none.
        addresses: BTreeSet<IpAddr>,
        /// How long the servers vouch for them.
        valid_for: Duration,
    },
    /// They did not, for this reason.
    Failed(String),
}

/// What is known of a name. A question that fails changes nothing that is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownName {
    v4: BTreeSet<IpAddr>,
    v6: BTreeSet<IpAddr>,
    /// Former addresses, each with the time until which it is kept.
    former: BTreeMap<IpAddr, Instant>,
    answered: bool,
    failure: Option<String>,
    failures: u32,
}

/// Where a name must never lead: a name is in the hands of whoever serves it, and may change at any time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Guard {
    /// The Pod's own addresses.
    pub pod: BTreeSet<IpAddr>,
    /// Addresses of this node and its peers on the tailnet, beside the ranges that tailnets usually have.
    pub tailnet: BTreeSet<IpAddr>,
    /// The API server's address inside the cluster.
    pub api_server: Option<IpAddr>,
}

impl KnownName {
    /// Takes the replies to a question for both families; gives the time after which to ask again.
    pub fn take(&mut self, v4: Reply, v6: Reply, now: Instant) -> Duration {
        let replies = [(v4, &mut self.v4), (v6, &mut self.v6)];
        let mut valid = LONGEST;
        if replies.iter().any(|(reply, _)| matches!(reply, Reply::Answer { .. })) {
            self.former.retain(|_, until| *until > now);
        }
        let (mut reasons, mut matters) = (Vec::new(), false);
        for (reply, known) in replies {
            match reply {
                Reply::Answer { addresses, valid_for } => {
                    if !addresses.is_empty() {
                        valid = valid.min(valid_for);
                    }
                    self.answered = true;
                    let grace = (GRACE_LIVES * valid_for.min(LONGEST)).max(GRACE);
                    let gone = known.difference(&addresses).map(|address| (*address, now + grace));
                    self.former.extend(gone);
                    self.former.retain(|address, _| !addresses.contains(address));
                    *known = addresses;
                }
                Reply::Failed(reason) => {
                    matters |= !known.is_empty();
                    reasons.push(reason);
                }
            }
        }
        // Some servers never answer for the family that a name does not have.
        self.failure = reasons.pop().filter(|_| matters || !reasons.is_empty());
        self.failures = if self.failure.is_some() { self.failures + 1 } else { 0 };
        let empty = self.v4.is_empty() && self.v6.is_empty();
        let pause = if self.failure.is_some() || empty {
            let grown = SHORTEST.saturating_mul(1 << self.failures.saturating_sub(1).min(8));
            grown.min(LONGEST_AFTER_FAILURE)
        } else {
            valid
        };
        pause.clamp(SHORTEST, LONGEST)
    }

    /// The addresses of both families, as last answered.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.v4.iter().chain(&self.v6).copied()
    }

    /// The addresses that it had until lately and that connections may still lead to, but nothing new.
    pub fn former_addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.former.keys().copied()
    }

    /// What to say about the name, in one line; nothing when all is well or nothing was asked yet.
    pub fn problem(&self, name: &str) -> Option<String> {
        let empty = self.addresses().next().is_none();
        match &self.failure {
            Some(reason) if empty => Some(format!("{reason}; check the name, and the cluster's DNS")),
            Some(reason) => Some(format!("{reason}; the last answer stays in use")),
            None if empty && self.answered => Some(format!("{name} has no address in DNS: check the name")),
            None => None,
        }
    }
}

impl Guard {
    /// Sorts the addresses of a name: those that may be used, and a line about those that may not.
    pub fn judge(&self, name: &str, addresses: impl Iterator<Item = IpAddr>) -> (BTreeSet<IpAddr>, Option<String>) {
        let (mut usable, mut refused) = (BTreeSet::new(), None);
        for address in addresses {
            match self.refusal(address) {
                None => {
                    usable.insert(address);
                }
                Some(kind) => {
                    refused.get_or_insert_with(|| {
                        format!("{name} leads to {address}, which is {kind}: nothing is sent there; correct the name's record")
                    });
                }
            }
        }
        (usable, refused)
    }

    /// Why a name must not lead to an address; nothing when it may.
    pub fn refusal(&self, address: IpAddr) -> Option<&'static str> {
        let canonical = embedded_ipv4(address).map_or(address, IpAddr::V4);
        let own = [
            (self.pod.contains(&canonical), "the proxy itself"),
            (self.api_server == Some(canonical), "the cluster's API server"),
            (METADATA.contains(&canonical), "a cloud's metadata service"),
            (
                self.tailnet.contains(&canonical) || is_of_tailnets(canonical),
                "on a tailnet",
            ),
        ];
        let mut kinds = own.into_iter().filter_map(|(applies, kind)| applies.then_some(kind));
        unreachable_kind(canonical).or_else(|| kinds.next())
    }
}

/// The IPv4 address that an IPv6 address is another form of.
fn embedded_ipv4(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(address) = address else { return None };
    let [.., high, low] = address.segments();
    let translated = address.segments().starts_with(&TRANSLATED);
    translated.then(|| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)))
}

/// The ranges from which control servers usually take addresses.
fn is_of_tailnets(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => u32::from(v4) >> 22 == 0x6440_0000 >> 22,
        IpAddr::V6(v6) => v6.segments().starts_with(&[0xfd7a, 0x115c, 0xa1e0]),
    }
}

#[cfg(test)]
mod tests;
