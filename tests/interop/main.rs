//! Tests against foreign tailnet programs found on PATH.
mod go_clients;
mod our_node;
#[path = "../netns/tailnet/world.rs"]
mod world;
