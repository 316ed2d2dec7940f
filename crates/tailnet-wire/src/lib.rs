//! Wire types and codecs of the tailnet protocols.
//!
//! Everything here is a pure function of its arguments: no sockets, no clock, no randomness. The types follow the
//! documents on the wire and are usable in both directions, so that a client and a server of ours read and write the
//! same definitions.
//!
//! Decoding is tolerant where real peers are careless (member names without regard to case, `null` for nothing, unknown
//! members skipped); encoding uses exactly the member names that the Go programs write.

pub mod control;
pub mod derp;
pub mod dns;
pub mod framing;
pub mod keys;
pub mod noise;
mod object;
pub mod stun;
pub mod text;
pub mod time;
