//! The kernel's packet rules: puts a [`RulePlan`] in place of the one before it, in one transaction.
//!
//! Chains stay and only their rules and the sets are exchanged, because a chain that is removed drops by its policy
//! what passes between the removal of its rules and its own. Only a table of another shape (of an earlier release, after
//! a restart of the container in the same Pod) is removed whole.

mod encode;

use std::net::{IpAddr, SocketAddr};

use isthmus_proxy_core::{
    Action, BaseChain, Chain, ChainType, Flow, FlowEnd, Hook, Match, Plan, Protocol, Rule, RulePlan, TABLE_NAME, TRACK,
    TRACK_MASK,
};
use nlink::Connection;
use nlink::netlink::netfilter::{ConntrackEntry, ConntrackFilter, ConntrackTuple, IpProtocol, TcpConntrackState};
use nlink::netlink::nftables::{ChainInfo, Family, Transaction};
use nlink::netlink::{Netfilter, Nftables};
use thiserror::Error;

/// Why rules could not be put in place.
#[derive(Debug, Error)]
pub enum NftablesError {
    /// No socket to the kernel's packet filter.
    #[error("cannot open a netlink socket to nftables: load the kernel module nf_tables on the node")]
    Open(#[source] nlink::Error),
    /// What is there could not be listed.
    #[error("cannot list the nftables table {TABLE_NAME}: grant NET_ADMIN to the container")]
    List(#[source] nlink::Error),
    /// The rules of a plan cannot be written as a message.
    #[error("cannot encode the rules of the nftables table {TABLE_NAME}")]
    Encode(#[source] nlink::Error),
    /// The kernel refused the transaction, and everything is as before.
    #[error(
        "cannot replace the nftables table {TABLE_NAME}: grant NET_ADMIN to the container, or load the modules nft_nat, \
         nft_masq, nft_ct, nft_numgen, nft_tproxy and nft_reject_inet on the node"
    )]
    Replace(#[source] nlink::Error),
    /// Tracked flows could not be listed or deleted.
    #[error("cannot list or delete tracked flows: load the kernel module nf_conntrack_netlink on the node")]
    Forget(#[source] nlink::Error),
}

/// The table that exists only inside of a transaction.
const PROBE_TABLE: &str = "isthmus-probe";

/// The far ends of a tracked connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrackedEnds {
    /// The address in the packets that the Pod sent.
    pub asked_for: IpAddr,
    /// The address in the packets that came back.
    pub answered_by: IpAddr,
}

/// The packet filter of the network namespace in which this was opened.
pub struct PacketFilter {
    rules: Connection<Nftables>,
    flows: Connection<Netfilter>,
}

impl PacketFilter {
    /// Opens the packet filter of the calling thread's network namespace. Needs a tokio runtime.
    pub fn open() -> Result<Self, NftablesError> {
        Ok(Self {
            rules: Connection::<Nftables>::new().map_err(NftablesError::Open)?,
            flows: Connection::<Netfilter>::new().map_err(NftablesError::Open)?,
        })
    }

    /// Whether the kernel answers questions about tables, which needs NET_ADMIN and nf_tables.
    pub async fn probe(&self) -> Result<(), NftablesError> {
        self.rules
            .list_tables_in(Family::Inet)
            .await
            .map(drop)
            .map_err(NftablesError::List)
    }

    /// Whether the kernel knows the rule that hands packets to the relay. A table with one is made and removed in the same
    /// transaction, so nothing is ever there.
    pub async fn probe_hand_over(&self) -> Result<(), NftablesError> {
        let chain = Chain {
            name: "probe",
            base: Some(BaseChain {
                chain_type: ChainType::Filter,
                hook: Hook::Prerouting,
                priority: 0,
                drops: false,
            }),
            rules: Vec::new(),
        };
        let hand_over = Rule {
            matches: vec![Match::Family { ipv6: false }],
            actions: vec![Action::HandOver { ipv6: false, port: 1 }],
        };
        let rule = encode::rule_of(PROBE_TABLE, chain.name, &hand_over).map_err(NftablesError::Encode)?;
        self.rules
            .transaction()
            .add_table(PROBE_TABLE, Family::Inet)
            .add_chain(encode::chain_of(PROBE_TABLE, &chain).map_err(NftablesError::Encode)?)
            .add_rule(rule)
            .del_table(PROBE_TABLE, Family::Inet)
            .commit(&self.rules)
            .await
            .map_err(NftablesError::Replace)
    }

    /// How connection tracking knows the TCP connection of the own socket at this address. None: it does not.
    pub async fn connection_from(&self, own: SocketAddr) -> Result<Option<TrackedEnds>, NftablesError> {
        let filter = ConntrackFilter::new()
            .proto(IpProtocol::Tcp)
            .orig_src(own.ip())
            .orig_src_port(own.port());
        let entries = self.flows.get_conntrack_matching(&filter).await;
        let entries = entries.map_err(NftablesError::Forget)?;
        let ends = |entry: &ConntrackEntry| {
            Some(TrackedEnds {
                asked_for: entry.orig.dst_ip?,
                answered_by: entry.reply.src_ip?,
            })
        };
        Ok(entries.first().and_then(ends))
    }

    /// Replaces all rules of the proxy, and says whether there were any. On an error everything is as before.
    pub async fn replace(&self, rules: &RulePlan) -> Result<bool, NftablesError> {
        let tables = self
            .rules
            .list_tables_in(Family::Inet)
            .await
            .map_err(NftablesError::List)?;
        let exists = tables.iter().any(|table| table.name == TABLE_NAME);
        let transaction = if exists && self.has_shape_of(rules).await? {
            exchange_contents(self.rules.transaction(), rules)
        } else {
            create(self.rules.transaction(), rules, exists).map_err(NftablesError::Encode)?
        };
        let transaction = fill(transaction, rules).map_err(NftablesError::Encode)?;
        transaction.commit(&self.rules).await.map_err(NftablesError::Replace)?;
        Ok(exists)
    }

    /// Deletes tracked flows of ours that `plan` does not admit, and says how many there were. Their next packet meets
    /// the rules as a first one.
    pub async fn forget_flows_outside(&self, plan: &Plan) -> Result<usize, NftablesError> {
        let mut forgotten = 0;
        let is_outside = |entry: &&ConntrackEntry| flow_of(entry).is_some_and(|flow| !plan.admits(&flow));
        for entry in self.own_flows().await?.iter().filter(is_outside) {
            match self.flows.del_conntrack_entry(entry).await {
                Ok(()) => forgotten += 1,
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(NftablesError::Forget(error)),
            }
        }
        Ok(forgotten)
    }

    /// How many TCP connections that a plan let through are open.
    pub async fn open_connections(&self) -> Result<usize, NftablesError> {
        let is_open = |entry: &&ConntrackEntry| entry.tcp_state == Some(TcpConntrackState::Established);
        Ok(self.own_flows().await?.iter().filter(is_open).count())
    }

    /// The tracked flows that a plan let through.
    async fn own_flows(&self) -> Result<Vec<ConntrackEntry>, NftablesError> {
        let ours = ConntrackFilter::new().mark(TRACK, TRACK_MASK);
        self.flows
            .get_conntrack_matching(&ours)
            .await
            .map_err(NftablesError::Forget)
    }

    async fn has_shape_of(&self, rules: &RulePlan) -> Result<bool, NftablesError> {
        let found = self
            .rules
            .list_chains_in(TABLE_NAME, Family::Inet)
            .await
            .map_err(NftablesError::List)?;
        let sets = self
            .rules
            .list_sets_in(TABLE_NAME, Family::Inet)
            .await
            .map_err(NftablesError::List)?;
        let chains_fit = found.len() == rules.chains.len()
            && rules
                .chains
                .iter()
                .all(|chain| found.iter().any(|info| is_shape_of(info, chain)));
        let sets_fit = sets.len() == rules.sets.len()
            && rules
                .sets
                .iter()
                .all(|set| sets.iter().any(|found| found.name == set.name));
        Ok(chains_fit && sets_fit)
    }
}

fn is_shape_of(info: &ChainInfo, chain: &Chain) -> bool {
    info.name == chain.name
        && info.kind().is_some_and(|kind| match (kind.base(), chain.base) {
            (Some(found), Some(base)) => *found == encode::base_chain(base),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        })
}

/// Empties the chains and drops the sets; both are filled again in the same transaction.
fn exchange_contents(transaction: Transaction, rules: &RulePlan) -> Transaction {
    let emptied = transaction.flush_table(TABLE_NAME, Family::Inet);
    rules
        .sets
        .iter()
        .fold(emptied, |t, set| t.del_set(TABLE_NAME, set.name, Family::Inet))
}

fn create(transaction: Transaction, rules: &RulePlan, exists: bool) -> Result<Transaction, nlink::Error> {
    let cleared = if exists {
        transaction.del_table(TABLE_NAME, Family::Inet)
    } else {
        transaction
    };
    let mut transaction = cleared.add_table(TABLE_NAME, Family::Inet);
    for chain in &rules.chains {
        transaction = transaction.add_chain(encode::chain(chain)?);
    }
    Ok(transaction)
}

fn fill(mut transaction: Transaction, rules: &RulePlan) -> Result<Transaction, nlink::Error> {
    for set in &rules.sets {
        let (set, elements) = encode::port_set(set);
        transaction = transaction.add_set(set.clone());
        if !elements.is_empty() {
            transaction = transaction.add_set_elements(&set, &elements);
        }
    }
    for chain in &rules.chains {
        for rule in &chain.rules {
            transaction = transaction.add_rule(encode::rule(chain.name, rule)?);
        }
    }
    Ok(transaction)
}

/// None for a flow without addresses, which no rule of ours can have marked.
fn flow_of(entry: &ConntrackEntry) -> Option<Flow> {
    let number = match entry.proto {
        IpProtocol::Tcp => 6,
        IpProtocol::Udp => 17,
        IpProtocol::Icmp => 1,
        IpProtocol::Icmpv6 => 58,
        IpProtocol::Other(number) => number,
        _ => return None,
    };
    Some(Flow {
        mark: entry.mark.unwrap_or_default(),
        protocol: Protocol::from_number(number),
        original: flow_end(&entry.orig)?,
        reply: flow_end(&entry.reply)?,
    })
}

fn flow_end(tuple: &ConntrackTuple) -> Option<FlowEnd> {
    let (source, destination): (IpAddr, IpAddr) = (tuple.src_ip?, tuple.dst_ip?);
    Some(FlowEnd {
        source,
        destination,
        destination_port: tuple.dst_port,
    })
}
