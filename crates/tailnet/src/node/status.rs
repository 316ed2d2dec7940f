//! What a node tells.

use std::io;
use std::sync::Arc;

use isthmus_tailnet_core::netmap::Netmap;

use crate::dataplane::DataPlaneError;
use crate::interface::InterfaceError;
use crate::state::{IdentityError, StateError};
use crate::tun::TunError;
use crate::udp::UdpError;

/// The state of a node at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NodeStatus {
    /// How far the login is.
    pub login: LoginState,
    /// The newest network map. It stays, and traffic goes on, when control is lost later.
    pub netmap: Option<Arc<Netmap>>,
    /// Whether a map stream of control is open now.
    pub connected: bool,
}

/// How far a login is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum LoginState {
    /// The control server is not reached yet.
    #[default]
    Starting,
    /// The control server cannot be reached or used. The node keeps trying.
    Connecting {
        /// Why the last attempt failed.
        problem: String,
    },
    /// The registration is under way.
    Registering,
    /// Control refuses the node, in its own words; another auth key or a person has to help. The node asks again from time to time.
    NeedsLogin {
        /// What control said.
        message: String,
    },
    /// The machine waits for an administrator's approval.
    NeedsApproval,
    /// Logged in; the network map is held.
    Running,
    /// The node key expired. Another one is stored, and takes effect when the node is started again.
    RestartNeeded,
}

impl NodeStatus {
    /// That of a node that goes on with the map of the run before.
    pub(super) fn remembered(netmap: Arc<Netmap>) -> Self {
        Self {
            login: LoginState::Running,
            netmap: Some(netmap),
            connected: false,
        }
    }

    /// Whether the node is logged in and holds a network map.
    pub fn is_running(&self) -> bool {
        self.login == LoginState::Running && self.netmap.is_some()
    }
}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The login server's URL is no URL of a control server.
    #[error("cannot use login server {url:?}: give a URL like https://control.example.com")]
    BadLoginServer {
        /// The URL as given.
        url: String,
    },
    /// State cannot be read or written.
    #[error(transparent)]
    State(#[from] StateError),
    /// Stored state is no identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// There is no TUN device.
    #[error(transparent)]
    Tun(#[from] TunError),
    /// There is no UDP socket.
    #[error(transparent)]
    Udp(#[from] UdpError),
    /// The kernel does not tell the node's port.
    #[error("cannot tell the node's UDP port")]
    Port(#[source] io::Error),
    /// The device's addresses and routes cannot be managed.
    #[error(transparent)]
    Interface(#[from] InterfaceError),
    /// The data plane does not run.
    #[error(transparent)]
    DataPlane(#[from] DataPlaneError),
}

/// Whose turn it is to mend a [`NodeError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeErrorKind {
    /// The configuration.
    Configuration,
    /// Rights or devices of the machine or container.
    Environment,
    /// The place where state is kept.
    State,
}

impl NodeError {
    /// Whose turn it is.
    pub fn kind(&self) -> NodeErrorKind {
        match self {
            Self::BadLoginServer { .. } => NodeErrorKind::Configuration,
            Self::State(_) | Self::Identity(_) => NodeErrorKind::State,
            Self::Tun(_) | Self::Udp(_) | Self::Port(_) | Self::Interface(_) | Self::DataPlane(_) => {
                NodeErrorKind::Environment
            }
        }
    }
}
