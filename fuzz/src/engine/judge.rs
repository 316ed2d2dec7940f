//! Runs a target on one input, and says what went wrong.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use isthmus_sys::allocation;

use crate::targets::Target;

/// Memory that reading an input may take: this much for any, and this much for each of its bytes.
const MEMORY: (usize, usize) = (1 << 20, 2048);

static SAID: Mutex<String> = Mutex::new(String::new());

/// Keeps what panics say to itself, for [`Judge::run`] to tell.
pub fn quiet() {
    panic::set_hook(Box::new(|info| {
        *SAID.lock().unwrap_or_else(PoisonError::into_inner) = info.to_string();
    }));
}

/// The input that is being read, in a file where others find it when it takes the process down or does not end. The
/// file's first 8 bytes are its length (little-endian).
pub struct Current(Option<File>);

impl Current {
    /// Kept in a file, or nowhere.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn new(path: Option<&Path>) -> io::Result<Self> {
        path.map(File::create).transpose().map(Self)
    }

    /// The input in such a file; nothing when there is none.
    pub fn left_behind(path: &Path) -> Option<Vec<u8>> {
        let bytes = std::fs::read(path).ok()?;
        let (length, rest) = bytes.split_first_chunk::<8>()?;
        let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
        rest.get(..length).map(<[u8]>::to_vec)
    }

    fn set(&self, input: &[u8]) {
        if let Some(file) = &self.0 {
            let length = u64::try_from(input.len()).unwrap_or_default().to_le_bytes();
            // What cannot be written is only missing from the report of a crash.
            let _ = file.write_all_at(&[&length[..], input].concat(), 0);
        }
    }
}

/// Runs targets on inputs.
pub struct Judge {
    current: Current,
}

impl Judge {
    /// A judge that notes what it runs.
    pub fn new(current: Current) -> Self {
        Self { current }
    }

    /// Runs a target on an input. Gives what is wrong with it: what the target's panic said, or that it took too much
    /// memory.
    ///
    /// # Errors
    /// What went wrong.
    pub fn run(&mut self, target: &Target, input: &[u8]) -> Result<(), String> {
        self.current.set(input);
        let before = allocation::live();
        allocation::reset_peak();
        let result = panic::catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
        let taken = allocation::peak().saturating_sub(before);
        if result.is_err() {
            return Err(std::mem::take(
                &mut *SAID.lock().unwrap_or_else(PoisonError::into_inner),
            ));
        }
        let allowed = MEMORY.0 + MEMORY.1 * input.len();
        if taken > allowed {
            return Err(format!(
                "{} bytes of input took {taken} bytes of memory, more than {allowed}",
                input.len()
            ));
        }
        Ok(())
    }
}
