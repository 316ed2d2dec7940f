//! Cuts super-packets into the packets of the wire.

use std::io;

use isthmus_tailnet_core::packet_io::{Offload, SegmentProtocol};
use isthmus_tailnet_core::wireguard::{DATA_HEADER, DATA_OVERHEAD};

use crate::virtio;

/// WireGuard paper, section 5.4.6: packets are padded with zeros to a multiple of this, but not beyond the MTU.
const PADDING: usize = 16;

/// Bytes of `length` with its padding.
pub(crate) fn padded(length: usize, mtu: usize) -> usize {
    length.next_multiple_of(PADDING).min(mtu).max(length)
}

/// A super-packet cut into a strided batch, ready to be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Bytes of the batch.
    pub(crate) length: usize,
    /// Bytes of each datagram but the last.
    pub(crate) stride: usize,
    /// How many packets there are.
    pub(crate) packets: usize,
}

/// Completes the checksum of a packet that is not a super-packet. False when the offsets lie outside of it.
pub(crate) fn complete_checksum(packet: &mut [u8], offload: Offload) -> bool {
    let Offload::Checksum { start, offset } = offload else {
        return true;
    };
    let (start, field) = (usize::from(start), usize::from(start) + usize::from(offset));
    let Some(bytes) = packet.get(field..field + 2) else {
        return false;
    };
    let pseudo_header = u64::from(u16::from_be_bytes([bytes[0], bytes[1]]));
    packet[field..field + 2].fill(0);
    let sum = !tun_rs::checksum(&packet[start..], pseudo_header);
    packet[field..field + 2].copy_from_slice(&sum.to_be_bytes());
    true
}

/// Cuts `packet` into `batch`, which grows as needed, leaving room for the WireGuard header and tag around each segment.
///
/// # Errors
/// When the headers and the segmentation do not fit together.
pub(crate) fn cut(
    packet: &mut [u8],
    (protocol, size, start): (SegmentProtocol, u16, u16),
    mtu: usize,
    batch: &mut Vec<u8>,
) -> io::Result<Cut> {
    let header_length = header_length(packet, protocol, start).ok_or(io::ErrorKind::InvalidData)?;
    let payload = packet.len().checked_sub(header_length).filter(|bytes| *bytes > 0);
    let segments = payload.ok_or(io::ErrorKind::InvalidData)?.div_ceil(usize::from(size));
    let longest = header_length + usize::from(size).min(packet.len() - header_length);
    let stride = DATA_OVERHEAD + padded(longest, mtu);
    if batch.len() < segments * stride {
        batch.resize(segments * stride, 0);
    }
    let is_v6 = packet.first().is_some_and(|byte| byte >> 4 == 6);
    let header = virtio::super_packet(protocol, size, start, header_length, is_v6);
    let mut slots: Vec<&mut [u8]> = batch[..segments * stride].chunks_mut(stride).collect();
    let mut sizes = vec![0; segments];
    tun_rs::gso_split(packet, header, &mut slots, &mut sizes, DATA_HEADER, is_v6)?;
    for (slot, size) in slots.iter_mut().zip(&sizes) {
        slot[DATA_HEADER + size..DATA_HEADER + padded(*size, mtu)].fill(0);
    }
    let last = DATA_OVERHEAD + padded(sizes.last().copied().unwrap_or(0), mtu);
    Ok(Cut {
        length: (segments - 1) * stride + last,
        stride,
        packets: segments,
    })
}

/// Bytes of the IP and transport headers together.
fn header_length(packet: &[u8], protocol: SegmentProtocol, start: u16) -> Option<usize> {
    let start = usize::from(start);
    match protocol {
        SegmentProtocol::Udp => Some(start + 8),
        SegmentProtocol::Tcp { .. } => Some(start + usize::from(packet.get(start + 12)? >> 4) * 4),
    }
}

#[cfg(test)]
mod tests;
