//! Wishes by chance.

use proptest::prelude::*;

use super::wish::{Address, Alias, Balancer, Expose, SCTP, Shape, TagWish, Target, Wish};

fn shape() -> impl Strategy<Value = Shape> {
    prop_oneof![
        8 => Just(Shape::Plain),
        1 => Just(Shape::Headless),
        3 => prop_oneof![
            2 => Just(Alias::Name), 2 => Just(Alias::OtherName), 1 => Just(Alias::Label), 1 => Just(Alias::Address)
        ].prop_map(Shape::Alias),
        3 => prop_oneof![
            4 => Just(Balancer::Ours), 1 => Just(Balancer::Other), 1 => Just(Balancer::Without)
        ].prop_map(Shape::Balancer),
    ]
}

fn device() -> impl Strategy<Value = Address> {
    prop_oneof![2 => Just(Address::Steady), 1 => Just(Address::Fickle)]
}

fn target() -> impl Strategy<Value = Target> {
    prop_oneof![
        8 => Just(Target::Nowhere),
        2 => (device(), 0..3_u8).prop_map(|(device, spelling)| Target::Ip(device, spelling)),
        3 => (device(), any::<bool>()).prop_map(|(device, loud)| Target::Fqdn(device, loud)),
        1 => prop_oneof![Just(Target::Both), Just(Target::JunkIp), Just(Target::JunkFqdn)],
    ]
}

fn tags() -> impl Strategy<Value = TagWish> {
    prop_oneof![
        8 => Just(TagWish::Default), 2 => Just(TagWish::Web), 2 => Just(TagWish::Both),
        1 => Just(TagWish::Forbidden), 1 => Just(TagWish::Junk)
    ]
}

/// Every port that a wish may have.
const PORTS: [(bool, u16); 5] = [(true, 80), (true, 8080), (false, 53), (true, 9002), (true, SCTP)];

/// Any wish; most are possible, and most ask for something.
pub(crate) fn wish() -> impl Strategy<Value = Wish> {
    let ports = prop_oneof![
        6 => 1..16_u8,
        1 => 0..32_u8,
    ];
    let expose = prop_oneof![2 => Just(Expose::Absent), 5 => Just(Expose::True), 1 => Just(Expose::False)];
    let hostname = prop_oneof![6 => Just(None), 3 => Just(Some(true)), 1 => Just(Some(false))];
    let class = prop_oneof![3 => Just(None), 1 => any::<bool>().prop_map(Some)];
    let group = prop_oneof![30 => Just(false), 1 => Just(true)];
    let all = (shape(), ports, expose, target(), hostname, tags(), class, group);
    all.prop_map(|(shape, ports, expose, target, hostname, tags, class, group)| {
        let chosen = PORTS.iter().enumerate().filter(|(index, _)| ports >> index & 1 == 1);
        let mut ports: Vec<(bool, u16)> = chosen.map(|(_, port)| *port).collect();
        // The API server wants a port of all others.
        if ports.is_empty() && !matches!(shape, Shape::Headless | Shape::Alias(_)) {
            ports.push(PORTS[0]);
        }
        // Few mean both.
        let expose = if target == Target::Nowhere || group {
            expose
        } else {
            rarely(expose, hostname)
        };
        Wish {
            shape,
            ports,
            expose,
            target,
            hostname,
            tags,
            class,
            group,
        }
    })
}

/// A wish for both directions is impossible, and worth a try only now and then.
fn rarely(expose: Expose, hostname: Option<bool>) -> Expose {
    match (expose, hostname) {
        (Expose::True, None) => Expose::Absent,
        (other, _) => other,
    }
}
