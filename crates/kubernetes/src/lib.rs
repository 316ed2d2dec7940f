//! The API server, as a program in a Pod sees it.
//!
//! A client of the `kube` library is generic over the kind that it asks for, and a kind such as a Pod has hundreds of nested types: with a
//! reader per kind and source the program would be half as large again. Here everything that asks and watches is compiled once, for
//! [`Object`]; a kind is read from that.

mod account;
mod connect;
mod in_cluster;
mod object;

pub use account::AccountError;
pub use connect::DialError;
pub use in_cluster::{ACCOUNT_FOLDER, InClusterError, in_cluster};
pub use object::{Object, all, events, namespaced, read_event};
