//! The names by which a policy speaks of nodes and addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::{ParseError, Subject};

/// A set of nodes or addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Alias {
    /// `*`
    Any,
    /// All nodes with this tag.
    Tag(String),
    /// All untagged nodes of these users.
    Users(BTreeSet<String>),
    /// All untagged nodes.
    Members,
    /// All tagged nodes.
    Tagged,
    /// Addresses, of nodes or behind them.
    Net(IpNet),
    /// The Tailscale Service of this name.
    Service(String),
}

/// The names that a policy defines.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) hosts: BTreeMap<String, IpNet>,
    pub(super) groups: BTreeMap<String, Vec<String>>,
    pub(super) tags: BTreeSet<String>,
}

impl Names {
    /// What a list of names stands for.
    pub(super) fn all(&self, texts: &[String]) -> Result<Vec<Alias>, ParseError> {
        texts.iter().map(|text| self.one(text)).collect()
    }

    /// What a name stands for.
    pub(super) fn one(&self, text: &str) -> Result<Alias, ParseError> {
        let unknown = |what: &str| ParseError::new(format!("{text:?} is {what}"));
        if text.starts_with("tag:") {
            let known = self.tags.contains(text).then(|| Alias::Tag(text.to_owned()));
            return known.ok_or_else(|| unknown("a tag without an entry in tagOwners"));
        }
        if text.starts_with("group:") {
            let members = self.groups.get(text).ok_or_else(|| unknown("not in groups"))?;
            return Ok(Alias::Users(members.iter().cloned().collect()));
        }
        if text.starts_with("svc:") {
            let known = is_service(text).then(|| Alias::Service(text.to_owned()));
            return known.ok_or_else(|| unknown("not written like a Service: svc: and a DNS label"));
        }
        match text {
            "*" => return Ok(Alias::Any),
            // The only user owns and administrates the tailnet.
            "autogroup:member" | "autogroup:admin" | "autogroup:owner" => return Ok(Alias::Members),
            "autogroup:tagged" => return Ok(Alias::Tagged),
            _ => {}
        }
        if let Some(net) = self.hosts.get(text) {
            return Ok(Alias::Net(*net));
        }
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        if let Ok(net) = bare.parse::<IpNet>() {
            return Ok(Alias::Net(net.trunc()));
        }
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Ok(Alias::Net(address.into()));
        }
        if text.contains('@') {
            return Ok(Alias::Users(BTreeSet::from([text.to_owned()])));
        }
        Err(unknown(
            "neither a tag, a user, a group, a host, an address nor a prefix that is known here",
        ))
    }
}

impl Alias {
    /// The tag, if it is one.
    pub(super) fn tag(&self) -> Option<&str> {
        match self {
            Self::Tag(tag) => Some(tag),
            Self::Any | Self::Users(_) | Self::Members | Self::Tagged | Self::Net(_) | Self::Service(_) => None,
        }
    }

    /// Whether the alias means this node.
    pub(super) fn names(&self, node: Subject<'_>) -> bool {
        match self {
            Self::Any => true,
            Self::Tag(tag) => node.tags.contains(tag),
            Self::Users(users) => node.tags.is_empty() && users.contains(node.user),
            Self::Members => node.tags.is_empty(),
            Self::Tagged => !node.tags.is_empty(),
            Self::Net(net) => node.addresses.iter().any(|address| net.contains(address)),
            // A Service is no sender.
            Self::Service(_) => false,
        }
    }

    /// The addresses of those Services on a node that the alias means: by name, or by a tag of theirs.
    pub(super) fn services<'a>(&'a self, node: Subject<'a>) -> impl Iterator<Item = IpAddr> + 'a {
        let meant = node.services.iter().filter(move |service| match self {
            Self::Service(name) => *name == service.name,
            Self::Tag(tag) => service.tags.contains(tag),
            Self::Any => true,
            Self::Users(_) | Self::Members | Self::Tagged | Self::Net(_) => false,
        });
        meant.flat_map(|service| service.addresses)
    }
}

/// Whether a text is written like the name of a Tailscale Service.
pub(crate) fn is_service(text: &str) -> bool {
    text.strip_prefix("svc:").is_some_and(|label| {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        (1..=63).contains(&label.len()) && label.chars().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    })
}

/// Whether a text is written like a tag.
pub(crate) fn is_tag(text: &str) -> bool {
    text.strip_prefix("tag:").is_some_and(|name| {
        name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    })
}
