//! Copies between two connections: what one side ends the other side sees end, what one side breaks breaks the other.

use std::cell::RefCell;
use std::io;
use std::net::Shutdown;
use std::sync::atomic::{AtomicUsize, Ordering};

use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;

/// What one read takes at most.
const CHUNK: usize = 64 * 1024;

/// What one read takes while receivers already owe [`ENOUGH_HELD`] bytes.
const SMALL_CHUNK: usize = 2 * 1024;

/// Bytes that wait for slow receivers, over all connections, beyond which reads get small.
const ENOUGH_HELD: usize = 16 * 1024 * 1024;

thread_local! {
    /// Lent for one read and the write after it, so that a connection that is idle holds no memory.
    static CHUNK_BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; CHUNK]);
}

/// Lends the thread's buffer.
pub(super) fn with_buffer<R>(work: impl FnOnce(&mut [u8]) -> R) -> R {
    CHUNK_BUFFER.with_borrow_mut(|buffer| work(buffer))
}

/// What a step of copying came to.
enum Step {
    /// Everything that was read is written, or nothing was there.
    Moved,
    /// The reader's side has ended.
    End,
    /// This was read and not taken.
    Rest(Vec<u8>),
}

/// Copies both ways until both sides have ended. An error means that one side broke; both are to be reset then.
pub(super) async fn copy_both(one: &TcpStream, other: &TcpStream, held: &AtomicUsize) -> io::Result<()> {
    tokio::try_join!(copy(one, other, held), copy(other, one, held)).map(drop)
}

async fn copy(from: &TcpStream, to: &TcpStream, held: &AtomicUsize) -> io::Result<()> {
    loop {
        // Reading waits for room at the receiver, so that what cannot be passed on stays with the sender.
        unless_broken(to, to.writable()).await?;
        unless_broken(to, from.readable()).await?;
        match step(from, to, held)? {
            Step::Moved => {}
            Step::End => return SockRef::from(to).shutdown(Shutdown::Write),
            Step::Rest(rest) => {
                let _held = Held::new(held, rest.len());
                unless_broken(from, write_all(to, &rest)).await?;
            }
        }
        tokio::task::consume_budget().await;
    }
}

/// Waits for `wanted`, but no longer than `watched` is whole: a side that only waits notices a reset of the other.
async fn unless_broken<R>(watched: &TcpStream, wanted: impl Future<Output = io::Result<R>>) -> io::Result<R> {
    tokio::select! {
        biased;
        done = wanted => done,
        () = broken(watched) => Err(io::ErrorKind::ConnectionReset.into()),
    }
}

/// Returns when a connection was reset or timed out.
pub(super) async fn broken(stream: &TcpStream) {
    // An error means that the runtime ends, and everything with it.
    let _ready = stream.ready(Interest::ERROR).await;
}

fn step(from: &TcpStream, to: &TcpStream, held: &AtomicUsize) -> io::Result<Step> {
    with_buffer(|buffer| {
        let room = if held.load(Ordering::Relaxed) > ENOUGH_HELD {
            SMALL_CHUNK
        } else {
            CHUNK
        };
        let Some(read) = ready(from.try_read(&mut buffer[..room]))? else {
            return Ok(Step::Moved);
        };
        if read == 0 {
            return Ok(Step::End);
        }
        let written = ready(to.try_write(&buffer[..read]))?.unwrap_or(0);
        Ok(if written == read {
            Step::Moved
        } else {
            Step::Rest(buffer[written..read].to_vec())
        })
    })
}

/// None: not now.
fn ready<R>(outcome: io::Result<R>) -> io::Result<Option<R>> {
    match outcome {
        Ok(done) => Ok(Some(done)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

async fn write_all(to: &TcpStream, mut rest: &[u8]) -> io::Result<()> {
    while !rest.is_empty() {
        to.writable().await?;
        let written = ready(to.try_write(rest))?.unwrap_or(0);
        rest = &rest[written..];
    }
    Ok(())
}

/// Counts bytes for as long as they wait.
struct Held<'a>(&'a AtomicUsize, usize);

impl<'a> Held<'a> {
    fn new(held: &'a AtomicUsize, bytes: usize) -> Self {
        held.fetch_add(bytes, Ordering::Relaxed);
        Self(held, bytes)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
