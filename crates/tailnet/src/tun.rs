//! The TUN device as a [`PacketIo`].

use std::io::{self, IoSlice};
use std::os::fd::AsFd;

use ipnet::IpNet;
use isthmus_tailnet_core::packet_io::{Offload, PacketBatch, PacketIo, PacketIoError, Received, SegmentProtocol};
use nix::sys::uio::writev;
use tun_rs::{DeviceBuilder, SyncDevice, VIRTIO_NET_HDR_LEN, VirtioNetHdr};

use crate::join::{Joinable, Joined};
use crate::offloads::OffloadSwitch;
use crate::virtio::{GSO_ECN, GSO_NONE, GSO_TCP4, GSO_TCP6, GSO_UDP, NEEDS_CHECKSUM};
use crate::waker::Waker;

/// The header of a packet that is not a super-packet and has a complete checksum.
const PLAIN: [u8; VIRTIO_NET_HDR_LEN] = [0; VIRTIO_NET_HDR_LEN];

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

    fn joinable(&self) -> Joinable {
        let offloads = self.offloads.get();
        Joinable {
            tcp: self.device.tcp_gso() && offloads.tun_tcp_gro,
            udp: self.device.udp_gso() && offloads.tun_udp_gro,
        }
    }

    /// Hands over the first of the packets, with the next ones where they make a super-packet. Returns how many were taken,
    /// or had to be dropped together with the error.
    fn send_first(&self, packets: &[&[u8]], joinable: Joinable) -> (usize, io::Result<()>) {
        let write = |parts: &[IoSlice<'_>]| writev(self.device.as_fd(), parts).map(drop).map_err(io::Error::from);
        let Some(joined) = Joined::first_of(packets, joinable) else {
            let plain = [IoSlice::new(&PLAIN), IoSlice::new(packets[0])];
            return (1, write(&plain[usize::from(!self.device.tcp_gso())..]));
        };
        let payload = packets[..joined.packets].iter().map(|packet| joined.payload(packet));
        let slices: Vec<IoSlice<'_>> = std::iter::once(joined.head())
            .chain(payload)
            .map(IoSlice::new)
            .collect();
        (joined.packets, write(&slices))
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
        let joinable = self.joinable();
        let (mut rest, mut taken) = (packets, 0);
        while !rest.is_empty() {
            let (count, sent) = self.send_first(rest, joinable);
            match sent.map_err(failure) {
                Ok(()) => taken += count,
                Err(PacketIoError::Closed) => return Err(PacketIoError::Closed),
                Err(PacketIoError::Failed(error)) => tracing::debug!(%error, count, "the TUN device refused packets"),
            }
            rest = &rest[count..];
        }
        Ok(taken)
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

#[cfg(test)]
mod tests;
