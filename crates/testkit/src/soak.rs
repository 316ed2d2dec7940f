//! How long a test takes on purpose.

/// Whether longer runs were asked for, by `cargo xtask test --soak` or `ISTHMUS_SOAK` in the environment.
pub fn is_asked() -> bool {
    std::env::var_os("ISTHMUS_SOAK").is_some()
}
