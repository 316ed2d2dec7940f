//! What the operator shows the tailnet: an OAuth client, or an API key.

use std::{fs, io, path::PathBuf};

use isthmus_runtime::Secret;

/// Where the credentials come from.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// An OAuth client given once.
    Fixed {
        /// Id of the OAuth client.
        client_id: String,
        /// Its secret.
        client_secret: Secret,
    },
    /// An OAuth client in files. They are read again for every request, so that rotating a mounted Secret needs no
    /// restart.
    Files {
        /// File with the id of the OAuth client.
        client_id: PathBuf,
        /// File with its secret.
        client_secret: PathBuf,
    },
    /// A file with an API key, read again for every request.
    ApiKeyFile(PathBuf),
}

/// The credentials as they are now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Grant {
    /// Gets a token for these.
    Client { id: String, secret: Secret },
    /// Goes with every request as it is.
    Key(Secret),
}

/// The credentials are not at hand.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A file cannot be read.
    #[error("cannot read {path}: mount the Secret that holds the tailnet's credentials there")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        cause: io::Error,
    },
    /// A file holds nothing.
    #[error("{path} is empty: fill the key of the Secret that is mounted there")]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

impl Credentials {
    /// The credentials as they are now.
    pub(crate) fn read(&self) -> Result<Grant, CredentialsError> {
        match self {
            Self::Fixed {
                client_id,
                client_secret,
            } => Ok(Grant::Client {
                id: client_id.clone(),
                secret: client_secret.clone(),
            }),
            Self::Files {
                client_id,
                client_secret,
            } => Ok(Grant::Client {
                id: read(client_id)?.expose().to_owned(),
                secret: read(client_secret)?,
            }),
            Self::ApiKeyFile(path) => read(path).map(Grant::Key),
        }
    }
}

fn read(path: &PathBuf) -> Result<Secret, CredentialsError> {
    let text = fs::read_to_string(path).map_err(|cause| CredentialsError::Read {
        path: path.clone(),
        cause,
    })?;
    if text.trim().is_empty() {
        return Err(CredentialsError::Empty { path: path.clone() });
    }
    Ok(Secret::from_file_content(&text))
}
