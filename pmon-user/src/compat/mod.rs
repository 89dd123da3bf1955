//! What other systems' programs expect of the process monitor beside which they
//! run: their files, their messages. Off unless configured.
//!
//! Must stay true: nothing in here decides on recoveries, and nothing of the
//! daemon waits for anything in here.

pub mod inbox;
pub mod starlingx;
