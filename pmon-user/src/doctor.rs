//! `pmon doctor`.

use crate::view::{diagnosis::CheckView, status::StatusView};

/// Checks made from inside the daemon.
#[must_use]
pub fn with_daemon(_status: &StatusView) -> Vec<CheckView> {
    Vec::new()
}

/// Checks that need no daemon.
#[must_use]
pub fn without_daemon() -> Vec<CheckView> {
    Vec::new()
}
