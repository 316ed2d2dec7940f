//! TSMP: short messages between nodes inside the tunnel, as the Go client's `net/packet` has them. Of them this node speaks the ping.

use std::net::IpAddr;

use crate::filter::{Body, Header, protocol};

const PING: u8 = b'p';
const PONG: u8 = b'o';

/// Bytes of a ping's data.
pub const DATA: usize = 8;

const V4_HEADER: usize = 20;
const V6_HEADER: usize = 40;

/// The packet that answers a TSMP ping; nothing for any other packet. The pong names no peer API.
pub fn answer(packet: &[u8]) -> Option<Vec<u8>> {
    let (header, body) = open(packet)?;
    let data = body.get(1..=DATA).filter(|_| body[0] == PING)?;
    let mut pong = vec![PONG];
    pong.extend_from_slice(data);
    pong.extend([0, 0]);
    ip_packet(header.destination, header.source, &pong)
}

/// A TSMP ping between two addresses of one family; nothing for addresses of two.
pub fn ping(from: IpAddr, to: IpAddr, data: [u8; DATA]) -> Option<Vec<u8>> {
    let mut ping = vec![PING];
    ping.extend(data);
    ip_packet(from, to, &ping)
}

/// The data of a TSMP pong, which is that of its ping; nothing for any other packet.
pub fn pong(packet: &[u8]) -> Option<[u8; DATA]> {
    let (_, body) = open(packet)?;
    let data = body.get(1..=DATA).filter(|_| body[0] == PONG)?;
    data.try_into().ok()
}

fn open(packet: &[u8]) -> Option<(Header, &[u8])> {
    let header = Header::parse(packet).ok()?;
    if header.protocol != protocol::TSMP || header.body != Body::Opaque {
        return None;
    }
    let length = |at: usize| Some(usize::from(u16::from_be_bytes(*packet.get(at..)?.first_chunk()?)));
    let (start, end) = match packet.first()? >> 4 {
        4 => (usize::from(packet[0] & 0x0f) * 4, length(2)?),
        // Behind extension headers nobody sends any.
        _ if packet.get(6) == Some(&protocol::TSMP) => (V6_HEADER, V6_HEADER + length(4)?),
        _ => return None,
    };
    let body = packet.get(start..end).filter(|body| !body.is_empty())?;
    Some((header, body))
}

/// A TSMP packet between two addresses of one family.
fn ip_packet(from: IpAddr, to: IpAddr, body: &[u8]) -> Option<Vec<u8>> {
    let mut packet = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let length = u16::try_from(V4_HEADER + body.len()).ok()?.to_be_bytes();
            let mut header = vec![0x45, 0, length[0], length[1], 0, 0, 0, 0, 64, protocol::TSMP, 0, 0];
            header.extend(from.octets());
            header.extend(to.octets());
            let checksum = checksum(&header).to_be_bytes();
            header[10..12].copy_from_slice(&checksum);
            header
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let length = u16::try_from(body.len()).ok()?.to_be_bytes();
            let mut header = vec![0x60, 0, 0, 0, length[0], length[1], protocol::TSMP, 64];
            header.extend(from.octets());
            header.extend(to.octets());
            header
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return None,
    };
    packet.extend_from_slice(body);
    Some(packet)
}

/// The Internet checksum (RFC 1071) of an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks_exact(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ping(from: &str, to: &str) -> Vec<u8> {
        super::ping(from.parse().unwrap(), to.parse().unwrap(), *b"12345678").unwrap()
    }

    #[test]
    fn ping_is_answered_to_its_sender_with_its_data() {
        for (a, b) in [("100.64.0.1", "100.64.0.2"), ("fd7a:115c:a1e0::1", "fd7a:115c:a1e0::2")] {
            let pong = answer(&ping(a, b)).unwrap();
            let header = Header::parse(&pong).unwrap();
            let ends = (header.source.to_string(), header.destination.to_string());
            assert_eq!(ends, (b.to_owned(), a.to_owned()));
            assert!(pong.ends_with(b"o12345678\0\0"));
        }
    }

    #[test]
    fn header_checksum_adds_up() {
        let packet = ping("100.64.0.1", "100.64.0.2");
        assert_eq!(checksum(&packet[..V4_HEADER]), 0);
    }

    #[test]
    fn nothing_else_is_answered() {
        let asked = ping("100.64.0.1", "100.64.0.2");
        let pong = answer(&asked).unwrap();
        assert_eq!(answer(&pong), None);
        assert_eq!((super::pong(&pong), super::pong(&asked)), (Some(*b"12345678"), None));
        let mut udp = ping("100.64.0.1", "100.64.0.2");
        udp[9] = protocol::UDP;
        assert_eq!(answer(&udp), None);
        let short = ip_packet(
            "100.64.0.1".parse().unwrap(),
            "100.64.0.2".parse().unwrap(),
            b"p1234567",
        )
        .unwrap();
        assert_eq!(answer(&short), None);
        assert_eq!(answer(&[]), None);
    }
}
