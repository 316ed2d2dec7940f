//! The one binary of Isthmus.

fn main() {}
