//! `[compat.starlingx]`: how closely pmon stands in for pmond on a StarlingX host.

use std::{num::NonZeroU16, time::Duration};

use crate::compat::starlingx::root::Root;

/// `[compat.starlingx]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StarlingxSettings {
    /// Everything of it that has no switch of its own.
    pub enabled: bool,
    /// Where StarlingX's files are.
    pub root: Root,
    /// Host name or address of the active controller, where mtcAgent listens.
    pub controller: String,
    /// Whether commands are taken from UDP datagrams, as pmond does; anybody on
    /// the host can send them.
    pub command_inbox: bool,
    /// The port on 127.0.0.1 where they are taken.
    pub command_port: NonZeroU16,
    /// When a stop that came that way is over.
    pub stop_recovers_after: Duration,
}

/// `pmon_cmd_port` as shipped (spec/pmond.md §1.8).
const COMMAND_PORT: NonZeroU16 = NonZeroU16::new(2117).unwrap();
/// spec/pmond.md §6.3.
const STOP_RECOVERS_AFTER: Duration = Duration::from_secs(1800);

impl Default for StarlingxSettings {
    fn default() -> Self {
        Self {
            enabled: false,
            root: Root::default(),
            controller: "controller".to_owned(),
            command_inbox: false,
            command_port: COMMAND_PORT,
            stop_recovers_after: STOP_RECOVERS_AFTER,
        }
    }
}
