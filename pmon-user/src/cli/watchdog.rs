//! The one name that the original's `pmon-start`, `pmon-stop` and `pmon-restart`
//! do not send to pmond: the host watchdog is restarted through systemd,
//! whichever of the three is asked for (spec/pmond.md §6.5). Only where the
//! daemon stands in for pmond, and no entity has that name.

use std::process::Stdio;

use serde::Serialize;

use super::{
    exit::Exit,
    output::Output,
    verbs::{self, Trouble},
};
use crate::control::client::{Client, ClientError};

/// The name.
pub(super) const HOST_WATCHDOG: &str = "hostwd";
/// Its unit.
const UNIT: &str = "hostw";

/// Whether the name stands for the host watchdog with this daemon.
pub(super) async fn is_meant(names: &[String], client: &mut Client) -> Result<bool, ClientError> {
    if names != [HOST_WATCHDOG] {
        return Ok(false);
    }
    let view = client.status(&[]).await?;
    let configured = (view.entities.iter()).any(|entity| entity.name == HOST_WATCHDOG);
    Ok(view.daemon.starlingx && !configured)
}

/// Restarts it, and waits for systemd's word.
pub(super) async fn restart(output: &mut Output<'_>) -> Result<Exit, Trouble> {
    let ended = tokio::process::Command::new("systemctl")
        .args(["restart", UNIT])
        .stdin(Stdio::null())
        .status()
        .await
        .map_err(|error| Trouble::Failed(format!("`systemctl` cannot be run: {error}")))?;
    if !ended.success() {
        return Err(Trouble::Failed(format!(
            "`systemctl restart {UNIT}`: {ended}"
        )));
    }
    #[derive(Serialize)]
    struct Restarted {
        restarted: &'static str,
    }
    verbs::one(&Restarted { restarted: UNIT }, output, |_look| {
        format!("{HOST_WATCHDOG}: `{UNIT}` was restarted\n")
    })
}
