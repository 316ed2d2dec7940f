//! ICMP echo requests that a node sends itself, and their replies (RFC 792, RFC 4443 §4).

use std::net::IpAddr;

use crate::filter::protocol;
use crate::own_packet::{body_of, build, checksum, checksum_v6};

/// Bytes of an echo's data.
pub const DATA: usize = 16;

const V4: (u8, u8) = (8, 0);
const V6: (u8, u8) = (128, 129);

/// Type, code, checksum, identifier and sequence number.
const HEADER: usize = 8;

/// An echo request between two addresses of one family; nothing for addresses of two.
pub fn request(from: IpAddr, to: IpAddr, data: [u8; DATA]) -> Option<Vec<u8>> {
    let (kind, protocol) = if from.is_ipv4() {
        (V4.0, protocol::ICMP)
    } else {
        (V6.0, protocol::ICMPV6)
    };
    let mut body = [&[kind, 0, 0, 0, data[0], data[1], 0, 1], &data[..]].concat();
    let sum = if from.is_ipv4() {
        checksum(&[&body])
    } else {
        checksum_v6(from, to, protocol, &body)
    };
    body[2..4].copy_from_slice(&sum.to_be_bytes());
    build(from, to, protocol, &body)
}

/// The data of an echo reply, which is that of its request; nothing for any other packet.
pub fn reply(packet: &[u8]) -> Option<[u8; DATA]> {
    let is_v4 = packet.first()? >> 4 == 4;
    let (kind, protocol) = if is_v4 {
        (V4.1, protocol::ICMP)
    } else {
        (V6.1, protocol::ICMPV6)
    };
    let (_, body) = body_of(packet, protocol)?;
    (body[0] == kind && body.len() == HEADER + DATA).then_some(())?;
    body[HEADER..].try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA_OF_TEST: [u8; DATA] = *b"0123456789abcdef";

    #[test]
    fn reply_has_the_data_of_its_request_and_nothing_else_is_one() {
        for (from, to, kind) in [
            ("100.64.0.1", "100.64.0.2", 0),
            ("fd7a:115c:a1e0::1", "fd7a:115c:a1e0::2", 129),
        ] {
            let (from, to): (IpAddr, IpAddr) = (from.parse().unwrap(), to.parse().unwrap());
            let mut packet = request(from, to, DATA_OF_TEST).unwrap();
            assert_eq!(reply(&packet), None, "a request is no reply");
            let start = packet.len() - HEADER - DATA;
            packet[start] = kind;
            assert_eq!(reply(&packet), Some(DATA_OF_TEST));
            packet.pop();
            assert_eq!(reply(&packet), None, "a part of a packet");
        }
        assert_eq!(reply(&[]), None);
        assert_eq!(
            request("100.64.0.1".parse().unwrap(), "fd7a::1".parse().unwrap(), DATA_OF_TEST),
            None
        );
    }

    #[test]
    fn checksum_of_a_request_adds_up() {
        let (from, to): (IpAddr, IpAddr) = ("fd7a::1".parse().unwrap(), "fd7a::2".parse().unwrap());
        let packet = request(from, to, DATA_OF_TEST).unwrap();
        assert_eq!(checksum_v6(from, to, protocol::ICMPV6, &packet[40..]), 0);
        let packet = request([100, 64, 0, 1].into(), [100, 64, 0, 2].into(), DATA_OF_TEST).unwrap();
        assert_eq!(checksum(&[&packet[20..]]), 0);
    }
}
