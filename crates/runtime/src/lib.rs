//! What every binary needs: logging, error chains, readiness guards, shutdown.
