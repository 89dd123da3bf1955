//! What operators want, remembered as the daemon remembers it, so that it can be
//! checked that the core goes by it: holds and stops, some of which end.

use super::world::World;
use crate::core::{
    event::{Event, OperatorAction, OperatorRequest},
    recovery::{AfterHold, Recovery, Stage},
    time::Time,
};

const BY_HAND: &str = "uid 0 (pid 1)";

/// Until when; none for good.
pub(super) type Until = Option<Time>;

/// Operators' last words.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wishes {
    pub(super) stop: Option<Until>,
    pub(super) hold: Option<Until>,
}

/// Whether it is still wanted.
pub(super) fn lasts(wish: Option<Until>, now: Time) -> bool {
    wish.is_some_and(|until| until.is_none_or(|until| now < until))
}

impl World {
    /// Asks as an operator, if the daemon would let the core know.
    pub(super) fn operate(&mut self, action: OperatorAction) -> Result<(), String> {
        let ends = match action {
            OperatorAction::Stop | OperatorAction::StopFor { .. } => true,
            OperatorAction::Restart => self.recovery.current().is_some(),
            OperatorAction::Start | OperatorAction::Hold { .. } | OperatorAction::Resume => false,
        };
        let refused = Recovery::refuses(&self.spec, action).is_some();
        match action {
            OperatorAction::Hold { lasts } => {
                self.saw("held");
                self.wishes.hold = Some(lasts.map(|lasts| self.now + lasts));
            }
            OperatorAction::Resume => self.wishes.hold = None,
            OperatorAction::Start
            | OperatorAction::Stop
            | OperatorAction::Restart
            | OperatorAction::StopFor { .. }
                if refused || self.recovery.is_held() =>
            {
                return Ok(());
            }
            OperatorAction::Stop => self.wishes.stop = Some(None),
            OperatorAction::StopFor { lasts } => {
                self.saw("stopped for a time");
                self.wishes.stop = Some(Some(self.now + lasts));
            }
            OperatorAction::Start | OperatorAction::Restart => self.wishes.stop = None,
        }
        // A daemon on its way between its command's end and its pidfile is out of
        // everybody's sight: who stops now and starts again at once has two.
        // Likewise one that forks twice and is restarted in between.
        self.meddled |= ends && self.is_on_its_way();
        let request = OperatorRequest {
            action,
            reason: None,
            by: BY_HAND.to_owned(),
        };
        self.step(Event::Operator(request), None)
    }

    /// Somebody has started what was stopped, which ends the stop.
    pub(super) fn settle_wishes(&mut self) {
        let stands_up = match self.recovery.stage() {
            Stage::Manage
            | Stage::Monitor { .. }
            | Stage::Held {
                then: AfterHold::Recover,
                ..
            } => self.recovery.current().is_some(),
            // It could not be watched.
            Stage::Unverifiable => true,
            Stage::Unknown
            | Stage::Looking
            | Stage::Waiting { .. }
            | Stage::Yielding { .. }
            | Stage::Stopping { .. }
            | Stage::MonitorWait { .. }
            | Stage::RestartWait { .. }
            | Stage::Polling { .. }
            | Stage::StartWait { .. }
            | Stage::Gated
            | Stage::Queued
            | Stage::Ignore
            | Stage::Stopped
            | Stage::Held { .. }
            | Stage::Unmonitored => false,
        };
        if stands_up {
            self.wishes.stop = None;
        }
    }

    /// Whether the core goes by what operators want.
    pub(super) fn check_wishes(&self) -> Result<(), String> {
        let Wishes { stop, hold } = self.wishes;
        let stage = self.recovery.stage();
        let held = self.recovery.is_held();
        if lasts(hold, self.now) && !held {
            return Err(format!("it is held, and yet in {}", stage.as_str()));
        }
        if self.recovery.deadline().is_some_and(|due| due <= self.now) {
            // It is about to be told the time.
            return Ok(());
        }
        let over = |wish: Option<Until>| match wish {
            Some(Some(until)) => until < self.now,
            Some(None) => false,
            None => true,
        };
        if held && over(hold) {
            return Err("it is held although that is over".to_owned());
        }
        if *stage == Stage::Stopped && over(stop) && !self.rules.is_stopped_elsewhere() {
            return Err("it is stopped although that is over".to_owned());
        }
        Ok(())
    }

    /// What another daemon makes of them.
    pub(super) fn resume_wishes(&mut self, stays_down: bool) -> (Recovery, bool) {
        let now = self.now;
        let Wishes { stop, hold } = self.wishes;
        let stop = stop.filter(|_| stays_down && lasts(stop, now));
        let hold = hold.filter(|_| lasts(hold, now));
        self.wishes = Wishes { stop, hold };
        let (mut recovery, effects) = match (hold, stop) {
            (Some(until), stop) => {
                let then = if stop.is_some() {
                    AfterHold::StayDown
                } else {
                    AfterHold::Recover
                };
                Recovery::new_held(&self.spec, now, then, until)
            }
            (None, Some(until)) => Recovery::new_stopped(&self.spec, now, until),
            (None, None) => Recovery::new(&self.spec, now),
        };
        if let (Some(_), Some(until)) = (hold, stop) {
            recovery.set_returns_at(until);
        }
        (recovery, !effects.is_empty())
    }
}
