//! TSMP: short messages between nodes inside the tunnel, as the Go client's `net/packet` has them. Of them this node speaks the ping.

use std::net::IpAddr;

use crate::filter::{Body, Header, protocol};
use crate::own_packet::{body_of, build};

const PING: u8 = b'p';
const PONG: u8 = b'o';

/// Bytes of a ping's data.
pub const DATA: usize = 8;

/// The packet that answers a TSMP ping; nothing for any other packet. The pong names no peer API.
pub fn answer(packet: &[u8]) -> Option<Vec<u8>> {
    let (header, body) = open(packet)?;
    let data = body.get(1..=DATA).filter(|_| body[0] == PING)?;
    let mut pong = vec![PONG];
    pong.extend_from_slice(data);
    pong.extend([0, 0]);
    build(header.destination, header.source, protocol::TSMP, &pong)
}

/// A TSMP ping between two addresses of one family; nothing for addresses of two.
pub fn ping(from: IpAddr, to: IpAddr, data: [u8; DATA]) -> Option<Vec<u8>> {
    let mut ping = vec![PING];
    ping.extend(data);
    build(from, to, protocol::TSMP, &ping)
}

/// The data of a TSMP pong, which is that of its ping; nothing for any other packet.
pub fn pong(packet: &[u8]) -> Option<[u8; DATA]> {
    let (_, body) = open(packet)?;
    let data = body.get(1..=DATA).filter(|_| body[0] == PONG)?;
    data.try_into().ok()
}

fn open(packet: &[u8]) -> Option<(Header, &[u8])> {
    body_of(packet, protocol::TSMP).filter(|(header, _)| header.body == Body::Opaque)
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
    fn nothing_else_is_answered() {
        let asked = ping("100.64.0.1", "100.64.0.2");
        let pong = answer(&asked).unwrap();
        assert_eq!(answer(&pong), None);
        assert_eq!((super::pong(&pong), super::pong(&asked)), (Some(*b"12345678"), None));
        let mut udp = ping("100.64.0.1", "100.64.0.2");
        udp[9] = protocol::UDP;
        assert_eq!(answer(&udp), None);
        let short = build(
            "100.64.0.1".parse().unwrap(),
            "100.64.0.2".parse().unwrap(),
            protocol::TSMP,
            b"p1234567",
        )
        .unwrap();
        assert_eq!(answer(&short), None);
        assert_eq!(answer(&[]), None);
    }
}
