//! The body of the one binary `pmon`: the daemon and every client verb.
//!
//! A library only so that tests, benches and fuzz targets can reach the
//! modules; nothing here is a stable interface. `docs/architecture.md` is the map.

pub mod cli;
pub mod control;
pub mod core;
pub mod render;
pub mod sys;
pub mod view;
