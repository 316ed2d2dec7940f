//! Tells when devices or addresses of the network namespace may have changed.

use futures_util::StreamExt;
use nlink::Connection;
use nlink::netlink::{OwnedEventStream, Route, RtnetlinkGroup};

const GROUPS: [RtnetlinkGroup; 3] = [RtnetlinkGroup::Link, RtnetlinkGroup::Ipv4Addr, RtnetlinkGroup::Ipv6Addr];

/// Changes of devices and addresses.
pub(crate) struct LinkChanges(Option<OwnedEventStream<Route>>);

impl LinkChanges {
    /// Starts listening. Without the right to, nothing is ever told, and the regular look has to do.
    pub(crate) async fn subscribe() -> Self {
        let subscribed =
            Connection::<Route>::new().and_then(|connection| connection.subscribe(&GROUPS).map(|()| connection));
        match subscribed {
            Ok(connection) => Self(Some(connection.into_events().await)),
            Err(error) => {
                tracing::warn!(%error, "changes of the machine's addresses are noticed late");
                Self(None)
            }
        }
    }

    /// Returns at the next change.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn next(&mut self) {
        if let Some(stream) = &mut self.0 {
            match stream.next().await {
                // A lost message (the kernel's queue was full) is a change like any other.
                Some(Ok(_) | Err(_)) => return,
                None => self.0 = None,
            }
        }
        std::future::pending::<()>().await;
    }
}
