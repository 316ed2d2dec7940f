//! A tailnet in one process, for demos and tests: control server and management API.
