//! The node's UDP socket: batches out by segmentation offload, batches in by receive coalescing.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt};
use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};

use crate::offloads::OffloadSwitch;
use crate::waker::Waker;

/// The port that tailnet nodes use when they can.
pub const DEFAULT_PORT: u16 = 41641;

/// Asked of the kernel for each direction: what one peer sends in 20 ms at 3 Gbit/s.
const SOCKET_BUFFER: usize = 7 << 20;

/// Bytes of one receive buffer: the most that the kernel joins.
const RECEIVE_BUFFER: usize = 65_536;

/// Receive buffers filled by one system call.
const RECEIVE_BUFFERS: usize = 8;

/// The most bytes given to one sending system call: room for IP and UDP headers is left below 65,535.
const MAX_SEND: usize = 65_000;

/// How long a sender waits for room in the socket before it drops.
const SEND_PATIENCE_MS: u8 = 50;

/// A bound UDP socket for both address families, shared by all threads of the node.
#[derive(Debug)]
pub struct UdpLink {
    socket: UdpSocket,
    state: UdpSocketState,
    is_ipv6: bool,
    offloads: OffloadSwitch,
    waker: Waker,
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum UdpError {
    /// No port is to be had.
    #[error("cannot bind a UDP socket to port {port} or any other")]
    Bind {
        /// The port that was wanted.
        port: u16,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The socket cannot be set up.
    #[error("cannot prepare the UDP socket for batches")]
    Prepare(#[source] io::Error),
}

/// Whether a sender waits when the socket is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// Wait a little: back pressure for traffic that queues elsewhere.
    Wait,
    /// Drop: for threads that must not stand still.
    Drop,
}

/// Buffers for one receiving thread.
#[derive(Debug)]
pub struct ReceiveBuffers {
    buffers: [Box<[u8]>; RECEIVE_BUFFERS],
    meta: [RecvMeta; RECEIVE_BUFFERS],
    filled: usize,
}

/// Datagrams of one sender: `stride` bytes each, the last may be shorter.
#[derive(Debug, Clone, Copy)]
pub struct ReceivedBatch<'a> {
    /// The sender, never in IPv6-mapped form.
    pub from: SocketAddr,
    /// All datagrams.
    pub bytes: &'a [u8],
    /// Bytes of each datagram. Never 0.
    pub stride: usize,
}

impl UdpLink {
    /// Binds `port`, or any port when that one is taken, on all addresses of both families, or of IPv4 alone where the
    /// kernel has no IPv6.
    ///
    /// # Errors
    /// [`UdpError`] when no socket can be bound or prepared.
    pub fn bind(port: u16, offloads: OffloadSwitch) -> Result<Self, UdpError> {
        let (socket, is_ipv6) = match bind_any(port) {
            Err(error) if port != 0 && error.kind() == io::ErrorKind::AddrInUse => {
                tracing::warn!(port, "the UDP port is taken, using another");
                bind_any(0)
            }
            other => other,
        }
        .map_err(|source| UdpError::Bind { port, source })?;
        let state = UdpSocketState::new((&socket).into()).map_err(UdpError::Prepare)?;
        let waker = Waker::new().map_err(UdpError::Prepare)?;
        enlarge_buffers(&socket);
        let link = Self {
            socket,
            state,
            is_ipv6,
            offloads,
            waker,
        };
        link.apply_offloads();
        Ok(link)
    }

    /// The local port.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn local_port(&self) -> io::Result<u16> {
        Ok(self.socket.local_addr()?.port())
    }

    /// Brings the kernel in line with the offload switch after it was changed.
    pub fn apply_offloads(&self) {
        let on = self.offloads.get().udp_gro;
        if let Err(error) = setsockopt(&self.socket, sockopt::UdpGroSegment, &on) {
            tracing::debug!(on, %error, "cannot switch UDP receive coalescing");
        }
    }

    /// Sends one datagram; drops it when the socket is full.
    ///
    /// # Errors
    /// When the kernel refuses it, for example for want of a route.
    pub fn send(&self, to: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        self.transmit(to, datagram, None, WhenFull::Drop)
    }

    /// Sends a strided batch with as few system calls as the offloads allow. Returns their number.
    ///
    /// # Errors
    /// When the kernel refuses, for example for want of a route; datagrams before that were sent.
    pub fn send_batch(&self, to: SocketAddr, batch: &[u8], stride: usize, full: WhenFull) -> io::Result<usize> {
        let mut calls = 0;
        for part in batch.chunks(self.most_per_call(stride)) {
            if self.may_segment(part, stride) {
                match self.transmit(to, part, Some(stride), full) {
                    // The interface cannot segment: quinn-udp has noted it, and this part goes out piece by piece.
                    Err(error) if self.state.max_gso_segments() == 1 => {
                        tracing::info!(%error, "the interface refuses UDP segmentation, sending singly from now on");
                    }
                    result => {
                        result?;
                        calls += 1;
                        continue;
                    }
                }
            }
            for datagram in part.chunks(stride) {
                self.transmit(to, datagram, None, full)?;
                calls += 1;
            }
        }
        Ok(calls)
    }

    /// Blocks until datagrams come or [`wake`](Self::wake) is called; true when there are datagrams.
    ///
    /// # Errors
    /// When the socket is broken.
    pub fn receive(&self, into: &mut ReceiveBuffers) -> io::Result<bool> {
        into.filled = 0;
        loop {
            if self.waker.take() {
                return Ok(false);
            }
            let mut slices = into.buffers.each_mut().map(|buffer| IoSliceMut::new(buffer));
            match self.state.recv((&self.socket).into(), &mut slices, &mut into.meta) {
                Ok(filled) => {
                    into.filled = filled;
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.waker.wait_readable(self.socket.as_fd())?;
                }
                // An ICMP error for something sent earlier; the next call gives datagrams again.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Ends one blocking [`receive`](Self::receive).
    pub fn wake(&self) {
        self.waker.wake();
    }

    fn may_segment(&self, part: &[u8], stride: usize) -> bool {
        part.len() > stride && (self.offloads.get().gso_equal_tail || !part.len().is_multiple_of(stride))
    }

    fn most_per_call(&self, stride: usize) -> usize {
        let offloads = self.offloads.get();
        let segments = if offloads.udp_gso {
            self.state.max_gso_segments()
        } else {
            1
        };
        stride * segments.min(MAX_SEND / stride).max(1)
    }

    fn transmit(&self, to: SocketAddr, contents: &[u8], stride: Option<usize>, full: WhenFull) -> io::Result<()> {
        let transmit = Transmit {
            destination: self.destination(to),
            ecn: None,
            contents,
            segment_size: stride,
            src_ip: None,
        };
        match self.state.try_send((&self.socket).into(), &transmit) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && full == WhenFull::Wait => {
                let mut socket = [PollFd::new(self.socket.as_fd(), PollFlags::POLLOUT)];
                poll(&mut socket, PollTimeout::from(SEND_PATIENCE_MS))?;
                self.state.try_send((&self.socket).into(), &transmit)
            }
            other => other,
        }
    }

    fn destination(&self, to: SocketAddr) -> SocketAddr {
        match (self.is_ipv6, to) {
            (true, SocketAddr::V4(v4)) => SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0).into(),
            _ => to,
        }
    }
}

impl Default for ReceiveBuffers {
    fn default() -> Self {
        Self {
            buffers: std::array::from_fn(|_| vec![0; RECEIVE_BUFFER].into_boxed_slice()),
            meta: [RecvMeta::default(); RECEIVE_BUFFERS],
            filled: 0,
        }
    }
}

impl ReceiveBuffers {
    /// What the last [`UdpLink::receive`] brought.
    pub fn batches(&self) -> impl Iterator<Item = ReceivedBatch<'_>> {
        let filled = self.buffers.iter().zip(&self.meta).take(self.filled);
        filled
            .filter(|(_, meta)| meta.len > 0)
            .map(|(buffer, meta)| ReceivedBatch {
                from: SocketAddr::new(meta.addr.ip().to_canonical(), meta.addr.port()),
                bytes: &buffer[..meta.len],
                stride: meta.stride.clamp(1, meta.len),
            })
    }
}

fn bind_any(port: u16) -> io::Result<(UdpSocket, bool)> {
    let bind = |domain, address: IpAddr| {
        let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
        if domain == Domain::IPV6 {
            socket.set_only_v6(false)?;
        }
        socket.bind(&SocketAddr::new(address, port).into())?;
        io::Result::Ok(UdpSocket::from(socket))
    };
    match bind(Domain::IPV6, Ipv6Addr::UNSPECIFIED.into()) {
        Ok(socket) => Ok((socket, true)),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(error),
        Err(_) => Ok((bind(Domain::IPV4, Ipv4Addr::UNSPECIFIED.into())?, false)),
    }
}

/// Best effort: with NET_ADMIN beyond the system's limit, else up to it.
fn enlarge_buffers(socket: &UdpSocket) {
    let plain = socket2::SockRef::from(socket);
    if setsockopt(socket, sockopt::RcvBufForce, &SOCKET_BUFFER).is_err() {
        let _ = plain.set_recv_buffer_size(SOCKET_BUFFER);
    }
    if setsockopt(socket, sockopt::SndBufForce, &SOCKET_BUFFER).is_err() {
        let _ = plain.set_send_buffer_size(SOCKET_BUFFER);
    }
}

#[cfg(test)]
mod tests;
