//! Tests against the two-node cluster.
