//! The document as it is written, and its checking.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;

use super::alias::Names;
use super::{Alias, ParseError, Policy, PolicyError, Rule, Service, ports};

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Document {
    groups: BTreeMap<String, Vec<String>>,
    hosts: BTreeMap<String, String>,
    tag_owners: BTreeMap<String, Vec<String>>,
    acls: Option<Vec<Acl>>,
    grants: Option<Vec<Grant>>,
    auto_approvers: AutoApprovers,
    node_attrs: Vec<NodeAttr>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Acl {
    action: String,
    #[serde(default)]
    proto: String,
    src: Vec<String>,
    dst: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Grant {
    src: Vec<String>,
    dst: Vec<String>,
    #[serde(default)]
    ip: Vec<String>,
    #[serde(default)]
    app: BTreeMap<String, Option<Vec<serde_json::Value>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct AutoApprovers {
    routes: BTreeMap<String, Vec<String>>,
    services: BTreeMap<String, Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeAttr {
    target: Vec<String>,
    attr: Vec<String>,
}

impl Document {
    /// The policy, when everything it names is known.
    pub(super) fn check(self, text: String) -> Result<Policy, PolicyError> {
        let names = self.names()?;
        let owners = self.tag_owners.iter().map(|(tag, owners)| {
            let place = format!("tagOwners.{tag:?}");
            Ok((tag.clone(), names.all(owners).map_err(at(&place))?))
        });
        let approvers = self.auto_approvers.routes.iter().map(|(net, who)| {
            let place = format!("autoApprovers.routes.{net:?}");
            let net = net
                .parse::<IpNet>()
                .map_err(|_| at(&place)(ParseError::new("the name is not a prefix")))?;
            Ok((net.trunc(), names.all(who).map_err(at(&place))?))
        });
        let hosts = self.auto_approvers.services.iter().map(|(service, who)| {
            let place = format!("autoApprovers.services.{service:?}");
            match names.one(service).map_err(at(&place))? {
                Alias::Service(_) | Alias::Tag(_) => Ok((service.clone(), names.all(who).map_err(at(&place))?)),
                Alias::Any | Alias::Users(_) | Alias::Members | Alias::Tagged | Alias::Net(_) => Err(at(&place)(
                    ParseError::new("the name is neither a Service (svc:…) nor a tag"),
                )),
            }
        });
        let attributes = self.node_attrs.iter().enumerate().map(|(index, entry)| {
            let targets = names
                .all(&entry.target)
                .map_err(at(&format!("nodeAttrs[{index}].target")))?;
            Ok((targets, entry.attr.clone()))
        });
        Ok(Policy {
            owners: owners.collect::<Result<_, PolicyError>>()?,
            approvers: approvers.collect::<Result<_, PolicyError>>()?,
            hosts: hosts.collect::<Result<_, PolicyError>>()?,
            attributes: attributes.collect::<Result<_, PolicyError>>()?,
            rules: self.rules(&names)?,
            text,
        })
    }

    /// The names that entries may use.
    fn names(&self) -> Result<Names, PolicyError> {
        let mut hosts = BTreeMap::new();
        for (name, value) in &self.hosts {
            let net = value
                .parse::<IpNet>()
                .or_else(|_| value.parse::<IpAddr>().map(IpNet::from));
            let place = format!("hosts.{name:?}");
            let net = net.map_err(|_| at(&place)(ParseError::new("the value is neither an address nor a prefix")))?;
            hosts.insert(name.clone(), net.trunc());
        }
        if let Some(tag) = self.tag_owners.keys().find(|tag| !super::alias::is_tag(tag)) {
            let reason = "a tag is written tag: and then letters, digits or -, with a letter first";
            return Err(at(&format!("tagOwners.{tag:?}"))(ParseError::new(reason)));
        }
        for (group, members) in &self.groups {
            let place = format!("groups.{group:?}");
            if !group.starts_with("group:") {
                return Err(at(&place)(ParseError::new(
                    "a group is written group: and then its name",
                )));
            }
            if let Some(member) = members.iter().find(|member| !member.contains('@')) {
                return Err(at(&place)(ParseError::new(format!("{member:?} is not a user"))));
            }
        }
        Ok(Names {
            hosts,
            groups: self.groups.clone(),
            tags: self.tag_owners.keys().cloned().collect::<BTreeSet<_>>(),
        })
    }

    /// The rules. A policy without the sections `acls` and `grants` lets everybody reach everybody, as control servers
    /// have it; with an empty section nobody reaches anybody.
    fn rules(&self, names: &Names) -> Result<Vec<Rule>, PolicyError> {
        if self.acls.is_none() && self.grants.is_none() {
            return Ok(vec![Rule {
                sources: vec![Alias::Any],
                opens: vec![(Alias::Any, vec![Service::ALL])],
                app: BTreeMap::new(),
            }]);
        }
        let acls = self.acls.iter().flatten().enumerate();
        let acls = acls.map(|(index, acl)| acl.check(names, &format!("acls[{index}]")));
        let grants = self.grants.iter().flatten().enumerate();
        let grants = grants.map(|(index, grant)| grant.check(names, &format!("grants[{index}]")));
        acls.chain(grants).collect()
    }
}

impl Acl {
    fn check(&self, names: &Names, place: &str) -> Result<Rule, PolicyError> {
        if self.action != "accept" {
            let reason = format!("{:?} is not an action; the only one is accept", self.action);
            return Err(at(&format!("{place}.action"))(ParseError::new(reason)));
        }
        let protocols = ports::protocols(&self.proto).map_err(at(&format!("{place}.proto")))?;
        let opens = self.dst.iter().map(|text| {
            let (host, ports) = text
                .rsplit_once(':')
                .ok_or_else(|| ParseError::new(format!("{text:?} names no ports; write {text}:*")))?;
            let services = ports::ranges(ports)?
                .into_iter()
                .map(|ports| Service {
                    protocols: protocols.clone(),
                    ports,
                })
                .collect();
            Ok((names.one(host)?, services))
        });
        Ok(Rule {
            sources: names.all(&self.src).map_err(at(&format!("{place}.src")))?,
            opens: opens
                .collect::<Result<_, ParseError>>()
                .map_err(at(&format!("{place}.dst")))?,
            app: BTreeMap::new(),
        })
    }
}

impl Grant {
    fn check(&self, names: &Names, place: &str) -> Result<Rule, PolicyError> {
        let services: Vec<Service> = self
            .ip
            .iter()
            .map(|text| Service::parse_all(text))
            .collect::<Result<Vec<_>, _>>()
            .map_err(at(&format!("{place}.ip")))?
            .concat();
        let destinations = names.all(&self.dst).map_err(at(&format!("{place}.dst")))?;
        Ok(Rule {
            sources: names.all(&self.src).map_err(at(&format!("{place}.src")))?,
            opens: destinations.into_iter().map(|to| (to, services.clone())).collect(),
            app: self.app.clone(),
        })
    }
}

/// Says where a value stands that is not understood.
fn at(place: &str) -> impl Fn(ParseError) -> PolicyError {
    move |error| PolicyError::Value {
        place: place.to_owned(),
        reason: error.to_string(),
    }
}
