//! The header in front of each packet of a TUN device that takes and gives super-packets (virtio 1.2, section 5.1.6; UDP from
//! `linux/virtio_net.h`).

use isthmus_tailnet_core::packet_io::SegmentProtocol;
use tun_rs::VirtioNetHdr;

/// The checksum is to be completed.
pub(crate) const NEEDS_CHECKSUM: u8 = 1;
/// Kinds of super-packet.
pub(crate) const GSO_NONE: u8 = 0;
pub(crate) const GSO_TCP4: u8 = 1;
pub(crate) const GSO_TCP6: u8 = 4;
pub(crate) const GSO_UDP: u8 = 5;
pub(crate) const GSO_ECN: u8 = 0x80;

/// The header of a super-packet whose transport header begins at `start` and whose headers are `header_length` bytes, to be cut
/// into segments of `size` bytes of payload.
pub(crate) fn super_packet(
    protocol: SegmentProtocol,
    size: u16,
    start: u16,
    header_length: usize,
    is_v6: bool,
) -> VirtioNetHdr {
    let tcp = |kind: u8, ecn: bool| (if ecn { kind | GSO_ECN } else { kind }, 16);
    let (gso_type, csum_offset) = match (protocol, is_v6) {
        (SegmentProtocol::Udp, _) => (GSO_UDP, 6),
        (SegmentProtocol::Tcp { ecn }, false) => tcp(GSO_TCP4, ecn),
        (SegmentProtocol::Tcp { ecn }, true) => tcp(GSO_TCP6, ecn),
    };
    VirtioNetHdr {
        flags: NEEDS_CHECKSUM,
        gso_type,
        hdr_len: u16::try_from(header_length).unwrap_or(u16::MAX),
        gso_size: size,
        csum_start: start,
        csum_offset,
    }
}
