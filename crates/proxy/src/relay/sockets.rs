//! The relay's sockets.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use isthmus_proxy_core::{RelayListeners, RelayPorts};
use nix::sys::socket::sockopt::{IpBindAddressNoPort, Ipv4OrigDstAddr, Ipv6OrigDstAddr};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrStorage, recvmsg, setsockopt};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::TcpSocket;

/// Connections that wait to be accepted. The kernel lowers it to `somaxconn`.
const BACKLOG: i32 = 4096;

/// When a silent connection is asked whether its other end is still there. It stays open as long as that answers.
const KEEPALIVE_AFTER: Duration = Duration::from_mins(5);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(30);
const KEEPALIVE_PROBES: u32 = 6;

/// Room for the control message that carries the original destination of either family.
pub(super) const CONTROL_BYTES: usize = 64;

/// The listeners, bound and not yet served.
pub(super) struct Listeners {
    pub(super) v4: Option<FamilyListeners>,
    pub(super) v6: Option<FamilyListeners>,
}

/// The listeners of one family.
pub(super) struct FamilyListeners {
    pub(super) tcp: TcpListener,
    pub(super) udp: UdpSocket,
}

impl Listeners {
    /// Opens the listeners of both families; a kernel without IPv6 has none of that.
    pub(super) fn open() -> io::Result<Self> {
        let v4 = FamilyListeners::open(IpAddr::V4(Ipv4Addr::LOCALHOST))?;
        let v6 = match FamilyListeners::open(IpAddr::V6(Ipv6Addr::LOCALHOST)) {
            Ok(listeners) => Some(listeners),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(error),
            Err(error) => {
                tracing::info!(%error, "the relay does not carry IPv6: this Pod has none");
                None
            }
        };
        Ok(Self { v4: Some(v4), v6 })
    }

    pub(super) fn ports(&self) -> RelayListeners {
        RelayListeners {
            v4: self.v4.as_ref().and_then(FamilyListeners::ports),
            v6: self.v6.as_ref().and_then(FamilyListeners::ports),
        }
    }
}

impl FamilyListeners {
    fn open(loopback: IpAddr) -> io::Result<Self> {
        let tcp = transparent(loopback, Type::STREAM)?;
        tcp.bind(&SocketAddr::new(loopback, 0).into())?;
        tcp.listen(BACKLOG)?;
        let udp = transparent(loopback, Type::DGRAM)?;
        match loopback {
            IpAddr::V4(_) => setsockopt(&udp, Ipv4OrigDstAddr, &true)?,
            IpAddr::V6(_) => setsockopt(&udp, Ipv6OrigDstAddr, &true)?,
        }
        udp.bind(&SocketAddr::new(loopback, 0).into())?;
        Ok(Self {
            tcp: tcp.into(),
            udp: udp.into(),
        })
    }

    fn ports(&self) -> Option<RelayPorts> {
        Some(RelayPorts {
            tcp: self.tcp.local_addr().ok()?.port(),
            udp: self.udp.local_addr().ok()?.port(),
        })
    }
}

/// A socket to which the packet filter may hand what is meant for other addresses.
fn transparent(address: IpAddr, kind: Type) -> io::Result<Socket> {
    let socket = unbound(address, kind)?;
    match address {
        IpAddr::V4(_) => socket.set_ip_transparent_v4(true)?,
        IpAddr::V6(_) => {
            socket.set_only_v6(true)?;
            socket.set_ip_transparent_v6(true)?;
        }
    }
    Ok(socket)
}

fn unbound(address: IpAddr, kind: Type) -> io::Result<Socket> {
    let domain = if address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let protocol = if kind == Type::STREAM {
        Protocol::TCP
    } else {
        Protocol::UDP
    };
    let socket = Socket::new(domain, kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// The socket of a session that answers `client` from the address that it asked for, and gets its further datagrams.
pub(super) fn answering(arrived: SocketAddr, client: SocketAddr) -> io::Result<UdpSocket> {
    let socket = transparent(arrived.ip(), Type::DGRAM)?;
    // Every session of one port is bound to the same address and connected to another client.
    socket.set_reuse_address(true)?;
    socket.bind(&arrived.into())?;
    socket.connect(&client.into())?;
    Ok(socket.into())
}

/// A datagram socket from `source` to `target`.
pub(super) fn towards(source: IpAddr, target: SocketAddr) -> io::Result<UdpSocket> {
    let socket = unbound(source, Type::DGRAM)?;
    socket.bind(&SocketAddr::new(source, 0).into())?;
    socket.connect(&target.into())?;
    Ok(socket.into())
}

/// A socket that connects from `source`. Its port is chosen when it connects, so that one number serves many targets. An
/// attempt that is given up ends with a reset, also when the target has accepted it already.
pub(super) fn connecting(source: IpAddr) -> io::Result<TcpSocket> {
    let socket = if source.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    setsockopt(&socket, IpBindAddressNoPort, &true)?;
    socket.set_zero_linger()?;
    socket.bind(SocketAddr::new(source, 0))?;
    Ok(socket)
}

/// Sets what both sockets of a connection need: segments leave at once, and a dead peer is noticed in the end.
pub(super) fn prepare(stream: &tokio::net::TcpStream) -> io::Result<()> {
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_AFTER)
        .with_interval(KEEPALIVE_EVERY);
    SockRef::from(stream).set_tcp_keepalive(&keepalive.with_retries(KEEPALIVE_PROBES))?;
    stream.set_nodelay(true)
}

/// One datagram of a listener: its length, its sender, and the address it was sent to.
pub(super) struct Datagram {
    pub(super) length: usize,
    pub(super) client: SocketAddr,
    pub(super) arrived: SocketAddr,
}

/// Receives one datagram with its original destination. None: it came without one, which no rule of ours makes.
pub(super) fn receive(
    socket: &impl AsRawFd,
    buffer: &mut [u8],
    control: &mut [u8; CONTROL_BYTES],
) -> io::Result<Option<Datagram>> {
    let descriptor: RawFd = socket.as_raw_fd();
    let mut parts = [IoSliceMut::new(buffer)];
    let message = recvmsg::<SockaddrStorage>(descriptor, &mut parts, Some(control), MsgFlags::MSG_DONTWAIT)?;
    let arrived = message.cmsgs()?.find_map(|control| original_destination(&control));
    let client = message.address.as_ref().and_then(socket_address);
    Ok(client.zip(arrived).map(|(client, arrived)| Datagram {
        length: message.bytes,
        client,
        arrived,
    }))
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the kernel has many more control messages"
)]
fn original_destination(control: &ControlMessageOwned) -> Option<SocketAddr> {
    match control {
        ControlMessageOwned::Ipv4OrigDstAddr(v4) => Some(std::net::SocketAddrV4::from(SockaddrIn::from(*v4)).into()),
        ControlMessageOwned::Ipv6OrigDstAddr(v6) => Some(std::net::SocketAddrV6::from(SockaddrIn6::from(*v6)).into()),
        _ => None,
    }
}

fn socket_address(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| SocketAddr::V4((*v4).into()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| SocketAddr::V6((*v6).into())))
}
