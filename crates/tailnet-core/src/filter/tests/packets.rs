//! Builds packets from a description, so that the model judges the description and the filter the bytes.

use std::net::IpAddr;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    TcpOpen,
    TcpAnswer,
    TcpLater,
    Udp,
    Sctp,
    EchoRequest,
    EchoReply,
    Unreachable,
    Other(u8),
}

/// Fragment offsets are in units of eight bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fragment {
    None,
    First,
    Later(u16),
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct PacketSpec {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) kind: Kind,
    pub(crate) source_port: u16,
    pub(crate) destination_port: u16,
    pub(crate) fragment: Fragment,
}

impl PacketSpec {
    pub(crate) fn protocol(&self) -> u8 {
        match self.kind {
            Kind::TcpOpen | Kind::TcpAnswer | Kind::TcpLater => 6,
            Kind::Udp => 17,
            Kind::Sctp => 132,
            Kind::EchoRequest | Kind::EchoReply | Kind::Unreachable => {
                if self.source.is_ipv4() {
                    1
                } else {
                    58
                }
            }
            Kind::Other(protocol) => protocol,
        }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let payload = self.payload();
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let mut bytes = vec![0x45, 0];
                bytes.extend(u16::try_from(20 + payload.len()).expect("short").to_be_bytes());
                bytes.extend([0, 0]);
                let fragment: u16 = match self.fragment {
                    Fragment::None => 0,
                    Fragment::First => 0x2000,
                    Fragment::Later(offset) => offset,
                };
                bytes.extend(fragment.to_be_bytes());
                bytes.extend([64, self.protocol(), 0, 0]);
                bytes.extend(source.octets());
                bytes.extend(destination.octets());
                bytes.extend(payload);
                bytes
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let mut body = Vec::new();
                let mut next = self.protocol();
                if self.fragment != Fragment::None {
                    let field: u16 = match self.fragment {
                        Fragment::Later(offset) => offset << 3,
                        Fragment::None | Fragment::First => 1,
                    };
                    body.extend([next, 0]);
                    body.extend(field.to_be_bytes());
                    body.extend([0, 0, 0, 1]);
                    next = 44;
                }
                body.extend(payload);
                let mut bytes = vec![0x60, 0, 0, 0];
                bytes.extend(u16::try_from(body.len()).expect("short").to_be_bytes());
                bytes.extend([next, 64]);
                bytes.extend(source.octets());
                bytes.extend(destination.octets());
                bytes.extend(body);
                bytes
            }
            _ => panic!("a packet has one family"),
        }
    }

    fn payload(&self) -> Vec<u8> {
        let mut payload = vec![0; 24];
        payload[..2].copy_from_slice(&self.source_port.to_be_bytes());
        payload[2..4].copy_from_slice(&self.destination_port.to_be_bytes());
        let v4 = self.source.is_ipv4();
        match self.kind {
            Kind::TcpOpen => payload[13] = 0x02,
            Kind::TcpAnswer => payload[13] = 0x12,
            Kind::TcpLater => payload[13] = 0x10,
            Kind::EchoRequest => payload[0] = if v4 { 8 } else { 128 },
            Kind::EchoReply => payload[0] = if v4 { 0 } else { 129 },
            Kind::Unreachable => payload[0] = if v4 { 3 } else { 1 },
            Kind::Udp | Kind::Sctp | Kind::Other(_) => {}
        }
        payload
    }
}
