//! Build, test and demo commands of the repository: `cargo xtask help`.

fn main() {}
