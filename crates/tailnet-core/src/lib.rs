//! The tailnet node as a state machine without I/O: netmap, routes, paths, packet filter.
//!
//! Time and randomness come in as arguments; nothing here reads a clock, a file or a socket.

pub mod addresses;
pub mod disco;
pub mod dns;
pub mod echo;
pub mod filter;
pub mod greetings;
pub mod key;
pub mod netcheck;
pub mod netmap;
mod own_packet;
pub mod packet_io;
pub mod paths;
pub mod routes;
pub mod tsmp;
pub mod wireguard;
