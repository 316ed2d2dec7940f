//! Packets in and out of the node: the seam behind which stands a TUN device, a test's memory, or a user-space stack.

use std::io;

/// Bytes of the largest IP packet, and so of the largest super-packet.
pub const MAX_PACKET: usize = 65_535;

/// Bytes that an implementation may use in front of each packet while it fills a batch, for a device header.
pub const HEADROOM: usize = 16;

/// Where IP packets come from (egress: to be sealed and sent to peers) and go to (ingress: opened, from peers).
///
/// One thread receives and one sends; both may run at once. Packets of one call keep their order.
///
/// # Blocking
/// [`receive`](Self::receive) blocks without a limit until there is a packet, [`wake`](Self::wake) is called, or the device
/// is gone. [`send`](Self::send) never waits for room: what does not fit is dropped, as an IP network may.
///
/// # Wake-up and cancellation
/// `wake` ends one `receive`: the one that is blocked, else the next. Waking twice before a `receive` counts once. A thread
/// is stopped by setting its stop flag first and calling `wake` then. No packet is lost by a wake-up.
pub trait PacketIo: Send + Sync {
    /// Clears `batch` and fills it with what there is, at least one packet unless woken. Takes all that is at hand, until
    /// the batch has no room: whoever sends many small packets is served by one call.
    ///
    /// # Errors
    /// [`PacketIoError::Closed`] when no packet will ever come; [`PacketIoError::Failed`] when this call failed and the
    /// next may not.
    fn receive(&self, batch: &mut PacketBatch) -> Result<Received, PacketIoError>;

    /// Hands over packets with complete checksums. An implementation may join neighbours of one flow to super-packets.
    /// Returns how many were taken; the others are dropped.
    ///
    /// # Errors
    /// [`PacketIoError::Closed`] when no packet will ever be taken again.
    fn send(&self, packets: &[&[u8]]) -> Result<usize, PacketIoError>;

    /// Ends one blocking [`receive`](Self::receive). May be called from any thread.
    fn wake(&self);
}

/// How a [`PacketIo::receive`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// The batch holds at least one packet.
    Packets,
    /// [`PacketIo::wake`] was called; the batch may be empty.
    Woken,
}

/// Why packets cannot be moved.
#[derive(Debug, thiserror::Error)]
pub enum PacketIoError {
    /// The device or the other end is gone for good.
    #[error("cannot move packets: the device is gone")]
    Closed,
    /// One call failed.
    #[error("cannot move packets through the device")]
    Failed(#[source] io::Error),
}

/// What is still to be done to a received packet before it is a packet of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offload {
    /// Nothing: the packet is complete.
    None,
    /// The transport checksum is to be completed: the 16-bit field at `start + offset` holds the sum of the pseudo header,
    /// and the sum runs from `start` to the end of the packet.
    Checksum {
        /// First byte of the transport header, from the start of the packet.
        start: u16,
        /// The checksum field, from `start`.
        offset: u16,
    },
    /// A super-packet: to be cut into segments that repeat its headers, with a complete checksum each.
    Segments {
        /// Protocol of the segments.
        protocol: SegmentProtocol,
        /// Payload bytes of each segment; the last may have fewer. Never 0.
        size: u16,
        /// First byte of the transport header, from the start of the packet.
        start: u16,
    },
}

/// Transport protocol of a super-packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SegmentProtocol {
    /// TCP; `ecn` when congestion was to be reported (CWR) by the first segment only.
    Tcp {
        /// See the variant.
        ecn: bool,
    },
    /// UDP.
    Udp,
}

/// Packets of one [`PacketIo::receive`], in one buffer that is used again and again.
#[derive(Debug)]
pub struct PacketBatch {
    storage: Vec<u8>,
    used: usize,
    packets: Vec<Slot>,
    limit: usize,
}

#[derive(Debug)]
struct Slot {
    start: usize,
    length: usize,
    offload: Offload,
}

impl PacketBatch {
    /// A batch of at most `limit` packets with room for one full super-packet and `extra` bytes of others.
    pub fn new(limit: usize, extra: usize) -> Self {
        Self {
            storage: vec![0; HEADROOM + MAX_PACKET + extra],
            used: 0,
            packets: Vec::with_capacity(limit),
            limit,
        }
    }

    /// Forgets all packets.
    pub fn clear(&mut self) {
        self.used = 0;
        self.packets.clear();
    }

    /// Free space for one more packet of any size with [`HEADROOM`] before it, or nothing when the batch is full.
    pub fn space(&mut self) -> Option<&mut [u8]> {
        let fits = self.packets.len() < self.limit && self.used + HEADROOM + MAX_PACKET <= self.storage.len();
        fits.then(|| &mut self.storage[self.used..self.used + HEADROOM + MAX_PACKET])
    }

    /// Takes the `length` bytes after the first `skip` of [`space`](Self::space) as a packet.
    ///
    /// # Panics
    /// When that is more than `space` gave.
    pub fn push(&mut self, skip: usize, length: usize, offload: Offload) {
        assert!(
            skip + length <= HEADROOM + MAX_PACKET,
            "a packet lies inside the space given for it"
        );
        self.packets.push(Slot {
            start: self.used + skip,
            length,
            offload,
        });
        self.used += skip + length;
    }

    /// Copies `packet` into the batch; false when it is full.
    pub fn copy(&mut self, packet: &[u8], offload: Offload) -> bool {
        let Some(space) = self.space() else { return false };
        space[..packet.len()].copy_from_slice(packet);
        self.push(0, packet.len(), offload);
        true
    }

    /// How many packets the batch holds; a super-packet counts once.
    pub fn len(&self) -> usize {
        self.packets.len()
    }

    /// True when the batch holds no packet.
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// The packet at `index`, to be changed in place, and what is still to be done to it.
    ///
    /// # Panics
    /// When `index` is not below [`len`](Self::len).
    pub fn packet(&mut self, index: usize) -> (&mut [u8], Offload) {
        let slot = &self.packets[index];
        (&mut self.storage[slot.start..slot.start + slot.length], slot.offload)
    }
}

#[cfg(test)]
mod tests;
