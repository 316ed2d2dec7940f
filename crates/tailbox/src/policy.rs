//! The policy: who may give which tag, who may reach what, which routes need nobody's approval.
//!
//! A policy is a HuJSON document (JSON with comments and trailing commas) in the form that tailnets have:
//! <https://tailscale.com/docs/reference/syntax/policy-file>. Of its sections there are `groups`, `hosts`, `tagOwners`,
//! `acls`, `grants`, `autoApprovers` and `nodeAttrs`. A section or member that this program does not have is an error
//! which names it: to leave out a rule in silence could open what the author meant to close.

mod alias;
mod compile;
mod document;
mod ports;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use jsonc_parser::ParseOptions;
use serde::{Deserialize, Serialize};

pub(crate) use alias::{Alias, is_service, is_tag};
pub(crate) use compile::Sources;
use document::Document;
use ports::{ParseError, Service};

/// Why a text is no policy.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// It is not HuJSON.
    #[error("read the policy: it is not HuJSON")]
    Syntax(#[source] Box<jsonc_parser::errors::ParseError>),
    /// A member is unknown, missing or of the wrong type.
    #[error("read the policy: a member is not as it should be")]
    Shape(#[source] serde_json::Error),
    /// A value is not understood.
    #[error("read the policy: {place}: {reason}")]
    Value {
        /// Where it stands.
        place: String,
        /// What is wrong.
        reason: String,
    },
}

/// A node as a policy sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    /// Its tags; empty for a node of a user.
    pub(crate) tags: &'a [String],
    /// The login name of its user.
    pub(crate) user: &'a str,
    /// Its own addresses.
    pub(crate) addresses: [IpAddr; 2],
    /// The routes of others that it carries, and the addresses of Services that it hosts.
    pub(crate) routes: &'a [IpNet],
    /// The Services that it hosts.
    pub(crate) services: &'a [Hosted],
}

/// A Tailscale Service on a host as a policy sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hosted {
    /// `svc:` and its label.
    pub(crate) name: String,
    /// Its tags.
    pub(crate) tags: Vec<String>,
    /// Its addresses.
    pub(crate) addresses: [IpAddr; 2],
}

impl Hosted {
    /// Its label below the tailnet's domain.
    pub(crate) fn label(&self) -> &str {
        self.name.trim_start_matches("svc:")
    }
}

/// A policy that was read and checked. It is kept as its text.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Policy {
    text: String,
    owners: BTreeMap<String, Vec<Alias>>,
    rules: Vec<Rule>,
    approvers: Vec<(IpNet, Vec<Alias>)>,
    /// Who may host a Service, by its name or one of its tags.
    hosts: BTreeMap<String, Vec<Alias>>,
    attributes: Vec<(Vec<Alias>, Vec<String>)>,
}

impl PartialEq for Policy {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

/// One entry of `acls` or `grants`.
#[derive(Clone, Debug)]
struct Rule {
    sources: Vec<Alias>,
    /// Where to, and what: the entries of an ACL name the ports with each destination.
    opens: Vec<(Alias, Vec<Service>)>,
    /// Application capabilities at the destinations.
    app: BTreeMap<String, Option<Vec<serde_json::Value>>>,
}

impl TryFrom<String> for Policy {
    type Error = PolicyError;

    fn try_from(text: String) -> Result<Self, PolicyError> {
        let value: Option<serde_json::Value> = jsonc_parser::parse_to_serde_value(&text, &ParseOptions::default())
            .map_err(|error| PolicyError::Syntax(Box::new(error)))?;
        let value = value.unwrap_or_else(|| serde_json::json!({}));
        let document: Document = serde_json::from_value(value).map_err(PolicyError::Shape)?;
        document.check(text)
    }
}

impl From<Policy> for String {
    fn from(policy: Policy) -> Self {
        policy.text
    }
}

impl Policy {
    /// The text as its author wrote it.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The first of these tags that somebody who holds `held` may not give: it is neither held nor owned, directly or
    /// by way of other tags, by one that is. A tag without an entry among the owners belongs to nobody.
    pub(crate) fn foreign_tag<'a>(&self, tags: &'a [String], held: &BTreeSet<String>) -> Option<&'a String> {
        tags.iter()
            .find(|tag| !self.owners.contains_key(*tag) || !self.is_owned(tag, held, &mut BTreeSet::new()))
    }

    fn is_owned(&self, tag: &str, held: &BTreeSet<String>, seen: &mut BTreeSet<String>) -> bool {
        if held.contains(tag) {
            return true;
        }
        if !seen.insert(tag.to_owned()) {
            return false;
        }
        let owners = self.owners.get(tag).into_iter().flatten();
        owners
            .filter_map(Alias::tag)
            .any(|owner| self.is_owned(owner, held, seen))
    }

    /// Whether a node may route a prefix without anybody's approval: an entry for it or for a prefix around it names
    /// the node.
    pub(crate) fn approves(&self, route: IpNet, node: Subject<'_>) -> bool {
        self.approvers
            .iter()
            .filter(|(net, _)| net.contains(&route))
            .any(|(_, aliases)| aliases.iter().any(|alias| alias.names(node)))
    }

    /// Whether a node may host a Service of this name and these tags without anybody's approval.
    pub(crate) fn approves_host(&self, service: &str, tags: &[String], node: Subject<'_>) -> bool {
        let names = std::iter::once(service).chain(tags.iter().map(String::as_str));
        let mut aliases = names.filter_map(|name| self.hosts.get(name)).flatten();
        aliases.any(|alias| alias.names(node))
    }

    /// The attributes that a node has.
    pub(crate) fn attributes(&self, node: Subject<'_>) -> BTreeSet<&str> {
        let matching = self
            .attributes
            .iter()
            .filter(|(targets, _)| targets.iter().any(|target| target.names(node)));
        matching
            .flat_map(|(_, names)| names.iter().map(String::as_str))
            .collect()
    }
}

#[cfg(test)]
mod tests;
