//! A tailnet node: sockets, TUN device, threads and the control connection around `tailnet-core`.
