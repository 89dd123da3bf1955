//! What must be true after every step, whatever happened: the invariants of
//! the recovery, checked on the effects that it asks for.

use std::collections::{HashMap, HashSet};

use crate::core::{
    effect::{AlarmChange, Effect},
    entity::Severity,
    identity::Identity,
    notice::Notice,
    recovery::{Recovery, Stage},
};

/// How far the ending of a process has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Unregistered,
    PidfileRemoved,
}

/// What has been asked for so far, as far as a rule needs it.
#[derive(Debug, Default)]
pub(super) struct Rules {
    /// Who is in the pid table.
    registered: Option<Identity>,
    endings: HashMap<Identity, Ending>,
    /// Whom a look or a start has shown to be this entity's.
    ours: HashSet<Identity>,
    alarm: Option<Severity>,
    flapping: bool,
    /// A turn has been asked for or is held.
    turn: bool,
    /// Generations whose death was told.
    told: HashSet<u64>,
    last_run: u64,
    /// A start command is at work.
    starting: bool,
    /// The last look has shown that there is no process.
    nothing_seen: bool,
}

impl Rules {
    /// Another daemon goes on: what is in the kernel's table and who was told of
    /// what outlives the core.
    pub(super) fn begin_anew(&mut self) {
        *self = Self {
            ours: std::mem::take(&mut self.ours),
            told: std::mem::take(&mut self.told),
            ..Self::default()
        };
    }

    pub(super) fn saw(&mut self, process: Option<Identity>) {
        self.nothing_seen = process.is_none();
        self.ours.extend(process);
    }

    /// The kernel's entry of an earlier daemon is taken over.
    pub(super) const fn recall(&mut self, identity: Identity) {
        self.registered = Some(identity);
    }

    /// The news of an earlier run may come late.
    pub(super) const fn start_has_ended(&mut self, run: u64) {
        if run == self.last_run {
            self.starting = false;
        }
    }

    pub(super) fn ended(&mut self, identity: Identity) {
        if self.registered == Some(identity) {
            self.registered = None;
        }
    }

    /// Why the effect must not be, if so.
    pub(super) fn check(&mut self, effect: &Effect) -> Result<(), String> {
        let rule = |holds: bool, what: &str| {
            if holds {
                Ok(())
            } else {
                Err(format!("{what}: {effect:?}"))
            }
        };
        match effect {
            Effect::Register { identity } => {
                rule(
                    self.registered.is_none_or(|other| other == *identity),
                    "a second process is registered beside the first",
                )?;
                rule(self.ours.contains(identity), "a stranger is registered")?;
                self.registered = Some(*identity);
                self.endings.remove(identity);
            }
            Effect::Unregister { identity } => {
                self.ended(*identity);
                self.endings.insert(*identity, Ending::Unregistered);
            }
            Effect::RemovePidfile { identity } => {
                rule(
                    self.endings.contains_key(identity) && self.registered != Some(*identity),
                    "a pidfile is removed before its process was unregistered",
                )?;
                self.endings.insert(*identity, Ending::PidfileRemoved);
            }
            Effect::Signal { identity, .. } => {
                rule(
                    self.endings.get(identity) == Some(&Ending::PidfileRemoved),
                    "a process is signalled out of order",
                )?;
                rule(self.ours.contains(identity), "a stranger is signalled")?;
            }
            Effect::Start { run, .. } => {
                rule(self.registered.is_none(), "started beside a live process")?;
                rule(!self.starting, "started while a start is at work")?;
                rule(*run > self.last_run, "the number of a run was used before")?;
                rule(self.nothing_seen, "started without having looked")?;
                self.last_run = *run;
                self.starting = true;
                self.nothing_seen = false;
            }
            Effect::CancelStart => {
                rule(self.starting, "cancelled a start that is not at work")?;
                self.starting = false;
            }
            Effect::Alarm(AlarmChange::Raise(severity)) => {
                rule(self.alarm.is_none(), "an alarm was raised twice")?;
                self.alarm = Some(*severity);
            }
            Effect::Alarm(AlarmChange::Refresh(_)) => {
                rule(
                    self.alarm.is_some(),
                    "refreshed an alarm that is not raised",
                )?;
            }
            Effect::Alarm(AlarmChange::Clear) => {
                rule(self.alarm.is_some(), "cleared an alarm that is not raised")?;
                self.alarm = None;
            }
            Effect::FlappingAlarm(AlarmChange::Raise(_)) => {
                rule(!self.flapping, "told twice that it flaps")?;
                self.flapping = true;
            }
            Effect::FlappingAlarm(AlarmChange::Refresh(_)) => {
                rule(self.flapping, "reminded of flapping that was never told")?;
            }
            Effect::FlappingAlarm(AlarmChange::Clear) => {
                rule(self.flapping, "the end of flapping that was never told")?;
                self.flapping = false;
            }
            Effect::AskTurn => {
                rule(!self.turn, "a second turn is asked for")?;
                self.turn = true;
            }
            Effect::ReturnTurn => self.turn = false,
            Effect::Say(Notice::Died(death)) => {
                rule(self.told.insert(death.generation), "a death was told twice")?;
            }
            Effect::Look { .. }
            | Effect::Release { .. }
            | Effect::EndLeftovers { .. }
            | Effect::StopUnit
            | Effect::RunScript { .. }
            | Effect::RequestPulse { .. }
            | Effect::CollectPulse { .. }
            | Effect::AskGate
            | Effect::Fell
            | Effect::Say(_) => {}
        }
        Ok(())
    }

    /// What must be true between steps.
    pub(super) fn check_state(&self, recovery: &Recovery) -> Result<(), String> {
        let registered = recovery.current().map(|registered| registered.identity);
        if registered != self.registered {
            return Err(format!(
                "the core believes in {registered:?}, the table in {:?}",
                self.registered
            ));
        }
        if recovery.alarm() != self.alarm {
            return Err(format!(
                "the core's alarm is {:?}, the receivers' {:?}",
                recovery.alarm(),
                self.alarm
            ));
        }
        if recovery.flapping_since().is_some() != self.flapping {
            return Err("the core and the receivers disagree on flapping".to_owned());
        }
        let starts = matches!(recovery.stage(), Stage::Queued);
        if starts && !self.turn {
            return Err("it waits for a turn that it has not asked for".to_owned());
        }
        let at_rest = matches!(
            recovery.stage(),
            Stage::Manage | Stage::Ignore | Stage::Stopped
        );
        if at_rest && self.turn {
            return Err("it keeps a turn although it starts nothing".to_owned());
        }
        Ok(())
    }
}
