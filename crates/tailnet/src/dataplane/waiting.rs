//! Packets that wait for a handshake or a path: few, and the newest.

use std::collections::VecDeque;

use isthmus_tailnet_core::packet_io::Offload;

/// Packets that may wait for one peer, when none is a super-packet.
pub(super) const MAX_PACKETS: usize = 128;

/// Bytes that may wait for one peer. One super-packet always fits.
pub(super) const MAX_BYTES: usize = 256 * 1024;

/// The packets that wait for one peer: at most [`MAX_PACKETS`] of together [`MAX_BYTES`], or one super-packet.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    packets: VecDeque<(Vec<u8>, Offload)>,
    bytes: usize,
}

impl Waiting {
    /// Keeps a copy of `packet` and drops the oldest ones that are too many. Returns how many were dropped.
    pub(super) fn push(&mut self, packet: &[u8], offload: Offload) -> usize {
        let before = self.packets.len();
        let is_super = |offload: &Offload| matches!(offload, Offload::Segments { .. });
        if is_super(&offload) || self.packets.back().is_some_and(|(_, last)| is_super(last)) {
            self.take();
        }
        self.bytes += packet.len();
        self.packets.push_back((packet.to_vec(), offload));
        while self.packets.len() > MAX_PACKETS || self.bytes > MAX_BYTES {
            self.bytes -= self.packets.pop_front().map_or(0, |(oldest, _)| oldest.len());
        }
        before + 1 - self.packets.len()
    }

    /// Takes out all packets, oldest first.
    pub(super) fn take(&mut self) -> VecDeque<(Vec<u8>, Offload)> {
        self.bytes = 0;
        std::mem::take(&mut self.packets)
    }

    /// Bytes that wait.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use isthmus_tailnet_core::packet_io::{Offload, SegmentProtocol};

    use super::{MAX_BYTES, MAX_PACKETS, Waiting};

    const SUPER: Offload = Offload::Segments {
        protocol: SegmentProtocol::Udp,
        size: 1000,
        start: 20,
    };

    fn lengths(mut waiting: Waiting) -> Vec<usize> {
        waiting.take().iter().map(|(packet, _)| packet.len()).collect()
    }

    #[test]
    fn oldest_packet_goes_when_there_are_too_many() {
        let mut waiting = Waiting::default();
        let dropped: usize = (0..MAX_PACKETS + 5)
            .map(|n| waiting.push(&vec![0; n], Offload::None))
            .sum();
        assert_eq!(dropped, 5);
        assert_eq!(lengths(waiting), (5..MAX_PACKETS + 5).collect::<Vec<_>>());
    }

    #[test]
    fn bytes_are_bounded_when_packets_are_large() {
        let mut waiting = Waiting::default();
        for _ in 0..100 {
            waiting.push(&[0; 9000], Offload::None);
            assert!(waiting.bytes() <= MAX_BYTES);
        }
        assert_eq!(lengths(waiting).len(), MAX_BYTES / 9000);
    }

    #[test]
    fn super_packet_waits_alone() {
        let mut waiting = Waiting::default();
        waiting.push(&[0; 10], Offload::None);
        assert_eq!(waiting.push(&vec![0; 60_000], SUPER), 1);
        assert_eq!(waiting.push(&vec![0; 50_000], SUPER), 1);
        assert_eq!(waiting.bytes(), 50_000);
        assert_eq!(waiting.push(&[0; 10], Offload::None), 1);
        assert_eq!(lengths(waiting), [10]);
    }
}
