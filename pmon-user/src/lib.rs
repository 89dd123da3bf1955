//! The body of the one binary `pmon`: the daemon and every client verb.
//!
//! A library only so that tests, benches and fuzz targets can reach the
//! modules; nothing here is a stable interface. `docs/architecture.md` is the map.

pub mod alarm;
pub mod audit;
pub mod causes;
pub mod cli;
pub mod compat;
pub mod config;
pub mod control;
pub mod core;
pub mod daemon;
pub mod doctor;
pub mod effect;
pub mod look;
pub mod pulse;
pub mod render;
pub mod source;
#[cfg(test)]
mod specimen;
pub mod state;
pub mod sys;
pub mod systemd;
pub mod table;
pub mod view;
