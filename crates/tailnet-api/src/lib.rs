//! A client of the tailnet management API, version 2.
