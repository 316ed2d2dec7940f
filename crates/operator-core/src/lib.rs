//! What the operator wants the cluster to look like: pure plans from observed inputs.
