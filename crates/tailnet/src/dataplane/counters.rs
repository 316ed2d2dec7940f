//! What the data plane has done, in numbers.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counts since the data plane was started.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Counts {
            $($(#[$doc])* pub $name: u64,)*
        }

        /// The counters themselves, shared by the threads.
        #[derive(Debug, Default)]
        pub(super) struct Counters {
            $(pub(super) $name: AtomicU64,)*
        }

        impl Counters {
            pub(super) fn read(&self) -> Counts {
                Counts { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counters! {
    /// Reads from the TUN that gave packets; a super-packet is one.
    tun_reads,
    /// Bytes of those packets.
    tun_read_bytes,
    /// Packets handed to the TUN.
    tun_packets_written,
    /// System calls that sent data messages.
    udp_sends,
    /// Bytes of those data messages.
    udp_send_bytes,
    /// Datagrams handed to relays.
    relay_sends,
    /// Receive buffers filled; one holds up to 64 datagrams.
    udp_receives,
    /// Datagrams that came by relay.
    relay_receives,
    /// Bytes in those buffers.
    udp_receive_bytes,
    /// Outgoing packets without a peer, with a foreign source, or refused by the filter.
    outbound_refused,
    /// Incoming packets with a foreign inner address, or refused by the filter.
    inbound_refused,
    /// Data messages that did not open.
    not_opened,
    /// Data messages for a session that does not exist.
    unknown_index,
    /// Handshake messages that were not answered.
    handshakes_refused,
    /// Packets dropped because too many waited for a handshake or a path.
    waiting_dropped,
    /// Packets dropped for want of a session or because the socket refused them.
    send_dropped,
    /// Datagrams and events that nobody took in time.
    hooks_dropped,
}

/// Adds to a counter.
pub(super) fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(count as u64, Ordering::Relaxed);
}
