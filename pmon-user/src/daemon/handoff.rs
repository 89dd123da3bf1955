//! `pmon daemon --handoff`: an upgrade in place, seen from the new daemon.
//!
//! The running daemon is asked to end and leaves its programs, maps and pins in
//! the kernel; when it lets go of the run directory's lock, everything that it
//! knew is in files or in those maps, and the new daemon begins as one does after
//! a crash (see `inheritance`). Must stay true: nothing is taken before the lock
//! is ours, so at no time two daemons act.

use std::{path::Path, time::Duration};

use anyhow::Context as _;
use tokio::time::{Instant, sleep};

use crate::{
    control::client::{Client, ClientError},
    state::lock::{Lock, LockError},
};

/// More than the other daemon gives its jobs, its clients and its disks to finish.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often is looked whether it has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// The lock of the run directory, from the daemon that has it, if there is one.
///
/// # Errors
///
/// When that daemon refuses or does not end in time; it goes on then, or ends
/// as if it had been terminated.
pub(super) async fn take_over(run_dir: &Path) -> anyhow::Result<Lock> {
    let deadline = Instant::now() + PATIENCE;
    let mut asked = false;
    loop {
        let holder = match Lock::acquire(run_dir) {
            Ok(lock) => return Ok(lock),
            Err(error @ LockError::InUse { .. }) => error,
            Err(error @ LockError::File { .. }) => return Err(error.into()),
        };
        if Instant::now() >= deadline {
            return Err(holder).with_context(|| format!("it has not ended within {PATIENCE:?}"));
        }
        if !asked {
            asked = ask(run_dir).await?;
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// Asks the daemon to end; `false` when it cannot be reached, because it is only
/// just coming up or ends already.
async fn ask(run_dir: &Path) -> anyhow::Result<bool> {
    let socket = run_dir.join("pmon.sock");
    let answer = match Client::connect(&socket).await {
        Ok(mut client) => client.handoff().await,
        Err(error) => Err(error),
    };
    match answer {
        Ok(()) => Ok(true),
        Err(ClientError::Unreachable { .. } | ClientError::Lost { .. }) => Ok(false),
        Err(error) => Err(error).context("the running daemon does not hand over"),
    }
}
