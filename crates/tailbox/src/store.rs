//! The snapshot file: all state as JSON, readable by its owner alone, replaced as a whole.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use ts_keys::{ExportableKey, MachineKeyPair};

use crate::state::State;

/// Tells a snapshot from other JSON.
const FORMAT: &str = "isthmus-tailbox";
/// The version of the document.
const VERSION: u32 = 1;

/// The content of the file.
#[derive(Serialize, Deserialize)]
struct Snapshot<S> {
    format: String,
    version: u32,
    /// The server's own private key, as `privkey:…`.
    machine_key: String,
    state: S,
}

/// Why the snapshot file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be read.
    #[error("read state file {path:?}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The file is not a snapshot. It is left as it is.
    #[error("read state file {path:?}: not a snapshot of this program; move it away to start anew")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// The cause, if the JSON is at fault.
        #[source]
        source: Option<serde_json::Error>,
    },
    /// The snapshot is of another version of this program.
    #[error("read state file {path:?}: version {found}, but this program reads version {VERSION}")]
    Version {
        /// The file.
        path: PathBuf,
        /// The version found.
        found: u32,
    },
    /// Another process uses the file.
    #[error("lock state file {path:?}: another tailbox uses it")]
    Locked {
        /// The lock file beside it.
        path: PathBuf,
    },
    /// The file cannot be written.
    #[error("write state file {path:?}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// The snapshot file of one tailbox, or nothing.
#[derive(Debug)]
pub(crate) struct Store {
    file: Option<StateFile>,
    machine_key: MachineKeyPair,
    closed: bool,
}

#[derive(Debug)]
struct StateFile {
    path: PathBuf,
    /// Held as long as the process runs. The snapshot cannot carry the lock itself because it is replaced.
    _lock: File,
}

impl Store {
    /// Opens the file of this path, or a store that keeps nothing. A file that does not exist yet is made with the
    /// first save.
    pub(crate) fn open(path: Option<&Path>) -> Result<(Self, State), StoreError> {
        let Some(path) = path else {
            return Ok((Self::new(None, MachineKeyPair::random()), State::default()));
        };
        let file = Some(StateFile {
            path: path.to_owned(),
            _lock: lock(path)?,
        });
        match fs::read(path) {
            Ok(bytes) => {
                let (machine_key, state) = parse(path, &bytes)?;
                Ok((Self::new(file, machine_key), state))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let store = Self::new(file, MachineKeyPair::random());
                let state = State::default();
                // The server's key must survive even when nobody ever registers.
                store.save(&state)?;
                Ok((store, state))
            }
            Err(source) => Err(StoreError::Read {
                path: path.to_owned(),
                source,
            }),
        }
    }

    fn new(file: Option<StateFile>, machine_key: MachineKeyPair) -> Self {
        Self {
            file,
            machine_key,
            closed: false,
        }
    }

    /// The server's own key.
    pub(crate) fn machine_key(&self) -> &MachineKeyPair {
        &self.machine_key
    }

    /// Gives the file free for another process. Nothing can be saved from now on.
    pub(crate) fn close(&mut self) {
        self.file = None;
        self.closed = true;
    }

    /// Whether the store is closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Makes the state durable: when this returns, a crash brings back this state or a later one.
    pub(crate) fn save(&self, state: &State) -> Result<(), StoreError> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        render(&self.machine_key, state)
            .map_err(io::Error::from)
            .and_then(|bytes| replace(&file.path, &bytes))
            .map_err(|source| StoreError::Write {
                path: file.path.clone(),
                source,
            })
    }
}

/// The content of a snapshot file.
pub(crate) fn render(machine_key: &MachineKeyPair, state: &State) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&Snapshot {
        format: FORMAT.to_owned(),
        version: VERSION,
        machine_key: machine_key.export().to_string(),
        state,
    })
}

/// Reads the content of the snapshot file at `path`.
pub(crate) fn parse(path: &Path, bytes: &[u8]) -> Result<(MachineKeyPair, State), StoreError> {
    let corrupt = |source| StoreError::Corrupt {
        path: path.to_owned(),
        source,
    };
    let head: Snapshot<serde::de::IgnoredAny> = serde_json::from_slice(bytes).map_err(|error| corrupt(Some(error)))?;
    if head.format != FORMAT {
        return Err(corrupt(None));
    }
    if head.version != VERSION {
        return Err(StoreError::Version {
            path: path.to_owned(),
            found: head.version,
        });
    }
    let machine_key = head.machine_key.parse().map_err(|_| corrupt(None))?;
    let snapshot: Snapshot<State> = serde_json::from_slice(bytes).map_err(|error| corrupt(Some(error)))?;
    Ok((machine_key, snapshot.state))
}

fn lock(path: &Path) -> Result<File, StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock_path = PathBuf::from(name);
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&lock_path);
    let file = file.map_err(|source| StoreError::Write {
        path: lock_path.clone(),
        source,
    })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked { path: lock_path }),
        Err(TryLockError::Error(source)) => Err(StoreError::Write {
            path: lock_path,
            source,
        }),
    }
}

/// Replaces a file so that a crash leaves the old or the new content. Temporary files are made with mode 0600.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".tailbox-").tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests;
