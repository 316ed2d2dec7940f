//! A tailnet node: sockets, TUN device, threads and the control connection around `tailnet-core`.

pub mod dataplane;
pub mod offloads;
pub mod udp;

mod waker;
