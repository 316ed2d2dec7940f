//! Ends a blocking wait of another thread.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// A flag that a thread can wait for together with a file descriptor. Waking twice counts once.
#[derive(Debug)]
pub(crate) struct Waker {
    raised: AtomicBool,
    reader: PipeReader,
    writer: PipeWriter,
}

impl Waker {
    /// A waker that nobody has woken yet.
    pub(crate) fn new() -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        Ok(Self {
            raised: AtomicBool::new(false),
            reader,
            writer,
        })
    }

    /// Wakes the one thread that waits, or the next that does.
    pub(crate) fn wake(&self) {
        if !self.raised.swap(true, Ordering::AcqRel) {
            // The pipe holds at most one byte, so this never blocks; it cannot fail while both ends are open.
            let _ = (&self.writer).write(&[1]);
        }
    }

    /// Takes a wake-up, if there was one.
    pub(crate) fn take(&self) -> bool {
        if !self.raised.load(Ordering::Acquire) {
            return false;
        }
        let _ = (&self.reader).read(&mut [0]);
        self.raised.store(false, Ordering::Release);
        true
    }

    /// Waits without a limit until `other` can be read or somebody wakes. True when `other` is ready or broken.
    pub(crate) fn wait_readable(&self, other: BorrowedFd<'_>) -> io::Result<bool> {
        let mut ready = [
            PollFd::new(other, PollFlags::POLLIN),
            PollFd::new(self.reader.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut ready, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(ready[0].any().unwrap_or(true)),
            Err(error) => Err(error.into()),
        }
    }
}
