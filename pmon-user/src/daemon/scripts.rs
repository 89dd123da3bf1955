//! Status monitoring as users see it: the entity's state, its script's runs, and
//! why it is as it is.

use super::{entity::Entity, views::milliseconds};
use crate::{
    core::{
        effect::ScriptTask,
        entity::{EntitySpec, StatusSpec},
        recovery::{Recovery, Stage},
        status::{Counts, Run, State},
    },
    sys::clock,
    view::{
        entity::StateWord,
        script::{ScriptRunView, ScriptView, StatusSettingsView},
    },
};

/// The state in one word, in status mode.
pub(super) fn state_word(recovery: &Recovery) -> StateWord {
    match recovery.stage() {
        // pmon did not stop it, and does not know whether it runs.
        Stage::Stopped | Stage::Held { .. } => StateWord::Held,
        Stage::Ignore => StateWord::Failed,
        Stage::Unmonitored | Stage::Polling { .. } | Stage::StartWait { .. } => StateWord::Unknown,
        Stage::Unknown
        | Stage::Manage
        | Stage::Looking
        | Stage::Waiting { .. }
        | Stage::Yielding { .. }
        | Stage::Stopping { .. }
        | Stage::MonitorWait { .. }
        | Stage::Monitor { .. }
        | Stage::RestartWait { .. }
        | Stage::Gated
        | Stage::Queued
        | Stage::Unverifiable => {
            if recovery.is_manual() {
                StateWord::Starting
            } else if recovery.is_failed() {
                StateWord::Recovering
            } else if recovery.status().last_status().is_none() {
                StateWord::Unknown
            } else {
                StateWord::Up
            }
        }
    }
}

/// The stage, in pmond's words for status mode.
pub(super) fn stage(recovery: &Recovery) -> &'static str {
    match recovery.status().state() {
        State::Rest => recovery.stage().as_str(),
        // A start waits for leave, which tells more.
        State::Begin { .. } | State::StartDue { .. } if *recovery.stage() != Stage::Manage => {
            recovery.stage().as_str()
        }
        state @ (State::Begin { .. }
        | State::ExecuteStatusWait { .. }
        | State::ExecuteStartWait { .. }
        | State::IntervalWait { .. }
        | State::StartDue { .. }) => state.as_str(),
    }
}

/// What comes next, in status mode.
pub(super) fn next_action(spec: &EntitySpec, recovery: &Recovery) -> Option<String> {
    let status = spec.status.as_ref()?;
    let text = match recovery.status().state() {
        State::Rest if *recovery.stage() == Stage::Unmonitored => return None,
        State::Rest if recovery.is_deferred() => {
            "ask it when its part of the host is configured".to_owned()
        }
        State::Rest => format!("nothing until `pmon start {}`", spec.name),
        State::Begin { .. } | State::StartDue { .. } => {
            let ask = format!("ask: {}", command(status, ScriptTask::Status));
            match recovery.start_restrained_until(clock::now()) {
                Some(until) => format!("{ask}; nothing is started before {}", clock::wall(until)),
                None => ask,
            }
        }
        State::ExecuteStatusWait { .. } | State::ExecuteStartWait { .. } => {
            "kill the script if it has not ended by then".to_owned()
        }
        State::IntervalWait { .. } => format!("run: {}", command(status, ScriptTask::Start)),
    };
    Some(text)
}

/// When that comes.
pub(super) fn next_action_at(spec: &EntitySpec, recovery: &Recovery) -> Option<jiff::Timestamp> {
    let status = spec.status.as_ref()?;
    let due = match recovery.status().state() {
        State::Rest => return None,
        // After a restart of the daemon it is due since ever.
        State::Begin { until } | State::IntervalWait { until } | State::StartDue { until, .. } => {
            until.max(recovery.since())
        }
        State::ExecuteStatusWait { since } | State::ExecuteStartWait { since, .. } => {
            since + status.timeout
        }
    };
    Some(clock::wall(due))
}

fn command(status: &StatusSpec, task: ScriptTask) -> String {
    let argument = match task {
        ScriptTask::Status => &status.status_arg,
        ScriptTask::Start => &status.start_arg,
    };
    format!("{} {argument}", status.script.display())
}

/// The script's runs.
pub(super) fn script_view(entity: &Entity) -> Option<ScriptView> {
    let recovery = &entity.recovery;
    entity.spec.status.as_ref()?;
    let monitor = recovery.status();
    let Counts {
        asked,
        bad,
        starts,
        failed_starts,
    } = monitor.counts();
    let (running, running_since) = match monitor.state() {
        State::ExecuteStatusWait { since } => (Some("status"), Some(since)),
        State::ExecuteStartWait { since, .. } => (Some("start"), Some(since)),
        State::Rest | State::Begin { .. } | State::IntervalWait { .. } | State::StartDue { .. } => {
            (None, None)
        }
    };
    Some(ScriptView {
        running: running.map(str::to_owned),
        running_since: running_since.map(clock::wall),
        last_status: monitor.last_status().map(run_view),
        last_start: monitor.last_start().map(run_view),
        asked,
        bad,
        starts,
        failed_starts,
        failures: recovery.attempts(),
        alarm_text: (recovery.alarm().is_some())
            .then(|| recovery.failure_text().map(str::to_owned))
            .flatten(),
    })
}

fn run_view(run: &Run) -> ScriptRunView {
    let Run {
        began,
        took,
        result,
    } = run;
    ScriptRunView {
        at: clock::wall(*began),
        took_ms: milliseconds(*took),
        good: result.is_ok(),
        end: match result {
            Ok(()) => "exited with code 0".to_owned(),
            Err(end) => end.clone(),
        },
    }
}

/// The settings as users see them.
pub(super) fn settings_view(status: &StatusSpec) -> StatusSettingsView {
    let StatusSpec {
        script,
        start_arg,
        status_arg,
        period,
        timeout,
        failure_text,
    } = status;
    StatusSettingsView {
        script: script.display().to_string(),
        start_arg: start_arg.clone(),
        status_arg: status_arg.clone(),
        period_ms: milliseconds(*period),
        timeout_ms: milliseconds(*timeout),
        failure_text: failure_text.as_ref().map(|path| path.display().to_string()),
    }
}

/// How it stands with the script, for `pmon explain`.
pub(super) fn questioning(entity: &Entity) -> Vec<String> {
    let Some(status) = &entity.spec.status else {
        return Vec::new();
    };
    let monitor = entity.recovery.status();
    let mut lines = vec![format!(
        "in status mode no process is watched; every {:?} this is asked: {}",
        status.period,
        command(status, ScriptTask::Status)
    )];
    lines.push(match monitor.last_status() {
        None => "it has not answered since the daemon started".to_owned(),
        Some(Run { result: Ok(()), .. }) => "its last answer was good".to_owned(),
        Some(Run {
            result: Err(end), ..
        }) => format!("its last answer was bad: it {end}"),
    });
    if let Some(Run {
        result: Err(end), ..
    }) = monitor.last_start()
    {
        lines.push(format!("the last start failed: it {end}"));
    }
    lines
}
