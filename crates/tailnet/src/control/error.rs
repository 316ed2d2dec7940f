//! What goes wrong between a node and its control server.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use isthmus_runtime::resolve::ConnectError;
use isthmus_tailnet_core::netmap::NetmapError;
use isthmus_tailnet_wire::framing::FrameError;

use crate::state::StateError;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why a session with control ended. All of these are retried.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControlError {
    #[error("cannot reach control server {server}")]
    Connect {
        server: String,
        #[source]
        source: ConnectError,
    },
    #[error("cannot trust control server {server}: add its authority to the trusted certificates if it is private")]
    Tls {
        server: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot {action}: control server {server} does not speak the protocol of a control server")]
    Protocol {
        action: &'static str,
        server: String,
        #[source]
        source: Cause,
    },
    #[error("cannot {action}: the connection to the control server broke")]
    Broken {
        action: &'static str,
        #[source]
        source: Cause,
    },
    #[error("cannot {action}: the control server did not answer in time")]
    TimedOut { action: &'static str },
    /// Control's own words are in `message`.
    #[error("cannot {action}: control answered with status {status}: {message}")]
    Status {
        action: &'static str,
        status: u16,
        message: String,
        retry_after: Option<Duration>,
    },
    #[error("cannot follow the network map: the control server ended the stream")]
    StreamEnded,
    #[error("cannot follow the network map: the control server was silent for two minutes")]
    Silent,
    #[error("cannot follow the network map: this machine lost the address {address} that the connection hung on")]
    Moved { address: IpAddr },
    #[error("cannot read a message of the network map")]
    Frame(#[from] FrameError),
    #[error("cannot decompress a message of the network map")]
    Decompress(#[source] io::Error),
    #[error("cannot understand a message of the network map")]
    Json(#[source] serde_json::Error),
    #[error(transparent)]
    Netmap(#[from] NetmapError),
    #[error(transparent)]
    State(#[from] StateError),
}

impl ControlError {
    /// How long control asked to wait.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        if let Self::Status { retry_after, .. } = self {
            *retry_after
        } else {
            None
        }
    }
}

/// Limits how long an action may take.
pub(crate) async fn in_time<T>(
    action: &'static str,
    limit: Duration,
    work: impl Future<Output = Result<T, ControlError>>,
) -> Result<T, ControlError> {
    tokio::time::timeout(limit, work)
        .await
        .unwrap_or(Err(ControlError::TimedOut { action }))
}
