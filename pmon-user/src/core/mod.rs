//! The pure part: what is known of each entity, and what is to be done next.
//!
//! Must stay true: nothing here reads a clock, a file, a socket or a process,
//! and nothing here imports another module of this crate. State and an event
//! and the time go in, a new state and a list of effects come out.

pub mod budget;
#[cfg(test)]
mod chaos;
pub mod death;
pub mod degrade;
pub mod dependency;
pub mod discrepancy;
pub mod effect;
pub mod entity;
pub mod event;
pub mod evidence;
pub mod forecast;
pub mod gate;
pub mod ham;
pub mod identity;
pub mod incident;
pub mod notice;
pub mod pulse;
pub mod recovery;
pub mod simulation;
pub mod socket;
pub mod splitmix;
pub mod status;
pub mod storm;
pub mod time;
pub mod unit;
