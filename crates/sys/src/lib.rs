//! The only crate with `unsafe`: system calls no other crate wraps.
#![expect(unsafe_code, reason = "this crate exists to keep every unsafe block in one place")]

pub mod allocation;
pub mod coverage;
pub mod process;
