//! Nothing here: the test targets are the folders beside this file, one per tier.
