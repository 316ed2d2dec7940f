//! The proxy's shell: preflight, nftables, routes, config watching, health.
