//! The tailnet node as a state machine without I/O: netmap, routes, paths, packet filter.
