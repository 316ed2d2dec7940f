//! Tests against foreign tailnet programs found on PATH.
mod go_clients;
