//! `[compat.starlingx]`: what is decided in pmon's own configuration. All else
//! stays where StarlingX has it (`platform`, `daemon_config`).

use super::root::Root;

/// `[compat.starlingx]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StarlingXSettings {
    /// Whether pmon takes pmond's place; nothing in `compat::starlingx` is at
    /// work otherwise.
    pub enabled: bool,
    /// Where StarlingX's files are.
    pub root: Root,
    /// Host name or address of the active controller, where mtcAgent listens.
    pub controller: String,
}

impl Default for StarlingXSettings {
    fn default() -> Self {
        Self {
            enabled: false,
            root: Root::default(),
            controller: "controller".to_owned(),
        }
    }
}
