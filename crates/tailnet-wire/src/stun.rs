//! STUN (RFC 8489): how a node learns the address that the world sees. Only the binding request without authentication.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Names one request; random, so that nobody can answer a request that did not reach him.
pub type TransactionId = [u8; 12];

const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const REQUEST: [u8; 2] = [0, 1];
const RESPONSE: [u8; 2] = [1, 1];
const MAPPED_ADDRESS: u16 = 0x0001;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const SOFTWARE: u16 = 0x8022;
const FINGERPRINT: u16 = 0x8028;
const HEADER: usize = 20;

/// What clients of tailnets call themselves; some servers answer nobody else.
const CLIENT: &[u8; 8] = b"tailnode";

/// Whether a datagram looks like STUN.
pub fn is_stun(datagram: &[u8]) -> bool {
    datagram.len() >= HEADER && datagram[0] >> 6 == 0 && datagram[4..8] == COOKIE
}

/// A binding request.
pub fn request(id: TransactionId) -> Vec<u8> {
    let mut message = header(REQUEST, id);
    attribute(&mut message, SOFTWARE, CLIENT);
    finish(&mut message, 8);
    let checksum = crc32(&message) ^ 0x5354_554e;
    attribute(&mut message, FINGERPRINT, &checksum.to_be_bytes());
    message
}

/// The name of a binding request; nothing for any other datagram.
pub fn parse_request(datagram: &[u8]) -> Option<TransactionId> {
    parse(datagram, REQUEST).map(|(id, _)| id)
}

/// The answer to a request that came from `observed`.
pub fn response(id: TransactionId, observed: SocketAddr) -> Vec<u8> {
    let mut message = header(RESPONSE, id);
    let (family, address) = match observed.ip() {
        IpAddr::V4(address) => (1, address.octets().to_vec()),
        IpAddr::V6(address) => (2, address.octets().to_vec()),
    };
    let mut value = vec![0, family];
    value.extend(observed.port().to_be_bytes());
    value.extend(address);
    mask(&mut value, id);
    attribute(&mut message, XOR_MAPPED_ADDRESS, &value);
    finish(&mut message, 0);
    message
}

/// What an answer says: its request, and the address that the server saw.
pub fn parse_response(datagram: &[u8]) -> Option<(TransactionId, SocketAddr)> {
    let (id, mut rest) = parse(datagram, RESPONSE)?;
    let mut plain = None;
    while let Some((&[k0, k1, l0, l1], after)) = rest.split_first_chunk::<4>() {
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let value = after.get(..length)?;
        match u16::from_be_bytes([k0, k1]) {
            XOR_MAPPED_ADDRESS => {
                let mut value = value.to_vec();
                mask(&mut value, id);
                return Some((id, address(&value)?));
            }
            MAPPED_ADDRESS => plain = address(value),
            _ => {}
        }
        rest = after.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    plain.map(|observed| (id, observed))
}

fn header(kind: [u8; 2], id: TransactionId) -> Vec<u8> {
    let mut message = kind.to_vec();
    message.extend([0, 0]);
    message.extend(COOKIE);
    message.extend(id);
    message
}

fn attribute(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
    message.extend(kind.to_be_bytes());
    message.extend(length.to_be_bytes());
    message.extend_from_slice(value);
}

/// Writes the length, with the bytes that are still to come.
fn finish(message: &mut [u8], more: usize) {
    let length = u16::try_from(message.len() - HEADER + more).unwrap_or(u16::MAX);
    message[2..4].copy_from_slice(&length.to_be_bytes());
}

fn parse(datagram: &[u8], kind: [u8; 2]) -> Option<(TransactionId, &[u8])> {
    if !is_stun(datagram) || datagram[..2] != kind {
        return None;
    }
    let length = usize::from(u16::from_be_bytes([datagram[2], datagram[3]]));
    let attributes = datagram.get(HEADER..HEADER + length)?;
    Some((*datagram[8..HEADER].first_chunk()?, attributes))
}

/// Covers or uncovers an address: routers rewrite addresses that they recognise in a packet.
fn mask(value: &mut [u8], id: TransactionId) {
    let key: Vec<u8> = COOKIE.iter().chain(&id).copied().collect();
    if let Some(port) = value.get_mut(2..4) {
        port.iter_mut().zip(&key).for_each(|(byte, key)| *byte ^= key);
    }
    value.iter_mut().skip(4).zip(&key).for_each(|(byte, key)| *byte ^= key);
}

fn address(value: &[u8]) -> Option<SocketAddr> {
    let port = u16::from_be_bytes(*value.get(2..)?.first_chunk()?);
    let bytes = value.get(4..)?;
    let ip: IpAddr = match value.get(1)? {
        1 => Ipv4Addr::from(*bytes.first_chunk::<4>()?).into(),
        2 => Ipv6Addr::from(*bytes.first_chunk::<16>()?).into(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// The CRC-32 of Ethernet.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn answer_tells_the_address_of_either_family() {
        for observed in ["192.0.2.1:41641", "[2001:db8::1]:7"] {
            let observed: SocketAddr = observed.parse().unwrap();
            assert_eq!(parse_response(&response([7; 12], observed)), Some(([7; 12], observed)));
        }
    }

    #[test]
    fn request_is_recognised_and_no_answer() {
        let request = request([7; 12]);
        assert!(is_stun(&request));
        assert_eq!(parse_request(&request), Some([7; 12]));
        assert_eq!(parse_response(&request), None);
        assert_eq!(parse_request(&response([7; 12], "192.0.2.1:1".parse().unwrap())), None);
    }

    #[test]
    fn response_of_rfc_5769_is_understood() {
        let message = hex::decode(concat!(
            "0101003c2112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000080001a147e112a643",
            "000800142b91f599fd9e90c38c7489f92af9ba53f06be7d780280004c07d4c96"
        ))
        .unwrap();
        let (_, observed) = parse_response(&message).unwrap();
        assert_eq!(observed.to_string(), "192.0.2.1:32853");
    }

    #[test]
    fn checksum_is_that_of_ethernet() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut message = response([1; 12], "192.0.2.1:1".parse().unwrap());
            message.splice(20.., bytes.iter().copied());
            let _ = (parse_response(&message), parse_request(&bytes), parse_response(&bytes));
        }
    }
}
