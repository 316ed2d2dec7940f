//! What a node answers to questions about names: its part of DNS, without the bytes.
//!
//! Names of nodes and records are answered from the network map. Under the tailnet's own suffix, and others that control gives to the
//! node, there are no other names; for the rest it is said whom to ask.

mod reverse;

use std::net::{IpAddr, SocketAddr};

use crate::netmap::{Netmap, Resolver, is_tailnet_address};

pub use reverse::address_of;

/// What is asked about a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// Its IPv4 addresses.
    A,
    /// Its IPv6 addresses.
    Aaaa,
    /// The name behind the address that this name spells.
    Ptr,
    /// Anything else.
    Other,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// These addresses, of the family that was asked for. None at all: the name exists and has no such record.
    Addresses(Vec<IpAddr>),
    /// This name, fully qualified, with the final dot.
    Name(String),
    /// There is no such name.
    NoSuchName,
    /// What one of these resolvers answers; the first that does.
    Ask(Vec<SocketAddr>),
    /// What the resolvers of the machine answer, from before the node was one of them.
    AskMachine,
    /// Nothing: the resolvers for the name are of a kind that cannot be asked.
    Unable,
}

/// Answers a question about a fully qualified name, the case and final dot of which do not matter.
pub fn answer(map: &Netmap, name: &str, question: Question) -> Answer {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    if map.dns.magic {
        own_answer(map, &name, question).unwrap_or_else(|| referral(map, &name))
    } else {
        referral(map, &name)
    }
}

/// The resolvers to ask where a machine has none.
pub fn fallback(map: &Netmap) -> Vec<SocketAddr> {
    plain(&map.dns.fallback)
}

/// The answer that the map holds itself.
fn own_answer(map: &Netmap, name: &str, question: Question) -> Option<Answer> {
    if let Some(address) = address_of(name) {
        return reverse(map, name, address, question);
    }
    let addresses = map.addresses_of(name);
    let via = map.via_address(name).filter(|_| name.contains('.')).map(IpAddr::V6);
    if !addresses.is_empty() || via.is_some() {
        let all = addresses.into_iter().chain(via);
        return Some(Answer::Addresses(
            all.filter(|address| match question {
                Question::A => address.is_ipv4(),
                Question::Aaaa => address.is_ipv6(),
                Question::Ptr | Question::Other => false,
            })
            .collect(),
        ));
    }
    // A name above others exists, although it has no records.
    let above = |other: &str| {
        let other = other.trim_end_matches('.').to_ascii_lowercase();
        other.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'))
    };
    let names = map.peers.values().map(|peer| peer.name.as_str());
    let mut names = names
        .chain([map.own.name.as_str()])
        .chain(map.dns.records.keys().map(String::as_str));
    let is_own = own_suffix(map).is_some_and(|suffix| is_under(name, &suffix));
    (is_own && !name.is_empty() && names.any(above)).then(|| Answer::Addresses(Vec::new()))
}

fn reverse(map: &Netmap, name: &str, address: IpAddr, question: Question) -> Option<Answer> {
    let dotted = |name: &str| format!("{}.", name.trim_end_matches('.'));
    let of_record = || {
        let mut records = map.dns.records.iter();
        let found = records.find(|(_, addresses)| addresses.contains(&address));
        found.map(|(name, _)| dotted(name))
    };
    let owner = if map.own.addresses.contains(&address) {
        Some(dotted(&map.own.name))
    } else {
        map.peer_by_address(address).map(|peer| dotted(&peer.name))
    };
    match owner.or_else(of_record) {
        Some(owner) if question == Question::Ptr => Some(Answer::Name(owner)),
        Some(_) => Some(Answer::Addresses(Vec::new())),
        None => (is_tailnet_address(address) && route(map, name).is_none()).then_some(Answer::NoSuchName),
    }
}

/// Who else may know.
fn referral(map: &Netmap, name: &str) -> Answer {
    let is_own = |name| map.dns.magic && own_suffix(map).is_some_and(|suffix| is_under(name, &suffix));
    match route(map, name) {
        Some([]) if map.dns.magic => Answer::NoSuchName,
        Some(resolvers) if !resolvers.is_empty() => ask(resolvers),
        None if is_own(name) => Answer::NoSuchName,
        None | Some(_) if map.dns.resolvers.is_empty() => Answer::AskMachine,
        None | Some(_) => ask(&map.dns.resolvers),
    }
}

/// Those of some resolvers that can be asked.
fn ask(resolvers: &[Resolver]) -> Answer {
    let plain = plain(resolvers);
    if plain.is_empty() {
        Answer::Unable
    } else {
        Answer::Ask(plain)
    }
}

fn plain(resolvers: &[Resolver]) -> Vec<SocketAddr> {
    let plain = resolvers.iter().filter_map(|resolver| match resolver {
        Resolver::Plain(address) => Some(*address),
        Resolver::Https { .. } => None,
    });
    plain.collect()
}

/// The route with the longest suffix that a name is under.
fn route<'a>(map: &'a Netmap, name: &str) -> Option<&'a [Resolver]> {
    let matching = map.dns.routes.iter().filter(|(suffix, _)| is_under(name, suffix));
    let (_, resolvers) = matching.max_by_key(|(suffix, _)| suffix.len())?;
    Some(resolvers)
}

/// Whether a name is a suffix or ends with it; every name is under the empty one.
fn is_under(name: &str, suffix: &str) -> bool {
    let rest = name.strip_suffix(suffix);
    rest.is_some_and(|rest| suffix.is_empty() || rest.is_empty() || rest.ends_with('.'))
}

/// What the names of this tailnet's nodes end with.
fn own_suffix(map: &Netmap) -> Option<String> {
    let (_, suffix) = map.own.fqdn().split_once('.')?;
    Some(suffix.to_ascii_lowercase())
}

#[cfg(test)]
mod tests;
