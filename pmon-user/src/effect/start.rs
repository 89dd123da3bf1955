//! One run of a start method (or a stop of a unit), beside its lane.
//!
//! States: launching (no process yet) → running → ended. A foreground program
//! leaves for good when it runs. The deadline and a cancellation are heeded in
//! each state; both kill the command's process group while its leader is
//! unreaped, so that the group's number cannot have been reused. Every run is
//! reported once, or not at all if it was cancelled.

use std::{os::unix::process::ExitStatusExt as _, sync::Arc, time::Duration};

use tokio::{
    sync::OwnedMutexGuard,
    time::{Instant, sleep_until, timeout, timeout_at},
};

use super::{
    Report,
    command::Invocation,
    lane::Voice,
    launch::{Launched, launch},
    unit::{self, Wish},
};
use crate::{
    core::{
        death::WaitStatus,
        effect::StartVerb,
        entity::{EntitySpec, StartMethod},
        event::StartEnd,
        identity::Identity,
    },
    sys::{
        pidfd::{VerifiedPid, VerifyError, verify},
        spawn::Spawned,
    },
};

/// How long the last line may take to be found.
const LAST_LINE_DEADLINE: Duration = Duration::from_secs(1);

/// How long a killed command may take to be reaped before it is left to do so
/// in the background (state D, or a large memory to give back).
const REAP_DEADLINE: Duration = Duration::from_secs(1);

/// Runs the entity's start method and reports its end. The process that it has
/// become, if it runs in the foreground.
pub(super) async fn start(
    voice: Arc<Voice>,
    spec: Arc<EntitySpec>,
    verb: StartVerb,
    run: u64,
) -> Option<VerifiedPid> {
    let ended = if let StartMethod::Unit { unit, policy: _ } = &spec.start {
        let end = unit::carry_out(&voice, unit, Wish::Up).await;
        end.map(|end| (end, None))
    } else {
        match Invocation::start(&spec, verb) {
            Ok(invocation) => {
                run_to_end(&voice, invocation, spec.start_timeout, spec.follow, None).await
            }
            Err(reason) => Some((StartEnd::NotExecuted { reason }, None)),
        }
    };
    let (end, process) = ended?;
    voice.report(Report::StartEnded {
        run,
        end,
        process: process.clone(),
    });
    process
}

/// Has the entity's unit stopped; only a failure is reported.
pub(super) async fn stop_unit(voice: Arc<Voice>, spec: Arc<EntitySpec>) {
    let ended = match &spec.start {
        StartMethod::Unit { unit, policy: _ } => unit::carry_out(&voice, unit, Wish::Down).await,
        StartMethod::Script { .. } | StartMethod::Command(_) | StartMethod::None { .. } => {
            Some(StartEnd::NotExecuted {
                reason: "there is no unit to stop".to_owned(),
            })
        }
    };
    let what = match ended {
        None | Some(StartEnd::Exited { code: 0, .. } | StartEnd::Running(_)) => return,
        Some(StartEnd::Exited { code, last_line }) => match last_line {
            Some(line) => format!("exit code {code}: {line}"),
            None => format!("exit code {code}"),
        },
        Some(StartEnd::Signalled { signal }) => format!("signal {signal}"),
        Some(StartEnd::Untold) => "how it ended was told to nobody".to_owned(),
        Some(StartEnd::TimedOut) => "systemctl hangs".to_owned(),
        Some(StartEnd::Yielded { to }) => format!("gives way to {to}"),
        Some(StartEnd::NotExecuted { reason } | StartEnd::JobFailed { reason }) => reason,
    };
    voice.failed(format!("cannot stop the unit: {what}"));
}

/// Runs a client of systemd; `None` when cancelled.
pub(super) async fn run_command(
    voice: &Arc<Voice>,
    invocation: Invocation,
    limit: Duration,
) -> Option<StartEnd> {
    let ended = run_to_end(voice, invocation, limit, false, None).await;
    ended.map(|(end, _)| end)
}

/// `None` when cancelled. A foreground program that is `followed` may have gone
/// into the background by the time it can be looked at: that it ran is enough. A `turn`
/// is kept until the process is gone.
pub(super) async fn run_to_end(
    voice: &Arc<Voice>,
    invocation: Invocation,
    limit: Duration,
    followed: bool,
    turn: Option<OwnedMutexGuard<()>>,
) -> Option<(StartEnd, Option<VerifiedPid>)> {
    let deadline = Instant::now() + limit;
    let foreground = invocation.is_foreground();
    let is_question = invocation.is_question();
    let launched = tokio::select! {
        biased;
        () = voice.cancelled.notified() => return None,
        launched = timeout_at(deadline, launch(invocation, voice, deadline)) => launched,
    };
    let not_executed = |reason| Some((StartEnd::NotExecuted { reason }, None));
    let Launched {
        mut spawned,
        process,
        tail,
    } = match launched {
        Ok(Ok(launched)) => launched,
        Ok(Err(reason)) => return not_executed(reason),
        Err(_) => return not_executed(format!("could not be executed within {limit:?}")),
    };
    let _until_it_ends = voice.shared.at_work.enter(spawned.pid());
    let _on_record = if is_question {
        Some(voice.shared.questions.note(spawned.pid()).await)
    } else {
        None
    };
    if foreground {
        let process = match process.filter(|_| followed) {
            Some(process) => Ok(process),
            None => verify(spawned.pid()),
        };
        match process {
            Ok(process) => {
                reap_process(Arc::clone(voice), process.identity(), spawned);
                return Some((StartEnd::Running(process.identity()), Some(process)));
            }
            // Dead already, only not reaped: its status tells more.
            Err(VerifyError::NoProcess { .. }) => {}
            Err(error) => {
                spawned.kill_group();
                reap(spawned, turn);
                return not_executed(format!("killed, as it cannot be verified: {error}"));
            }
        }
    }
    let status = tokio::select! {
        biased;
        () = voice.cancelled.notified() => {
            kill(spawned, turn).await;
            return None;
        }
        status = spawned.wait() => status,
        () = sleep_until(deadline) => {
            kill(spawned, turn).await;
            return Some((StartEnd::TimedOut, None));
        }
    };
    let end = match status.map(|status| (status.code(), status.signal())) {
        Ok((Some(code), _)) => {
            let last_line = tokio::select! {
                biased;
                () = voice.cancelled.notified() => return None,
                last_line = tail.last_line(LAST_LINE_DEADLINE) => last_line,
            };
            StartEnd::Exited { code, last_line }
        }
        Ok((None, Some(signal))) => StartEnd::Signalled { signal },
        Ok((None, None)) => return not_executed("its exit status makes no sense".to_owned()),
        Err(error) => return not_executed(format!("its exit status is unknown: {error}")),
    };
    Some((end, None))
}

/// Kills a command with its group, and is done when it is gone, or late.
async fn kill(mut spawned: Spawned, turn: Option<OwnedMutexGuard<()>>) {
    spawned.kill_group();
    if timeout(REAP_DEADLINE, spawned.wait()).await.is_err() {
        reap(spawned, turn);
    }
}

/// Waits for the end of the monitored process in the background. Its death is not
/// ours to report, but its status is: once it is reaped, no kernel before 6.15
/// tells it to anybody.
fn reap_process(voice: Arc<Voice>, process: Identity, mut spawned: Spawned) {
    tokio::spawn(async move {
        match spawned.wait().await {
            Ok(status) => {
                let status = WaitStatus(status.into_raw().cast_unsigned());
                voice.report(Report::Reaped { process, status });
            }
            Err(error) => tracing::warn!(%error, "{process} could not be reaped"),
        }
    });
}

/// Waits for the end of a command in the background.
fn reap(mut spawned: Spawned, turn: Option<OwnedMutexGuard<()>>) {
    tokio::spawn(async move {
        let _until_it_is_gone = turn;
        let pid = spawned.pid();
        match spawned.wait().await {
            Ok(status) => tracing::debug!(pid, %status, "reaped"),
            Err(error) => tracing::warn!(pid, %error, "could not be reaped"),
        }
    });
}
