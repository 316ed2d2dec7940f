//! Records that control publishes for a node, by which an authority sees that the node holds a name.

use isthmus_tailnet_wire::control::SetDnsRequest;

use super::Node;
use crate::control::{CAPABILITY_VERSION, ControlError};

/// Why a record is not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The node has no connection to control now; it comes back by itself.
    #[error("cannot publish the record {name}: the node is not connected to control now; try again")]
    NotConnected {
        /// The record's name.
        name: String,
    },
    /// Control does not let this node set the record, or serves none at all.
    #[error("cannot publish the record {name}: control answered with status {status}: {message}")]
    Refused {
        /// The record's name.
        name: String,
        /// The status.
        status: u16,
        /// Control's own words.
        message: String,
    },
    /// The connection to control broke. The record may be published.
    #[error("cannot publish the record {name}; try again")]
    Lost {
        /// The record's name.
        name: String,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Node {
    /// Lets control publish a TXT record, as authorities ask for it to see who holds a name (ACME, RFC 8555 §8.4). Control takes
    /// `_acme-challenge.` and one of the names in [`Dns::cert_domains`](isthmus_tailnet_core::netmap::Dns) of the node's network map.
    ///
    /// # Errors
    /// When control cannot be reached now, or refuses.
    pub async fn publish_txt(&self, name: &str, value: &str) -> Result<(), PublishError> {
        let name = name.trim_end_matches('.').to_owned();
        let open = self.session.borrow().clone();
        let Some(requester) = open else {
            return Err(PublishError::NotConnected { name });
        };
        let request = SetDnsRequest {
            version: CAPABILITY_VERSION.into(),
            node_key: self.key,
            name: name.clone(),
            kind: "TXT".to_owned(),
            value: value.to_owned(),
        };
        let told = requester.tell("publish a record", "/machine/set-dns", &request).await;
        told.map_err(|error| {
            if let ControlError::Status { status, message, .. } = error {
                return PublishError::Refused { name, status, message };
            }
            PublishError::Lost {
                name,
                source: error.into(),
            }
        })
    }
}
