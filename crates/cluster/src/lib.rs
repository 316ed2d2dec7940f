//! A real two-node Kubernetes cluster on this machine, of processes in network namespaces. Development only.
