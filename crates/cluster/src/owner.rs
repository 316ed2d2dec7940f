//! The machine-wide register of clusters: which state folder holds which slot.
//!
//! One folder a slot in `/run/isthmus`, made before anything else of the cluster and removed last. A name that is in use
//! on the machine without such an entry is not ours and is left alone.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::spec::slot_name;

const REGISTER: &str = "/run/isthmus";

/// Held while the register is changed.
pub(crate) const LOCK: &str = "register.lock";

/// The folder of a cluster in the register.
pub(crate) fn run_folder(name: &str) -> PathBuf {
    Path::new(REGISTER).join(name)
}

/// The folder of the register itself.
pub(crate) fn register() -> &'static Path {
    Path::new(REGISTER)
}

/// The slot that this state folder holds.
pub(crate) fn held_slot(state: &Path, highest: u8) -> Result<Option<u8>> {
    for slot in 0..=highest {
        if owner_of(&slot_name(slot))?.is_some_and(|owner| owner == state) {
            return Ok(Some(slot));
        }
    }
    Ok(None)
}

/// The slots that are held by state folders in this folder, with those.
pub(crate) fn slots_below(folder: &Path, highest: u8) -> Result<Vec<(u8, PathBuf)>> {
    let mut slots = Vec::new();
    for slot in 0..=highest {
        let owner = owner_of(&slot_name(slot))?.filter(|owner| owner.starts_with(folder));
        slots.extend(owner.map(|owner| (slot, owner)));
    }
    Ok(slots)
}

/// The slot that this state folder holds, or the first free one, which it holds from now on.
pub(crate) fn claim_slot(state: &Path, highest: u8) -> Result<u8> {
    let _lock = lock(LOCK)?;
    if let Some(slot) = held_slot(state, highest)? {
        return Ok(slot);
    }
    for slot in 0..=highest {
        let name = slot_name(slot);
        if owner_of(&name)?.is_none() {
            enter(&name, state)?;
            return Ok(slot);
        }
    }
    bail!(
        "every cluster slot of this machine is taken, see {REGISTER}: run `cargo xtask cluster down` where one is not needed"
    )
}

/// The state folder that holds this name.
pub(crate) fn owner_of(name: &str) -> Result<Option<PathBuf>> {
    let file = owner_file(name);
    match fs::read_to_string(&file) {
        Ok(text) => Ok(Some(PathBuf::from(text.trim_end()))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read the cluster register {}", file.display())),
    }
}

/// Enters this state folder as the holder of the name.
///
/// # Errors
/// When another folder holds it.
pub(crate) fn claim(name: &str, state: &Path) -> Result<()> {
    let _lock = lock(LOCK)?;
    match owner_of(name)? {
        Some(owner) if owner == state => Ok(()),
        Some(owner) => bail!(
            "the cluster name {name} belongs to {}: choose another slot or take that one down",
            owner.display()
        ),
        None => enter(name, state),
    }
}

/// Removes the entry and its folder.
pub(crate) fn release(name: &str) -> Result<()> {
    match fs::remove_dir_all(run_folder(name)) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", run_folder(name).display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Whether any cluster of this machine is registered.
pub(crate) fn any_left() -> bool {
    let Ok(entries) = fs::read_dir(REGISTER) else {
        return false;
    };
    entries.flatten().any(|entry| entry.path().join("owner").exists())
}

/// Holds a lock of this machine until the file is dropped; waits for it.
pub(crate) fn lock(file: &str) -> Result<File> {
    fs::create_dir_all(REGISTER).with_context(|| format!("make {REGISTER} (a cluster needs root)"))?;
    let path = Path::new(REGISTER).join(file);
    let lock = File::create(&path).with_context(|| format!("open the lock {}", path.display()))?;
    lock.lock()
        .with_context(|| format!("take the lock {}", path.display()))?;
    Ok(lock)
}

fn enter(name: &str, state: &Path) -> Result<()> {
    let file = owner_file(name);
    fs::create_dir_all(run_folder(name))
        .and_then(|()| fs::write(&file, state.as_os_str().as_encoded_bytes()))
        .with_context(|| format!("write the cluster register {}", file.display()))
}

fn owner_file(name: &str) -> PathBuf {
    run_folder(name).join("owner")
}
