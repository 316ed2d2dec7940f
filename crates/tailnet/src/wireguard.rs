//! WireGuard by `boringtun`, behind the seams of `tailnet-core`.
//!
//! `boringtun` works one packet at a time on `&mut self`, out of place, and reads the clock itself. This adapter locks once
//! per batch and never lets it queue packets: its queue is bounded in packets only.

use std::fmt;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use boringtun::noise::errors::WireGuardError;
use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Packet, Tunn, TunnResult};
use boringtun::x25519::{PublicKey, StaticSecret};
use isthmus_tailnet_core::key::NodeKey;
use isthmus_tailnet_core::wireguard::{
    DATA_HEADER, DATA_OVERHEAD, DATA_TAG, Handled, HandshakeError, Handshaker, Message, NoSession, Opened, Tick,
    Transport,
};

/// Handshake messages a second beyond which senders must prove their address. Each initiation is counted twice: before its
/// sender's key is read, and by the sender's session.
const COUNTED_PER_SECOND: u64 = 2 * 100;

/// A handshake that has not ended after this is given up (WireGuard paper, section 6.4: 90 s), with some slack.
const HANDSHAKE_LIFETIME: Duration = Duration::from_secs(95);

/// A node's WireGuard private key. Never printed.
#[derive(Clone)]
pub struct PrivateKey(StaticSecret);

impl PrivateKey {
    /// The key with these bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(StaticSecret::from(bytes))
    }

    /// The public key that belongs to it.
    pub fn public_key(&self) -> NodeKey {
        NodeKey::from_bytes(PublicKey::from(&self.0).to_bytes())
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(redacted)")
    }
}

/// This node towards all its peers.
pub(crate) struct Identity {
    secret: StaticSecret,
    public: PublicKey,
    limiter: Arc<RateLimiter>,
}

/// Whose initiation this is, or what to do with it instead of answering.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Initiator {
    /// The sender knows this peer's key, or replays somebody who does.
    Peer(NodeKey),
    /// Too many handshakes: this cookie goes back to the sender.
    Cookie(Message),
    /// Not for this node, forged, or too many at once.
    Refused,
}

impl Identity {
    pub(crate) fn new(key: &PrivateKey) -> Self {
        let public = PublicKey::from(&key.0);
        let limiter = Arc::new(RateLimiter::new(&public, COUNTED_PER_SECOND));
        Self {
            secret: key.0.clone(),
            public,
            limiter,
        }
    }

    /// Reads who sent a handshake initiation.
    pub(crate) fn initiator(&self, initiation: &[u8], from: SocketAddr) -> Initiator {
        let mut cookie = [0; DATA_HEADER * 4];
        let packet = match self.limiter.verify_packet(Some(from.ip()), initiation, &mut cookie) {
            Ok(Packet::HandshakeInit(packet)) => packet,
            Err(TunnResult::WriteToNetwork(cookie)) => {
                return Message::new(cookie).map_or(Initiator::Refused, Initiator::Cookie);
            }
            Ok(_) | Err(_) => return Initiator::Refused,
        };
        match parse_handshake_anon(&self.secret, &self.public, &packet) {
            Ok(half) => Initiator::Peer(NodeKey::from_bytes(half.peer_static_public)),
            Err(_) => Initiator::Refused,
        }
    }

    /// A peer's session without keys yet. The upper 24 bits of its session indexes are `index`.
    pub(crate) fn session(&self, peer: &NodeKey, index: u32, keepalive: Option<u16>, now: Instant) -> Session {
        let limiter = Some(Arc::clone(&self.limiter));
        let tunn = Tunn::new(
            self.secret.clone(),
            PublicKey::from(*peer.as_bytes()),
            None,
            keepalive,
            index,
            limiter,
        );
        let state = State {
            tunn,
            last_handshake: now,
        };
        Session {
            state: Mutex::new(state),
        }
    }

    /// To be called once a second.
    pub(crate) fn forget_load(&self) {
        self.limiter.reset_count();
    }
}

/// One peer's handshakes and keys.
pub(crate) struct Session {
    state: Mutex<State>,
}

struct State {
    tunn: Tunn,
    last_handshake: Instant,
}

impl Session {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Transport for Session {
    fn seal(&self, plain: &[u8], sealed: &mut [u8], stride: usize) -> Result<(), NoSession> {
        let mut state = self.state();
        if !state.is_ready() {
            return Err(NoSession);
        }
        let mut datagrams = plain.chunks(stride).zip(sealed.chunks_mut(stride));
        datagrams.try_for_each(|(plain, sealed)| state.seal(plain, sealed))
    }

    fn open(&self, batch: &[u8], stride: usize, opened: &mut [u8], packets: &mut Vec<Range<usize>>) -> Opened {
        let mut state = self.state();
        let (mut outcome, mut start) = (Opened::default(), 0);
        for datagram in batch.chunks(stride) {
            let end = start + datagram.len();
            match state.open(datagram, &mut opened[start..end]) {
                Some(0) => outcome.authentic += 1,
                Some(packet) => {
                    outcome.authentic += 1;
                    packets.push(start..start + packet);
                }
                None => outcome.refused += 1,
            }
            start = end;
        }
        outcome
    }

    fn is_ready(&self) -> bool {
        self.state().is_ready()
    }
}

impl Handshaker for Session {
    fn initiate(&self, now: Instant, again: bool) -> Option<Message> {
        let mut state = self.state();
        let mut out = [0; 2 * DATA_HEADER + 148];
        match state.tunn.format_handshake_initiation(&mut out, again) {
            TunnResult::WriteToNetwork(initiation) => {
                let initiation = Message::new(initiation);
                state.last_handshake = now;
                initiation
            }
            TunnResult::Done
            | TunnResult::Err(_)
            | TunnResult::WriteToTunnelV4(..)
            | TunnResult::WriteToTunnelV6(..) => None,
        }
    }

    fn handle(&self, message: &[u8], from: SocketAddr, now: Instant) -> Result<Handled, HandshakeError> {
        let mut state = self.state();
        let mut out = [0; 2 * DATA_HEADER + 148];
        match state.tunn.decapsulate(Some(from.ip()), message, &mut out) {
            TunnResult::WriteToNetwork(answer) => {
                let authentic = answer.first() != Some(&COOKIE_REPLY);
                let answer = Message::new(answer);
                if authentic {
                    state.last_handshake = now;
                }
                Ok(Handled { answer, authentic })
            }
            TunnResult::Err(WireGuardError::UnderLoad) => Err(HandshakeError::UnderLoad),
            TunnResult::Err(_) => Err(HandshakeError::Refused),
            TunnResult::Done | TunnResult::WriteToTunnelV4(..) | TunnResult::WriteToTunnelV6(..) => {
                Ok(Handled::default())
            }
        }
    }

    fn tick(&self, now: Instant) -> Tick {
        let mut state = self.state();
        let mut out = [0; 2 * DATA_HEADER + 148];
        let (message, expired) = match state.tunn.update_timers(&mut out) {
            TunnResult::WriteToNetwork(message) => (Message::new(message), false),
            TunnResult::Err(_) => (None, true),
            TunnResult::Done | TunnResult::WriteToTunnelV4(..) | TunnResult::WriteToTunnelV6(..) => (None, false),
        };
        let in_progress = !expired && now.saturating_duration_since(state.last_handshake) < HANDSHAKE_LIFETIME;
        Tick {
            message,
            alive: state.is_ready() || in_progress,
        }
    }
}

/// First byte of a cookie reply (WireGuard paper, section 5.4.7).
const COOKIE_REPLY: u8 = 3;

impl State {
    /// Whether `boringtun` has a current session: without one it would queue packets.
    fn is_ready(&self) -> bool {
        self.tunn.time_since_last_handshake().is_some()
    }

    fn seal(&mut self, plain: &[u8], sealed: &mut [u8]) -> Result<(), NoSession> {
        // Shorter datagrams would make boringtun panic; the callers' batches have none.
        let end = plain
            .len()
            .checked_sub(DATA_TAG)
            .filter(|end| *end > DATA_HEADER && sealed.len() >= plain.len())
            .ok_or(NoSession)?;
        match self.tunn.encapsulate(&plain[DATA_HEADER..end], sealed) {
            TunnResult::WriteToNetwork(_) => Ok(()),
            TunnResult::Done
            | TunnResult::Err(_)
            | TunnResult::WriteToTunnelV4(..)
            | TunnResult::WriteToTunnelV6(..) => Err(NoSession),
        }
    }

    /// The length of the packet that now begins `opened`, 0 for a keep-alive, nothing when the datagram does not open.
    fn open(&mut self, datagram: &[u8], opened: &mut [u8]) -> Option<usize> {
        if datagram.len() < DATA_OVERHEAD {
            return None;
        }
        match self.tunn.decapsulate(None, datagram, opened) {
            TunnResult::WriteToTunnelV4(packet, _) | TunnResult::WriteToTunnelV6(packet, _) => Some(packet.len()),
            TunnResult::Done => Some(0),
            TunnResult::WriteToNetwork(_) | TunnResult::Err(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;
