//! The control socket: a Varlink service, its access rules, and its client.

pub mod backend;
