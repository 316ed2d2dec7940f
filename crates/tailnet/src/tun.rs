//! The TUN device as a [`PacketIo`].

use std::io;
use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};

use ipnet::IpNet;
use isthmus_tailnet_core::filter::protocol;
use isthmus_tailnet_core::packet_io::{Offload, PacketBatch, PacketIo, PacketIoError, Received, SegmentProtocol};
use tun_rs::{DeviceBuilder, GROTable, SyncDevice, VIRTIO_NET_HDR_LEN, VirtioNetHdr};

use crate::offloads::OffloadSwitch;
use crate::waker::Waker;

/// virtio 1.2, section 5.1.6: the checksum is to be completed.
const NEEDS_CHECKSUM: u8 = 1;
/// Kinds of super-packet (same section; UDP from `linux/virtio_net.h`).
const GSO_NONE: u8 = 0;
const GSO_TCP4: u8 = 1;
const GSO_TCP6: u8 = 4;
const GSO_UDP: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// Room in each outgoing buffer: neighbours are joined into the first buffer of their flow, and only as far as its capacity
/// reaches.
const JOIN_CAPACITY: usize = VIRTIO_NET_HDR_LEN + 65_535;

/// What a TUN device shall be like.
#[derive(Debug, Clone)]
pub struct TunConfig {
    /// Name of the interface, at most 15 bytes.
    pub name: String,
    /// Bytes of the largest packet.
    pub mtu: u16,
    /// Its addresses; the prefix lengths give its on-link routes.
    pub addresses: Vec<IpNet>,
}

/// A TUN device. It is gone when the last reference is dropped.
pub struct Tun {
    device: SyncDevice,
    waker: Waker,
    offloads: OffloadSwitch,
    writer: Mutex<Writer>,
}

/// What sending needs from call to call.
#[derive(Default)]
struct Writer {
    table: GROTable,
    buffers: Vec<Vec<u8>>,
}

/// Why there is no TUN device.
#[derive(Debug, thiserror::Error)]
pub enum TunError {
    /// The device cannot be made.
    #[error("cannot make the TUN device {name}: grant NET_ADMIN and /dev/net/tun, and see that the name is free")]
    Create {
        /// The name that was wanted.
        name: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The device cannot be set up.
    #[error("cannot prepare the TUN device {name}")]
    Prepare {
        /// The name of the device.
        name: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl Tun {
    /// Makes the device, gives it its addresses and brings it up. Whether super-packets cross it is settled here by
    /// `offloads`; joining can be switched later.
    ///
    /// # Errors
    /// [`TunError`] when the kernel refuses.
    pub fn create(config: &TunConfig, offloads: OffloadSwitch) -> Result<Self, TunError> {
        let segmentation = offloads.get().tun;
        let mut builder = DeviceBuilder::new().name(&config.name).mtu(config.mtu);
        for address in &config.addresses {
            builder = match address {
                IpNet::V4(net) => builder.ipv4(net.addr(), net.prefix_len(), None),
                IpNet::V6(net) => builder.ipv6(net.addr(), net.prefix_len()),
            };
        }
        let device = builder
            .with(|builder| {
                builder.offload(segmentation);
            })
            .build_sync()
            .map_err(|source| TunError::Create {
                name: config.name.clone(),
                source,
            })?;
        let prepare = |source| TunError::Prepare {
            name: config.name.clone(),
            source,
        };
        device.set_nonblocking(true).map_err(prepare)?;
        let waker = Waker::new().map_err(prepare)?;
        tracing::debug!(
            name = config.name,
            segmentation,
            udp = device.udp_gso(),
            "made the TUN device"
        );
        Ok(Self {
            device,
            waker,
            offloads,
            writer: Mutex::default(),
        })
    }

    /// Reads packets until there are none or the batch is full; the error is that of the first read.
    fn drain(&self, batch: &mut PacketBatch) -> io::Result<()> {
        while let Some(space) = batch.space() {
            match self.device.recv(space) {
                Ok(length) => self.take(batch, length),
                Err(error) if batch.is_empty() => return Err(error),
                Err(_) => return Ok(()),
            }
        }
        Ok(())
    }

    /// Takes the `length` bytes just read into the batch.
    fn take(&self, batch: &mut PacketBatch, length: usize) {
        if !self.device.tcp_gso() {
            batch.push(0, length, Offload::None);
            return;
        }
        let header = batch.space().and_then(|space| VirtioNetHdr::decode(space).ok());
        let (Some(header), Some(length)) = (header, length.checked_sub(VIRTIO_NET_HDR_LEN)) else {
            return;
        };
        if let Some(offload) = offload(&header) {
            batch.push(VIRTIO_NET_HDR_LEN, length, offload);
        } else {
            tracing::debug!(kind = header.gso_type, "dropped a super-packet of an unknown kind");
        }
    }

    fn joins(&self, packet: &[u8]) -> bool {
        let offloads = self.offloads.get();
        match transport(packet) {
            Some(protocol::TCP) => offloads.tun_tcp_gro,
            Some(protocol::UDP) => offloads.tun_udp_gro,
            _ => true,
        }
    }
}

impl PacketIo for Tun {
    fn receive(&self, batch: &mut PacketBatch) -> Result<Received, PacketIoError> {
        batch.clear();
        loop {
            if self.waker.take() {
                return Ok(Received::Woken);
            }
            match self.drain(batch) {
                Ok(()) if batch.is_empty() => {}
                Ok(()) => return Ok(Received::Packets),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.waker
                        .wait_readable(self.device.as_fd())
                        .map_err(PacketIoError::Failed)?;
                }
                Err(error) => return Err(failure(error)),
            }
        }
    }

    fn send(&self, packets: &[&[u8]]) -> Result<usize, PacketIoError> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let Writer { table, buffers } = &mut *writer;
        if buffers.len() < packets.len() {
            buffers.resize_with(packets.len(), || Vec::with_capacity(JOIN_CAPACITY));
        }
        let offset = if self.device.tcp_gso() { VIRTIO_NET_HDR_LEN } else { 0 };
        for (buffer, packet) in buffers.iter_mut().zip(packets) {
            buffer.clear();
            buffer.resize(offset, 0);
            buffer.extend_from_slice(packet);
        }
        let (mut start, mut refused) = (0, None);
        while start < packets.len() {
            let joinable = packets[start..].iter().take_while(|packet| self.joins(packet)).count();
            let end = start + joinable.max(1);
            if let Err(error) = self.device.send_multiple(table, &mut buffers[start..end], offset) {
                refused = Some(error);
            }
            start = end;
        }
        match refused.map(failure) {
            Some(PacketIoError::Closed) => Err(PacketIoError::Closed),
            Some(PacketIoError::Failed(error)) => {
                tracing::debug!(%error, "the TUN device refused packets");
                Ok(0)
            }
            None => Ok(packets.len()),
        }
    }

    fn wake(&self) {
        self.waker.wake();
    }
}

impl std::fmt::Debug for Tun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tun").finish_non_exhaustive()
    }
}

/// EBADFD (77 on Linux): the interface was deleted under the open device.
fn failure(error: io::Error) -> PacketIoError {
    if error.raw_os_error() == Some(nix::errno::Errno::EBADFD as i32) {
        PacketIoError::Closed
    } else {
        PacketIoError::Failed(error)
    }
}

fn offload(header: &VirtioNetHdr) -> Option<Offload> {
    let (start, offset) = (header.csum_start, header.csum_offset);
    let ecn = header.gso_type & GSO_ECN != 0;
    let protocol = match header.gso_type & !GSO_ECN {
        GSO_NONE if header.flags & NEEDS_CHECKSUM != 0 => return Some(Offload::Checksum { start, offset }),
        GSO_NONE => return Some(Offload::None),
        GSO_TCP4 | GSO_TCP6 => SegmentProtocol::Tcp { ecn },
        GSO_UDP => SegmentProtocol::Udp,
        _ => return None,
    };
    (header.gso_size > 0).then_some(Offload::Segments {
        protocol,
        size: header.gso_size,
        start,
    })
}

/// The transport protocol, of packets without IPv6 extension headers: others are not joined anyway.
fn transport(packet: &[u8]) -> Option<u8> {
    match packet.first()? >> 4 {
        4 => packet.get(9).copied(),
        6 => packet.get(6).copied(),
        _ => None,
    }
}
