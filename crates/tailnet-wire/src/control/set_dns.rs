//! Records that a node asks the server to publish, by which it proves to hold a name.

use super::CapabilityVersion;
use crate::keys::NodeKey;
use crate::object::wire_struct;

wire_struct! {
    /// Body of `POST /machine/set-dns`.
    pub struct SetDnsRequest {
        /// The client's capability version.
        always "Version" => version: CapabilityVersion,
        /// The node, which must belong to the machine of the Noise connection.
        always "NodeKey" => node_key: NodeKey,
        /// Fully qualified, without the final dot: `_acme-challenge.` and one of the node's certificate domains.
        always "Name" => name: String,
        /// Record type; servers take `TXT`.
        always "Type" => kind: String,
        /// The record's value.
        always "Value" => value: String,
    }
}
