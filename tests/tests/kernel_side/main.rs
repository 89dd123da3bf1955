//! The BPF programs on the real kernel with real processes, through
//! `pmon_user::source` and without the daemon.
#![expect(clippy::unwrap_used, reason = "tests")]

mod exit;
mod follow;
mod loaded;
mod log;
mod namespaces;
mod oom;
mod privileges;
mod signal;
mod specimen;
mod without_types;
mod world;
