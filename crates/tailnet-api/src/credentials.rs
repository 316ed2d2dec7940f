//! Where the OAuth client's id and secret come from.

use std::{fs, io, path::PathBuf};

use isthmus_runtime::Secret;

/// Id and secret of an OAuth client.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// Given once.
    Fixed {
        /// Id of the OAuth client.
        client_id: String,
        /// Its secret.
        client_secret: Secret,
    },
    /// Read again for every token, so that rotating a mounted Secret needs no restart.
    Files {
        /// File with the id of the OAuth client.
        client_id: PathBuf,
        /// File with its secret.
        client_secret: PathBuf,
    },
}

/// A credentials file could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read OAuth credentials from {path}: mount the Secret that holds client_id and client_secret there")]
pub struct CredentialsError {
    path: PathBuf,
    #[source]
    cause: io::Error,
}

impl Credentials {
    /// Id and secret as they are now.
    pub(crate) fn read(&self) -> Result<(String, Secret), CredentialsError> {
        let read = |path: &PathBuf| {
            fs::read_to_string(path).map_err(|cause| CredentialsError {
                path: path.clone(),
                cause,
            })
        };
        match self {
            Self::Fixed {
                client_id,
                client_secret,
            } => Ok((client_id.clone(), client_secret.clone())),
            Self::Files {
                client_id,
                client_secret,
            } => Ok((
                read(client_id)?.trim().to_owned(),
                Secret::from_file_content(&read(client_secret)?),
            )),
        }
    }
}
