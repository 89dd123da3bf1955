//! One run of the script of an entity in status mode, beside its lane.
//!
//! Must stay true: of an entity's runs at most one has a process. One that was
//! killed and does not go (state D) keeps its turn, and those that follow are told
//! as not executed, so that they cannot pile up. What a script has started and
//! left behind is not touched when it ends by itself; past the deadline its
//! whole process group is killed.

use std::{path::Path, sync::Arc, time::Duration};

use tokio::{
    sync::Mutex,
    time::{error::Elapsed, timeout},
};

use super::{Report, command::Invocation, failure_text, lane::Voice, start::run_to_end};
use crate::core::{
    effect::ScriptTask,
    entity::{EntitySpec, StatusSpec},
    event::StartEnd,
};

/// How long the file with the failure's text may take to be read.
const TEXT_DEADLINE: Duration = Duration::from_secs(2);

/// What is to be run.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// Whose script.
    pub(super) spec: Arc<EntitySpec>,
    /// What for.
    pub(super) task: ScriptTask,
    /// Number of the run.
    pub(super) run: u64,
    /// The text that explains a failure is wanted.
    pub(super) failure_text: bool,
}

/// Runs the script when it is its turn, and reports its end.
pub(super) async fn run(voice: Arc<Voice>, asked: Asked, turns: Arc<Mutex<()>>) {
    let Asked {
        spec,
        task,
        run,
        failure_text,
    } = asked;
    let ended = match &spec.status {
        Some(status) => execute(&voice, status, task, turns).await,
        None => Some(StartEnd::NotExecuted {
            reason: "there is no script".to_owned(),
        }),
    };
    let Some(end) = ended else {
        return;
    };
    let wanted = spec.status.as_ref().filter(|_| failure_text);
    let failure_text = match wanted.and_then(|status| status.failure_text.as_deref()) {
        Some(path) => read_text(&voice, path).await,
        None => None,
    };
    voice.report(Report::ScriptEnded {
        run,
        end,
        failure_text,
    });
}

/// `None` when cancelled.
async fn execute(
    voice: &Arc<Voice>,
    status: &StatusSpec,
    task: ScriptTask,
    turns: Arc<Mutex<()>>,
) -> Option<StartEnd> {
    let turn = tokio::select! {
        biased;
        () = voice.cancelled.notified() => return None,
        turn = timeout(status.timeout, turns.lock_owned()) => turn,
    };
    let turn = match turn {
        Ok(turn) => turn,
        Err(Elapsed { .. }) => {
            return Some(StartEnd::NotExecuted {
                reason: "an earlier run that was killed is still there".to_owned(),
            });
        }
    };
    let invocation = Invocation::StatusScript {
        path: status.script.clone(),
        argument: match task {
            ScriptTask::Status => status.status_arg.clone(),
            ScriptTask::Start => status.start_arg.clone(),
        },
        task,
    };
    let (end, _) = run_to_end(voice, invocation, status.timeout, false, Some(turn)).await?;
    Some(end)
}

async fn read_text(voice: &Voice, path: &Path) -> Option<String> {
    let owned = path.to_owned();
    let reading = tokio::task::spawn_blocking(move || failure_text::read(&owned));
    let why = match timeout(TEXT_DEADLINE, reading).await {
        Ok(Ok(Ok(text))) => return Some(text),
        Ok(Ok(Err(why))) => why.to_string(),
        Ok(Err(error)) => error.to_string(),
        Err(Elapsed { .. }) => format!("it could not be read within {TEXT_DEADLINE:?}"),
    };
    voice.failed(format!(
        "the alarm goes without the text of `{}`: {why}",
        path.display()
    ));
    None
}
