//! Seals and opens disco messages.

use std::net::SocketAddr;

use isthmus_tailnet_core::disco::{Message, TransactionId};
use isthmus_tailnet_core::key::{DiscoKey, NodeKey};
use isthmus_tailnet_wire::keys as wire;
use ts_disco_protocol::{CallMeMaybe, Encrypted, Endpoint, MessageType, Packet, Ping, Plaintext, Pong};
use ts_keys::{DiscoPrivateKey, DiscoPublicKey, ExportableKey, NodePublicKey};
use zerocopy::{Immutable, IntoBytes, KnownLayout, TryFromBytes};

/// Endpoints of a call-me-maybe that are read at most.
const MAX_CALLED: usize = 32;

/// The disco identity of one run of the node.
pub(crate) struct DiscoBox {
    key: DiscoPrivateKey,
}

impl DiscoBox {
    /// A new identity.
    pub(crate) fn random() -> Self {
        Self {
            key: DiscoPrivateKey::random(),
        }
    }

    /// The identity that [`render`](Self::render) wrote; nothing for any other text.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        text.trim().parse().ok().map(|key| Self { key })
    }

    /// The private key as text.
    pub(crate) fn render(&self) -> String {
        self.key.export().to_string()
    }

    /// The public key, for control.
    pub(crate) fn public_key(&self) -> DiscoKey {
        DiscoKey::from_bytes(*wire::DiscoKey::from(self.key.public_key()).as_bytes())
    }

    /// Seals `message` for the node with the key `to`. Nothing comes of a key with which no secret can be shared.
    pub(crate) fn seal(&self, to: &DiscoKey, message: &Message) -> Option<Vec<u8>> {
        match message {
            Message::Ping { id, node } => self.pack(to, Ping::size_with_padding(0), |ping: &mut Ping| {
                ping.tx_id = *id;
                let node = node.unwrap_or(NodeKey::from_bytes([0; 32]));
                ping.node_key = NodePublicKey::from(wire::NodeKey::from_bytes(*node.as_bytes()));
            }),
            Message::Pong { id, observed } => self.pack(to, Pong::size(), |pong: &mut Pong| {
                pong.tx_id = *id;
                pong.src = Endpoint::from_socket_addr(*observed);
            }),
            Message::CallMeMaybe { endpoints } => {
                let size = CallMeMaybe::size_for_endpoint_count(endpoints.len());
                self.pack(to, size, |call: &mut CallMeMaybe| {
                    for (place, endpoint) in call.endpoints.iter_mut().zip(endpoints) {
                        *place = Endpoint::from_socket_addr(*endpoint);
                    }
                })
            }
        }
    }

    fn pack<M>(&self, to: &DiscoKey, size: usize, fill: impl FnOnce(&mut M)) -> Option<Vec<u8>>
    where
        M: ?Sized + ts_disco_protocol::Message + Immutable + TryFromBytes + IntoBytes + KnownLayout,
    {
        let mut bytes = Packet::<Plaintext>::vec_for_message(size);
        let to = DiscoPublicKey::from(wire::DiscoKey::from_bytes(*to.as_bytes()));
        Packet::<Plaintext>::init_from_bytes::<M>(&mut bytes, fill)
            .and_then(|packet| packet.encrypt_in_place(&self.key, &to, rand::random()))
            .ok()?;
        Some(bytes)
    }

    /// Opens a datagram. Gives nothing for what is no disco message, not from a sender that is `known`, damaged, or of a kind that is not
    /// understood.
    pub(crate) fn open(
        &self,
        datagram: &mut [u8],
        known: impl FnOnce(&DiscoKey) -> bool,
    ) -> Option<(DiscoKey, Message)> {
        let packet = Packet::<Encrypted>::from_encrypted_bytes_mut(datagram).ok()?;
        let sender = DiscoKey::from_bytes(*wire::DiscoKey::from(*packet.sender_pubkey()).as_bytes());
        if !known(&sender) {
            return None;
        }
        let packet = packet.decrypt_in_place(&self.key).ok()?;
        let message = match packet.ty()? {
            MessageType::Ping => {
                let ping = packet.as_msg::<Ping>()?;
                let node = NodeKey::from_bytes(*wire::NodeKey::from(ping.node_key).as_bytes());
                Message::Ping {
                    id: ping.tx_id,
                    node: (!node.is_zero()).then_some(node),
                }
            }
            MessageType::Pong => {
                let pong = packet.as_msg::<Pong>()?;
                Message::Pong {
                    id: pong.tx_id,
                    observed: pong.src.socket_addr(),
                }
            }
            MessageType::CallMeMaybe => {
                let called = packet.as_msg::<CallMeMaybe>()?.endpoints.iter().take(MAX_CALLED);
                Message::CallMeMaybe {
                    endpoints: called.map(Endpoint::socket_addr).collect::<Vec<SocketAddr>>(),
                }
            }
            // Relaying of UDP between peers, which this node does not do.
            MessageType::BindUdpRelayEndpoint
            | MessageType::BindUdpRelayEndpointChallenge
            | MessageType::BindUdpRelayEndpointAnswer
            | MessageType::CallMeMaybeVia
            | MessageType::AllocateUdpRelayEndpointsRequest
            | MessageType::AllocateUdpRelayEndpointsResponse => return None,
        };
        Some((sender, message))
    }
}

/// A random name for a ping.
pub(crate) fn random_id() -> TransactionId {
    rand::random()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_round_trip_between_two_nodes_and_nobody_else() {
        let (a, b, stranger) = (DiscoBox::random(), DiscoBox::random(), DiscoBox::random());
        let v4: SocketAddr = "192.0.2.1:41641".parse().unwrap();
        let v6: SocketAddr = "[2001:db8::1]:7".parse().unwrap();
        let messages = [
            Message::Ping {
                id: [1; 12],
                node: Some(NodeKey::from_bytes([7; 32])),
            },
            Message::Pong {
                id: [2; 12],
                observed: v4,
            },
            Message::Pong {
                id: [3; 12],
                observed: v6,
            },
            Message::CallMeMaybe {
                endpoints: vec![v4, v6],
            },
        ];
        for message in messages {
            let sealed = a.seal(&b.public_key(), &message).unwrap();
            let expected = Some((a.public_key(), message));
            assert_eq!(b.open(&mut sealed.clone(), |_| true), expected);
            assert_eq!(b.open(&mut sealed.clone(), |_| false), None);
            assert_eq!(stranger.open(&mut sealed.clone(), |_| true), None);
            for at in 0..sealed.len() {
                let mut damaged = sealed.clone();
                damaged[at] ^= 1;
                assert_eq!(b.open(&mut damaged, |_| true), None, "byte {at}");
                assert_eq!(b.open(&mut sealed[..at].to_vec(), |_| true), None, "cut at {at}");
            }
        }
    }
}
