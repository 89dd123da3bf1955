//! What must be true after every step, whatever happened: the invariants of
//! the recovery, checked on the effects that it asks for.

use std::collections::{HashMap, HashSet};

use crate::core::{
    effect::{AlarmChange, Effect, ScriptTask},
    entity::Severity,
    event::{Occasion, Sighting},
    gate::Verdict,
    identity::Identity,
    notice::Notice,
    recovery::{Recovery, Stage},
    unit::UnitReport,
};

/// What is so at the moment at which something is asked for.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "facts, each on its own")]
pub(super) struct Facts {
    /// An operator's start or restart is being carried out.
    pub(super) manual: bool,
    /// An operator has taken it out of recovery.
    pub(super) held: bool,
    /// An operator has stopped it.
    pub(super) stopped: bool,
    /// It was stopped for a time that is over.
    pub(super) stop_is_over: bool,
    /// There are gates.
    pub(super) guarded: bool,
    /// They have been closed for so long that it can be known.
    pub(super) shut: bool,
    /// The registered process can run code.
    pub(super) can_run: bool,
    /// The core has given up the registered process on a hint.
    pub(super) releasing: Option<Identity>,
    /// A process is being ended.
    pub(super) stopping: bool,
    /// It is being ended for an operator who wants it down.
    pub(super) staying_down: bool,
}

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
    /// A start command or a script is at work.
    starting: bool,
    /// The last look has shown that there is no process.
    nothing_seen: bool,
    /// Who was given up on a hint, and whether a successor was started since.
    releasing: Option<(Identity, bool)>,
    /// The gates were told to be open since it asked.
    admitted: bool,
    /// What the service manager said in the last look that was asked for.
    unit: Option<UnitReport>,
    /// It was told that somebody has stopped the unit, and nothing since.
    stopped_elsewhere: bool,
}

impl Rules {
    /// Another daemon goes on: what is in the kernel's table and who was told of
    /// what outlives the core.
    pub(super) fn begin_anew(&mut self) {
        *self = Self {
            ours: std::mem::take(&mut self.ours),
            told: std::mem::take(&mut self.told),
            alarm: self.alarm,
            ..Self::default()
        };
    }

    pub(super) fn saw(&mut self, process: Option<Identity>) {
        self.nothing_seen = process.is_none();
        self.ours.extend(process);
    }

    pub(super) const fn registered(&self) -> Option<Identity> {
        self.registered
    }

    pub(super) fn manager_said(&mut self, sighting: &Sighting) {
        if sighting.occasion == Occasion::Asked {
            self.unit.clone_from(&sighting.unit);
        }
    }

    /// Whether it rests because its unit was stopped by others.
    pub(super) const fn is_stopped_elsewhere(&self) -> bool {
        self.stopped_elsewhere
    }

    pub(super) fn gate_said(&mut self, verdict: &Verdict) {
        self.admitted = *verdict == Verdict::Open;
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
    pub(super) fn check(&mut self, effect: &Effect, facts: &Facts) -> Result<(), String> {
        let rule = |holds: bool, what: &str| {
            if holds {
                Ok(())
            } else {
                Err(format!("{what}: {effect:?}"))
            }
        };
        if facts.releasing.is_some() && facts.releasing == self.registered {
            rule(
                !facts.can_run,
                "a process is given up although it can run code",
            )?;
            self.releasing = self.registered.take().map(|identity| (identity, false));
        }
        self.check_wishes(effect, facts)?;
        self.check_gates(effect, facts)?;
        match effect {
            Effect::Register { identity } => {
                rule(
                    self.registered.is_none_or(|other| other == *identity),
                    "a second process is registered beside the first",
                )?;
                rule(self.ours.contains(identity), "a stranger is registered")?;
                self.registered = Some(*identity);
                self.stopped_elsewhere = false;
                self.endings.remove(identity);
            }
            Effect::Unregister { identity } => {
                self.ended(*identity);
                self.releasing.take_if(|(old, _)| old == identity);
                self.endings.insert(*identity, Ending::Unregistered);
            }
            Effect::RemovePidfile { identity } => {
                let given_up = self.releasing.is_some_and(|(old, _)| old == *identity);
                let unregistered = self.endings.contains_key(identity) || given_up;
                rule(
                    unregistered && self.registered != Some(*identity),
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
                let early = match &mut self.releasing {
                    Some((_, started)) => !std::mem::replace(started, true),
                    None => false,
                };
                rule(
                    early || self.releasing.is_none(),
                    "a second start before the old process is gone",
                )?;
                rule(self.nothing_seen || early, "started without having looked")?;
                self.check_unit(effect, facts)?;
                self.last_run = *run;
                self.starting = true;
                self.nothing_seen = false;
            }
            Effect::RunScript { run, .. } => {
                rule(!self.starting, "a script is run beside another one")?;
                rule(*run > self.last_run, "the number of a run was used before")?;
                self.last_run = *run;
                self.starting = true;
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
            Effect::AskGate => {
                rule(facts.guarded, "asked about gates that are not there")?;
                self.admitted = false;
            }
            Effect::Say(Notice::StoppedElsewhere { .. }) => {
                rule(
                    matches!(self.unit, Some(UnitReport::Stopped { .. })),
                    "nobody has stopped the unit",
                )?;
                self.stopped_elsewhere = true;
            }
            Effect::Say(Notice::StopExpired) => {
                rule(facts.stop_is_over, "a stop ends that nobody wanted to end")?;
            }
            Effect::Say(Notice::Stopped) => self.stopped_elsewhere = false,
            Effect::Say(Notice::Recovered(identity)) => {
                rule(
                    self.registered == Some(*identity),
                    "recovered without being registered",
                )?;
                rule(
                    self.releasing.is_none(),
                    "recovered before the old process is gone",
                )?;
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
            | Effect::RequestPulse { .. }
            | Effect::CollectPulse { .. }
            | Effect::Fell
            | Effect::Say(_) => {}
        }
        Ok(())
    }

    /// A hold and a stop are heeded.
    fn check_wishes(&self, effect: &Effect, facts: &Facts) -> Result<(), String> {
        let acts = matches!(
            effect,
            Effect::Start { .. }
                | Effect::RunScript { .. }
                | Effect::Signal { .. }
                | Effect::StopUnit
                | Effect::RemovePidfile { .. }
                | Effect::EndLeftovers { .. }
                | Effect::Alarm(AlarmChange::Raise(_))
        );
        if facts.held && acts {
            return Err(format!("it is held, and yet: {effect:?}"));
        }
        let starts = matches!(effect, Effect::Start { .. });
        if facts.stopped && starts && !facts.manual {
            return Err(format!("it is stopped, and yet: {effect:?}"));
        }
        Ok(())
    }

    /// While gates are closed nothing is started, ended or raised, but for operators.
    fn check_gates(&mut self, effect: &Effect, facts: &Facts) -> Result<(), String> {
        if facts.manual || !facts.guarded {
            return Ok(());
        }
        match effect {
            Effect::Start { .. }
            | Effect::RunScript {
                task: ScriptTask::Start,
                ..
            } => {
                if !std::mem::take(&mut self.admitted) {
                    return Err(format!("started without leave of the gates: {effect:?}"));
                }
                if facts.shut {
                    return Err(format!("started behind closed gates: {effect:?}"));
                }
            }
            Effect::Say(Notice::Unregistered(_)) if facts.shut && !facts.staying_down => {
                return Err(format!("ended behind closed gates: {effect:?}"));
            }
            Effect::Alarm(AlarmChange::Raise(_)) if facts.shut && !facts.stopping => {
                return Err(format!("raised behind closed gates: {effect:?}"));
            }
            _ => {}
        }
        Ok(())
    }

    /// What the service manager does, or was asked to do, is not fought.
    fn check_unit(&self, effect: &Effect, facts: &Facts) -> Result<(), String> {
        let fights = match &self.unit {
            Some(UnitReport::AtWork { .. } | UnitReport::GoingDown) => true,
            Some(UnitReport::Stopped { .. }) => !facts.manual,
            Some(UnitReport::Active { .. } | UnitReport::Down { .. }) | None => false,
        };
        if fights {
            return Err(format!("{:?}, and yet: {effect:?}", self.unit));
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
        if recovery.releasing() != self.releasing.map(|(identity, _)| identity) {
            return Err(format!(
                "the core has given up {:?}, the rules know of {:?}",
                recovery.releasing(),
                self.releasing
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
        let starts = recovery.status().running().is_some();
        if at_rest && self.turn && !starts {
            return Err("it keeps a turn although it starts nothing".to_owned());
        }
        Ok(())
    }
}
