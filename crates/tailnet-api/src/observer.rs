//! Somebody who hears of every request, for metrics.

use std::time::Duration;

/// Hears of every request. Called in the middle of a call, so it must not wait.
pub trait Observer: Send + Sync {
    /// A request was made and answered with this status; without one, there was no answer.
    fn asked(&self, call: Call, status: Option<u16>);
    /// A request waits this long for its turn.
    fn waits(&self, wait: Duration);
}

/// Kinds of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Call {
    /// A token for the OAuth client.
    Token,
    /// Finds out what the server speaks.
    Detect,
    /// Makes an auth key.
    CreateKey,
    /// Lists keys.
    ListKeys,
    /// Revokes a key.
    DeleteKey,
    /// Lists devices.
    ListDevices,
    /// Reads a device.
    GetDevice,
    /// Removes a device.
    DeleteDevice,
    /// Changes the tags of a device.
    SetTags,
    /// Anything else.
    Other,
}

impl Call {
    /// The label in metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Detect => "detect",
            Self::CreateKey => "create_key",
            Self::ListKeys => "list_keys",
            Self::DeleteKey => "delete_key",
            Self::ListDevices => "list_devices",
            Self::GetDevice => "get_device",
            Self::DeleteDevice => "delete_device",
            Self::SetTags => "set_tags",
            Self::Other => "other",
        }
    }
}
