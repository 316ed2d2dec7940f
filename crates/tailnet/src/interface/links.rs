//! Tells when devices or addresses of the network namespace may have changed.

use futures_util::StreamExt;
use nlink::Connection;
use nlink::netlink::{OwnedEventStream, Route, RtnetlinkGroup};

/// Changes of devices, or of devices and addresses, in the network namespace of the thread that subscribed.
pub struct LinkChanges(Option<OwnedEventStream<Route>>);

impl LinkChanges {
    /// Listens for a device that comes, goes or changes. Without the right to, nothing is ever told, and who listens has to
    /// look by itself now and then. Needs a tokio runtime.
    pub async fn of_devices() -> Self {
        Self::subscribe(&[RtnetlinkGroup::Link]).await
    }

    /// Listens for changes of addresses as well.
    pub async fn of_devices_and_addresses() -> Self {
        use RtnetlinkGroup::{Ipv4Addr, Ipv6Addr, Link};
        Self::subscribe(&[Link, Ipv4Addr, Ipv6Addr]).await
    }

    async fn subscribe(groups: &[RtnetlinkGroup]) -> Self {
        let subscribed =
            Connection::<Route>::new().and_then(|connection| connection.subscribe(groups).map(|()| connection));
        match subscribed {
            Ok(connection) => Self(Some(connection.into_events().await)),
            Err(error) => {
                tracing::warn!(%error, "changes of devices and addresses are noticed late");
                Self(None)
            }
        }
    }

    /// Returns at the next change.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn next(&mut self) {
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
