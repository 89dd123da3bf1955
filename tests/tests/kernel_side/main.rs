//! The BPF programs on the real kernel with real processes, through
//! `pmon_user::source` and without the daemon.
#![expect(clippy::unwrap_used, reason = "tests")]

mod exit;
mod follow;
mod loaded;
mod signal;
mod specimen;
mod without_types;
mod world;
