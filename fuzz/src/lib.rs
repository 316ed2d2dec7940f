//! Throws mutated bytes at every reader of outside bytes.
//!
//! A [`Target`] is a function that reads bytes and panics when what came of them is not as it should be. The [`engine`]
//! takes inputs from the target's corpus, the files in `fuzz/corpus/NAME`, changes them, and keeps those that make code
//! run which none before did. An input that fails is made small and added to the corpus, where it stays: every ordinary
//! run of the tests reads the whole corpus once.

pub mod corpus;
pub mod engine;
mod mutate;
pub mod targets;

pub use targets::{TARGETS, Target};
