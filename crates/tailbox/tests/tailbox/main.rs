//! A whole tailbox over loopback: clients that speak the control protocol, and callers of the API.

#[cfg(test)]
mod acme;
#[cfg(test)]
mod api;
#[cfg(test)]
mod approval;
#[cfg(test)]
mod client;
#[cfg(test)]
mod edits;
#[cfg(test)]
mod http_call;
#[cfg(test)]
mod join;
#[cfg(test)]
mod many;
#[cfg(test)]
mod relay;
#[cfg(test)]
mod restart;
#[cfg(test)]
mod sdk;
#[cfg(test)]
mod services;
#[cfg(test)]
mod settings;
