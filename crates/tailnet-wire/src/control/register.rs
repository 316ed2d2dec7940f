//! Server keys and registration.

use super::{CapabilityVersion, Hostinfo, Login, User};
use crate::keys::{ChallengeKey, MachineKey, NodeKey};
use crate::object::wire_struct;
use crate::text::{Base64Bytes, SecretText};
use crate::time::GoTime;

wire_struct! {
    /// Answer to `GET /key?v=<capability version>`.
    pub struct ServerKeys {
        /// The key of the protocol before Noise; servers without it send zero.
        always "legacyPublicKey" => legacy_public_key: MachineKey,
        /// The static key of the server's Noise handshake.
        always "publicKey" => public_key: MachineKey,
    }
}

wire_struct! {
    /// What a server may send before HTTP/2 starts on a Noise connection.
    pub struct EarlyNoise {
        /// A challenge for clients that prove to hold their node key.
        always "nodeKeyChallenge" => node_key_challenge: ChallengeKey,
    }
}

wire_struct! {
    /// Body of `POST /machine/register`.
    pub struct RegisterRequest {
        /// The client's capability version.
        always "Version" => version: CapabilityVersion,
        /// The node key to register.
        always "NodeKey" => node_key: NodeKey,
        /// The node key that `NodeKey` takes the place of; zero for none.
        always "OldNodeKey" => old_node_key: NodeKey,
        /// The public key of tailnet lock (`nlpub:…`); empty for none.
        omit "NLKey" => nl_key: String,
        /// How the client authenticates; absent when it relies on an earlier registration.
        omit "Auth" => auth: Option<RegisterAuth>,
        /// When the client wants the node key to expire; a time in the past is a logout, zero asks for the default.
        always "Expiry" => expiry: GoTime,
        /// The URL of an interactive login that the client waits for; empty for none.
        always "Followup" => followup: String,
        /// About the machine.
        omit "Hostinfo" => hostinfo: Option<Hostinfo>,
        /// Whether the node shall be removed soon after it disconnects.
        omit "Ephemeral" => ephemeral: bool,
        /// The tailnet to join, for clients that may choose.
        omit "Tailnet" => tailnet: String,
    }
}

wire_struct! {
    /// How a client authenticates a registration.
    pub struct RegisterAuth {
        /// A key made by the server's management API (`tskey-auth-…`); empty for none.
        omit "AuthKey" => auth_key: SecretText,
    }
}

wire_struct! {
    /// Answer to `POST /machine/register`; HTTP status 200 even for a refusal.
    pub struct RegisterResponse {
        /// The node's user.
        always "User" => user: User,
        /// The login of that user.
        always "Login" => login: Login,
        /// Whether the node key is expired: the client must make another one.
        always "NodeKeyExpired" => node_key_expired: bool,
        /// Whether the machine may use the tailnet.
        always "MachineAuthorized" => machine_authorized: bool,
        /// Where a person must log in; empty when nobody has to.
        always "AuthURL" => auth_url: String,
        /// A signature of the node key by the server, for tailnet lock.
        omit "NodeKeySignature" => node_key_signature: Base64Bytes,
        /// Why the registration was refused; empty for success.
        omit "Error" => error: String,
    }
}
