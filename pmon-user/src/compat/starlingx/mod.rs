//! pmon in the place of pmond on a StarlingX host (`[compat.starlingx]`): the
//! host's files, and the messages of spec/pmond.md §7.
//!
//! `platform` and `daemon_config` read what the host is and how pmond was
//! configured; `message` is the common codec; `watchdog` and `pulse` are the two
//! sockets of the petting, `liveness` decides when they may be used, `petting` is
//! their thread; `gates` looks for flag files and asks for the system state;
//! `files` are pmond's own files, `syslog` its place in the host's log.
//!
//! Must stay true: each thread in here works for itself. Whatever one of them
//! waits for, the petting goes on, and the petting stops when the core does.

pub mod daemon_config;
pub mod events;
pub mod files;
pub mod gates;
pub mod liveness;
pub mod message;
pub mod petting;
pub mod platform;
pub mod pulse;
pub mod resolver;
pub mod root;
pub mod syslog;
pub mod system_state;
pub mod troubles;
pub mod watchdog;
