//! Writes the parts of a rule plan as nlink's types.

use std::net::{IpAddr, SocketAddr};

use isthmus_proxy_core::{
    Action, BaseChain, Chain, ChainType, Direction, Element, Hook, Map, Match, Protocol, Rule, TABLE_NAME,
};
use nlink::netlink::nftables::{
    self as nft, CmpOp, CtDirection, CtKey, CtState, CtStatus, Expr, Family, Field, FilterHook, IcmpxCode, Item,
    LookupExpr, Match as NftMatch, MetaKey, NatHook, NatStatement, PayloadBase, Policy, Priority, RawExpr, Register,
    Reject, SetDataType, SetElement, SetKeyType, Stmt, TcpFlags, Value, Verdict,
};

const IPV4: u8 = 2;
const IPV6: u8 = 10;
const ECHO_REQUEST_V4: u8 = 8;
const ECHO_REQUEST_V6: u8 = 128;

/// The fields of `nft_nat`, from the kernel's `linux/netfilter/nf_tables.h`: type (1 is dnat), family, and the
/// registers of the first and last address and port.
const NAT_DNAT: u32 = 1;
const NAT_TYPE: u16 = 1;
const NAT_FAMILY: u16 = 2;
const NAT_ADDRESS_MIN: u16 = 3;
const NAT_ADDRESS_MAX: u16 = 4;
const NAT_PORT_MIN: u16 = 5;
const NAT_PORT_MAX: u16 = 6;
const NAT_FLAGS: u16 = 7;
/// `NF_NAT_RANGE_MAP_IPS | NF_NAT_RANGE_PROTO_SPECIFIED`.
const NAT_ADDRESS_AND_PORT: u32 = 3;

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
    let built = nft::Chain::new(TABLE_NAME, chain.name)?.family(Family::Inet);
    Ok(match chain.base {
        Some(base) => built.base(base_chain(base)),
        None => built,
    })
}

pub(super) fn map(map: &Map) -> (nft::Set, Vec<SetElement>) {
    let address = if map.ipv6 {
        SetKeyType::Ipv6Addr
    } else {
        SetKeyType::Ipv4Addr
    };
    let set = nft::Set::new(TABLE_NAME, map.name)
        .family(Family::Inet)
        .key_type(SetKeyType::Concat(vec![SetKeyType::InetProto, SetKeyType::InetService]))
        .map(SetDataType::Value(SetKeyType::Concat(vec![
            address,
            SetKeyType::InetService,
        ])));
    (set, map.elements.iter().map(element).collect())
}

fn element(element: &Element) -> SetElement {
    let (protocol, port) = element.key;
    SetElement::concat([SetElement::inet_proto(protocol.number()), SetElement::port(port)]).value(target(element.value))
}

fn target(target: SocketAddr) -> SetElement {
    let address = match target.ip() {
        IpAddr::V4(v4) => SetElement::ipv4(v4),
        IpAddr::V6(v6) => SetElement::ipv6(v6),
    };
    SetElement::concat([address, SetElement::port(target.port())])
}

pub(super) fn rule(chain: &str, rule: &Rule) -> Result<nft::Rule, nlink::Error> {
    let matches = rule.matches.iter().flat_map(matching);
    let mut built = nft::Rule::new(TABLE_NAME, chain).family(Family::Inet);
    for item in matches {
        built = built.then(item);
    }
    for action in &rule.actions {
        for item in acting(action)? {
            built = built.then(item);
        }
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

fn load_port(register: Register) -> Expr {
    Expr::Payload {
        dreg: register,
        base: PayloadBase::Transport,
        offset: 2,
        len: 2,
    }
}

fn acting(action: &Action) -> Result<Vec<Item>, nlink::Error> {
    let one: Item = match action {
        Action::Mark(mark) => Stmt::SetMark(*mark).into(),
        Action::Track(mark) => Stmt::SetCtMark(*mark).into(),
        Action::TranslateTo(address) => Stmt::Nat(NatStatement::dnat(*address)).into(),
        Action::TranslateByMap { map, ipv6, track } => return Ok(translating_by_map(map, *ipv6, *track)),
        Action::TranslateFrom(address) => Stmt::Nat(NatStatement::snat(*address)).into(),
        Action::Masquerade => Stmt::Masquerade.into(),
        Action::ClampSegment(bytes) => Stmt::ClampTcpMss(*bytes).into(),
        Action::Jump(chain) => Verdict::JumpTo(nft::ChainName::new(*chain)?).into(),
        Action::Accept => Verdict::Accept.into(),
        Action::Drop => Verdict::Drop.into(),
        Action::Reset => Stmt::Reject(Reject::TcpReset).into(),
        Action::RefusePort => Stmt::Reject(Reject::Icmpx(IcmpxCode::PortUnreachable)).into(),
    };
    Ok(vec![one])
}

/// `dnat to meta l4proto . th dport map @map`, with the flow's mark set between the lookup and the translation: a packet
/// without an element leaves the rule at the lookup. The mark goes through a register behind the looked up value.
fn translating_by_map(map: &str, ipv6: bool, track: u32) -> Vec<Item> {
    let (address, port) = if ipv6 {
        (Register::R0, Register::R1)
    } else {
        (Register::R0, Register::Reg32_01)
    };
    vec![
        Expr::Meta {
            dreg: Register::R0,
            key: MetaKey::L4Proto,
        }
        .into(),
        load_port(Register::Reg32_01).into(),
        Expr::from(LookupExpr::new(map, Register::R0).dreg(Register::R0)).into(),
        Expr::Immediate {
            dreg: Register::R3,
            data: track.to_ne_bytes().to_vec(),
        }
        .into(),
        Expr::CtSet {
            key: CtKey::Mark,
            sreg: Register::R3,
        }
        .into(),
        Expr::from(RawExpr::new("nat", dnat_by_registers(ipv6, address, port))).into(),
    ]
}

/// nlink's own type for a translation by registers cannot be built outside of it.
fn dnat_by_registers(ipv6: bool, address: Register, port: Register) -> Vec<u8> {
    let family = u32::from(if ipv6 { IPV6 } else { IPV4 });
    [
        (NAT_TYPE, NAT_DNAT),
        (NAT_FAMILY, family),
        (NAT_ADDRESS_MIN, address.wire()),
        (NAT_ADDRESS_MAX, address.wire()),
        (NAT_PORT_MIN, port.wire()),
        (NAT_PORT_MAX, port.wire()),
        (NAT_FLAGS, NAT_ADDRESS_AND_PORT),
    ]
    .into_iter()
    .flat_map(|(kind, value)| attribute(kind, value))
    .collect()
}

/// A netlink attribute of eight bytes: length and type in host order, the value in network order.
fn attribute(kind: u16, value: u32) -> [u8; 8] {
    const LENGTH: u16 = 8;
    let [l0, l1] = LENGTH.to_ne_bytes();
    let [k0, k1] = kind.to_ne_bytes();
    let [v0, v1, v2, v3] = value.to_be_bytes();
    [l0, l1, k0, k1, v0, v1, v2, v3]
}
