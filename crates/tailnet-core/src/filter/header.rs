//! Reads what the filter needs from the front of an IP packet. Never panics, never allocates, looks at no more than a bounded number of
//! headers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IP protocol numbers the filter treats specially (IANA registry).
pub mod protocol {
    /// ICMP for IPv4.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
    /// Tailscale message protocol: short control messages between nodes, carried inside the tunnel.
    pub const TSMP: u8 = 99;
    /// SCTP.
    pub const SCTP: u8 = 132;
}

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

/// More IPv6 extension headers than any honest packet carries (RFC 8200 §4.1 lists at most five kinds besides the security ones).
const MAX_EXTENSIONS: usize = 8;

/// A later fragment that starts before this offset, in bytes, could overwrite the transport header that was judged: the largest IPv4
/// header (60) and the fixed part of a TCP header (20), as the Go client has it.
const MIN_LATER_FRAGMENT_OFFSET: usize = 80;

/// The part of a packet that verdicts depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// IP protocol number after all IPv6 extension headers.
    pub protocol: u8,
    /// What follows the IP header.
    pub body: Body,
}

/// What follows the IP header, as far as verdicts depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// A TCP segment.
    Tcp {
        /// Source port.
        source_port: u16,
        /// Destination port.
        destination_port: u16,
        /// SYN is set and ACK is not: the segment opens a connection.
        opens: bool,
    },
    /// UDP or SCTP.
    Datagram {
        /// Source port.
        source_port: u16,
        /// Destination port.
        destination_port: u16,
    },
    /// An ICMP message that answers something: an echo reply or an error.
    IcmpAnswer,
    /// Any other ICMP message, echo requests first of all.
    IcmpRequest,
    /// A fragment other than the first: it carries no transport header.
    LaterFragment,
    /// A protocol without ports that the filter knows nothing more about.
    Opaque,
}

/// Why a packet cannot be judged. Such packets are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The buffer ends inside a header, or the length in the header is larger than the buffer.
    #[error("packet ends inside its headers")]
    Truncated,
    /// The version is neither 4 nor 6, or a header length is impossible.
    #[error("packet is not valid IP")]
    NotIp,
    /// A later fragment reaches back into the transport header.
    #[error("fragment overlaps the transport header")]
    OverlappingFragment,
    /// More IPv6 extension headers than the filter reads.
    #[error("packet has too many extension headers")]
    TooManyExtensions,
}

impl Header {
    /// Reads the header of the IP packet in `packet`. Bytes after the packet's own length (padding) are ignored.
    ///
    /// # Errors
    /// [`HeaderError`] when the packet cannot be judged.
    pub fn parse(packet: &[u8]) -> Result<Self, HeaderError> {
        match packet.first().ok_or(HeaderError::Truncated)? >> 4 {
            4 => Self::parse_v4(packet),
            6 => Self::parse_v6(packet),
            _ => Err(HeaderError::NotIp),
        }
    }

    fn parse_v4(packet: &[u8]) -> Result<Self, HeaderError> {
        let fixed: &[u8; 20] = packet.first_chunk().ok_or(HeaderError::Truncated)?;
        let header_length = usize::from(fixed[0] & 0x0f) * 4;
        let total_length = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
        if header_length < 20 || total_length < header_length {
            return Err(HeaderError::NotIp);
        }
        let payload = packet.get(header_length..total_length).ok_or(HeaderError::Truncated)?;
        let fragment = u16::from_be_bytes([fixed[6], fixed[7]]);
        let offset = usize::from(fragment & 0x1fff) * 8;
        let protocol = fixed[9];
        Ok(Self {
            source: IpAddr::V4(Ipv4Addr::new(fixed[12], fixed[13], fixed[14], fixed[15])),
            destination: IpAddr::V4(Ipv4Addr::new(fixed[16], fixed[17], fixed[18], fixed[19])),
            protocol,
            body: Body::parse(protocol, payload, offset)?,
        })
    }

    fn parse_v6(packet: &[u8]) -> Result<Self, HeaderError> {
        let fixed: &[u8; 40] = packet.first_chunk().ok_or(HeaderError::Truncated)?;
        let payload_length = usize::from(u16::from_be_bytes([fixed[4], fixed[5]]));
        let payload = packet.get(40..40 + payload_length).ok_or(HeaderError::Truncated)?;
        let (protocol, rest, offset) = skip_extensions(fixed[6], payload)?;
        Ok(Self {
            source: IpAddr::V6(address_v6(fixed, 8)),
            destination: IpAddr::V6(address_v6(fixed, 24)),
            protocol,
            body: Body::parse(protocol, rest, offset)?,
        })
    }
}

impl Body {
    fn parse(protocol: u8, payload: &[u8], fragment_offset: usize) -> Result<Self, HeaderError> {
        if fragment_offset != 0 {
            if fragment_offset < MIN_LATER_FRAGMENT_OFFSET {
                return Err(HeaderError::OverlappingFragment);
            }
            return Ok(Self::LaterFragment);
        }
        match protocol {
            protocol::TCP => {
                let tcp: &[u8; 20] = payload.first_chunk().ok_or(HeaderError::Truncated)?;
                let (source_port, destination_port) = ports(tcp[0], tcp[1], tcp[2], tcp[3]);
                let (syn, ack) = (tcp[13] & 0x02 != 0, tcp[13] & 0x10 != 0);
                Ok(Self::Tcp {
                    source_port,
                    destination_port,
                    opens: syn && !ack,
                })
            }
            protocol::UDP | protocol::SCTP => {
                let start: &[u8; 8] = payload.first_chunk().ok_or(HeaderError::Truncated)?;
                let (source_port, destination_port) = ports(start[0], start[1], start[2], start[3]);
                Ok(Self::Datagram {
                    source_port,
                    destination_port,
                })
            }
            protocol::ICMP => Ok(icmp(payload, &[0, 3, 11, 12])?),
            protocol::ICMPV6 => Ok(icmp(payload, &[1, 2, 3, 4, 129])?),
            _ => Ok(Self::Opaque),
        }
    }
}

/// Sorts an ICMP message by its type; `answers` are the types of errors and of the echo reply.
fn icmp(payload: &[u8], answers: &[u8]) -> Result<Body, HeaderError> {
    let start: &[u8; 8] = payload.first_chunk().ok_or(HeaderError::Truncated)?;
    Ok(if answers.contains(&start[0]) {
        Body::IcmpAnswer
    } else {
        Body::IcmpRequest
    })
}

/// Walks the extension headers; gives the transport protocol, what follows, and the fragment offset in bytes.
fn skip_extensions(first: u8, payload: &[u8]) -> Result<(u8, &[u8], usize), HeaderError> {
    let (mut next, mut rest) = (first, payload);
    for _ in 0..=MAX_EXTENSIONS {
        if !matches!(next, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS) {
            return Ok((next, rest, 0));
        }
        let start: &[u8; 8] = rest.first_chunk().ok_or(HeaderError::Truncated)?;
        let length = if next == FRAGMENT {
            8
        } else {
            (usize::from(start[1]) + 1) * 8
        };
        let offset = usize::from(u16::from_be_bytes([start[2], start[3]]) & 0xfff8);
        let was_fragment = next == FRAGMENT;
        next = start[0];
        rest = rest.get(length..).ok_or(HeaderError::Truncated)?;
        if was_fragment && offset != 0 {
            return Ok((next, rest, offset));
        }
    }
    Err(HeaderError::TooManyExtensions)
}

fn ports(a: u8, b: u8, c: u8, d: u8) -> (u16, u16) {
    (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
}

fn address_v6(fixed: &[u8; 40], at: usize) -> Ipv6Addr {
    let mut octets = [0; 16];
    octets.copy_from_slice(&fixed[at..at + 16]);
    Ipv6Addr::from(octets)
}

#[cfg(test)]
mod tests;
