//! The whole proxy as a process: logged in to a tailbox on one side, a cluster's namespace on the other.

mod egress_by_name;
mod figures;
mod ingress_by_name;
mod life;
pub(crate) mod name_server;
mod routes;
mod scene;
