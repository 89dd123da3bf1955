//! The one typed view of the daemon: what every output is made from.
//!
//! The daemon fills these structs, the control socket carries them, the client
//! renders them as JSON or as a table. Field names are the outside contract
//! (`docs/control-socket.md`): times are RFC 3339 UTC, durations carry their unit in
//! the name, and what is unknown is `null`, never 0 or -1.

pub mod diagnosis;
pub mod entity;
pub mod event;
pub mod incident;
#[cfg(test)]
pub(crate) mod samples;
pub mod script;
pub mod status;
