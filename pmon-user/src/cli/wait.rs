//! `--wait`: whether what an operator asked for has come about.
//!
//! An entity's state before the request decides what counts as news: a restart
//! is only done when another process is up, and a failure only counts if it
//! began after the request.

use std::{path::Path, time::Duration};

use tokio::time::{Instant, timeout_at};

use super::exit::Exit;
use crate::{
    control::{
        client::{Client, ClientError, EventStream},
        interface::EventsParameters,
    },
    core::event::OperatorAction,
    view::entity::{EntityView, StateWord},
};

/// Looks at the state at least this often, should an event be missed.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// How far one entity has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Pending,
    Done,
    Failed,
}

fn progress(action: OperatorAction, before: &EntityView, now: &EntityView) -> Progress {
    let failed_anew = now.state == StateWord::Failed
        && (before.state != StateWord::Failed || before.since != now.since);
    match action {
        OperatorAction::Start if now.state == StateWord::Up => Progress::Done,
        OperatorAction::Restart
            if now.state == StateWord::Up
                && (before.identity.is_none() || before.identity != now.identity) =>
        {
            Progress::Done
        }
        OperatorAction::Stop if matches!(now.state, StateWord::Down | StateWord::Held) => {
            Progress::Done
        }
        OperatorAction::Start | OperatorAction::Restart if failed_anew => Progress::Failed,
        OperatorAction::Hold { .. } if now.state == StateWord::Held => Progress::Done,
        OperatorAction::Resume if now.state != StateWord::Held => Progress::Done,
        OperatorAction::Start
        | OperatorAction::Restart
        | OperatorAction::Stop
        | OperatorAction::StopFor { .. }
        | OperatorAction::Hold { .. }
        | OperatorAction::Resume => Progress::Pending,
    }
}

/// A wait that began before the request, so that nothing falls in between.
pub(super) struct Wait {
    events: Option<EventStream>,
    deadline: Instant,
}

impl Wait {
    pub(super) async fn begin(socket: &Path, within: Duration) -> Result<Self, ClientError> {
        let events = Client::connect(socket)
            .await?
            .events(EventsParameters::default())
            .await?;
        Ok(Self {
            events: Some(events),
            deadline: Instant::now() + within,
        })
    }

    /// Waits for all of them; how they stand then, and the exit code.
    pub(super) async fn finish(
        mut self,
        client: &mut Client,
        action: OperatorAction,
        before: &[EntityView],
    ) -> Result<(Vec<EntityView>, Exit), ClientError> {
        let names: Vec<_> = before.iter().map(|entity| entity.name.clone()).collect();
        loop {
            let now = client.list(&names).await?.entities;
            let standing = |before: &EntityView| {
                now.iter()
                    .find(|entity| entity.name == before.name)
                    // Unregistered meanwhile: it will not come back.
                    .map_or(Progress::Failed, |now| progress(action, before, now))
            };
            let all: Vec<_> = before.iter().map(standing).collect();
            if !all.contains(&Progress::Pending) {
                let exit = if all.contains(&Progress::Failed) {
                    Exit::NotUp
                } else {
                    Exit::Ok
                };
                return Ok((now, exit));
            }
            if Instant::now() >= self.deadline {
                return Ok((now, Exit::TimedOut));
            }
            self.news(&names).await;
        }
    }

    /// Returns when something may have changed.
    async fn news(&mut self, names: &[String]) {
        let look_again = (Instant::now() + LOOK_AGAIN).min(self.deadline);
        let Some(events) = &mut self.events else {
            tokio::time::sleep_until(look_again).await;
            return;
        };
        loop {
            match timeout_at(look_again, events.next()).await {
                Ok(Ok(Some((event, lost)))) => {
                    if lost > 0 || event.entity.is_none_or(|name| names.contains(&name)) {
                        return;
                    }
                }
                // Without events there is still the state to look at; a daemon
                // that is gone shows there.
                Ok(Ok(None) | Err(_)) => {
                    self.events = None;
                    return;
                }
                Err(_elapsed) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::samples::{before, entity, noon};

    #[test]
    fn a_restart_is_done_when_another_process_is_up() {
        let up = entity("web", StateWord::Up);
        let mut successor = up.clone();
        successor.identity = Some("4712@2000".to_owned());
        let none = entity("web", StateWord::Failed);
        let restart = |before, now| progress(OperatorAction::Restart, before, now);
        assert_eq!(restart(&up, &up), Progress::Pending);
        assert_eq!(restart(&up, &successor), Progress::Done);
        assert_eq!(restart(&none, &up), Progress::Done);
        assert_eq!(
            restart(&up, &entity("web", StateWord::Starting)),
            Progress::Pending
        );
    }

    #[test]
    fn only_a_new_failure_counts() {
        let old = entity("web", StateWord::Failed);
        let mut new = old.clone();
        new.since = Some(noon());
        for action in [OperatorAction::Start, OperatorAction::Restart] {
            assert_eq!(progress(action, &old, &old), Progress::Pending);
            assert_eq!(progress(action, &old, &new), Progress::Failed);
            let down = entity("web", StateWord::Down);
            assert_eq!(progress(action, &down, &old), Progress::Failed);
        }
        assert_eq!(old.since, Some(before(3600)));
    }

    #[test]
    fn a_stop_is_done_when_it_is_down() {
        let up = entity("web", StateWord::Up);
        let stop = |now| progress(OperatorAction::Stop, &up, &entity("web", now));
        assert_eq!(stop(StateWord::Down), Progress::Done);
        assert_eq!(stop(StateWord::Held), Progress::Done);
        assert_eq!(stop(StateWord::Up), Progress::Pending);
        assert_eq!(stop(StateWord::Failed), Progress::Pending);
    }
}
