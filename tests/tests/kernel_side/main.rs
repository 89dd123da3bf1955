//! The kernel's sources of deaths with real processes, through
//! `pmon_user::source` and without the daemon: the BPF programs, and the proc
//! connector.
#![expect(clippy::unwrap_used, reason = "tests")]

mod connector;
mod exit;
mod follow;
mod loaded;
mod log;
mod namespaces;
mod oom;
mod pins;
mod privileges;
mod signal;
mod specimen;
mod without_types;
mod world;
