//! Nodes that log in to a tailbox, shown by traffic through them: nobody told them of their peers.

mod administration;
mod library;
mod life;
mod nat;
mod people;
mod pings;
mod relay;
mod routes;
mod services;
mod switching;
mod traffic;
pub(crate) mod world;
