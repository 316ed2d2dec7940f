//! Packets that a node itself sends through the tunnel, and reads out of it.

use std::net::IpAddr;

use crate::filter::Header;

const V4_HEADER: usize = 20;
const V6_HEADER: usize = 40;

/// A packet of a protocol between two addresses of one family; nothing for addresses of two.
pub(crate) fn build(from: IpAddr, to: IpAddr, protocol: u8, body: &[u8]) -> Option<Vec<u8>> {
    let mut packet = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let length = u16::try_from(V4_HEADER + body.len()).ok()?.to_be_bytes();
            let mut header = vec![0x45, 0, length[0], length[1], 0, 0, 0, 0, 64, protocol, 0, 0];
            header.extend(from.octets());
            header.extend(to.octets());
            let checksum = checksum(&[&header]).to_be_bytes();
            header[10..12].copy_from_slice(&checksum);
            header
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let length = u16::try_from(body.len()).ok()?.to_be_bytes();
            let mut header = vec![0x60, 0, 0, 0, length[0], length[1], protocol, 64];
            header.extend(from.octets());
            header.extend(to.octets());
            header
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return None,
    };
    packet.extend_from_slice(body);
    Some(packet)
}

/// The body of a whole packet of a protocol, if that follows the IP header at once.
pub(crate) fn body_of(packet: &[u8], protocol: u8) -> Option<(Header, &[u8])> {
    let header = Header::parse(packet)
        .ok()
        .filter(|header| header.protocol == protocol)?;
    let length = |at: usize| Some(usize::from(u16::from_be_bytes(*packet.get(at..)?.first_chunk()?)));
    let (start, end) = match packet.first()? >> 4 {
        4 => (usize::from(packet[0] & 0x0f) * 4, length(2)?),
        // Behind extension headers nobody sends any.
        _ if packet.get(6) == Some(&protocol) => (V6_HEADER, V6_HEADER + length(4)?),
        _ => return None,
    };
    let body = packet.get(start..end).filter(|body| !body.is_empty())?;
    Some((header, body))
}

/// The Internet checksum (RFC 1071) of parts that have even numbers of bytes, but for the last.
pub(crate) fn checksum(parts: &[&[u8]]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u32::from);
    let mut sum: u32 = parts.iter().flat_map(|part| part.chunks(2)).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

/// The checksum of an `ICMPv6` message, whose pseudo header is part of it (RFC 8200 §8.1).
pub(crate) fn checksum_v6(from: IpAddr, to: IpAddr, protocol: u8, body: &[u8]) -> u16 {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes();
    let octets = |address: IpAddr| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    checksum(&[&octets(from), &octets(to), &length, &[0, 0, 0, protocol], body])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::protocol;

    #[test]
    fn header_checksum_adds_up() {
        let (from, to) = ("100.64.0.1".parse().unwrap(), "100.64.0.2".parse().unwrap());
        let packet = build(from, to, protocol::UDP, b"12345678").unwrap();
        assert_eq!(checksum(&[&packet[..V4_HEADER]]), 0);
    }

    #[test]
    fn odd_byte_at_the_end_counts_as_a_high_byte() {
        assert_eq!(checksum(&[&[1, 2, 3]]), checksum(&[&[1, 2], &[3, 0]]));
        assert_eq!(checksum(&[&[0xff, 0xff, 0x00, 0x01]]), !1);
    }
}
