//! Test harness: network namespaces, in-memory transports, fakes. Development only.
