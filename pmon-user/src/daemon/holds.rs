//! Holds and stops as they are remembered: who wanted them, and until when by
//! the wall clock, so that they outlive daemon and host.

use jiff::Timestamp;

use super::{engine::Engine, entity::Entity};
use crate::{
    control::backend::Refusal,
    core::{
        effect::Effect,
        entity::EntitySpec,
        event::{OperatorAction, OperatorRequest},
        notice::Notice,
        recovery::{AfterHold, AfterStop, Recovery, Stage},
        time::Time,
    },
    state::record::{EntityRecord, HeldByOperator, StoppedByOperator},
    sys::clock,
    table::EntityName,
    view::entity::HoldView,
};

/// What became of a hold or a stop while there was no daemon.
pub(super) struct Resumption {
    pub(super) recovery: Recovery,
    pub(super) effects: Vec<Effect>,
    /// What is over.
    pub(super) notices: Vec<Notice>,
}

/// The state machine of an entity as it was left; what time has ended meanwhile
/// is over.
pub(super) fn resume(spec: &EntitySpec, record: &EntityRecord, now: Time) -> Resumption {
    let present = clock::wall(now);
    let over = |until: Option<Timestamp>| until.is_some_and(|until| until <= present);
    let mut notices = Vec::new();
    let held = record.held.as_ref().filter(|held| !over(held.until));
    if record.held.is_some() && held.is_none() {
        notices.push(Notice::Resumed { expired: true });
    }
    let stopped = record.stopped.as_ref().filter(|it| !over(it.until));
    if record.stopped.is_some() && stopped.is_none() {
        notices.push(Notice::StopExpired);
    }
    let (recovery, effects) = match (held, stopped) {
        (Some(held), stopped) => {
            let then = if stopped.is_some() {
                AfterHold::StayDown
            } else {
                AfterHold::Recover
            };
            let (mut recovery, effects) =
                Recovery::new_held(spec, now, then, held.until.map(clock::of_wall));
            if let Some(stopped) = stopped {
                recovery.set_returns_at(stopped.until.map(clock::of_wall));
            }
            (recovery, effects)
        }
        (None, Some(stopped)) => {
            Recovery::new_stopped(spec, now, stopped.until.map(clock::of_wall))
        }
        (None, None) => Recovery::new(spec, now),
    };
    Resumption {
        recovery,
        effects,
        notices,
    }
}

impl Entity {
    /// Who took it out of recovery, while that holds.
    pub(super) fn held(&self) -> Option<&HeldByOperator> {
        self.held_by.as_ref().filter(|_| self.recovery.is_held())
    }

    /// Who stopped it, if it is stopped.
    pub(super) fn stopped(&self) -> Option<&StoppedByOperator> {
        match self.recovery.stage() {
            Stage::Stopped
            | Stage::Stopping {
                then: AfterStop::StayDown,
                ..
            }
            | Stage::Held {
                then: AfterHold::StayDown,
                ..
            } => self.stopped_by.as_ref(),
            Stage::Unknown
            | Stage::Manage
            | Stage::Looking
            | Stage::Waiting { .. }
            | Stage::Yielding { .. }
            | Stage::Stopping {
                then: AfterStop::Respawn,
                ..
            }
            | Stage::MonitorWait { .. }
            | Stage::Monitor { .. }
            | Stage::RestartWait { .. }
            | Stage::Polling { .. }
            | Stage::StartWait { .. }
            | Stage::Gated
            | Stage::Queued
            | Stage::Ignore
            | Stage::Held {
                then: AfterHold::Recover,
                ..
            }
            | Stage::Unverifiable
            | Stage::Unmonitored => None,
        }
    }

    /// The hold, for people.
    pub(super) fn hold_view(&self) -> Option<HoldView> {
        let HeldByOperator {
            by,
            reason,
            at,
            until,
        } = self.held()?;
        Some(HoldView {
            by: by.clone(),
            reason: reason.clone(),
            since: *at,
            until: *until,
        })
    }

    /// Why nothing is done for operators at present, if that is so.
    pub(super) fn refuses(&self, action: OperatorAction) -> Option<Refusal> {
        match action {
            OperatorAction::Hold { .. } | OperatorAction::Resume => return None,
            OperatorAction::Start
            | OperatorAction::Stop
            | OperatorAction::StopFor { .. }
            | OperatorAction::Restart => {}
        }
        if !self.recovery.is_held() {
            return None;
        }
        let name = &self.spec.name;
        let by = (self.held()).map_or_else(String::new, |held| format!(" by {}", held.by));
        Some(Refusal::Refused {
            reason: format!("`{name}` is held{by}; `pmon resume {name}` first"),
        })
    }

    /// Notes who is about to have it held or stopped.
    pub(super) fn note_who(&mut self, request: &OperatorRequest, now: Time) {
        let OperatorRequest { action, reason, by } = request;
        let at = clock::wall(now);
        match *action {
            OperatorAction::Stop | OperatorAction::StopFor { .. } => {
                let until = match *action {
                    OperatorAction::StopFor { lasts } => Some(clock::wall(now + lasts)),
                    OperatorAction::Start
                    | OperatorAction::Stop
                    | OperatorAction::Restart
                    | OperatorAction::Hold { .. }
                    | OperatorAction::Resume => None,
                };
                self.stopped_by = Some(StoppedByOperator {
                    by: by.clone(),
                    reason: reason.clone(),
                    at,
                    until,
                });
            }
            OperatorAction::Hold { lasts } => {
                self.held_by = Some(HeldByOperator {
                    by: by.clone(),
                    reason: reason.clone(),
                    at,
                    until: lasts.map(|lasts| clock::wall(now + lasts)),
                });
            }
            OperatorAction::Start | OperatorAction::Restart | OperatorAction::Resume => {}
        }
    }
}

impl Engine {
    /// Tells what time has ended while there was no daemon.
    pub(super) fn tell_all(&mut self, name: &EntityName, notices: Vec<Notice>, now: Time) {
        for notice in notices {
            self.tell(name, notice, now);
        }
    }
}
