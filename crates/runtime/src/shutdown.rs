//! Ending a process: one signal that every task can wait for.

use std::io;

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// Tells tasks that the process shall end. Cheap to clone; all clones share one state.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Sender<bool>);

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

impl Shutdown {
    /// Not shutting down yet.
    pub fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    /// Begins the shutdown; later calls change nothing.
    pub fn begin(&self) {
        self.0.send_replace(true);
    }

    /// Whether the shutdown has begun.
    pub fn has_begun(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns when the shutdown begins, at once if it has.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn begun(&self) {
        let mut receiver = self.0.subscribe();
        // An error means that every sender is gone, which `self` rules out.
        let _sender_lives = receiver.wait_for(|begun| *begun).await;
    }

    /// Begins the shutdown at the first SIGTERM or SIGINT. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When the signal handlers cannot be installed.
    pub fn begin_on_signals(&self) -> io::Result<()> {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let shutdown = self.clone();
        tokio::spawn(async move {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            tracing::info!(signal = name, "shutting down");
            shutdown.begin();
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Shutdown;

    #[tokio::test]
    async fn begun_returns_for_waiters_before_and_after() {
        let shutdown = Shutdown::new();
        let waiter = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { shutdown.begun().await }
        });
        shutdown.begin();
        waiter.await.expect("waiter ends");
        shutdown.begun().await;
        assert!(shutdown.has_begun());
    }
}
