//! Nodes that log in to a tailbox, shown by traffic through them: nobody told them of their peers.

mod life;
mod traffic;
pub(crate) mod world;
