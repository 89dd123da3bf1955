//! Active monitoring on the wire: requests over UDP to the monitored processes,
//! and their answers on one port for all of them (spec/pmond.md §4.1).
//!
//! `wire` is the format, `correspondence` knows who was asked what and tells
//! answers from nonsense; both are pure. `endpoint` has the sockets, on tokio.
//! When to ask, and what an answer or its absence means, is decided in
//! [`crate::core::pulse`].

pub mod correspondence;
pub mod endpoint;
mod initialised;
pub mod wire;
