//! The only crate with `unsafe`: system calls no other crate wraps.
