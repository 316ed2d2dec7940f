//! Writes the parts of a rule plan as nlink's types.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use isthmus_proxy_core::{
    Action, BaseChain, Chain, ChainType, Direction, Hook, Match, PortSet, Protocol, Rule, TABLE_NAME,
};
use nlink::netlink::nftables::{
    self as nft, CmpOp, CtDirection, CtState, CtStatus, Expr, Family, Field, FilterHook, IcmpxCode, Item, LookupExpr,
    Match as NftMatch, MetaKey, NatHook, NatStatement, NumgenKind, PayloadBase, Policy, Priority, Register, Reject,
    SetElement, SetKeyType, Stmt, TcpFlags, Value, Verdict,
};

const IPV4: u8 = 2;
const IPV6: u8 = 10;
const ECHO_REQUEST_V4: u8 = 8;
const ECHO_REQUEST_V6: u8 = 128;

pub(super) fn base_chain(base: BaseChain) -> nft::BaseChain {
    let priority = Priority::Custom(base.priority);
    let chain = match (base.chain_type, base.hook) {
        (ChainType::Nat, hook) => nft::BaseChain::nat(nat_hook(hook), priority),
        (ChainType::Filter, hook) => nft::BaseChain::filter(filter_hook(hook), priority),
        (ChainType::Route, _) => nft::BaseChain::route(priority),
    };
    chain.policy(if base.drops { Policy::Drop } else { Policy::Accept })
}

fn nat_hook(hook: Hook) -> NatHook {
    match hook {
        Hook::Prerouting => NatHook::Prerouting,
        Hook::Input => NatHook::Input,
        // The kernel has no translation in the forward hook; its nearest neighbour is behind it.
        Hook::Forward | Hook::Postrouting => NatHook::Postrouting,
        Hook::Output => NatHook::Output,
    }
}

fn filter_hook(hook: Hook) -> FilterHook {
    match hook {
        Hook::Prerouting => FilterHook::Prerouting,
        Hook::Input => FilterHook::Input,
        Hook::Forward => FilterHook::Forward,
        Hook::Output => FilterHook::Output,
        Hook::Postrouting => FilterHook::Postrouting,
    }
}

pub(super) fn chain(chain: &Chain) -> Result<nft::Chain, nlink::Error> {
    chain_of(TABLE_NAME, chain)
}

pub(super) fn chain_of(table: &str, chain: &Chain) -> Result<nft::Chain, nlink::Error> {
    let built = nft::Chain::new(table, chain.name)?.family(Family::Inet);
    Ok(match chain.base {
        Some(base) => built.base(base_chain(base)),
        None => built,
    })
}

pub(super) fn port_set(set: &PortSet) -> (nft::Set, Vec<SetElement>) {
    let encoded = nft::Set::new(TABLE_NAME, set.name)
        .family(Family::Inet)
        .key_type(SetKeyType::Concat(vec![SetKeyType::InetProto, SetKeyType::InetService]));
    let element = |(protocol, port): &(Protocol, u16)| {
        SetElement::concat([SetElement::inet_proto(protocol.number()), SetElement::port(*port)])
    };
    (encoded, set.elements.iter().map(element).collect())
}

pub(super) fn rule(chain: &str, rule: &Rule) -> Result<nft::Rule, nlink::Error> {
    rule_of(TABLE_NAME, chain, rule)
}

pub(super) fn rule_of(table: &str, chain: &str, rule: &Rule) -> Result<nft::Rule, nlink::Error> {
    let matches = rule.matches.iter().flat_map(matching);
    let mut built = nft::Rule::new(table, chain).family(Family::Inet);
    for item in matches {
        built = built.then(item);
    }
    for action in &rule.actions {
        built = built.then(acting(action)?);
    }
    Ok(built)
}

fn matching(condition: &Match) -> Vec<Item> {
    let one = match condition {
        Match::From(device) => NftMatch::eq(Field::Iifname, device.as_str()),
        Match::NotFrom(device) => NftMatch::ne(Field::Iifname, device.as_str()),
        Match::To(device) => NftMatch::eq(Field::Oifname, device.as_str()),
        Match::NotTo(device) => NftMatch::ne(Field::Oifname, device.as_str()),
        Match::Source(IpAddr::V4(v4)) => NftMatch::eq(Field::Ip4Saddr, *v4),
        Match::Source(IpAddr::V6(v6)) => NftMatch::eq(Field::Ip6Saddr, *v6),
        Match::Destination(IpAddr::V4(v4)) => NftMatch::eq(Field::Ip4Daddr, *v4),
        Match::Destination(IpAddr::V6(v6)) => NftMatch::eq(Field::Ip6Daddr, *v6),
        Match::Port(protocol, port) => return matching_port(*protocol, *port),
        Match::PortIn(set) => return matching_port_in(set),
        Match::OneIn(count) => return matching_chance(*count),
        Match::IpProtocol(number) => NftMatch::eq(Field::L4Proto, *number),
        Match::NotIpProtocol(number) => NftMatch::ne(Field::L4Proto, *number),
        Match::Family { ipv6 } => NftMatch::eq(Field::NfProto, if *ipv6 { IPV6 } else { IPV4 }),
        Match::OpensTcp => tcp_flags(TcpFlags::FIN | TcpFlags::SYN | TcpFlags::RST | TcpFlags::ACK),
        Match::TcpSyn => tcp_flags(TcpFlags::SYN | TcpFlags::RST),
        Match::EchoRequest { ipv6: false } => NftMatch::eq(Field::IcmpType, ECHO_REQUEST_V4),
        Match::EchoRequest { ipv6: true } => NftMatch::eq(Field::Icmp6Type, ECHO_REQUEST_V6),
        Match::New => NftMatch::eq(Field::CtState, CtState::NEW),
        Match::Known => NftMatch::eq(Field::CtState, CtState::ESTABLISHED | CtState::RELATED),
        Match::Direction(Direction::Original) => NftMatch::eq(Field::CtDirection, CtDirection::Original),
        Match::Direction(Direction::Reply) => NftMatch::eq(Field::CtDirection, CtDirection::Reply),
        Match::Translated => NftMatch::eq(Field::CtStatus, CtStatus::DST_NAT),
        Match::Track(mark) => NftMatch::eq(Field::CtMark, *mark),
    };
    vec![one.into()]
}

/// Of the flags under `mask`, SYN alone.
fn tcp_flags(mask: TcpFlags) -> NftMatch {
    let value = Value::Masked {
        value: TcpFlags::SYN.bits().into(),
        mask: mask.bits().into(),
    };
    NftMatch::eq(Field::TcpFlags, value)
}

/// nlink has no field for SCTP ports, so all three read the two bytes where every transport keeps its destination port.
fn matching_port(protocol: Protocol, port: u16) -> Vec<Item> {
    let compare = Expr::Cmp {
        sreg: Register::R0,
        op: CmpOp::Eq,
        data: port.to_be_bytes().to_vec(),
    };
    vec![
        NftMatch::eq(Field::L4Proto, protocol.number()).into(),
        load_port(Register::R0).into(),
        compare.into(),
    ]
}

/// Transport and port, in registers that follow each other, are in the set.
fn matching_port_in(set: &str) -> Vec<Item> {
    vec![
        Expr::Meta {
            dreg: Register::R0,
            key: MetaKey::L4Proto,
        }
        .into(),
        load_port(Register::Reg32_01).into(),
        Expr::from(LookupExpr::new(set, Register::R0)).into(),
    ]
}

fn matching_chance(count: u32) -> Vec<Item> {
    let draw = Expr::Numgen {
        dreg: Register::R0,
        kind: NumgenKind::Random,
        modulus: count,
        offset: 0,
    };
    let compare = Expr::Cmp {
        sreg: Register::R0,
        op: CmpOp::Eq,
        data: 0_u32.to_ne_bytes().to_vec(),
    };
    vec![draw.into(), compare.into()]
}

fn load_port(register: Register) -> Expr {
    Expr::Payload {
        dreg: register,
        base: PayloadBase::Transport,
        offset: 2,
        len: 2,
    }
}

fn acting(action: &Action) -> Result<Item, nlink::Error> {
    Ok(match action {
        Action::Mark(mark) => Stmt::SetMark(*mark).into(),
        Action::Track(mark) => Stmt::SetCtMark(*mark).into(),
        Action::HandOver { ipv6, port } => {
            let loopback = if *ipv6 {
                IpAddr::V6(Ipv6Addr::LOCALHOST)
            } else {
                IpAddr::V4(Ipv4Addr::LOCALHOST)
            };
            Stmt::Tproxy {
                family: Family::Inet,
                addr: Some(loopback),
                port: Some(*port),
            }
            .into()
        }
        Action::TranslateTo(address) => Stmt::Nat(NatStatement::dnat(*address)).into(),
        Action::TranslateFrom(address) => Stmt::Nat(NatStatement::snat(*address)).into(),
        Action::Masquerade => Stmt::Masquerade.into(),
        Action::ClampSegment(bytes) => Stmt::ClampTcpMss(*bytes).into(),
        Action::Jump(chain) => Verdict::JumpTo(nft::ChainName::new(*chain)?).into(),
        Action::Accept => Verdict::Accept.into(),
        Action::Drop => Verdict::Drop.into(),
        Action::Reset => Stmt::Reject(Reject::TcpReset).into(),
        Action::RefusePort => Stmt::Reject(Reject::Icmpx(IcmpxCode::PortUnreachable)).into(),
    })
}
