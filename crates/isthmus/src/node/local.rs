//! How `isthmus node status` and its like ask the running node: a question and its answer, each a line of JSON, over a socket in the state
//! folder. Whoever may use the socket may see all of the tailnet, so it is the owner's alone.

mod ask;
mod documents;
mod serve;
mod text;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub(super) use ask::{Ask, ask};
pub(super) use serve::LocalSocket;

use documents::{Network, Pong, Status, Whois};

/// The longest line that is read.
const MAX_LINE: u64 = 16 << 20;

/// A question to the running node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Question {
    Status,
    Netcheck,
    /// One ping of the peer with this name or address.
    Ping {
        to: String,
        tsmp: bool,
    },
    Whois(IpAddr),
}

/// What the node answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Status(Status),
    Netcheck(Network),
    Ping(Pong),
    Whois(Whois),
    /// Why there is none.
    Refusal(String),
}

/// Where the node with this state folder listens.
fn socket_in(state_dir: &Path) -> PathBuf {
    state_dir.join("node.sock")
}
