//! Going on with a start command that an earlier daemon has run and that may be
//! at work still.
//!
//! It is no child of ours, so its exit status is told to nobody; everything else
//! is as if this daemon had run it: one deadline from its beginning on, and at the
//! deadline or a cancellation its process group is killed. Must stay true: only
//! verified processes are signalled, as the group's number may be another's by then.

use std::{
    io,
    os::fd::AsFd as _,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tokio::{task::spawn_blocking, time::sleep};

use super::{Report, lane::Voice, leftovers};
use crate::{
    core::{
        entity::{EntitySpec, StopPolicy},
        event::StartEnd,
        identity::Identity,
        time::Time,
    },
    sys::{
        clock,
        pidfd::{VerifiedPid, verify},
        readable::Readable,
    },
};

/// How often is looked where the kernel cannot tell of the end.
const POLL: Duration = Duration::from_millis(100);
/// How long the killed leader may take to be gone before the rest of its group is
/// looked for all the same.
const KILLED: Duration = Duration::from_secs(1);
const SIGKILL: i32 = 9;

/// Waits for the end of `command`, and reports it as that of this run.
pub(super) async fn go_on(voice: Arc<Voice>, spec: Arc<EntitySpec>, command: Identity, run: u64) {
    let end = match find(command).await {
        None => StartEnd::Untold,
        Some(process) => {
            let _until_it_ends = voice.shared.at_work.enter(command.pid);
            let began = Time::from_start_ticks(command.start_time);
            let left = (began + limit(&spec)).since(clock::now());
            tokio::select! {
                biased;
                () = voice.cancelled.notified() => return kill(process).await,
                () = ended(&process) => StartEnd::Untold,
                () = sleep(left) => {
                    kill(process).await;
                    StartEnd::TimedOut
                }
            }
        }
    };
    voice.report(if spec.status.is_some() {
        Report::ScriptEnded {
            run,
            end,
            failure_text: None,
        }
    } else {
        Report::StartEnded {
            run,
            end,
            process: None,
        }
    });
}

/// How long it may take, from its beginning on.
fn limit(spec: &EntitySpec) -> Duration {
    match &spec.status {
        Some(status) => status.timeout,
        None => spec.start_timeout,
    }
}

async fn find(command: Identity) -> Option<VerifiedPid> {
    let verified = spawn_blocking(move || verify(command.pid)).await;
    let process = verified.ok()?.ok()?;
    (process.identity() == command).then_some(process)
}

async fn ended(process: &VerifiedPid) {
    let end = async {
        let pidfd = process.pidfd().as_fd().try_clone_to_owned()?;
        // A pidfd is readable when its process has ended; there is nothing to read.
        Readable::new(Arc::new(pidfd))?.read(|_| Ok(())).await
    };
    let told: io::Result<()> = end.await;
    if let Err(error) = told {
        tracing::debug!(%error, "the end of a start command is not told");
    }
    while !process.is_dead() {
        sleep(POLL).await;
    }
}

/// The leader first: then nobody is left who would go on with the command.
async fn kill(process: VerifiedPid) {
    let killing = spawn_blocking(move || {
        // Dead already is what a signal is for.
        let _gone = process.signal(SIGKILL);
        let patience = Instant::now() + KILLED;
        while !process.is_dead() && Instant::now() < patience {
            thread::sleep(POLL / 10);
        }
        leftovers::end(process.identity(), clock::now(), StopPolicy::KillFirst)
    });
    // An error is that task's panic.
    if let Ok((_, false)) = killing.await {
        tracing::warn!("not all of a start command's processes could be killed");
    }
}
