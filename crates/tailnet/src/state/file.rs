//! State in one JSON file: an object of base64 texts by key, as the Go client's file store has it.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use tokio::sync::Mutex;

use super::{StateChanges, StateError, StateStore, StateValues};

/// Keeps state in a file of mode 0600 that is replaced as a whole. One process at a time may use it.
pub struct FileStore {
    path: PathBuf,
    writing: Mutex<()>,
}

impl FileStore {
    /// A store in the file at `path`, which is made with its folder at the first write.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            writing: Mutex::new(()),
        }
    }

    fn error(&self, action: &'static str) -> impl FnOnce(io::Error) -> StateError {
        let place = self.path.display().to_string();
        move |source| StateError {
            action,
            place,
            source: source.into(),
        }
    }
}

impl StateStore for FileStore {
    fn load(&self) -> BoxFuture<'_, Result<StateValues, StateError>> {
        ready(read(&self.path).map_err(self.error("read"))).boxed()
    }

    fn store(&self, changes: StateChanges) -> BoxFuture<'_, Result<(), StateError>> {
        async move {
            let _one_at_a_time = self.writing.lock().await;
            let mut values = read(&self.path).map_err(self.error("read"))?;
            apply(&mut values, changes);
            replace(&self.path, &values).map_err(self.error("write"))
        }
        .boxed()
    }
}

pub(super) fn apply(values: &mut StateValues, changes: StateChanges) {
    for (key, value) in changes {
        match value {
            Some(value) => values.insert(key, value),
            None => values.remove(&key),
        };
    }
}

fn read(path: &Path) -> io::Result<StateValues> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(StateValues::new()),
        Err(error) => return Err(error),
    };
    let texts: BTreeMap<String, String> = serde_json::from_slice(&bytes).map_err(io::Error::other)?;
    texts
        .into_iter()
        .map(|(key, text)| Ok((key, STANDARD.decode(text).map_err(io::Error::other)?)))
        .collect()
}

/// Writes beside the file and renames, so that a crash leaves the old content or the new.
fn replace(path: &Path, values: &StateValues) -> io::Result<()> {
    let texts: BTreeMap<&String, String> = values
        .iter()
        .map(|(key, value)| (key, STANDARD.encode(value)))
        .collect();
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let beside = path.with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)?;
    file.write_all(&serde_json::to_vec_pretty(&texts).map_err(io::Error::other)?)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests;
