//! Joins neighbouring packets of one flow into the super-packets that a TUN device takes, without moving their payload: the
//! headers are made anew, and the kernel gathers the rest from where it lies.
//!
//! The transport checksums of joined packets are not looked at: their sender's tag has proved that they are what it sent, and
//! the kernel's own WireGuard takes them for right as well (`wg_packet_consume_data_done` of Linux).

use isthmus_tailnet_core::filter::protocol;
use isthmus_tailnet_core::packet_io::SegmentProtocol;
use tun_rs::{VIRTIO_NET_HDR_LEN, VirtioNetHdr};

use crate::virtio;

/// Segments of one super-packet at most: what kernels of all ages cut a UDP super-packet into.
const MAX_SEGMENTS: usize = 64;

/// Bytes of the longest headers that are joined: IPv6 without extensions, and TCP with all options.
const MAX_HEADERS: usize = 40 + 60;

/// TCP flags (RFC 9293, section 3.1).
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;

/// Which packets may be joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Joinable {
    pub(crate) tcp: bool,
    pub(crate) udp: bool,
}

/// A super-packet: its headers, and how many packets it is made of.
#[derive(Debug)]
pub(crate) struct Joined {
    head: [u8; VIRTIO_NET_HDR_LEN + MAX_HEADERS],
    header_length: usize,
    /// Packets that were joined, at least two.
    pub(crate) packets: usize,
}

impl Joined {
    /// Joins the first of `packets` with as many of the next ones as continue it; nothing when it stands alone.
    pub(crate) fn first_of(packets: &[&[u8]], joinable: Joinable) -> Option<Self> {
        let first = Segment::of(packets.first()?, joinable)?;
        let (mut bytes, mut last, mut count) = (first.packet.len(), first, 1);
        let mut grows = !first.is_pushed();
        while let Some(packet) = packets.get(count).filter(|_| grows && count < MAX_SEGMENTS) {
            let next = Segment::of(packet, joinable).filter(|next| next.continues(&first, count));
            let fits = |next: &Segment| u16::try_from(bytes + next.payload().len()).is_ok();
            let Some(next) = next.filter(fits) else { break };
            bytes += next.payload().len();
            count += 1;
            grows = next.payload().len() == first.payload().len() && !next.is_pushed();
            last = next;
        }
        (count > 1).then(|| Self::of(&first, &last, u16::try_from(bytes).unwrap_or(u16::MAX), count))
    }

    /// The header for the device and those of the super-packet. The packets' [`payload`](Self::payload) follows.
    pub(crate) fn head(&self) -> &[u8] {
        &self.head[..VIRTIO_NET_HDR_LEN + self.header_length]
    }

    /// What a joined packet adds to the super-packet.
    pub(crate) fn payload<'p>(&self, packet: &'p [u8]) -> &'p [u8] {
        &packet[self.header_length..]
    }

    fn of(first: &Segment, last: &Segment, bytes: u16, packets: usize) -> Self {
        let mut head = [0; VIRTIO_NET_HDR_LEN + MAX_HEADERS];
        let (device, headers) = head.split_at_mut(VIRTIO_NET_HDR_LEN);
        first.describe().encode(device).expect("the device's header has room");
        let headers = &mut headers[..first.header_length];
        headers.copy_from_slice(&first.packet[..first.header_length]);
        first.complete(headers, last.is_pushed(), bytes);
        Self {
            head,
            header_length: first.header_length,
            packets,
        }
    }
}

/// An unfragmented packet without IP options that carries TCP or UDP payload and changes no connection's state.
#[derive(Debug, Clone, Copy)]
struct Segment<'p> {
    packet: &'p [u8],
    protocol: u8,
    /// First byte of the transport header.
    start: usize,
    /// Bytes of all headers.
    header_length: usize,
}

impl<'p> Segment<'p> {
    fn of(packet: &'p [u8], joinable: Joinable) -> Option<Self> {
        let (protocol, start, length) = match *packet.first()? {
            0x45 if matches!(packet.get(6..8)?, [0 | 0x40, 0]) => {
                (*packet.get(9)?, 20, usize::from(u16_at(packet, 2)?))
            }
            first if first >> 4 == 6 => (*packet.get(6)?, 40, 40 + usize::from(u16_at(packet, 4)?)),
            _ => return None,
        };
        let header_length = start
            + match protocol {
                protocol::TCP if joinable.tcp && packet.get(start + 13)? & !PSH == ACK => {
                    usize::from(packet[start + 12] >> 4) * 4
                }
                // A checksum of zero says that there is none, which a super-packet cannot say.
                protocol::UDP if joinable.udp && u16_at(packet, start + 6)? != 0 => {
                    (usize::from(u16_at(packet, start + 4)?) == packet.len() - start).then_some(8)?
                }
                _ => return None,
            };
        let whole = length == packet.len() && header_length >= start + 8 && header_length < packet.len();
        let tcp_whole = protocol != protocol::TCP || header_length >= start + 20;
        (whole && tcp_whole).then_some(Self {
            packet,
            protocol,
            start,
            header_length,
        })
    }

    fn payload(&self) -> &'p [u8] {
        &self.packet[self.header_length..]
    }

    fn is_tcp(&self) -> bool {
        self.protocol == protocol::TCP
    }

    fn is_v6(&self) -> bool {
        self.start == 40
    }

    /// Whether the sender wants it delivered at once: nothing is joined behind it.
    fn is_pushed(&self) -> bool {
        self.is_tcp() && self.packet[self.start + 13] & PSH != 0
    }

    /// Whether this can be the segment number `index` of a super-packet that begins with `first`, as far as headers tell.
    fn continues(&self, first: &Self, index: usize) -> bool {
        self.header_length == first.header_length
            && self.payload().len() <= first.payload().len()
            && self.ip_agrees(first, index)
            && if self.is_tcp() {
                self.tcp_agrees(first, index)
            } else {
                self.same(first, self.start..self.start + 4)
            }
    }

    /// Equal but for lengths and the checksum. Numbers of packets that may be fragmented must be those that cutting gives.
    fn ip_agrees(&self, first: &Self, index: usize) -> bool {
        if self.is_v6() {
            return self.same(first, 0..4) && self.same(first, 6..40);
        }
        let (own, others) = (u16_at(self.packet, 4), u16_at(first.packet, 4));
        let counted = u16::try_from(index)
            .ok()
            .zip(others)
            .map(|(index, first)| first.wrapping_add(index));
        let numbered = self.packet[6] & 0x40 != 0 || own == counted;
        numbered && self.same(first, 0..2) && self.same(first, 6..10) && self.same(first, 12..20)
    }

    /// Equal but for the push flag and the checksum, and next in sequence.
    fn tcp_agrees(&self, first: &Self, index: usize) -> bool {
        let at = self.start;
        let sequence = |segment: &Self| {
            let bytes = segment.packet.get(at + 4..at + 8)?.try_into().ok()?;
            Some(u32::from_be_bytes(bytes))
        };
        let passed = u32::try_from(index * first.payload().len()).unwrap_or(u32::MAX);
        sequence(self) == sequence(first).map(|first| first.wrapping_add(passed))
            && self.same(first, at..at + 4)
            && self.same(first, at + 8..at + 13)
            && self.same(first, at + 14..at + 16)
            && self.same(first, at + 18..self.header_length)
    }

    fn same(&self, other: &Self, range: std::ops::Range<usize>) -> bool {
        self.packet[range.clone()] == other.packet[range]
    }

    /// The device's header of a super-packet that begins with this segment.
    fn describe(&self) -> VirtioNetHdr {
        let short = |number: usize| u16::try_from(number).unwrap_or(u16::MAX);
        let protocol = if self.is_tcp() {
            SegmentProtocol::Tcp { ecn: false }
        } else {
            SegmentProtocol::Udp
        };
        let (size, start) = (short(self.payload().len()), short(self.start));
        virtio::super_packet(protocol, size, start, self.header_length, self.is_v6())
    }

    /// Makes a copy of this segment's headers those of a super-packet of `bytes` bytes. In the transport checksum's place
    /// stands the sum of the pseudo header, to be completed by whoever cuts the super-packet.
    fn complete(&self, headers: &mut [u8], is_pushed: bool, bytes: u16) {
        let (start, short) = (self.start, |number: usize| u16::try_from(number).unwrap_or(u16::MAX));
        let transport = bytes - short(start);
        let addresses = if self.is_v6() {
            put(headers, 4, transport);
            8..40
        } else {
            put(headers, 2, bytes);
            put(headers, 10, 0);
            let sum = !tun_rs::checksum(&headers[..20], 0);
            put(headers, 10, sum);
            12..20
        };
        let pseudo = u64::from(self.protocol) + u64::from(transport);
        let sum = tun_rs::checksum(&self.packet[addresses], pseudo);
        if self.is_tcp() {
            headers[start + 13] |= if is_pushed { PSH } else { 0 };
            put(headers, start + 16, sum);
        } else {
            put(headers, start + 4, transport);
            put(headers, start + 6, sum);
        }
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn put(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

#[cfg(test)]
mod tests;
