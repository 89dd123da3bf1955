//! The control socket: a Varlink service, its access rules, and its client.
//!
//! What a client may ask is the closed list [`interface::Verb`]; who may ask it is
//! decided in [`access`] alone. Each client has a task of its own, so that none
//! can hold up another or the daemon.

pub mod access;
pub mod backend;
pub mod client;
mod connection;
pub mod description;
mod dispatch;
pub mod error;
pub mod interface;
mod peer;
mod requests;
pub mod server;
mod socket;
mod transport;

#[cfg(test)]
pub(crate) mod fake;
