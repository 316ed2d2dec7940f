//! The words operator and proxy share: annotations, labels, conditions, config documents and state keys.
