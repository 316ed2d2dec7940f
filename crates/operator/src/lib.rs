//! The operator's shell: watches, gathering, applying, events, the lease.
